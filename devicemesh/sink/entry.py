"""What the sender has under way, and what it hands it to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from devicemesh.sink.retained import Name
from devicemesh.sink.routes import Route
from devicemesh.sink.suspects import Suspect

Encode = Callable[[bytes, Sequence[str]], bytes]
"""A record's body and its stream's names as a payload."""
Write = Callable[[Route, bytes, bool], bytes]
"""See `Dialect.payload`."""


class TooLargeError(ValueError):
    """What has to be said with a record is more than the broker takes."""


_PACKET_OVERHEAD = 16  # of a publish, beside topic and payload


class Link(Protocol):
    """A connection that takes publishes."""

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> int | None:
        """Hand over a message of QoS 1; return its identifier, None when none can be taken now."""
        ...

    @property
    def congested(self) -> bool:
        """Whether the network is behind with what it was given."""
        ...


class Entry(NamedTuple):
    """A record on its way."""

    position: int
    sample: int
    samples: int
    route: Route
    body: bytes
    stored: bool  # False: only here, since the disk did not take it


def policy_of(error: Exception) -> str:
    """Under which policy a record is dropped that can't be encoded."""
    return "too_large" if isinstance(error, TooLargeError) else "corrupt"


def suspect(under_way: Entry | Name) -> Suspect:
    return under_way.position if isinstance(under_way, Entry) else under_way


def packet_bytes(topic: str, payload: bytes) -> int:
    return len(topic) + len(payload) + _PACKET_OVERHEAD
