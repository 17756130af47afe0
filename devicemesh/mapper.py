"""The mapper contract: with `devicemesh.layout` and `devicemesh.testing`, all that a mapper may import.

A mapper is stateless. It opens a session per *link* (the part of an endpoint that peers share: a TCP
socket, a serial line); the runtime owns that session in one task. A session's base classes are its
capabilities. Readings leave a session as `Batch`es of columns, so that a value costs nothing in Python.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Self, TypeAlias, TypeVar

import pluggy
from pydantic import ValidationError

from devicemesh.home import default_home as default_home  # noqa: PLC0414 - for mappers, which keep state there
from devicemesh.spec.base import Numerous, Strict, first_mistake
from devicemesh.spec.device import Telemetry
from devicemesh.spec.values import Scalar, ValueType

hookspec = pluggy.HookspecMarker("devicemesh")
hookimpl = pluggy.HookimplMarker("devicemesh")


class Quality(enum.IntEnum):
    """How far a value can be trusted: one byte, its top two bits the OPC UA severity (Part 4, 7.39)."""

    GOOD = 0x00
    FROM_HISTORY = 0x01  # good, but read afterwards from what the peer has kept
    UNCERTAIN = 0x40
    UNKNOWN_CODE = 0x41  # an enum's code that the model does not name: the number is delivered
    UNCERTAIN_FROM_HISTORY = 0x42
    BAD = 0x80
    NO_LINK = 0x81  # the link is down
    NO_ANSWER = 0x82  # the link is up, the device is silent
    REFUSED = 0x83  # the device answered with an error
    BAD_ADDRESS = 0x84  # the device has no such address
    UNDECODABLE = 0x85  # the answer does not fit the declared layout
    PENDING = 0x86  # never read yet

    @property
    def word(self) -> str:
        """The quality as people and payloads read it: `Good`, `Bad.NoAnswer`."""
        return QUALITY_WORDS[self]


QUALITY_WORDS: Mapping[int, str] = {
    Quality.GOOD: "Good",
    Quality.FROM_HISTORY: "Good.FromHistory",
    Quality.UNCERTAIN: "Uncertain",
    Quality.UNKNOWN_CODE: "Uncertain.UnknownCode",
    Quality.UNCERTAIN_FROM_HISTORY: "Uncertain.FromHistory",
    Quality.BAD: "Bad",
    Quality.NO_LINK: "Bad.NoLink",
    Quality.NO_ANSWER: "Bad.NoAnswer",
    Quality.REFUSED: "Bad.Refused",
    Quality.BAD_ADDRESS: "Bad.BadAddress",
    Quality.UNDECODABLE: "Bad.Undecodable",
    Quality.PENDING: "Bad.Pending",
}


M = TypeVar("M", bound=Strict)


class MapperError(Exception):
    """Base. A subclass exists only where the runtime reacts differently.

    `reason` is one CamelCase word for a condition's `reason` field; the message is a sentence without a
    full stop that a person can act on ("no answer from 10.0.0.5:502 unit 3 within 1 s").
    """

    default_reason = "Error"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason or self.default_reason


class ConfigError(MapperError):
    """The specification is wrong: set a condition, wait for an edit, never retry."""

    default_reason = "Misconfigured"


class AuthError(MapperError):
    """The credential is wrong: wait for a new secret."""

    default_reason = "Unauthorized"


class LinkError(MapperError):
    """The session is dead: its readings turn bad, the runtime backs off (0.5 s to 30 s) and reopens it.

    Name the link in the message. One silent device among others on a link is no `LinkError`.
    """

    default_reason = "NoLink"


class PointError(MapperError):
    """The peer refused, or did not answer for, these points only: the session lives on.

    It is never raised out of a reader, a subscription or `write`, but is the `error` of a bad `Batch` or of
    an `Outcome`; `trace` and `invoke` raise it.

    `again_s`: it is refused for now only (busy, out of order, a full queue), and may be taken after so many
    seconds. A desired value is then written again, as it is after `NoAnswer`; any other refusal stands until
    somebody edits it.
    """

    default_reason = "Refused"

    def __init__(self, message: str, *, reason: str | None = None, again_s: float | None = None) -> None:
        super().__init__(message, reason=reason)
        self.again_s = 0.0 if again_s is None and self.reason == "NoAnswer" else again_s

    @property
    def passes(self) -> bool:
        """Whether the same may succeed later."""
        return self.again_s is not None


class SecretRef(Strict):
    """A secret by name: never its value, and so fit for a manifest."""

    name: str
    """The secret's name: a folder in the home's `secrets`."""
    key: str = "password"
    """Which part of it: a file in that folder."""


Secrets: TypeAlias = Callable[[SecretRef], str]
"""Reads a secret now. Raises `AuthError`, which says where it was looked for."""


def no_secrets(ref: SecretRef) -> str:
    """The `Secrets` of who has none."""
    raise AuthError(f"nobody knows the secret {ref.name}/{ref.key} here", reason="SecretMissing")


def validated(model: type[M], data: Mapping[str, Any], text: str) -> M:
    """An endpoint or address out of the fields that `text` was taken apart into. Raises `ConfigError`."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{text!r}: {first_mistake(error)}") from error


class Endpoint(Numerous):
    """How to reach a peer. Frozen; subclass it with the protocol's fields, each with a docstring.

    What only code can check is a Pydantic validator's ValueError, which users see at its place in the YAML.
    """

    @abstractmethod
    def link(self) -> str:
        """Name the shared part, for people too (`10.0.0.5:502`); endpoints of equal names share a session.

        What the peer takes one connection for is in the name (host and port, the serial line); what tells
        devices behind it apart (a unit, a channel, a timeout) is not.
        """

    def text(self) -> str:
        """Name the device, for people: the link, and what tells it from its neighbours there."""
        return self.link()

    @abstractmethod
    def redirect(self, address: str) -> Self:
        """Return this endpoint at another address (`127.0.0.1:15020`, a pty's path), as simulators need.

        The rest of it stays; `link()` names the other address from then on.
        """

    def conflict(self, other: Self) -> str | None:
        """Say on what two endpoints of one link disagree ("baudrate 9600 and 19200"), or None.

        Override it where an endpoint holds more of the link than its name: the manifest refuses devices
        that disagree, and the runtime opens a link anew when this part of it is edited.
        """
        return None


class Address(Strict):
    """Where a property lives on its peer. Frozen; subclass it with the protocol's fields, each documented."""

    def refusal(self, type_: ValueType, access: str) -> str | None:
        """Say why a property of this type and access can't live here, or None.

        `access` is ReadOnly, ReadWrite or WriteOnly. Asked when YAML is checked, before anything connects.
        """
        return None

    def nearest(self, type_: ValueType, value: Scalar) -> Scalar:
        """Return what the peer reports once it holds `value`: a scaled integer, say, has steps.

        A desired value counts as applied when this reads back. Raises ValueError where it can't hold it.
        """
        return value

    def overlap(self, other: Self, type_: ValueType, other_type: ValueType) -> str | None:
        """Say how two properties of one device collide (the same bytes read as other things), or None."""
        return None


_TELEMETRY = Telemetry()
E = TypeVar("E", bound=Endpoint)
A = TypeVar("A", bound=Address)


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


class Session(ABC, Generic[E, A]):
    """A live connection to one link. Its base classes below are its capabilities.

    Entered and left by `async with mapper.open(endpoint)`. Cancellation is the stop: CancelledError passes.
    One task polls, writes and calls, one after the other; `subscribe` and `history` run beside it. Nothing
    may block the loop: all links share it.
    """

    def lost(self) -> Mapping[str, int]:
        """Samples that are known to be lost before they got here, since the session began, by reason.

        As in {"server_queue": 3}: the peer says that it had no room for three, or more, of them.
        """
        return {}


class Readable(Session[E, A]):
    """A session that can be polled."""

    @abstractmethod
    def reader(self, points: Sequence[Point[E, A]]) -> Reader:
        """Plan the reading of these points (of all devices of the link) once, without I/O.

        Called for the points of each sampling interval, and anew when they are declared otherwise. The
        returned function is called once per poll and yields a batch per answer, stamped on arrival; a write
        may go out between two of them. Each call covers every point exactly once: a request that fails yields
        its own points as bad rows with `error` set, and no other's. Raises `LinkError` when the link is dead.
        """


class Subscribable(Session[E, A]):
    """A session whose peer pushes."""

    @abstractmethod
    def subscribe(self, points: Sequence[Point[E, A]]) -> AsyncGenerator[Batch | Notification]:
        """Yield batches as the peer pushes them, the first values too.

        It runs beside the readers and `write`. A point that the peer refuses is a bad row with `error` set.
        The generator is closed, and another one begun, when the declared points change. Raises `LinkError`
        when the link is dead.
        """

    def pushes(self, point: Point[E, A]) -> bool:
        """Whether this point is subscribed; the others are polled, where the session is `Readable`."""
        return True


class Notifying(Subscribable[E, A]):
    """A session whose peer also tells what happens: alarms, conditions, events."""

    @abstractmethod
    def subscribe(
        self, points: Sequence[Point[E, A]], notifiers: Sequence[Notifier[E]] = ()
    ) -> AsyncGenerator[Batch | Notification]:
        """Yield batches, and notifications of these notifiers, as the peer pushes them.

        Conditions that stand already come first, as one notification for each notifier. Either sequence may
        be empty. Raises `LinkError` when the link is dead.
        """


class Historical(Session[E, A]):
    """A session whose peer keeps what it has measured."""

    @abstractmethod
    def history(self, gaps: Sequence[Gap[E, A]]) -> AsyncIterator[Batch]:
        """Yield what the peer has kept of these gaps: each point's rows by rising time, both ends left out.

        Rows bear their own time and the quality FROM_HISTORY or UNCERTAIN_FROM_HISTORY; bad ones are left
        out. Points of which the peer keeps nothing yield nothing. Bounded in time and count by the
        endpoint; what is cut off is counted in `lost`. Raises `LinkError` when the link is dead.
        """


class Invocable(Session[E, A]):
    """A session that can call what a peer offers: methods, remote procedures, actions."""

    @abstractmethod
    async def invoke(self, invocation: Invocation[E]) -> Mapping[str, Any]:
        """Do it, once, and return what the peer gives back, by name, as JSON.

        Raises `PointError` where the peer refuses, or does not answer (reason `NoAnswer`: it may have been
        done all the same; nobody asks twice), and `LinkError` when the link is dead.
        """


class Writable(Session[E, A]):
    """A session that can write."""

    @abstractmethod
    async def write(self, writes: Sequence[Write[E, A]]) -> Sequence[Outcome]:
        """Write in order and read back; one outcome each, also after one that was refused.

        Raises `LinkError` when the link is dead, and nothing else.
        """


class Traceable(Session[E, A]):
    """A session that can show its work."""

    @abstractmethod
    async def trace(self, point: Point[E, A]) -> Trace:
        """Read one point and keep the bytes; `devicemesh read` and `trace` show them.

        Raises `PointError` or `LinkError`.
        """


class Mapper(ABC, Generic[E, A]):
    """A protocol. Stateless; one instance serves every link."""

    protocol: str
    schemes: Sequence[str] = ()
    """Schemes of its URIs beside the protocol's name, as in coaps; a `+tcp` behind one need not be named."""
    endpoint_type: type[E]
    address_type: type[A]
    command_type: type[Strict] | None = None
    """Where a command that is a call lives; None: its sessions are not `Invocable`."""
    event_type: type[Strict] | None = None
    """Where a device tells of events; None: its sessions are not `Notifying`."""

    @abstractmethod
    def open(self, endpoint: E, secrets: Secrets = no_secrets) -> AbstractAsyncContextManager[Session[E, A]]:
        """Connect to the endpoint's link, when entered: `LinkError`, `AuthError` or `ConfigError`.

        Of the endpoint only what `link()` names and `conflict()` compares counts here: it is that of one of
        the devices, and each point brings its own. Leaving closes everything, whatever ends the block. A
        secret that was read here and changes later makes the runtime open the link anew.
        """

    @abstractmethod
    def parse_endpoint(self, uri: str) -> E:
        """Read an endpoint from its URI form. Raises `ConfigError`."""

    @abstractmethod
    def parse_address(self, text: str) -> A:
        """Read an address from its short form (`holding:100`). Raises `ConfigError`."""

    @abstractmethod
    def discover(self, uri: str, secrets: Secrets = no_secrets) -> AsyncIterator[Found]:
        """Look for peers behind `uri`, or inside one peer. Yields nothing where the protocol cannot."""


class Hooks:
    """Hooks register; no reading ever passes through one."""

    @hookspec
    def devicemesh_mappers(self) -> Sequence[Mapper[Any, Any]]:  # type: ignore[empty-body]
        """Return the mappers that this distribution brings."""

    @hookspec
    def devicemesh_simulators(self) -> Sequence[Any]:  # type: ignore[empty-body]
        """Return the simulators that this distribution brings (`devicemesh.testing.simulator.Simulator`)."""
