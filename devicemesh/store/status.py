"""Status on its way to an API server: paced, newest wins, tried again until it is there."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from devicemesh.store.base import ConflictError, Key, RefusedError, StoreUnavailableError
from devicemesh.store.pace import Bucket, Turn
from devicemesh.store.resource import parts

log = logging.getLogger("devicemesh.store")
RETRY_S = 5.0
REFUSED_S = 60.0  # rights may be granted
CONFLICT_S = 0.2
GONE = math.inf
GRAIN_S = 0.001
"""No wait is shorter: times are rounded, and a wait too short for the clock would never end."""
VALUES_PARALLEL, HEALTH_PARALLEL = 2, 8
"""Each is a connection, and each TLS connection takes a buffer of 256 KB."""
Send = Callable[[Key, bytes], Awaitable[None]]
"""Writes one part of a status (JSON); may raise SlowDownError, LookupError, and what a store raises."""


class SlowDownError(Exception):
    """The server has too much to do; `after_s` is when to come again."""

    def __init__(self, after_s: float) -> None:
        super().__init__(f"come again in {after_s:g} s")
        self.after_s = after_s


class _Lane:
    """One part of all statuses, in the order in which it is due."""

    def __init__(
        self,
        send: Send,
        parallel: int,
        bucket: Bucket,
        due: Callable[[Turn, float], float],
        spend: Callable[[Turn, float], None],
    ) -> None:
        self.send = send
        self.parallel = parallel
        self.bucket = bucket
        self.due = due  # when a device may be written
        self.spend = spend  # it is written now
        self.pending: dict[Key, bytes] = {}
        self.written: dict[Key, int] = {}  # hash of what the server has, or is being sent
        self.busy: set[Key] = set()  # being sent: two of one device at once could arrive in the wrong order
        self.scheduled: dict[Key, float] = {}
        self._heap: list[tuple[float, Key]] = []  # what `scheduled` does not say so is stale
        self._more = asyncio.Event()

    def put(self, key: Key, part: bytes, due_s: float) -> None:
        if not part or self.written.get(key) == hash(part):
            self.pending.pop(key, None)  # nothing, or as it was
            return
        if key not in self.pending:
            self.schedule(key, due_s)
        self.pending[key] = part

    def schedule(self, key: Key, due_s: float) -> None:
        self.scheduled[key] = due_s
        heapq.heappush(self._heap, (due_s, key))
        self._more.set()

    def _first(self) -> float | None:
        """When the first one is due that may be sent."""
        while self._heap:
            due, key = self._heap[0]
            if self.scheduled.get(key) == due:
                if key in self.pending and key not in self.busy:
                    return due
                del self.scheduled[key]  # what is being sent is scheduled anew when that has ended
            heapq.heappop(self._heap)
        return None

    async def next(self, clock: Callable[[], float]) -> Key:
        """Wait for the next one that is due, and for the right to write it."""
        while True:
            self._more.clear()
            now = clock()
            due = self._first()
            wait = None if due is None else due - now
            if wait is not None and wait <= 0:
                wait = self.bucket.wait_s(now)
                if wait <= 0:
                    self.bucket.take(now)
                    key = heapq.heappop(self._heap)[1]
                    del self.scheduled[key]
                    return key
                await asyncio.sleep(max(wait, GRAIN_S))
                continue
            try:
                await asyncio.wait_for(self._more.wait(), None if wait is None else max(wait, GRAIN_S))
            except TimeoutError:
                continue


class StatusWriter:
    """Two lanes: health (conditions: at once, within a burst), and values (every 30 s a device at most)."""

    def __init__(self, values: Send, health: Send, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._values = _Lane(values, VALUES_PARALLEL, Bucket(5, 20), Turn.values_due_s, Turn.spend_values)
        self._health = _Lane(health, HEALTH_PARALLEL, Bucket(500, 200), Turn.health_due_s, Turn.spend_health)
        self._turns: dict[Key, Turn] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._said = ""

    def put(self, statuses: Mapping[Key, Mapping[str, Any]]) -> None:
        """Take the newest status of these devices."""
        now = self._clock()
        for key, status in statuses.items():
            turn = self._turns.setdefault(key, Turn())
            for lane, part in zip((self._values, self._health), parts(status), strict=True):
                lane.put(key, part, lane.due(turn, now))

    def forget(self, key: Key) -> None:
        """The device is gone; one of its name may come."""
        self._turns.pop(key, None)
        for lane in (self._values, self._health):
            lane.pending.pop(key, None)
            lane.written.pop(key, None)

    async def drain(self, patience_s: float) -> None:
        """Wait until what is found of the devices' health is written, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while self._health.pending or self._running:  # noqa: ASYNC110 - once, at the end
                    await asyncio.sleep(0.02)

    async def run(self) -> None:
        """For ever."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._serve(self._health))
                group.create_task(self._serve(self._values))
        finally:
            for task in self._running:
                task.cancel()

    async def _serve(self, lane: _Lane) -> None:
        slots = asyncio.Semaphore(lane.parallel)
        while True:
            await slots.acquire()
            key = await lane.next(self._clock)
            part = lane.pending.pop(key)
            if turn := self._turns.get(key):
                lane.spend(turn, self._clock())
            lane.busy.add(key)
            task = asyncio.create_task(self._write(lane, key, part, self._turns.get(key)))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            task.add_done_callback(lambda _: slots.release())

    async def _write(self, lane: _Lane, key: Key, part: bytes, turn: Turn | None) -> None:
        lane.written[key] = hash(part)  # while it is under way, it need not be said again
        again_s = await self._send(lane, key, part)
        lane.busy.discard(key)
        if turn is None or self._turns.get(key) is not turn:  # forgotten: one of its name is another
            lane.written.pop(key, None)
        elif again_s == GONE:
            self.forget(key)
        elif again_s is not None:
            self._again(lane, key, part, again_s)
        turn = self._turns.get(key)
        if turn is not None and key in lane.pending and key not in lane.scheduled:
            lane.schedule(key, lane.due(turn, self._clock()))

    async def _send(self, lane: _Lane, key: Key, part: bytes) -> float | None:
        """When to try again: None where it is there, GONE where the device is not."""
        try:
            await lane.send(key, part)
        except SlowDownError as error:
            lane.bucket.too_much()
            return error.after_s
        except RefusedError as error:
            self._say(f"status of {key.device} refused: {error}")
            return REFUSED_S
        except ConflictError:  # somebody else wrote that moment; nothing is wrong
            return CONFLICT_S
        except StoreUnavailableError as error:
            self._say(f"status waits: {error}")
            return RETRY_S
        except LookupError:
            return GONE
        except Exception:  # one device's status must not end the others'
            log.exception("status of %s: unexpected error, a bug", key.device)
            return REFUSED_S
        self._said = ""
        return None

    def _again(self, lane: _Lane, key: Key, part: bytes, after_s: float) -> None:
        lane.written.pop(key, None)
        if key in self._turns and key not in lane.pending:
            lane.pending[key] = part
            lane.schedule(key, self._clock() + after_s)

    def _say(self, message: str) -> None:
        if message != self._said:
            self._said = message
            log.warning("%s", message)
