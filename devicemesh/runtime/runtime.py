"""The whole: store, sink, core, links, reporter, put together and taken apart in order."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import random
import time
from collections.abc import Iterator, Mapping
from typing import IO, Any, Self

from devicemesh.aggregate import Aggregator, AlarmEvent
from devicemesh.mapper import Mapper
from devicemesh.runtime.commands import Commands
from devicemesh.runtime.memory import give_back, settle
from devicemesh.runtime.occurrences import Occurrences
from devicemesh.runtime.pipeline import Pipeline
from devicemesh.runtime.reporter import Reporter, stamp
from devicemesh.runtime.secrets import in_home
from devicemesh.runtime.supervisor import Supervisor
from devicemesh.settings import Settings
from devicemesh.sink.base import Sink
from devicemesh.store.base import Store

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
    ) -> None:
        self.settings = settings
        self.store = store
        self.sink = sink
        self.started_s = time.time()
        self.loop_lag_s = 0.0
        self.errors = 0  # tasks of ours that ended with an exception
        self.aggregator = Aggregator(sink.epoch)
        self.supervisor = Supervisor(
            mappers, self.aggregator, redirects, in_home(settings.home), rng or random.Random()
        )
        self.occurrences = Occurrences(sink, self.supervisor.find)
        self.supervisor.on_gone = self.occurrences.forget
        self.pipeline = Pipeline(
            self.aggregator, sink, self.supervisor.describe, self._alarm, self.occurrences.take
        )
        self.reporter = Reporter(store, sink, self.aggregator, settings.status_interval_s)
        self.commands = Commands(store, sink, self.supervisor)
        self.alarms: dict[tuple[str, str, str], AlarmEvent] = {}  # active: (device, property, alarm)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self.supervisor.on_settled = self.commands.settled
        self.sink.on_command(self.commands.handle)
        jobs = {
            "supervisor": self.supervisor.run(self.store, self.pipeline, self.reporter),
            "pipeline": self.pipeline.run(),
            "reporter": self.reporter.run(self.supervisor.devices, self.supervisor.unbound),
            "loop lag": self._watch_loop(),
            "memory": _settle_memory(),
            "secrets": self.supervisor.watch_secrets(),
        }
        for name, job in jobs.items():
            task = asyncio.create_task(job, name=name)
            task.add_done_callback(self._ended)
            self._tasks.append(task)
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.pipeline.close()
        await self.reporter.tick(self.supervisor.devices.values(), self.supervisor.unbound.values())
        await self.sink.drain(DRAIN_S)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self.errors += 1
            log.critical("the %s task ended: this is a bug", task.get_name(), exc_info=error)

    def _alarm(self, event: AlarmEvent) -> None:
        owner = self.supervisor.owner(event.slot)
        if owner is None:
            return
        device, prop = owner
        key = (device.name, prop, event.alarm)
        if event.active:
            self.alarms[key] = event
        else:
            self.alarms.pop(key, None)
        body = {
            "alarm": event.alarm,
            "property": prop,
            "active": event.active,
            "state": "active" if event.active else "cleared",
            "severity": event.severity,
            "value": event.value,
            "time": stamp(event.time_ns),
        }
        log.warning("alarm %s of %s %s: %s", event.alarm, device.name, prop, "on" if event.active else "off")
        self.sink.event(device.name, "alarm", body)

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


async def _settle_memory() -> None:
    """Give back what start-up has left, once the first polls are through; then now and again."""
    await asyncio.sleep(SETTLED_S)
    settle()
    while True:
        await asyncio.sleep(TRIM_S)
        give_back()


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
