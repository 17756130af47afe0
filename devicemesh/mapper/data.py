"""What passes between the runtime and a session: points and batches, writes, outcomes, and what happens."""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal

from devicemesh.mapper.address import A, E
from devicemesh.mapper.errors import MapperError, PointError
from devicemesh.mapper.quality import Quality
from devicemesh.spec.telemetry import Telemetry
from devicemesh.spec.values import Scalar, ValueType

_TELEMETRY = Telemetry()


@dataclass(frozen=True, slots=True)
class Point(Generic[E, A]):
    """One property of one device, bound to an address."""

    slot: int  # dense id: the only name that the hot path knows
    device: str  # "namespace/name"
    name: str
    type: ValueType  # the model's type; also the type on the wire unless the address says otherwise
    endpoint: E
    address: A
    telemetry: Telemetry = field(default=_TELEMETRY, compare=False)  # how often, and what of it leaves


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Readings as columns of equal length; the buffers reach C uncopied.

    `time_ns` and `quality` may be one int for all rows. Times are Unix nanoseconds: the device's clock if
    it has one, else the arrival of the answer. `value` holds float64 (`array('d')`), int64 (`array('q')`)
    or a list of objects (str, bytes, int beyond int64, JSON structures). Where quality is bad the value
    is NaN, 0 or None and means nothing.
    """

    slot: array[int]  # 'I'
    time_ns: int | array[int]  # 'q'
    value: array[float] | array[int] | Sequence[Any]
    quality: int | array[int] = 0  # 'B'
    error: MapperError | None = None  # why, when the rows are bad


@dataclass(frozen=True, slots=True)
class Write(Generic[E, A]):
    """One value to be written; already checked against the model's type and range."""

    point: Point[E, A]
    value: Scalar


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one write. `value` is the read-back; None where the peer cannot be asked.

    `error` says why it was not done; with neither it was done, as far as the peer says.
    """

    value: Scalar | None = None
    error: PointError | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """The way of one value from bytes to number, as `devicemesh trace` shows it."""

    request: bytes  # as sent, framing left out
    response: bytes
    field: bytes  # the bytes of the response that the value was decoded from
    steps: Sequence[str]  # "uint32 big-endian 1150681088", "x 0.1"
    value: Scalar | None
    quality: Quality


@dataclass(frozen=True, slots=True)
class Found:
    """A peer seen by discovery; `points` only where one peer was scanned."""

    uri: str  # the endpoint as `parse_endpoint` reads it
    identity: Mapping[str, str] = field(default_factory=dict)  # vendor, product, revision, ...
    points: Sequence[tuple[str, str]] = ()  # (address as `parse_address` reads it, a sample)
    manifest: str = ""  # YAML of a DeviceModel and a Device that can be applied as it is


@dataclass(frozen=True, slots=True)
class Invocation(Generic[E]):
    """A command that is a call, with its arguments: checked against the model, in the order declared."""

    device: str  # "namespace/name"
    command: str
    endpoint: E
    address: Any  # of the mapper's `command_type`
    arguments: Mapping[str, Scalar] = field(default_factory=dict)
    types: Mapping[str, ValueType] = field(default_factory=dict)  # of the arguments


@dataclass(frozen=True, slots=True)
class Notifier(Generic[E]):
    """A place where a device tells of what happens, as its model declares it."""

    device: str  # "namespace/name"
    event: str  # the name in the model
    endpoint: E
    address: Any  # of the mapper's `event_type`


Severity = Literal["info", "warning", "critical"]
OccurrenceState = Literal["event", "active", "acknowledged", "cleared"]
"""An event just happened; a condition is active, active but seen by somebody, or over."""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Something that happened at a peer: an event, or a change of a condition (an alarm)."""

    name: str  # what: the condition's name, or the kind of event
    time_ns: int  # Unix nanoseconds, by the peer's clock if it has one
    message: str
    severity: Severity
    state: OccurrenceState
    source: str  # what it is about, as the peer names it
    level: int | None = None  # the severity in the peer's own measure
    details: Mapping[str, Any] = field(default_factory=dict)  # more that the peer says, as JSON

    @property
    def condition(self) -> tuple[str, str]:
        """What tells one condition of a notifier from another."""
        return self.source, self.name


@dataclass(frozen=True, slots=True)
class Notification:
    """What a notifier says at once.

    `standing`: these are all the conditions that stand there now, as after a reconnect; what was active and
    is not among them is over. `error`: why nothing can be heard from this notifier; the others are.
    """

    notifier: Notifier[Any]
    occurrences: Sequence[Occurrence] = ()
    standing: bool = False
    error: PointError | None = None


@dataclass(frozen=True, slots=True)
class Gap(Generic[E, A]):
    """A time in which a point was not read; both ends are known already and not asked for."""

    point: Point[E, A]
    begin_ns: int
    end_ns: int


Reader = Callable[[], AsyncIterator[Batch]]
