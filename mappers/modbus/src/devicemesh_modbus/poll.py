"""The reader: plans once; each poll asks, checks and decodes. One bad point never harms another."""

from __future__ import annotations

import math
import time
from array import array
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from devicemesh.mapper import Batch, LinkError, MapperError, PointError, Quality
from devicemesh_modbus import answers
from devicemesh_modbus.exchange import Shared, exchange, strictest
from devicemesh_modbus.link import Answer, Ask
from devicemesh_modbus.plan import Learned, ModbusPoint, Read, Refusal, keep_apart, plan, split

RETRY_REFUSED_S = 60.0
"""How long an address that the device does not have is left alone: the device may be reconfigured."""
RETRY_FAILED_S = 5.0
"""The same for an address at which the device said that it failed."""
_STREAMS = ("tcp", "tls", "rtuovertcp")


class _Request:
    """A planned read, ready to be sent and decoded."""

    __slots__ = ("ask", "breaker", "head", "layout", "read", "refusal", "suspect", "tries", "unit", "who")

    def __init__(self, read: Read, shared: Shared) -> None:
        timeout_s, pause_s, self.tries = strictest(p.endpoint for p in read.points)
        first = read.points[0].endpoint
        self.read = read
        self.who = shared.who(read.unit)
        self.ask = shared.requests.read(
            read.unit, read.table, read.start, read.count, timeout_s=timeout_s, pause_s=pause_s
        )
        self.head = bytes((read.function, read.size))  # how a good answer begins
        self.layout = read.layout()
        self.unit = shared.unit(first)
        self.breaker = shared.breaker(first)  # for a request that is not answered although its unit lives
        self.suspect = False  # the unit fell silent at it: the others go first
        self.refusal: Refusal | None = None

    def judge(self, answer: bytes) -> memoryview:
        return answers.data(answer, self.read.function, self.read.size, self.who, self.read.text())

    def bad(self, error: MapperError) -> list[Batch]:
        return self.layout.bad(time.time_ns(), answers.quality(error), error)


@dataclass(slots=True)
class _Round:
    """One poll: which units answered, which did not."""

    alive: set[int] = field(default_factory=set)
    silent: set[int] = field(default_factory=set)


class Poller:
    """Called once per poll; see `Readable.reader`."""

    def __init__(self, points: Sequence[ModbusPoint], shared: Shared) -> None:
        self._points = points
        self._shared = shared
        self._requests: list[_Request] = []
        self._plan()

    def __call__(self) -> AsyncIterator[Batch]:
        return self._poll()

    def _plan(self) -> None:
        shared = self._shared
        self._generation = shared.generation
        planned = plan(self._points, shared.opened, shared.learned)
        known = {(r.read.unit, r.read.table, r.read.points): r for r in self._requests}
        self._requests = [
            known.get((read.unit, read.table, read.points)) or _Request(read, shared) for read in planned.reads
        ]
        for request in self._requests:
            learned = shared.learned.get((request.read.unit, request.read.table), Learned())
            request.refusal = learned.refused.get(request.read.extent)
        self._rejected = [(array("I", [point.slot]), error) for error, point in planned.rejected]

    async def _poll(self) -> AsyncIterator[Batch]:
        link, depth, now = self._shared.link, self._shared.opened.pipeline, _Round()
        link.check()
        if self._generation != self._shared.generation:
            self._plan()
        for slots, wrong in self._rejected:
            yield Batch(slots, time.time_ns(), array("d", [math.nan]), int(Quality.BAD), wrong)
        start: Callable[[Ask], Awaitable[Answer | None]] = link.ask if depth == 1 else link.send
        waiting = deque(self._in_order())
        under_way: deque[tuple[_Request, Awaitable[Answer | None]]] = deque()
        while waiting or under_way:
            while waiting and len(under_way) < depth:
                request = waiting.popleft()
                error = self._left_alone(request, now)
                if error is None:
                    under_way.append((request, start(request.ask)))
                else:
                    for batch in request.bad(error):
                        yield batch
            if not under_way:
                continue
            request, coming = under_way.popleft()
            answer = await coming
            if answer and answer[0].startswith(request.head) and len(answer[0]) == request.head[1] + 2:
                now.alive.add(request.ask.unit)
                if request.unit.silences or request.suspect or request.breaker.silences or request.refusal:
                    self._good(request)
                for batch in request.layout.decode(memoryview(answer[0])[2:], answer[1]):
                    yield batch
            else:
                async for batch in self._trouble(request, answer, now):
                    yield batch

    def _in_order(self) -> list[_Request]:
        if any(request.suspect for request in self._requests):
            return sorted(self._requests, key=lambda request: request.suspect)
        return self._requests

    def _left_alone(self, request: _Request, now: _Round) -> MapperError | None:
        """Why this request is not sent in this poll, or None."""
        unit, own, refusal = request.unit, request.breaker, request.refusal
        if not (unit.silences or own.silences or refusal):
            return None
        clock = self._shared.clock()
        if request.ask.unit in now.silent or not unit.ready(clock):
            return unit.error
        if not own.ready(clock):
            return own.error
        return refusal.error if refusal and clock < refusal.retry_at else None

    def _good(self, request: _Request) -> None:
        """A good answer: forget what spoke against the unit and the request."""
        request.suspect = False
        request.unit.answered()
        request.breaker.answered()
        if request.refusal is not None:
            request.refusal = None
            self._shared.learn(request.read.unit, request.read.table).refused.pop(request.read.extent, None)

    async def _trouble(self, request: _Request, answer: Answer | None, now: _Round) -> AsyncIterator[Batch]:
        """Everything but a good answer at the first try."""
        if answer is None:
            self._shared.link.check()
        try:
            batches, _ = await self._outcome(request, now, answer, asked=True)
        except answers.Refused as refusal:
            async for batch in self._explore(request, refusal, now):
                yield batch
        else:
            for batch in batches:
                yield batch

    async def _explore(
        self, request: _Request, refusal: answers.Refused, now: _Round
    ) -> AsyncIterator[Batch]:
        """Halve a refused request until what is refused stands alone, and remember it for the next plans."""
        shared, read = self._shared, request.read
        halves = split(read)
        if halves is None:
            pause_s = RETRY_FAILED_S if refusal.code == answers.FAILURE else RETRY_REFUSED_S
            learned = shared.learn(read.unit, read.table)
            learned.refused[read.extent] = Refusal(refusal, shared.clock() + pause_s)
            for batch in request.bad(refusal):
                yield batch
            return
        granted = True
        for half in [_Request(half, shared) for half in halves]:
            try:
                batches, good = await self._outcome(half, now)
            except answers.Refused as again:
                granted = False
                async for batch in self._explore(half, again, now):
                    yield batch
            else:
                granted = granted and good
                for batch in batches:
                    yield batch
        if granted:
            keep_apart(shared.learn(read.unit, read.table), *halves)

    async def _outcome(
        self, request: _Request, now: _Round, answer: Answer | None = None, *, asked: bool = False
    ) -> tuple[list[Batch], bool]:
        """The batches of a request, and whether they are good. Raises `Refused` where halving may help."""
        unit = request.ask.unit
        if unit in now.silent:
            return request.bad(request.unit.error or answers.Silent(f"no answer from {request.who}")), False
        try:
            data, time_ns = await exchange(
                self._shared, request.ask, request.tries, request.judge, answer, asked=asked
            )
        except answers.Silent as silence:
            return request.bad(self._silent(request, silence, now)), False
        except PointError as error:
            now.alive.add(unit)
            request.unit.answered()
            if isinstance(error, answers.Refused) and error.code in answers.SPLITTABLE:
                raise
            return request.bad(error), False
        now.alive.add(unit)
        self._good(request)
        return request.layout.decode(data, time_ns), True

    def _silent(self, request: _Request, error: answers.Silent, now: _Round) -> MapperError:
        """Count a silence: of the request if its unit lives, else of the unit, once per poll."""
        shared, unit = self._shared, request.ask.unit
        hold_s = 0.0 if shared.opened.kind in ("tcp", "tls", "udp") else request.ask.timeout_s
        if unit in now.alive:
            return request.breaker.failed(shared.clock(), error, hold_s)
        request.suspect = True
        now.silent.add(unit)
        if request.unit.silences == 0:
            shared.heard[unit] = shared.link.heard
        shown = request.unit.failed(shared.clock(), error, hold_s)
        nothing_came = shared.link.heard == shared.heard[unit]
        if request.unit.exhausted and nothing_came and shared.opened.kind in _STREAMS:
            raise LinkError(f"nothing comes from {shared.link.name} any more", reason="Silent")
        return shown
