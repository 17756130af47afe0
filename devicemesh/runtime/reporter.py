"""Twin -> store and retained topics, at a bounded rate that does not grow with the sample rate.

Values are written at most once per `interval_s` and device, the last one winning; a change of a condition
or of a write's outcome goes out at the next tick. Nothing is written when nothing changed.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from devicemesh.aggregate import Aggregator, Snapshot
from devicemesh.mapper import Quality
from devicemesh.runtime.binding import Unbound
from devicemesh.runtime.device import RunningDevice
from devicemesh.runtime.schedule import phase
from devicemesh.sink.base import Sink
from devicemesh.spec.units import symbol
from devicemesh.store.base import Key, Store, StoreUnavailableError
from devicemesh.twin import Condition, connected, degraded, desired_applied, ready

log = logging.getLogger("devicemesh.reporter")
TICK_S = 0.1
FIRST_S = 0.3
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
        health = degraded({}, {})
    else:
        reported = device.reported(aggregator)
        readable = {n: r for n, r in reported.items() if device.specs[n].access != "WriteOnly"}
        link = connected(list(readable.values()), device.link_up, device.trouble)
        silent = Condition("Degraded", "Unknown", "NotConnected", "")
        health = silent if link.status == "False" else degraded(readable, device.point_trouble)
    applied = desired_applied(
        device.specs,
        device.bound.desired,
        device.bound.nearest_desired,
        reported,
        device.attempts,
        connected=link.status == "True",
    )
    return [ready(MODEL_OK, link, health), MODEL_OK, link, applied, health]


@functools.lru_cache(8192)
def _head(name: str, unit: str | None) -> tuple[bytes, bytes]:
    """How a property begins in `status.properties`, and in `twin/reported`."""
    shown = f'"unit":{json.dumps(symbol(unit), ensure_ascii=False)},' if unit else ""
    quoted = json.dumps(name)
    return f'{{"name":{quoted},{shown}"reported":'.encode(), f'{quoted}:{{{shown}"reported":'.encode()


def properties(device: RunningDevice, snapshot: Snapshot) -> tuple[bytes, bytes]:
    """A twin as JSON: `status.properties` (a list), and the payload of `twin/reported` (a map)."""
    entries: list[bytes] = []
    members: list[bytes] = []
    for name, reading in zip(device.names, snapshot.readings, strict=True):
        entry, member = _head(name, device.specs[name].unit)
        tail = reading + b"}"
        if name in device.bound.desired:
            wanted = {"value": device.bound.desired[name], **_attempt(device, name)}
            tail = reading + b',"desired":' + json.dumps(wanted, ensure_ascii=False).encode() + b"}"
        entries.append(entry + tail)
        members.append(member + tail)
    return b"[" + b",".join(entries) + b"]", b"{" + b",".join(members) + b"}"


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

    __slots__ = ("conditions", "next_s", "properties", "seen_ns", "written")

    def __init__(self) -> None:
        self.conditions: list[dict[str, Any]] = []
        self.properties = 0  # a hash: the values are in the store
        self.written = True  # whether the store has taken it
        self.next_s = 0.0
        self.seen_ns = 0  # the newest good reading


class Reporter:
    """`run` is its one task. `devices` and `unbound` are the supervisor's, looked at on every tick."""

    def __init__(self, store: Store, sink: Sink, aggregator: Aggregator, interval_s: float) -> None:
        self._store = store
        self._sink = sink
        self._aggregator = aggregator
        self._interval_s = interval_s
        self._memory: dict[Key, _Memory] = {}
        self.writes = {"ok": 0, "failed": 0}
        self.states: dict[Key, tuple[str, str]] = {}  # device -> (state, reason)

    async def run(self, devices: Mapping[Key, RunningDevice], unbound: Mapping[Key, Unbound]) -> None:
        while True:
            await self.tick(devices.values(), unbound.values())
            await asyncio.sleep(TICK_S)

    async def tick(self, devices: Iterable[RunningDevice], unbound: Iterable[Unbound]) -> None:
        """Write what is due. A store that is away is tried again; the newest state waits in memory."""
        now = asyncio.get_running_loop().time()
        patches: dict[Key, dict[str, Any]] = {}
        for device in devices:
            memory = self._memory.setdefault(device.bound.key, _Memory())
            if device.dirty or now >= memory.next_s:
                device.dirty = False
                self._status(device, memory, now, patches)
        for stuck in unbound:
            memory = self._memory.setdefault(stuck.key, _Memory())
            model = Condition("ModelResolved", "False", stuck.reason, stuck.message)
            found = [Condition("Ready", "False", stuck.reason, stuck.message), model]
            if self._transition(stuck.key, memory, found) or (not memory.written and now >= memory.next_s):
                self._due(memory, stuck.key, now)
                memory.written = True
                patches[stuck.key] = {"observedGeneration": stuck.generation, "conditions": memory.conditions}
        if patches:
            await self._write(patches)

    def _status(
        self, device: RunningDevice, memory: _Memory, now: float, patches: dict[Key, dict[str, Any]]
    ) -> None:
        key = device.bound.key
        self._due(memory, key, now)
        snapshot = self._aggregator.snapshot(device.column)
        memory.seen_ns = max(memory.seen_ns, snapshot.newest_ns)
        if Quality.PENDING in snapshot.qualities:
            memory.next_s = min(memory.next_s, now + FIRST_S)  # its first values are waited for
        changed = self._transition(key, memory, conditions(device, self._aggregator, snapshot))
        values, reported = properties(device, snapshot)
        if not changed and memory.written and hash(values) == memory.properties:
            return
        memory.written = True
        memory.properties = hash(values)
        patches[key] = {
            "observedGeneration": device.bound.generation,
            "conditions": memory.conditions,
            "lastSeen": stamp(memory.seen_ns) if memory.seen_ns else None,
            "desired": _tally(device),
            "properties": values,
        }
        self._sink.retain(device.name, "twin/reported", reported)

    def _due(self, memory: _Memory, key: Key, now: float) -> None:
        """When to look again: devices are spread over the interval."""
        turn = (now - phase(key.device, self._interval_s)) % self._interval_s
        memory.next_s = now + self._interval_s - turn

    def _transition(self, key: Key, memory: _Memory, found: list[Condition]) -> bool:
        """Bring the conditions up to date; True when one has changed."""
        now = stamp(time.time_ns())
        before = {c["type"]: c for c in memory.conditions}
        fresh: list[dict[str, Any]] = []
        for condition in found:
            old = before.get(condition.type)
            since = old["lastTransitionTime"] if old and old["status"] == condition.status else now
            fresh.append(
                {
                    "type": condition.type,
                    "status": condition.status,
                    "reason": condition.reason,
                    "message": condition.message,
                    "lastTransitionTime": since,
                }
            )
        if fresh == memory.conditions:
            return False
        memory.conditions = fresh
        head = fresh[0]
        state = {"True": "Ready", "False": "Offline", "Unknown": "Starting"}[head["status"]]
        state = "Degraded" if head["reason"] == "Degraded" else state
        if before.get("Ready", {"status": "Unknown"})["status"] != head["status"]:
            log.info("%s is %s%s", key.device, state, f": {head['message']}" if head["message"] else "")
        self.states[key] = (state, head["reason"])
        body = {
            "state": state,
            "reason": head["reason"],
            "message": head["message"],
            "since": head["lastTransitionTime"],
        }
        self._sink.retain(key.device, "status", body)
        return True

    async def _write(self, patches: dict[Key, dict[str, Any]]) -> None:
        try:
            await self._store.patch_status(patches)
            self.writes["ok"] += len(patches)
        except StoreUnavailableError as error:
            self.writes["failed"] += len(patches)
            log.warning("status not written: %s", error)
            for key in patches.keys() & self._memory.keys():  # say it again at the next turn
                self._memory[key].written = False

    def forget(self, key: Key) -> None:
        """The device is gone: so are its retained topics."""
        self._memory.pop(key, None)
        self.states.pop(key, None)
        for topic in ("status", "twin/reported"):
            self._sink.retain(key.device, topic, None)
