"""KubeEdge: registers and connections of Modbus, as upstream's mappers read them. Pure.

The older mappers (mappers-go, modbus-dmi) make integers without a sign and IEEE floats of 1, 2 or 4 registers
and swap what they are told to. That of v1beta1 (examples, temperature-sensor) reads one register.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from devicemesh.foreign import modbus
from devicemesh.foreign.things import Signal
from devicemesh.foreign.tree import Branch
from devicemesh.spec.values import ValueType

_TABLES = {
    "CoilRegister": "coil",
    "DiscreteInputRegister": "discrete",
    "HoldingRegister": "holding",
    "InputRegister": "input",
}


@dataclass(slots=True)
class Visit:
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


@dataclass(slots=True)
class Reading:
    """A register of a device: where, and by whose rules."""

    visit: Visit
    type: str
    by_v1beta1: bool


def register(signal: Signal, reading: Reading) -> None:
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


def _bit(signal: Signal, reading: Reading, table: str, offset: int, limit: int) -> None:
    if limit > 1:
        raise reading.visit.get("limit").problem(
            f"{limit} bits are several properties: declare each by itself"
        )
    if signal.type != ValueType.BOOL:
        signal.at.tell("one bit is true or false here, where it was 1 or 0")
    signal.type = ValueType.BOOL
    signal.address = {"table": table, "offset": offset}
    _keep_writable(signal, table)


def _flag(signal: Signal, reading: Reading, table: str, offset: int, orders: modbus.Orders) -> None:
    """A register that is true or false. The older mappers compare its first byte with 1."""
    if not reading.by_v1beta1 and orders[0] == "big":
        raise signal.at.problem(
            "KubeEdge's mapper looks for a 1 in the upper byte of a boolean register: that is never meant",
            "say isSwap: true, or INT",
        )
    signal.at.tell("a register that is boolean is true here whenever it is not 0")
    signal.address = modbus.register(table, offset, ValueType.BOOL, ValueType.BOOL, (orders[0], "big"))


def _number(
    signal: Signal, reading: Reading, place: tuple[str, int, int], orders: modbus.Orders, scale: float
) -> None:
    table, offset, limit = place
    is_integer = reading.type in ("int", "integer")
    wire = modbus.integer(limit, signed=False)
    if not is_integer and limit > 1:
        wire = modbus.floating(limit) if modbus.floating(limit) == signal.type else None
    if wire is None:
        raise reading.visit.get("limit").problem(
            f"{limit} registers don't make a value of type {reading.type}"
        )
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


def endpoint(config: Branch, common: Branch) -> dict[str, Any]:
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
