"""The readable twin of the C core: one series, its windows and its values."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from devicemesh._core import reference_record as record
from devicemesh._core.reference_record import Value
from devicemesh._core.tagged import Tag

FLOAT, INTEGER, BOOLEAN, OBJECT, FLOAT32 = range(5)  # kinds
MAX_EXACT = 1 << 53


@dataclass
class Reported:
    """What was reported of a series last."""

    time: int
    quality: int
    value: Value


@dataclass
class Series:
    stream: int
    property: int
    kind: int
    report: int
    mask: int
    absolute: float
    fraction: float
    silence: int
    length: int
    lateness: int
    limits: Sequence[tuple[bool, float, float, int]]
    active: list[bool] = field(default_factory=list)
    latest: tuple[int, int, Value] | None = None  # time, quality, value
    reported: Reported | None = None
    windows: dict[int, Window] = field(default_factory=dict)  # by start


@dataclass
class Window:
    rows: list[tuple[int, float]] = field(default_factory=list)  # time, number, in order of arrival
    bad: int = 0

    def statistics(self) -> list[float]:
        """Mean, min, max, first, last, sample standard deviation; NaN where there is none."""
        if not self.rows:
            return [math.nan] * 6
        numbers = [number for _, number in self.rows]
        count, shift, total, squares = len(numbers), numbers[0], 0.0, 0.0
        for number in numbers:  # not sum(): newer Pythons compensate it
            total += number - shift
            squares += (number - shift) * (number - shift)
        low, high = min(numbers), max(numbers)
        mean = shift + total / count if math.isfinite(total) else math.nan
        variance = (squares - total * total / count) / (count - 1) if count > 1 else math.nan
        deviation = math.sqrt(max(variance, 0.0)) if math.isfinite(variance) else math.nan
        first = min(self.rows, key=lambda row: row[0])[1]
        last = max(enumerate(self.rows), key=lambda row: (row[1][0], row[0]))[1][1]
        return [mean, low, high, first, last, deviation]


def text_valid(value: Value) -> bool:
    if len(value.plain) > record.MAX_TEXT_BYTES:
        return False
    try:
        if value.tag == Tag.JSON:
            json.loads(value.plain, parse_constant=_refuse)
        elif value.tag == Tag.STRING:
            value.plain.decode()
    except ValueError:
        return False
    return True


def _refuse(word: str) -> None:
    raise ValueError(word)


def of_kind(kind: int, value: Value) -> Value:
    """The value as a series of this kind has it; nothing is cut off."""
    if value.is_text or kind == OBJECT:
        return Value(value.tag, bool(value.plain)) if value.tag == Tag.BOOLEAN else value
    if kind == BOOLEAN:
        return Value(Tag.BOOLEAN, value.plain != 0)
    if kind == INTEGER:
        if not value.is_float:
            return Value(Tag.INTEGER, int(value.plain))
        whole = abs(value.plain) <= MAX_EXACT and value.plain == int(value.plain)
        return Value(Tag.INTEGER, int(value.plain)) if whole else value
    number = float(value.plain)
    return Value(Tag.FLOAT32 if kind == FLOAT32 and record.is_float32(number) else Tag.FLOAT, number)


def differs(series: Series, last: Reported | None, value: Value) -> bool:
    if last is None or value.is_text or last.value.is_text:
        return last is None or value != last.value
    new, old = value.plain, last.value.plain
    if value.tag == Tag.BOOLEAN:
        return bool(new != old)
    if value.is_float or last.value.is_float:
        new, old = float(new), float(old)
    return bool(float(abs(new - old)) > max(series.absolute, abs(float(old)) * series.fraction))
