"""The readable twin of the window engine: reports by exception, alarms and missing data of one series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

FIRST, CHANGE, HEARTBEAT, HELD = range(4)
ALARM, MISSING = range(2)


@dataclass(frozen=True)
class Rules:
    """The arguments of WindowEngine.profile."""

    statistics: int
    sloped: bool
    uncertain_as_bad: bool
    reports: bool
    deadband: float
    fraction: float
    min_interval: int
    heartbeat: int
    missing: int
    percent_good: float
    percent_bad: float
    alarms: Sequence[tuple[bool, float, float, int]]  # above, limit, clear, delay
    quantiles: Sequence[float]
    relative_error: float
    max_bins: int


@dataclass
class Watch:
    series: int
    rules: Rules
    reports: list[tuple[int, int, float, int]]
    events: list[tuple[int, int, int, int, int, float]]
    active: set[int] = field(default_factory=set)
    pending: dict[int, int] = field(default_factory=dict)  # alarm -> beyond its limit since
    value_before: float = 0.0  # while something is pending
    reported: tuple[int, float] | None = None  # when, what
    held: bool = False  # a change waits for the rate limit
    missing: bool = False
    newest: int | None = None  # time of the newest row; before the first, of the first advance

    def value(self, time: int, x: float) -> None:
        """The newest value."""
        self.heard(time)
        self._raise_due(time)
        for index, (above, limit, clear, delay) in enumerate(self.rules.alarms):
            beyond = x > limit if above else x < limit
            cleared = x < clear if above else x > clear
            if index in self.active:
                if cleared:
                    self.active.remove(index)
                    self.events.append((self.series, time, ALARM, index, 0, x))
            elif beyond and not delay:
                self.active.add(index)
                self.events.append((self.series, time, ALARM, index, 1, x))
            elif beyond:
                self.pending.setdefault(index, time)
            else:
                self.pending.pop(index, None)
        self.value_before = x
        if self.rules.reports:
            self._report(time, x)

    def _raise_due(self, time: int) -> None:
        """Raise the alarms that lasted for their delay by `time`, each at its own time."""
        for index, since in sorted(self.pending.items()):
            due = since + self.rules.alarms[index][3]
            if due <= time:
                del self.pending[index]
                self.active.add(index)
                self.events.append((self.series, due, ALARM, index, 1, self.value_before))

    def _changed(self, x: float) -> bool:
        assert self.reported
        _, old = self.reported
        band = max(self.rules.deadband, abs(old) * self.rules.fraction)
        return x < old - band or x > old + band

    def _report(self, time: int, x: float) -> None:
        if self.reported is None:
            self._say(time, time, x, FIRST)
        elif self._changed(x):
            if time - self.reported[0] >= self.rules.min_interval:
                self._say(time, time, x, HELD if self.held else CHANGE)
            else:
                self.held = True
        else:
            if time - self.reported[0] >= self.rules.min_interval:
                self.held = False  # it came back in time
            if self.rules.heartbeat and time - self.reported[0] >= self.rules.heartbeat:
                self._say(time, time, x, HEARTBEAT)

    def _say(self, when: int, time: int, x: float, reason: int) -> None:
        self.reports.append((self.series, time, x, reason))
        self.reported, self.held = (when, x), False

    def heard(self, time: int) -> None:
        """A row came, with a value or not."""
        self.newest = time
        if self.missing:
            self.missing = False
            self.events.append((self.series, time, MISSING, 0, 0, math.nan))

    def clock(self, watermark: int, points: Sequence[tuple[int, float | None]]) -> None:
        """Nothing older than the watermark is awaited any more."""
        if self.rules.missing:
            if self.newest is None:
                self.newest = watermark
            due = self.newest + self.rules.missing
            if due <= watermark and not self.missing:
                self.missing = True
                self.events.append((self.series, due, MISSING, 0, 1, math.nan))
        self._raise_due(watermark)
        if self.held and self.reported and self.reported[0] + self.rules.min_interval <= watermark:
            x = next(x for _, x in reversed(points) if x is not None)
            if self._changed(x):
                self._say(self.reported[0] + self.rules.min_interval, points[-1][0], x, HELD)
            self.held = False
