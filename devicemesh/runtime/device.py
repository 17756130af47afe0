"""What the runtime knows of one running device: slots, desired values on their way, why it is silent."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from devicemesh.aggregate import Aggregator
from devicemesh.mapper import Point
from devicemesh.runtime.binding import BoundDevice, point
from devicemesh.spec.device import Property
from devicemesh.twin import Attempt, Delta, Reported, delta


class RunningDevice:
    """Mutable; owned by the event loop."""

    def __init__(self, bound: BoundDevice, stream: int, slots: Mapping[str, int]) -> None:
        self.bound = bound
        self.stream = stream
        self.slots = dict(slots)  # property -> slot
        self.attempts: dict[str, Attempt] = {}
        self.edited: frozenset[str] = frozenset()  # desired values that a person has just set
        self.link_up = False
        self.trouble: tuple[str, str] | None = None  # (reason, message): why the device is silent
        self.point_trouble: dict[str, str] = {}  # property -> why it is bad
        self.desired_ids: dict[str, str] = {}  # property -> id of the message that set it
        self.dirty = True  # its status may have to be written at once
        self.column = array("I")  # the slots, in the order of the properties
        self.on_settled: Callable[[RunningDevice, str, Attempt], None] | None = None
        self.specs: Mapping[str, Property] = {n: b.spec for n, b in bound.properties.items()}

    @property
    def name(self) -> str:
        return self.bound.key.device

    def rebind(self, bound: BoundDevice) -> None:
        """Take a new declaration. Desired values that changed are written unasked."""
        before = self.bound.desired
        changed = {n for n, v in bound.desired.items() if n not in before or before[n] != v}
        self.edited = frozenset(changed | (self.edited & bound.desired.keys()))
        self.attempts = {n: a for n, a in self.attempts.items() if n in bound.desired and n not in changed}
        self.bound = bound
        self.specs = {n: b.spec for n, b in bound.properties.items()}
        self.dirty = True

    def settle_slots(self) -> None:
        """The slots have changed."""
        self.slots = {name: self.slots[name] for name in self.bound.properties}
        self.column = array("I", self.slots.values())

    def points(self) -> list[Point[Any, Any]]:
        """What can be read, for the link's plan."""
        if self.bound.paused:
            return []
        return [
            point(self.bound, name, slot)
            for name, slot in self.slots.items()
            if self.specs[name].access != "WriteOnly"
        ]

    def reported(self, aggregator: Aggregator, names: Iterable[str] | None = None) -> dict[str, Reported]:
        """The last reading of these properties, or of all."""
        out: dict[str, Reported] = {}
        for name in self.slots if names is None else names:
            if name in self.slots:
                reading = aggregator.latest(self.slots[name])
                out[name] = Reported(reading.value, reading.time_ns, reading.quality)
        return out

    def plan_writes(self, aggregator: Aggregator, now_ns: int) -> Delta:
        """What to write now; what is settled without a write is noted."""
        if self.bound.paused or not self.bound.desired:
            return Delta({}, {})
        plan = delta(
            self.specs,
            self.bound.desired,
            self.reported(aggregator, self.bound.desired),
            self.attempts,
            self.edited,
            now_ns,
        )
        for name, attempt in plan.settled.items():
            self.settle(name, attempt)
        return plan

    def settle(self, name: str, attempt: Attempt) -> None:
        """Note what became of a desired value."""
        self.attempts[name] = attempt
        self.edited -= {name}
        self.dirty = True
        if self.on_settled is not None:
            self.on_settled(self, name, attempt)

    def lost(self, reason: str, message: str) -> None:
        """The link is down: desired values are compared anew when it is back."""
        self.link_up = False
        self.trouble = (reason, message)
        self.point_trouble.clear()
        self.attempts = {n: a for n, a in self.attempts.items() if a.state == "refused"}
        self.dirty = True

    def back(self) -> None:
        """The link is up."""
        self.link_up = True
        self.trouble = None
        self.dirty = True
