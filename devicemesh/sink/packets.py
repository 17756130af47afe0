"""The MQTT packets of the hot path: PUBLISH out, PUBACK in; and pings, which stand in for it at QoS 0. Pure.

The client library builds a dozen objects for each of them, which costs three times all the rest of a
message's way; everything else of the protocol is the library's.
"""

from __future__ import annotations

import struct

PUBLISH_QOS1 = 0x32  # MQTT 5, section 3.3.1
PUBLISH_QOS0 = 0x30
PUBACK = 0x40  # section 3.4.1
PINGREQ, PINGRESP = b"\xc0\x00", b"\xd0\x00"  # sections 3.12 and 3.13
_SHORT_PUBACK = 0x4002  # with its length: success, no properties
_RETAIN = 0x01


def topic_field(topic: str) -> bytes:
    """The topic as a publish carries it. Raises ValueError when it is too long."""
    encoded = topic.encode()
    if len(encoded) > 0xFFFF:
        raise ValueError("the topic is too long")
    return struct.pack("!H", len(encoded)) + encoded


def publish_packet(topic: bytes, payload: bytes, identifier: int, *, retain: bool, v5: bool) -> bytes:
    """Build a PUBLISH of QoS 1 without properties; `topic` is a `topic_field`."""
    tail = struct.pack("!HB", identifier, 0) if v5 else struct.pack("!H", identifier)
    head = bytes((PUBLISH_QOS1 | retain,)) + _variable(len(topic) + len(tail) + len(payload))
    return b"".join((head, topic, tail, payload))


def publish_once_packet(topic: bytes, payload: bytes, *, v5: bool) -> bytes:
    """Build a PUBLISH of QoS 0 without properties; `topic` is a `topic_field`."""
    tail = b"\0" if v5 else b""
    head = bytes((PUBLISH_QOS0,)) + _variable(len(topic) + len(tail) + len(payload))
    return b"".join((head, topic, tail, payload))


def _variable(number: int) -> bytes:
    """A variable byte integer (section 1.5.5)."""
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    if number < 0x200000:
        return bytes((number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14))
    return bytes((number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14 & 0x7F | 0x80, number >> 21))


def short_pubacks(data: bytes) -> list[int] | None:
    """The identifiers, when `data` is nothing but PUBACKs in their short form, as it mostly is."""
    if len(data) % 4:
        return None
    words = struct.unpack(f"!{len(data) // 2}H", data)
    return list(words[1::2]) if words[::2].count(_SHORT_PUBACK) * 2 == len(words) else None


def parse_puback(packet: bytes) -> tuple[int, int]:
    """(identifier, reason code) of a PUBACK of at most 127 bytes; malformed ones get identifier 0."""
    if len(packet) < 4:
        return 0, 0
    return packet[2] << 8 | packet[3], packet[4] if len(packet) > 4 else 0
