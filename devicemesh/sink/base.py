"""The sink contract: durable publishing of records, retained state, and commands coming back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from devicemesh.aggregate import Record
from devicemesh.spec.device import Command as DeclaredCommand
from devicemesh.spec.device import EventSource, Property


@dataclass(frozen=True, slots=True)
class Command:
    """Something a client asked of a device.

    `kind` is `desired`, `write` (desired, and written now even where it was desired already), `command`, or
    `read` (its answer has `reported`, the newest readings).
    """

    kind: str
    device: str  # "namespace/name"
    name: str  # the command's; else empty
    body: Any  # parsed JSON; None when it was no JSON
    id: str | None = None  # MQTT 5 correlation data, given back in the result


@dataclass(frozen=True, slots=True, eq=False)
class Declaration:
    """What a device has, by name: its model's, with its own overrides.

    One `properties` for all devices of a model that override none.
    """

    properties: Mapping[str, Property]
    commands: Mapping[str, DeclaredCommand]
    events: Mapping[str, EventSource]
    model: str = ""
    """Its name."""
    manufacturer: str = ""
    """As the model's metadata says, in an annotation or label `manufacturer`."""


@dataclass(frozen=True, slots=True)
class SinkStats:
    """Counted since the start; samples as in `Record.samples`."""

    up: bool
    messages: int  # accepted by the peer
    samples_published: int
    samples_dropped: Mapping[str, int]
    """By policy: outbox_bytes, outbox_age, disk_full, corrupt, too_large, refused."""
    samples_spooled: int  # neither yet
    outbox_messages: int
    outbox_bytes: int
    outbox_capacity_bytes: int
    outbox_oldest_s: float  # Unix time of the oldest waiting message; 0 when empty
    reconnects: int
    last_error: str | None  # why nothing, or not everything, is accepted, in words
    samples_taken: int = 0  # == samples_published + sum(samples_dropped) + samples_spooled, always
    recovered_published: int = 0  # samples that earlier runs had left in the outbox
    recovered_dropped: Mapping[str, int] = field(default_factory=dict)
    recovered_spooled: int = 0
    refusals: int = 0  # publishes that the peer answered with an error
    commands_refused: int = 0  # not handed over: too many at once, retained, on a topic that is none of ours


class Sink(ABC):
    """Entered by `async with`; leaving it sends what can be sent within its patience and spools the rest."""

    epoch: int  # of this run: new at every open, durable before anything is published under it
    errors: int = 0  # tasks of its own that ended with an exception: a bug

    @abstractmethod
    async def __aenter__(self) -> Self: ...

    @abstractmethod
    async def __aexit__(self, *exc: object) -> None: ...

    @abstractmethod
    def publish(
        self, records: Sequence[Record], describe: Callable[[int], tuple[str, Sequence[str]]]
    ) -> None:
        """Take records, never waiting: they are in the outbox (page cache) on return, or counted as dropped.

        `describe(stream)` gives the device ("namespace/name") and the property names of a stream.
        """

    def declare(self, device: str, declaration: Declaration) -> None:  # noqa: B027 - not all sinks tell of it
        """What a device has, from now on; before anything of it is published."""

    @abstractmethod
    def event(self, device: str, topic: str, body: Mapping[str, Any]) -> None:
        """Publish once, durably, outside any stream: alarms, results of writes."""

    @abstractmethod
    def retain(self, device: str, topic: str, body: bytes | Mapping[str, Any] | None) -> None:
        """Keep a retained message at this value (None: remove it); only the newest survives an outage.

        Raises ValueError for a device that makes no topic.
        """

    def release(self, device: str) -> None:  # noqa: B027 - most sinks have only one that speaks
        """Another speaks for the device now: what is retained of it is neither said again nor removed."""

    def forget_absent(self, exists: Callable[[str], bool]) -> None:  # noqa: B027 - not all sinks keep something
        """All devices are known now: remove what is retained of those before that do not exist any more."""

    @abstractmethod
    def on_command(self, handler: Callable[[Command], Awaitable[None]]) -> None:
        """Whom to call with commands from the peer."""

    @abstractmethod
    async def drain(self, timeout_s: float) -> bool:
        """Wait until all that was taken is accepted by the peer; False when time ran out or nothing goes."""

    @abstractmethod
    def stats(self) -> SinkStats: ...
