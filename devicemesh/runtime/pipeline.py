"""Readings on their way: batches into the core, records out to the sink, a few milliseconds apart.

The linger lets the polls that fall together share one write to the outbox; it is the price of a latency
that nobody sees.
"""

from __future__ import annotations

import asyncio
import logging
import time
from array import array
from collections.abc import Callable, Sequence
from typing import Any

from devicemesh.aggregate import Aggregator, AlarmEvent, Kind
from devicemesh.mapper import Batch, MapperError, Notification, Quality
from devicemesh.sink.base import Sink

log = logging.getLogger("devicemesh.pipeline")
LINGER_S = 0.003
CLOCK_S = 0.25  # how often windows of silent sources are closed


class Pipeline:
    """Owned by the event loop. `describe` names streams; `notify` takes what peers tell of events."""

    def __init__(
        self,
        aggregator: Aggregator,
        sink: Sink,
        describe: Callable[[int], tuple[str, Sequence[str]]],
        on_alarm: Callable[[AlarmEvent], None],
        notify: Callable[[Notification], None],
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.aggregator = aggregator
        self.sink = sink
        self.wall_ns = wall_ns
        self._describe = describe
        self._on_alarm = on_alarm
        self.notify = notify
        self._flush: asyncio.TimerHandle | None = None
        self.fence: Callable[[], bool] | None = None  # whether we may publish; None: always
        self.fenced = 0  # samples that were not published for it

    def push(self, batch: Batch) -> None:
        """Take a batch; it leaves with the next flush."""
        self.aggregator.push(batch)
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(LINGER_S, self.flush)

    def bad(self, slots: Sequence[int], quality: Quality, error: MapperError) -> None:
        """Mark points bad that nobody could read."""
        if slots:
            column = array("d", [0.0]) * len(slots)
            self.push(Batch(array("I", slots), self.wall_ns(), column, int(quality), error))

    def value(self, slot: int, kind: Kind, value: Any) -> None:
        """Take a single value that is known to be on the device (a read-back)."""
        column: Any = [value]
        if kind != Kind.OBJECT and not (isinstance(value, int) and abs(value) > 1 << 53):
            column = array("d", [float(value)])
        self.push(Batch(array("I", [slot]), self.wall_ns(), column))

    def flush(self) -> None:
        """Hand everything that is ready to the sink."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        records = self.aggregator.take()
        if records and self.fence is not None and not self.fence():
            self.fenced += sum(record.samples for record in records)
        elif records:
            self.sink.publish(records, self._describe)
        for event in self.aggregator.alarms():
            self._on_alarm(event)

    async def run(self) -> None:
        """Close windows by the clock, for ever."""
        while True:
            self.aggregator.advance(self.wall_ns())
            self.flush()
            await asyncio.sleep(CLOCK_S)

    def close(self) -> None:
        """Close every window and hand over the rest, before a stop."""
        self.aggregator.flush()
        self.flush()
