"""The session of a port that modems dial in to: each device is read over the connection of its modem."""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from devicemesh.mapper import (
    Batch,
    ConfigError,
    LinkError,
    MapperError,
    Outcome,
    Point,
    PointError,
    Quality,
    Readable,
    Reader,
    Trace,
    Traceable,
    Writable,
)
from devicemesh.spec.values import ValueType, duration_ns
from devicemesh_modbus.door import opened
from devicemesh_modbus.endpoint import ModbusEndpoint
from devicemesh_modbus.exchange import Requests
from devicemesh_modbus.hall import AbsentError, Framed, Hall
from devicemesh_modbus.link import Link
from devicemesh_modbus.model import ModbusAddress
from devicemesh_modbus.plan import ModbusPoint
from devicemesh_modbus.write import ModbusWrite

ARRIVAL_S = 60.0
"""How long who traces a point waits for its modem to dial in."""
SLOW = "slow_modem"
"""Why samples are lost that were due while their modem was still busy with those before."""

Lane: TypeAlias = tuple[bytes | int, int]
"""Who, and which unit behind it: read apart from all others."""


class Lines(Protocol):
    """A session over one connection."""

    def reader(self, points: Sequence[ModbusPoint]) -> Reader: ...

    async def write(self, writes: Sequence[ModbusWrite]) -> Sequence[Outcome]: ...

    async def trace(self, point: ModbusPoint) -> Trace: ...


Over: TypeAlias = Callable[[Link], Lines]


@dataclass(frozen=True, slots=True)
class _Connected:
    """A lane over the connection that it has now."""

    link: Link
    session: Lines


class DialledSession(
    Readable[ModbusEndpoint, ModbusAddress],
    Writable[ModbusEndpoint, ModbusAddress],
    Traceable[ModbusEndpoint, ModbusAddress],
):
    """All who have dialled in, and all who are yet to."""

    def __init__(self, hall: Hall, over: Over) -> None:
        self._hall = hall
        self._over = over
        self._lanes: dict[Lane, _Connected] = {}
        self._readers: list[DialledReader] = []
        self._others: dict[Lane, ModbusPoint] = {}  # of those who are only written to
        self.missed = 0

    def lost(self) -> Mapping[str, int]:
        return {SLOW: self.missed} if self.missed else {}

    def reader(self, points: Sequence[ModbusPoint]) -> Reader:
        """See `Readable`. All lanes are read at once, and none waits for another.

        Who takes longer than the shortest interval goes on while others are read again; its values come with
        a later call, and what was due meanwhile is counted as lost.
        """
        slots = {point.slot for point in points}
        for old in [one for one in self._readers if one.slots & slots]:  # its plan is over
            old.retire()
            self._readers.remove(old)
        made = DialledReader(self, points)
        self._readers.append(made)
        self.expect()
        return made

    def expect(self) -> None:
        """Tell who is awaited."""
        read = [point for reader in self._readers for lane in reader.lanes.values() for point in lane]
        self._hall.expect([*self._others.values(), *read])

    @property
    def patience_s(self) -> float:
        """The shortest interval of all readers."""
        return min((reader.interval_s for reader in self._readers), default=1.0)

    def waiting(self) -> Batch | None:
        """What has come for any reader."""
        return next((reader.came.popleft() for reader in self._readers if reader.came), None)

    def disagrees(self, point: ModbusPoint) -> str | None:
        """How a device wants the port otherwise, for people."""
        if conflict := self._hall.endpoint.conflict(point.endpoint):
            return f"{point.device} disagrees with another device on {self._hall.endpoint.link()}: {conflict}"
        return None

    def connected(self, lane: Lane, endpoint: ModbusEndpoint) -> _Connected:
        """A lane as it is connected now. Raises `AbsentError`."""
        link, known = self._hall.link_of(endpoint), self._lanes.get(lane)
        if known is None or known.link is not link:
            known = self._lanes[lane] = _Connected(link, self._over(link))
        return known

    def check(self) -> None:
        """Raise what one of our tasks ended with: a bug."""
        if self._hall.bug is not None:
            raise self._hall.bug

    async def close(self) -> None:
        for reader in self._readers:
            reader.retire()
        await asyncio.gather(
            *(t for r in self._readers for t in r.under_way.values()), return_exceptions=True
        )

    async def write(self, writes: Sequence[ModbusWrite]) -> Sequence[Outcome]:
        lanes: dict[Lane, list[int]] = {}
        for index, write in enumerate(writes):
            lanes.setdefault(lane_of(write.point), []).append(index)
        done = await asyncio.gather(
            *(self._write(lane, [writes[i] for i in several]) for lane, several in lanes.items())
        )
        by_index = {
            i: outcome
            for several, outcomes in zip(lanes.values(), done, strict=True)
            for i, outcome in zip(several, outcomes, strict=True)
        }
        return [by_index[i] for i in range(len(writes))]

    async def _write(self, lane: Lane, writes: Sequence[ModbusWrite]) -> Sequence[Outcome]:
        point = writes[0].point
        if wrong := self.disagrees(point):
            return [Outcome(error=PointError(wrong, reason=ConfigError.default_reason))] * len(writes)
        if point.endpoint.identity not in self._hall.expected:
            self._others[lane] = point
            self.expect()
        try:
            return await self.connected(lane, point.endpoint).session.write(writes)
        except AbsentError as error:
            return [Outcome(error=error)] * len(writes)
        except LinkError as error:  # what was confirmed before it hung up is written again, and is the same
            return [Outcome(error=AbsentError(str(error)))] * len(writes)

    async def trace(self, point: ModbusPoint) -> Trace:
        if wrong := self.disagrees(point):
            raise PointError(wrong, reason=ConfigError.default_reason)
        if point.endpoint.identity not in self._hall.expected:
            self._others[lane_of(point)] = point
            self.expect()
        await self._hall.arrival(point.endpoint, ARRIVAL_S)
        return await self.connected(lane_of(point), point.endpoint).session.trace(point)


class DialledReader:
    """Called once per poll; see `DialledSession.reader`."""

    def __init__(self, session: DialledSession, points: Sequence[ModbusPoint]) -> None:
        self.slots = {point.slot for point in points}
        self.lanes: dict[Lane, list[ModbusPoint]] = {}
        self.under_way: dict[Lane, asyncio.Task[None]] = {}
        self.came: deque[Batch] = deque()
        intervals = (duration_ns(point.telemetry.sampling_interval) / 1e9 for point in points)
        self.interval_s = min(intervals, default=1.0)
        self._rejected: list[Batch] = []
        self._session = session
        self._pollers: dict[Lane, tuple[Lines, Reader]] = {}
        self._news = asyncio.Event()
        for point in points:
            if wrong := session.disagrees(point):
                self._rejected.append(_bad([point], Quality.BAD, ConfigError(wrong)))
            else:
                self.lanes.setdefault(lane_of(point), []).append(point)

    def __call__(self) -> AsyncIterator[Batch]:
        return self._poll()

    def retire(self) -> None:
        """Nobody wants to know any more."""
        self.came.clear()
        for task in self.under_way.values():
            task.cancel()

    async def _poll(self) -> AsyncIterator[Batch]:
        session, loop = self._session, asyncio.get_running_loop()
        session.check()
        self._over_with()
        for lane, points in self.lanes.items():
            if lane in self.under_way:
                session.missed += len(points)
            else:
                self.under_way[lane] = loop.create_task(self._read(lane, points))
        for batch in self._rejected:
            yield batch
        until = loop.time() + session.patience_s
        while True:
            while (come := session.waiting()) is not None:
                yield come
            self._over_with()
            if not self.under_way and not self.came:
                return
            self._news.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._news.wait()
            except TimeoutError:
                return

    def _over_with(self) -> None:
        """Forget what is done. Raises what it ended with: a bug."""
        for lane, task in list(self.under_way.items()):
            if task.done():
                del self.under_way[lane]
                if not task.cancelled() and (bug := task.exception()) is not None:
                    raise bug

    async def _read(self, lane: Lane, points: Sequence[ModbusPoint]) -> None:
        """Read one lane; every point comes once, whatever happens to its modem."""
        left = {point.slot: point for point in points}
        try:
            connected = self._session.connected(lane, points[0].endpoint)
            session, reader = self._pollers.get(lane, (None, None))
            if session is not connected.session or reader is None:
                reader = connected.session.reader(points)
                self._pollers[lane] = (connected.session, reader)
            try:
                async for batch in reader():
                    for slot in batch.slot:
                        left.pop(slot, None)
                    self._put(batch)
            except LinkError as error:
                connected.link.close()
                raise AbsentError(str(error)) from error
        except AbsentError as error:
            self._put(_bad(list(left.values()), Quality.NO_LINK, error))
        finally:
            self._news.set()

    def _put(self, batch: Batch) -> None:
        self.came.append(batch)
        self._news.set()


def lane_of(point: ModbusPoint) -> Lane:
    return point.endpoint.identity, point.endpoint.unit


def _bad(points: Sequence[ModbusPoint], quality: Quality, error: MapperError) -> Batch:
    nothing = array("d", [math.nan]) * len(points)
    return Batch(array("I", [p.slot for p in points]), time.time_ns(), nothing, int(quality), error)


@asynccontextmanager
async def listening(
    endpoint: ModbusEndpoint, framed: Framed, requests: Requests, over: Over
) -> AsyncIterator[DialledSession]:
    """Listen, until the block ends. Raises `LinkError`."""
    hall = Hall(endpoint, framed, requests)
    async with opened(endpoint, hall.stranger):
        session = DialledSession(hall, over)
        try:
            yield session
        finally:
            await session.close()
            await hall.close()


@asynccontextmanager
async def awaited(endpoint: ModbusEndpoint, framed: Framed, requests: Requests) -> AsyncIterator[Link]:
    """Listen until one device is here, for a minute. Raises `LinkError`."""
    hall = Hall(endpoint, framed, requests)
    async with opened(endpoint, hall.stranger):
        try:
            probe = ModbusAddress(table="holding", offset=0)
            hall.expect([Point(0, "", "", ValueType.UINT16, endpoint, probe)])
            await hall.arrival(endpoint, ARRIVAL_S)
            try:
                link = hall.link_of(endpoint)
            except AbsentError as error:
                raise LinkError(str(error), reason=error.reason) from error
            yield link
        finally:
            await hall.close()
