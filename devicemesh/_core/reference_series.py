"""The readable twin of the C core: one series, its windows and its values."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from devicemesh._core import reference_record as record
from devicemesh._core.reference_record import Value
from devicemesh._core.reference_sketch import Rule, Sketch
from devicemesh._core.tagged import Tag

FLOAT, INTEGER, BOOLEAN, OBJECT, FLOAT32 = range(5)  # kinds
MAX_EXACT = 1 << 53
DETAILED = record.STATISTICS.index("timeAverage")  # the bit from which on they need more than the values
TIMED = ("timeAverage", "percentGood", "durationNonzero")
RULE = Rule(0.01, 2048)


@dataclass
class Reported:
    """What was reported of a series last."""

    time: int
    quality: int
    value: Value


@dataclass
class Alarm:
    active: bool = False
    since: int | None = None  # pending: the time of the first value beyond the limit,
    value: float = math.nan  # and the newest


@dataclass
class Series:
    stream: int
    property: int
    kind: int
    report: int
    mask: int
    quantiles: Sequence[int]  # in thousandths of a percent
    absolute: float
    fraction: float
    silence: int
    pause: int
    length: int
    lateness: int
    limits: Sequence[tuple[bool, float, float, int, int]]  # above, limit, clear, delay, carry
    alarms: list[Alarm] = field(default_factory=list)  # by limit
    latest: tuple[int, int, Value] | None = None  # time, quality, value
    reported: Reported | None = None
    said: int = 0  # when that was, by our clock
    held: bool = False  # a change was dropped for the pause
    windows: dict[int, Window] = field(default_factory=dict)  # by start
    newest: tuple[int, bool] | None = None  # time of the newest row, and whether it has a value
    value: float | None = None  # the newest
    until: int = 0  # up to here it has its weight in the windows

    def detailed(self) -> bool:
        return bool(self.mask >> DETAILED or self.quantiles)

    def timed(self) -> bool:
        """It has a window in every span in which its value is known."""
        return any(self.mask >> record.STATISTICS.index(name) & 1 for name in TIMED)

    def in_order(self, time: int) -> bool:
        return self.newest is None or time >= self.newest[0]

    def known(self) -> bool:
        return self.newest is not None and self.newest[1]

    def hold_in(self, start: int, until: int) -> None:
        """The newest value holds until then, in the window that starts at `start`."""
        self._hold(self.windows[start], max(self.until, start), until)
        self.until = max(self.until, until)

    def step(self, start: int, time: int, number: float | None) -> None:
        """A row in order, of the window that starts at `start`."""
        self.hold_in(start, time)
        self.newest, self.until = (time, number is not None), time
        if number is not None:
            if self.value is not None:
                self.windows[start].step(self.value, number)
            self.value = number

    def _hold(self, window: Window, since: int, until: int) -> None:
        if self.known() and self.value is not None and since < until:
            if not window.known:
                window.base = self.value
            window.known += until - since
            window.held += (self.value - window.base) * float(until - since)
            window.nonzero += until - since if self.value != 0 else 0


@dataclass
class Window:
    rows: list[tuple[int, float]] = field(default_factory=list)  # time, number, in order of arrival
    bad: int = 0
    known: int = 0  # ns with a known value
    nonzero: int = 0  # of them, with another than zero
    base: float = 0.0  # the value that was known first
    held: float = 0.0  # integral of (value - base) over the known time
    transitions: int = 0
    resets: int = 0
    increase: float = 0.0

    def step(self, before: float, number: float) -> None:
        """From a value of the series to its next one."""
        self.transitions += (before != 0) != (number != 0)
        self.resets += number < before
        self.increase += number if number < before else number - before

    def statistics(self, length: int) -> list[float]:
        """All of reference_record.STATISTICS; NaN where there is none."""
        average = self.base + self.held / self.known if self.known else math.nan
        valued = bool(self.rows)
        seconds = length / 1e9
        details = [
            average,
            100 * float(self.known) / float(length),
            self.nonzero / 1e9,
            self.transitions,
            self.increase if valued else math.nan,
            self.increase / seconds if valued else math.nan,
            self.resets,
        ]
        return [each if math.isfinite(each) else math.nan for each in [*self._common(), *details]]

    def quantiles(self, wanted: Sequence[int]) -> list[tuple[int, float]]:
        sketch = Sketch(RULE)
        for _, number in self.rows:
            sketch.add(number)
        numbers = [number for _, number in self.rows] or [math.nan]
        low, high = min(numbers), max(numbers)
        return [(each, min(max(sketch.quantile(each / 100_000), low), high)) for each in wanted]

    def _common(self) -> list[float]:
        """What needs no more than the values."""
        if not self.rows:
            return [math.nan] * DETAILED
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
        whole = shift * float(count) + total
        about_zero = squares + 2 * shift * total + float(count) * shift * shift
        rms = math.sqrt(max(about_zero, 0.0) / count) if math.isfinite(about_zero) else math.nan
        return [mean, low, high, first, last, deviation, whole, high - low, last - first, rms]


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
