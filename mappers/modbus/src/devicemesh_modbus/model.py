"""Where a property lives on a device, as a person writes it."""

from __future__ import annotations

import functools
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from devicemesh import layout
from devicemesh.mapper import Address
from devicemesh.spec.values import Scalar, ValueType

Table = Literal["coil", "discrete", "input", "holding"]
BIT_TABLES: tuple[Table, ...] = ("coil", "discrete")
WRITABLE_TABLES: tuple[Table, ...] = ("coil", "holding")
MAX_REGISTERS = 125
"""Registers in one answer (Modbus Application Protocol V1.1b3, 6.3)."""
MAX_BITS = 2000
"""Coils or discrete inputs in one answer (the same, 6.1)."""
_TEXTS = (ValueType.STRING, ValueType.BYTES)


@functools.lru_cache(8192)
def _shared(enum: tuple[tuple[int, str], ...] | None, **place: Any) -> layout.Field:
    """A field; devices of one model share it."""
    return layout.Field(**place, enum=dict(enum) if enum is not None else None)


class ModbusAddress(Address):
    """Where a property lives. Offsets are those of the wire, from 0: Modicon's 40101 is holding 100."""

    table: Table
    """coil and holding can be written; discrete and input can only be read."""
    offset: int = Field(ge=0, le=65535)
    """The first register or bit, from 0."""
    type: ValueType | None = None
    """How it lies on the wire, if otherwise than the property's type. An 8-bit one is the low byte."""
    length: int | None = Field(default=None, ge=1, le=MAX_REGISTERS)
    """Registers that a string or bytes takes."""
    bit: int | None = Field(default=None, ge=0, le=63)
    """The lowest bit, where only a part of the integer is meant; 0 is the least significant."""
    bits: int | None = Field(default=None, ge=1, le=64)
    """How many bits; 1 by default."""
    byte_order: layout.Order = "big"
    """Of the two bytes of each register."""
    word_order: layout.Order = "big"
    """Of the registers of a value: big is high word first."""
    scale: float = 1.0
    """value = raw x scale + add"""
    add: float = 0.0
    """value = raw x scale + add"""
    no_value: int | None = None
    """The raw code of an integer by which the device says that it has no value, as 32768 or 0xFFFFFFFF."""
    enum: dict[int, str] | None = None
    """Words for an integer's codes; the property is a string."""
    encoding: Literal["ascii", "utf-8", "latin-1"] = "ascii"
    """Of a string."""
    write_function: Literal["single", "multiple", "mask"] | None = None
    """The function to write with: 5 or 6, 15 or 16, 22. By default the first that can do it."""

    @model_validator(mode="after")
    def _fits_table(self) -> Self:
        if self.table in BIT_TABLES:
            extra = self.model_fields_set - {"table", "offset", "write_function"}
            if extra:
                raise ValueError(f"a {self.table} is one bit: it has no `{min(extra)}`")
        if self.bits is not None and self.bit is None:
            raise ValueError("`bits` needs `bit`, the lowest of them")
        if self.write_function is not None and self.table not in WRITABLE_TABLES:
            raise ValueError(f"{_plural(self.table)} can only be read")
        if self.write_function == "mask" and self.table != "holding":
            raise ValueError("writeFunction `mask` is for holding registers")
        return self

    @property
    def is_bit(self) -> bool:
        """Whether the table holds bits instead of registers."""
        return self.table in BIT_TABLES

    def wire(self, type_: ValueType) -> ValueType:
        """The type on the wire of a property of `type_`."""
        if self.is_bit:
            return ValueType.BOOL
        if self.type is not None:
            return self.type
        if type_ != ValueType.BOOL and (self.bit is not None or self.enum is not None):
            return ValueType.INT16 if type_.startswith("int") else ValueType.UINT16
        return type_

    def span(self, type_: ValueType) -> int:
        """How many registers (or bits) a property of `type_` takes."""
        wire = self.wire(type_)
        if self.is_bit:
            return 1
        if wire in _TEXTS:
            return self.length or 1
        return max((wire.size or 2) // 2, 1)

    def text(self, type_: ValueType | None = None) -> str:
        """For people: `holding 100..101`, `coil 3`, `holding 7 bit 2`."""
        last = self.offset + (self.span(type_) if type_ else 1) - 1
        place = f"{self.table} {self.offset}" + (f"..{last}" if last > self.offset else "")
        if self.bit is None:
            return place
        end = self.bit + (self.bits or 1) - 1
        return f"{place} bit {self.bit}" + (f"..{end}" if end > self.bit else "")

    def field(self, type_: ValueType, start: int) -> layout.Field:
        """The place of a property of `type_` in an answer's data that begins at register (or bit) `start`."""
        distance = self.offset - start
        if self.is_bit:
            return layout.Field(distance // 8, ValueType.BOOL, bit=distance % 8)
        wire, length = self.wire(type_), None
        offset = 2 * distance
        if wire in _TEXTS:
            length = 2 * (self.length or 1)
        elif type_ == ValueType.BOOL:
            wire, length = ValueType.BOOL, 2 * self.span(type_)
        elif wire.size == 1:
            offset += self.byte_order == "big"
        enum = tuple(self.enum.items()) if self.enum is not None else None
        return _shared(
            enum,
            offset=offset,
            type=wire,
            byte_order=self.byte_order,
            word_order=self.word_order,
            bit=self.bit,
            bits=self.bits,
            length=length,
            encoding=self.encoding,
            scale=self.scale,
            add=self.add,
            null=self.no_value,
        )

    def refusal(self, type_: ValueType, access: str) -> str | None:
        if access != "ReadOnly" and self.table not in WRITABLE_TABLES:
            return f"{_plural(self.table)} can only be read: make it access: ReadOnly, or use coil or holding"
        if self.is_bit:
            return None if type_ == ValueType.BOOL else f"a {self.table} is a bool, not a {type_}"
        wire = self.wire(type_)
        return self._wrong_type(type_, wire) or self._wrong_size(type_, wire) or self._wrong_function(type_)

    def _wrong_type(self, type_: ValueType, wire: ValueType) -> str | None:
        if ValueType.JSON in (type_, wire):
            return "Modbus carries no json"
        if self.enum is not None:
            if type_ != ValueType.STRING:
                return f"`enum` gives words: the property must be a string, not a {type_}"
            return None if wire.is_integer else f"`enum` needs the codes of an integer, not of a {wire}"
        if wire != type_ and (type_ in _TEXTS or wire in _TEXTS):
            hint = ": give `enum`, or type string and `length`" if type_ == ValueType.STRING else ""
            return f"a {type_} can't be made from a {wire}{hint}"
        if type_ == ValueType.BOOL and (wire.is_float or self.scale != 1.0 or self.add != 0.0):
            return f"a bool can't be made from a {wire}{'' if wire.is_float else ' with `scale` or `add`'}"
        return None

    def _wrong_size(self, type_: ValueType, wire: ValueType) -> str | None:
        if wire in _TEXTS and self.length is None:
            return f"a {wire} needs `length`, in registers"
        if wire not in _TEXTS and self.length is not None:
            return f"`length` is for string and bytes, not for a {wire}"
        if self.offset + self.span(type_) > 65536:
            return f"{self.text(type_)} reaches past the last register, 65535"
        return layout.problem(self.field(type_, self.offset))

    def _wrong_function(self, type_: ValueType) -> str | None:
        if self.write_function in ("single", "mask") and self.span(type_) > 1:
            return f"writeFunction `{self.write_function}` writes one register, not {self.span(type_)}"
        return None

    def nearest(self, type_: ValueType, value: Scalar) -> Scalar:
        if self.is_bit or type_ == ValueType.BOOL:
            return bool(value)
        held: Scalar = layout.nearest(self.field(type_, self.offset), value)
        return int(held) if type_.is_integer and isinstance(held, float) and held.is_integer() else held

    def extent(self, type_: ValueType) -> tuple[str, int, int]:
        return self.table, self.offset, self.offset + self.span(type_) - 1

    def overlap(self, other: Self, type_: ValueType, other_type: ValueType) -> str | None:
        """Parts of a register (bits, bytes) may lie inside a wider value; equal readings are no collision."""
        if self.table != other.table:
            return None
        mine, theirs = self.span(type_), other.span(other_type)
        if self.offset >= other.offset + theirs or other.offset >= self.offset + mine:
            return None
        if (
            self._is_part(type_)
            or other._is_part(other_type)
            or self._reads_as(type_) == other._reads_as(other_type)
        ):
            return None
        one, two = (f"{a.text(t)} as {a.wire(t)}" for a, t in ((self, type_), (other, other_type)))
        return f"{one} and {two}"

    def _is_part(self, type_: ValueType) -> bool:
        return self.bit is not None or self.wire(type_) in (ValueType.INT8, ValueType.UINT8, ValueType.BYTES)

    def _reads_as(self, type_: ValueType) -> tuple[object, ...]:
        return (self.offset, self.span(type_), self.wire(type_), self.byte_order, self.word_order)


def _plural(table: Table) -> str:
    names = {"coil": "coils", "discrete": "discrete inputs"}
    return names.get(table, f"{table} registers")
