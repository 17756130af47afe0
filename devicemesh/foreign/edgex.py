"""EdgeX Foundry: device profiles and devices of device-modbus, as YAML, JSON and (v2) TOML. Pure.

What a value is, is what device-modbus-go (`deviceclient.go`, `swap.go`) and device-sdk-go
(`transformresult.go`) make of it: mask, shift, base, scale, offset, in this order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from devicemesh.foreign import modbus
from devicemesh.foreign.things import Order, Signal, Thing, value_of
from devicemesh.foreign.times import every, of_go
from devicemesh.foreign.tree import Branch
from devicemesh.spec.values import ValueType

_TABLES = {
    "COILS": "coil",
    "DISCRETES_INPUT": "discrete",
    "DISCRETE_INPUTS": "discrete",
    "INPUT_REGISTERS": "input",
    "HOLDING_REGISTERS": "holding",
}
_TYPES = {
    "Bool": ValueType.BOOL,
    "String": ValueType.STRING,
    **{f"{u}Int{n}".capitalize(): ValueType(f"{u}int{n}") for u in ("", "u") for n in (16, 32, 64)},
    "Float32": ValueType.FLOAT32,
    "Float64": ValueType.FLOAT64,
}
_RAW = {name: _TYPES[name] for name in ("Int16", "Uint16", "Int32")}
_ACCESS = {"R": "ReadOnly", "RW": "ReadWrite", "WR": "ReadWrite", "W": "WriteOnly"}
_SELDOM = {"samplingInterval": "1m", "report": "none"}
"""Of what EdgeX reads only when somebody asks."""


def known(document: Branch) -> bool:
    return any(True for _ in _parts(document))


def _parts(document: Branch) -> Iterator[tuple[str, Branch]]:
    """Profiles and devices of a document, be they in a file of their own, or as the API gives them."""
    value = document.value
    if isinstance(value, list):
        for index, one in enumerate(value):
            if isinstance(one, dict):
                yield from _parts(Branch(document.source, (*document.loc, index), one))
        return
    if not isinstance(value, dict):
        return
    if isinstance(value.get("deviceResources"), list):
        yield "profile", document
    elif "profileName" in value and ("protocols" in value or "name" in value):
        yield "device", document
    for key in ("profile", "device"):
        if isinstance(value.get(key), dict) and "apiVersion" in value:
            yield key, document.map(key)
    for key in ("deviceList", "DeviceList", "devices", "profiles"):
        several = value.get(key)
        if isinstance(several, list) and (key not in ("devices", "profiles") or "apiVersion" in value):
            for index, one in enumerate(several):
                if isinstance(one, dict):
                    kind = "profile" if key == "profiles" else "device"
                    yield kind, Branch(document.source, (*document.loc, key, index), one)


def things(documents: Sequence[Branch]) -> Iterator[Thing]:
    """The devices of these documents; profiles that no device has become models."""
    parts = [one for document in documents for one in _parts(document)]
    profiles = {
        str(one.value.get("name")): found
        for kind, one in parts
        if kind == "profile" and (found := one.source.said.attempt(_Profile.of, one)) is not None
    }
    used = set()
    for kind, one in parts:
        if kind == "device":
            used.add(str(one.value.get("profileName", one.value.get("ProfileName"))))
            if thing := one.source.said.attempt(_thing, one, profiles):
                yield thing
    for name, profile in profiles.items():
        if name not in used:
            signals = _signals(profile, None)
            yield Thing(
                profile.at, name, signals, "modbus", model=name, orders=_orders(profile, signals), lone=True
            )


@dataclass(slots=True)
class _Profile:
    at: Branch
    resources: list[Branch]
    commands: list[tuple[Branch, list[Branch]]]
    """Device commands, and what each does."""
    words: dict[str, Branch] = field(default_factory=dict)
    """Resource -> the words of its values."""

    @classmethod
    def of(cls, at: Branch) -> _Profile:
        commands = [(one, list(one.items("resourceOperations"))) for one in at.items("deviceCommands")]
        found = cls(at, list(at.items("deviceResources")), commands)
        for _, operations in commands:
            for one in operations:
                if (words := one.get("mappings")) is not None and words.value:
                    found.words.setdefault(one.text("deviceResource"), words)
        return found


def _thing(device: Branch, profiles: Mapping[str, _Profile]) -> Thing | None:
    name, wanted = device.text("name", "Name"), device.text("profileName", "ProfileName")
    protocols = device.map("protocols", "Protocols")
    endpoint = _endpoint(protocols)
    if endpoint is None:
        spoken = ", ".join(f"`{key}`" for key, _ in protocols.pairs()) or "nothing"
        device.tell(f"`{name}` is left out: it speaks {spoken}, which is not read here")
        return None
    profile = profiles.get(wanted)
    if profile is None:
        here = device.here("profileName", "ProfileName")
        raise here.problem(f"the profile `{wanted}` is not in these files", "give its file, too")
    device.tell_left("location", "tags", "properties")
    events = _events(device, profile)
    signals = _signals(profile, events)
    state = device.text("adminState", "AdminState", default="UNLOCKED").upper()
    return Thing(
        device, name, signals, "modbus", endpoint, wanted, _orders(profile, signals), paused=state == "LOCKED"
    )


def _endpoint(protocols: Branch) -> dict[str, Any] | None:
    if tcp := protocols.get("modbus-tcp"):
        return modbus.tcp(tcp.text("Address"), tcp.integer("Port"), tcp.integer("UnitID"), **_patience(tcp))
    if rtu := protocols.get("modbus-rtu"):
        line = {
            "baudrate": rtu.integer("BaudRate", default=None),
            "parity": rtu.word(modbus.PARITIES, "Parity", default=None, what="a parity"),
            "stopBits": rtu.integer("StopBits", default=None),
            "dataBits": rtu.integer("DataBits", default=None),
        }
        port = rtu.text("Address").partition(",")[0]
        return modbus.serial(port, rtu.integer("UnitID"), line, **_patience(rtu))
    return None


def _patience(protocol: Branch) -> dict[str, Any]:
    seconds = protocol.number("Timeout", default=None)
    return {"timeout": every(seconds * 1000) if seconds else None}


def _events(device: Branch, profile: _Profile) -> dict[str, dict[str, Any]]:
    """Resource -> its telemetry; an event of a command is one of all that it reads."""
    reads = {one.text("name"): [op.text("deviceResource") for op in ops] for one, ops in profile.commands}
    found: dict[str, dict[str, Any]] = {}
    for event in device.items("autoEvents", "AutoEvents"):
        source = event.text("sourceName", "SourceName")
        telemetry: dict[str, Any] = {"samplingInterval": of_go(event.at("interval", "Interval"))}
        changes = event.boolean("onChange", "OnChange", default=False)
        telemetry["report"] = "change" if changes else "every"
        threshold = event.number("onChangeThreshold", "OnChangeThreshold", default=0)
        if changes and threshold > 0:
            telemetry["deadband"] = threshold
        for name in reads.get(source, [source]):
            found.setdefault(name, telemetry)
    return found


def _signals(profile: _Profile, events: Mapping[str, dict[str, Any]] | None) -> list[Signal]:
    """`events` is None of a profile that no device has."""
    signals = []
    for one in profile.resources:
        signal = one.source.said.attempt(_signal, one, profile.words)
        if signal is None:
            continue
        if events is not None:
            signal.telemetry = dict(events.get(signal.name, _SELDOM))
            if signal.name not in events:
                one.tell("no autoEvent: read once a minute for the twin, and not published")
        if not signal.type.is_number:
            signal.telemetry.pop("deadband", None)
        if signal.access == "WriteOnly":
            signal.telemetry = {}
        signals.append(signal)
    return signals


def _signal(resource: Branch, words: Mapping[str, Branch]) -> Signal | None:
    name, properties = resource.text("name"), resource.map("properties")
    type_ = properties.word(_TYPES, "valueType", "type", what="a type that device-modbus reads")
    access = properties.word(_ACCESS, "readWrite", default="ReadOnly", what="an access")
    signal = Signal(resource, name, type_, {}, access=access)
    signal.unit = properties.text("units", default="")
    signal.description = resource.text("description", default="")
    signal.minimum, signal.maximum = (properties.number(key, default=None) for key in ("minimum", "maximum"))
    properties.tell_left("assertion", why="an alarm of ours says when a value is not as it should be")
    resource.tell_left("isHidden", why="all properties can be seen; mqtt and http have rights of their own")
    if properties.number("base", default=0):
        properties.at("base").tell(f"`{name}` is left out: its value is an exponent of `base`")
        return None
    _place(signal, resource.map("attributes"), properties)
    if signal.name in words:
        _speak(signal, words[signal.name])
    return signal


def _place(signal: Signal, attributes: Branch, properties: Branch) -> None:
    table = attributes.word(_TABLES, "primaryTable", what="a primaryTable")
    offset, bit = _start(attributes.at("startingAddress"))
    if table in ("coil", "discrete"):
        if signal.type != ValueType.BOOL:
            message = f"a {signal.type} of {attributes.text('primaryTable')} can't be read here: it is a bit"
            raise properties.here("valueType").problem(message)
        signal.address = {"table": table, "offset": offset}
    elif signal.type == ValueType.BOOL:
        signal.address = modbus.register(table, offset, signal.type, signal.type, bit=bit)
    elif signal.type == ValueType.STRING:
        length = attributes.integer("stringRegisterSize")
        signal.address = modbus.register(table, offset, signal.type, signal.type, length=length)
    else:
        _number(signal, (table, offset), attributes, properties)
    if table in ("input", "discrete") and signal.access != "ReadOnly":
        signal.at.tell("what EdgeX lets write is ReadOnly: nobody can write to such a register")
        signal.access = "ReadOnly"


def _start(branch: Branch) -> tuple[int, int]:
    """Register and bit: a bare 10.1 is 10.10 to EdgeX, which prints it with two digits."""
    text = f"{branch.value:.2f}" if isinstance(branch.value, float) else branch.raw
    found = re.fullmatch(r"(0[xX][0-9a-fA-F]{1,4}|\d{1,5})(?:\.(\d{1,2}))?", text.strip())
    register = int(found[1], 16 if found[1][:2] in ("0x", "0X") else 10) if found else 65536
    bit = int(found[2] or 0) if found else 0
    if register > 65535 or bit > 15:
        help_ = 'a register from 0, or register.bit with a bit up to 15; quote it: "10.1" is bit 1'
        raise branch.problem(f"`startingAddress` {branch.raw!r} can't be read", help_, "wrong-address")
    return register, bit


def _number(signal: Signal, place: tuple[str, int], attributes: Branch, properties: Branch) -> None:
    wire = _wire(signal.type, attributes)
    orders = _orders_of(wire, attributes)
    scale, add = properties.number("scale", default=1) or 1, properties.number("offset", default=0)
    bits: dict[str, Any] = {}
    if signal.type.startswith("uint"):
        bits, more = _cut(properties, wire)
        scale *= more
    if signal.type.is_integer:
        signal.type = modbus.scaled(wire, scale, add)
        if signal.type.is_float:
            properties.here("scale").tell("an integer with a fraction keeps it here; EdgeX cuts it off")
    signal.address = modbus.register(*place, signal.type, wire, orders, scale=scale, add=add, **bits)


def _orders_of(wire: ValueType, attributes: Branch) -> modbus.Orders:
    swapped = [attributes.boolean(key, default=False) for key in ("isByteSwap", "isWordSwap")]
    if wire.size == 4:
        return ("little" if swapped[0] else "big", "little" if swapped[1] else "big")
    if any(swapped):
        key = "isByteSwap" if swapped[0] else "isWordSwap"
        attributes.at(key).tell("a swap of 16 or 64 bits is left out: EdgeX swaps 32 bits only")
    return modbus.BIG


def _wire(type_: ValueType, attributes: Branch) -> ValueType:
    """The type in the registers: `rawType` is of floats only."""
    raw = attributes.word(_RAW, "rawType", default=None, what="a rawType")
    if raw is None or raw == type_:
        return type_
    if not type_.is_float:
        if raw.size == type_.size:
            attributes.at("rawType").tell("`rawType` of an integer is left out: EdgeX does not use it")
            return type_
        raise attributes.at("rawType").problem(f"EdgeX can't make a {type_} of this rawType")
    if raw == ValueType.INT32 and type_ == ValueType.FLOAT32:
        raise attributes.at("rawType").problem("EdgeX makes only a Float64 of an Int32")
    return raw


def _cut(properties: Branch, wire: ValueType) -> tuple[dict[str, Any], int]:
    """Mask and shift as the lowest bit and how many, and the factor of a shift to the left."""
    mask, shift = properties.integer("mask", default=0), properties.integer("shift", default=0)
    width = 8 * (wire.size or 0)
    if not mask and not shift:
        return {}, 1
    right = max(0, -shift)
    kept = (mask or (1 << width) - 1) & ((1 << width) - 1)
    kept = kept >> right << right
    low = (kept & -kept).bit_length() - 1
    count = (kept >> max(low, 0)).bit_length()
    if not kept or kept != ((1 << count) - 1) << low or low + shift < 0:
        raise properties.here("mask").problem(f"mask {mask:#x} is no run of bits: it can't be read here")
    return {"bit": low, **({"bits": count} if count > 1 else {})}, 1 << low + shift


def _speak(signal: Signal, words: Branch) -> None:
    """The words of a command's mappings: the property is a text then."""
    table: dict[int, str] = {}
    for key, one in words.pairs():
        if re.fullmatch(r"-?\d{1,18}", key):
            table[int(key)] = one.raw
    if not signal.type.is_integer or len(table) != len(words.value) or len(set(table.values())) != len(table):
        words.tell("`mappings` of what is no integer are left out, and of one word for two numbers")
        return
    wire = signal.address.pop("type", signal.type.value)
    if "scale" in signal.address or "add" in signal.address:
        signal.address["type"] = wire
        words.tell("`mappings` of what is scaled are left out")
        return
    address = {"table": signal.address.pop("table"), "offset": signal.address.pop("offset"), "type": wire}
    signal.address = {**address, **signal.address, "enum": table}
    signal.type = ValueType.STRING


def _orders(profile: _Profile, signals: Sequence[Signal]) -> list[Order]:
    """Commands of several resources for which EdgeX has values; those of others are their caller's."""
    by_name = {one.name: one for one in signals}
    resources = {name.raw: one for one in profile.resources if (name := one.get("name")) is not None}
    found = []
    for command, operations in profile.commands:
        if "W" not in command.text("readWrite", default="R").upper():
            continue
        writes: list[tuple[Signal, Any]] = []
        for one in operations:
            name = one.text("deviceResource")
            signal, resource = by_name.get(name), resources.get(name)
            default = one.text("defaultValue", default="")
            if not default and resource is not None:
                default = resource.map("properties").text("defaultValue", default="")
            value = _default(signal, default)
            if signal is not None and value is not None and signal.access != "ReadOnly":
                writes.append((signal, value))
        if len(writes) == len(operations) and len(writes) > 1:
            found.append(Order(command.text("name"), writes))
        elif len(operations) > 1:
            command.tell("a command to which its caller gives the values is left out: set the properties")
    return found


def _default(signal: Signal | None, text: str) -> Any:
    if signal is None or not text:
        return None
    enum = signal.address.get("enum")
    if enum is not None:
        return enum.get(int(text)) if re.fullmatch(r"-?\d{1,18}", text) else None
    value = value_of(text, signal.type)
    limits = (signal.minimum, signal.maximum)
    if signal.type.is_number and value is not None and None not in limits:
        return value if limits[0] <= value <= limits[1] else None
    return value
