"""After an outage: what the peer has kept of it, read beside everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from devicemesh.mapper import Batch, Gap, Historical, Point, Quality, Session

LINGER_S = 0.2
"""Gaps that end together are asked for together."""
Open = dict[int, tuple[Point[Any, Any], int]]
"""By slot: the point that was not read, and the time of its last good row."""


class Backfill:
    """The gaps of one session. They end with the first good row of each point, and leave `gaps` when read.

    `wake` tells the link that there is something to `check`.
    """

    def __init__(
        self, session: Session[Any, Any], gaps: Open, take: Callable[[Batch], None], wake: Callable[[], None]
    ) -> None:
        self._session = session if isinstance(session, Historical) else None
        self._gaps = gaps
        self._take = take
        self._wake = wake
        self._waiting = set(gaps) if self._session is not None else set()
        self._ended: list[Gap[Any, Any]] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Backfill:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            if not self._task.cancelled():
                self._task.exception()  # seen: the link is left for another reason

    def seen(self, batch: Batch, asked: Mapping[int, Point[Any, Any]]) -> None:
        """Live rows have come in."""
        if self._waiting.isdisjoint(batch.slot):
            return
        for index, slot in enumerate(batch.slot):
            quality = batch.quality if isinstance(batch.quality, int) else batch.quality[index]
            if slot not in self._waiting or quality >= Quality.BAD:
                continue
            self._waiting.discard(slot)
            time_ns = batch.time_ns if isinstance(batch.time_ns, int) else batch.time_ns[index]
            point, begin_ns = self._gaps[slot]
            if asked.get(slot) != point or point.telemetry.report == "none" or time_ns <= begin_ns:
                del self._gaps[slot]  # another's now, or nothing is missing
            else:
                self._ended.append(Gap(point, begin_ns, time_ns))
        self._start()

    def _start(self) -> None:
        if self._ended and self._task is None:
            self._task = asyncio.create_task(self._run(), name="backfill")
            self._task.add_done_callback(lambda _: self._wake())

    async def _run(self) -> None:
        session = self._session
        while self._ended and session is not None:
            await asyncio.sleep(LINGER_S)
            gaps, self._ended = self._ended, []
            async for batch in session.history(gaps):
                self._take(batch)
            for gap in gaps:
                self._gaps.pop(gap.point.slot, None)

    def check(self) -> None:
        """Raise why reading history has failed, if it has."""
        if self._task is not None and self._task.done():
            task, self._task = self._task, None
            task.result()
            self._start()
