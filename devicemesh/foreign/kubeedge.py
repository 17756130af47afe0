"""KubeEdge: DeviceModel and Device of devices.kubeedge.io, v1beta1 and v1alpha2. Pure.

How a register is read is what upstream's mappers do (kubeedge/mappers-go, kubeedge/examples): the CRDs leave
it open. Theirs differ in one thing: a float of one register is a scaled integer to the one of v1beta1, and
nothing that can be read to the older ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devicemesh.foreign import kubeedge_bluetooth, kubeedge_modbus, opcua
from devicemesh.foreign.kubeedge_modbus import Visit
from devicemesh.foreign.things import Signal, Thing, value_of
from devicemesh.foreign.times import every
from devicemesh.foreign.tree import Branch
from devicemesh.spec.values import ValueType

GROUP = "devices.kubeedge.io/"
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
_SPOKEN = {"modbus": "modbus", "opcua": "opcua", "bluetooth": "ble", "ble": "ble"}
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
    if protocol not in _SPOKEN:
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
    thing = Thing(document, name, [], _SPOKEN[protocol], model=wanted)
    thing.endpoint = _endpoint(protocol, config, common, name)
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


def _visits(spec: Branch, protocol: str, model: _Model) -> Iterator[tuple[_Kind, Visit]]:
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
        yield kind, Visit(one, config, one.get("collectCycle"))


def _signal(kind: _Kind, visit: Visit, protocol: str, by_v1beta1: bool) -> Signal:
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
        kubeedge_modbus.register(signal, kubeedge_modbus.Reading(visit, type_word, by_v1beta1))
    elif protocol == "opcua":
        signal.address = {"node": visit.get("nodeID").raw}
    else:
        kubeedge_bluetooth.characteristic(signal, visit)
    return signal


def _cycle(visit: Visit) -> str:
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


def _endpoint(protocol: str, config: Branch, common: Branch, name: str) -> dict[str, Any]:
    if protocol == "modbus":
        return kubeedge_modbus.endpoint(config, common)
    if protocol == "opcua":
        return _opcua_endpoint(config, common, name)
    return kubeedge_bluetooth.endpoint(config)


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
