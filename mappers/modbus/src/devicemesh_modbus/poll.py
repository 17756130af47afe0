"""The reader: plans once; each poll asks, checks and decodes. One bad point never harms another."""

from __future__ import annotations

import functools
import math
import time
from array import array
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from devicemesh.mapper import Batch, LinkError, MapperError, PointError, Quality
from devicemesh_modbus import answers
from devicemesh_modbus.breaker import Breaker
from devicemesh_modbus.exchange import Shared, exchange, strictest
from devicemesh_modbus.link import Answer, Ask
from devicemesh_modbus.plan import Learned, ModbusPoint, Read, Refusal, keep_apart, plan, split

RETRY_REFUSED_S = 60.0
"""How long an address that the device does not have is left alone: the device may be reconfigured."""
RETRY_FAILED_S = 5.0
"""The same for an address at which the device said that it failed."""
RETRY_APART_S = 3600.0
"""How long two ranges that were granted one by one, but not as one, are asked for one by one."""
_STREAMS = ("tcp", "tls", "rtuovertcp", "asciiovertcp")


@functools.lru_cache(1024)
def _head(function: int, size: int) -> bytes:
    """How a good answer begins."""
    return bytes((function, size))


class _Request:
    """A planned read, ready to be sent and decoded."""

    __slots__ = (
        "ask",
        "breaker",
        "head",
        "layout",
        "length",
        "points",
        "refusal",
        "suspect",
        "tries",
    )

    def __init__(self, read: Read, shared: Shared) -> None:
        timeout_s, pause_s, self.tries = strictest(p.endpoint for p in read.points)
        self.points = read.points
        self.ask = shared.requests.read(
            read.unit, read.table, read.start, read.count, timeout_s=timeout_s, pause_s=pause_s
        )
        self.head = _head(read.function, read.size)
        self.length = 2 + read.size
        self.layout = read.layout()
        self.breaker: Breaker | None = None  # while it is not answered although its unit lives
        self.suspect = False  # the unit fell silent at it: the others go first
        self.refusal: Refusal | None = None

    @property
    def read(self) -> Read:
        """As it was planned; nobody asks while all goes well."""
        return Read(self.points)

    def judge(self, answer: bytes, shared: Shared) -> memoryview:
        """The data of a good answer. Raises as `answers.check`."""
        if answer[:2] == self.head and len(answer) == self.length:
            return memoryview(answer)[2:]
        read = self.read
        return answers.data(answer, read.function, read.size, shared.who(read.unit), read.text())

    def bad(self, error: MapperError) -> list[Batch]:
        return self.layout.bad(time.time_ns(), answers.quality(error), error)


_UnderWay: TypeAlias = deque[tuple[_Request, Awaitable["Answer | None"]]]


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
        self._depth = shared.opened.pipeline
        self._plan()

    def __call__(self) -> AsyncIterator[Batch]:
        return self._poll()

    def _plan(self) -> None:
        shared = self._shared
        shared.forget()
        self._generation = shared.generation
        self._plan_until = shared.forget_at()
        planned = plan(self._points, shared.opened, shared.learned)
        known = {request.read.slots: request for request in self._requests}
        self._requests = [known.get(read.slots) or _Request(read, shared) for read in planned.reads]
        for request, read in zip(self._requests, planned.reads, strict=True):
            learned = shared.learned.get((read.unit, read.table), Learned())
            request.refusal = learned.refused.get(read.extent)
        self._rejected = [(array("I", [point.slot]), error) for error, point in planned.rejected]
        self._calm = False  # whether the last poll found nothing wrong
        pausing = shared.link.pauses or any(request.ask.pause_s for request in self._requests)
        self._ask: Callable[[Ask], Awaitable[Answer | None]] = (
            shared.link.ask if pausing else shared.link.send
        )

    async def _poll(self) -> AsyncIterator[Batch]:
        shared = self._shared
        if self._generation != shared.generation or shared.clock() >= self._plan_until:
            self._plan()
        requests, now = self._requests, None
        if self._calm and not shared.quiet:  # the usual case, kept lean
            for request in requests:
                answer = await self._ask(request.ask)
                if answer is None or answer[0][:2] != request.head or len(answer[0]) != request.length:
                    done = requests.index(request)
                    now = _Round({before.ask.unit for before in requests[:done]})
                    async for batch in self._settle(request, answer, now):
                        yield batch
                    requests = requests[done + 1 :]
                    break
                for batch in request.layout.decode(answer[0][2:], answer[1]):
                    yield batch
            else:
                return
        async for batch in self._carefully(requests, now or _Round()):
            yield batch

    async def _carefully(self, requests: Sequence[_Request], now: _Round) -> AsyncIterator[Batch]:
        """Poll where something is wrong with some, or where several requests may be under way."""
        for slots, wrong in self._rejected:
            yield Batch(slots, time.time_ns(), array("d", [math.nan]), int(Quality.BAD), wrong)
        waiting = deque(sorted(requests, key=lambda request: request.suspect))
        under_way = _UnderWay()
        while waiting or under_way:
            for batch in self._start(waiting, under_way, now):
                yield batch
            if under_way:
                request, coming = under_way.popleft()
                async for batch in self._settle(request, await coming, now):
                    yield batch
        self._calm = self._depth == 1 and not self._rejected and not any(map(self._is_odd, self._requests))

    def _is_odd(self, request: _Request) -> bool:
        """Whether anything speaks against sending this request as a matter of course."""
        quiet = request.ask.unit in self._shared.quiet
        return bool(quiet or request.suspect or request.breaker or request.refusal)

    def _start(self, waiting: deque[_Request], under_way: _UnderWay, now: _Round) -> list[Batch]:
        """Ask for as many as may be under way; returns bad rows for those that are left alone."""
        bad: list[Batch] = []
        while waiting and len(under_way) < self._depth:
            request = waiting.popleft()
            error = self._left_alone(request, now)
            if error is None:
                under_way.append((request, self._ask(request.ask)))
            else:
                bad += request.bad(error)
        return bad

    def _left_alone(self, request: _Request, now: _Round) -> MapperError | None:
        """Why this request is not sent in this poll, or None."""
        if not self._is_odd(request):
            return None
        unit, own, refusal = request.ask.unit, request.breaker, request.refusal
        quiet, clock = self._shared.quiet.get(unit), self._shared.clock()
        if quiet is not None and (unit in now.silent or not quiet.breaker.ready(clock)):
            return quiet.breaker.error
        if own is not None and not own.ready(clock):
            return own.error
        return refusal.error if refusal and clock < refusal.retry_at else None

    def _good(self, request: _Request) -> None:
        """A good answer: forget what spoke against the unit and the request."""
        request.suspect = False
        self._shared.answered(request.ask.unit)
        request.breaker = None
        if request.refusal is not None:
            request.refusal, read = None, request.read
            self._shared.learn(read.unit, read.table).refused.pop(read.extent, None)

    async def _settle(self, request: _Request, answer: Answer | None, now: _Round) -> AsyncIterator[Batch]:
        """What becomes of an answer, good or not."""
        if answer is None:
            self._shared.link.check()
        try:
            batches, _ = await self._outcome(request, now, answer, asked=True)
        except answers.RefusedError as refusal:
            async for batch in self._explore(request, refusal, now):
                yield batch
        else:
            for batch in batches:
                yield batch

    async def _explore(
        self, request: _Request, refusal: answers.RefusedError, now: _Round
    ) -> AsyncIterator[Batch]:
        """Halve a refused request until what is refused stands alone, and remember it for the next plans."""
        shared, read = self._shared, request.read
        halves = split(read)
        if halves is None:
            pause_s = RETRY_FAILED_S if refusal.code == answers.FAILURE else RETRY_REFUSED_S
            known = Refusal(refusal.with_traceback(None), shared.clock() + pause_s)
            shared.learn(read.unit, read.table).refused[read.extent] = known
            for batch in request.bad(refusal):
                yield batch
            return
        granted = True
        for half in [_Request(half, shared) for half in halves]:
            try:
                batches, good = await self._outcome(half, now)
            except answers.RefusedError as again:
                granted = False
                async for batch in self._explore(half, again, now):
                    yield batch
            else:
                granted = granted and good
                for batch in batches:
                    yield batch
        if granted:
            pause_s = RETRY_REFUSED_S if refusal.code == answers.FAILURE else RETRY_APART_S
            keep_apart(shared.learn(read.unit, read.table), *halves, shared.clock() + pause_s)

    async def _outcome(
        self, request: _Request, now: _Round, answer: Answer | None = None, *, asked: bool = False
    ) -> tuple[list[Batch], bool]:
        """The batches of a request, and whether they are good. Raises `RefusedError` if halving may help."""
        shared, unit = self._shared, request.ask.unit
        if unit in now.silent and answer is None:
            quiet = shared.quiet.get(unit)
            error = quiet.breaker.error if quiet is not None else None
            return request.bad(error or answers.SilentError(f"no answer from {shared.who(unit)}")), False
        try:
            data, time_ns = await exchange(
                shared,
                request.ask,
                request.tries,
                lambda got: request.judge(got, shared),
                answer,
                asked=asked,
            )
        except answers.SilentError as silence:
            return request.bad(self._silent(request, silence, now)), False
        except PointError as error:
            now.alive.add(unit)
            shared.answered(unit)
            if isinstance(error, answers.RefusedError) and error.code in answers.SPLITTABLE:
                raise
            return request.bad(error), False
        now.alive.add(unit)
        self._good(request)
        return request.layout.decode(data, time_ns), True

    def _silent(self, request: _Request, error: answers.SilentError, now: _Round) -> MapperError:
        """Count a silence: of the request if its unit lives, else of the unit, once per poll."""
        shared, unit = self._shared, request.ask.unit
        hold_s = 0.0 if shared.opened.frames == "mbap" else request.ask.timeout_s
        if unit in now.alive:
            if request.breaker is None:
                request.breaker = shared.breaker(request.points[0].endpoint)
            return request.breaker.failed(shared.clock(), error, hold_s)
        request.suspect = True
        now.silent.add(unit)
        quiet = shared.fell_silent(request.points[0].endpoint)
        shown = quiet.breaker.failed(shared.clock(), error, hold_s)
        nothing_came = shared.link.heard == quiet.heard
        if quiet.breaker.exhausted and nothing_came and shared.opened.kind in _STREAMS:
            raise LinkError(f"nothing comes from {shared.link.name} any more", reason="Silent")
        return shown
