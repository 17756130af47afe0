"""Read, Write and Publish on the wire (Part 4, 5.10.2, 5.10.4, 5.13.5): requests out, answers taken apart.

The services that values go through are encoded and decoded here, without an object per value; all
others are asyncua's. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from devicemesh_opcua.binary import (
    DecodeError,
    encode_string,
    extension_object,
    length,
    node_id,
    skip_diagnostic,
    string,
)

READ_REQUEST, READ_RESPONSE = 631, 634
PUBLISH_REQUEST, PUBLISH_RESPONSE = 826, 829
REPUBLISH_REQUEST, REPUBLISH_RESPONSE = 832, 835
WRITE_REQUEST, WRITE_RESPONSE = 673, 676
SERVICE_FAULT = 397
DATA_CHANGE, EVENTS, STATUS_CHANGE = "i=811", "i=916", "i=820"
"""Encodings of DataChangeNotification, EventNotificationList and StatusChangeNotification."""
NO_TIMESTAMPS, SOURCE_TIMESTAMPS, SERVER_TIMESTAMPS = 3, 0, 1
"""TimestampsToReturn (Part 4, 7.40)."""


class ServiceFaultError(Exception):
    """The server refused the whole request."""

    def __init__(self, status: int) -> None:
        super().__init__(f"service fault 0x{status:08X}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Published:
    """An answer to a Publish request."""

    subscription: int
    sequence: int
    more: bool
    changes: Sequence[bytes]  # DataChangeNotifications
    events: Sequence[bytes]  # EventNotificationLists
    status: int | None  # of a StatusChangeNotification: the subscription is over, or was moved

    @property
    def is_keep_alive(self) -> bool:
        """Whether it says nothing but that the subscription lives; its sequence number is the next one's."""
        return not self.changes and not self.events and self.status is None


def item(node: bytes, attribute: int, index_range: str | None) -> bytes:
    """A ReadValueId of an encoded NodeId."""
    return node + struct.pack("<I", attribute) + encode_string(index_range) + b"\0\0\xff\xff\xff\xff"


def read_request(items: Sequence[bytes], timestamps: int) -> bytes:
    """The parameters of a Read of the newest values."""
    return struct.pack("<dii", 0.0, timestamps, len(items)) + b"".join(items)


def publish_request(acknowledged: Sequence[tuple[int, int]]) -> bytes:
    """The parameters of a Publish that acknowledges (subscription, sequence) pairs."""
    flat = [number for pair in acknowledged for number in pair]
    return struct.pack(f"<i{len(flat)}I", len(acknowledged), *flat)


def header(body: bytes, expected: int) -> int:
    """Where the parameters of a response begin. Raises ServiceFaultError, DecodeError."""
    name, at = node_id(body, 0)
    if at + 16 > len(body):
        raise DecodeError("the message ends inside its header")
    (status,) = struct.unpack_from("<I", body, at + 12)
    if name.identifier == SERVICE_FAULT or status >> 31:
        raise ServiceFaultError(status)
    if name.identifier != expected or name.space != 0:
        raise DecodeError(f"a message of type {name.text} instead of i={expected}")
    at = skip_diagnostic(body, at + 16)
    count, at = length(body, at, 4)
    for _ in range(count):
        _, at = string(body, at)
    _, at = extension_object(body, at)
    return at


def read_response(body: bytes, expected: int) -> int:
    """Where the DataValues of a Read begin; there are as many as expected. Raises as `header`."""
    count, at = length(body, header(body, READ_RESPONSE))
    if count != expected:
        raise DecodeError(f"{count} values instead of {expected}")
    return at


def republish_request(subscription: int, sequence: int) -> bytes:
    """The parameters of a Republish."""
    return struct.pack("<II", subscription, sequence)


def republish_response(body: bytes, subscription: int) -> Published:
    """Take a RepublishResponse apart. Raises as `header`."""
    return _message(body, header(body, REPUBLISH_RESPONSE), subscription, False)


def publish_response(body: bytes) -> Published:
    """Take a PublishResponse apart. Raises as `header`."""
    at = header(body, PUBLISH_RESPONSE)
    try:
        (subscription,) = struct.unpack_from("<I", body, at)
        count, at = length(body, at + 4, 4)
        at += 4 * max(count, 0)
        (more,) = struct.unpack_from("<B", body, at)
    except struct.error as error:
        raise DecodeError("the message ends inside a notification") from error
    return _message(body, at + 1, subscription, bool(more))


def _message(body: bytes, at: int, subscription: int, more: bool) -> Published:
    """A NotificationMessage (Part 4, 7.26)."""
    try:
        (sequence,) = struct.unpack_from("<I", body, at)
        count, at = length(body, at + 12, 3)
    except struct.error as error:
        raise DecodeError("the message ends inside a notification") from error
    changes: list[bytes] = []
    events: list[bytes] = []
    status = None
    for _ in range(count):
        notification, at = extension_object(body, at)
        if notification is None:
            continue
        if notification.type_id == DATA_CHANGE:
            changes.append(notification.body)
        elif notification.type_id == EVENTS:
            events.append(notification.body)
        elif notification.type_id == STATUS_CHANGE and len(notification.body) >= 4:
            (status,) = struct.unpack_from("<I", notification.body)
    return Published(subscription, sequence, more, changes, events, status)


def results(body: bytes, at: int) -> Iterator[int]:
    """The status codes of an array."""
    count, at = length(body, at, 4)
    yield from struct.unpack_from(f"<{max(count, 0)}I", body, at)


def write_request(target: bytes, variant: bytes) -> bytes:
    """The parameters of a Write of one value; `target` is the node, the attribute and the index range."""
    return struct.pack("<i", 1) + target + b"\x01" + variant


def target(node: bytes, attribute: int, index_range: str | None) -> bytes:
    """What a Write writes to."""
    return node + struct.pack("<I", attribute) + encode_string(index_range)


def write_response(body: bytes) -> int:
    """The status of the one value written. Raises as `header`."""
    found = list(results(body, header(body, WRITE_RESPONSE)))
    if len(found) != 1:
        raise DecodeError(f"{len(found)} results instead of 1")
    return found[0]
