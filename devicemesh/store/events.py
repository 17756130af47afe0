"""Kubernetes Events (events.k8s.io/v1) for transitions of conditions: deduplicated, and never in the way."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from devicemesh.spec.device import API_VERSION
from devicemesh.store.base import Key, RefusedError, StoreUnavailableError
from devicemesh.store.cluster import ApiError
from devicemesh.store.pace import Bucket

log = logging.getLogger("devicemesh.store")
PATH = "/apis/events.k8s.io/v1"
CONTROLLER = "devicemesh.io/runtime"
WAITING = 256
"""Events that may wait to be sent; what comes beyond is dropped and counted."""
SERIES_S = 360.0
"""What is said again within so long is counted in a series, as client-go does it."""
COUNT_S = 60.0
"""A series' count is brought up to date so often."""
DENIED_S = 600.0
GRAIN_S = 0.001
NOTE_CHARACTERS = 1024  # the API's limit
ALIKE = 1024
_TOLD = {"ModelResolved": "False", "Connected": "False", "DesiredApplied": "False", "Degraded": "True"}
"""Conditions that are told of, with the status that is bad. Ready is their sum."""
_PASSING = {"Connecting", "Starting", "Waiting", "NotConnected", "Paused"}
"""Reasons that something else follows."""

Ask = Callable[[str, str, Any], Awaitable[Any]]
"""One request: verb, path, body."""


class Note(NamedTuple):
    """What is to be told of a device."""

    condition: str
    reason: str
    text: str
    bad: bool


@dataclass(slots=True)
class _Series:
    """An event that was said, and how often since."""

    name: str
    count: int
    last: datetime
    last_s: float
    sent_s: float
    sent: int = 1


class Transitions:
    """What changed of the conditions, by device. Pure."""

    def __init__(self) -> None:
        self._before: dict[Key, Mapping[str, tuple[str, str]]] = {}
        self._alike: dict[tuple[Any, ...], Mapping[str, tuple[str, str]]] = {}  # nearly all devices are

    def notes(self, key: Key, conditions: list[Mapping[str, Any]]) -> list[Note]:
        """What is new. A device that is well from the start is no news."""
        before = dict(self._before.get(key, {}))
        found = []
        for one in conditions:
            kind, status, reason = one["type"], one["status"], one["reason"]
            if kind not in _TOLD or status == "Unknown" or reason in _PASSING:
                continue
            bad = status == _TOLD[kind]
            was = before.get(kind)
            before[kind] = status, reason
            if (was is None and bad) or (was and (was[0] != status or (bad and was[1] != reason))):
                text = f"{kind} is {status}" + (f": {one['message']}" if one["message"] else "")
                found.append(Note(kind, reason, text[:NOTE_CHARACTERS], bad))
        if len(self._alike) > ALIKE:
            self._alike.clear()
        self._before[key] = self._alike.setdefault(tuple(before.items()), before)
        return found

    def forget(self, key: Key) -> None:
        self._before.pop(key, None)


class EventWriter:
    """`run` is its one task; `put` never waits. `ask` raises what a cluster raises."""

    def __init__(self, ask: Ask, clock: Callable[[], float]) -> None:
        self.dropped = 0
        self._ask, self._clock = ask, clock
        self._transitions = Transitions()
        self._bucket = Bucket(1, 25)
        self._queue: asyncio.Queue[tuple[Key, str, str, Note, datetime]] = asyncio.Queue(WAITING)
        self._series: dict[tuple[Key, str, str, bool], _Series] = {}
        self._denied_until_s = float("-inf")
        self._said = ""

    def put(self, key: Key, uid: str, status: Mapping[str, Any]) -> None:
        """Take a device's newest status."""
        for note in self._transitions.notes(key, status.get("conditions", [])):
            try:
                self._queue.put_nowait((key, uid, status.get("shard") or "", note, datetime.now(UTC)))
            except asyncio.QueueFull:
                self.dropped += 1

    def forget(self, key: Key) -> None:
        """The device is gone, or another's."""
        self._transitions.forget(key)

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                item = await asyncio.wait_for(self._queue.get(), COUNT_S / 2)
            except TimeoutError:
                item = None
            try:
                if item is not None:
                    await self._tell(*item)
                await self._count_up()
            except (ApiError, StoreUnavailableError, RefusedError) as error:
                self.dropped += item is not None
                if isinstance(error, ApiError) and error.status == 403:
                    self._denied_until_s = self._clock() + DENIED_S
                if str(error) != self._said:
                    self._said = str(error)
                    log.info("an Event is not written: %s", error)
            except Exception:
                log.exception("events: unexpected error, a bug")

    async def _tell(self, key: Key, uid: str, shard: str, note: Note, at: datetime) -> None:
        now_s = self._clock()
        same = (key, note.condition, note.reason, note.bad)
        series = self._series.get(same)
        if series is not None and now_s - series.last_s < SERIES_S:
            series.count, series.last, series.last_s = series.count + 1, at, now_s
            return
        if not await self._may():
            self.dropped += 1
            return
        body = _event(key, uid, shard, note, at)
        await self._ask("POST", f"{PATH}/namespaces/{key.namespace}/events", body)
        self._series[same] = _Series(body["metadata"]["name"], 1, at, now_s, now_s)

    async def _count_up(self) -> None:
        """Bring the counts of series up to date; forget those that are over."""
        now_s = self._clock()
        for same, series in list(self._series.items()):
            over = now_s - series.last_s >= SERIES_S
            if series.count > series.sent and (over or now_s - series.sent_s >= COUNT_S):
                if not await self._may():
                    return
                count = {"count": series.count, "lastObservedTime": _micro(series.last)}
                series.sent, series.sent_s = series.count, now_s
                path = f"{PATH}/namespaces/{same[0].namespace}/events/{series.name}"
                await self._ask("PATCH", path, {"series": count})
            if over:
                del self._series[same]

    async def _may(self) -> bool:
        """Whether to write one now; waits for the bucket while there is room for others to wait."""
        if self._clock() < self._denied_until_s:
            return False
        while (wait_s := self._bucket.wait_s(self._clock())) > 0:  # noqa: ASYNC110 - tokens come with time
            await asyncio.sleep(max(wait_s, GRAIN_S))
        self._bucket.take(self._clock())
        return True


def _event(key: Key, uid: str, shard: str, note: Note, at: datetime) -> dict[str, Any]:
    """An Event as the server takes it."""
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{key.name}.{secrets.token_hex(8)}", "namespace": key.namespace},
        "eventTime": _micro(at),
        "reportingController": CONTROLLER,
        "reportingInstance": shard or "main",
        "action": note.condition,
        "reason": note.reason,
        "note": note.text,
        "type": "Warning" if note.bad else "Normal",
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": key.kind,
            "namespace": key.namespace,
            "name": key.name,
            "uid": uid,
        },
    }


def _micro(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
