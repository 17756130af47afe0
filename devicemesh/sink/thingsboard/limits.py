"""What ThingsBoard says that a session may send, and how fast. Pure.

It ends the session of whoever sends faster. Newer servers say what their tenant profile allows; an older one
does not, and whoever has none may send as fast as he likes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

PAYLOAD_BYTES = 65536
"""netty.max_payload_size, as it comes."""
INFLIGHT = 100
"""Messages that a server lets wait for it, as it comes: beyond them it hangs up."""
VALUES = 1000
"""Of one message where nobody says otherwise."""
_SLOWEST_PER_S, _FASTEST_PER_S = 0.05, 10_000.0
SHARE = 0.8
"""Of what is allowed: clocks differ, and what a session sent before counts, too."""


class Rate:
    """Some limits that hold at once, as in `100:1,2000:60`: so many within so many seconds."""

    def __init__(self, limits: str = "") -> None:
        """Raises ValueError. An empty text, or a 0, is no limit."""
        self._buckets: list[_Bucket] = []
        for limit in limits.replace(";", ",").split(","):
            if limit.strip():
                count, _, seconds = limit.partition(":")
                if int(count) > 0 and int(seconds) > 0:
                    capacity = max(1.0, SHARE * int(count))
                    self._buckets.append(_Bucket(capacity, capacity / int(seconds), capacity))

    @classmethod
    def of(cls, per_s: float) -> Rate:
        """So many a second, no more at once."""
        rate, capacity = cls(), max(1.0, per_s)
        rate._buckets.append(_Bucket(capacity, per_s, capacity))
        return rate

    @property
    def per_s(self) -> float | None:
        """What may go in the long run."""
        return min((one.per_s for one in self._buckets), default=None)

    @property
    def most(self) -> int | None:
        """What may go at once."""
        return min((int(one.capacity) for one in self._buckets), default=None)

    def has(self, count: int, now_s: float) -> bool:
        """Whether so many may go now; more than ever may go at once go when all may."""
        for one in self._buckets:
            one.fill(now_s)
        return all(one.tokens >= min(count, one.capacity) for one in self._buckets)

    def take(self, count: int) -> None:
        """So many go."""
        for one in self._buckets:
            one.tokens -= min(count, one.capacity)


@dataclass(slots=True)
class _Bucket:
    capacity: float
    per_s: float
    tokens: float
    filled_s: float | None = None

    def fill(self, now_s: float) -> None:
        passed_s = now_s - self.filled_s if self.filled_s is not None else 0.0
        self.tokens = min(self.capacity, self.tokens + passed_s * self.per_s)
        self.filled_s = now_s


@dataclass(slots=True)
class Pace:
    """How fast somebody may send: messages, messages of telemetry and attributes, and values in these."""

    messages: Rate = field(default_factory=Rate)
    telemetry: Rate = field(default_factory=Rate)
    values: Rate = field(default_factory=Rate)

    @property
    def unlimited(self) -> bool:
        """Whether there are no limits."""
        return self.messages.most is self.telemetry.most is self.values.most is None

    def may(self, values: int, now_s: float) -> bool:
        """Whether a message may go, with so many values of telemetry or attributes; 0: it has none."""
        if not values:
            return self.messages.has(1, now_s)
        return self.telemetry.has(1, now_s) and self.values.has(values, now_s)

    def went(self, values: int) -> None:
        """It goes."""
        if not values:
            self.messages.take(1)
        else:
            self.telemetry.take(1)
            self.values.take(values)


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a session."""

    devices: Pace = field(default_factory=Pace)
    """Of all devices of the gateway together."""
    own: Pace = field(default_factory=Pace)
    """Of the gateway itself."""
    payload_bytes: int = PAYLOAD_BYTES
    inflight: int = int(SHARE * INFLIGHT)
    """Messages under way."""
    message_values: int = VALUES
    """Values in a message."""

    guess: Rate = field(default_factory=Rate)
    """Values a second, of all devices, where a session was ended though it kept to all that was told."""
    ceiling: float = math.inf
    """What was too much, in values a second: it is come near to slowly."""

    def may(self, values: int, now_s: float) -> bool:
        """Whether a message of devices may go, as `Pace.may`."""
        return self.devices.may(values, now_s) and self.guess.has(max(1, values), now_s)

    def went(self, values: int) -> None:
        """It goes."""
        self.devices.went(values)
        self.guess.take(max(1, values))

    def slower(self, sent: int, seconds: float, *, certain: bool) -> Limits:
        """After so many values the session was ended: half as fast, until it is not.

        `certain`: the server said that it was too much.
        """
        seen = sent / max(1.0, seconds)
        return self._guessing(max(_SLOWEST_PER_S, seen / 2), seen if certain else math.inf)

    def faster(self) -> Limits:
        """After that was long ago."""
        known = self.guess.per_s
        return self if known is None else self._guessing(min(2 * known, self.ceiling), 1.02 * self.ceiling)

    def _guessing(self, per_s: float, ceiling: float) -> Limits:
        guess = Rate.of(per_s) if per_s < _FASTEST_PER_S else Rate()
        most = min(VALUES, self.devices.values.most or VALUES, guess.most or VALUES)
        return replace(self, guess=guess, message_values=most, ceiling=ceiling)


def limits(answer: Any) -> Limits | None:
    """What a server says of a session's limits; None where it says nothing that can be read."""
    if not isinstance(answer, dict) or not isinstance(answer.get("rateLimits"), dict):
        return None
    try:
        inflight = int(answer.get("maxInflightMessages") or 0)
        devices = _pace(answer.get("gatewayRateLimits") or {})
        return Limits(
            devices=devices,
            own=_pace(answer["rateLimits"]),
            payload_bytes=int(answer.get("maxPayloadSize") or PAYLOAD_BYTES),
            inflight=max(1, int(SHARE * inflight)) if inflight else 10 * INFLIGHT,
            message_values=min(VALUES, devices.values.most or VALUES),
        )
    except (ValueError, TypeError, AttributeError):
        return None


def _pace(said: Mapping[str, Any]) -> Pace:
    return Pace(*_rates(said))


def _rates(said: Mapping[str, Any]) -> Iterator[Rate]:
    for name in ("messages", "telemetryMessages", "telemetryDataPoints"):
        yield Rate(said.get(name) or "")
