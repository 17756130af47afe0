"""The socket wrapper and the two packets of the hot path, on streams cut anywhere."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from devicemesh.sink.packets import (
    parse_puback,
    publish_once_packet,
    publish_packet,
    short_pubacks,
    topic_field,
)
from devicemesh.sink.wire import PacketSocket


class Fake:
    """A stream that yields its pieces one by one and takes a few bytes at a time."""

    def __init__(self, pieces: list[bytes], takes: int = 7) -> None:
        self.pieces, self.sent, self.takes = pieces, bytearray(), takes

    def recv(self, size: int) -> bytes:
        if not self.pieces:
            raise BlockingIOError
        return self.pieces.pop(0)

    def send(self, data: Any) -> int:
        taken = bytes(data[: self.takes])
        self.sent += taken
        return len(taken)

    def close(self) -> None:
        pass

    def fileno(self) -> int:
        return -1

    def setblocking(self, flag: bool) -> None:
        pass


def packet(first: int, body: bytes) -> bytes:
    length, size = b"", len(body)
    while True:
        size, low = size >> 7, size & 0x7F
        length += bytes((low | 0x80 if size else low,))
        if not size:
            return bytes((first,)) + length + body


def drained(wire: PacketSocket, fake: Fake) -> bytes:
    got = b""
    while True:
        try:
            got += wire.recv(5)
        except BlockingIOError:
            if not fake.pieces:
                return got


PACKETS = st.one_of(
    st.builds(lambda i: packet(0x40, i.to_bytes(2, "big")), st.integers(1, 65535)),
    st.builds(
        lambda i, c: packet(0x40, i.to_bytes(2, "big") + bytes((c, 0))),
        st.integers(1, 99),
        st.integers(0, 255),
    ),
    st.builds(lambda n: packet(0x30, b"\0\1a" + bytes(n)), st.integers(0, 400)),
    st.builds(lambda n: packet(0x32, b"\0\3abc" + b"\1\2" + bytes(n)), st.integers(0, 400)),
    st.just(packet(0xD0, b"")),
)


@given(st.lists(PACKETS, max_size=30), st.data())
def test_the_client_sees_its_packets_whole_and_we_ours(packets: list[bytes], data: st.DataObject) -> None:
    stream, pieces = b"".join(packets), []
    while stream:
        cut = data.draw(st.integers(1, 50))
        pieces.append(stream[:cut])
        stream = stream[cut:]
    fake = Fake(list(pieces))
    wire = PacketSocket(fake, 200)
    got = drained(wire, fake)
    theirs = [each for each in packets if each[0] != 0x40]
    assert got == b"".join(each for each in theirs if len(each) <= 200)
    assert wire.acknowledged == [parse_puback(each) for each in packets if each[0] == 0x40]
    giants = [each for each in theirs if len(each) > 200]
    assert wire.skipped == len(giants)
    wire.flush()
    assert bytes(fake.sent) == b"\x40\2\1\2" * sum(each[0] == 0x32 for each in giants)


def test_writes_are_gathered_and_go_on_where_they_stopped() -> None:
    fake = Fake([], takes=4)
    wire = PacketSocket(fake, 100)
    assert wire.send(b"abcdef") == 6
    assert wire.send(b"ghi") == 3
    assert wire.unsent == 9
    assert wire.flush()
    assert fake.sent == b"abcdefghi"
    fake.takes = 0
    wire.send(b"j")
    assert not wire.flush()


def test_the_end_is_seen_once_everything_was_read() -> None:
    fake = Fake([packet(0xD0, b""), b""])
    wire = PacketSocket(fake, 100)
    wire.fill()
    wire.fill()
    assert wire.unread
    assert wire.recv(10) == packet(0xD0, b"")
    assert wire.recv(10) == b""
    assert wire.unread  # the end stays readable


def test_short_acknowledgements_at_once() -> None:
    assert short_pubacks(bytes((0x40, 2, 0, 5, 0x40, 2, 1, 0))) == [5, 256]
    assert short_pubacks(bytes((0x40, 2, 0, 5, 0x40, 3, 1, 0))) is None
    assert short_pubacks(b"\x40\2\0") is None
    assert parse_puback(b"\x40\2\0") == (0, 0)


class Sock:
    """What the client library writes to."""

    sent = b""

    def send(self, data: bytes | bytearray) -> int:
        Sock.sent = bytes(data)
        return len(data)

    def recv(self, size: int) -> bytes:
        return b""

    def close(self) -> None:
        pass

    def fileno(self) -> int:
        return -1

    def setblocking(self, flag: bool) -> None:
        pass


@pytest.mark.parametrize("v5", [True, False])
@pytest.mark.parametrize("size", [0, 1, 100, 127, 128, 16_000, 17_000, 2_200_000])
def test_publishes_are_what_the_client_library_would_send(v5: bool, size: int) -> None:
    protocol = MQTTProtocolVersion.MQTTv5 if v5 else MQTTProtocolVersion.MQTTv311
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=protocol)
    client._sock = Sock()
    client.publish("a/ü", b"x" * size, 1, retain=True)
    assert publish_packet(topic_field("a/ü"), b"x" * size, 1, retain=True, v5=v5) == Sock.sent
    client.publish("a/ü", b"x" * size, 0)
    assert publish_once_packet(topic_field("a/ü"), b"x" * size, v5=v5) == Sock.sent


def test_a_topic_too_long() -> None:
    with pytest.raises(ValueError, match="too long"):
        topic_field("x" * 65536)


@given(st.lists(st.sampled_from([b"\xd0\x00", b"\x40\x02\x00\x41", packet(0x30, b"\x00\x01tx")])), st.data())
def test_pings_and_their_answers_are_counted(packets: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(packets)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True) if a < b]
    fake = Fake(pieces)
    wire = PacketSocket(fake, 100)
    asked = data.draw(st.integers(0, len(packets)))
    for _ in range(asked):
        wire.send(b"\xc0\x00")
    got = drained(wire, fake)
    assert wire.pongs == min(asked, packets.count(b"\xd0\x00"))  # what nobody asked for is no answer
    assert got == b"".join(each for each in packets if each[0] != 0x40)  # the client sees the answers, too
    for _ in range(2):
        wire.send(b"\xc0\x00")
        wire.send(b"\xe0\x00")
    assert wire.pings == asked + 2
