"""The whole: store, sink, core, links, reporter, put together and taken apart in order."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import random
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence, Sized
from typing import IO, Any, Self

from devicemesh.aggregate import Aggregator, AlarmEvent
from devicemesh.mapper import Mapper
from devicemesh.runtime.commands import Commands
from devicemesh.runtime.fence import Fence
from devicemesh.runtime.membership import Membership
from devicemesh.runtime.memory import give_back, settle, tidy
from devicemesh.runtime.occurrences import Occurrences
from devicemesh.runtime.pipeline import Pipeline
from devicemesh.runtime.reporter import Reporter, stamp
from devicemesh.runtime.secrets import Keeper, in_home
from devicemesh.runtime.shards import HOSTNAME, Alone, Nothing, OnNode
from devicemesh.runtime.supervisor import Supervisor
from devicemesh.settings import Settings
from devicemesh.sink.base import Command, Sink
from devicemesh.store.base import Key, Store
from devicemesh.store.lease import Lease, Leases

log = logging.getLogger("devicemesh.runtime")
DRAIN_S = 5.0
LAG_S = 0.5
SETTLED_S = 5.0
TRIM_S = 10.0


class AlreadyRunningError(Exception):
    """Another runtime uses this home: two would poll and write the same devices."""


class Runtime:
    """Entered by `async with`; `store` and `sink` are entered already and outlive it.

    Leaving it stops the links, closes the windows and hands everything to the sink.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        sink: Sink,
        mappers: Mapping[str, Mapper[Any, Any]],
        *,
        redirects: Mapping[str, str] | None = None,
        rng: random.Random | None = None,
        leases: Leases | None = None,
        fence: Fence | None = None,
        secrets: Keeper | None = None,
    ) -> None:
        """`leases` and `fence`: where replicas share the devices; the sink asks the same fence.

        `secrets`: the cluster's.
        """
        self.settings = settings
        self.store = store
        self.sink = sink
        self.mappers = mappers
        self.started_s = time.time()
        self.loop_lag_s = 0.0
        self._errors = 0
        self.aggregator = Aggregator(sink.epoch)
        self.supervisor = Supervisor(
            mappers, self.aggregator, redirects, in_home(settings.home), rng or random.Random()
        )
        self.occurrences = Occurrences(sink, self.supervisor.find)
        self.supervisor.on_gone = self.occurrences.forget
        self.pipeline = Pipeline(
            self.aggregator, sink, self.supervisor.describe, self._alarm, self.occurrences.take
        )
        shard = settings.instance if settings.store.kind == "kubernetes" else None
        self.reporter = Reporter(store, sink, self.aggregator, settings.status_interval_s, shard)
        self.commands = Commands(store, sink, self.supervisor, self.aggregator)
        self.alarms: dict[tuple[str, str, str], AlarmEvent] = {}  # active: (device, property, alarm)
        self._tasks: list[asyncio.Task[None]] = []
        if secrets is not None:
            self.supervisor.keeper = secrets
            secrets.on_change = self.supervisor.look_at_secrets
        self.membership: Membership | None = None
        if leases is not None and fence is not None:
            self.supervisor.fence = self.pipeline.fence = fence.holds
            me = replica(settings, mappers)
            self.membership = Membership(leases, me, fence, self.supervisor.place)

    async def __aenter__(self) -> Self:
        self.supervisor.on_settled = self.commands.settled
        self.sink.on_command(self._command)
        await self._place()
        jobs = {
            "supervisor": self.supervisor.run(self.store, self.pipeline, self.reporter),
            "pipeline": self.pipeline.run(),
            "reporter": self.reporter.run(self.supervisor.devices, self.supervisor.unbound),
            "loop lag": self._watch_loop(),
            "memory": _settle_memory(self.supervisor.devices),
            "secrets": self.supervisor.watch_secrets(),
            "retained": self._forget_absent(),
        }
        if self.membership is not None:
            jobs["shards"] = self.membership.run()
        for name, job in jobs.items():
            task = asyncio.create_task(job, name=name)
            task.add_done_callback(self._ended)
            self._tasks.append(task)
        return self

    async def __aexit__(self, *exc: object) -> None:
        last = [task for task in self._tasks if task.get_name() == "shards"]  # the Lease is held to the end
        await _ended([task for task in self._tasks if task not in last])
        self.pipeline.close()
        await self.reporter.finish(self.supervisor.devices.values(), self.supervisor.unbound.values())
        if self.pipeline.fence is None or self.pipeline.fence():  # else nothing leaves anyway
            await self.sink.drain(DRAIN_S)
        await _ended(last)
        if self.membership is not None:
            await self.membership.leave()

    async def _forget_absent(self) -> None:
        """Devices that were deleted while no runtime ran are still said to be Ready by the broker."""
        await self.supervisor.synced.wait()
        self.sink.forget_absent(self.supervisor.declares)

    async def _place(self) -> None:
        """What is served from the start."""
        shards = self.settings.shards
        labels = labels_of(self.settings)
        if self.membership is not None:
            await self.supervisor.place(Nothing())
        elif self.settings.store.kind == "kubernetes":
            await self.supervisor.place(OnNode(labels) if shards.mode == "node" else Alone(labels))

    async def _command(self, command: Command) -> None:
        """Commands for devices that others serve, or may serve by now, are others' to answer."""
        namespace, _, name = command.device.partition("/")
        if not self.fenced and not self.supervisor.elsewhere(Key("Device", namespace, name)):
            await self.commands.handle(command)

    @property
    def fenced(self) -> bool:
        """Whether another replica may serve the devices by now."""
        return self.pipeline.fence is not None and not self.pipeline.fence()

    @property
    def errors(self) -> int:
        """Tasks of ours that ended with an exception: bugs."""
        return self._errors + self.supervisor.errors + self.sink.errors

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._errors += 1
            log.critical("the %s task ended: this is a bug", task.get_name(), exc_info=error)

    def _alarm(self, event: AlarmEvent) -> None:
        owner = self.supervisor.owner(event.slot)
        if owner is None or self.fenced:
            return
        device, prop = owner
        key = (device.name, prop, event.alarm)
        if event.active:
            self.alarms[key] = event
        else:
            self.alarms.pop(key, None)
        log.warning("alarm %s of %s %s: %s", event.alarm, device.name, prop, "on" if event.active else "off")
        self.sink.event(device.name, "alarm", alarm(prop, event))

    async def _watch_loop(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(LAG_S)
            self.loop_lag_s = max(0.0, loop.time() - before - LAG_S)

    def samples(self) -> dict[str, Any]:
        """Where every sample is: read = published + sum(dropped) + spooled + pending."""
        sink = self.sink.stats()
        dropped = {**self.aggregator.dropped}
        if self.pipeline.fence is not None:
            dropped["fenced"] = self.pipeline.fenced
        for policy, count in sink.samples_dropped.items():
            dropped[policy] = dropped.get(policy, 0) + count
        return {
            "read": self.aggregator.read,
            "published": sink.samples_published,
            "dropped": dropped,
            "spooled": sink.samples_spooled,
            "pending": self.aggregator.pending,
        }

    def states(self) -> dict[str, int]:
        """Devices by state: Ready, Degraded, Offline, Starting."""
        counts = dict.fromkeys(("Ready", "Degraded", "Offline", "Starting"), 0)
        for key in (*self.supervisor.devices, *self.supervisor.unbound):
            state, _ = self.reporter.states.get(key, ("Starting", ""))
            counts[state] += 1
        return counts


def alarm(prop: str, event: AlarmEvent) -> dict[str, Any]:
    """An alarm of a limit as clients read it."""
    return {
        "alarm": event.alarm,
        "property": prop,
        "active": event.active,
        "state": "active" if event.active else "cleared",
        "severity": event.severity,
        "value": event.value,
        "time": stamp(event.time_ns),
    }


def labels_of(settings: Settings) -> dict[str, str]:
    """What a nodeSelector is held against."""
    node = {HOSTNAME: settings.shards.node} if settings.shards.node else {}
    return {**settings.shards.labels, **node}


def replica(settings: Settings, mappers: Mapping[str, Mapper[Any, Any]]) -> Lease:
    """This replica's Lease before it is held. The holder is the home: one process at a time has it."""
    file = settings.home / "replica"
    if not file.exists():
        file.write_text(f"{uuid.uuid4()}\n")
    holder = f"{settings.instance}_{file.read_text().strip()}"
    return Lease(settings.instance, holder, settings.shards.lease_s, labels_of(settings), frozenset(mappers))


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _settle_memory(devices: Sized) -> None:
    """Give back what start-up has left, once the first polls are through; then now and again."""
    await asyncio.sleep(SETTLED_S)
    settle()
    tidied = before = len(devices)
    while True:
        await asyncio.sleep(TRIM_S)
        if tidied != len(devices) == before:  # no more of them come or go
            tidy()
            tidied = before
        else:
            give_back()
        before = len(devices)


@contextlib.contextmanager
def exclusive(settings: Settings) -> Iterator[None]:
    """Hold the home for one runtime. Raises AlreadyRunningError."""
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock: IO[str]
    with (settings.home / "runtime.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            pid = lock.read().strip() or "?"
            raise AlreadyRunningError(f"a runtime (pid {pid}) already uses {settings.home}") from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield
