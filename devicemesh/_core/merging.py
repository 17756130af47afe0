"""Emitted windows of a finer grid as those of a coarser one: how a backlog is thinned without lying.

What cannot be computed from results (quantiles) is NaN. Variances merge as in Chan, Golub and LeVeque, 1979.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

SUMS = {
    *("count", "bad", "uncertain", "transitions", "resets", "sum", "total", "increase"),
    *("duration_good", "duration_bad", "duration_nonzero", "duration_zero"),
}
WORST = {"status", "time_status", "disordered", "max", "peak"}
SPREADS = {"variance": 1, "std": 1, "variance_population": 0, "std_population": 0}
NEEDS: Mapping[str, tuple[str, ...]] = {
    "mean": ("count",),
    **dict.fromkeys(SPREADS, ("count", "mean")),
    "range": ("min", "max"),
    "rms": ("count",),
    "crest": ("peak", "rms"),
    "delta": ("first", "last"),
    "min_time": ("min",),
    "max_time": ("max",),
    "time_average": ("duration_good",),
    "percent_good": ("duration_good", "duration_bad"),
    "percent_bad": ("duration_good", "duration_bad"),
    "rate": ("increase",),
}
"""What else must be in the table for a statistic to be merged."""


def merged(name: str, rows: Sequence[Row], length: int) -> Any:
    """A statistic of the window of `length` ns that `rows` are parts of, by time."""
    if name in SUMS:
        return _sum([row[name] for row in rows])
    if name in WORST:
        return max(_present(rows, name), default=_none(rows, name))
    if name in SPREADS:
        return _spread(name, rows)
    rule = _RULES.get(name)
    return rule(rows, length) if rule else math.nan


def _is_none(value: float) -> bool:
    return math.isnan(value) if isinstance(value, float) else value < 0


def _present(rows: Sequence[Row], name: str) -> list[Any]:
    return [row[name] for row in rows if not _is_none(row[name])]


def _none(rows: Sequence[Row], name: str) -> Any:
    return rows[0][name]


def _sum(values: Sequence[Any]) -> Any:
    present = [value for value in values if not _is_none(value)]
    if not present:
        return values[0]
    return math.fsum(present) if isinstance(present[0], float) else sum(present)


def _valued(rows: Sequence[Row], *names: str) -> list[Row]:
    return [row for row in rows if not any(_is_none(row[name]) for name in names)]


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else math.nan


def _weighted(rows: Sequence[Row], name: str, weight: str) -> float:
    """Mean by weight, near its first value: large values that differ little keep their digits."""
    parts = [row for row in _valued(rows, name) if row[weight] > 0]
    if not parts:
        return math.nan
    near = parts[0][name]
    total = math.fsum((row[name] - near) * row[weight] for row in parts)
    return float(near + total / sum(row[weight] for row in parts))


def _spread(name: str, rows: Sequence[Row]) -> float:
    fewer = SPREADS[name]
    parts = [row for row in rows if row["count"] > 0]
    count = sum(row["count"] for row in parts)
    if count <= fewer:
        return math.nan
    mean = _weighted(parts, "mean", "count")
    squares = 0.0
    for row in parts:
        inside = row[name] ** 2 if name.startswith("std") else row[name]
        inside = 0.0 if row["count"] <= fewer else inside * (row["count"] - fewer)
        squares += inside + row["count"] * (row["mean"] - mean) ** 2
    variance = squares / (count - fewer)
    return math.sqrt(variance) if name.startswith("std") else variance


def _first(rows: Sequence[Row], name: str) -> Any:
    return next(iter(_present(rows, name)), _none(rows, name))


def _last(rows: Sequence[Row], name: str) -> Any:
    return next(reversed(_present(rows, name)), _none(rows, name))


def _time_of(rows: Sequence[Row], name: str, choose: Callable[..., Row]) -> Any:
    """The time of the least or greatest: of equal ones the earliest, for the rows go by time."""
    parts = _valued(rows, name)
    return choose(parts, key=lambda row: row[name])[f"{name}_time"] if parts else -1


def _rms(rows: Sequence[Row]) -> float:
    parts = _valued(rows, "rms")
    squares = math.fsum(row["count"] * row["rms"] ** 2 for row in parts)
    return math.sqrt(_ratio(squares, sum(row["count"] for row in parts))) if parts else math.nan


def _percent(rows: Sequence[Row], name: str) -> float:
    whole = _sum([row["duration_good"] for row in rows]) + _sum([row["duration_bad"] for row in rows])
    return 100 * _ratio(_sum([row[name] for row in rows]), whole)


def _low(rows: Sequence[Row]) -> float:
    return min(_present(rows, "min"), default=math.nan)


def _high(rows: Sequence[Row]) -> float:
    return max(_present(rows, "max"), default=math.nan)


_RULES: Mapping[str, Callable[[Sequence[Row], int], Any]] = {
    "mean": lambda rows, _: _weighted(rows, "mean", "count"),
    "min": lambda rows, _: _low(rows),
    "range": lambda rows, _: _high(rows) - _low(rows),
    "first": lambda rows, _: _first(rows, "first"),
    "first_time": lambda rows, _: _first(rows, "first_time"),
    "last": lambda rows, _: _last(rows, "last"),
    "last_time": lambda rows, _: _last(rows, "last_time"),
    "delta": lambda rows, _: _last(rows, "last") - _first(rows, "first"),
    "min_time": lambda rows, _: _time_of(rows, "min", min),
    "max_time": lambda rows, _: _time_of(rows, "max", max),
    "rms": lambda rows, _: _rms(rows),
    "crest": lambda rows, _: _ratio(max(_present(rows, "peak"), default=math.nan), _rms(rows)),
    "time_average": lambda rows, _: _weighted(rows, "time_average", "duration_good"),
    "percent_good": lambda rows, _: _percent(rows, "duration_good"),
    "percent_bad": lambda rows, _: _percent(rows, "duration_bad"),
    "rate": lambda rows, length: _sum([row["increase"] for row in rows]) / (length / 1e9),
}
