"""Fixtures: the engine and its readable twin side by side."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from devicemesh import windows as face
from devicemesh._core import reference_windows, window_rules

BY_WEIGHT = {"time_average", "total", "increase", "rate"}  # exact in the twin, running sums in the engine
ROUNDING = 1e-14  # of a running sum, relative to the largest value
BYTES = {"disordered", "status", "time_status"}
BY_ORDER = {"sum", "mean", "variance", "std", "variance_population", "std_population", "rms", "crest"}


def same(name: str, got: Any, want: Any, scale: float, exact: bool, length: int, known: int) -> bool:
    if isinstance(want, float) and math.isnan(want):
        return bool(math.isnan(got))
    if name in ("time_average", "total"):  # what is held is held until the end, and taken back
        room = ROUNDING * scale * (length / max(known, 1) if name == "time_average" else length / 1e9)
        return math.isclose(got, want, rel_tol=1e-9, abs_tol=room)
    if name[1:2].isdigit():  # p50
        return math.isclose(got, want, rel_tol=0.0101)
    if name in BY_WEIGHT or (name in BY_ORDER and not exact):
        return math.isclose(got, want, rel_tol=1e-9, abs_tol=1e-9 * max(scale, 1.0))
    return bool(got == want)


@dataclass
class Pair:
    """An aggregator and its twin, fed alike; `check` compares all that came out."""

    real: face.WindowAggregator
    twin: Any
    exact: bool
    pushed: int = 0
    scale: float = 0.0
    emitted: int = 0
    seen: set[tuple[int, int]] | None = None

    def profile(self, profile: face.Profile) -> int:
        number = self.real.profile(profile)
        assert number == self.twin.profile(*window_rules.profile_arguments(profile))
        return number

    def define(self, series: range, profile: int, source: int = 0) -> None:
        self.real.define(series, profile, source)
        self.twin.define(series.start, len(series), profile, source)

    def ingest(self, rows: Sequence[tuple[int, int, float, int]]) -> None:
        series, times, values, qualities = zip(*rows, strict=True) if rows else ((), (), (), ())
        integers = any(isinstance(value, int) for value in values)
        self.real.ingest(
            array("I", series),
            array("q", times),
            array("q" if integers else "d", values),
            array("B", qualities),
        )
        self.twin.ingest(series, times, values, qualities)
        self.pushed += len(rows)
        finite = [abs(x) for x in values if math.isfinite(x)]
        self.scale = max([self.scale, *finite])

    def ingest_array(self, series: int, start: int, step: int, values: Sequence[float]) -> None:
        self.real.ingest_array(series, start, step, array("d", values))
        for at, value in enumerate(values):
            self.twin.add(series, start + at * step, value)
        self.exact = False
        self.pushed += len(values)
        finite = [abs(x) for x in values if math.isfinite(x)]
        self.scale = max([self.scale, *finite])

    def advance(self, now: int) -> None:
        self.real.advance(now)
        self.twin.advance(now)

    def flush(self) -> None:
        self.real.flush()
        self.twin.flush()

    def check(self) -> list[dict[str, Any]]:
        """Compare, and hold the invariants: every row counted once, every window emitted once."""
        rows = self._check_windows()
        for output, columns in ((1, self.real.reports()), (2, self.real.events())):
            got = list(zip(*(columns[name].tolist() for name in columns), strict=True))
            want = self.twin.take(output)
            assert [_plain(row) for row in sorted(got)] == [_plain(row) for row in sorted(want)]
        counts = self.real.counts
        assert counts == face.Counts(*self.twin.counts())
        assert sum(counts) == self.pushed
        return rows

    def _check_windows(self) -> list[dict[str, Any]]:
        columns = self.real.windows()
        got = [
            dict(zip(columns, row, strict=True))
            for row in zip(*(columns[name].tolist() for name in columns), strict=True)
        ]
        want = self.twin.take(0)
        key = _window_key
        got.sort(key=key)
        want.sort(key=key)
        assert [key(row) for row in got] == [key(row) for row in want]
        self.seen = self.seen if self.seen is not None else set()
        for mine, theirs in zip(got, want, strict=True):
            assert (mine["series"], mine["start"]) not in self.seen, "emitted twice"
            self.seen.add((mine["series"], mine["start"]))
            for name in mine:
                if name in theirs:
                    length, known = mine["end"] - mine["start"], mine.get("duration_good", 1)
                    agrees = same(name, mine[name], theirs[name], self.scale, self.exact, length, known)
                    assert agrees, (name, mine, theirs)
                else:
                    assert math.isnan(mine[name]) or mine[name] == (255 if name in BYTES else -1)
        return got


def _window_key(row: dict[str, Any]) -> tuple[int, int]:
    return row["start"], row["series"]


def _plain(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple("nan" if isinstance(x, float) and math.isnan(x) else x for x in row)


@pytest.fixture(scope="session")
def pair() -> Callable[..., Pair]:
    """Make a Pair: the arguments are those of WindowAggregator."""

    def make(windows: Any, **options: Any) -> Pair:
        real = face.WindowAggregator(windows, **options)
        sessions = isinstance(windows, face.Session)
        kind = reference_windows.SessionEngine if sessions else reference_windows.WindowEngine
        twin = kind(*window_rules.engine_arguments(windows, **options))
        return Pair(real, twin, isinstance(windows, face.Tumbling))

    return make
