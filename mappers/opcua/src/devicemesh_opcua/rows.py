"""DataValues -> columns. Pure.

Values of one shape follow one another: the first bytes of each say so, so that a whole run of them is cut
into columns at once, with no Python per value. What is of no such shape is decoded by itself.
"""

from __future__ import annotations

import functools
import math
import struct
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from devicemesh.mapper import Batch, MapperError, PointError, Quality
from devicemesh.spec.values import ValueType
from devicemesh_opcua import status as codes
from devicemesh_opcua.binary import (
    BOOLEAN,
    DOUBLE,
    FLOAT,
    INT64,
    NUMBERS,
    UINT64,
    DecodeError,
    Typed,
    data_value,
    length,
)
from devicemesh_opcua.convert import EPOCH_TICKS, LAST_TICKS, UnknownCodeError, Want, converted, unix_ns
from devicemesh_opcua.datatypes import DataTypes, Words
from devicemesh_opcua.model import OpcUaPoint

MIN_RUN = 4
"""A shorter run is not worth its set-up."""


class Expected:
    """What the slots of a request or a subscription hold: which types may go into which column unseen."""

    def __init__(self, slots: Iterable[tuple[int, ValueType, bool]]) -> None:
        """Each slot with its property's type, and whether it is one element of an array."""
        self.wants = {slot: Want(type_, single) for slot, type_, single in slots}
        plain = {slot: want.type for slot, want in self.wants.items() if not want.single}
        floats = {slot for slot, type_ in plain.items() if type_.is_float}
        whole = {slot for slot, type_ in plain.items() if type_.is_integer}
        truths = {slot for slot, type_ in plain.items() if type_ == ValueType.BOOL}
        numbers = floats | whole
        self.fit: dict[int, set[int]] = dict.fromkeys(NUMBERS, numbers)
        self.fit |= {BOOLEAN: truths, FLOAT: floats, DOUBLE: floats}

    def read(self, words: Mapping[int, Words]) -> None:
        """These slots hold enumerations, and want their words."""
        for slot, known in words.items():
            self.wants[slot] = self.wants[slot]._replace(words=known)


def expected(points: Iterable[OpcUaPoint]) -> Expected:
    """What these points hold."""
    return Expected((point.slot, point.type, point.address.single) for point in points)


class _Loose:
    """Rows that were decoded one by one."""

    def __init__(self) -> None:
        self.good: list[tuple[int, int, Any, int]] = []  # slot, time, value, quality
        self.bad: dict[tuple[int, str], list[tuple[int, int]]] = {}  # (status, why) -> slots and times

    def batches(self, link: str) -> Iterator[Batch]:
        if self.good:
            slots, times, values, qualities = zip(*self.good, strict=True)
            yield Batch(array("I", slots), array("q", times), list(values), array("B", qualities))
        for (status, why), rows in self.bad.items():
            error: MapperError = PointError(why, reason="WrongType") if why else codes.error(link, status)
            quality = Quality.UNDECODABLE if why else codes.quality(status)
            slots, times = zip(*rows, strict=True)
            yield bad(slots, array("q", times), quality, error)


def bad(slots: Sequence[int], time_ns: int | array[int], quality: Quality, error: MapperError) -> Batch:
    """Rows without a value."""
    return Batch(array("I", slots), time_ns, array("d", [math.nan]) * len(slots), int(quality), error)


@functools.lru_cache(512)
def _shape(flags: int, kind: int, handles: bool) -> tuple[struct.Struct, int, bool, bool] | None:
    """Of a DataValue with one number: its struct, and whether it has a status and a time."""
    letter = NUMBERS.get(kind)
    if letter is None or not flags & 0x01 or flags & 0xC0:
        return None
    if letter == "?":
        letter = "B"  # any byte but 0 is true (Part 6, 5.2.2.1)
    text = ("I" if handles else "") + "2x" + letter
    text += "I" if flags & 0x02 else ""
    text += "q" if flags & 0x04 else ""
    text += "2x" if flags & 0x10 else ""
    if flags & 0x08:
        text += "8x" if flags & 0x04 else "q"
    text += "2x" if flags & 0x20 else ""
    return struct.Struct("<" + text), 4 if handles else 0, bool(flags & 0x02), bool(flags & 0x0C)


def _run(data: bytes, at: int, count: int, offset: int, size: int) -> int:
    """How many records of `size` bytes have the first one's two bytes at `offset`."""
    count = min(count, (len(data) - at) // size)
    end = at + count * size
    first = at + offset
    for place in (first, first + 1):
        column = data[place:end:size]
        count = min(count, len(column) - len(column.lstrip(data[place : place + 1])))
        end = at + count * size
    return count


class Decoder:
    """Turns the DataValues of one message after another into batches."""

    def __init__(
        self,
        link: str,
        expected: Expected,
        types: DataTypes | None = None,
        lost: Counter[str] | None = None,
    ) -> None:
        """`lost` counts, by reason, rows that did not get here."""
        self._link = link
        self.expected = expected
        self._types = types
        self.lost: Counter[str] = Counter() if lost is None else lost

    @property
    def overflows(self) -> int:
        """Rows before which the server has lost some."""
        return self.lost["server_queue"]

    @property
    def strangers(self) -> int:
        """Rows of items that are none of ours."""
        return self.lost["unknown_item"]

    def changes(self, notification: bytes, now_ns: int) -> list[Batch]:
        """The rows of a DataChangeNotification, whose client handles are slots. Raises DecodeError."""
        count, at = length(notification, 0, 5)
        return self._decode(notification, at, count, None, now_ns)[0]

    def values(self, body: bytes, at: int, slots: Sequence[int], now_ns: int) -> list[Batch]:
        """The DataValues from `at` on, one for each slot. Raises DecodeError."""
        return self._decode(body, at, len(slots), slots, now_ns)[0]

    def _decode(
        self, data: bytes, at: int, count: int, slots: Sequence[int] | None, now_ns: int
    ) -> tuple[list[Batch], int]:
        batches: list[Batch] = []
        loose = _Loose()
        done, prefix = 0, 0 if slots is not None else 4
        while done < count:
            if at + prefix + 2 <= len(data) and count - done >= MIN_RUN:
                shape = _shape(data[at + prefix], data[at + prefix + 1], slots is None)
                if shape is not None:
                    run = _run(data, at, count - done, prefix, shape[0].size)
                    if run >= MIN_RUN:
                        end = at + run * shape[0].size
                        part = None if slots is None else slots[done : done + run]
                        batch = self._columns(data[at:end], data[at + prefix + 1], shape, part, now_ns)
                        if batch is not None:
                            batches.append(batch)
                            at, done = end, done + run
                            continue
            for _ in range(min(MIN_RUN, count - done)):
                at = self._one(data, at, None if slots is None else slots[done], now_ns, loose)
                done += 1
        batches.extend(loose.batches(self._link))
        return batches, at

    def _columns(
        self,
        records: bytes,
        kind: int,
        shape: tuple[struct.Struct, int, bool, bool],
        slots: Sequence[int] | None,
        now_ns: int,
    ) -> Batch | None:
        """A run as one batch; None where it needs a look at each row."""
        form, _, has_status, has_time = shape
        columns = list(zip(*form.iter_unpack(records), strict=True))
        handles = slots if slots is not None else columns.pop(0)
        if not self.expected.fit[kind].issuperset(handles):
            return None
        values: array[Any]
        try:
            values = array("q" if kind in (INT64, UINT64) else "d", columns[0])
        except OverflowError:
            return None
        if kind == BOOLEAN:
            values = array("d", map(bool, columns[0]))
        if has_status and any(columns[1]):
            return None
        times: int | array[int] = now_ns
        if has_time:
            ticks = columns[2 if has_status else 1]
            if min(ticks) <= EPOCH_TICKS or max(ticks) > LAST_TICKS:
                return None
            times = array("q", [(tick - EPOCH_TICKS) * 100 for tick in ticks])
        return Batch(array("I", handles), times, values)

    def _one(self, data: bytes, at: int, slot: int | None, now_ns: int, loose: _Loose) -> int:
        if slot is None:
            if at + 4 > len(data):
                raise DecodeError("the message ends inside a notification")
            slot, at = int.from_bytes(data[at : at + 4], "little"), at + 4
        held, status, ticks, at = data_value(data, at)
        want = self.expected.wants.get(slot)
        if want is None:
            self.lost["unknown_item"] += 1
            return at
        time_ns = unix_ns(ticks, now_ns)
        if status & codes.OVERFLOW == codes.OVERFLOW:
            self.lost["server_queue"] += 1
        quality = codes.quality(status)
        if quality >= Quality.BAD:
            loose.bad.setdefault((status & 0xFFFF0000, ""), []).append((slot, now_ns))
            return at
        try:
            loose.good.append((slot, time_ns, converted(held, want, self._types), quality))
        except UnknownCodeError as error:
            loose.good.append((slot, time_ns, str(error), Quality.UNKNOWN_CODE))
        except ValueError as error:
            loose.bad.setdefault((0, str(error)), []).append((slot, now_ns))
        return at


def single(
    link: str, held: Typed, status: int, want: Want, types: DataTypes | None = None
) -> tuple[Any, Quality]:
    """One value and its quality. Raises PointError where it is bad or of the wrong type."""
    quality = codes.quality(status)
    if quality >= Quality.BAD:
        raise codes.error(link, status)
    try:
        return converted(held, want, types), quality
    except UnknownCodeError as error:
        return str(error), Quality.UNKNOWN_CODE
    except ValueError as error:
        raise PointError(str(error), reason="WrongType") from error
