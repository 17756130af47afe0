"""KubeEdge: DeviceModel and Device of devices.kubeedge.io, v1beta1 and v1alpha2. Pure.

How a register is read is what upstream's mappers do (kubeedge/mappers-go, kubeedge/examples): the CRDs leave
it open. Theirs differ in one thing: a float of one register is a scaled integer to the one of v1beta1, and
nothing that can be read to the older ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devicemesh.foreign import modbus, opcua
from devicemesh.foreign.things import Signal, Thing, value_of
from devicemesh.foreign.times import every
from devicemesh.foreign.tree import Branch
from devicemesh.spec.values import ValueType

GROUP = "devices.kubeedge.io/"
_TABLES = {
    "CoilRegister": "coil",
    "DiscreteInputRegister": "discrete",
    "HoldingRegister": "holding",
    "InputRegister": "input",
}
_TYPES: dict[str, ValueType] = {
    "int": ValueType.INT64,
    "integer": ValueType.INT64,
    "float": ValueType.FLOAT32,
    "double": ValueType.FLOAT64,
    "string": ValueType.STRING,
    "boolean": ValueType.BOOL,
    "bool": ValueType.BOOL,
    "bytes": ValueType.BYTES,
}
_ACCESS = {"ReadOnly": "ReadOnly", "ReadWrite": "ReadWrite"}
_NANOSECONDS_FROM = 100_000_000
"""Cycles were nanoseconds until v1.18, and still are in half of the examples: so many ms are a day."""


def known(document: Branch) -> bool:
    return any(_is_its(one) for one in _members(document))


def _is_its(document: Branch) -> bool:
    version = document.value.get("apiVersion") if isinstance(document.value, dict) else None
    return isinstance(version, str) and version.startswith(GROUP)


def _members(document: Branch) -> Iterator[Branch]:
    """The resources of a document; `kubectl get -o yaml` gives a list of them."""
    if isinstance(document.value, dict) and isinstance(document.value.get("items"), list):
        yield from document.items("items")
    else:
        yield document


@dataclass(slots=True)
class _Kind:
    """A property as its model declares it."""

    at: Branch
    name: str
    type: str
    access: str
    minimum: float | None
    maximum: float | None
    unit: str
    visitors: Branch


@dataclass(slots=True)
class _Model:
    at: Branch
    kinds: dict[str, _Kind]
    defaults: Branch  # of the protocol's configuration


@dataclass(slots=True)
class _Visit:
    """How a device reads a property: both versions' words made one."""

    at: Branch
    config: Mapping[str, Branch]
    cycle: Branch | None

    def get(self, key: str) -> Branch:
        if key not in self.config:
            raise self.at.problem(f"`{key}` is missing", code="missing-field")
        return self.config[key]

    def flag(self, key: str) -> bool:
        return key in self.config and self.config[key].raw.casefold() == "true"


def things(documents: Sequence[Branch]) -> Iterator[Thing]:
    """The devices of these documents."""
    documents = [one for document in documents for one in _members(document) if _is_its(one)]
    models: dict[tuple[str, str], _Model] = {}
    for one in documents:
        if one.value.get("kind") == "DeviceModel" and (found := one.source.said.attempt(_model, one)):
            models[_key(one)] = found
    used = set()
    for one in documents:
        kind = one.value.get("kind")
        if kind == "Device":
            used.add((_key(one)[0], _model_name(one)))
            if thing := one.source.said.attempt(_thing, one, models):
                yield thing
        elif kind != "DeviceModel":
            one.tell(f"a {kind} is left out")
    for key, model in models.items():
        if key not in used:
            model.at.tell(f"the model `{key[1]}` has no device here: nothing says where its values live")


def _key(document: Branch) -> tuple[str, str]:
    metadata = document.value.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    return str(metadata.get("namespace") or "default"), str(metadata.get("name") or "")


def _model_name(document: Branch) -> str:
    spec = document.value.get("spec")
    reference = spec.get("deviceModelRef") if isinstance(spec, dict) else None
    return str(reference.get("name") or "") if isinstance(reference, dict) else ""


def _model(document: Branch) -> _Model:
    spec = document.map("spec")
    kinds = {}
    for one in spec.items("properties"):
        kind = one.source.said.attempt(_kind, one)
        if kind is not None:
            kinds[kind.name] = kind
    return _Model(document, kinds, spec.map("protocolConfigData"))


def _kind(prop: Branch) -> _Kind:
    """`type: FLOAT` with its fields beside it, or `type: {float: {...}}` with them inside (v1alpha2)."""
    type_ = prop.get("type")
    inside, word = prop, "" if type_ is None else str(type_.value)
    if type_ is not None and isinstance(type_.value, dict):
        word, inside = next(iter(type_.pairs()), ("", prop))
        inside = inside.as_map() if inside.value is not None else prop
    inside.tell_left("defaultValue")
    return _Kind(
        prop,
        prop.text("name"),
        word.casefold(),
        inside.word(_ACCESS, "accessMode", default="ReadOnly", what="an accessMode"),
        inside.number("minimum", default=None),
        inside.number("maximum", default=None),
        inside.text("unit", default=""),
        prop.map("visitors"),
    )


def _thing(document: Branch, models: Mapping[tuple[str, str], _Model]) -> Thing | None:
    namespace, name = _key(document)
    spec = document.map("spec")
    wanted = _model_name(document)
    model = models.get((namespace, wanted))
    protocol, config, common = _protocol(spec, model)
    if protocol not in ("modbus", "opcua"):
        what = f"`{protocol}`" if protocol else "no protocol"
        spec.here("protocol").tell(f"`{name}` is left out: it speaks {what}, which is not read here")
        return None
    if model is None:
        here = spec.here("deviceModelRef")
        raise here.problem(f"the DeviceModel `{wanted}` is not in these files", "give its file, too")
    spec.tell_left(
        "nodeName", "nodeSelector", why="where a device is served is said by `nodeSelector` of ours"
    )
    spec.tell_left("methods", why="set the properties themselves, or write `commands`")
    thing = Thing(document, name, [], protocol, model=wanted)
    thing.endpoint = (
        _modbus_endpoint(config, common) if protocol == "modbus" else _opcua_endpoint(config, common, name)
    )
    by_v1beta1 = config.get("communicateMode") is not None
    desired = []
    for prop, visit in _visits(spec, protocol, model):
        found = document.source.said.attempt(_signal, prop, visit, protocol, by_v1beta1)
        if found is None:
            continue
        thing.signals.append(found)
        value = _desired(visit.at, found)
        if value is not None:
            desired.append((found, value))
    thing.desired = desired
    thing.namespace = "" if namespace == "default" else namespace
    labels = document.map("metadata").get("labels")
    thing.labels = {key: one.raw for key, one in labels.pairs()} if labels else {}
    return thing


def _protocol(spec: Branch, model: _Model | None) -> tuple[str, Branch, Branch]:
    """The protocol's name, its configuration, and what v1alpha2 has in `common`."""
    protocol = spec.map("protocol")
    name = protocol.get("protocolName")
    if name is not None:
        config = _merged(protocol.map("configData"), model.defaults if model else None)
        return name.raw.casefold(), config, protocol.map("common")
    for key, one in protocol.pairs():
        if key != "common" and isinstance(one.value, dict):
            return key.casefold(), one, protocol.map("common")
    return "", protocol, protocol.map("common")


def _merged(own: Branch, defaults: Branch | None) -> Branch:
    if defaults is None or not defaults.value:
        return own
    return Branch(own.source, own.loc, {**defaults.as_map().value, **own.value})


def _visits(spec: Branch, protocol: str, model: _Model) -> Iterator[tuple[_Kind, _Visit]]:
    """The properties that a device reads, with their model's part."""
    for one in (*spec.items("properties"), *spec.items("propertyVisitors")):
        name = one.text("name", "propertyName")
        kind = model.kinds.get(name)
        if kind is None:
            message = f"the model has no property `{name}`"
            one.source.said.problems.append(one.here("name", "propertyName").problem(message).problem)
            continue
        inside = one.map("visitors").map("configData") if one.get("visitors") else one.map(protocol)
        defaults = kind.visitors.map("configData")
        config = {**dict(defaults.pairs()), **dict(inside.pairs())}
        one.tell_left("pushMethod", why="all is published by MQTT, and what stores it subscribes")
        one.tell_left("reportCycle", why="`telemetry.report` says what leaves")
        one.tell_left("customizedValues")
        yield kind, _Visit(one, config, one.get("collectCycle"))


def _signal(kind: _Kind, visit: _Visit, protocol: str, by_v1beta1: bool) -> Signal:
    type_word = kind.type
    if "dataType" in visit.config and protocol == "modbus":
        type_word = visit.config["dataType"].raw.casefold()
    if type_word not in _TYPES:
        here = visit.config.get("dataType", kind.at.here("type"))
        raise here.problem(f"{type_word!r} is not a type", f"known: {', '.join(_TYPES)}", "unknown-word")
    signal = Signal(visit.at, kind.name, _TYPES[type_word], {}, unit=kind.unit, access=kind.access)
    signal.minimum, signal.maximum = kind.minimum, kind.maximum
    description = kind.at.get("description")
    signal.description = description.raw if description else ""
    signal.telemetry = {"samplingInterval": _cycle(visit)}
    if protocol == "modbus":
        _register(signal, _Reading(visit, type_word, by_v1beta1))
    else:
        signal.address = {"node": visit.get("nodeID").raw}
        opcua.tell_indices(visit.at, signal.address["node"])
    return signal


@dataclass(slots=True)
class _Reading:
    """A register of a device: where, and by whose rules."""

    visit: _Visit
    type: str
    by_v1beta1: bool


def _register(signal: Signal, reading: _Reading) -> None:
    """The address, and the type that it makes."""
    register = reading.visit.get("register")
    table = _TABLES.get(register.raw)
    if table is None:
        raise register.problem(
            f"{register.raw!r} is not a register", f"known: {', '.join(_TABLES)}", "unknown-word"
        )
    offset, limit = reading.visit.get("offset").as_integer(), 1
    if "limit" in reading.visit.config:
        limit = reading.visit.get("limit").as_integer()
    if table in ("coil", "discrete"):
        _bit(signal, reading, table, offset, limit)
        return
    orders = (
        "little" if reading.visit.flag("isSwap") else "big",
        "little" if reading.visit.flag("isRegisterSwap") else "big",
    )
    scale: float = 1
    if "scale" in reading.visit.config:
        scale = reading.visit.get("scale").as_number() or 1
    if reading.type in ("string", "bytes"):
        if orders[1] == "little" and limit > 1:
            raise reading.visit.get("isRegisterSwap").problem(
                "a text whose registers are swapped can't be read here"
            )
        signal.address = modbus.register(
            table, offset, signal.type, signal.type, (orders[0], "big"), length=limit
        )
    elif reading.type in ("boolean", "bool"):
        _flag(signal, reading, table, offset, orders)
    else:
        _number(signal, reading, (table, offset, limit), orders, scale)
    _keep_writable(signal, table)


def _bit(signal: Signal, reading: _Reading, table: str, offset: int, limit: int) -> None:
    if limit > 1:
        raise reading.visit.get("limit").problem(
            f"{limit} bits are several properties: declare each by itself"
        )
    if signal.type != ValueType.BOOL:
        signal.at.tell("one bit is true or false here, where it was 1 or 0")
    signal.type = ValueType.BOOL
    signal.address = {"table": table, "offset": offset}
    _keep_writable(signal, table)


def _flag(signal: Signal, reading: _Reading, table: str, offset: int, orders: modbus.Orders) -> None:
    """A register that is true or false. The older mappers compare its first byte with 1."""
    if not reading.by_v1beta1 and orders[0] == "big":
        raise signal.at.problem(
            "KubeEdge's mapper looks for a 1 in the upper byte of a boolean register: that is never meant",
            "say isSwap: true, or INT",
        )
    signal.at.tell("a register that is boolean is true here whenever it is not 0")
    signal.address = modbus.register(table, offset, ValueType.BOOL, ValueType.BOOL, (orders[0], "big"))


def _number(
    signal: Signal, reading: _Reading, place: tuple[str, int, int], orders: modbus.Orders, scale: float
) -> None:
    table, offset, limit = place
    is_integer = reading.type in ("int", "integer")
    wire = modbus.integer(limit, signed=False)
    if not is_integer and limit > 1:
        wire = modbus.floating(limit) if modbus.floating(limit) == signal.type else None
    if wire is None:
        raise reading.visit.get("limit").problem(f"a {reading.type} can't be made of {limit} registers")
    if reading.by_v1beta1 and limit == 1:
        if is_integer and scale != 1:
            reading.visit.get("scale").tell(
                "`scale` of an int is left out: KubeEdge's mapper does not use it"
            )
            scale = 1
        orders = modbus.BIG  # it reads one register, and swaps nothing
    type_ = modbus.scaled(wire, scale)
    if is_integer and type_.is_float:
        reading.visit.get("scale").tell("an int with a fraction keeps it here; it was cut off")
    signal.type = signal.type if wire.is_integer and not is_integer else type_
    signal.address = modbus.register(table, offset, signal.type, wire, orders, scale=scale)


def _keep_writable(signal: Signal, table: str) -> None:
    if table in ("input", "discrete") and signal.access != "ReadOnly":
        signal.at.tell("ReadWrite is ReadOnly: nobody can write to such a register")
        signal.access = "ReadOnly"


def _cycle(visit: _Visit) -> str:
    cycle = visit.cycle.as_number() if visit.cycle is not None else 0
    if visit.cycle is not None and cycle >= _NANOSECONDS_FROM:
        shown = every(cycle / 1e6)
        visit.cycle.tell(f"`collectCycle: {visit.cycle.raw}` is taken for nanoseconds: {shown}")
        return shown
    return every(cycle) if cycle > 0 else "1s"


def _desired(at: Branch, signal: Signal) -> Any:
    desired = at.get("desired")
    value = desired.get("value") if desired is not None and isinstance(desired.value, dict) else None
    if value is None or value.raw == "":
        return None
    if signal.access != "ReadWrite":
        value.tell("a desired value of what is ReadOnly is left out")
        return None
    found = value_of(value.raw, signal.type)
    if found is None:
        value.tell(f"the desired value {value.raw!r} is left out: it is no {signal.type}")
    return found


def _modbus_endpoint(config: Branch, common: Branch) -> dict[str, Any]:
    unit = config.integer("slaveID", default=1)
    line = common.map("com") if common.get("com") else config
    net = common.map("tcp") if common.get("tcp") else config
    port = line.text("serialPort", "serialName", default="")
    mode = config.text("communicateMode", default="").upper()
    config.tell_left("timeout")
    if port and mode != "TCP":
        parity = line.word(modbus.PARITIES, "parity", default="none", what="a parity")
        fields = {
            "baudrate": line.integer("baudRate", default=None),
            "parity": parity,
            "stopBits": line.integer("stopBits", default=None),
            "dataBits": line.integer("dataBits", default=None),
        }
        return modbus.serial(port, unit, fields)
    host = net.text("ip")
    return modbus.tcp(host, net.integer("port", default=502), unit)


def _opcua_endpoint(config: Branch, common: Branch, name: str) -> dict[str, Any]:
    common.map("customizedValues").tell_left(
        "remoteCertificate", why="put the server's certificate into the folder `trusted` of `pki`"
    )
    fields = opcua.Security(
        policy=config.text("securityPolicy", default=""),
        mode=config.text("securityMode", default=""),
        certificate=config.text("certificate", default=""),
        key=config.text("privateKey", default=""),
        user=config.text("userName", "user", default=""),
        secret=name,
    )
    password = config.get("password")
    if password is not None:
        password.tell(f"the password goes into the secret `{fields.secret_name}`, key `password`")
    return opcua.endpoint(config.at("url"), fields)
