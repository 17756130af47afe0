"""The readable twin of the C core: nothing is silent for longer than its heartbeat."""

from __future__ import annotations

from devicemesh._core.reference_publish import Publisher
from devicemesh._core.reference_series import Reported, Series

CHANGE = 2  # report
GRACE = 10**9  # for a poll that brings a fresh value; the clock is told now and then only


class Heartbeat(Publisher):
    """What is reported although it has not changed, with a row and without one."""

    def __init__(self, max_pending_bytes: int) -> None:
        super().__init__(max_pending_bytes)
        self.clock: int | None = None
        self.series: dict[int, Series] = {}
        self.qualities: dict[int, int] = {}
        self.read = 0

    def _heartbeat_due(self, series: Series, last: Reported, time: int) -> bool:
        """A row of this time is to be reported, changed or not: by its own time, or by our clock."""
        if series.report != CHANGE or not series.silence:
            return False
        by_row = abs(time - last.time) >= series.silence
        if self.clock is None:
            return by_row
        return self.clock - series.said >= series.silence - GRACE * by_row

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

    def _repeat_resting(self, now: int) -> None:
        for _, series in sorted(self.series.items()):
            rests = series.report == CHANGE and series.silence > 0 and series.reported is not None
            if rests and now - series.said >= series.silence + GRACE:
                self._repeat(series)
                series.said = now
