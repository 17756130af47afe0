"""Modbus as we write it, for those who read how others do. Pure."""

from __future__ import annotations

from typing import Any

from devicemesh.spec.values import ValueType
from devicemesh.table import resources

Orders = tuple[str, str]
"""Of the bytes of a register, and of the registers of a value."""
BIG: Orders = ("big", "big")
ORDERS: dict[str, Orders] = {
    "ABCD": BIG,
    "BADC": ("little", "big"),
    "CDAB": ("big", "little"),
    "DCBA": ("little", "little"),
}
PARITIES = {one: word for word in ("none", "even", "odd") for one in (word, word[0])}
ASCII_OF_8 = {"mode": "ascii", "dataBits": 8}
"""A line in ASCII mode of those whose characters have 8 bits if nobody says otherwise; ours have 7."""
_NEUTRAL = {"scale": 1, "add": 0, "byteOrder": "big", "wordOrder": "big"}


def tcp(host: str, port: int, unit: int, **more: Any) -> dict[str, Any]:
    """An endpoint. `more`: fields as in YAML; what is None is left out."""
    return given({"host": host, "port": port, "unit": unit, **more})


def listen(host: str, port: int, unit: int, **more: Any) -> dict[str, Any]:
    """The same of a device that dials in to us."""
    return given({"listen": f"{f'[{host}]' if ':' in host else host}:{port}", "unit": unit, **more})


def serial(port: str, unit: int, line: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The same on a serial line, of which `line` has what is not as it is by default."""
    return given({"serial": {"port": port, **given(line)}, "unit": unit, **more})


def given(fields: dict[str, Any]) -> dict[str, Any]:
    """What is not None of these."""
    return {key: value for key, value in fields.items() if value is not None}


def register(
    table: str, offset: int, type_: ValueType, wire: ValueType, orders: Orders = BIG, **more: Any
) -> dict[str, Any]:
    """An address of registers. `more`: scale, add, length, bit, bits, enum as in YAML.

    What holds anyway is left out, and so are orders of what has none.
    """
    size = wire.size or 0
    fields = {
        "table": table,
        "offset": offset,
        "type": None if wire == type_ else wire.value,
        "length": more.get("length"),
        "bit": more.get("bit"),
        "bits": more.get("bits"),
        "byteOrder": orders[0],
        "wordOrder": orders[1] if size > 2 else None,
        "scale": more.get("scale"),
        "add": more.get("add"),
        "enum": more.get("enum"),
        "encoding": "utf-8" if wire == ValueType.STRING else None,
    }
    return {key: value for key, value in fields.items() if value is not None and value != _NEUTRAL.get(key)}


def scaled(wire: ValueType, scale: float, add: float = 0) -> ValueType:
    """The type of a property of `raw x scale + add`: an integer where that is always one."""
    if (scale == 1 and add == 0) or wire.is_float:
        return wire
    if isinstance(scale, int) and isinstance(add, int):
        reach = (1 << 8 * (wire.size or 8)) * abs(scale) + abs(add)
        return ValueType.INT32 if reach < 1 << 31 else ValueType.INT64
    return resources.scaled_type(wire)


def integer(registers: int, *, signed: bool) -> ValueType | None:
    """The integer of 1, 2 or 4 registers; None for other sizes."""
    return ValueType(f"{'' if signed else 'u'}int{16 * registers}") if registers in (1, 2, 4) else None


def floating(registers: int) -> ValueType | None:
    """The floating-point number of 1, 2 or 4 registers; None for other sizes."""
    return ValueType(f"float{16 * registers}") if registers in (1, 2, 4) else None
