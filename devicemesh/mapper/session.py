"""What a session can do: each of these base classes is a capability, and none has to be there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any, Generic

from devicemesh.mapper.address import A, E
from devicemesh.mapper.data import (
    Batch,
    Gap,
    Invocation,
    Notification,
    Notifier,
    Outcome,
    Point,
    Reader,
    Trace,
    Write,
)


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
