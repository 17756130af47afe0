"""ThingsBoard's gateway: the connectors Modbus (here) and OPC UA (beside it), in old and new shapes. Pure.

What a value is, is what `bytes_modbus_uplink_converter.py` of 3.8.5 makes of it. Both orders are LITTLE where
nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devicemesh.foreign import modbus, thingsboard_opcua
from devicemesh.foreign.things import Order, Signal, Thing, value_of
from devicemesh.foreign.times import every
from devicemesh.foreign.tree import Branch
from devicemesh.spec.values import ValueType

_TABLES = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}
_WRITTEN = {5: "coil", 15: "coil", 6: "holding", 16: "holding"}
_SEVERAL = (15, 16)
_TYPES = {
    **{f"{n}{u}int": ValueType(f"{u}int{n}") for u in ("", "u") for n in (8, 16, 32, 64)},
    **{f"{n}float": ValueType(f"float{n}") for n in (16, 32, 64)},
}
_TRANSPORTS = {"rtu": "rtuovertcp", "ascii": "asciiovertcp"}
_BY_COUNT = {"int": True, "long": True, "integer": True, "uint": False}
_BITS = ("bit", "bits", "coil", "coils")
_MOST = 2000
"""Values of one wide range."""
_OF_CONNECTION = (
    "retries", "retryOnEmpty", "retryOnInvalid", "connectAttemptTimeMs", "connectAttemptCount", "strict",
    "waitAfterFailedAttemptsMs", "repack", "handleLocalEcho", "identity",
)  # fmt: skip


def known(document: Branch) -> bool:
    value = document.value
    if not isinstance(value, dict):
        return False
    master, server, devices = value.get("master"), value.get("server"), value.get("devices")
    if isinstance(master, dict) and "slaves" in master:
        return True
    if isinstance(server, dict) and ("devices" in server or "mapping" in server or "mapping" in value):
        return True
    if isinstance(devices, list) and any(isinstance(one, dict) and "MACAddress" in one for one in devices):
        return True
    return "thingsboard" in value and "connectors" in value


def things(documents: Sequence[Branch]) -> Iterator[Thing]:
    """The devices of these connectors."""
    for document in documents:
        if document.get("connectors"):
            document.tell("the gateway's own file names its connectors: give their files")
        elif document.get("devices"):
            document.tell("the BLE connector is left out: its expressions make texts of bytes")
        elif _is_opcua(document):
            yield from thingsboard_opcua.things(document)
        else:
            yield from _modbus(document)


def _is_opcua(document: Branch) -> bool:
    server = document.map("server")
    return document.get("mapping") is not None or server.get("mapping") is not None


def _modbus(document: Branch) -> Iterator[Thing]:
    document.tell_left("slave", why="values that the gateway itself serves are not carried over")
    said = document.source.said
    for slave in document.map("master").items("slaves"):
        if thing := said.attempt(_slave, slave):
            yield thing
    server = document.map("server")
    shared = {key: one.value for key, one in server.pairs() if key != "devices"}
    for device in server.items("devices"):
        if isinstance(
            device.value, dict
        ):  # the old shape: what the server says holds where a device says nothing
            whole = {**shared, **{key: one for key, one in device.value.items() if one}}
            if thing := said.attempt(_slave, Branch(device.source, device.loc, whole)):
                yield thing


def _slave(slave: Branch) -> Thing:
    unit = slave.integer("unitId")
    name = slave.text("deviceName", "name", default=f"ModbusDevice {unit}")
    endpoint = _endpoint(slave, unit)
    slave.tell_left(*_OF_CONNECTION, why="a link is tried for ever, with growing pauses")
    slave.tell_left(
        "converter", "uplink_converter", "downlink_converter", why="a converter in Python has no place"
    )
    signals = _Signals([], {})
    for section in ("timeseries", "attributes"):
        for tag in slave.items(section):
            for one in slave.source.said.attempt(_read, tag, slave, section) or ():
                signals.add(one)
    orders = list(_write_all(slave, signals))
    kind = slave.text("deviceType", default="default")
    return Thing(slave, name, signals.all, "modbus", endpoint, "" if kind == "default" else kind, orders)


@dataclass(frozen=True, slots=True)
class _Signals:
    """The properties of a slave in their order, and those of each place."""

    all: list[Signal]
    placed: dict[tuple[str, int], list[Signal]]

    def at(self, address: Mapping[str, Any]) -> list[Signal]:
        return self.placed.setdefault((address["table"], address["offset"]), [])

    def add(self, new: Signal) -> None:
        """What is in both sections is one property."""
        beside = self.at(new.address)
        if all((one.name, one.address, one.type) != (new.name, new.address, new.type) for one in beside):
            beside.append(new)
            self.all.append(new)


def _endpoint(slave: Branch, unit: int) -> dict[str, Any]:
    kind, method = slave.text("type", default="tcp").lower(), slave.text("method", default="socket").lower()
    timeout, pause = slave.number("timeout", default=None), slave.number("delayBetweenRequestsMs", default=0)
    more: dict[str, Any] = {"timeout": every(timeout * 1000) if timeout else None}
    more["pauseBetweenRequests"] = every(pause) if pause else None
    if kind == "serial":
        line = {
            "baudrate": slave.integer("baudrate", default=19200),
            "parity": slave.word(modbus.PARITIES, "parity", default="none", what="a parity"),
            "stopBits": slave.integer("stopbits", default=None),
            "dataBits": slave.integer("bytesize", default=None),
        }
        if method == "ascii":
            line |= modbus.ASCII_OF_8 | modbus.given(line)
        return modbus.serial(slave.text("port"), unit, line, **more)
    if kind not in ("tcp", "udp", "tls"):
        raise slave.at("type").problem(f"{kind!r} is not a type of connection", "known: tcp, udp, serial")
    transport = "udp" if kind == "udp" else _TRANSPORTS.get(method)
    tls = slave.map("tls", "security")
    if kind == "tls" or tls.boolean("useTLS", default=False):
        transport = "tls"
        files = {"certFile": tls.text("certfile", default=None), "keyFile": tls.text("keyfile", default=None)}
        files["serverName"] = tls.text("server_hostname", "serverHostname", default=None)
        more["tls"] = {key: value for key, value in files.items() if value} or None
    return modbus.tcp(
        slave.text("host"), slave.integer("port", default=502), unit, transport=transport, **more
    )


def _read(tag: Branch, slave: Branch, section: str) -> list[Signal]:
    code = tag.integer("functionCode")
    if code not in _TABLES:
        raise tag.at("functionCode").problem(f"function {code} does not read: 1 to 4 do")
    found = _range(tag, slave, _TABLES[code])
    period = slave.number("pollPeriod", "timeseriesPollPeriod", default=5000)
    for one in found:
        one.telemetry = {"samplingInterval": every(period), **_report(tag, slave, section)}
    return found


def _report(tag: Branch, slave: Branch, section: str) -> dict[str, Any]:
    """What leaves. Attributes are what the twin is for."""
    if section == "attributes":
        return {"report": "none"}
    strategy = tag.map("reportStrategy") if tag.get("reportStrategy") else slave.map("reportStrategy")
    kind = strategy.text("type", default="").upper()
    if not kind and (tag.here("sendDataOnlyOnChange") is not tag or slave.get("sendDataOnlyOnChange")):
        only = tag.get("sendDataOnlyOnChange") or slave.at("sendDataOnlyOnChange")
        kind = "ON_CHANGE" if only.raw.casefold() == "true" else ""
    period = every(strategy.number("reportPeriod", default=60000))
    if kind == "ON_CHANGE":
        return {"report": "change"}
    if kind == "ON_CHANGE_OR_REPORT_PERIOD":
        return {"report": "change", "heartbeat": period}
    if kind == "ON_REPORT_PERIOD":  # the newest value, once a period
        return {"report": "change", "heartbeat": period, "minInterval": period}
    if kind not in ("", "ON_RECEIVED", "DISABLED"):
        raise strategy.at("type").problem(f"{kind!r} is not a report strategy", code="unknown-word")
    return {"report": "every"}


def _range(tag: Branch, slave: Branch, table: str) -> list[Signal]:
    """The values of a tag: one, or those of a range of addresses, whose names have their address."""
    address, name = tag.at("address"), tag.text("tag", "key")
    ends = re.fullmatch(r"(\d{1,5})-(\d{1,5})", address.raw) if isinstance(address.value, str) else None
    if ends is None:
        return _values(tag, slave, (table, address.as_integer()), name)
    tag.tell_left("tagOverrides")
    first, last, step = int(ends[1]), int(ends[2]), _count(tag)
    if last < first or last - first >= _MOST or step < 1:
        raise address.problem(f"the range {address.raw} has no values, or too many", code="wrong-address")
    found: list[Signal] = []
    for offset in range(first, last + 2 - step, step):
        words = {"address": offset, "unitId": slave.integer("unitId"), "type": tag.text("type")}
        words |= {"functionCode": tag.integer("functionCode"), "objectsCount": step}
        text = name
        for key, value in words.items():
            text = text.replace(f"${{{key}}}", str(value))
        found += _values(tag, slave, (table, offset), text if text != name else f"{name}_{offset}")
    return found


def _count(tag: Branch) -> int:
    return int(tag.integer("objectsCount", "registersCount", "registerCount", default=1))


@dataclass(frozen=True, slots=True)
class _Kind:
    """A type of theirs with its place on the wire."""

    wire: ValueType
    orders: modbus.Orders


def _values(tag: Branch, slave: Branch, place: tuple[str, int], name: str) -> list[Signal]:
    table, offset = place
    word, count = tag.text("type").lower(), _count(tag)
    if word in _BITS:
        return _bits(tag, place, name, count)
    if table in ("coil", "discrete"):
        raise tag.here("type").problem(f"a {word} of bits can't be read here: declare each bit, of type bits")
    kind = _kind(tag, slave, word, count)
    signal = Signal(tag, name, kind.wire, {})
    if kind.wire in (ValueType.STRING, ValueType.BYTES):
        if kind.wire == ValueType.BYTES:
            tag.tell("bytes are bytes here, where they were hexadecimal digits")
        signal.address = modbus.register(table, offset, kind.wire, kind.wire, length=count)
        return [signal]
    tag.tell_left("round")
    divider, multiplier = tag.number("divider", default=0), tag.number("multiplier", default=0)
    scale: float = 1
    if divider:
        scale = 1 / divider
        signal.type = ValueType.FLOAT64 if kind.wire.is_integer else kind.wire
    elif multiplier:
        scale = multiplier
        signal.type = modbus.scaled(kind.wire, scale)
    enum = _words(tag) if kind.wire.is_integer and scale == 1 else None
    if enum:
        signal.type = ValueType.STRING
    signal.address = modbus.register(
        table, offset, signal.type, kind.wire, kind.orders, scale=scale, enum=enum
    )
    return [signal]


def _words(tag: Branch) -> dict[int, str] | None:
    variants = tag.get("variants")
    if variants is None:
        return None
    table = {int(key): one.raw for key, one in variants.pairs() if re.fullmatch(r"-?\d{1,18}", key)}
    if len(table) != len(variants.value) or len(set(table.values())) != len(table):
        variants.tell("`variants` that are no numbers are left out, and one word for two of them")
        return None
    return table


def _kind(tag: Branch, slave: Branch, word: str, count: int) -> _Kind:
    byte, order = (
        "big"
        if (tag.text(key, default="") or slave.text(key, default="LITTLE")).upper() == "BIG"
        else "little"
        for key in ("byteOrder", "wordOrder")
    )
    wire: ValueType | None
    if word in ("string", "bytes"):
        return _Kind(ValueType(word), modbus.BIG)
    if word in _BY_COUNT:
        wire = modbus.integer(count, signed=_BY_COUNT[word])
    elif word in ("float", "double"):
        wire = modbus.floating(count)
    else:
        wire = _TYPES.get(word)
        if wire is None:
            known = ", ".join(["bits", "string", "bytes", *_TYPES])
            raise tag.here("type").problem(f"{word!r} is not a type", f"known: {known}", "unknown-word")
    if wire is None:
        raise tag.here("objectsCount", "type").problem(f"{word} takes 1, 2 or 4 registers, not {count}")
    if wire.size == 1:
        return _Kind(wire, ("little", "big"))  # the byte that comes first, whatever the order
    return _Kind(wire, (byte, order))


def _bits(tag: Branch, place: tuple[str, int], name: str, count: int) -> list[Signal]:
    """Bits. Of a register ThingsBoard sees the upper byte first: its bit 0 is ours 8."""
    table, offset = place
    if not 1 <= count <= 16:
        raise tag.here("objectsCount", "type").problem(f"ThingsBoard reads 1 to 16 bits at once, not {count}")
    chosen = tag.integer("bit", default=None) if not isinstance(tag.value.get("bit"), bool) else None
    indices = range(count) if chosen is None else [max(0, min(chosen, count - 1))]
    if len(indices) > 1:
        tag.tell("a list of bits is a property of each: name_0, name_1, ...")
    if chosen is not None or tag.text("bitTargetType", default="bool") != "bool":
        tag.tell("one bit is true or false here, where it was 1 or 0")
    found = []
    for index in indices:
        signal = Signal(tag, name if len(indices) == 1 else f"{name}_{index}", ValueType.BOOL, {})
        if table in ("coil", "discrete"):
            signal.address = {"table": table, "offset": offset + index}
        else:
            bit = index + 8 if index < 8 else index - 8
            tag.tell(
                "bits of registers are counted as ThingsBoard does, from the upper byte: bit 0 is 8 here"
            )
            signal.address = modbus.register(table, offset, ValueType.BOOL, ValueType.BOOL, bit=bit)
        found.append(signal)
    return found


def _write_all(slave: Branch, signals: _Signals) -> Iterator[Order]:
    """What attribute updates and RPC write: properties become writable, and RPC with a value are commands."""
    said = slave.source.said
    for one in slave.items("attributeUpdates"):
        said.attempt(_write, one, slave, signals, one.text("tag", "key", default=""))
    rpc = slave.get("rpc")
    if rpc is None:
        return
    named = [(name, one) for name, one in rpc.pairs()] if isinstance(rpc.value, dict) else []
    named += [(one.text("tag", "key", default=""), one) for one in (slave.items("rpc") if not named else ())]
    for name, one in named:
        if not isinstance(one.value, dict):
            continue
        if one.integer("functionCode", default=3) in _TABLES:
            one.tell("an RPC that reads is left out: the twin has the value")
            continue
        signal = said.attempt(_write, one, slave, signals, name)
        fixed = one.get("value")
        if signal is None:
            continue
        if fixed is not None and (value := value_of(fixed.raw, signal.type)) is not None:
            yield Order(name, [(signal, value)])
        elif signal.name != name:
            one.tell("an RPC to which its caller gives the value is left out: set the property")


def _write(one: Branch, slave: Branch, signals: _Signals, name: str) -> Signal | None:
    """The property at the place where this writes; a new one where there is none."""
    code = one.integer("functionCode")
    if code not in _WRITTEN:
        raise one.at("functionCode").problem(f"function {code} does not write: 5, 6, 15 and 16 do")
    table, offset = _WRITTEN[code], one.integer("address")
    (new, *more) = _values(one, slave, (table, offset), name or f"{table}_{offset}")
    if more:
        one.tell("a list of bits that is written at once is left out: write each")
        return None
    for signal in signals.at(new.address):
        if _same_place(signal.address, new.address):
            if "scale" in signal.address:
                one.tell("what is written is scaled as what is read; ThingsBoard writes it as it is")
            signal.access = "ReadWrite" if signal.access == "ReadOnly" else signal.access
            return _with_function(signal, code)
    new.access = "WriteOnly"
    signals.add(new)
    return _with_function(new, code)


def _same_place(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether these, of one place, read and write the same registers as the same type."""
    keys = ("bit", "length", "byteOrder", "wordOrder")
    if any(one.get(key) != other.get(key) for key in keys):
        return False
    types = {one.get("type"), other.get("type")} - {None}
    return len(types) < 2


def _with_function(signal: Signal, code: int) -> Signal:
    """Function 16 (or 15) for one register (or coil), where ours would be 6 (or 5)."""
    wire = ValueType(signal.address.get("type", signal.type.value))
    if code in _SEVERAL and (wire.size or 8) <= 2:
        signal.address["writeFunction"] = "multiple"
    return signal
