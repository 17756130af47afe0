"""Declared binary layouts: bytes of one answer -> columns, through a C decode plan.

A `Field` says where a value lies in a record and how to read it. A `Layout` compiles the fields of one
record (a block of registers, a characteristic, a payload) once; `Layout.decode` then turns each answer
into at most three batches (floats, 64-bit integers, objects) with no Python per number.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import struct
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from devicemesh._core._native import Plan
from devicemesh.mapper import Batch, MapperError, PointError, Quality
from devicemesh.spec.values import INTEGER_RANGES, Scalar, ValueType

Order = Literal["big", "little"]

MAX_OFFSET = 1 << 31
_TEXTS = (ValueType.STRING, ValueType.BYTES, ValueType.JSON)
_ORDERS = {("big", "big"): 0, ("little", "little"): 1, ("little", "big"): 2, ("big", "little"): 3}
_UNSIGNED, _SIGNED, _FLOAT, _BOOL = range(4)
_STRUCT = {ValueType.FLOAT16: ">e", ValueType.FLOAT32: ">f", ValueType.FLOAT64: ">d"}


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

    @property
    def scaled(self) -> bool:
        """Whether the value is a float64 computed from the raw one."""
        return self.scale != 1.0 or self.add != 0.0

    @property
    def size(self) -> int | None:
        """Bytes that it takes; None: all that remain."""
        if self.type in _TEXTS:
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
    return _text_problem(field) if field.type in _TEXTS else _number_problem(field)


def _number_problem(field: Field) -> str | None:
    if field.enum is not None and (field.scaled or field.type.is_float):
        return "an enum names the codes of an unscaled integer"
    size = field.size or 0
    if field.type == ValueType.BOOL:
        if size not in (1, 2, 4, 8):
            return f"a bool lies in 1, 2, 4 or 8 bytes, not {size}"
        if field.bits not in (None, 1):
            return "a bool is one bit"
    elif field.length not in (None, size):
        return f"a {field.type} has {size} bytes, not {field.length}"
    return _bit_problem(field, size * 8)


def _text_problem(field: Field) -> str | None:
    if field.scaled or field.enum is not None or field.bit is not None or field.bits is not None:
        return f"a {field.type} has no scale, enum or bit"
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


def _op(field: Field) -> tuple[int, int, int, int, int, int, bool, float, float]:
    """The field as an op of a decode plan (decode.h)."""
    if field.type == ValueType.BOOL:
        kind = _BOOL
    elif field.type.is_float:
        kind = _FLOAT
    else:
        kind = _SIGNED if field.type.startswith("int") and field.width != 1 else _UNSIGNED
    order = _ORDERS[field.byte_order, field.word_order]
    return (
        field.offset, field.size or 0, kind, order, field.bit or 0, field.width,
        field.scaled, field.scale, field.add,
    )  # fmt: skip


def _is_wide(field: Field) -> bool:
    """Whether a float64 might not hold it exactly."""
    bits = field.width or 8 * (field.size or 0)
    return field.type.is_integer and not field.scaled and bits > 32


@functools.lru_cache(256)
def _nan(rows: int) -> array[float]:
    """The values of bad rows."""
    return array("d", [math.nan]) * rows


class _Columns:
    """Fields whose values share one typed column; `rows` are their places in the layout."""

    __slots__ = ("fields", "plan", "rows", "unsigned")

    def __init__(self, placed: Sequence[tuple[int, Field]], *, integers: bool) -> None:
        self.rows = tuple(row for row, _ in placed)
        self.fields = tuple(field for _, field in placed if integers)  # of floats nothing more is asked
        self.plan = Plan(tuple(_op(field) for _, field in placed), integers)
        self.unsigned = tuple(i for i, (_, field) in enumerate(placed) if field.type == ValueType.UINT64)


class _Form:
    """What the layouts of equal fields share, those of the devices of one model: all but the slots."""

    __slots__ = ("codes", "floats", "integers", "only_floats", "reach", "texts")

    def __init__(self, fields: Sequence[Field]) -> None:
        for row, field in enumerate(fields):
            if wrong := problem(field):
                raise ValueError(f"field {row} ({field.type} at {field.offset}): {wrong}")
        placed = list(enumerate(fields))
        self.texts = tuple(one for one in placed if one[1].type in _TEXTS)
        numbers = [one for one in placed if one[1].enum is None and one[1].type not in _TEXTS]
        self.floats = _columns((one for one in numbers if not _is_wide(one[1])), integers=False)
        self.integers = _columns((one for one in numbers if _is_wide(one[1])), integers=True)
        self.codes = _columns((one for one in placed if one[1].enum is not None), integers=True)
        rest = self.integers or self.codes or self.texts
        self.only_floats = self.floats.plan if self.floats and not rest else None
        self.reach = max((field.offset + (field.size or 0) for field in fields), default=0)


def _columns(placed: Iterable[tuple[int, Field]], *, integers: bool) -> _Columns | None:
    several = list(placed)
    return _Columns(several, integers=integers) if several else None


_form = functools.lru_cache(1024)(_Form)
_NO_SLOTS = array("I")


class Layout:
    """The compiled fields of one record; `slots[i]` names `fields[i]`."""

    __slots__ = ("_float_slots", "_form", "_integer_slots", "_slots")

    def __init__(self, fields: Sequence[Field], slots: Sequence[int]) -> None:
        """Compile. Raises ValueError naming the first field that is wrong."""
        if len(fields) != len(slots):
            raise ValueError(f"{len(fields)} fields, but {len(slots)} slots")
        self._form = form = _form(tuple(fields))
        self._slots = array("I", slots)
        self._float_slots = self._of(form.floats)
        self._integer_slots = self._of(form.integers)

    def _of(self, columns: _Columns | None) -> array[int]:
        """The slots of these columns."""
        if columns is None:
            return _NO_SLOTS
        whole = len(columns.rows) == len(self._slots)
        return self._slots if whole else array("I", [self._slots[row] for row in columns.rows])

    def decode(self, record: bytes | bytearray | memoryview, time_ns: int) -> list[Batch]:
        """Decode one record into batches of float64, int64 and objects, each only if it has rows.

        A field that reaches past the record's end is UNDECODABLE, as is text that its encoding can't
        read; the others are not harmed. An unsigned 64-bit value beyond int64 is delivered as an object.
        """
        plan = self._form.only_floats
        if plan is None:
            return self._decode_parts(record, time_ns)
        values, quality = plan.decode(record)  # nearly always
        error = None if quality == 0 else self._too_short(record)
        return [Batch(self._slots, time_ns, values, quality, error)]

    def bad(self, time_ns: int, quality: Quality, error: MapperError | None) -> list[Batch]:
        """All fields of the record as bad rows."""
        if not self._slots:
            return []
        return [Batch(self._slots, time_ns, _nan(len(self._slots)), int(quality), error)]

    def _too_short(self, record: bytes | bytearray | memoryview) -> PointError:
        size = memoryview(record).nbytes
        reach = self._form.reach
        return PointError(f"the answer has {size} bytes, its layout {reach}", reason="Undecodable")

    def _column(
        self, plan: Plan, slots: array[int], record: bytes | bytearray | memoryview, time_ns: int
    ) -> Batch:
        """The batch of one typed column."""
        values, quality = plan.decode(record)
        error = None if quality == 0 else self._too_short(record)
        return Batch(slots, time_ns, values, quality, error)

    def _decode_parts(self, record: bytes | bytearray | memoryview, time_ns: int) -> list[Batch]:
        form, batches, rows = self._form, list[Batch](), _Objects()
        if (floats := form.floats) is not None:
            batches.append(self._column(floats.plan, self._float_slots, record, time_ns))
        if (integers := form.integers) is not None:
            batch = self._column(integers.plan, self._integer_slots, record, time_ns)
            huge = [row for row in integers.unsigned if batch.value[row] < 0]
            for row in huge:
                rows.append(self._integer_slots[row], int(batch.value[row]) + (1 << 64), Quality.GOOD)
            batches.append(_without(batch, huge) if huge else batch)
        if (codes := form.codes) is not None:
            values, quality = codes.plan.decode(record)
            for at, (row, field) in enumerate(zip(codes.rows, codes.fields, strict=True)):
                failed = quality if isinstance(quality, int) else quality[at]
                rows.append(self._slots[row], *((None, failed) if failed else _word(field, int(values[at]))))
        for row, field in form.texts:
            rows.append(self._slots[row], *_text(field, record))
        if rows.slots:
            error = self._why(rows.qualities, record)
            slots, qualities = array("I", rows.slots), array("B", rows.qualities)
            batches.append(Batch(slots, time_ns, rows.values, qualities, error))
        return [batch for batch in batches if batch.slot]

    def _why(self, qualities: Sequence[int], record: bytes | bytearray | memoryview) -> PointError | None:
        if Quality.UNDECODABLE not in qualities:
            return None
        if memoryview(record).nbytes < self._form.reach:
            return self._too_short(record)
        return PointError("a text in the answer is not in its declared encoding", reason="Undecodable")


class _Objects:
    """Rows of an object batch under construction."""

    def __init__(self) -> None:
        self.slots: list[int] = []
        self.values: list[Any] = []
        self.qualities: list[int] = []

    def append(self, slot: int, value: Any, quality: int) -> None:
        self.slots.append(slot)
        self.values.append(value)
        self.qualities.append(quality)


def _without(batch: Batch, rows: Sequence[int]) -> Batch:
    """An integer batch of one time, some of its rows left out."""
    keep = [row for row in range(len(batch.slot)) if row not in rows]
    quality = batch.quality
    return Batch(
        array("I", [batch.slot[row] for row in keep]),
        batch.time_ns,
        array("q", [batch.value[row] for row in keep]),
        quality if isinstance(quality, int) else array("B", [quality[row] for row in keep]),
        batch.error,
    )


def _word(field: Field, code: int) -> tuple[str | int, int]:
    word = (field.enum or {}).get(code)
    return (code, Quality.UNKNOWN_CODE) if word is None else (word, Quality.GOOD)


def _swap_pairs(data: bytes) -> bytes:
    """Swap the bytes of each 16-bit word; an odd last byte stays."""
    swapped = bytearray(data)
    even = len(data) & ~1
    swapped[0:even:2], swapped[1:even:2] = data[1:even:2], data[0:even:2]
    return bytes(swapped)


def _text(field: Field, record: bytes | bytearray | memoryview) -> tuple[Any, int]:
    """Read a string, bytes or json: (value, quality)."""
    end = None if field.length is None else field.offset + field.length
    whole = memoryview(record).cast("B")
    if field.offset > len(whole) or (end is not None and end > len(whole)):
        return None, Quality.UNDECODABLE
    data = bytes(whole[field.offset : end])
    if field.byte_order == "little":
        data = _swap_pairs(data)
    if field.type == ValueType.BYTES:
        return data, Quality.GOOD
    try:
        if field.type == ValueType.JSON:
            return json.loads(data.partition(b"\0")[0]), Quality.GOOD
        return data.partition(b"\0")[0].decode(field.encoding), Quality.GOOD
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        return None, Quality.UNDECODABLE


def encode(field: Field, value: Scalar) -> bytes:
    """The inverse of decoding, for writes: scale undone and rounded, range checked.

    Raises ValueError where the value does not fit, and for a bit field, which takes a mask write.
    """
    if wrong := problem(field):
        raise ValueError(wrong)
    if field.type in _TEXTS:
        return _encode_text(field, value)
    if field.bit is not None:
        raise ValueError("a bit field shares its word with others: it takes a mask write")
    if isinstance(value, str) and field.enum is not None:
        codes = [code for code, word in field.enum.items() if word == value]
        if not codes:
            raise ValueError(f"{value!r} is none of {', '.join(field.enum.values())}")
        value = codes[0]
    if not isinstance(value, bool | int | float):
        raise ValueError(f"{value!r} is not a number")
    size = field.size or 0
    if field.type.is_float:
        return _ordered(field, _pack_float(field, (float(value) - field.add) / field.scale))
    raw = _raw_integer(field, value)
    low, high = (0, 1) if field.type == ValueType.BOOL else INTEGER_RANGES[field.type]
    if not low <= raw <= high:
        raise ValueError(f"{value!r} does not fit {field.type}: raw {raw} is not in {low} to {high}")
    return _ordered(field, raw.to_bytes(size, "big", signed=low < 0))


def nearest(field: Field, value: Scalar) -> Any:
    """What decoding gives once `value` was encoded: scaled, rounded, as wide as the type on the wire.

    Raises ValueError where it does not fit.
    """
    alone = replace(field, offset=0, bit=None, bits=None)
    return Layout([alone], [0]).decode(encode(alone, value), 0)[0].value[0]


def _raw_integer(field: Field, value: float) -> int:
    if field.scaled:
        unscaled = (value - field.add) / field.scale
        if not math.isfinite(unscaled):
            raise ValueError(f"{value!r} is not a finite number")
        return round(unscaled)
    if not math.isfinite(value) or value != int(value):
        raise ValueError(f"{value!r} is not an integer")
    return int(value)


def _pack_float(field: Field, raw: float) -> bytes:
    if not math.isfinite(raw):
        raise ValueError(f"{raw!r} is not a finite number")
    try:
        return struct.pack(_STRUCT[field.type], raw)
    except OverflowError as problem:
        raise ValueError(f"{raw!r} does not fit {field.type}") from problem


def _encode_text(field: Field, value: Scalar) -> bytes:
    if field.type == ValueType.JSON:
        data = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    elif field.type == ValueType.STRING and isinstance(value, str):
        data = value.encode(field.encoding)
    elif field.type == ValueType.BYTES and isinstance(value, bytes):
        data = value
    else:
        raise ValueError(f"{value!r} is not a {field.type}")
    if field.length is not None:
        if len(data) > field.length:
            raise ValueError(f"{len(data)} bytes do not fit in {field.length}")
        if field.type == ValueType.BYTES and len(data) < field.length:
            raise ValueError(f"{len(data)} bytes where {field.length} are declared")
        data = data.ljust(field.length, b"\0")
    return _swap_pairs(data) if field.byte_order == "little" else data


def _ordered(field: Field, big: bytes) -> bytes:
    """Lay a big-endian value out in the field's order."""
    if len(big) == 1:
        return big
    if field.word_order == "little":
        big = b"".join(big[at : at + 2] for at in range(len(big) - 2, -1, -2))
    return _swap_pairs(big) if field.byte_order == "little" else big
