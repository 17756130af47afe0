"""Where a value lies in a record, and how it is read. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from devicemesh.spec.values import ValueType

Order = Literal["big", "little"]

MAX_OFFSET = 1 << 31
TEXTS = (ValueType.STRING, ValueType.BYTES, ValueType.JSON)


@dataclass(frozen=True, slots=True)
class Field:
    """One value in a record.

    The four usual orders of a 32-bit value are ABCD (big, big), CDAB (big, little), BADC (little, big)
    and DCBA (little, little), as (byte_order, word_order): the order of bytes inside a 16-bit word, and
    of the words. A 16-bit value has no word order, a value of one byte has neither. In a string or bytes
    byte_order little means that each pair of bytes is swapped, and word_order has no meaning.

    `bit` counts from the least significant bit of the *ordered* integer. With `bits` it cuts a bit field
    out of an integer type (two's complement if the type is signed and the field wider than one bit).

    A bool is an integer of `length` bytes (1, the default, 2, 4 or 8) of which it is one `bit`; without
    `bit` it is true when the integer is not 0. So bit n of a big-endian 16-bit register is
    `Field(offset, BOOL, bit=n, length=2)`, and coil i of a packed block is `Field(i // 8, BOOL, bit=i % 8)`.

    A string ends at its first NUL. Without `length` a string, bytes or json reaches to the record's end.
    """

    offset: int  # bytes from the start of the record
    type: ValueType  # on the wire
    byte_order: Order = "big"
    word_order: Order = "big"
    bit: int | None = None  # lowest bit of a bit field within the (ordered) integer; also for bool
    bits: int | None = None  # its width; None with `bit` set: 1
    length: int | None = None  # bytes, for string, bytes, json and bool
    encoding: Literal["ascii", "utf-8", "latin-1"] = "ascii"
    scale: float = 1.0  # value = raw * scale + add; either of them makes the value a float64
    add: float = 0.0
    enum: Mapping[int, str] | None = dataclasses.field(default=None, hash=False)
    """Raw code -> word; an unknown code is delivered as its number."""
    null: int | None = None
    """The raw integer (its sign does not matter) by which a device says that it has no value."""

    @property
    def scaled(self) -> bool:
        """Whether the value is a float64 computed from the raw one."""
        return self.scale != 1.0 or self.add != 0.0

    @property
    def size(self) -> int | None:
        """Bytes that it takes; None: all that remain."""
        if self.type in TEXTS:
            return self.length
        return (self.type == ValueType.BOOL and self.length) or self.type.size

    @property
    def width(self) -> int:
        """Bits of its bit field; 0: no bit field."""
        return 0 if self.bit is None else self.bits or 1


def problem(field: Field) -> str | None:
    """Say what is wrong with a field, or None."""
    if not 0 <= field.offset < MAX_OFFSET:
        return f"offset {field.offset} is out of range: 0 to {MAX_OFFSET - 1}"
    if not (math.isfinite(field.scale) and math.isfinite(field.add)) or field.scale == 0:
        return f"scale {field.scale} and add {field.add} must be finite, and scale not 0"
    return _text_problem(field) if field.type in TEXTS else _number_problem(field)


def _number_problem(field: Field) -> str | None:
    if field.enum is not None and (field.scaled or field.type.is_float):
        return "an enum names the codes of an unscaled integer"
    if field.null is not None and not field.type.is_integer:
        return f"a code for no value is an integer's, not a {field.type}'s"
    size = field.size or 0
    bits = field.width or 8 * size
    if field.null is not None and not -(1 << bits - 1) <= field.null < 1 << bits:
        return f"{field.null} for no value does not fit {bits} bits"
    if field.type == ValueType.BOOL:
        if size not in (1, 2, 4, 8):
            return f"a bool lies in 1, 2, 4 or 8 bytes, not {size}"
        if field.bits not in (None, 1):
            return "a bool is one bit"
    elif field.length not in (None, size):
        return f"a {field.type} has {size} bytes, not {field.length}"
    return _bit_problem(field, size * 8)


def _text_problem(field: Field) -> str | None:
    numeric = (field.enum, field.bit, field.bits, field.null)
    if field.scaled or any(one is not None for one in numeric):
        return f"a {field.type} has no scale, enum, bit or code for no value"
    if field.length is not None and not 0 < field.length < MAX_OFFSET:
        return f"length {field.length} is out of range: 1 to {MAX_OFFSET - 1}"
    if field.byte_order == "little" and (field.length or 0) % 2:
        return f"{field.length} bytes can't be swapped in pairs"
    return None


def _bit_problem(field: Field, size_bits: int) -> str | None:
    if field.bit is None:
        return "`bits` needs `bit`" if field.bits is not None else None
    if field.type.is_float:
        return f"a {field.type} has no bits"
    if field.bit < 0 or field.width < 1 or field.bit + field.width > size_bits:
        return f"bit {field.bit} and {field.width} bits reach out of {size_bits} bits"
    return None


def swap_pairs(data: bytes) -> bytes:
    """Swap the bytes of each 16-bit word; an odd last byte stays."""
    swapped = bytearray(data)
    even = len(data) & ~1
    swapped[0:even:2], swapped[1:even:2] = data[1:even:2], data[0:even:2]
    return bytes(swapped)
