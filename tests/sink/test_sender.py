"""What is sent when: the sender on a connection that does as it is told, in virtual time."""

from __future__ import annotations

import errno
import json
import random
from collections.abc import Sequence
from typing import Any

import pytest

from devicemesh.aggregate import Record
from devicemesh.settings import MqttSettings
from devicemesh.sink.outbox import Outbox
from devicemesh.sink.routes import Route
from devicemesh.sink.sender import BURST, READY_BYTES, SETTLED_RANGES, Sender
from devicemesh.sink.suspects import TOO_LARGE
from devicemesh.sink.topics import Topics
from devicemesh.testing.disk import SimulatedDisk

STATE = ("default/pump-0", "status")


class Link:
    """A connection: keeps what it is given, acknowledges when told."""

    def __init__(self, sender: Sender) -> None:
        self.congested = False
        self.full = False
        self.sent: list[tuple[int, str, bytes, bool]] = []
        self._sender, self._next = sender, 100

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> int | None:
        if self.full:
            return None
        self._next += 1
        self.sent.append((self._next, topic, payload, retain))
        return self._next

    def acknowledge(self, count: int = 1 << 30, code: int = 0) -> None:
        taken, self.sent = self.sent[:count], self.sent[count:]
        for identifier, *_ in taken:
            self._sender.acknowledged(identifier, code)
        self._sender.pump()

    @property
    def bodies(self) -> list[int]:
        return [int(payload) for _, topic, payload, _ in self.sent if topic.endswith("telemetry")]


class Bench:
    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.disk = SimulatedDisk(random.Random(0))
        self.open()
        self.count = 0

    def open(self) -> None:
        self.outbox = Outbox(self.disk, clock=self.clock, segment_bytes=1 << 16)
        self.sender = Sender(self.outbox, Topics(MqttSettings(), "x"), self.write, self.clock.boottime)
        self.link = Link(self.sender)

    @staticmethod
    def write(route: Route, body: bytes, late: bool) -> bytes:
        if body == b"bad":
            raise ValueError("no record")
        return body.strip()

    def connect(self, window: int = 10, max_packet_bytes: int = 1 << 20) -> Link:
        self.link = Link(self.sender)
        self.sender.connected(self.link, window, max_packet_bytes)
        return self.link

    def put(self, count: int, stream: int = 0, size: int = 0) -> None:
        for _ in range(count):
            body = b"%d" % self.count + b" " * size
            self.count += 1
            self.sender.publish(
                [Record(stream, 0, 1, body)], lambda stream: (f"default/pump-{stream}", ["speed"])
            )

    def conserved(self) -> None:
        stats = self.outbox.stats()
        assert stats.taken == stats.published + sum(stats.dropped.values()) + stats.spooled


@pytest.fixture
def bench(clock: Any) -> Bench:
    return Bench(clock)


def test_the_window_is_kept_and_filled(bench: Bench) -> None:
    link = bench.connect(window=3)
    bench.put(10)
    assert link.bodies == [0, 1, 2]
    link.acknowledge(2)
    assert link.bodies == [2, 3, 4]
    while link.sent:
        link.acknowledge()
    assert bench.sender.idle
    assert bench.outbox.stats().published == 10


def test_unacknowledged_records_come_again_in_order(bench: Bench) -> None:
    link = bench.connect(window=5)
    bench.put(8)
    link.acknowledge(1)
    bench.sender.acknowledged(link.sent[1][0], 0)  # out of order
    bench.sender.disconnected()
    bench.put(2)
    assert bench.connect(window=20).bodies == [1, 3, 4, 5, 6, 7, 8, 9]
    bench.conserved()


def test_after_a_connection_without_success_one_by_one(bench: Bench) -> None:
    bench.connect()
    bench.put(5)
    bench.sender.disconnected()
    link = bench.connect()
    assert link.bodies == [0]
    link.acknowledge()
    assert link.bodies == [1, 2, 3, 4]


def test_a_backlog_comes_before_what_is_new(bench: Bench) -> None:
    bench.put(300, size=20_000)
    link = bench.connect(window=50)
    bench.put(5)
    seen: list[int] = []
    while link.sent:
        seen += link.bodies
        assert bench.sender._ready_bytes <= READY_BYTES + (1 << 19)
        link.acknowledge()
    assert seen == list(range(305))


def test_memory_is_bounded_while_the_window_is_full(bench: Bench) -> None:
    link = bench.connect(window=1)
    bench.put(400, size=20_000)
    assert bench.sender._ready_bytes <= READY_BYTES + 20_000
    seen: list[int] = []
    while link.sent:
        seen += link.bodies
        link.acknowledge()
    assert seen == list(range(400))


def test_a_burst_leaves_room_for_others(bench: Bench) -> None:
    more: list[int] = []
    bench.sender.on_more = lambda: more.append(1)
    bench.put(3 * BURST)
    link = bench.connect(window=1000)
    assert len(link.sent) == BURST
    assert more
    bench.sender.pump()
    assert len(link.sent) == 2 * BURST


def test_congestion_is_waited_for(bench: Bench) -> None:
    link = bench.connect()
    link.congested = True
    bench.put(3)
    bench.sender.retain(STATE, b"1")
    assert link.sent == []
    link.congested, link.full = False, True
    bench.sender.pump()
    assert link.sent == []
    link.full = False
    bench.sender.pump()
    assert link.bodies == [0, 1, 2]


def test_what_the_disk_does_not_take_goes_straight_out(bench: Bench) -> None:
    link = bench.connect(window=5)
    bench.put(1)
    bench.disk.capacity = 0
    bench.put(3)
    assert link.bodies == [0, 1, 2, 3]
    link.acknowledge()
    assert bench.outbox.stats().published == 4
    bench.put(3)
    bench.sender.disconnected()  # nobody has them now
    assert bench.outbox.stats().dropped["disk_full"] == 3
    bench.put(2)
    assert bench.outbox.stats().dropped["disk_full"] == 5
    bench.disk.capacity = 1 << 30
    bench.clock.boot += 2
    bench.put(1)
    link = bench.connect()
    link.acknowledge()
    assert bench.sender.idle
    bench.conserved()


def test_records_that_can_not_be_encoded_or_are_too_large_block_nothing(bench: Bench) -> None:
    link = bench.connect(max_packet_bytes=200)
    bench.put(1)
    bench.sender.publish([Record(0, 0, 7, b"bad")], lambda stream: ("default/pump-0", []))
    bench.sender.publish([Record(0, 0, 5, b"9" * 300)], lambda stream: ("default/pump-0", []))
    bench.put(1)
    assert link.bodies == [0, 1]
    dropped = bench.outbox.stats().dropped
    assert (dropped["corrupt"], dropped["too_large"]) == (7, 5)
    bench.conserved()


def test_a_record_whose_context_makes_no_sense_is_dropped(bench: Bench) -> None:
    for context in (b"no json", b"[]", b'["T","../etc"]', b'["E","a/b"]', b"\xff"):
        bench.outbox.append([(1, 2, b"x")], {1: context})
        bench.open()
        link = bench.connect()
        assert link.sent == []
        assert bench.outbox.stats().recovered.dropped["corrupt"] == 2
        bench.sender.disconnected()
        bench.disk = SimulatedDisk(random.Random(0))
        bench.open()


def test_new_properties_are_new_names(bench: Bench) -> None:
    names = ["a"]
    seen: list[list[str]] = []

    def write(route: Route, body: bytes, late: bool) -> bytes:
        seen.append(list(route.names or ()))
        return body

    def describe(stream: int) -> tuple[str, Sequence[str]]:
        return "default/pump-0", names

    bench.sender._write = write
    bench.sender.publish([Record(0, 0, 1, b"1")], describe)
    names.append("b")
    bench.sender.publish([Record(0, 1, 1, b"2")], describe)
    bench.connect()
    assert seen == [["a"], ["a", "b"]]
    assert [json.loads(item.context) for item in bench.outbox.read(0).items] == [
        ["T", "default/pump-0", "a"],
        ["T", "default/pump-0", "a", "b"],
    ]


# -- retained state


def test_only_the_newest_state_is_sent(bench: Bench) -> None:
    for value in range(5):
        bench.sender.retain(STATE, b"%d" % value)
    bench.clock.boot += 1
    link = bench.connect()
    topic = "devicemesh/v1/default/pump-0/status"
    assert [sent[1:] for sent in link.sent] == [(topic, b"4", True)]
    bench.sender.retain(STATE, b"4")
    assert len(link.sent) == 1, "no news"
    bench.sender.retain(STATE, b"5")
    bench.sender.retain(STATE, b"")
    link.acknowledge()
    assert len(bench.sender.retained) == 0, "removed for good"
    assert bench.sender.idle


def test_state_comes_again_with_each_connection_at_a_bounded_rate(bench: Bench) -> None:
    for number in range(1000):
        bench.sender.retain((f"default/pump-{number}", "status"), b"x")
    bench.clock.boot += 10
    link = bench.connect(window=5000)
    assert len(link.sent) == 200
    for _ in range(8):
        bench.clock.boot += 0.1
        bench.sender.pump()
    assert len(link.sent) == 1000
    link.acknowledge()
    bench.sender.disconnected()
    bench.clock.boot += 10
    assert len(bench.connect(window=5000).sent) == 200


def test_state_that_is_refused_or_too_large_blocks_nothing(bench: Bench) -> None:
    bench.clock.boot += 1
    link = bench.connect(max_packet_bytes=100)
    bench.sender.retain(STATE, b"x" * 200)
    bench.sender.retain(("default/pump-0", "u"), b"1")
    assert [topic for _, topic, _, _ in link.sent] == ["devicemesh/v1/default/pump-0/u"]
    link.acknowledge(code=0x87)
    assert bench.sender.idle
    assert bench.sender.refusals.count == 2


# -- refusals


def test_everything_waits_for_a_broker_out_of_quota(bench: Bench) -> None:
    link = bench.connect(window=4)
    bench.put(6)
    link.acknowledge(1, 0x97)
    assert link.bodies == [1, 2, 3], "nothing new is sent"
    link.acknowledge()
    bench.clock.boot += 0.4
    bench.sender.pump()
    assert link.sent == []
    bench.clock.boot += 0.2
    bench.sender.pump()
    assert link.bodies == [0, 4, 5]
    for wait_s in (0.5, 1.0, 2.0):  # ever longer
        link.acknowledge(code=0x97)
        bench.clock.boot += wait_s - 0.05
        bench.sender.pump()
        assert link.sent == []
        bench.clock.boot += 0.1
        bench.sender.pump()
        assert link.bodies == [0, 4, 5]
    link.acknowledge()
    assert bench.sender.idle
    assert bench.outbox.stats().published == 6


def test_a_blocked_topic_is_tried_with_one_record_ever_more_rarely(bench: Bench) -> None:
    link = bench.connect()
    bench.put(3, stream=0)
    link.acknowledge(code=0x87)
    bench.put(3, stream=0)
    bench.put(2, stream=1)
    assert link.bodies == [6, 7]
    link.acknowledge()
    tries = 0
    for _ in range(1000):
        bench.clock.boot += 0.1
        bench.sender.pump()
        if link.sent:
            assert link.bodies == [0]
            tries += 1
            link.acknowledge(code=0x87)
    assert 5 <= tries <= 9  # within 100 s
    bench.clock.boot += 600
    bench.sender.pump()
    link.acknowledge()
    assert link.bodies == [1, 2, 3, 4, 5]
    link.acknowledge()
    assert bench.sender.idle
    assert bench.sender.refusals.words is None


def test_a_topic_whose_probe_can_not_be_sent_takes_up_all_the_same(bench: Bench) -> None:
    """What is too large was found out while the topic waited: its first record is dropped, and owes no answer."""
    link = bench.connect()
    for stream, size in ((0, 3000), (1, 2500)):
        large = Record(stream, 0, 1, b"1" * size)
        bench.sender.publish([large], lambda stream: (f"default/pump-{stream}", ["speed"]))
    link.acknowledge(1, 0x87)
    link.acknowledge(1, TOO_LARGE)
    bench.clock.boot += 1
    bench.sender.pump()
    assert bench.outbox.stats().dropped["too_large"] == 2
    bench.put(2, stream=0)
    bench.sender.pump()
    assert link.bodies == [0], "one is tried"
    link.acknowledge()
    assert link.bodies == [1]
    link.acknowledge()
    assert bench.sender.idle
    assert not bench.sender.refusals.blocked


def test_a_blocked_topic_leaves_a_bounded_number_of_holes(bench: Bench) -> None:
    bench.outbox._settled._ranges = [
        (10 + 2 * i, 11 + 2 * i, 10 + 2 * i, 11 + 2 * i) for i in range(SETTLED_RANGES + 2)
    ]
    link = bench.connect()
    bench.put(3)
    link.acknowledge(code=0x87)
    bench.sender.bound_refused()
    assert bench.outbox.stats().dropped["refused"] == 3


def test_what_can_not_be_read_now_is_read_later(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a free descriptor nothing can be read: that says nothing about what is there."""

    def read(*_: object) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    bench.put(5)
    with monkeypatch.context() as patched:
        patched.setattr(bench.disk, "read", read)
        link = bench.connect()
        assert link.sent == []
        with pytest.raises(OSError, match="Too many"):
            Outbox(bench.disk, clock=bench.clock)
    bench.sender.pump()
    assert link.bodies == [0, 1, 2, 3, 4]
    link.acknowledge()
    assert (bench.outbox.stats().published, bench.sender.idle) == (5, True)


@pytest.mark.parametrize("removed", ["record", "state"])
def test_what_may_be_to_blame_and_is_gone_holds_up_nothing(bench: Bench, removed: str) -> None:
    if removed == "state":
        bench.sender.retain(STATE, b"x")
    bench.connect()
    bench.put(5)
    bench.sender.disconnected(hung_up=True)
    if removed == "state":
        bench.sender.release(STATE)
    else:
        bench.outbox.drop(0, 0, 1, "outbox_bytes")
    link = bench.connect()
    link.acknowledge(1)
    assert len(link.sent) == (4 if removed == "state" else 3)


def test_names_that_clients_make_up_are_not_remembered_for_ever(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what waits for the broker goes where it should all the same."""
    monkeypatch.setattr("devicemesh.sink.routes.KEPT", 50)
    topics = []
    for number in range(1000):
        topics.append(f"devicemesh/v1/default/nobody-{number % 300}/command/go/result")
        bench.sender.event(["E", f"default/nobody-{number % 300}", "command/go/result"], b"{}")
    assert len(bench.sender._routes._keys) <= 50
    bench.put(1)
    link = bench.connect(window=2000)
    for _ in range(12):
        bench.sender.pump()
    assert [topic for _, topic, *_ in link.sent] == [*topics, "devicemesh/v1/default/pump-0/telemetry"]


def test_an_answer_to_nothing_is_ignored(bench: Bench) -> None:
    bench.connect()
    bench.sender.acknowledged(7, 0)
    assert bench.sender.messages == 0


def test_the_gap_is_told(bench: Bench) -> None:
    link = bench.connect()
    bench.sender.gap({"disk_full": 5}, 77, 123)
    assert link.sent[0][1] == "devicemesh/v1/_runtime/x/gap"
    assert json.loads(link.sent[0][2]) == {"epoch": 77, "dropped": {"disk_full": 5}, "time": 123}


def test_events_of_no_device_are_an_error_of_the_caller(bench: Bench) -> None:
    with pytest.raises(ValueError, match="makes no topic"):
        bench.sender.event(["E", "../x", "alarm"], b"{}")
    assert bench.outbox.next == 0
