"""What a value looks like in registers, and back. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from devicemesh.layout import Field, Layout, encode
from devicemesh.mapper import Batch, Quality
from devicemesh.spec.values import Scalar, ValueType
from devicemesh_modbus.model import ModbusAddress

_UNSIGNED = {1: ValueType.UINT8, 2: ValueType.UINT16, 4: ValueType.UINT32, 8: ValueType.UINT64}


def image(address: ModbusAddress, type_: ValueType, value: Scalar) -> tuple[bytes, bytes]:
    """The bytes of the registers that hold `value`, and a mask of the bits in them that are the property's.

    Raises ValueError where the value does not fit.
    """
    field = address.field(type_, address.offset)
    size = 2 * address.span(type_)
    if field.bit is None:
        data = encode(field, value)
        mask = b"\xff" * len(data)
    else:
        width = field.bits or 1
        unsigned = Field(0, _UNSIGNED[field.size or 2], field.byte_order, field.word_order)
        data = encode(unsigned, _raw(field, value) << field.bit)
        mask = encode(unsigned, ((1 << width) - 1) << field.bit)
    before = field.offset  # an 8-bit value lies in one half of its register
    return data.rjust(before + len(data), b"\0").ljust(size, b"\0"), mask.rjust(
        before + len(mask), b"\0"
    ).ljust(size, b"\0")


def _raw(field: Field, value: Scalar) -> int:
    """The bits of a bit field, not yet shifted."""
    width = field.bits or 1
    plain = replace(field, offset=0, bit=None, bits=None, byte_order="big", word_order="big", null=None)
    signed = field.type.startswith("int") and width > 1
    raw = int.from_bytes(encode(plain, value), "big", signed=field.type.startswith("int"))
    low, high = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
    if not low <= raw <= high:
        raise ValueError(f"{value!r} does not fit {width} bits: raw {raw} is not in {low} to {high}")
    if field.null is not None and (raw - field.null) % (1 << width) == 0:
        raise ValueError(f"{value!r} can't be told apart from no value: raw {raw} is the code for that")
    return raw & ((1 << width) - 1)


def registers(data: bytes | bytearray | memoryview) -> list[int]:
    """The 16-bit words of register data."""
    return [data[at] << 8 | data[at + 1] for at in range(0, len(data), 2)]


def merged(old: bytes | memoryview, new: bytes, mask: bytes) -> bytes:
    """The old bytes with the masked bits taken from the new ones."""
    return bytes(o & ~m & 0xFF | n & m for o, n, m in zip(old, new, mask, strict=True))


def equal(one: bytes | memoryview, other: bytes, mask: bytes) -> bool:
    """Whether the masked bits are the same."""
    return all((a ^ b) & m == 0 for a, b, m in zip(one, other, mask, strict=True))


def value_of(
    address: ModbusAddress, type_: ValueType, data: bytes | memoryview
) -> tuple[Scalar | None, Quality]:
    """The value in an answer that begins at the address, as the property's type."""
    batches = Layout([address.field(type_, address.offset)], [0]).decode(data, 0)
    return scalar(batches, type_)


def scalar(batches: Sequence[Batch], type_: ValueType) -> tuple[Scalar | None, Quality]:
    """The one value of a layout with one field."""
    batch = batches[0]
    quality = Quality(batch.quality if isinstance(batch.quality, int) else batch.quality[0])
    if quality >= Quality.BAD:
        return None, quality
    value = batch.value[0]
    if type_ == ValueType.BOOL:
        return bool(value), quality
    if type_.is_integer and isinstance(value, float) and value.is_integer():
        return int(value), quality
    return value, quality
