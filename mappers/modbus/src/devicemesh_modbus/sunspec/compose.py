"""From what an inverter has to a model and a device in YAML, ready to be applied. Pure."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from devicemesh.spec.units import canonical
from devicemesh.spec.values import ValueType
from devicemesh_modbus.endpoint import ModbusEndpoint
from devicemesh_modbus.model import MAX_REGISTERS
from devicemesh_modbus.sunspec.walk import FORMATS, NOT_IMPLEMENTED, Placed

_WIRE = {
    "int16": "int16", "sunssf": "int16", "uint16": "uint16", "acc16": "uint16", "enum16": "uint16",
    "bitfield16": "uint16", "count": "uint16", "raw16": "uint16",
    "int32": "int32", "uint32": "uint32", "acc32": "uint32", "enum32": "uint32", "bitfield32": "uint32",
    "ipaddr": "uint32",
    "int64": "int64", "uint64": "uint64", "acc64": "uint64", "bitfield64": "uint64",
    "float32": "float32", "float64": "float64", "string": "string",
}  # fmt: skip
_UNITS = {
    "C": "degC", "Pct": "%", "Secs": "s", "Sec": "s", "mSecs": "ms", "Tms": "s", "Degrees": "deg", "WH": "Wh",
    "AH": "Ah", "Var": "var", "Varh": "varh", "HPa": "hPa", "mps": "m/s", "meters": "m", "ohms": "Ohm",
    "W/m^2": "W/m2",
}  # fmt: skip
"""As SunSpec writes them, where people write them otherwise."""
_NAME = 63  # characters of one, at most
_FRAME = ("ID", "L")
_SKIPPED = ("pad", "sunssf")
MEASURED, STATIC, WATCHED = "5s", "1h", "1m"
"""How often is read what changes, what does not, and what the scale of others depends on."""


def usable(placed: Sequence[Placed]) -> list[Placed]:
    """What becomes a property: no frame or padding, nothing that the device lacks or no request can hold."""
    return [
        one
        for one in placed
        if one.point.type not in _SKIPPED and one.point.name not in _FRAME
        if one.implemented and one.point.size <= MAX_REGISTERS
    ]


def names(placed: Sequence[Placed]) -> list[str]:
    """A property's name for each: the point's, with its groups where that alone is not one's own."""
    plain = Counter(one.point.name for one in placed)
    longer = Counter(_path(one) for one in placed)
    return [
        one.point.name
        if plain[one.point.name] == 1 and not one.path
        else _path(one)
        if longer[_path(one)] == 1
        else f"m{one.model}.{_path(one)}.{one.register}"
        for one in placed
    ]


def _path(one: Placed) -> str:
    return ".".join((*one.path, one.point.name)) if one.path else f"m{one.model}.{one.point.name}"


def identity(placed: Sequence[Placed]) -> dict[str, str]:
    """Who it is, by the common model (1)."""
    words = {"Mn": "vendor", "Md": "product", "Vr": "version", "SN": "serial"}
    common = {one.point.name: one for one in placed if one.model == 1 and one.implemented}
    found = {word: text(common[name].raw) for name, word in words.items() if name in common}
    return {word: shown for word, shown in found.items() if shown}


def text(raw: bytes) -> str:
    """A string as it is shown; what no YAML takes, or a terminal would act on, is a blank."""
    shown = raw.partition(b"\0")[0].decode("utf-8", "replace")
    return "".join(one if one.isprintable() else " " for one in shown).strip()


def sample(one: Placed) -> str:
    """Its name, its value and its unit, for people."""
    if one.point.type not in FORMATS:
        value = text(one.raw) if one.point.type == "string" else one.raw.hex()
    elif one.number in one.point.symbols:
        value = one.point.symbols[int(one.number)]
    else:
        value = f"{one.number * 10.0**one.exponent:g}"
    return " ".join(part for part in (one.point.name, value, one.point.units) if part)


def manifest(endpoint: ModbusEndpoint, placed: Sequence[Placed]) -> str:
    """A DeviceModel with a property for each point, and a Device that has them; "" without points."""
    who, points = identity(placed), usable(placed)
    if not points:
        return ""
    serial = _slug(who.get("serial", "")) or "1"
    model = _slug(who.get("vendor", ""), who.get("product", "")) or "sunspec"
    model = model[: _NAME - 1 - len(serial)].rstrip("-")  # two of a kind differ in what comes last
    device = f"{model}-{serial}"
    lines = [
        "apiVersion: devicemesh.io/v1alpha1",
        "kind: DeviceModel",
        f"metadata: {{name: {_scalar(model)}}}",
        "spec:",
    ]
    if shown := " ".join(who[key] for key in ("vendor", "product", "version") if key in who):
        lines.append(f"  description: {json.dumps(shown, ensure_ascii=False)}")
    lines.append("  properties:")
    for name, one in zip(names(points), points, strict=True):
        lines += _property(name, one)
    lines += _scales(placed, points)
    fields = json.dumps(endpoint.model_dump(by_alias=True, exclude_unset=True, mode="json"))
    lines += [
        "---",
        "apiVersion: devicemesh.io/v1alpha1",
        "kind: Device",
        f"metadata: {{name: {_scalar(device)}}}",
        "spec:",
    ]
    lines += [f"  modelRef: {{name: {_scalar(model)}}}", f"  endpoint: {{modbus: {fields}}}"]
    return "\n".join(lines) + "\n"


def _slug(*words: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")
    return slug[:_NAME].rstrip("-")


def _scalar(name: str) -> str:
    """As YAML takes it for text: 1e5, 0x1f, null and off would be something else."""
    return name if name[0].isalpha() and "-" in name else json.dumps(name)


def _property(name: str, one: Placed) -> Iterator[str]:
    point, address = one.point, {"table": "holding", "offset": str(one.register)}
    wire = _WIRE.get(point.type, "bytes")
    type_ = "string" if point.symbols else wire
    if one.exponent:
        type_ = "float64"
        address["scale"] = f"{10.0**one.exponent:.{max(1, -one.exponent)}f}"
    if wire in ("string", "bytes"):
        address["length"] = str(point.size)
    elif wire != type_:
        address["type"] = wire
    if wire == "string":
        address["encoding"] = "utf-8"
    if point.type in NOT_IMPLEMENTED and wire.startswith(("int", "uint")):
        address["noValue"] = str(NOT_IMPLEMENTED[point.type])
    if point.symbols:
        words = (f"{code}: {json.dumps(word)}" for code, word in point.symbols.items())
        address["enum"] = f"{{{', '.join(words)}}}"
    yield f"  - name: {name}"
    yield f"    type: {type_}"
    if unit := _unit(one, ValueType(type_)):
        yield f"    unit: {json.dumps(unit, ensure_ascii=False)}"
    if point.label:
        yield f"    description: {json.dumps(point.label, ensure_ascii=False)}"
    if point.writable:
        yield "    access: ReadWrite"
    yield f"    telemetry: {{samplingInterval: {STATIC if point.static else MEASURED}}}"
    yield f"    address: {{modbus: {_flow(address)}}}"


def _scales(placed: Sequence[Placed], points: Sequence[Placed]) -> Iterator[str]:
    """The registers that scale the others: an alarm says when one is not as it was."""
    used = {one.scaled_by for one in points}
    factors = [one for one in placed if one.point.type == "sunssf" and one.register in used]
    for name, one in zip(names(factors), factors, strict=True):
        value = one.number
        yield f"  - name: {name}"
        yield "    type: int16"
        yield f'    description: "Scale factor; the scales here hold while it is {value}"'
        yield f"    telemetry: {{samplingInterval: {WATCHED}}}"
        yield f"    simulation: {{signal: constant, value: {value}}}"
        yield "    alarms:"
        yield f"    - {{name: scale-raised, above: {value}, severity: critical}}"
        yield f"    - {{name: scale-lowered, below: {value}, severity: critical}}"
        address = {"table": "holding", "offset": str(one.register), "noValue": str(NOT_IMPLEMENTED["sunssf"])}
        yield f"    address: {{modbus: {_flow(address)}}}"


def _flow(fields: Mapping[str, str]) -> str:
    return f"{{{', '.join(f'{key}: {value}' for key, value in fields.items())}}}"


def _unit(one: Placed, type_: ValueType) -> str | None:
    """The unit, if it is one that is known here."""
    if not type_.is_number or not one.point.units:
        return None
    try:
        return canonical(_UNITS.get(one.point.units, one.point.units))
    except ValueError:
        return None
