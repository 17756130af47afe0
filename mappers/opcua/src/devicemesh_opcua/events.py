"""Alarms, conditions and events (Part 9): what is asked of them, and what a message of them says. Pure."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from devicemesh.mapper import Occurrence, OccurrenceState, Severity
from devicemesh_opcua import binary
from devicemesh_opcua.binary import DecodeError, Typed
from devicemesh_opcua.convert import plain, unix_ns
from devicemesh_opcua.nodeid import NodeName

BASE_EVENT, CONDITION, ACKNOWLEDGEABLE, ALARM = 2041, 2782, 2881, 2915
REFRESH_START, REFRESH_END, REFRESH_REQUIRED, OVERFLOW = 2787, 2788, 2789, 3035
NODE_ID, VALUE = 1, 13
MAX_TEXT = 1000


class Clause(NamedTuple):
    """A field of an event that is asked for (SimpleAttributeOperand, Part 4, 7.7.4.5)."""

    name: str
    type_id: int
    path: tuple[str, ...]
    attribute: int = VALUE


CLAUSES = (
    Clause("type", BASE_EVENT, ("EventType",)),
    Clause("source", BASE_EVENT, ("SourceName",)),
    Clause("time", BASE_EVENT, ("Time",)),
    Clause("message", BASE_EVENT, ("Message",)),
    Clause("severity", BASE_EVENT, ("Severity",)),
    Clause("condition", CONDITION, (), NODE_ID),
    Clause("name", CONDITION, ("ConditionName",)),
    Clause("branch", CONDITION, ("BranchId",)),
    Clause("retain", CONDITION, ("Retain",)),
    Clause("comment", CONDITION, ("Comment",)),
    Clause("acknowledged", ACKNOWLEDGEABLE, ("AckedState", "Id")),
    Clause("confirmed", ACKNOWLEDGEABLE, ("ConfirmedState", "Id")),
    Clause("active", ALARM, ("ActiveState", "Id")),
    Clause("shown", ALARM, ("ActiveState", "EffectiveDisplayName")),
)


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it came: its values by the names of `CLAUSES`; Null is left out."""

    handle: int  # of the monitored item
    values: dict[str, Typed]

    def value(self, name: str) -> Any:
        """What a field holds, or None."""
        held = self.values.get(name)
        return held.value if held is not None and not held.is_array else None

    @property
    def type(self) -> NodeName | None:
        """The event's type."""
        held = self.value("type")
        return held if isinstance(held, NodeName) else None

    def is_a(self, number: int) -> bool:
        """Whether it is of exactly this type of the standard."""
        return self.type == NodeName(0, number)

    @property
    def is_condition(self) -> bool:
        """Whether it is of a condition: those alone have a ConditionId."""
        return isinstance(self.value("condition"), NodeName)

    @property
    def is_branch(self) -> bool:
        """Whether it is of an earlier state of a condition that nobody has acknowledged (Part 9, 4.4)."""
        branch = self.value("branch")
        return isinstance(branch, NodeName) and branch != NodeName(0, 0)


def events(notification: bytes) -> list[Event]:
    """Take an EventNotificationList apart. Raises DecodeError."""
    count, at = binary.length(notification, 0, 8)
    found = []
    for _ in range(count):
        if at + 4 > len(notification):
            raise DecodeError("the message ends inside an event")
        (handle,) = struct.unpack_from("<I", notification, at)
        size, at = binary.length(notification, at + 4)
        values: dict[str, Typed] = {}
        for index in range(size):
            held, at = binary.variant(notification, at)
            if index < len(CLAUSES) and held.kind != binary.NULL:
                values[CLAUSES[index].name] = held
        found.append(Event(handle, values))
    return found


def severity(level: int) -> Severity:
    """The word of a severity from 1 to 1000 (Part 5, 6.4.2, whose low, medium and high these are)."""
    return "info" if level <= 333 else "warning" if level <= 666 else "critical"


def state(event: Event) -> OccurrenceState:
    """What has become of a condition; `event` where it is none.

    One without ActiveState stands as long as it is worth keeping (Retain, Part 9, 5.5.2).
    """
    if not event.is_condition:
        return "event"
    active = event.value("active")
    stands = active if isinstance(active, bool) else event.value("retain") is True
    if not stands:
        return "cleared"
    return "acknowledged" if event.value("acknowledged") is True else "active"


def occurrence(event: Event, type_name: str) -> Occurrence:
    """An event as the framework has it."""
    told = event.value("time")
    level = event.value("severity")
    level = level if isinstance(level, int) else 1
    name = _text(event.value("name")) or type_name
    kept = {"type": type_name} if name != type_name else {}
    more = {n: plain(v.kind, v.value) for n in _DETAILS if (v := event.values.get(n)) and v.value is not None}
    return Occurrence(
        name=name,
        time_ns=unix_ns(told if isinstance(told, int) else 0, time.time_ns()),
        message=_text(event.value("message")),
        severity=severity(level),
        state=state(event),
        source=_text(event.value("source")),
        level=level,
        details={**kept, **{n: v[:MAX_TEXT] if isinstance(v, str) else v for n, v in more.items()}},
    )


_DETAILS = ("comment", "acknowledged", "confirmed", "shown")


def _text(value: Any) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def collected(found: Sequence[Occurrence]) -> list[Occurrence]:
    """The newest of each condition, of those that stand."""
    newest = {one.condition: one for one in found}
    return [one for one in newest.values() if one.state != "cleared"]
