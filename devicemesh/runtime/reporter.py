"""Twin -> store and retained topics, at a bounded rate that does not grow with the sample rate.

Values are written at most once per `interval_s` and device, the last one winning; a change of a condition
or of a write's outcome goes out at the next tick. Nothing is written when nothing changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import time
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from devicemesh.aggregate import Aggregator, Snapshot
from devicemesh.mapper import Quality
from devicemesh.runtime.binding import Unbound
from devicemesh.runtime.device import RunningDevice
from devicemesh.runtime.schedule import phase
from devicemesh.sink.base import Sink
from devicemesh.sink.payload import dumps
from devicemesh.spec.units import symbol
from devicemesh.store.base import Key, Store, StoreUnavailableError
from devicemesh.twin import (
    Condition,
    connected,
    degraded,
    desired_applied,
    overruled,
    progress,
    ready,
)

log = logging.getLogger("devicemesh.reporter")
A = TypeVar("A", bound=tuple[Any, ...])
TICK_S = 0.1
FIRST_S = 0.3
TWINS_S = 500.0
"""So many twins are looked at in a second, at most: of more devices, each waits longer."""
ALIKE = 1024
AWAITED = ("ModelNotFound", "NoRuntime")
"""Why a device can't run that may be over without an edit: a model may be applied second."""
MODEL_OK = Condition("ModelResolved", "True", "Resolved", "")


def stamp(time_ns: int) -> str:
    """RFC 3339, to the millisecond."""
    return (
        datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def conditions(device: RunningDevice, aggregator: Aggregator, snapshot: Snapshot) -> list[Condition]:
    """All conditions of a running device."""
    if device.bound.paused:
        paused = Condition("Connected", "Unknown", "Paused", "paused in its declaration")
        return [Condition("Ready", "False", "Paused", paused.message), MODEL_OK, paused]
    if device.link_up and not any(snapshot.qualities):  # all good: nothing to look into
        reported = device.reported(aggregator, device.bound.desired)
        link = Condition("Connected", "True", "Answering", "")
        health = degraded({}, {}, device.deaf)
    else:
        reported = device.reported(aggregator)
        readable = {n: r for n, r in reported.items() if device.specs[n].access != "WriteOnly"}
        link = connected(list(readable.values()), device.link_up, device.trouble)
        silent = Condition("Degraded", "Unknown", "NotConnected", "")
        health = silent if link.status == "False" else degraded(readable, device.point_trouble, device.deaf)
    if device.disagrees and health.status == "False":
        health = Condition("Degraded", "True", "LinkDisagrees", device.disagrees)
    applied = desired_applied(
        device.specs,
        device.bound.desired,
        device.bound.nearest_desired,
        reported,
        device.attempts,
        connected=link.status == "True",
    )
    applied = overruled(applied, device.bound.overruled)
    head = ready(MODEL_OK, link, health, device.served)
    states = {a.state for n, a in device.attempts.items() if n in device.bound.desired}
    stuck = device.waits_for_edit or "refused" in states
    more = progress(head, applied, stuck=stuck, trying="failed" in states)
    return [head, MODEL_OK, link, applied, health, *more]


def unresolved(device: Unbound) -> list[Condition]:
    """All conditions of a device that can't run."""
    head = Condition("Ready", "False", device.reason, device.message)
    model = Condition("ModelResolved", "False", device.reason, device.message)
    awaited = device.reason in AWAITED
    return [head, model, *progress(head, None, stuck=not awaited, trying=awaited)]


@functools.lru_cache(8192)
def _head(name: str, unit: str | None) -> tuple[bytes, bytes]:
    """How a property begins in `status.properties`, and in `twin/reported`."""
    shown = f'"unit":{json.dumps(symbol(unit), ensure_ascii=False)},' if unit else ""
    quoted = json.dumps(name)
    return f'{{"name":{quoted},{shown}"reported":'.encode(), f'{quoted}:{{{shown}"reported":'.encode()


@functools.lru_cache(ALIKE)
def _stored(found: tuple[Condition, ...], since: tuple[str, ...]) -> list[dict[str, Any]]:
    """Conditions as a store has them; one list for all devices that are alike, so nobody changes it."""
    return [
        {
            "type": condition.type,
            "status": condition.status,
            "reason": condition.reason,
            "message": condition.message,
            "lastTransitionTime": changed,
        }
        for condition, changed in zip(found, since, strict=True)
    ]


@functools.lru_cache(ALIKE)
def _state(state: str, reason: str, message: str, since: str) -> bytes:
    """The payload of `status`."""
    return dumps({"state": state, "reason": reason, "message": message, "since": since})


def properties(device: RunningDevice, snapshot: Snapshot) -> tuple[bytes, bytes]:
    """A twin as JSON: `status.properties` (a list), and the payload of `twin/reported` (a map)."""
    entries, members = parts(device, snapshot)
    return b"[" + b",".join(entries) + b"]", b"{" + b",".join(members) + b"}"


def parts(device: RunningDevice, snapshot: Snapshot) -> tuple[list[bytes], list[bytes]]:
    """Entries of `status.properties`, and members of `twin/reported`: of the device's first properties.

    As many as `snapshot` has readings.
    """
    entries: list[bytes] = []
    members: list[bytes] = []
    for name, reading in zip(device.names, snapshot.readings, strict=False):
        entry, member = _head(name, device.specs[name].unit)
        tail = reading + b"}"
        if name in device.bound.desired:
            wanted = {"value": device.bound.desired[name], **_attempt(device, name)}
            tail = reading + b',"desired":' + json.dumps(wanted, ensure_ascii=False).encode() + b"}"
        entries.append(entry + tail)
        members.append(member + tail)
    return entries, members


def _attempt(device: RunningDevice, name: str) -> dict[str, Any]:
    attempt = device.attempts.get(name)
    if attempt is None:
        return {"state": "waiting"}
    if attempt.state == "applied":
        return {"state": "applied", "appliedAt": stamp(attempt.time_ns)}
    return {"state": attempt.state, "reason": attempt.reason, "message": attempt.message}


def _tally(device: RunningDevice) -> str:
    """`1/2`: applied of desired values."""
    applied = sum(a.state == "applied" for n, a in device.attempts.items() if n in device.bound.desired)
    return f"{applied}/{len(device.bound.desired)}"


class _Memory:
    """What was written last for one device."""

    __slots__ = (
        "again_s",
        "found",
        "generation",
        "patience_s",
        "properties",
        "readings",
        "said",
        "seen_ns",
        "since",
        "written",
    )

    def __init__(self) -> None:
        self.found: tuple[Condition, ...] = ()
        self.since: tuple[str, ...] = ()  # of each: when its status became what it is
        self.generation = 0
        self.readings = 0  # a hash of what the core had
        self.said = ""  # its state, as the log named it last
        self.properties = 0  # a hash: the values are in the store
        self.written = True  # whether the store has taken it
        self.again_s = 0.0  # where nothing runs: when to say it again to a store that was away
        self.patience_s = FIRST_S  # while first values are waited for
        self.seen_ns = 0  # the newest good reading

    def conditions(self) -> list[dict[str, Any]]:
        """As they are stored."""
        return _stored(self.found, self.since)


class Reporter:
    """`run` is its one task. `devices` and `unbound` are the supervisor's, looked at on every tick."""

    def __init__(
        self, store: Store, sink: Sink, aggregator: Aggregator, interval_s: float, shard: str | None = None
    ) -> None:
        """`shard`: the runtime's name, where a store serves several."""
        self._store = store
        self._sink = sink
        self._aggregator = aggregator
        self._least_s = interval_s
        self._interval_s = interval_s
        self._shard = {"shard": shard} if shard else {}
        self._memory: dict[Key, _Memory] = {}
        self._alike: dict[Any, Any] = {}  # tuples of what nearly all devices are
        self._said: str | None = None  # why nothing is written, as it was logged
        self._stamp = ""  # the time of a tick: what changes in it is alike too
        self.writes = {"ok": 0, "failed": 0}
        self.states: dict[Key, tuple[str, str]] = {}  # device -> (state, reason)

    async def run(self, devices: Mapping[Key, RunningDevice], unbound: Mapping[Key, Unbound]) -> None:
        while True:
            await self.tick(devices.values(), unbound.values())
            await asyncio.sleep(TICK_S)

    async def tick(self, devices: Collection[RunningDevice], unbound: Iterable[Unbound]) -> None:
        """Write what is due. A store that is away is tried again; the newest state waits in memory."""
        now = asyncio.get_running_loop().time()
        self._stamp = stamp(time.time_ns())
        patches: dict[Key, dict[str, Any]] = {}
        self._interval_s = max(self._least_s, len(devices) / TWINS_S)
        for device in devices:
            if device.dirty or now >= device.report_due_s:
                self._status(device, now, patches)
        for stuck in unbound:
            memory = self._memory.get(stuck.key) or self._begin(stuck.key)
            changed = self._transition(stuck.key, stuck.key.device, memory, unresolved(stuck))
            changed |= stuck.generation != memory.generation
            if changed or (not memory.written and now >= memory.again_s):
                memory.generation = stuck.generation
                memory.again_s = self._turn_s(stuck.key, now)
                memory.written = True
                patches[stuck.key] = {
                    "observedGeneration": stuck.generation,
                    "conditions": memory.conditions(),
                    **self._shard,
                }
        if patches:
            await self._write(patches)

    async def finish(self, devices: Collection[RunningDevice], unbound: Iterable[Unbound]) -> None:
        """Write what has changed of every device, due or not: the next process begins where this one ends."""
        for device in devices:
            device.report_due_s = 0.0
        await self.tick(devices, unbound)

    def _begin(self, key: Key) -> _Memory:
        memory = self._memory[key] = _Memory()
        return memory

    def _status(self, device: RunningDevice, now: float, patches: dict[Key, dict[str, Any]]) -> None:
        key = device.bound.key
        memory = self._memory.get(key) or self._begin(key)
        device.report_due_s = self._turn_s(key, now)
        snapshot = self._aggregator.snapshot(device.column)
        if Quality.PENDING in snapshot.qualities:  # its first values are waited for
            device.report_due_s = min(device.report_due_s, now + memory.patience_s)
            memory.patience_s *= 2
        readings = hash((snapshot.qualities, *snapshot.readings))
        if not device.dirty and memory.written and readings == memory.readings:
            return  # nothing can have changed
        device.dirty = False
        memory.readings = readings
        memory.seen_ns = max(memory.seen_ns, device.seen_ns, snapshot.newest_ns)
        changed = self._transition(key, device.name, memory, conditions(device, self._aggregator, snapshot))
        values, reported = properties(device, snapshot)
        changed |= device.bound.generation != memory.generation  # or it would look as if it were still edited
        if not changed and memory.written and hash(values) == memory.properties:
            return
        memory.generation = device.bound.generation
        memory.written = True
        memory.properties = hash(values)
        patches[key] = {
            "observedGeneration": device.bound.generation,
            "conditions": memory.conditions(),
            # by a clock that runs ahead, or ran, a device would be seen in the future
            "lastSeen": min(stamp(memory.seen_ns), self._stamp) if memory.seen_ns else None,
            "desired": _tally(device),
            "protocol": device.bound.mapper.protocol,
            **self._shard,
            "properties": values,
        }
        self._retain(device.name, "twin/reported", reported)

    def _turn_s(self, key: Key, now: float) -> float:
        """When to look again: devices are spread over the interval."""
        return now + self._interval_s - (now - phase(key.device, self._interval_s)) % self._interval_s

    def _transition(self, key: Key, name: str, memory: _Memory, found: list[Condition]) -> bool:
        """Bring the conditions of `name` up to date; True when one has changed."""
        if tuple(found) == memory.found:
            return False
        now = self._stamp
        before = {c.type: (c.status, since) for c, since in zip(memory.found, memory.since, strict=True)}
        memory.found = self._shared(tuple(found))
        memory.since = self._shared(
            tuple(
                before[c.type][1] if c.type in before and before[c.type][0] == c.status else now
                for c in found
            )
        )
        head = found[0]
        state = {"True": "Ready", "False": "Offline", "Unknown": "Starting"}[head.status]
        state = "Degraded" if head.reason == "Degraded" else state
        healed = memory.said == "Degraded" and state == "Ready"
        if healed or before.get("Ready", ("Unknown", ""))[0] != head.status:
            memory.said = state
            log.info("%s is %s%s", name, state, f": {head.message}" if head.message else "")
        self.states[key] = self._shared((state, head.reason))
        self._retain(name, "status", _state(state, head.reason, head.message, memory.since[0]))
        return True

    def _shared(self, one: A) -> A:
        """The tuple that is equal to this one."""
        if len(self._alike) > ALIKE:
            self._alike.clear()
        shared: A = self._alike.setdefault(one, one)
        return shared

    async def _write(self, patches: dict[Key, dict[str, Any]]) -> None:
        try:
            await self._store.patch_status(patches)
            self.writes["ok"] += len(patches)
            self._say(None)
        except StoreUnavailableError as error:
            self.writes["failed"] += len(patches)
            self._say(str(error))
            for key in patches.keys() & self._memory.keys():  # say it again at the next turn
                self._memory[key].written = False

    def _say(self, why: str | None) -> None:
        """Log why the store takes nothing, and that it does again: once."""
        if why is not None and why != self._said:
            log.warning("status not written: %s", why)
        elif why is None and self._said is not None:
            log.info("status is written again")
        self._said = why

    def renew(self, key: Key) -> None:
        """A device of this name was made anew: nothing is written of it yet."""
        if (memory := self._memory.get(key)) is not None:
            memory.written, memory.again_s = False, 0.0

    def told(self, key: Key) -> tuple[Condition, str] | None:
        """The Ready condition as it was told last, and since when; None: nothing was yet."""
        memory = self._memory.get(key)
        return (memory.found[0], memory.since[0]) if memory is not None and memory.found else None

    def seen_ns(self, key: Key) -> int:
        """The newest good reading that was told; 0: none."""
        memory = self._memory.get(key)
        return memory.seen_ns if memory is not None else 0

    def release(self, key: Key) -> None:
        """Another runtime serves the device from now on, and speaks for it."""
        if self._memory.pop(key, None) is not None:
            self.states.pop(key, None)
            self._store.release(key)
            self._sink.release(key.device)

    def forget(self, key: Key) -> None:
        """The device is gone: so are its retained topics."""
        self._memory.pop(key, None)
        self.states.pop(key, None)
        for topic in ("status", "twin/reported"):
            self._retain(key.device, topic, None)

    def _retain(self, device: str, topic: str, body: bytes | None) -> None:
        with contextlib.suppress(ValueError):  # Kubernetes takes more names: the store tells
            self._sink.retain(device, topic, body)
