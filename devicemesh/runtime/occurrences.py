"""What peers tell of alarms and events, on its way to the topic `alarm`: known, counted, bounded."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from devicemesh.mapper import Notification, Occurrence, Severity
from devicemesh.runtime.device import RunningDevice, without
from devicemesh.sink.base import Sink

log = logging.getLogger("devicemesh.events")
BURST = 1000
RATE_PER_S = 50.0
"""Of one device: more at once, or for ever, is a fault that must not fill the outbox."""
MAX_CONDITIONS = 1000
"""Standing conditions of one notifier that are kept in mind."""
MAX_TEXT = 1000
_RANK: Mapping[Severity, int] = {"info": 0, "warning": 1, "critical": 2}


Standing = dict[tuple[str, str], Occurrence]
"""The conditions that are active at one notifier."""


@dataclass(slots=True)
class _Bucket:
    """How much a device may still say."""

    tokens: float
    filled_s: float


class Occurrences:
    """Owned by the event loop. `find` gives the running device of a name, or None."""

    def __init__(
        self,
        sink: Sink,
        find: Callable[[str], RunningDevice | None],
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._sink = sink
        self._find = find
        self._clock = clock
        self._wall_ns = wall_ns
        self._standing: dict[tuple[str, str], Standing] = {}  # by device and event
        self._buckets: dict[str, _Bucket] = {}
        self.published: dict[str, int] = {}  # by state
        self.dropped: dict[str, int] = {}  # by policy: severity, rate

    def take(self, notification: Notification) -> None:
        """Publish what is new, and what is over without a word."""
        notifier = notification.notifier
        device = self._find(notifier.device)
        declared = device.bound.sources.get(notifier.event) if device is not None else None
        if device is None or declared is None:
            return  # removed while it was on its way
        _hear(device, notifier.event, notification)
        if notification.error is not None:
            return
        standing = self._standing.setdefault((device.name, notifier.event), {})
        for one in _news(standing, notification, self._wall_ns()):
            if one.condition not in standing and _RANK[one.severity] < _RANK[declared.severity]:
                self._drop("severity")  # what was published once is followed to its end
                continue
            if not self._may(device.name):
                self._drop("rate")
                continue
            self._publish(device.name, notifier.event, one)
            _remember(standing, one)

    def active(self) -> Iterator[Occurrence]:
        """The conditions that stand."""
        for standing in self._standing.values():
            yield from standing.values()

    def standing(self) -> Iterator[tuple[str, str, Occurrence]]:
        """The same with the device, "namespace/name", and the event source that each stands at."""
        for (device, event), standing in self._standing.items():
            for one in standing.values():
                yield device, event, one

    def forget(self, device: str) -> None:
        """A device is gone, and what stood there with it."""
        for key in [key for key in self._standing if key[0] == device]:
            del self._standing[key]
        self._buckets.pop(device, None)

    def _drop(self, policy: str) -> None:
        self.dropped[policy] = self.dropped.get(policy, 0) + 1

    def _may(self, device: str) -> bool:
        now = self._clock()
        bucket = self._buckets.setdefault(device, _Bucket(BURST, now))
        bucket.tokens = min(BURST, bucket.tokens + (now - bucket.filled_s) * RATE_PER_S)
        bucket.filled_s = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    def _publish(self, device: str, event: str, one: Occurrence) -> None:
        self.published[one.state] = self.published.get(one.state, 0) + 1
        level = logging.INFO if one.state in ("event", "cleared") else logging.WARNING
        log.log(level, "%s of %s, %s: %s: %s", one.name, device, one.source, one.state, one.message)
        self._sink.event(device, "alarm", payload(event, one))


def payload(event: str, one: Occurrence) -> dict[str, Any]:
    """An occurrence as clients read it."""
    body: dict[str, Any] = {
        "alarm": one.name[:MAX_TEXT],
        "event": event,
        "source": one.source[:MAX_TEXT],
        "state": one.state,
        "severity": one.severity,
        "message": one.message[:MAX_TEXT],
        "time": _stamp(one.time_ns),
    }
    if one.state != "event":
        body["active"] = one.state != "cleared"
    if one.level is not None:
        body["level"] = one.level
    if one.details:
        body["details"] = dict(one.details)
    return body


def _stamp(time_ns: int) -> str:
    """RFC 3339, to the millisecond; a time outside the calendar is its end."""
    try:
        moment = datetime.fromtimestamp(time_ns / 1e9, UTC)
    except (ValueError, OverflowError, OSError):
        return "1970-01-01T00:00:00.000Z" if time_ns < 0 else "9999-12-31T23:59:59.999Z"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _hear(device: RunningDevice, event: str, notification: Notification) -> None:
    """Note whether the notifier can be heard."""
    why = str(notification.error) if notification.error is not None else None
    if device.deaf.get(event) == why:
        return
    device.dirty = True
    if why is None:
        device.deaf = without(device.deaf, event)
        return
    device.deaf = {**device.deaf, event: why}
    log.warning("%s tells of no %s: %s", device.name, event, why)


def _news(known: Standing, notification: Notification, now_ns: int) -> Iterator[Occurrence]:
    """What of a notification has not been said yet."""
    if not notification.standing:
        yield from notification.occurrences
        return
    now = {one.condition for one in notification.occurrences}
    for condition, before in list(known.items()):
        if condition not in now:
            message = "over: it does not stand any more since the connection is back"
            yield replace(before, state="cleared", time_ns=now_ns, message=message)
    for one in notification.occurrences:
        said = known.get(one.condition)
        if said is None:
            if one.state != "cleared":
                yield one
        elif (said.state, said.time_ns) != (one.state, one.time_ns):
            yield one


def _remember(known: Standing, one: Occurrence) -> None:
    if one.state == "cleared":
        known.pop(one.condition, None)
    elif one.state != "event" and (one.condition in known or len(known) < MAX_CONDITIONS):
        known[one.condition] = one
