"""Telegraf: `inputs.modbus` in its three styles; nodes of `inputs.opcua` are read beside it. Pure.

Addresses count from 0. The order of bytes is theirs: `ABCD` and its kin, said of 32 bits, holds for 16 and
64 bits as well (`type_conversions*.go`). A number with a `scale` is a float64 in the styles `request` and
`metric`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from devicemesh.foreign import modbus, telegraf_opcua
from devicemesh.foreign.things import Signal, Thing
from devicemesh.foreign.times import of_go
from devicemesh.foreign.tree import Branch
from devicemesh.spec.values import ValueType

PLUGINS = ("modbus", "opcua", "opcua_listener")
_LISTS = {
    "discrete_inputs": "discrete",
    "coils": "coil",
    "holding_registers": "holding",
    "input_registers": "input",
}
_TABLES = {one: one for one in ("coil", "discrete", "holding", "input")}
_ORDERS = {
    **modbus.ORDERS,
    "AB": modbus.BIG,
    "BA": modbus.ORDERS["DCBA"],
    "ABCDEFGH": modbus.BIG,
    "BADCFEHG": modbus.ORDERS["BADC"],
    "GHEFCDAB": modbus.ORDERS["CDAB"],
    "HGFEDCBA": modbus.ORDERS["DCBA"],
    "MSW-BE": modbus.BIG,
    "MSW-LE": modbus.ORDERS["BADC"],
    "LSW-BE": modbus.ORDERS["CDAB"],
    "LSW-LE": modbus.ORDERS["DCBA"],
}
_TYPES = {
    **{f"{u.upper()}INT{n}": ValueType(f"{u}int{n}") for u in ("", "u") for n in (16, 32, 64)},
    **{f"{u.upper()}INT8{half}": ValueType(f"{u}int8") for u in ("", "u") for half in "LH"},
    **{f"FLOAT{n}": ValueType(f"float{n}") for n in (16, 32, 64)},
}
_FIXED = {"FIXED": True, "UFIXED": False, "FLOAT32": False, "FLOAT": True, "UFLOAT": False}
"""Of the style `register`: integers that become floats -> whether they are signed. FLOAT32 is one of them."""
_TRANSPORTS = {"RTUOVERTCP": "rtuovertcp", "ASCIIOVERTCP": "asciiovertcp"}
_OUTPUTS = {"INT64": ValueType.INT64, "UINT64": ValueType.UINT64, "FLOAT64": ValueType.FLOAT64}
_OF_CONNECTION = (
    "busy_retries", "busy_retries_wait", "debug_connection", "rs485", "optimization",
    "optimization_max_register_fill", "exclude_register_type_tag", "name_override", "name_prefix",
    "name_suffix",
)  # fmt: skip
_WORKAROUNDS = (
    "pause_after_connect", "close_connection_after_gather", "one_request_per_field",
    "read_coils_starting_at_zero", "max_bit_registers_per_request", "max_word_registers_per_request",
)  # fmt: skip


def known(document: Branch) -> bool:
    value = document.value
    inputs = value.get("inputs") if isinstance(value, dict) else None
    return isinstance(inputs, dict) or (isinstance(value, dict) and "agent" in value and "outputs" in value)


def things(documents: Sequence[Branch]) -> Iterator[Thing]:
    """A device for each slave of each connection, and for each server."""
    for document in documents:
        _tell_others(document)
        agent = document.map("agent")
        inputs = document.map("inputs")
        for plugin in inputs.items("modbus"):
            yield from plugin.source.said.attempt(_slaves, plugin, agent) or ()
        for name in PLUGINS[1:]:
            for plugin in inputs.items(name):
                thing = plugin.source.said.attempt(_server, plugin, name, agent)
                if thing is not None:
                    yield thing


def _tell_others(document: Branch) -> None:
    for section in ("outputs", "inputs", "processors", "aggregators"):
        part = document.get(section)
        if part is not None and isinstance(part.value, dict):
            for name, one in part.pairs():
                if section != "inputs" or name not in PLUGINS:
                    one.tell(f"`{section}.{name}` is left out")


def _server(plugin: Branch, kind: str, agent: Branch) -> Thing:
    return telegraf_opcua.thing(plugin, kind, _interval(plugin, agent))


def _interval(plugin: Branch, agent: Branch) -> str:
    interval = plugin.get("interval") or agent.get("interval")
    if interval is not None:
        return of_go(interval)
    agent.tell("no `interval` of the agent is given: it is 10s, Telegraf's default")
    return "10s"


@dataclass(frozen=True, slots=True)
class _Field:
    """A value that a plugin reads: the three styles' words made one."""

    at: Branch
    slave: int
    table: str
    offset: int
    order: modbus.Orders
    type: str  # theirs; "" of bits
    words: int  # registers, where the style says it
    output: str
    apart: tuple[str, str]  # the measurement, and its tags


def _slaves(plugin: Branch, agent: Branch) -> list[Thing]:
    said = plugin.source.said
    name = plugin.text("name", "alias", default="modbus")
    every = _interval(plugin, agent)
    endpoints = _endpoint(plugin)
    found: dict[int, list[Signal]] = {}
    for one in _fields(plugin):
        signal = said.attempt(_signal, one)
        if one.type == "STRING":
            said.attempt(_whole, plugin.map("workarounds"))
        if signal is not None:
            signal.telemetry = {"samplingInterval": every, "report": "every"}
            found.setdefault(one.slave, []).append(signal)
    _set_apart(found)
    for _, tags in plugin.map("tags").pairs():
        tags.tell("tags are left out: a device has `labels`")
    things = []
    for slave, signals in found.items():
        title = name if len(found) == 1 else f"{name}-{slave}"
        things.append(Thing(plugin, title, signals, "modbus", {**endpoints, "unit": slave}))
    return things


def _whole(workarounds: Branch) -> None:
    """Raise where texts have one character in each register."""
    half = workarounds.text("string_register_location", default="")
    if half not in ("", "both"):
        here = workarounds.at("string_register_location")
        raise here.problem(f"a text in the {half} bytes of its registers can't be read here")


def _set_apart(found: Mapping[int, list[Signal]]) -> None:
    """What tells fields of one name apart: their tags, or else their measurement."""
    named: dict[tuple[int, str], list[Signal]] = {}
    for slave, signals in found.items():
        for one in signals:
            named.setdefault((slave, one.name), []).append(one)
    for same in named.values():
        parts = [one.apart.partition("\0") for one in same]
        differ = len({tags for _, _, tags in parts}) == len(same)
        for one, (measurement, _, tags) in zip(same, parts, strict=True):
            one.apart = tags if differ else f"{measurement}_{tags}".strip("_")


def _endpoint(plugin: Branch) -> dict[str, Any]:
    plugin.tell_left(*_OF_CONNECTION)
    controller, mode = plugin.at("controller"), plugin.text("transmission_mode", default="auto").upper()
    more: dict[str, Any] = {}
    if timeout := plugin.get("timeout"):
        more["timeout"] = of_go(timeout)
    workarounds = plugin.map("workarounds")
    workarounds.tell_left(*_WORKAROUNDS)
    pause = workarounds.get("pause_between_requests")
    if pause is not None and pause.raw.strip("0msh") != "":
        more["pauseBetweenRequests"] = of_go(pause)
    text = controller.raw
    if "://" in text and not text.startswith("file:"):
        return {**_net(controller, mode), **more}
    line = {
        "baudrate": plugin.integer("baud_rate", default=None),
        "parity": plugin.word(modbus.PARITIES, "parity", default=None, what="a parity"),
        "stopBits": plugin.integer("stop_bits", default=None),
        "dataBits": plugin.integer("data_bits", default=None),
    }
    if mode == "ASCII":
        line |= modbus.ASCII_OF_8 | modbus.given(line)
    return modbus.serial(text.removeprefix("file://"), 1, line, **more)


def _net(controller: Branch, mode: str) -> dict[str, Any]:
    try:
        parts = urlsplit(controller.raw)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in ("tcp", "udp") or not host:
        raise controller.problem(
            f"the controller {controller.raw!r} can't be read", "write it like tcp://10.0.0.5:502"
        )
    transport = "udp" if parts.scheme == "udp" else _TRANSPORTS.get(mode)
    return modbus.tcp(host, port or 502, 1, transport=transport)


def _fields(plugin: Branch) -> Iterator[_Field]:
    style = plugin.text("configuration_type", default="register")
    if style in ("register", "original", ""):
        yield from _of_registers(plugin)
    elif style == "request":
        for request in plugin.items("request"):
            yield from _of_group(
                request, request.word(_TABLES, "register", default="holding", what="a register")
            )
    elif style == "metric":
        for metric in plugin.items("metric"):
            yield from _of_group(metric, None)
    else:
        help_ = "known: register, request, metric"
        raise plugin.at("configuration_type").problem(f"{style!r} is no style", help_, "unknown-word")


def _of_registers(plugin: Branch) -> Iterator[_Field]:
    slave = plugin.integer("slave_id", default=0)
    for key, table in _LISTS.items():
        for one in plugin.items(key):
            field = one.source.said.attempt(_of_register, one, slave, table)
            if field is not None:
                yield field


def _of_register(one: Branch, slave: int, table: str) -> _Field:
    address = one.at("address")
    numbers = address.value if isinstance(address.value, list) else [address.value]
    if not numbers or any(not isinstance(n, int) or isinstance(n, bool) for n in numbers):
        raise address.problem("`address` is a list of registers, as [1, 2]", code="wrong-address")
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        raise address.problem(f"the registers {numbers} do not follow each other", code="wrong-address")
    is_bit = table in ("coil", "discrete")
    order = modbus.BIG if is_bit else one.word(_ORDERS, "byte_order", what="a byte_order")
    type_ = "" if is_bit else one.text("data_type").upper()
    apart = (one.text("measurement", default=""), "")
    return _Field(one, slave, table, numbers[0], order, type_, len(numbers), "native", apart)


def _of_group(group: Branch, table: str | None) -> Iterator[_Field]:
    slave = group.integer("slave_id", default=0)
    order = group.word(_ORDERS, "byte_order", default=modbus.BIG, what="a byte_order")
    measurement = group.text("measurement", default="")
    tags = "_".join(one.raw for _, one in group.map("tags").pairs())
    for one in group.items("fields"):
        if one.boolean("omit", default=False):
            continue
        field = one.source.said.attempt(_of_field, one, table, (slave, order, measurement, tags))
        if field is not None:
            yield field


def _of_field(one: Branch, table: str | None, shared: tuple[int, modbus.Orders, str, str]) -> _Field:
    slave, order, measurement, tags = shared
    place: str = table or one.word(_TABLES, "register", default="holding", what="a register") or ""
    is_bit = place in ("coil", "discrete")
    type_ = "" if is_bit else one.text("type").upper()
    output = "" if is_bit else one.text("output", default="").upper()
    apart = (one.text("measurement", default=measurement), tags)
    return _Field(one, slave, place, one.integer("address"), order, type_, 0, output, apart)


def _signal(field: _Field) -> Signal:
    one = field.at
    signal = Signal(one, one.text("name"), ValueType.BOOL, {}, apart="\0".join(field.apart))
    place = (field.table, field.offset)
    if not field.type:
        signal.address = {"table": field.table, "offset": field.offset}
    elif field.type == "BIT":
        signal.address = modbus.register(
            *place, ValueType.BOOL, ValueType.BOOL, (field.order[0], "big"), bit=one.integer("bit", default=0)
        )
    elif field.type == "STRING":
        signal.type = ValueType.STRING
        orders, length = (field.order[0], "big"), field.words or one.integer("length")
        signal.address = modbus.register(*place, signal.type, signal.type, orders, length=length)
    else:
        _number(signal, field)
    return signal


def _number(signal: Signal, field: _Field) -> None:
    one = field.at
    scale = one.number("scale", default=1) or 1
    wire, orders = _wire(field)
    if field.output == "native":
        is_float = field.type in _FIXED
        signal.type = ValueType.FLOAT64 if is_float else modbus.scaled(wire, scale)
    else:
        output = one.word(_OUTPUTS, "output", default=None, what="an output") if field.output else None
        signal.type = output or (ValueType.FLOAT64 if scale != 1 or one.get("scale") else wire)
        if signal.type.is_integer and (wire.is_float or not isinstance(scale, int)):
            signal.type = ValueType.FLOAT64
    cut = field.output in ("native", "INT64", "UINT64") and field.type not in _FIXED
    if cut and signal.type.is_float and wire.is_integer:
        one.here("scale").tell("an integer with a fraction keeps it here; Telegraf cuts it off")
    signal.address = modbus.register(field.table, field.offset, signal.type, wire, orders, scale=scale)


def _wire(field: _Field) -> tuple[ValueType, modbus.Orders]:
    """The type in the registers, and its orders. A byte of a register is the upper one where it is little."""
    name = field.type
    if field.output == "native" and name in _FIXED:
        wire = modbus.integer(field.words, signed=_FIXED[name])
        if wire is None:
            raise field.at.at("address").problem(f"{name} takes 1, 2 or 4 registers", code="wrong-address")
        return wire, field.order
    key = name.removesuffix("-IEEE") if field.output == "native" else name
    if key not in _TYPES:
        here = field.at.here("data_type", "type")
        more = _FIXED if field.output == "native" else ()
        known_types = ", ".join({**_TYPES, **dict.fromkeys((*more, "BIT", "STRING"))})
        raise here.problem(f"{name!r} is not a type", f"known: {known_types}", "unknown-word")
    wire = _TYPES[key]
    if wire.size == 1:
        is_first = (name[-1] == "H") == (field.order[0] == "big")
        return wire, ("little" if is_first else "big", "big")
    if field.words and field.words != max((wire.size or 2) // 2, 1):
        raise field.at.at("address").problem(
            f"{name} takes {(wire.size or 2) // 2} registers", code="wrong-address"
        )
    return wire, field.order
