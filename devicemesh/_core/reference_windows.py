"""The readable twin of the window engine: rows, watermarks and windows.

Beside it: reference_statistics and reference_watch. Written for people and for the differential tests;
nothing else uses it. It keeps every row, and computes each window from its rows when it closes: time weights
exactly, by fractions, so that it is a judge of the engine's running sums and not their copy. `WindowEngine`
has the methods of `_native.WindowEngine`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from devicemesh._core.reference_statistics import Rows, quantiles_of, statistics_of
from devicemesh._core.reference_watch import Rules, Watch
from devicemesh._core.window_rules import STATISTICS
from devicemesh.windows import Counts

TIME_LIMIT = 1 << 62
UNCERTAIN, BAD = 0x40, 0x80
NEVER = -1


@dataclass
class Series:
    number: int
    source: int
    rules: Rules
    watch: Watch
    newest: int = NEVER  # time of its newest row
    known: bool = False  # the newest row has a value
    points: list[tuple[int, float | None]] = field(default_factory=list)  # rows in order; None: no value


@dataclass
class Group:
    series: list[int] = field(default_factory=list)
    newest: int = NEVER
    newest_told: int = NEVER  # `newest` at the last advance
    heard: int = 0  # clock at which its last row was noticed
    watermark: int | None = None
    closed: int = 0  # windows of smaller numbers are closed
    panes: dict[int, dict[int, Rows]] = field(default_factory=dict)  # by number, then series


class WindowEngine:
    """See windows/engine.h, and the face in devicemesh.windows."""

    def __init__(
        self,
        sessions: bool,
        length: int,
        hop: int,
        offset: int,
        gap: int,
        lateness_ns: int,
        max_future_ns: int,
        idle_ns: int,
        max_bytes: int,
    ) -> None:
        self.hop, self.offset, self.gap = hop, offset, gap
        self.panes_per_window = 0 if sessions else length // hop
        self.lateness, self.max_future, self.idle = lateness_ns, max_future_ns, idle_ns
        self.now = NEVER
        self.series: dict[int, Series] = {}
        self.groups: dict[int, Group] = {}
        self.rules: list[Rules] = []
        self.tally = dict.fromkeys(Counts._fields, 0)
        self.closed: list[dict[str, Any]] = []
        self.said_reports: list[tuple[int, int, float, int]] = []
        self.said_events: list[tuple[int, int, int, int, int, float]] = []

    # definitions

    def profile(self, *rules: Any) -> int:
        self.rules.append(Rules(*rules))
        return len(self.rules) - 1

    def define(self, first: int, count: int, profile: int, source: int) -> None:
        group = self.groups.setdefault(source, Group())
        for number in range(first, first + count):
            watch = Watch(number, self.rules[profile], self.said_reports, self.said_events)
            self.series[number] = Series(number, source, self.rules[profile], watch)
            group.series.append(number)

    # rows

    def ingest(
        self, series: Sequence[int], times: Sequence[int], values: Sequence[float], qualities: Any = None
    ) -> tuple[int, ...]:
        before = self.counts()
        for row, (number, time) in enumerate(zip(series, times, strict=True)):
            if number not in self.series:
                raise ValueError(f"series: row {row} is not defined")
            if not 0 <= time < TIME_LIMIT:
                raise ValueError(f"time_ns: that of row {row}")
        for row, (number, time, value) in enumerate(zip(series, times, values, strict=True)):
            self.add(number, time, value, qualities[row] if qualities is not None else 0)
        return tuple(now - then for now, then in zip(self.counts(), before, strict=True))

    def add(self, number: int, time: int, value: float, quality: int = 0) -> None:
        self.tally[self._judge(self.series[number], time, value, quality)] += 1

    def _judge(self, series: Series, time: int, value: float, quality: int) -> str:
        """Take a row; returns the count that it belongs to."""
        group = self.groups[series.source]
        if time > group.newest:
            if self.now >= 0 <= self.max_future and time > self.now + self.max_future:
                return "future"
            group.newest = time
            self._close_until(group, time - self.lateness)
        rows = self._place(group, series, time)
        if rows is None:
            return "late"
        uncertain = UNCERTAIN <= quality < BAD
        if quality >= BAD or (uncertain and series.rules.uncertain_as_bad):
            return self._no_value(series, rows, time, "bad")
        if isinstance(value, int) and abs(value) > 1 << 53:
            return self._no_value(series, rows, time, "inexact")
        if not math.isfinite(value):
            return self._no_value(series, rows, time, "nonfinite")
        counted = self._value(series, rows, time, float(value))
        rows.uncertain += uncertain and counted == "counted"
        return counted

    def _place(self, group: Group, series: Series, time: int) -> Rows | None:
        """Where a row belongs; None where all is closed."""
        number = (time - self.offset) // self.hop
        if number < group.closed:
            return None
        start = number * self.hop + self.offset
        return group.panes.setdefault(number, {}).setdefault(series.number, Rows(start, start + self.hop))

    def _no_value(self, series: Series, rows: Rows, time: int, cause: str) -> str:
        rows.bad += 1
        if time < series.newest:
            rows.disordered = True
            return cause
        rows.in_order(time)
        series.newest, series.known = time, False
        series.points.append((time, None))
        series.watch.heard(time)
        return cause

    def _value(self, series: Series, rows: Rows, time: int, x: float) -> str:
        if time < series.newest:
            return "counted" if rows.insert_late(time, x) else "duplicate"
        if time == series.newest and series.known:
            rows.correct(x)
            series.points.append((time, x))
            series.watch.value(time, x)
            return "duplicate"
        rows.in_order(time)
        rows.insert(time, x)
        rows.step(next((old for _, old in reversed(series.points) if old is not None), None), x)
        series.newest, series.known = time, True
        series.points.append((time, x))
        series.watch.value(time, x)
        return "counted"

    # time

    def advance(self, now: int) -> None:
        if now <= self.now:
            return
        self.now = now
        for _, group in sorted(self.groups.items()):
            if group.newest != group.newest_told:
                group.newest_told, group.heard = group.newest, now
            if now - group.heard >= self.idle:
                self._close_until(group, now - self.lateness)
            if group.watermark is not None:
                for number in sorted(group.series):
                    series = self.series[number]
                    series.watch.clock(group.watermark, series.points)

    def flush(self) -> None:
        for source in sorted(self.groups):
            group = self.groups[source]
            if group.panes:
                newest = max(group.panes)
                self._close_before(group, newest + 1)
                assert group.watermark is not None
                group.watermark = max(group.watermark, self._end(newest))

    def _end(self, number: int) -> int:
        return (number + self.panes_per_window) * self.hop + self.offset

    def _close_until(self, group: Group, watermark: int) -> None:
        """Close the windows that end by the watermark."""
        oldest = (watermark - self.offset) // self.hop - self.panes_per_window + 1
        if group.watermark is None:
            group.watermark, group.closed = watermark, oldest
        if watermark > group.watermark:
            group.watermark = watermark
            self._close_before(group, oldest)

    def _close_before(self, group: Group, oldest: int) -> None:
        opened = {n - k for n in group.panes for k in range(self.panes_per_window)}
        for number in sorted(n for n in opened if group.closed <= n < oldest):
            self._emit(group, number)
        group.panes = {number: pane for number, pane in group.panes.items() if number >= oldest}
        group.closed = max(group.closed, oldest)

    def _emit(self, group: Group, number: int) -> None:
        panes = [group.panes.get(number + k, {}) for k in range(self.panes_per_window)]
        for name in sorted({name for pane in panes for name in pane}):
            series = self.series[name]
            rows = Rows.merged([pane[name] for pane in panes if name in pane])
            start, end = number * self.hop + self.offset, self._end(number)
            self._out(series, rows, (start, end), (start, end), end - start)

    def _out(
        self, series: Series, rows: Rows, window: tuple[int, int], weighed: tuple[int, int], length: int
    ) -> None:
        results = statistics_of(rows, weighed, length, series.points, series.rules)
        asked = {n: v for n, v in results.items() if series.rules.statistics >> STATISTICS.index(n) & 1}
        asked |= quantiles_of(rows, series.rules)
        self.closed.append({"series": series.number, "start": window[0], "end": window[1], **asked})

    # what comes out

    def take(self, output: int) -> list[tuple[Any, ...]] | list[dict[str, Any]]:
        outputs: tuple[list[Any], ...] = (self.closed, self.said_reports, self.said_events)
        out = outputs[output]
        taken = list(out)
        out.clear()
        return taken

    def counts(self) -> tuple[int, ...]:
        return tuple(self.tally.values())


class SessionEngine(WindowEngine):
    """The same for sessions: rows of a series nearer than the gap to each other."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.closed_until: dict[int, int] = {}  # by series: rows before it belonged to a session that left
        self.open: dict[int, list[Rows]] = {}  # by series, in order; from the first row's time to the last's

    def _place(self, group: Group, series: Series, time: int) -> Rows | None:
        assert group.watermark is not None
        mine = self.open.setdefault(series.number, [])
        if time < self.closed_until.get(series.number, 0):
            return None
        near = [rows for rows in mine if rows.start - self.gap < time < rows.end + self.gap]
        if not near:
            if time + self.gap <= group.watermark:
                return None
            near = [Rows(time, time)]
            mine.append(near[0])
        joined = Rows.merged(near) if len(near) > 1 else near[0]
        joined.start, joined.end = min(joined.start, time), max(joined.end, time)
        mine[:] = sorted([rows for rows in mine if rows not in near] + [joined], key=lambda rows: rows.start)
        return joined

    def _close_until(self, group: Group, watermark: int) -> None:
        group.watermark = watermark if group.watermark is None else max(group.watermark, watermark)
        for number in group.series:
            mine = self.open.get(number, [])
            for rows in [rows for rows in mine if rows.end + self.gap <= group.watermark]:
                self._leave(mine, self.series[number], rows)

    def _leave(self, mine: list[Rows], series: Series, rows: Rows) -> None:
        mine.remove(rows)
        window = rows.start, rows.end + self.gap
        self.closed_until[series.number] = window[1]
        self._out(series, rows, window, rows.ordered or (0, 0), rows.end - rows.start)

    def flush(self) -> None:
        for number, mine in sorted(self.open.items()):
            for rows in list(mine):
                self._leave(mine, self.series[number], rows)
