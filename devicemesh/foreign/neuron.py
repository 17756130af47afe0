"""Neuron: what its API gives as the whole configuration, of its Modbus plugins. Pure.

GET /api/v2/global/config has nodes, groups, tags and settings. Addresses and orders are those of its
documentation (`modbus-tcp.md`): `#LL`, the default, is ABCD. Where sources and documentation differ, a tag is
left out and told: bits of registers, and texts that do not say their order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devicemesh.foreign import modbus
from devicemesh.foreign.things import Signal, Thing
from devicemesh.foreign.times import every
from devicemesh.foreign.tree import Branch
from devicemesh.spec.values import ValueType

_AREAS = {"0": "coil", "1": "discrete", "3": "input", "4": "holding"}
_TYPES = {
    3: ValueType.INT16, 4: ValueType.UINT16, 5: ValueType.INT32, 6: ValueType.UINT32, 7: ValueType.INT64,
    8: ValueType.UINT64, 9: ValueType.FLOAT32, 10: ValueType.FLOAT64, 11: ValueType.BOOL,
    13: ValueType.STRING, 16: ValueType.UINT16, 17: ValueType.UINT32, 18: ValueType.UINT64,
}  # fmt: skip
_ORDERS = {
    "L": modbus.BIG,
    "B": modbus.ORDERS["DCBA"],
    "LL": modbus.BIG,
    "LB": modbus.ORDERS["BADC"],
    "BL": modbus.ORDERS["CDAB"],
    "BB": modbus.ORDERS["DCBA"],
}
_OF_NODE = {1: modbus.BIG, 2: modbus.ORDERS["BADC"], 3: modbus.ORDERS["DCBA"], 4: modbus.ORDERS["CDAB"]}
_BAUDS = (115200, 57600, 38400, 19200, 9600, 4800, 2400, 1800, 1200, 600, 300, 200, 150)
_PARITIES = {0: "none", 1: "odd", 2: "even"}
_PLACE = re.compile(r"(\d{1,3})!([0134])(\d{1,5})(?:\.(\d{1,3})([HLDE])?)?(?:#([BL]{1,2}))?")
_READ, _WRITE, _SUBSCRIBE, _STATIC = 1, 2, 4, 8


def known(document: Branch) -> bool:
    value = document.value
    return isinstance(value, dict) and all(
        isinstance(value.get(key), list) for key in ("nodes", "groups", "tags")
    )


@dataclass(frozen=True, slots=True)
class _Node:
    """A south node: what holds for all its tags."""

    at: Branch
    name: str
    endpoint: dict[str, Any]
    orders: modbus.Orders  # of 32 bits
    base: int  # the number of the first register


def things(documents: Sequence[Branch]) -> Iterator[Thing]:
    """A device for each station of each node."""
    for document in documents:
        document.tell_left("subscriptions", why="all is published by MQTT")
        settings = {one.text("node"): one.map("params") for one in document.items("settings")}
        intervals = {
            (one.text("driver", "node"), one.text("group", "name")): one.number("interval", default=1000)
            for one in document.items("groups")
        }
        for one in document.items("nodes"):
            yield from one.source.said.attempt(_node, one, document, settings, intervals) or ()


def _node(
    node: Branch,
    document: Branch,
    settings: Mapping[str, Branch],
    intervals: Mapping[tuple[str, str], float],
) -> list[Thing]:
    name, plugin = node.text("name"), node.text("plugin")
    params = settings.get(name, node.map("params"))
    if "modbus" not in plugin.casefold():
        node.tell(f"`{name}` is left out: {plugin} is not read here")
        return []
    endpoint = _serial_or_net(params, "rtu" in plugin.casefold())
    params.tell_left(
        "max_retries", "retry_interval", "device_degrade", "check_header", "backup_host",
        why="a silent unit is left alone for growing pauses",
    )  # fmt: skip
    orders = params.integer("endianess", default=1)
    if orders not in _OF_NODE or params.integer("endianess_64", default=1) != 1:
        raise params.here("endianess", "endianess_64").problem("this order of bytes can't be read here")
    found = _Node(node, name, endpoint, _OF_NODE[orders], params.integer("address_base", default=1))
    stations: dict[int, list[Signal]] = {}
    for several in document.items("tags"):
        if several.text("driver", "node") == name:
            group = several.text("group")
            for tag in several.items("tags"):
                signal = tag.source.said.attempt(_tag, tag, found, group, intervals.get((name, group), 1000))
                if signal is not None:
                    stations.setdefault(signal[0], []).append(signal[1])
    return [
        Thing(
            node,
            name if len(stations) == 1 else f"{name}-{unit}",
            signals,
            "modbus",
            {**endpoint, "unit": unit},
        )
        for unit, signals in stations.items()
    ]


def _serial_or_net(params: Branch, is_rtu: bool) -> dict[str, Any]:
    pause, timeout = params.number("interval", default=0), params.number("timeout", default=0)
    more: dict[str, Any] = {"timeout": every(timeout) if timeout else None}
    more["pauseBetweenRequests"] = every(pause) if pause else None
    if is_rtu and params.integer("link", default=0) == 0:
        baud, parity = params.integer("baud", default=4), params.integer("parity", default=0)
        if not 0 <= baud < len(_BAUDS) or parity not in _PARITIES:
            raise params.here("baud", "parity").problem("this line can't be spoken on: baud or parity")
        line = {
            "baudrate": _BAUDS[baud],
            "parity": _PARITIES[parity],
            "stopBits": params.integer("stop", default=0) + 1,
            "dataBits": params.integer("data", default=3) + 5,
        }
        return modbus.serial(params.text("device"), 1, line, **more)
    udp = params.integer("transport_mode", default=0) == 1
    more["transport"] = "rtuovertcp" if is_rtu else "udp" if udp else None
    dials_in = params.integer("connection_mode", default=0) == 1
    reached = modbus.listen if dials_in else modbus.tcp
    return reached(params.text("host"), params.integer("port", default=502), 1, **more)


def _tag(tag: Branch, node: _Node, group: str, interval: float) -> tuple[int, Signal] | None:
    attribute, kind = tag.integer("attribute"), tag.integer("type")
    if attribute & _STATIC:
        tag.tell("static tags are left out: `labels` of a device have such words")
        return None
    address = tag.text("address")
    place = _PLACE.fullmatch(address)
    if place is None:
        raise tag.at("address").problem(
            f"{address!r} is not an address", "as in 1!400001#LL", "wrong-address"
        )
    if kind not in _TYPES:
        raise tag.at("type").problem(f"{kind} is not a type that a Modbus tag has", code="unknown-word")
    unit, table, offset = int(place[1]), _AREAS[place[2]], int(place[3]) - node.base
    if not 0 <= offset <= 65535:
        raise tag.at("address").problem(
            f"{address!r} is no register: they count from {node.base}", code="wrong-address"
        )
    signal = Signal(tag, tag.text("name"), _TYPES[kind], {}, apart=group)
    signal.description = tag.text("description", default="")
    reads, writes = attribute & (_READ | _SUBSCRIBE), attribute & _WRITE
    signal.access = "ReadWrite" if reads and writes else "WriteOnly" if writes else "ReadOnly"
    report = "change" if attribute & _SUBSCRIBE else "every"
    if reads:
        signal.telemetry = {"samplingInterval": every(interval), "report": report}
    if not _fill(signal, (table, offset), place, node):
        return None
    return unit, signal


def _fill(signal: Signal, where: tuple[str, int], place: re.Match[str], node: _Node) -> bool:
    """The address; False where it is not known how Neuron reads it."""
    tag, table = signal.at, where[0]
    if table in ("coil", "discrete"):
        if signal.type != ValueType.BOOL:
            raise tag.at("type").problem("a coil or discrete input is of type BIT")
        signal.address = {"table": table, "offset": where[1]}
    elif signal.type == ValueType.BOOL:
        tag.tell("bits of registers are left out: from which end Neuron counts them is not said")
        return False
    elif signal.type == ValueType.STRING:
        if place[4] is None or place[5] not in ("H", "L"):
            tag.tell("texts that say neither H nor L are left out: their order is not the same everywhere")
            return False
        orders = ("big" if place[5] == "H" else "little", "big")
        signal.address = modbus.register(
            *where, signal.type, signal.type, orders, length=(int(place[4]) + 1) // 2
        )
    else:
        _number(signal, where, place[6] or "", node)
    return True


def _number(signal: Signal, where: tuple[str, int], suffix: str, node: _Node) -> None:
    wire, tag = signal.type, signal.at
    wanted = 2 if wire.size == 4 else 1
    if suffix and len(suffix) != wanted:
        raise tag.at("address").problem(
            f"#{suffix} is not an order of {8 * (wire.size or 0)} bits", code="wrong-address"
        )
    orders = _ORDERS[suffix] if suffix else node.orders if wire.size == 4 else modbus.BIG
    scale, add = tag.number("decimal", default=0) or 1, tag.number("bias", default=0)
    if scale != 1 or add:
        signal.type = modbus.scaled(wire, scale, add)
    signal.address = modbus.register(*where, signal.type, wire, orders, scale=scale, add=add)
