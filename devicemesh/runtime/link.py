"""One link, one owner: opens the session, polls by schedule, writes first, backs off, never gives up."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

from devicemesh.mapper import (
    AuthError,
    Batch,
    ConfigError,
    Endpoint,
    LinkError,
    Mapper,
    MapperError,
    Notification,
    Point,
    Quality,
    Readable,
    Reader,
    Session,
)
from devicemesh.runtime.backfill import Backfill, Gaps
from devicemesh.runtime.binding import point
from devicemesh.runtime.device import RunningDevice, disagreeing, without
from devicemesh.runtime.linkstats import LinkStats
from devicemesh.runtime.pipeline import Pipeline
from devicemesh.runtime.push import Push
from devicemesh.runtime.schedule import Schedule, first_due
from devicemesh.runtime.secrets import LinkSecrets
from devicemesh.runtime.writeback import Writeback
from devicemesh.spec.values import duration_ns
from devicemesh.store.base import NOTHING

log = logging.getLogger("devicemesh.link")
FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
NOBODY = 0xFFFFFFFF  # a slot that is never given: the core counts its rows as dropped
Owner = Callable[[int], tuple[RunningDevice, str] | None]
"""Whose slot it is: (device, property)."""
_slot = attrgetter("slot")


class Link:
    """All devices that share a peer. `run` is its one task."""

    def __init__(
        self,
        name: tuple[str, str],
        mapper: Mapper[Any, Any],
        pipeline: Pipeline,
        owner: Owner,
        secrets: LinkSecrets,
        rng: random.Random,
    ) -> None:
        self.name = name
        self.stats = LinkStats()
        self.writeback = Writeback(pipeline, self.wake)
        self._mapper = mapper
        self._pipeline = pipeline
        self._owner = owner
        self._secrets = secrets
        self._rng = rng
        self._devices: dict[str, RunningDevice] = {}
        self._sick: set[str] = set()
        self._planned: Sequence[Point[Any, Any]] = ()  # what the plan reads, ordered by slot
        self._gaps = Gaps()
        self._backfill: Backfill | None = None
        self._session: Session[Any, Any] | None = None
        self._lost: Counter[str] = Counter()  # of the sessions before
        self._stale = True  # the plan does not fit the devices any more
        self._reopen = False
        self._opened: Endpoint | None = None  # as the session was, or is being, opened
        self._tries = 0
        self._said: str | None = ""  # why it is down, as it was logged; None: up
        self._bug = ""  # the last unexpected error: its traceback is logged once
        self._wake: asyncio.Future[None] | None = None

    @property
    def label(self) -> str:
        return f"{self.name[0]} {self.name[1]}"

    def configure(self, devices: Sequence[RunningDevice]) -> None:
        """Take the devices as they are declared now; the session stays unless the link itself changed."""
        self._devices = {device.name: device for device in sorted(devices, key=lambda d: d.name)}
        self._sick &= self._devices.keys()
        self._reopen = self._opened is not None and self._opened.conflict(self.endpoint) is not None
        self._stale = True
        disagree = disagreeing(self.label, self._devices)
        for device in devices:
            told = disagree.get(device.name, "")
            if told and told != device.disagrees:
                log.warning("%s", told)
            device.dirty |= told != device.disagrees
            device.disagrees = told
            device.link_up = self.stats.up
            self._look_back(device)
        self.writeback.configure(self._devices)
        self.wake()

    def _look_back(self, device: RunningDevice) -> None:
        """What was read before this process began ends where the first session begins."""
        before, device.before = device.before, NOTHING
        if self.stats.reconnects or not before:
            return
        for one in device.points():
            if one.name in before:
                self._gaps.open[one.slot] = (one, before[one.name])

    def wake(self) -> None:
        """There is something to do before the next poll."""
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    @property
    def endpoint(self) -> Any:
        """That of the first device: in what is shared all agree."""
        return next(iter(self._devices.values())).bound.endpoint

    @property
    def namespace(self) -> str:
        """That of the first device, whose endpoint is used."""
        return next(iter(self._devices)).partition("/")[0]

    async def run(self) -> None:
        """Until cancelled."""
        try:
            await self._keep_open()
        finally:
            self.writeback.fail("NoLink", "the device is gone, or the runtime stops")

    def look_at_secrets(self) -> None:
        """Open the link anew where a secret was rotated, or is there at last."""
        if self._secrets.changed():
            log.info("link %s: a secret has changed", self.label)
            self._secrets.forget()
            self._reopen = True
            self.wake()

    async def _keep_open(self) -> None:
        while True:
            self._reopen = self._stale = False
            try:
                self._opened = self.endpoint
                self._secrets.forget()
                async with self._mapper.open(self._opened, self._secrets) as session:
                    self._up()
                    await self._serve(session)
                continue  # the link's declaration changed: open it again
            except (ConfigError, AuthError) as error:
                self._down(error, error.reason, None)
            except LinkError as error:
                self._down(error, error.reason, self._backoff())
            except asyncio.CancelledError:
                if _stopped():
                    raise
                self._unexpected(RuntimeError("something that the mapper waited for was cancelled"))
            except Exception as error:  # a bug in a mapper must not end the others
                self._unexpected(error)
            if not (self._stale or self._reopen):  # else something changed meanwhile: try at once
                await self._sleep(self.stats.backoff_s or None)

    def _unexpected(self, error: Exception) -> None:
        if repr(error) != self._bug:
            log.exception("link %s: unexpected error, a bug", self.label)
        self._bug = repr(error)
        self._down(error, "InternalError", self._backoff())

    def _backoff(self) -> float:
        self._tries += 1
        wait = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(self._tries - 1, 10))
        return wait * self._rng.uniform(0.8, 1.2)

    def _up(self) -> None:
        self.stats.up, self.stats.why = True, ""
        self.stats.reconnects += 1
        self.stats.backoff_s = 0.0
        self._stale = True
        for device in self._devices.values():
            device.back()
        self.writeback.resume()

    def _down(self, error: Exception, reason: str, backoff_s: float | None) -> None:
        self.stats.up = False
        self.stats.backoff_s = backoff_s or 0.0
        self.stats.failed(reason)
        next_ = (
            f"next in {max(1, round(backoff_s))} s" if backoff_s else "waits for a change of the declaration"
        )
        tries = f", {self._tries} tries" if self._tries > 1 else ""
        if str(error) != self._said:
            self._said = str(error)
            log.warning("link %s is down: %s, %s", self.label, error, next_)
        self.stats.why = message = f"{error}{tries}, {next_}"
        self.writeback.fail(reason, message)
        for device in self._devices.values():
            device.lost(reason, message)
            device.waits_for_edit = backoff_s is None
        latest = self._pipeline.aggregator.latest
        slots = []
        for slot in (s for d in self._devices.values() for s in d.column):
            last = latest(slot)
            if last.quality != Quality.NO_LINK:
                slots.append(slot)
            if last.quality < Quality.BAD and (asked := self._asked(slot)) is not None:
                self._gaps.open.setdefault(slot, (asked, last.time_ns))
        cause = error if isinstance(error, MapperError) else LinkError(str(error), reason=reason)
        self._pipeline.bad(slots, Quality.NO_LINK, cause)

    async def _sleep(self, seconds: float | None) -> None:
        """Until woken, at most this long."""
        loop = asyncio.get_running_loop()
        self._wake = wake = loop.create_future()
        timer = loop.call_later(seconds, self.wake) if seconds is not None else None
        try:
            await wake
        finally:
            self._wake = None
            if timer is not None:
                timer.cancel()

    async def _serve(self, session: Session[Any, Any]) -> None:
        """Poll and write until the link dies (LinkError) or is declared otherwise."""
        self._session = session
        try:
            async with (
                Backfill(session, self._gaps, self._asked, self._old, self.wake) as self._backfill,
                Push(session, self._pushed, self.wake) as push,
            ):
                await self._poll(session, push, self._backfill)
        finally:
            self._session = self._backfill = None
            self._lost.update(session.lost())

    def _asked(self, slot: int) -> Point[Any, Any] | None:
        """What the plan reads into a slot."""
        at = bisect_left(self._planned, slot, key=_slot)
        found = self._planned[at] if at < len(self._planned) else None
        return found if found is not None and found.slot == slot else None

    def lost(self) -> Mapping[str, int]:
        """Samples that never got here, by reason, as far as the peer says."""
        now = self._session.lost() if self._session is not None else {}
        return self._lost + Counter(now)

    async def _poll(self, session: Session[Any, Any], push: Push, backfill: Backfill) -> None:
        loop = asyncio.get_running_loop()
        schedule: Schedule[Reader] = Schedule()
        while not self._reopen:
            if self._stale:
                self._stale = False
                schedule = await self._plan(session, push)
            await self.writeback.run(session)
            push.check()
            backfill.check()
            entry, now = schedule.peek(), loop.time()
            if self._reopen or self._stale or self.writeback.urgent:  # while it wrote
                continue
            if entry is None or entry.due > now:
                due = min(entry.due if entry is not None else math.inf, self.writeback.again_s)
                await self._sleep(max(0.0, due - now) if due < math.inf else None)
                continue
            self.stats.lag.add(now - entry.due)
            asked, stamp = now, None
            async for batch in entry.what():
                if batch.time_ns is not stamp:  # else it is of the same answer
                    self.stats.request.add(loop.time() - asked)
                    stamp = batch.time_ns
                self._take(batch)
                if self.writeback.urgent:
                    await self.writeback.run(session)
                asked = loop.time()
            self.stats.overruns += schedule.done(loop.time())
            self.writeback.polled()

    async def _plan(self, session: Session[Any, Any], push: Push) -> Schedule[Reader]:
        schedule: Schedule[Reader] = Schedule()
        points = [one for device in self._devices.values() for one in device.points()]
        self._planned = sorted(points, key=_slot)
        told = [one for device in self._devices.values() for one in device.notifiers()]
        polled = await push.subscribe(points, told)
        self._say_how(points, polled)
        if not isinstance(session, Readable):
            return schedule
        classes: dict[int, list[Any]] = {}
        for one in polled:
            classes.setdefault(duration_ns(one.telemetry.sampling_interval), []).append(one)
        now = asyncio.get_running_loop().time()
        for interval_ns, points in classes.items():
            seconds = interval_ns / 1e9
            schedule.add(session.reader(points), seconds, first_due(f"{self.name}", seconds, now))
        return schedule

    def _say_how(self, points: Sequence[Point[Any, Any]], polled: Sequence[Point[Any, Any]]) -> None:
        """Tell each device how its values come."""
        slots = {one.slot for one in polled}
        asked = {one.device for one in polled}
        pushed = {one.device for one in points if one.slot not in slots}
        for device in self._devices.values():
            how = "SubscribedAndPolling" if device.name in asked else "Subscribed"
            how = how if device.name in pushed else "Polling"
            if how != device.served:
                device.served, device.dirty = how, True

    def _pushed(self, batch: Batch | Notification) -> None:
        if isinstance(batch, Notification):
            self._pipeline.notify(batch)
            return
        self._take(batch)
        self.writeback.polled()
        if self.writeback.urgent:
            self.wake()

    def _meant(self, batch: Batch) -> Batch:
        """The batch, without the rows of slots that are another's by now: it was declared anew."""
        if not self._stale:
            return batch
        return replace(batch, slot=array("I", (s if self._is_meant(s) else NOBODY for s in batch.slot)))

    def _old(self, batch: Batch) -> None:
        """Rows of a peer's history."""
        self._pipeline.push(self._meant(batch))
        self.stats.backfilled += len(batch.slot)

    def _take(self, batch: Batch) -> None:
        batch = self._meant(batch)
        self._pipeline.push(batch)
        if batch.error is None:
            if self._backfill is not None:
                self._backfill.seen(batch)
            self.stats.answers += 1
            if self._sick:
                self._recovered(batch)
            if self._said is not None:
                self._said = None
                log.info("link %s is up", self.label)
            self._tries = 0
            self.stats.last_success_s = time.time()
            return
        self.stats.failed(batch.error.reason)
        for slot in batch.slot:
            if owned := self._owner(slot):
                device, name = owned
                message = str(batch.error)
                if device.point_trouble.get(name) != message:
                    device.point_trouble = {**device.point_trouble, name: message}
                    device.dirty = True
                device.trouble = (batch.error.reason, message)
                self._sick.add(device.name)

    def _is_meant(self, slot: int) -> bool:
        """Whether a slot that was read still stands for what was asked."""
        owned = self._owner(slot)
        return owned is not None and point(owned[0].bound, owned[1], slot) == self._asked(slot)

    def _recovered(self, batch: Batch) -> None:
        for slot in batch.slot:
            if (owned := self._owner(slot)) and owned[0].name in self._sick:
                device, name = owned
                if name in device.point_trouble:
                    device.point_trouble = without(device.point_trouble, name)
                    device.dirty = True
                if not device.point_trouble:
                    device.trouble = None
                    self._sick.discard(device.name)

    def devices(self) -> Mapping[str, RunningDevice]:
        return self._devices


def _stopped() -> bool:
    """Whether our task is cancelled; else a future of the mapper is, as libraries do when a peer hangs up."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
