"""The readable twin of the window engine: the statistics of one window, from its rows."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from devicemesh._core.reference_watch import Rules

GOOD, UNCERTAIN, BAD = 0x00, 0x40, 0x80


@dataclass
class Rows:
    """What came for one series in one pane."""

    start: int
    end: int
    values: list[tuple[int, float]] = field(default_factory=list)  # time and value, in order of arrival
    last: tuple[int, float] | None = None
    bad: int = 0
    uncertain: int = 0
    disordered: bool = False
    ordered: tuple[int, int] | None = None  # times of the first and last row that came in order
    transitions: int = 0
    resets: int = 0
    increase: float = 0.0

    def insert(self, time: int, x: float) -> None:
        """A value."""
        self.values.append((time, x))
        if not self.last or time >= self.last[0]:
            self.last = time, x

    def insert_late(self, time: int, x: float) -> bool:
        """A value out of order; False if it is of the same time as the last, which it replaces."""
        self.disordered = True
        if self.last and time == self.last[0]:
            self.last = time, x
            return False
        self.insert(time, x)
        return True

    def in_order(self, time: int) -> None:
        """A row in order, with a value or not."""
        self.ordered = (self.ordered or (time, time))[0], time

    def correct(self, x: float) -> None:
        """The newest value was this."""
        assert self.last
        self.increase += x - self.last[1]
        self.last = self.last[0], x

    def step(self, before: float | None, x: float) -> None:
        """From the series' value before to the next one in order."""
        if before is None:
            return
        self.transitions += (before != 0) != (x != 0)
        self.resets += x < before
        self.increase += x if x < before else x - before

    @staticmethod
    def merged(panes: Sequence[Rows]) -> Rows:
        ordered = [pane.ordered for pane in panes if pane.ordered]
        last = max((pane.last for pane in panes if pane.last), key=lambda row: row[0], default=None)
        return Rows(
            panes[0].start,
            panes[-1].end,
            [row for pane in panes for row in pane.values],
            last,
            sum(pane.bad for pane in panes),
            sum(pane.uncertain for pane in panes),
            any(pane.disordered for pane in panes),
            (ordered[0][0], ordered[-1][1]) if ordered else None,
            sum(pane.transitions for pane in panes),
            sum(pane.resets for pane in panes),
            math.fsum(pane.increase for pane in panes),
        )


def shift_near(x: float) -> float:
    """The value that differences are taken to: the first, without the lowest 16 bits of its mantissa."""
    (bits,) = struct.unpack("<Q", struct.pack("<d", x))
    shift: float = struct.unpack("<d", struct.pack("<Q", bits & ~0xFFFF))[0]
    return shift


Points = Sequence[tuple[int, float | None]]  # a series' rows in order; None: no value from there


def statistics_of(
    rows: Rows, weighed: tuple[int, int], length: int, points: Points, rules: Rules
) -> dict[str, Any]:
    """Every statistic of a window; `points` are the series' rows in order, which weigh within `weighed`."""
    known, integral, nonzero = held(points, *weighed, rules.sloped) if rows.ordered else (0, Fraction(), 0)
    count = len(rows.values)
    return {
        **of_values(rows),
        "count": count,
        "time_average": float(integral / known) if known else math.nan,
        "total": float(integral / 10**9) if known else math.nan,
        "duration_good": known,
        "duration_bad": length - known,
        "percent_good": 100 * known / length if length else math.nan,
        "percent_bad": 100 * (length - known) / length if length else math.nan,
        "duration_nonzero": nonzero,
        "duration_zero": known - nonzero,
        "bad": rows.bad,
        "uncertain": rows.uncertain,
        "disordered": int(rows.disordered),
        "status": status(rules, count - rows.uncertain, rows.bad, count + rows.bad),
        "time_status": time_status(rows, rules, known, length),
        "transitions": rows.transitions,
        "resets": rows.resets,
        "increase": rows.increase if count else math.nan,
        "rate": rows.increase / (length / 1e9) if count and length else math.nan,
    }


def of_values(rows: Rows) -> dict[str, Any]:
    """Those of the values alone, in the engine's order of arithmetic."""
    if not rows.values or not rows.last:
        whole = dict.fromkeys(("first_time", "last_time", "min_time", "max_time"), -1)
        return dict.fromkeys(NUMBERS, math.nan) | whole
    numbers = [x for _, x in rows.values]
    count, shift, total, squares = len(numbers), shift_near(numbers[0]), 0.0, 0.0
    for x in numbers:  # not sum(): newer Pythons compensate it
        total += x - shift
        squares += (x - shift) * (x - shift)
    first = min(rows.values, key=lambda row: row[0])
    low, high = min(numbers), max(numbers)
    spread = squares - total * total / count
    sample = max(spread / (count - 1), 0.0) if count > 1 else math.nan
    population = max(spread / count, 0.0)
    rms = math.sqrt(max((squares + 2 * shift * total + count * shift * shift) / count, 0.0))
    peak = max(abs(low), abs(high))
    return {
        "sum": shift * count + total,
        "mean": shift + total / count,
        "min": low,
        "max": high,
        "range": high - low,
        "first": first[1],
        "last": rows.last[1],
        "delta": rows.last[1] - first[1],
        "variance": sample,
        "std": math.sqrt(sample),
        "variance_population": population,
        "std_population": math.sqrt(population),
        "rms": rms,
        "peak": peak,
        "crest": peak / rms if rms > 0 else math.nan,
        "first_time": first[0],
        "last_time": rows.last[0],
        "min_time": min(time for time, x in rows.values if x == low),
        "max_time": min(time for time, x in rows.values if x == high),
    }


def quantiles_of(rows: Rows, rules: Rules) -> dict[str, float]:
    """The exact ones, by their columns' names: the engine's are within the relative error."""
    ordered = sorted(x for _, x in rows.values)
    return {
        f"p{100 * q:.10g}": ordered[math.floor(q * (len(ordered) - 1))] if ordered else math.nan
        for q in rules.quantiles
    }


NUMBERS = (
    *("sum", "mean", "min", "max", "range", "first", "last", "delta", "variance", "std"),
    *("variance_population", "std_population", "rms", "peak", "crest"),
)


def held(points: Points, start: int, end: int, sloped: bool) -> tuple[int, Fraction, int]:
    """(known time, integral over it, time of a value other than zero) of [start, end).

    A value holds until the next row, or is connected to it by a straight line; after the newest row, and
    before a row without a value, it holds.
    """
    known, integral, nonzero = 0, Fraction(), 0
    for index, (time, x) in enumerate(points):
        following, next_x = points[index + 1] if index + 1 < len(points) else (end, None)
        left, right = max(time, start), min(following, end)
        if x is None or right <= left:
            continue
        known += right - left
        nonzero += right - left if x != 0 else 0
        rise = Fraction(next_x) - Fraction(x) if sloped and next_x is not None else Fraction()
        middle = Fraction(left + right, 2) - time
        integral += (right - left) * (Fraction(x) + rise * middle / (following - time))
    return known, integral, nonzero


def status(rules: Rules, good: float, bad: float, whole: float) -> int:
    """OPC UA Part 13, 5.4.3: Bad from percent_bad on, else Good from percent_good on, else Uncertain."""
    if not whole or 100.0 * bad / whole >= rules.percent_bad:
        return BAD
    return GOOD if 100.0 * good / whole >= rules.percent_good else UNCERTAIN


def time_status(rows: Rows, rules: Rules, known: int, length: int) -> int:
    judged = status(rules, known, length - known, length)
    return UNCERTAIN if judged == GOOD and rows.disordered else judged
