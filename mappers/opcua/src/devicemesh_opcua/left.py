"""What a lost session leaves at its server, for the next one: its subscriptions. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from devicemesh_opcua.datatypes import DataTypes, Words
from devicemesh_opcua.model import OpcUaPoint

LIFETIME_S = 50.0
"""How long they are worth a try; the server ends them after a minute or so without Publish requests."""


@dataclass(slots=True)
class Subscription:
    """One at the server."""

    number: int
    interval_ms: float
    timestamps: str
    silence_s: float  # the longest between two messages
    due: float = 0.0  # loop time of the next one at the latest
    sequence: int = 0  # of the last message
    items: int = 0


@dataclass(frozen=True, slots=True)
class Left:
    """Subscriptions without a session, and what has to be known to go on with them."""

    subscriptions: Sequence[Subscription]
    points: Sequence[OpcUaPoint]
    notifiers: Sequence[Any]
    refused: Sequence[OpcUaPoint]
    listening: tuple[int, frozenset[int]]  # the subscription of events, and the handles heard there
    namespaces: Sequence[str]
    words: Mapping[int, Words]
    types: DataTypes
    until: float  # loop time

    def fits(
        self, now: float, namespaces: Sequence[str], points: Sequence[OpcUaPoint], notifiers: Sequence[Any]
    ) -> bool:
        """Whether it is what somebody wants to subscribe now, at a server that names nodes as it did."""
        return (
            now < self.until
            and list(self.points) == list(points)
            and [one.telemetry for one in self.points] == [one.telemetry for one in points]
            and list(self.notifiers) == list(notifiers)
            and list(self.namespaces) == list(namespaces)
        )


@dataclass(slots=True)
class Leavings:
    """Of all links of a mapper, by their names."""

    left: dict[str, Left] = field(default_factory=dict)
    unable: set[str] = field(default_factory=set)
    """Links whose servers take subscriptions over, but do not go on with them: they are not asked again."""
