"""How a runtime speaks to a broker: topics, payloads, and what is told of what comes and goes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from devicemesh.settings import SecretRef
from devicemesh.sink.base import Declaration
from devicemesh.sink.client import Will
from devicemesh.sink.connection import Connection
from devicemesh.sink.entry import Link
from devicemesh.sink.routes import Route
from devicemesh.sink.sender import Sender
from devicemesh.sink.topics import Addresses


class Dialect(ABC):
    """Owned by the event loop, for as long as the sink is open."""

    topics: Addresses
    subscriptions: Sequence[str]
    username: SecretRef | None = None
    """In place of `mqtt.username`."""
    _sender: Sender
    waits_for: str | None = None
    """Why nothing is sent though there is a connection, in words."""

    @abstractmethod
    def opened(self, sender: Sender, home: Path, epoch: int) -> None:
        """The sink is open; `sender` takes what is to be sent."""

    @abstractmethod
    def will(self) -> Will:
        """Asked once before each try to connect."""

    @abstractmethod
    def connected(self, connection: Connection, ready: Callable[[Link], None]) -> None:
        """The broker has answered; `ready` is called, at once or later, with what takes publishes."""

    def disconnected(self, *, hung_up: bool = False) -> None:  # noqa: B027 - most have nothing to forget
        """The connection is gone; `hung_up`: it was the broker who ended it, and did not say why."""

    def bounds(self, window: int, packet_bytes: int) -> tuple[int, int]:
        """Of what the broker takes: how many records may be under way, and how large one may be."""
        return window, packet_bytes

    def acknowledged(self, identifier: int, code: int) -> None:
        """The broker answered a publish of the connection."""
        self._sender.acknowledged(identifier, code)

    def answers(self) -> int | None:
        """See `Sender.answers`: what a broker that has gone dumb does not give."""
        return self._sender.answers

    @abstractmethod
    def payload(self, route: Route, body: bytes, late: bool) -> bytes:
        """What is published of a record; `late`: it was taken before this connection was made.

        Raises ValueError or IndexError for a body that is no record.
        """

    @abstractmethod
    def message(self, topic: str, payload: bytes, retained: bool, correlation: bytes | None) -> None:
        """Take a message as it came; never waits."""

    def answer(self, device: str, topic: str, body: Mapping[str, Any]) -> bool:
        """Whether somebody waits for this event, and was told; else it is kept and published."""
        return False

    # -- of devices

    def declare(self, device: str, declaration: Declaration) -> None:  # noqa: B027
        """See `Sink.declare`."""

    @abstractmethod
    def retain(self, device: str, topic: str, payload: bytes) -> None:
        """See `Sink.retain`; b"" removes."""

    @abstractmethod
    def release(self, device: str) -> None:
        """See `Sink.release`."""

    def forget_absent(self, exists: Callable[[str], bool]) -> None:  # noqa: B027
        """See `Sink.forget_absent`."""

    # -- again and again, and at the end

    def tend(self) -> None:  # noqa: B027
        """Do what waits for its time; called about ten times a second while connected."""

    async def save(self, disk: Executor) -> None:  # noqa: B027
        """Write down what the next process has to know; called about once a second."""

    @abstractmethod
    async def leave(self, patience_s: float) -> None:
        """Say that we are gone; all else was sent, or stays."""

    @abstractmethod
    def close(self, connection: Connection) -> None:
        """Hang up for good."""
