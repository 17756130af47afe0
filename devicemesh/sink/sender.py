"""From the outbox to the connection: what is under way, what comes next, what is retained."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from devicemesh.aggregate import Record
from devicemesh.sink.entry import Entry, Link, Write, packet_bytes, policy_of, suspect
from devicemesh.sink.outbox import Appended, Chunk, Outbox
from devicemesh.sink.payload import dumps
from devicemesh.sink.refusals import Refusals
from devicemesh.sink.retained import Name, Retained
from devicemesh.sink.routes import Describe, Route, Routes
from devicemesh.sink.segment import Item
from devicemesh.sink.suspects import FINAL, TOO_LARGE, Suspect, Suspects
from devicemesh.sink.topics import Addresses

log = logging.getLogger("devicemesh.sink")

READY_BYTES = 4 << 20  # of records kept in memory beside those under way
BURST = 100  # messages handed over at once: the event loop has others to serve
SETTLED_RANGES = 20_000  # that a topic which the broker refuses may leave behind
_BEYOND_BYTES = 1 << 20  # in which another record of a topic is looked for


class Sender:
    """Owned by the event loop. `link` is None while there is no connection."""

    def __init__(
        self, outbox: Outbox, topics: Addresses, write: Write, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.link: Link | None = None
        self.messages = 0  # accepted by the broker
        self.waiting: Callable[[], int] = lambda: outbox.waiting  # messages that are not yet
        self.refusals = Refusals()
        self.on_more: Callable[[], None] = lambda: None  # there is more to pump: call again soon
        self._outbox, self._topics, self._write, self._clock = outbox, topics, write, clock
        self._routes = Routes(topics)
        self.retained = Retained(clock())
        self._suspects = Suspects()
        self._full_window, self._max_packet_bytes = 1, 1 << 28
        self._accepted = True  # a record, since the connection was made
        self._careful = False  # it is not yet, nor was one on the connection before
        self._ready: deque[Entry] = deque()  # consecutive records, the next to be sent first
        self._ready_bytes = self._ready_end = 0  # the position that `_ready` goes on with
        self._late_until = 0  # records before this position were taken before the connection was made
        self._blind = False  # the outbox could not be read
        self._under_way: dict[int, Entry | Name] = {}  # by identifier; a Name is of a retained message
        self._records_under_way = 0

    # -- what comes in

    def publish(self, records: Sequence[Record], describe: Describe) -> None:
        """Append records in one write, and send them from memory if nothing older waits."""
        routes = [self._routes.stream(record.stream, describe) for record in records]
        batch = [(route.key, r.samples, r.body) for route, r in zip(routes, records, strict=True)]
        self._take(self._outbox.append(batch, self._routes.contexts), batch, routes)

    def event(self, context: Sequence[str], body: bytes) -> None:
        """Append one payload; see `Contexts` for its context. Raises ValueError where that makes no topic."""
        key, packed, route = self._routes.event(context)
        batch = [(key, 0, body)]
        self._take(self._outbox.append(batch, {key: packed}), batch, [route])

    def retain(self, name: Name, payload: bytes) -> None:
        """Keep a retained message at this value, b"" to remove it; only the newest is ever sent."""
        if self.retained.put(name, payload):
            self.pump()

    def told(self, name: Name) -> bool:
        """Whether the broker has the newest value of a retained message."""
        return not self.retained.is_unsent(name) and name not in self._under_way.values()

    def release(self, name: Name) -> None:
        """Know nothing of a retained message any more: others keep it."""
        self.retained.release(name)

    def _take(self, at: Appended, batch: Sequence[tuple[int, int, bytes]], routes: Sequence[Route]) -> None:
        take = self.link is not None and self._ready_end == at.position and self._ready_bytes < READY_BYTES
        position, sample = at.position, at.sample
        for (_, samples, body), route in zip(batch, routes, strict=True):
            stored = position < at.position + at.stored
            if take:
                self._ready.append(Entry(position, sample, samples, route, body, stored))
                self._ready_bytes += len(body)
            elif not stored:
                self._outbox.drop(position, sample, samples, "disk_full")
            position, sample = position + 1, sample + samples
        if take:
            self._ready_end = position
        self.pump()

    # -- what goes out

    def connected(self, link: Link, window: int, max_packet_bytes: int) -> None:
        """Begin to send: what is not acknowledged goes first, in order.

        After a connection on which nothing was accepted, one by one until something is: brokers that hang up
        on a publish are only understood when nothing else is under way. See `Suspects`, too.
        """
        self.link, self._full_window, self._max_packet_bytes = link, window, max_packet_bytes
        self._careful, self._accepted = not self._accepted, False
        self._ready_end, self._late_until = self._outbox.acked, self._outbox.next
        self.retained.again(self._suspects.first)
        self.refusals.reconnected()
        self.pump()

    def disconnected(self, *, hung_up: bool = False) -> bool:
        """Forget what was under way: the outbox has it, but for what the disk did not take.

        `hung_up`: it was the broker who ended it, and did not say why. Returns whether it was to be expected.
        """
        self.link = None
        self._suspects.disconnected()
        expected = hung_up and self._blame()
        if not hung_up:
            self._suspects.clear()
        under_way = [each for each in self._under_way.values() if isinstance(each, Entry)]
        for entry in (*under_way, *self._ready):
            if not entry.stored:
                self._outbox.drop(entry.position, entry.sample, entry.samples, "disk_full")
        self._under_way.clear()
        self._records_under_way = 0
        self._clear_ready()
        return expected

    def _blame(self) -> bool:
        """Find out on what the broker hangs up, and let it wait; whether it was tried in spite of that."""
        now, under_way = self._clock(), list(self._under_way.values())
        if self.refusals.probe_hung_up(now):
            self._drop_guilty(now)
            return True
        guilty = self._suspects.hung_up([suspect(each) for each in under_way])
        if guilty is None:
            return False
        if isinstance(guilty, tuple):
            topic = self._topics.retained(*guilty)
            self.retained.defer(guilty, now)
        else:
            entry = under_way[0]
            assert isinstance(entry, Entry)
            topic = entry.route.topic
            self.refusals.hung_up(topic, guilty, now)
        log.warning("the broker hangs up on what is sent to %s: it waits", topic)
        return False

    @property
    def idle(self) -> bool:
        """Whether all that was taken is accepted."""
        return not self._under_way and not self.retained.unsent and self._outbox.waiting == 0

    @property
    def answers(self) -> int | None:
        """Publishes that the broker answered; None while it owes no answer."""
        return self.messages + self.refusals.count if self._under_way else None

    def acknowledged(self, identifier: int, code: int) -> None:
        """The broker answered a publish; a code from 0x80 on is a refusal (MQTT 5, 3.4.2.1)."""
        entry = self._under_way.pop(identifier, None)
        if entry is None:
            return
        now = self._clock()
        self._suspects.answered(identifier, suspect(entry), code, now)
        if not isinstance(entry, Entry):
            self._retained_acknowledged(entry, code)
            return
        self._records_under_way -= 1
        if code < 0x80:
            self.messages += 1
            self._accepted, self._careful = True, False
            self._outbox.ack(entry.position, entry.sample, entry.samples)
            self.refusals.accepted(entry.route.topic, entry.position, now)
        elif code in FINAL:
            self._outbox.drop(entry.position, entry.sample, entry.samples, FINAL[code])
        elif entry.stored:
            self.refusals.refused(entry.route.topic, entry.position, code, now)
        else:
            self._outbox.drop(entry.position, entry.sample, entry.samples, "disk_full")

    def _retained_acknowledged(self, name: Name, code: int) -> None:
        if code < 0x80:
            self.messages += 1
            self.retained.accepted(name)
        else:
            self.refusals.count += 1  # tried again with its next value, or on the next connection
            if code == TOO_LARGE:
                self.retained.defer(name, self._clock())

    def pump(self) -> None:
        """Hand over what the window has room for, a burst at most."""
        link, first = self.link, self._suspects.first
        if link is None:
            return
        if first is not None and self._is_done(first):
            self._suspects.clear()
        if not isinstance(self._suspects.first, int):
            self._pump_retained(link)
        if self._clock() < self.refusals.paused_until or not self._rewound():
            return
        self._pump_records(link)
        if self.refusals.blocked and (self._accepted or not self._under_way):
            self._probe(link)

    def _is_done(self, first: Suspect) -> bool:
        return self._outbox.is_settled(first) if isinstance(first, int) else self.told(first)

    @property
    def _window(self) -> int:
        """How many may be under way: one while caution is due."""
        return 1 if self._careful or self._suspects.first is not None else self._full_window

    def _pump_records(self, link: Link) -> None:
        for _ in range(BURST):
            if len(self._under_way) >= self._window or link.congested:
                return
            entry = self._next()
            if entry is None:
                return
            if not self._send(link, entry):
                self._ready.appendleft(entry)
                self._ready_bytes += len(entry.body)
                return
        self.on_more()

    def _next(self) -> Entry | None:
        """The next record to send: from memory, else from the outbox."""
        outbox = self._outbox
        while True:
            if not self._ready and not self._refill():
                return None
            entry = self._ready.popleft()
            self._ready_bytes -= len(entry.body)
            if outbox.is_settled(entry.position):
                continue
            if self.refusals.blocked and self.refusals.is_blocked(entry.route.topic):
                self._pass_over(entry)
                continue
            return entry

    def _pass_over(self, entry: Entry) -> None:
        if entry.stored:
            self.refusals.skipped(entry.route.topic, entry.position)
        else:
            self._outbox.drop(entry.position, entry.sample, entry.samples, "disk_full")

    def _refill(self) -> bool:
        while self._ready_end < self._outbox.next:
            chunk = self._read(self._ready_end)
            if chunk is None:
                return False
            self._ready_end = chunk.end
            for item in chunk.items:
                route = self._routes.read(item.context)
                if route is None:
                    self._outbox.drop(item.position, item.sample, item.samples, "corrupt")
                    continue
                self._ready.append(Entry(item.position, item.sample, item.samples, route, item.body, True))
                self._ready_bytes += len(item.body)
            if self._ready:
                return True
        return False

    def _read(self, position: int, max_bytes: int = 1 << 18) -> Chunk | None:
        """What the outbox has; None while it can't be read, as without a free descriptor."""
        try:
            chunk = self._outbox.read(position, max_bytes)
        except OSError as error:
            if not self._blind:
                log.warning("the outbox can't be read now: %s", error)
            self._blind = True
            return None
        self._blind = False
        return chunk

    def _send(self, link: Link, entry: Entry) -> bool:
        """Hand over one record; False when the connection can't take it now."""
        topic = entry.route.topic
        try:
            payload = self._payload(entry)
        except (ValueError, IndexError) as error:
            log.error("a record of %s can't be encoded: %s", topic, error)
            self._outbox.drop(entry.position, entry.sample, entry.samples, policy_of(error))
            return True
        if self._too_large(topic, payload):
            log.warning("%s: %d bytes are more than the broker takes: dropped", topic, len(payload))
            self._outbox.drop(entry.position, entry.sample, entry.samples, "too_large")
            return True
        identifier = link.publish(topic, payload, retain=False)
        if identifier is None:
            return False
        self._suspects.sent(identifier, packet_bytes(topic, payload))
        self._under_way[identifier] = entry
        self._records_under_way += 1
        return True

    def _payload(self, entry: Entry) -> bytes:
        return self._write(entry.route, entry.body, entry.position < self._late_until)

    def _too_large(self, topic: str, payload: bytes) -> bool:
        size = packet_bytes(topic, payload)
        return size > self._max_packet_bytes or self._suspects.too_large(size, self._clock())

    def _pump_retained(self, link: Link) -> None:
        now = self._clock()
        window = self._full_window if self._suspects.first is None else 1
        while len(self._under_way) < window and not link.congested:
            due = self.retained.next(now)
            if due is None:
                return
            name, payload = due
            topic = self._topics.retained(*name)
            if self._too_large(topic, payload):
                log.warning("%s: %d bytes are more than the broker takes", topic, len(payload))
                self.refusals.count += 1
                self.retained.given_up(name)
                continue
            identifier = link.publish(topic, payload, retain=True)
            if identifier is None:
                return
            self.retained.sent(name)
            self._suspects.sent(identifier, packet_bytes(topic, payload))
            self._under_way[identifier] = name

    # -- refusals

    def _rewound(self) -> bool:
        """Go back to what was refused once nothing is under way; False while something still is."""
        position = self.refusals.rewind_to
        if position is None:
            return True
        if self._records_under_way:
            return False
        self.refusals.rewind_to = None
        for entry in self._ready:
            if not entry.stored:
                self._outbox.drop(entry.position, entry.sample, entry.samples, "disk_full")
        self._clear_ready()
        self._ready_end = min(self._ready_end, position)
        return True

    def _probe(self, link: Link) -> None:
        """Send the first record of a blocked topic again, when its time has come."""
        due = self.refusals.due(self._clock())
        if due is None or len(self._under_way) >= self._window:
            return
        topic, position, beyond = due
        if (chunk := self._read(position, 1)) is None:
            return
        first = self._of_topic(topic, chunk.items[:1])
        if first is None:  # it was dropped meanwhile
            self.refusals.forget(topic)
            return
        if beyond and (later := self._read(position + 1, _BEYOND_BYTES)) is not None:
            first = self._of_topic(topic, later.items) or first
        before = self._records_under_way
        if self._send(link, first) and self._records_under_way > before:  # else it was dropped
            self.refusals.probing(topic, first.position)

    def _of_topic(self, topic: str, items: Sequence[Item]) -> Entry | None:
        """The first of these that goes there."""
        for item in items:
            route = self._routes.read(item.context)
            if route is not None and route.topic == topic:
                return Entry(item.position, item.sample, item.samples, route, item.body, True)
        return None

    def _drop_guilty(self, now: float) -> None:
        """Drop the records that the broker hangs up on though it takes others of their topic."""
        for topic, position in self.refusals.guilty:
            chunk = self._read(position, 1)
            if chunk is None:
                continue
            self.refusals.forget(topic)
            first = self._of_topic(topic, chunk.items[:1])
            if first is None or first.position != position:
                continue  # it was dropped meanwhile
            payload = self._payload(first)
            log.warning("%s: the broker hangs up on these %d bytes: dropped", topic, len(payload))
            self._suspects.not_taken(packet_bytes(topic, payload), now)
            self._outbox.drop(first.position, first.sample, first.samples, "refused")

    def bound_refused(self) -> None:
        """Drop the oldest records of refused topics where they leave too many holes behind."""
        while self.refusals.blocked and self._outbox.ranges > SETTLED_RANGES:
            chunk = self._read(self._outbox.acked, 1)
            if chunk is None or not chunk.items:
                return
            first = chunk.items[0]
            self._outbox.drop(first.position, first.sample, first.samples, "refused")

    def _clear_ready(self) -> None:
        self._ready.clear()
        self._ready_bytes = 0

    def gap(self, dropped: Mapping[str, int], epoch: int, now_ns: int) -> None:
        """Tell consumers what they will never see: samples dropped since the start, by policy."""
        self.event(["G"], dumps({"epoch": epoch, "dropped": dict(dropped), "time": now_ns}))
