"""The readable twin of the C core: nothing is silent for longer than its heartbeat, or told too soon."""

from __future__ import annotations

import math

from devicemesh._core.reference_publish import TIME_LIMIT, Publisher
from devicemesh._core.reference_record import Value
from devicemesh._core.reference_series import Reported, Series

CHANGE = 2  # report
GRACE = 10**9  # for a poll that brings a fresh value
TICK = 10**9 // 4  # so often the clock is told, or more often


class Pace(Publisher):
    """What is reported although it has not changed, with a row and without one."""

    def __init__(self, max_pending_bytes: int) -> None:
        super().__init__(max_pending_bytes)
        self.clock: int | None = None
        self.series: dict[int, Series] = {}
        self.qualities: dict[int, int] = {}
        self.read = 0

    def _is_over(self, series: Series, time: int, span: int, slack: int) -> bool:
        """It is so long since the last report: by our clock, or nearly by it and by the time of the row."""
        assert series.reported
        by_row = abs(time - series.reported.time) >= span
        if self.clock is None:
            return by_row
        return self.clock - series.said >= span - slack * by_row

    def _heartbeat_due(self, series: Series, time: int) -> bool:
        """A row of this time is to be reported, changed or not."""
        silence = series.silence if series.report == CHANGE else 0
        return silence > 0 and self._is_over(series, time, silence, GRACE)

    def _repeat(self, series: Series) -> None:
        """Publish the latest row once more; of a text what was published last, if it is one."""
        if series.latest is None or series.reported is None:
            return
        time, quality, value = series.latest
        if value.is_text:
            if series.reported.value.tag != value.tag:
                return
            time, value = series.reported.time, series.reported.value
        self.read += 1
        self.qualities[quality] = self.qualities.get(quality, 0) + 1
        if self._publish(series, time, quality, value):
            series.reported = Reported(time, quality, value)

    def _hold(self, series: Series, time: int, value: Value) -> bool:
        """A change comes too soon after the last report; it is then held, and reported by the clock."""
        if not series.pause or value.is_text or self._is_over(series, time, series.pause, TICK):
            return False
        series.held = True
        return True

    def _note(self, series: Series, time: int) -> None:
        """It was reported."""
        now = time if self.clock is None else self.clock
        series.said, series.held = min(max(now, -TIME_LIMIT), TIME_LIMIT), False

    def _repeat_resting(self, now: int) -> None:
        for _, series in sorted(self.series.items()):
            if series.report != CHANGE or series.reported is None:
                continue
            wait = series.pause if series.held else series.silence + GRACE if series.silence else math.inf
            if now - series.said >= wait:
                self._repeat(series)
                self._note(series, now)
