"""The way of one value from bytes to number, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from devicemesh.layout import Field, Layout
from devicemesh.spec.values import ValueType
from devicemesh_modbus.image import scalar
from devicemesh_modbus.plan import FUNCTIONS, ModbusPoint

_ORDERS = {
    ("big", "big"): "big-endian",
    ("big", "little"): "word-swapped",
    ("little", "big"): "byte-swapped",
    ("little", "little"): "little-endian",
}


def steps(point: ModbusPoint, data: memoryview) -> Iterator[str]:
    """Say what each step made of the bytes: `uint32 big-endian 1150681088`, `x 0.1`."""
    address = point.address
    field = address.field(point.type, address.offset)
    yield f"function {FUNCTIONS[address.table]}: {address.text(point.type)} of unit {point.endpoint.unit}"
    if address.is_bit:
        return
    wire = address.wire(point.type)
    if wire == ValueType.BOOL:
        wire = ValueType.UINT16
    length = field.length if wire in (ValueType.STRING, ValueType.BYTES) else None
    bare = replace(field, scale=1.0, add=0.0, enum=None, null=None)
    plain = replace(bare, type=wire, bit=None, bits=None, length=length)
    raw = _read(plain, wire, data)
    many = address.span(point.type) > 1 and wire.is_number
    order = _ORDERS[address.byte_order, address.word_order if many else address.byte_order]
    yield f"{wire} {order} {raw}" if wire.is_number else f"{wire} {raw!r}"
    if field.bit is not None:
        last = field.bit + (field.bits or 1) - 1
        place = f"bit {field.bit}" if last == field.bit else f"bits {field.bit}..{last}"
        yield f"{place} = {_read(bare, field.type, data)}"
    elif point.type == ValueType.BOOL:
        yield f"not 0 = {raw != 0}"
    if field.null is not None and _read(replace(bare, null=field.null), field.type, data) is None:
        yield "which says: no value"
        return
    if field.scale != 1.0:
        yield f"x {field.scale:g}"
    if field.add != 0.0:
        yield f"{'+' if field.add > 0 else '-'} {abs(field.add):g}"
    if field.enum is not None:
        yield f"enum: {_read(field, point.type, data)}"


def _read(field: Field, type_: ValueType, data: memoryview) -> object:
    return scalar(Layout([field], [0]).decode(data, 0), type_)[0]
