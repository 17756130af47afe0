"""Bytes of one answer -> columns, through a C decode plan."""

from __future__ import annotations

import functools
import json
import math
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

from devicemesh._core._native import Plan
from devicemesh.layout.field import TEXTS, Field, problem, swap_pairs
from devicemesh.mapper import Batch, MapperError, PointError, Quality
from devicemesh.spec.values import ValueType

_ORDERS = {("big", "big"): 0, ("little", "little"): 1, ("little", "big"): 2, ("big", "little"): 3}
_UNSIGNED, _SIGNED, _FLOAT, _BOOL = range(4)


def _op(field: Field) -> tuple[int, int, int, int, int, int, bool, float, float, bool, int]:
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
        field.scaled, field.scale, field.add, field.null is not None, (field.null or 0) % (1 << 64),
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
        self.texts = tuple(one for one in placed if one[1].type in TEXTS)
        numbers = [one for one in placed if one[1].enum is None and one[1].type not in TEXTS]
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
        read, and BAD is one that is null; the others are not harmed. An unsigned 64-bit value beyond int64
        is delivered as an object.
        """
        plan = self._form.only_floats
        if plan is None:
            return self._decode_parts(record, time_ns)
        values, quality = plan.decode(record)  # nearly always
        error = None if quality == 0 else self._missing(record)
        return [Batch(self._slots, time_ns, values, quality, error)]

    def bad(self, time_ns: int, quality: Quality, error: MapperError | None) -> list[Batch]:
        """All fields of the record as bad rows."""
        if not self._slots:
            return []
        return [Batch(self._slots, time_ns, _nan(len(self._slots)), int(quality), error)]

    def _missing(self, record: bytes | bytearray | memoryview) -> PointError:
        """Why not every number is there."""
        if memoryview(record).nbytes < self._form.reach:
            return self._too_short(record)
        return PointError("the device says that it has no value", reason="NoValue")

    def _too_short(self, record: bytes | bytearray | memoryview) -> PointError:
        size = memoryview(record).nbytes
        reach = self._form.reach
        return PointError(f"the answer has {size} bytes, its layout {reach}", reason="Undecodable")

    def _column(
        self, plan: Plan, slots: array[int], record: bytes | bytearray | memoryview, time_ns: int
    ) -> Batch:
        """The batch of one typed column."""
        values, quality = plan.decode(record)
        error = None if quality == 0 else self._missing(record)
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
            return self._missing(record) if Quality.BAD in qualities else None
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


def _text(field: Field, record: bytes | bytearray | memoryview) -> tuple[Any, int]:
    """Read a string, bytes or json: (value, quality)."""
    end = None if field.length is None else field.offset + field.length
    whole = memoryview(record).cast("B")
    if field.offset > len(whole) or (end is not None and end > len(whole)):
        return None, Quality.UNDECODABLE
    data = bytes(whole[field.offset : end])
    if field.byte_order == "little":
        data = swap_pairs(data)
    if field.type == ValueType.BYTES:
        return data, Quality.GOOD
    try:
        if field.type == ValueType.JSON:
            return json.loads(data.partition(b"\0")[0]), Quality.GOOD
        return data.partition(b"\0")[0].decode(field.encoding), Quality.GOOD
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        return None, Quality.UNDECODABLE
