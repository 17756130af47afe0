"""Devices over HTTP: one, all, or those that are asked for, a page at a time."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any, NamedTuple

from devicemesh.aggregate import Snapshot
from devicemesh.api.answers import Query, refused
from devicemesh.mapper import Quality
from devicemesh.runtime.binding import Unbound
from devicemesh.runtime.device import RunningDevice
from devicemesh.runtime.reporter import conditions, parts, stamp, unresolved
from devicemesh.runtime.runtime import Runtime
from devicemesh.sink.payload import dumps
from devicemesh.spec.values import duration_ns
from devicemesh.store.base import NOTHING, Key
from devicemesh.twin import Condition

PARAMETERS = ("name", "q", "label", "ready", "brief", "limit", "continue")
LIMIT, MOST = 100, 1000
READY, NEW = ("Ready", "Degraded"), ("Starting", "")
MISSED = 3
"""A polled value is stale once it is older than so many sampling intervals,"""
LEAST_STALE_NS = 10**9
"""and than this: a moment's delay of this machine is no news."""


class Entry(NamedTuple):
    """A device as it is searched for."""

    key: Key
    text: str  # all that a search looks at, casefolded
    labels: Mapping[str, str]


class Twins:
    """The devices of a runtime, running or not."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._entries: list[Entry] = []  # by key
        self._revision = -1

    def all(self) -> bytes:
        """The twins of all running devices, a list."""
        now_ns = time.time_ns()
        found = self._runtime.supervisor.devices.values()
        return b"[" + b",".join(self._running(device, now_ns) for device in found) + b"]"

    def one(self, key: Key) -> bytes:
        """The twin of a device; raises RefusedError where there is none."""
        body = self._twin(key, time.time_ns(), None)
        if body is None:
            raise refused(404, f"no device {key.device} runs here")
        return body

    def page(self, query: Query) -> bytes:
        """Those asked for, by name, with counts of all that would be found."""
        ready, brief, limit = query.flag("ready"), _brief(query), query.number("limit", LIMIT, MOST)
        asked, states = self._asked(query), self._runtime.reporter.states
        well = [entry for entry in asked if states.get(entry.key, NEW)[0] in READY]
        chosen = asked if ready is None else well
        if ready is False:
            chosen = [entry for entry in asked if states.get(entry.key, NEW)[0] not in READY]
        start = bisect_right(chosen, _after(query), key=_key) if query.text("continue") else 0
        shown, now_ns = chosen[start : start + limit], time.time_ns()
        more = bool(shown) and start + limit < len(chosen)
        head = {
            "total": len(self._entries),
            "matched": len(chosen),
            "ready": len(well),
            "notReady": len(asked) - len(well),
            "continue": shown[-1].key.device if more else None,
        }
        bodies = [body for entry in shown if (body := self._twin(entry.key, now_ns, brief)) is not None]
        return dumps(head)[:-1] + b',"devices":[' + b",".join(bodies) + b"]}"

    def _asked(self, query: Query) -> list[Entry]:
        found = self._index()
        if names := set(query.many("name")):
            found = [one for one in found if one.key.name in names or one.key.device in names]
        for word in query.words():
            found = [one for one in found if word in one.text]
        for label in query.many("label"):
            name, given, value = label.partition("=")
            found = [e for e in found if name in e.labels and (not given or e.labels[name] == value)]
        return found

    def _index(self) -> list[Entry]:
        """Made anew where what is declared has changed."""
        supervisor = self._runtime.supervisor
        if self._revision != supervisor.revision:
            self._revision = supervisor.revision
            running = [self._entry(key, *_about(device)) for key, device in supervisor.devices.items()]
            stuck = [self._entry(key, *self._declared(key)) for key in supervisor.unbound]
            self._entries = sorted(running + stuck)
        return self._entries

    def _entry(self, key: Key, labels: Mapping[str, str], *more: str) -> Entry:
        pairs = [f"{name}={value}" for name, value in labels.items()]
        return Entry(key, " ".join((key.device, *pairs, *more)).casefold(), labels)

    def _declared(self, key: Key) -> tuple[Mapping[str, str], str, str]:
        """Labels, model and protocol of a device that can't run, as far as its declaration makes sense."""
        found = self._runtime.supervisor.declared(key)
        if found is None:
            return NOTHING, "", ""
        return _map(found.labels), found.model, next(iter(_map(found.spec.get("endpoint"))), "")

    def _twin(self, key: Key, now_ns: int, brief: int | None) -> bytes | None:
        supervisor = self._runtime.supervisor
        if (device := supervisor.devices.get(key)) is not None:
            return self._running(device, now_ns, brief)
        stuck = supervisor.unbound.get(key)
        return None if stuck is None else self._stuck(stuck, brief)

    def _running(self, device: RunningDevice, now_ns: int, brief: int | None = None) -> bytes:
        """A device as it is this moment, fresher than its status in the store."""
        key, bound, runtime = device.bound.key, device.bound, self._runtime
        snapshot = runtime.aggregator.snapshot(device.column if brief is None else device.column[:brief])
        seen_ns = max(runtime.reporter.seen_ns(key), device.seen_ns, snapshot.newest_ns)
        head: dict[str, Any] = {
            "namespace": key.namespace,
            "name": key.name,
            "labels": dict(bound.labels),
            "model": bound.model,
            "protocol": bound.link[0],
            "link": bound.link[1],
            "status": self._status(key),
            "lastSeen": stamp(min(seen_ns, now_ns)) if seen_ns else None,  # whose clock runs ahead
        }
        if brief is None:
            head["conditions"] = _told(conditions(device, runtime.aggregator, snapshot))
        shown = b",".join(self._properties(device, snapshot, now_ns))
        return dumps(head)[:-1] + b',"properties":[' + shown + b"]}"

    def _stuck(self, device: Unbound, brief: int | None) -> bytes:
        """A device that can't run."""
        labels, model, protocol = self._declared(device.key)
        body: dict[str, Any] = {
            "namespace": device.key.namespace,
            "name": device.key.name,
            "labels": dict(labels),
            "model": model,
            "protocol": protocol,
            "link": None,
            "status": self._status(device.key),
            "lastSeen": None,
        }
        if brief is None:
            body["conditions"] = _told(unresolved(device))
        return dumps({**body, "properties": []})

    def _status(self, key: Key) -> dict[str, Any]:
        """As on the topic `status`."""
        told = self._runtime.reporter.told(key)
        if told is None:
            return {"state": "Starting", "reason": "", "message": "", "since": None}
        state, (head, since) = self._runtime.reporter.states[key][0], told
        return {"state": state, "reason": head.reason, "message": head.message, "since": since}

    def _properties(self, device: RunningDevice, snapshot: Snapshot, now_ns: int) -> Iterator[bytes]:
        """The entries of `status.properties`; what is polled and did not come in time is marked as stale."""
        entries, _ = parts(device, snapshot)
        if device.served != "Polling":  # what is pushed comes when it changes
            yield from entries
            return
        latest = self._runtime.aggregator.latest
        for entry, quality, name, slot in zip(
            entries, snapshot.qualities, device.names, device.column, strict=False
        ):
            interval_ns = duration_ns(device.specs[name].telemetry.sampling_interval)
            late = quality < Quality.BAD and now_ns - latest(slot).time_ns > max(
                MISSED * interval_ns, LEAST_STALE_NS
            )
            yield entry[:-1] + b',"stale":true}' if late else entry


_key = attrgetter("key")


def _map(value: Any) -> Mapping[str, Any]:
    """What is declared as a map; nothing where it is none."""
    return value if isinstance(value, Mapping) else NOTHING


def _about(device: RunningDevice) -> tuple[Mapping[str, str], str, str, str]:
    bound = device.bound
    return bound.labels, bound.model, *bound.link


def _told(found: list[Condition]) -> list[dict[str, str]]:
    return [{"type": c.type, "status": c.status, "reason": c.reason, "message": c.message} for c in found]


def _brief(query: Query) -> int | None:
    return query.number("brief", 0, MOST) if query.text("brief") else None


def _after(query: Query) -> Key:
    namespace, _, name = query.text("continue").partition("/")
    return Key("Device", namespace, name)
