"""Desired to wire: one link's writes, before its reads, each with its outcome and read-back."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from devicemesh.aggregate import kind
from devicemesh.mapper import (
    Invocable,
    Invocation,
    LinkError,
    Outcome,
    PointError,
    Session,
    Writable,
    Write,
)
from devicemesh.runtime.binding import point
from devicemesh.runtime.device import RunningDevice
from devicemesh.runtime.histogram import Histogram
from devicemesh.runtime.pipeline import Pipeline
from devicemesh.twin import Attempt, State, same, text

log = logging.getLogger("devicemesh.write")
RETRY_S, LAST_RETRY_S = 5.0, 60.0  # after the first failure of a write, and after many

Answer = Callable[[str, Mapping[str, Attempt]], None]


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """What became of one call."""

    state: State
    result: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class _Command:
    """Something to be done once. `failed` is its answer where the link is down."""

    work: Callable[[Session[Any, Any]], Awaitable[Any]]
    failed: Callable[[str, str], Any]
    future: asyncio.Future[Any]


class Writeback:
    """The writes and calls of one link. `wake` tells its task that there is something to do."""

    def __init__(self, pipeline: Pipeline, wake: Callable[[], None]) -> None:
        self._pipeline = pipeline
        self._wake = wake
        self._devices: Mapping[str, RunningDevice] = {}
        self._unsettled: set[str] = set()  # devices with desired values that may have to be written
        self._look = False  # something happened that may let an unsettled one go ahead
        self.again_s = math.inf  # when a write that failed is due again, by the loop's clock
        self._commands: deque[_Command] = deque()
        self.fence: Callable[[], bool] | None = None  # whether we may write; None: always
        self.duration = Histogram()
        self.outcomes: dict[str, int] = {}  # of writes, counted: applied, refused, failed
        self.calls: dict[str, int] = {}  # the same of calls

    @property
    def urgent(self) -> bool:
        """Whether to write between two reads of one poll."""
        return bool(self._commands) or self._look

    def configure(self, devices: Mapping[str, RunningDevice]) -> None:
        self._devices = devices
        self.resume()

    def resume(self) -> None:
        """Compare every desired value anew: the link is up again, or the declaration changed."""
        self._unsettled = {name for name, device in self._devices.items() if device.bound.desired}
        self._look = bool(self._unsettled)

    def polled(self) -> None:
        """Readings have come in that an unsettled value may have waited for."""
        self._look = bool(self._unsettled)

    def command(self, device: str, writes: Sequence[tuple[str, Any]]) -> asyncio.Future[dict[str, Attempt]]:
        """Write these once, in order, outside the desired state."""

        async def work(session: Session[Any, Any]) -> dict[str, Attempt]:
            if not self._may(device, writes):
                return failed("Redeclared", "it was declared otherwise meanwhile")
            return await self._write(session, device, writes)

        def failed(reason: str, message: str) -> dict[str, Attempt]:
            now_ns = time.time_ns()
            return {name: Attempt(value, "failed", now_ns, reason, message) for name, value in writes}

        return self._once(work, failed)

    def call(self, invocation: Invocation[Any]) -> asyncio.Future[CallOutcome]:
        """Call it once."""

        async def work(session: Session[Any, Any]) -> CallOutcome:
            done = await self._called(session, invocation)
            self.calls[done.state] = self.calls.get(done.state, 0) + 1
            return done

        def failed(reason: str, message: str) -> CallOutcome:
            self.calls["failed"] = self.calls.get("failed", 0) + 1
            return CallOutcome("failed", reason=reason, message=message)

        return self._once(work, failed)

    def _once(
        self, work: Callable[[Session[Any, Any]], Awaitable[Any]], failed: Callable[[str, str], Any]
    ) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._commands.append(_Command(work, failed, future))
        self._wake()
        return future

    async def run(self, session: Session[Any, Any]) -> None:
        """Write what is to be written. Raises LinkError: desired values stay to be done, commands `fail`."""
        while self._commands:
            command = self._commands[0]
            done = await command.work(session)
            self._commands.popleft()
            if not command.future.done():
                command.future.set_result(done)
        loop = asyncio.get_running_loop()
        if not self._look and loop.time() < self.again_s:
            return
        self._look = False
        now_ns, clock_s = time.time_ns(), loop.time()
        for name in sorted(self._unsettled):
            device_ = self._devices.get(name)
            if device_ is None:
                continue  # removed while its neighbour was written
            writes_ = device_.plan_writes(self._pipeline.aggregator, now_ns, clock_s).writes
            if writes_:
                for prop, attempt in (await self._write(session, name, list(writes_.items()))).items():
                    if device_.wants(prop, attempt.value):  # else it was edited meanwhile
                        device_.settle(prop, attempt)
            if device_.settled:
                self._unsettled.discard(name)
        waiting = (self._devices[name] for name in self._unsettled if name in self._devices)
        self.again_s = min((device.again_s(clock_s) for device in waiting), default=math.inf)

    async def _called(self, session: Session[Any, Any], invocation: Invocation[Any]) -> CallOutcome:
        if not isinstance(session, Invocable):
            return CallOutcome("refused", reason="NotCallable", message="this protocol calls nothing")
        self._ask_fence()
        started = time.monotonic()
        try:
            done = CallOutcome("applied", await session.invoke(invocation))
        except PointError as error:
            state: State = "failed" if error.passes else "refused"
            done = CallOutcome(state, reason=error.reason, message=str(error))
        shown = ", ".join(f"{name}={value!r:.40}" for name, value in invocation.arguments.items())
        took_ms, why = (time.monotonic() - started) * 1e3, f": {done.message}" if done.message else ""
        log.info(
            "call %s %s(%s): %s in %.0f ms%s",
            invocation.device, invocation.command, shown, done.state, took_ms, why,
        )  # fmt: skip
        return done

    async def _write(
        self, session: Session[Any, Any], name: str, writes: Sequence[tuple[str, Any]]
    ) -> dict[str, Attempt]:
        device = self._devices.get(name)
        if device is None or not isinstance(session, Writable):
            why = "the device is gone" if device is None else "this protocol can't write"
            return {n: Attempt(v, "refused", time.time_ns(), "NotWritable", why) for n, v in writes}
        wanted = [Write(point(device.bound, n, device.slot(n)), device.specs[n].taken(v)) for n, v in writes]
        started = time.monotonic()
        outcomes = await self._wire(session, wanted)
        self.duration.add(time.monotonic() - started)
        if any(self._slot(name, one.point.name) != one.point.slot for one in wanted):
            gone = "it was written, but declared otherwise meanwhile"
            return {n: Attempt(v, "failed", time.time_ns(), "Redeclared", gone) for n, v in writes}
        done: dict[str, Attempt] = {}
        for (prop, value), outcome in zip(writes, outcomes, strict=True):
            done[prop] = attempt = self._attempt(device, prop, value, outcome)
            self.outcomes[attempt.state] = self.outcomes.get(attempt.state, 0) + 1
            took_ms = (time.monotonic() - started) * 1e3
            unit = device.specs[prop].unit
            why = f": {attempt.message}" if attempt.message else ""
            wanted_text = text(value, unit)
            level = logging.DEBUG if attempt.repeats(device.attempts.get(prop)) else logging.INFO
            log.log(
                level, "write %s %s = %s: %s in %.0f ms%s",
                name, prop, wanted_text, attempt.state, took_ms, why,
            )  # fmt: skip
        return done

    async def _wire(
        self, session: Writable[Any, Any], wanted: Sequence[Write[Any, Any]]
    ) -> Sequence[Outcome]:
        """Behind a fence one by one, each asked for: the process may be stopped between two."""
        if self.fence is None:
            return await session.write(wanted)
        outcomes: list[Outcome] = []
        for one in wanted:
            self._ask_fence()
            outcomes += await session.write([one])
        return outcomes

    def _ask_fence(self) -> None:
        if self.fence is not None and not self.fence():
            raise LinkError("this replica has lost its Lease", reason="LeaseLost")

    def _may(self, device: str, writes: Sequence[tuple[str, Any]]) -> bool:
        """Whether the device, if it is there, still takes these: it may have been edited since."""
        found = self._devices.get(device)
        return found is None or all(
            name in found.specs and found.specs[name].refusal(value) is None for name, value in writes
        )

    def _slot(self, device: str, prop: str) -> int | None:
        """The slot that a property has now; None where either is gone."""
        found = self._devices.get(device)
        return found.slot(prop) if found is not None and prop in found.specs else None

    def _attempt(self, device: RunningDevice, prop: str, value: Any, outcome: Outcome) -> Attempt:
        now_ns = time.time_ns()
        spec = device.specs[prop]
        if outcome.value is not None:
            self._pipeline.value(device.slot(prop), kind(spec.type), outcome.value)
        if outcome.error is not None:
            return _failed(outcome.error, value, now_ns, device.attempts.get(prop))
        if outcome.value is not None and not same(device.bound.nearest(prop, value), outcome.value):
            message = (
                f"{text(value, spec.unit)} was written, but reads back as {text(outcome.value, spec.unit)}"
            )
            return Attempt(value, "refused", now_ns, "ReadBackDiffers", message)
        return Attempt(value, "applied", now_ns)

    def fail(self, reason: str, message: str) -> None:
        """The link is down: answer whoever waits. A command is never kept for later."""
        while self._commands:
            command = self._commands.popleft()
            if not command.future.done():
                command.future.set_result(command.failed(reason, message))


def _failed(error: PointError, value: Any, now_ns: int, last: Attempt | None) -> Attempt:
    """A write that was not taken: refused, or to be tried again, the later the oftener it was."""
    if error.again_s is None:
        return Attempt(value, "refused", now_ns, error.reason, str(error))
    pause_s = max(error.again_s, RETRY_S)
    if last is not None and last.state == "failed" and same(last.value, value):
        pause_s = max(error.again_s, min(LAST_RETRY_S, 2 * last.pause_s))
    retry_s = asyncio.get_running_loop().time() + pause_s
    return Attempt(value, "failed", now_ns, error.reason, str(error), retry_s, pause_s)
