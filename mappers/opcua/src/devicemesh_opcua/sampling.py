"""How points are monitored: grouping, intervals, queues, filters (Part 4, 7.21 and 7.22)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from devicemesh.spec.values import duration_ns
from devicemesh_opcua.channel import ua
from devicemesh_opcua.model import OpcUaPoint

LEAST_PUBLISHING_MS = 100.0
MAX_QUEUE = 1000
"""Samples of an item that wait at the server between two messages."""


@dataclass(slots=True)
class Group:
    """Points that are published alike."""

    interval_ms: float
    timestamps: str
    points: list[OpcUaPoint] = field(default_factory=list)


def sampling_ms(point: OpcUaPoint) -> float:
    """How often the server is to look at the value."""
    return duration_ns(point.telemetry.sampling_interval) / 1e6


def groups(points: Iterable[OpcUaPoint]) -> list[Group]:
    """Points by publishing interval and timestamps. Pure."""
    found: dict[tuple[str | None, str], list[OpcUaPoint]] = {}
    for point in points:
        endpoint = point.endpoint
        found.setdefault((endpoint.publishing_interval, endpoint.timestamps), []).append(point)
    made = []
    for (interval, timestamps), members in found.items():
        shortest = max(min(map(sampling_ms, members)), LEAST_PUBLISHING_MS)
        made.append(Group(duration_ns(interval) / 1e6 if interval else shortest, timestamps, members))
    return made


def queue_size(point: OpcUaPoint, publishing_ms: float) -> int:
    """Room for every sample between two messages, and for one late message. Pure."""
    return min(MAX_QUEUE, 2 * math.ceil(publishing_ms / sampling_ms(point)) + 1)


def data_filter(point: OpcUaPoint) -> Any:
    """What need not be sent (Part 4, 7.22.2).

    Every sample is wanted where each is reported or goes into a window: then a new timestamp is a change
    too. A deadband is applied by the server only if nothing but changes beyond it is wanted.
    """
    if point.address.attribute != "Value":
        return None
    wish = point.telemetry
    if point.address.deadband_percent:
        return ua.DataChangeFilter(
            Trigger=ua.DataChangeTrigger.StatusValue,
            DeadbandType=int(ua.DeadbandType.Percent),
            DeadbandValue=point.address.deadband_percent,
        )
    if wish.report == "change" and wish.deadband and point.type.is_number:
        return ua.DataChangeFilter(
            Trigger=ua.DataChangeTrigger.StatusValue,
            DeadbandType=int(ua.DeadbandType.Absolute),
            DeadbandValue=wish.deadband,
        )
    if wish.report in ("every", "window"):
        return ua.DataChangeFilter(Trigger=ua.DataChangeTrigger.StatusValueTimestamp)
    return None
