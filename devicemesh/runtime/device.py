"""What the runtime knows of one running device: slots, desired values on their way, why it is silent."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any, TypeVar

from devicemesh.aggregate import Aggregator
from devicemesh.mapper import Notifier, Point
from devicemesh.runtime.before import NEVER, Before
from devicemesh.runtime.binding import BoundDevice, notifiers, point
from devicemesh.spec.device import Property
from devicemesh.store.base import NOTHING
from devicemesh.twin import Attempt, Delta, Reported, delta

T = TypeVar("T")
NONE: frozenset[str] = frozenset()
"""Like NOTHING, one for all: an empty set or dict of its own takes what a small object takes."""


class RunningDevice:
    """Mutable, but for the mappings in it, which are replaced whole; owned by the event loop."""

    __slots__ = (
        "attempts",
        "before",
        "bound",
        "column",
        "deaf",
        "desired_ids",
        "dirty",
        "disagrees",
        "edited",
        "link_up",
        "names",
        "on_settled",
        "point_trouble",
        "report_due_s",
        "seen_ns",
        "served",
        "stream",
        "trouble",
        "waits_for_edit",
    )

    def __init__(self, bound: BoundDevice, stream: int, before: Before = NEVER) -> None:
        self.bound = bound
        self.seen_ns = before.seen_ns  # the newest good reading of the process before
        self.before = before.times  # by property; until its link has taken it
        self.stream = stream
        self.names: tuple[str, ...] = ()  # its properties, in order
        self.column = array("I")  # their slots
        self.attempts: Mapping[str, Attempt] = NOTHING
        self.edited = NONE  # desired values that a person has just set
        self.link_up = False
        self.trouble: tuple[str, str] | None = None  # (reason, message): why the device is silent
        self.waits_for_edit = False  # the link is down and is not tried again
        self.point_trouble: Mapping[str, str] = NOTHING  # property -> why it is bad
        self.deaf: Mapping[str, str] = NOTHING  # event source -> why nothing is heard from it
        self.disagrees = ""  # how it wants its link otherwise than the first device there
        self.served = "Polling"  # how its values come: Polling, Subscribed, SubscribedAndPolling
        self.desired_ids: Mapping[str, str] = NOTHING  # property -> id of the message that set it
        self.dirty = True  # its status may have to be written at once
        self.report_due_s = 0.0  # when its values are looked at again
        self.on_settled: Callable[[RunningDevice, str, Attempt], None] | None = None

    @property
    def name(self) -> str:
        return self.bound.name

    @property
    def specs(self) -> Mapping[str, Property]:
        return self.bound.shape.specs

    def slot(self, name: str) -> int:
        """The slot of a property."""
        return self.column[self.names.index(name)]

    def property_of(self, slot: int) -> str:
        """The property that has a slot of this device."""
        return self.names[self.column.index(slot)]

    def rebind(self, bound: BoundDevice) -> None:
        """Take a new declaration. Desired values that changed are written unasked.

        What became of the others holds while they stand for the same: a model that was mended may take what
        it refused, and another peer has nothing of what was written to the one before.
        """
        before, known = self.bound.desired, self.bound.properties
        changed = {n for n, v in bound.desired.items() if n not in before or before[n] != v}
        self.edited = frozenset(changed | (self.edited & bound.desired.keys())) or NONE
        stay = [n for n in self.attempts if n in bound.desired and n not in changed]
        moved = self.bound.endpoint != bound.endpoint
        stay = [n for n in stay if not moved and known.get(n) == bound.properties.get(n)]
        self.attempts = {n: self.attempts[n] for n in stay} or NOTHING
        self.bound = bound
        self.deaf = {name: why for name, why in self.deaf.items() if name in bound.shape.events} or NOTHING
        self.dirty = True

    def points(self) -> list[Point[Any, Any]]:
        """What can be read, for the link's plan."""
        if self.bound.paused:
            return []
        return [
            point(self.bound, name, slot)
            for name, slot in zip(self.names, self.column, strict=True)
            if self.specs[name].access != "WriteOnly"
        ]

    def notifiers(self) -> list[Notifier[Any]]:
        """Where it tells of what happens."""
        return [] if self.bound.paused else notifiers(self.bound)

    def reported(self, aggregator: Aggregator, names: Iterable[str] | None = None) -> dict[str, Reported]:
        """The last reading of these properties, or of all."""
        wanted = self.names if names is None else [name for name in names if name in self.specs]
        slots = self.column if names is None else [self.slot(name) for name in wanted]
        readings = zip(wanted, map(aggregator.latest, slots), strict=True)
        return {name: Reported(r.value, r.time_ns, r.quality) for name, r in readings}

    def plan_writes(self, aggregator: Aggregator, now_ns: int, clock_s: float) -> Delta:
        """What to write now; what is settled without a write is noted."""
        if self.bound.paused or not self.bound.desired:
            return Delta({}, {})
        plan = delta(
            self.specs,
            self.bound.desired,
            self.bound.nearest_desired,
            self.reported(aggregator, self.bound.desired),
            self.attempts,
            self.edited,
            now_ns,
            clock_s,
        )
        for name, attempt in plan.settled.items():
            self.settle(name, attempt)
        return plan

    def anew(self, names: Set[str]) -> None:
        """Write these desired values, whatever became of them."""
        self.edited = self.edited | names
        self.attempts = {n: a for n, a in self.attempts.items() if n not in names} or NOTHING
        self.dirty = True

    def wants(self, name: str, value: Any) -> bool:
        """Whether this is what is desired now."""
        return name in self.bound.desired and self.bound.desired[name] == value

    @property
    def settled(self) -> bool:
        """Whether nothing remains to be written or tried again."""
        return all(
            (a := self.attempts.get(n)) is not None and a.state != "failed" for n in self.bound.desired
        )

    def again_s(self, clock_s: float) -> float:
        """When the next of the writes that failed is due again; infinity where none waits for its time."""
        waits = [self.attempts[n] for n in self.bound.desired if n in self.attempts]
        due = (a.retry_s for a in waits if a.state == "failed" and a.retry_s > clock_s)
        return min(due, default=math.inf)

    def settle(self, name: str, attempt: Attempt) -> None:
        """Note what became of a desired value."""
        told = attempt.repeats(self.attempts.get(name)) and name not in self.desired_ids
        self.attempts = {**self.attempts, name: attempt}
        self.edited = self.edited - {name} or NONE
        self.dirty = True
        if self.on_settled is not None and not told:
            self.on_settled(self, name, attempt)

    def lost(self, reason: str, message: str) -> None:
        """The link is down: desired values are compared anew when it is back."""
        self.link_up = False
        self.trouble = (reason, message)
        self.point_trouble = self.deaf = NOTHING
        self.attempts = {n: a for n, a in self.attempts.items() if a.state == "refused"} or NOTHING
        self.dirty = True

    def back(self) -> None:
        """The link is up."""
        self.link_up = True
        self.waits_for_edit = False
        self.trouble = None
        self.dirty = True


def without(mapping: Mapping[str, T], name: str) -> Mapping[str, T]:
    """All of it but this name."""
    return {one: value for one, value in mapping.items() if one != name} or NOTHING


def disagreeing(link: str, devices: Mapping[str, RunningDevice]) -> dict[str, str]:
    """Of the devices of a link those that declare it otherwise than the first, and how, for people.

    The files of one `apply` are checked for it; devices that came one by one are not.
    """
    endpoints = {name: device.bound.endpoint for name, device in devices.items()}
    first, holds = next(iter(endpoints.items()))
    return {
        name: f"link {link} is as {first} says, but {name} disagrees: {why}"
        for name, endpoint in endpoints.items()
        if (why := endpoint.conflict(holds))
    }
