"""What is measured of ours: a stream in batches, all that comes out taken after each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from inputs import LATENESS, SECOND, WINDOWS, Inputs

from devicemesh.windows import Alarm, Columns, Profile, Tumbling, WindowAggregator

BATCH = 1 << 16
BASIC = ("count", "mean", "min", "max", "std", "last")
QUANTILES = (0.5, 0.95, 0.99)
FULL: dict[str, Any] = {
    "statistics": (*BASIC, "time_average", "status"),
    "deadband": 5.0,
    "heartbeat_ns": 10 * SECOND,
    "alarms": (Alarm("high", 28, clear=27), Alarm("low", 12, above=False, clear=13)),
}
PROFILES: dict[str, dict[str, Any]] = {
    "basic": {"statistics": BASIC},
    "full": FULL,
    "quantiles": {**FULL, "quantiles": QUANTILES},
}


class Stream:
    """A long-running aggregator. Each call is the whole stream once more, ten seconds later."""

    def __init__(self, inputs: Inputs, profile: str) -> None:
        self._inputs = inputs
        self._qualities = None if profile == "basic" else inputs.qualities
        self._times = inputs.times
        self.aggregator = WindowAggregator(Tumbling(SECOND), lateness_ns=LATENESS, max_bytes=1 << 34)
        number = self.aggregator.profile(Profile(**PROFILES[profile]))
        self.aggregator.define(range(inputs.series_count), profile=number)

    def __call__(self) -> int:
        """Returns the windows that closed; whoever takes them is done with some before more come."""
        return sum(closed.rows for closed in self.closed())

    def closed(self) -> Iterator[Columns]:
        """Feed the whole stream; what closes on the way."""
        columns = (self._inputs.series, self._times, self._inputs.values)
        for start in range(0, len(self._times), BATCH):
            part = slice(start, start + BATCH)
            quality = None if self._qualities is None else self._qualities[part]
            self.aggregator.ingest(*(column[part] for column in columns), quality)
            yield self.aggregator.windows()
            self.aggregator.reports()
            self.aggregator.events()

    def later(self) -> None:
        """Make ready for the next call: the input's times move on."""
        self._times += WINDOWS * SECOND
