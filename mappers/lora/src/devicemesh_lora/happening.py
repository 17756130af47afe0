"""What network servers tell, in one form for all of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

Known: TypeAlias = Mapping[str, float | str | None]
"""By the names of `stat`."""
FUTURE_NS = 5_000_000_000
"""So far ahead of our clock a server's may be."""


class MessageError(ValueError):
    """A message that is not what its topic promises; says why."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A gateway that heard an uplink."""

    eui: str
    known: Known  # of the gateway itself, as its place


@dataclass(frozen=True, slots=True)
class Reported:
    """An uplink, its MIC checked and its payload decrypted by the server."""

    eui: str
    time_ns: int
    counter: int
    port: int | None
    payload: bytes
    decoded: Any  # None: the server has no codec for it
    known: Known
    normalized: Any = None
    mark: str = ""  # the server's name for it: a copy has the same
    device_id: str = ""  # as the server calls the device
    gateways: Sequence[Heard] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Activated:
    """A device has joined: its counters begin anew."""

    eui: str


@dataclass(frozen=True, slots=True)
class Followed:
    """What became of a downlink; `ids` are all that it goes by."""

    eui: str
    ids: frozenset[str]
    state: Literal["queued", "sent", "acknowledged", "unacknowledged", "failed"]
    gateway: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Learned:
    """Something is known of a device or a gateway."""

    eui: str
    known: Known
    time_ns: int
    alive: bool = True  # it is a sign of life


@dataclass(frozen=True, slots=True)
class Complaint:
    """The server is not content with a device."""

    eui: str
    reason: str  # the server's code
    message: str
    harms: bool  # what it sends is not let through
    ids: frozenset[str] = frozenset()  # downlinks that it may be about


@dataclass(frozen=True, slots=True)
class Ignored:
    """A message that says nothing to us, of a kind that may be new."""

    kind: str


Happening: TypeAlias = Reported | Activated | Followed | Learned | Complaint | Ignored


def moment(text: Any, now_ns: int) -> int:
    """A time as servers write it, in Unix nanoseconds; now where it can't be believed."""
    if not isinstance(text, str) or len(text) > 40:
        return now_ns
    try:
        when = datetime.fromisoformat(text)
        found = round((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1e9)
    except (ValueError, OverflowError):
        return now_ns
    return found if 0 < found <= now_ns + FUTURE_NS else now_ns
