"""What each code of a problem means, and what to do: `devicemesh explain CODE`, docs/errors.md."""

from __future__ import annotations

CODES: dict[str, str] = {
    "yaml": """The text is not YAML, so nothing can be read from there on.
Mostly the indentation, a missing `:` or a quote that was not closed, on the line named or the one above.""",
    "no-file": """The file or folder can't be read, or the folder holds no *.yaml.""",
    "too-large": """A file of this size is no manifest. Split it.""",
    "too-deep": """Values are nested deeper, or are more, than any manifest has:
perhaps an alias refers to itself.""",
    "duplicate-key": """The same key stands twice in one map; YAML would silently take one of them. Remove one.""",
    "duplicate-name": """Two resources of a kind, or two properties, alarms, desired values or overrides, have one name.""",
    "unknown-kind": """Every document declares `kind: Device` or `kind: DeviceModel`.""",
    "unknown-field": """There is no such field here: mostly a misspelling. Fields are camelCase.
See `devicemesh explain device.spec` and `devicemesh explain device.spec.endpoint.modbus`.""",
    "missing-field": """This field has no default and must be given.""",
    "unknown-word": """The field takes one of a few words; the message has the nearest, or all of them.""",
    "wrong-type": """The value is of another type than the field, or than the property it is meant for.
Text that looks like a number is text when it is quoted.""",
    "wrong-value": """The value has the right type but not a form that can be used; the message says which.""",
    "wrong-length": """The list has too few or too many entries.""",
    "out-of-range": """The number is outside what the field, or the property's minimum and maximum, allow.""",
    "read-only": """The property's `access` is ReadOnly: it can't be desired or written by a command.""",
    "unknown-protocol": """No installed mapper speaks this protocol. `devicemesh mappers` lists those that do;
a mapper is installed with pip, as in `pip install devicemesh-modbus`.""",
    "unknown-model": """`modelRef` names a DeviceModel that is neither in these files nor in the store.""",
    "unknown-property": """The model has no property of this name.""",
    "unknown-name": """The model has no call, or no source of events, of this name.""",
    "no-address": """Some properties have no address for the device's protocol, so they could never be read.
Give `address:` in the model, or in the device's own `properties:`.""",
    "wrong-address": """A property of this type or access can't live at this address.""",
    "overlap": """Two properties read the same registers as different things: one of them is wrong.
Properties may share registers when they read them alike, or as separate bits.""",
    "wrong-file": """The file can't be read as what it looks like, or nothing in it says whose configuration it is.
See docs/import.md.""",
    "wrong-table": """The file is no table that can be imported: not text, or without a line that names the columns,
or a row that can't be read. See docs/import.md.""",
    "link-conflict": """Devices that share a link (a serial line, a TCP socket) disagree on it, as on the baudrate.
It is opened once for all of them: make them agree. Where devices dial in, no two can be the same one of them:
what tells them apart, as a unit or a registration, must differ. And a port can be listened on once.""",
}
