"""Declared against running: turns the store's watch into links, slots and series."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from devicemesh.aggregate import Aggregator
from devicemesh.mapper import AuthError, Mapper, SecretRef, Secrets
from devicemesh.runtime.before import NEVER, Before, before
from devicemesh.runtime.binding import Binder, BoundDevice, Unbound, series
from devicemesh.runtime.device import RunningDevice
from devicemesh.runtime.link import Link
from devicemesh.runtime.pipeline import Pipeline
from devicemesh.runtime.reporter import Reporter
from devicemesh.runtime.secrets import Keeper, LinkSecrets, named
from devicemesh.runtime.settle import settled
from devicemesh.runtime.shards import Claim, Claims, Placement, Verdict, Want
from devicemesh.runtime.streams import Streams
from devicemesh.store.base import NOTHING, Key, Object, Store, StoreUnavailableError
from devicemesh.twin import Attempt

log = logging.getLogger("devicemesh.supervisor")
RETRY_S = 2.0
SECRETS_S = 5.0


class Supervisor:
    """Owned by the event loop; `run` is its one task, and it owns the links' tasks."""

    def __init__(
        self,
        mappers: Mapping[str, Mapper[Any, Any]],
        aggregator: Aggregator,
        redirects: Mapping[str, str] | None,
        secrets: Secrets,
        rng: random.Random,
    ) -> None:
        self.devices: dict[Key, RunningDevice] = {}
        self.unbound: dict[Key, Unbound] = {}
        self.links: dict[tuple[str, str], Link] = {}
        self.synced = asyncio.Event()
        self.on_settled: Callable[[RunningDevice, str, Attempt], None] | None = None
        self.on_gone: Callable[[str], None] | None = None  # told the name of a device that runs no more
        self._binder = Binder(mappers)
        self._aggregator = aggregator
        self._redirects = redirects  # declared link -> its simulator; None: real devices
        self._secrets = secrets
        self._rng = rng
        self.keeper: Keeper | None = None  # of the cluster's secrets
        self._wanted: dict[tuple[str, str], frozenset[tuple[str, str]]] = {}  # by link
        self._objects: dict[Key, Object] = {}  # without their status
        self._before: dict[Key, Before] = {}  # what it said when we began
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._streams: dict[int, RunningDevice] = {}
        self._owners: list[RunningDevice | None] = []  # by slot
        self._free_slots: list[int] = []
        self._numbers = Streams(aggregator)
        self._claims = Claims()
        self._placement: Placement | None = None  # None: everything is served here
        self._verdicts: dict[Key, Verdict] = {}
        self._serving: tuple[Pipeline, Reporter] | None = None
        self.revision = 0  # rises with every change of what is declared or served here
        self.errors = 0  # links whose task ended with an exception
        self._away = ""  # why the store is away, as it was logged
        self.fence: Callable[[], bool] | None = None  # whether writes are allowed; None: always

    def describe(self, stream: int) -> tuple[str, Sequence[str]]:
        """Device and property names of a stream, for the sink."""
        return self._streams[stream].name, self._aggregator.names(stream)

    def owner(self, slot: int) -> tuple[RunningDevice, str] | None:
        """Whose slot it is: (device, property)."""
        device = self._owners[slot] if slot < len(self._owners) else None
        return (device, device.property_of(slot)) if device is not None else None

    def find(self, device: str) -> RunningDevice | None:
        """The running device of a name, "namespace/name"."""
        namespace, _, name = device.partition("/")
        return self.devices.get(Key("Device", namespace, name))

    def declared(self, key: Key) -> Object | None:
        """What is declared of a device or a model, without its status."""
        return self._objects.get(key)

    def declares(self, device: str) -> bool:
        """Whether a device of this name, "namespace/name", exists, wherever it is served."""
        namespace, _, name = device.partition("/")
        return Key("Device", namespace, name) in self._objects

    def link_of(self, device: RunningDevice) -> Link:
        """The link that a device is on."""
        return self.links[device.bound.link]

    async def run(self, store: Store, pipeline: Pipeline, reporter: Reporter) -> None:
        """Follow the store, for ever; while it is away, what runs goes on."""
        self._serving = pipeline, reporter
        try:
            while True:
                try:
                    await self._follow(store, pipeline, reporter)
                except StoreUnavailableError as error:
                    self._say_away(str(error))
                    await asyncio.sleep(RETRY_S)
        finally:
            await self.stop()

    def _say_away(self, why: str) -> None:
        """Log why the store is away (empty: it is back), once."""
        if why and why != self._away:
            log.warning("the store is away, devices run on: %s", why)
        elif self._away and not why:
            log.info("the store is back")
        self._away = why

    async def _follow(self, store: Store, pipeline: Pipeline, reporter: Reporter) -> None:
        changed: set[Key] = set()
        listed: set[Key] | None = set()  # until the first listing is through
        async with contextlib.aclosing(settled(store.watch(("DeviceModel", "Device")))) as events:
            async for event in events:
                if event is None:
                    if listed is not None:  # what was deleted while nobody looked
                        for gone in [self._objects.pop(key) for key in self._objects.keys() - listed]:
                            changed |= self._affected(gone)
                        listed = None
                    self._reconcile(changed, pipeline, reporter)
                    changed.clear()
                    self._before.clear()  # for those who run from the start
                    self.synced.set()
                    self._say_away("")
                    continue
                found = event.object
                if found is None:
                    continue
                if event.type == "deleted":
                    self._objects.pop(found.key, None)
                else:
                    known = self._objects.get(found.key)
                    if known is None or known.uid != found.uid:
                        reporter.renew(found.key)
                    if listed is not None and found.status:
                        self._before.setdefault(found.key, before(found.status))
                    self._objects[found.key] = found.bare()
                    if listed is not None:
                        listed.add(found.key)
                changed |= self._affected(found)

    def _affected(self, found: Object) -> set[Key]:
        """The devices that a change concerns."""
        if found.key.kind == "Device":
            return {found.key}
        return {
            key
            for key, other in self._objects.items()
            if key.kind == "Device" and key.namespace == found.key.namespace and other.model == found.key.name
        }

    async def place(self, placement: Placement) -> None:
        """Serve what the placement says; returns when the links are closed that are given up."""
        self._placement = placement
        if placement.epoch is not None:
            self._numbers.begin(placement.epoch)
        if self._serving is not None:
            moved = {key for key in self._claims if self._judge(key) != self._verdicts.get(key)}
            self._reconcile(moved, *self._serving)
        closing = [task for name, task in self._tasks.items() if name not in self.links]
        if closing:
            await asyncio.wait(closing)

    def elsewhere(self, key: Key) -> bool:
        """Whether a device is declared, but served by another runtime."""
        return self._placement is not None and self._verdicts.get(key) == "others"

    def _judge(self, key: Key) -> Verdict:
        return "mine" if self._placement is None else self._placement.verdict(self._claims.want(key))

    def _placed(self, changed: set[Key]) -> Mapping[Key, BoundDevice | Unbound | None]:
        """What is declared of these devices, and of those that move with them; None: gone, or another's."""
        found: dict[Key, BoundDevice | Unbound | None] = {}
        moved = set(changed)
        for key in changed:
            declared = self._objects.get(key)
            found[key] = bound = self._binder.bind(declared, self._objects) if declared else None
            if self._placement is not None:
                moved |= self._claims.put(key, _claim(bound, declared))
        for key in moved if self._placement is not None else ():
            if key not in self._claims:
                self._verdicts.pop(key, None)
                continue
            before = self._verdicts.get(key)
            verdict = self._verdicts[key] = self._judge(key)
            if verdict == "others":
                found[key] = None
            elif key not in found and (verdict != before or verdict == "stranded"):
                found[key] = self._binder.bind(self._objects[key], self._objects)
            if verdict == "stranded" and (bound := found.get(key)) is not None:
                found[key] = _stranded(bound, self._claims.want(key))
        return found

    def _reconcile(self, changed: set[Key], pipeline: Pipeline, reporter: Reporter) -> None:
        touched: set[tuple[str, str]] = set()
        self.revision += 1
        for key, placed in sorted(self._placed(changed).items()):
            bound = self._redirected(placed) if placed is not None else None
            if isinstance(bound, BoundDevice):
                touched |= self._run_device(bound, pipeline)
                self.unbound.pop(key, None)
                continue
            touched |= self._drop_device(key, pipeline)
            if bound is None:
                self.unbound.pop(key, None)
                if key in self._objects:
                    reporter.release(key)
                elif self._placement is None or key in reporter.states:
                    reporter.forget(key)
            else:
                self.unbound[key] = bound
        sharing: dict[tuple[str, str], list[RunningDevice]] = {name: [] for name in touched}
        for device in self.devices.values():
            if device.bound.link in sharing:
                sharing[device.bound.link].append(device)
        for name, devices in sharing.items():
            self._settle_link(name, devices, pipeline)
        if self.keeper is not None:
            self._want_secrets(self.keeper, touched)

    def _redirected(self, bound: BoundDevice | Unbound) -> BoundDevice | Unbound:
        """The device at its simulator. When simulated, nobody ever speaks to a real one."""
        if self._redirects is None or isinstance(bound, Unbound):
            return bound
        address = self._redirects.get(bound.link[1])
        if address is not None:
            return bound.redirected(address)
        message = f"{bound.link[1]} is not simulated: start `devicemesh sim` again with this device"
        return Unbound(bound.key, bound.generation, "NotSimulated", message)

    def _run_device(self, bound: BoundDevice, pipeline: Pipeline) -> set[tuple[str, str]]:
        """Take a device's declaration; returns the links that have to look at it."""
        running = self.devices.get(bound.key)
        pipeline.sink.declare(bound.name, bound.declaration())
        if running is not None and running.bound.same_wire(bound):
            running.rebind(bound)
            return {bound.link}
        touched = {bound.link}
        stays: set[str] = set()  # properties that keep their slot, and with it their last reading
        if running is None:
            told = self._before.get(bound.key, NEVER)
            running = RunningDevice(bound, self._numbers.take(bound.key), told)
            running.on_settled = self.on_settled
            self._streams[running.stream] = running
            self.devices[bound.key] = running
        else:
            touched.add(running.bound.link)
            stays = {name for name in running.names if bound.reads_as(running.bound, name)}
            running.rebind(bound)
        before = dict(zip(running.names, running.column, strict=True))
        self._free([before[name] for name in before.keys() - stays], pipeline)
        running.names = bound.shape.names
        running.column = array("I", [before[n] if n in stays else self._slot(running) for n in running.names])
        for name, slot in zip(running.names, running.column, strict=True):
            self._aggregator.define(series(running.specs[name], slot, running.stream))
        return touched

    def _drop_device(self, key: Key, pipeline: Pipeline) -> set[tuple[str, str]]:
        running = self.devices.pop(key, None)
        if running is None:
            return set()
        self._free(running.column, pipeline)
        self._numbers.leave(key, running.stream)
        del self._streams[running.stream]
        if self.on_gone is not None:
            self.on_gone(running.name)
        return {running.bound.link}

    def _slot(self, owner: RunningDevice) -> int:
        if self._free_slots:
            slot = self._free_slots.pop()
            self._owners[slot] = owner
            return slot
        self._owners.append(owner)
        return len(self._owners) - 1

    def _free(self, slots: Sequence[int], pipeline: Pipeline) -> None:
        for slot in slots:
            self._aggregator.remove(slot)
        if slots:
            pipeline.flush()  # the last records, and alarms that end with it, still need the owner's name
        for slot in slots:
            self._owners[slot] = None
            self._free_slots.append(slot)

    def _settle_link(
        self, name: tuple[str, str], devices: Sequence[RunningDevice], pipeline: Pipeline
    ) -> None:
        link = self.links.get(name)
        if not devices:
            if link is not None:
                self._tasks[name].cancel()
                del self.links[name]
            return
        if link is None:
            secrets = LinkSecrets(functools.partial(self._secret, name))
            link = self.links[name] = Link(
                name, devices[0].bound.mapper, pipeline, self.owner, secrets, self._rng
            )
            link.writeback.fence = self.fence
            link.configure(devices)
            task = asyncio.create_task(_after(self._tasks.get(name), link), name=f"link {name[0]} {name[1]}")
            task.add_done_callback(lambda done: self._ended(name, done))
            self._tasks[name] = task
        else:
            link.configure(devices)

    def _ended(self, name: tuple[str, str], task: asyncio.Task[None]) -> None:
        if self._tasks.get(name) is task:
            del self._tasks[name]
        if not task.cancelled() and (error := task.exception()):
            self.errors += 1
            log.critical("the task of link %s %s ended: this is a bug", *name, exc_info=error)

    def _want_secrets(self, keeper: Keeper, touched: set[tuple[str, str]]) -> None:
        """Have the secrets kept that these links name."""
        before = dict(self._wanted)
        for name in touched:
            self._wanted.pop(name, None)
            if (link := self.links.get(name)) is not None:
                names = frozenset((link.namespace, one) for one in named(link.endpoint))
                if names:
                    self._wanted[name] = names
        if self._wanted != before:
            keeper.want(frozenset().union(*self._wanted.values()))

    def _secret(self, link: tuple[str, str], ref: SecretRef) -> str:
        """A secret of a link: the cluster's, of its first device's namespace, else the home's."""
        if self.keeper is None:
            return self._secrets(ref)
        found = self.links.get(link)
        try:
            return self.keeper.find(found.namespace if found is not None else "", ref.name, ref.key)
        except LookupError as error:
            try:
                return self._secrets(ref)
            except AuthError as other:
                raise AuthError(f"{error}, and {other}", reason="SecretMissing") from other

    def look_at_secrets(self) -> None:
        """One of them may have changed."""
        for link in self.links.values():
            link.look_at_secrets()

    async def watch_secrets(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(SECRETS_S)
            self.look_at_secrets()

    async def stop(self) -> None:
        """End every link."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _claim(bound: BoundDevice | Unbound | None, declared: Object | None) -> Claim | None:
    """What a declared device asks for: by its link, or for itself where it has none."""
    if bound is None or declared is None:
        return None
    selector = declared.spec.get("nodeSelector") or NOTHING
    if isinstance(bound, BoundDevice):
        return Claim(bound.link, selector, bound.mapper.protocol)
    protocol = next(iter(declared.spec.get("endpoint", {})), "")
    return Claim(("", bound.key.device), selector, protocol if bound.reason == "NoMapper" else "")


def _stranded(bound: BoundDevice | Unbound, want: Want) -> Unbound:
    """Why no replica takes it."""
    if isinstance(bound, Unbound):
        return bound
    if want.selector is None:
        message = f"the devices on {bound.link[1]} ask for different nodes: a link is served by one runtime"
        return Unbound(bound.key, bound.generation, "SelectorConflict", message)
    asked = ", ".join(f"{name}={value}" for name, value in sorted(want.selector.items()))
    message = f"no live runtime speaks {want.needs}" + (f" and has the labels {asked}" if asked else "")
    return Unbound(bound.key, bound.generation, "NoRuntime", message)


async def _after(before: asyncio.Task[None] | None, link: Link) -> None:
    """Run a link once the one before it at the same peer has closed: a serial port can't be opened twice."""
    if before is not None:
        await asyncio.wait({before})
    await link.run()
