"""After an outage: what the peer has kept of it, read beside everything else."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from devicemesh.mapper import Batch, Gap, Historical, Point, Quality, Session
from devicemesh.spec.values import duration_ns

SETTLE_S = (1.0, 30.0)
"""At least and at most: for so long rows of the outage may still come live, as from a queue of the peer."""
Asked = Callable[[int], Point[Any, Any] | None]
"""What is read now into a slot."""


@dataclass(slots=True)
class Gaps:
    """Of one link; they outlive its sessions."""

    open: dict[int, tuple[Point[Any, Any], int]] = field(default_factory=dict)
    """By slot: the point that is not read, and the time of its last good row."""
    ended: list[tuple[Gap[Any, Any], set[int]]] = field(default_factory=list)
    """To be read, each with the times of rows that came live."""


@dataclass(slots=True)
class _Settling:
    """A gap whose end has begun: what came live, which is not asked for again."""

    due_s: float
    times: set[int]


class Backfill:
    """The gaps as one session reads them: they end a while after the first good row of their point.

    `wake` tells the link that there is something to `check`.
    """

    def __init__(
        self,
        session: Session[Any, Any],
        gaps: Gaps,
        asked: Asked,
        take: Callable[[Batch], None],
        wake: Callable[[], None],
    ) -> None:
        self._session = session if isinstance(session, Historical) else None
        self._gaps = gaps
        self._asked = asked
        self._take = take
        self._wake = wake
        self._watched = set(gaps.open) if self._session is not None else set()
        self._settling: dict[int, _Settling] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Backfill:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            if not self._task.cancelled():
                self._task.exception()  # seen: the link is left for another reason
        self._end(list(self._settling))

    def seen(self, batch: Batch) -> None:
        """Live rows have come in."""
        if self._watched.isdisjoint(batch.slot):
            return
        now = asyncio.get_running_loop().time()
        for index, slot in enumerate(batch.slot):
            quality = batch.quality if isinstance(batch.quality, int) else batch.quality[index]
            if slot not in self._watched or quality >= Quality.BAD:
                continue
            time_ns = batch.time_ns if isinstance(batch.time_ns, int) else batch.time_ns[index]
            point, begin_ns = self._gaps.open[slot]
            if self._asked(slot) != point or point.telemetry.report == "none":
                self._settling.pop(slot, None)
                self._end([slot])  # another's now, or of no use
            elif slot in self._settling:
                self._settling[slot].times.add(time_ns)
            else:
                interval_s = duration_ns(point.telemetry.sampling_interval) / 1e9
                due = now + min(max(SETTLE_S[0], 2 * interval_s), SETTLE_S[1])
                self._settling[slot] = _Settling(due, {begin_ns, time_ns})
        self._start()

    def _end(self, slots: Iterable[int]) -> None:
        """These gaps are over; what of them may be read waits for it."""
        for slot in slots:
            self._watched.discard(slot)
            point, begin_ns = self._gaps.open.pop(slot)
            settled = self._settling.pop(slot, None)
            if settled is not None and max(settled.times) > begin_ns:
                gap = Gap(point, begin_ns, max(settled.times))
                self._gaps.ended.append((gap, settled.times))

    def _start(self) -> None:
        if self._session is not None and self._task is None and (self._settling or self._gaps.ended):
            self._task = asyncio.create_task(self._run(self._session), name="backfill")
            self._task.add_done_callback(lambda _: self._wake())

    async def _run(self, session: Historical[Any, Any]) -> None:
        loop = asyncio.get_running_loop()
        while self._settling or self._gaps.ended:
            if not self._gaps.ended:
                first = min(one.due_s for one in self._settling.values())
                await asyncio.sleep(first + SETTLE_S[0] / 4 - loop.time())  # what ends together goes together
                self._end([slot for slot, one in self._settling.items() if one.due_s <= loop.time()])
            reading = [one for one in self._gaps.ended if self._asked(one[0].point.slot) == one[0].point]
            known = {gap.point.slot: times for gap, times in reversed(reading)}
            first_of = list({gap.point.slot: gap for gap, _ in reversed(reading)}.values())
            async for batch in session.history(first_of):
                if (fresh := _without(batch, known)) is not None:
                    self._take(fresh)
            self._gaps.ended = [one for one in self._gaps.ended if one in reading and one[0] not in first_of]

    def check(self) -> None:
        """Raise why reading history has failed, if it has."""
        if self._task is not None and self._task.done():
            task, self._task = self._task, None
            task.result()
            self._start()


def _without(batch: Batch, known: Mapping[int, set[int]]) -> Batch | None:
    """The rows whose times did not come live; None where there are none."""
    times = batch.time_ns
    assert not isinstance(times, int), "the rows of a past have times of their own"
    fresh = [i for i, slot in enumerate(batch.slot) if times[i] not in known.get(slot, ())]
    if len(fresh) == len(times):
        return batch
    if not fresh:
        return None
    value = batch.value
    values = [value[i] for i in fresh]
    quality = batch.quality
    return replace(
        batch,
        slot=array("I", (batch.slot[i] for i in fresh)),
        time_ns=array("q", (times[i] for i in fresh)),
        value=array(value.typecode, values) if isinstance(value, array) else values,
        quality=quality if isinstance(quality, int) else array("B", (quality[i] for i in fresh)),
    )
