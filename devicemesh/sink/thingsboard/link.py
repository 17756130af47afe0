"""Records into messages: those of a device together, no larger and no faster than ThingsBoard takes them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from devicemesh.sink.connection import Connection
from devicemesh.sink.suspects import NEVER
from devicemesh.sink.thingsboard import entries
from devicemesh.sink.thingsboard.entries import Bounds, Entry
from devicemesh.sink.thingsboard.limits import Limits
from devicemesh.sink.thingsboard.topics import CONNECT, OWN, OWN_TELEMETRY, RPC, TELEMETRY, name_of

log = logging.getLogger("devicemesh.sink")

RECORDS = 5000
"""Under way at once: what a device has among them goes together."""
HELD_BYTES = 4 << 20
REPLIES = 256
"""Answers to calls that may wait; who calls faster than ThingsBoard takes answers gets none."""
UNANSWERED_S = 30.0
"""Older servers answer nothing to a device that they do not take, and go on with the others."""
FIRST_INFLIGHT = 8
"""Messages under way when a session begins; with each answer one more."""
OVERHEAD = 512
"""Bytes of a message beside its entries: a name takes up to 6 a character."""
REFUSED, QUOTA, INVALID = 0x80, 0x97, 0x99
WAITS = 0x87
"""Given to the sender where a device is refused: its records wait, and no others."""


class Message(NamedTuple):
    """What is said beside telemetry, once."""

    topic: str
    payload: bytes
    sent: Callable[[], None] = lambda: None
    """Called when it is on its way."""
    answered: Callable[[int], None] = lambda code: None
    """Called with the code of the answer."""
    values: int = 0
    """Of attributes and telemetry; 0: it has none."""

    @property
    def own(self) -> bool:
        """Whether it is of the gateway itself."""
        return self.topic.startswith(OWN)


class Speaker(Protocol):
    """Who knows the devices."""

    def before(self, name: str) -> Message | None:
        """What has to be said before telemetry of a device: that it is connected."""
        ...

    def news(self, bounds: Bounds) -> Message | None:
        """What is to be said when there is room, and no more of it."""
        ...

    def spoken(self, name: str) -> None:
        """Telemetry of a device has gone out."""
        ...

    def overrun(self) -> None:
        """More was sent than may be: the server ends the session, or is about to."""
        ...

    def refused(self, name: str, code: int) -> int:
        """Telemetry of a device was answered by this code; returns what it is for the sender."""
        ...


class _Record:
    """One of the sender's, as its entries; `alone` in a message where it was refused with others."""

    __slots__ = ("alone", "entries", "identifier", "owed")

    def __init__(self, identifier: int, found: list[Entry]) -> None:
        self.identifier, self.entries = identifier, deque(found)
        self.owed = 0  # messages that carry parts of it
        self.alone = False


@dataclass(slots=True)
class _Sent:
    """Under way."""

    since_s: float
    name: str | None = None
    parts: list[tuple[_Record, list[Entry]]] = field(default_factory=list)
    message: Message | None = None


class GatewayLink:
    """One session; a `devicemesh.sink.entry.Link`.

    A message never carries two devices: servers before 4.1 acknowledge it when they have taken the first.
    """

    def __init__(
        self,
        connection: Connection,
        acknowledged: Callable[[int, int], None],
        speaker: Speaker,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self.answered = self.values = 0  # messages; values that were sent
        self._answered_s = 0.0
        self._connection, self._acknowledged, self._speaker, self._clock = (
            connection, acknowledged, speaker, clock,
        )  # fmt: skip
        self._loop = asyncio.get_running_loop()
        self._identifier = 0
        self._room = FIRST_INFLIGHT  # messages that may be under way
        self._said: deque[Message] = deque()  # goes before everything else
        self._replies: deque[Message] = deque()  # go next; where there is no room for them, others do
        self._lines: dict[str | None, deque[_Record]] = {}  # by device, whose turn it is first
        self._sent: dict[int, _Sent] = {}
        self._held = self._held_bytes = 0  # records that wait here
        self._flushing = False
        self._news_next = False  # whose turn it is: attributes or telemetry

    @property
    def congested(self) -> bool:
        """See `Link`."""
        return self._held >= RECORDS or self._held_bytes >= HELD_BYTES or self._connection.congested

    @property
    def owed(self) -> int:
        """Answers that the server owes."""
        return len(self._sent)

    @property
    def payload_bytes(self) -> int:
        """Of the entries of a message."""
        theirs = min(self.limits.payload_bytes, self._connection.max_packet_bytes)
        return max(1024, theirs - OVERHEAD)

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> int | None:
        """See `Link`; `payload` is as `entries.packed` has it. What is empty counts as said."""
        if self._connection.closed.done():
            return None
        self._identifier += 1
        record = _Record(self._identifier, entries.unpacked(payload))
        self._lines.setdefault(name_of(topic), deque()).append(record)
        self._held, self._held_bytes = self._held + 1, self._held_bytes + len(payload)
        self.flush_soon()
        return record.identifier

    def say(self, message: Message) -> None:
        """Before all telemetry that waits."""
        if message.topic != RPC:
            self._said.append(message)
        elif len(self._replies) < REPLIES:
            self._replies.append(message)
        self.flush_soon()

    def flush_soon(self) -> None:
        """When all that is known now is handed over."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    # -- out

    def _flush(self) -> None:
        """As much as may go now."""
        self._flushing = False
        while not self._connection.closed.done() and not self._connection.congested:
            if len(self._sent) >= min(self._room, self.limits.inflight):
                return
            if self._said:
                if not self._send(self._said[0]):
                    return
                self._said.popleft()
            elif not (self._reply() or self._turn()):
                return

    def _reply(self) -> bool:
        if not self._replies or not self._send(self._replies[0]):
            return False
        self._replies.popleft()
        return True

    def _turn(self) -> bool:
        """News and telemetry by turns; False when neither may go."""
        self._news_next = not self._news_next
        turns = (self._tell_news, self._tell_line) if self._news_next else (self._tell_line, self._tell_news)
        return turns[0]() or turns[1]()

    def _tell_news(self) -> bool:
        if not self.limits.may(1, self._clock()):
            return False
        message = self._speaker.news(Bounds(self.payload_bytes, self.limits.message_values))
        return message is not None and self._send(message)

    def _tell_line(self) -> bool:
        for name in list(self._lines):
            line = self._lines[name]
            while line and not line[0].entries and not line[0].owed:  # it has nothing to say
                self._done(self._let_go(line))
            if not line:
                del self._lines[name]
                continue
            if self._tell(name, line):
                return True
            if name is not None:  # what may not go of one device may not of another
                return False
        return False

    def _tell(self, name: str | None, line: deque[_Record]) -> bool:
        """A message of one device, after what comes before it; its turn comes again after the others'."""
        if name is not None and (first := self._speaker.before(name)) is not None:
            return self._send(first)
        pace, now_s = self.limits if name is not None else self.limits.own, self._clock()
        parts = _parts(line, self.payload_bytes, self.limits.message_values)
        count = sum(one.values for _, found in parts for one in found)
        if not pace.may(count, now_s):
            return False
        body = entries.telemetry(name, [one for _, found in parts for one in found])
        topic = TELEMETRY if name is not None else OWN_TELEMETRY
        identifier = self._connection.publish(topic, body, retain=False)
        if identifier is None:
            return False
        pace.went(count)
        self.values += count
        self._sent[identifier] = _Sent(now_s, name, parts)
        self._took(name, parts)
        return True

    def _took(self, name: str | None, parts: list[tuple[_Record, list[Entry]]]) -> None:
        line = self._lines.pop(name)
        for record, found in parts:
            record.owed += 1
            for _ in found:
                record.entries.popleft()
            if not record.entries:
                self._let_go(line)
        if line:
            self._lines[name] = line  # behind the others
        if name is not None:
            self._speaker.spoken(name)

    def _let_go(self, line: deque[_Record]) -> _Record:
        """The first record of a line does not wait any more."""
        record = line.popleft()
        self._held -= 1
        if not self._held:
            self._held_bytes = 0
        return record

    def _send(self, message: Message) -> bool:
        pace, now_s = self.limits.own if message.own else self.limits, self._clock()
        if not pace.may(message.values, now_s):
            return False
        identifier = self._connection.publish(message.topic, message.payload, retain=False)
        if identifier is None:
            return False
        pace.went(message.values)
        self.values += message.values
        self._sent[identifier] = _Sent(now_s, message=message)
        message.sent()
        return True

    # -- what the server says to it

    def acknowledged(self, identifier: int, code: int) -> None:
        """It answered a message."""
        sent = self._sent.pop(identifier, None)
        if sent is None:
            return
        self.answered, self._answered_s = self.answered + 1, self._clock()
        self._room += 1
        if sent.message is None:
            self._answer(sent, code)
        else:
            if code == QUOTA and sent.message.topic != CONNECT:
                self._speaker.overrun()
            sent.message.answered(code)
        self.flush_soon()

    def _answer(self, sent: _Sent, code: int) -> None:
        if code < REFUSED:
            for record, _ in sent.parts:
                record.owed -= 1
                if not record.owed and not record.entries:
                    self._done(record)
        elif code == INVALID and len(sent.parts) > 1:
            self._one_by_one(sent)
        else:
            if sent.name is not None:
                code = self._speaker.refused(sent.name, code)
            for record, _ in sent.parts:
                self._failed(sent.name, record, NEVER if code == INVALID else code)

    def _done(self, record: _Record) -> None:
        self._acknowledged(record.identifier, 0)

    def _failed(self, name: str | None, record: _Record, code: int) -> None:
        """The sender will see to it; what waits of the record is not said."""
        if code == NEVER:
            log.warning("%s: ThingsBoard can't read this telemetry: dropped", name or "the gateway")
        line = self._lines.get(name)
        if line and record in line:
            line.remove(record)
            self._held -= 1
        record.entries.clear()
        self._acknowledged(record.identifier, code)

    def _one_by_one(self, sent: _Sent) -> None:
        """One of these records can't be read: each goes alone, before the others of its device."""
        line = self._lines.setdefault(sent.name, deque())
        for record, found in reversed(sent.parts):
            record.owed -= 1
            if record not in line:
                line.appendleft(record)
                self._held += 1
            record.entries.extendleft(reversed(found))
            record.alone = True

    # -- again and again

    def tend(self) -> None:
        """What may go by now; and whoever is answered nothing waits, while others are answered."""
        now_s = self._clock()
        for identifier, sent in list(self._sent.items()):
            if now_s - sent.since_s < UNANSWERED_S or self._answered_s <= sent.since_s:
                break
            del self._sent[identifier]
            if sent.message is not None:
                sent.message.answered(WAITS)
            else:
                self._answer(sent, WAITS)
        self.flush_soon()


def _parts(line: deque[_Record], most_bytes: int, most_values: int) -> list[tuple[_Record, list[Entry]]]:
    """What of the records goes into one message: one entry at least, whole records as far as they fit."""
    parts: list[tuple[_Record, list[Entry]]] = []
    size = values = 0
    for record in line:
        if parts and (record.alone or parts[0][0].alone):
            break
        taken: list[Entry] = []
        for entry in record.entries:
            size, values = size + len(entry.body) + 1, values + entry.values
            if (parts or taken) and (size > most_bytes or values > most_values):
                break
            taken.append(entry)
        if not taken and record.entries:
            break
        parts.append((record, taken))
        if len(taken) < len(record.entries):
            break
    return parts
