"""Publishes of QoS 0 in sequence, acknowledged all the same: by the broker's answer to a ping after them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from devicemesh.sink.connection import Connection
from devicemesh.sink.sparkplug.wire import sequenced


class SequencedLink:
    """One session of an Edge Node; a `devicemesh.sink.entry.Link`.

    Sparkplug demands QoS 0 for data (section 6.4.20), which no broker acknowledges. But a broker takes the
    packets of a connection in order: when it answers a ping, it has all that was sent before. One ping is
    under way at a time, so that each answer settles what was published while it was awaited.
    """

    def __init__(
        self,
        connection: Connection,
        acknowledged: Callable[[int, int], None],
        before_data: Callable[[str], None],
    ) -> None:
        """`before_data` is called with the topic of what is about to be published."""
        self._connection, self._acknowledged, self._before_data = connection, acknowledged, before_data
        self._loop = asyncio.get_running_loop()
        self._seq = 0
        self._identifier = 0
        self._owed: deque[int] = deque()  # published, not acknowledged
        self._pinging = self._ping_due = self._settling = False
        self.holds = False  # births are due, which come before all data (payloads-dbirth-order)

    @property
    def congested(self) -> bool:
        """See `Link`."""
        return self.holds or self._connection.congested

    @property
    def behind(self) -> bool:
        """Whether even births have to wait."""
        return self._connection.congested

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> int | None:
        """See `Link`. What is empty has nothing to say any more; it counts as said."""
        if self._connection.closed.done():
            return None
        if payload:
            self._before_data(topic)
            self.send(topic, payload)
        self._identifier += 1
        self._owed.append(self._identifier)
        if not self._ping_due and not self._pinging:
            self._ping_due = True
            self._loop.call_soon(self._ping)
        return self._identifier

    def send(self, topic: str, payload: bytes) -> None:
        """Publish with the next sequence number; nobody waits for it to arrive."""
        self._connection.publish_once(topic, sequenced(payload, self._seq))
        self._seq = (self._seq + 1) % 256

    def begin(self, topic: str, payload: bytes) -> None:
        """Publish a birth certificate of the node: the sequence starts with it."""
        self._seq = 0
        self.send(topic, payload)

    def settle(self, arrived: Callable[[], None]) -> None:
        """Have `arrived` called when the broker has what was sent so far; one such call waits at a time."""
        if not self._settling and not self._connection.closed.done():
            self._settling = True
            self._connection.ping(lambda: self._settled(arrived))

    def _settled(self, arrived: Callable[[], None]) -> None:
        self._settling = False
        arrived()

    def _ping(self) -> None:
        self._ping_due = False
        if self._owed and not self._connection.closed.done():
            self._pinging = True
            last = self._owed[-1]
            self._connection.ping(lambda: self._answered(last))

    def _answered(self, last: int) -> None:
        self._pinging = False
        while self._owed and self._owed[0] <= last:
            self._acknowledged(self._owed.popleft(), 0)
        self._ping()
