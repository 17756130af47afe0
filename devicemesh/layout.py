"""Declared binary layouts: bytes of one answer -> columns, through a C decode plan.

A `Field` says where a value lies in a record and how to read it. A `Layout` compiles the fields of one
record (a block of registers, a characteristic, a payload) once; `Layout.decode` then turns each answer
into at most three batches (floats, 64-bit integers, objects) with no Python per value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from devicemesh.mapper import Batch, MapperError, Quality
from devicemesh.spec.values import Scalar, ValueType

Order = Literal["big", "little"]


@dataclass(frozen=True, slots=True)
class Field:
    """One value in a record.

    The four usual orders of a 32-bit value are ABCD (big, big), CDAB (big, little), BADC (little, big)
    and DCBA (little, little), as (byte_order, word_order): the order of bytes inside a 16-bit word, and
    of the words. A value of one byte has neither; `length` counts bytes.
    """

    offset: int  # bytes from the start of the record
    type: ValueType  # on the wire
    byte_order: Order = "big"
    word_order: Order = "big"
    bit: int | None = None  # lowest bit of a bit field within the (ordered) integer; also for bool
    bits: int | None = None  # its width; None with `bit` set: 1
    length: int | None = None  # bytes, for string and bytes
    encoding: Literal["ascii", "utf-8", "latin-1"] = "ascii"
    scale: float = 1.0  # value = raw * scale + add; either of them makes the value a float64
    add: float = 0.0
    enum: Mapping[int, str] | None = None  # raw code -> word; an unknown code is delivered as its number


class Layout:
    """The compiled fields of one record; `slots[i]` names `fields[i]`."""

    def __init__(self, fields: Sequence[Field], slots: Sequence[int]) -> None: ...

    def decode(self, record: bytes | bytearray | memoryview, time_ns: int) -> list[Batch]:
        """Decode one record; a field that reaches past its end is UNDECODABLE, the others are not harmed."""
        ...

    def bad(self, time_ns: int, quality: Quality, error: MapperError | None) -> list[Batch]:
        """All fields of the record as bad rows."""
        ...


def encode(field: Field, value: Scalar) -> bytes:
    """The inverse of decoding, for writes: scale undone and rounded, range checked. Raises ValueError."""
    ...


def interpretations(record: bytes) -> list[tuple[str, Scalar]]:
    """Every plausible reading of the first bytes of a record, for `devicemesh read --as all`."""
    ...
