"""A socket between the MQTT client and the network: reads ahead, writes together, skips giants."""

from __future__ import annotations

import contextlib
import errno
import ssl
import struct
from collections.abc import Callable
from typing import Protocol

from devicemesh.sink.packets import PINGREQ, PINGRESP, PUBACK, parse_puback, short_pubacks

_READ_BYTES = 1 << 16
_WRITE_BYTES = 1 << 18
_PUBLISH_TYPE = 3  # MQTT 5, section 2.1.2
_HEAD_BYTES = 1 << 17  # of a skipped packet: more than the longest topic
_AGAIN = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Stream(Protocol):
    """What is needed of a socket, be it TCP, TLS or a websocket."""

    def recv(self, size: int) -> bytes: ...

    def send(self, data: bytes | bytearray | memoryview) -> int: ...

    def close(self) -> None: ...

    def fileno(self) -> int: ...

    def setblocking(self, flag: bool) -> None: ...


class PacketSocket:
    """Buffers both ways: one system call serves many packets.

    `send` always takes the whole packet; `flush` brings it to the network. Acknowledgements of publishes end
    up in `acknowledged` and never reach the client, which knows nothing of these publishes. A packet beyond
    `max_packet_bytes` does not reach it either, so it costs no memory; a publish among them is acknowledged,
    lest the peer wait for it for ever.
    """

    def __init__(self, stream: Stream, max_packet_bytes: int) -> None:
        self.skipped = 0  # packets
        self.acknowledged: list[tuple[int, int]] = []  # identifier, reason code
        self.pings = self.pongs = 0  # sent, ours and the client's, and answered
        self._stream, self._max = stream, max_packet_bytes
        self._in, self._at, self._ended = b"", 0, False
        self._out = bytearray()
        self._withheld = b""  # the beginning of a packet of which more must come
        self._left = 0  # bytes of a packet that are to come
        self._head: bytearray | None = None  # the start of a packet that is being skipped
        self.fence: Callable[[], bool] | None = None  # whether we may speak at all; None: always

    @property
    def unread(self) -> bool:
        """Whether the client has something to read without waiting, be it the end."""
        return self._at < len(self._in) or self._ended

    @property
    def pending(self) -> bool:
        """Whether bytes wait of which no selector knows: TLS keeps what it has decrypted."""
        pending = getattr(self._stream, "pending", None)
        return bool(pending is not None and pending())

    @property
    def unsent(self) -> int:
        """Bytes that the network did not take yet."""
        return len(self._out)

    def fill(self) -> None:
        """Read what the network has, once. Raises OSError when the connection is lost."""
        try:
            data = self._stream.recv(_READ_BYTES)
        except _AGAIN:
            return
        self._ended = not data
        if self._at >= len(self._in):
            self._in, self._at = b"", 0
        identifiers = None if self._left or self._withheld else short_pubacks(data)
        if identifiers is not None:
            self.acknowledged += [(each, 0) for each in identifiers]
        else:
            self._in += self._admit(data)

    def recv(self, size: int) -> bytes:
        """As a socket's; raises BlockingIOError when nothing is there."""
        if self._at >= len(self._in):
            if not self._ended:
                self.fill()
            if self._at >= len(self._in):
                if self._ended:
                    return b""
                raise BlockingIOError
        chunk = self._in[self._at : self._at + size]
        self._at += len(chunk)
        return chunk

    def send(self, data: bytes | bytearray | memoryview) -> int:
        self._out += data
        self.pings += data == PINGREQ
        return len(data)

    def flush(self) -> bool:
        """Write what waits; True when nothing is left. Raises OSError when the connection is lost."""
        while self._out:
            if self.fence is not None and not self.fence():
                raise ConnectionAbortedError(errno.ECONNABORTED, "this replica has lost its Lease")
            with memoryview(self._out) as view, view[:_WRITE_BYTES] as piece:
                try:
                    sent = self._stream.send(piece)
                except _AGAIN:
                    return False
            if not sent:
                return False
            del self._out[:sent]
        return True

    def close(self) -> None:
        """Hang up, after a last try to write what waits: a farewell."""
        with contextlib.suppress(OSError):
            self.flush()
        self._stream.close()

    def fileno(self) -> int:
        return self._stream.fileno()

    def setblocking(self, flag: bool) -> None:
        self._stream.setblocking(flag)

    def _admit(self, data: bytes) -> bytes:
        """Walk over the packets in `data`; return the bytes of those that are the client's."""
        data, self._withheld = self._withheld + data, b""
        end, position = len(data), 0
        kept = []
        while position < end:
            if self._left:  # of a packet whose beginning was seen
                step = min(self._left, end - position)
                piece = data[position : position + step]
                self._left -= step
                position += step
                if self._head is None:
                    kept.append(piece)
                    continue
                self._skip(piece)
                if not self._left:
                    self._head = None
                continue
            size = _packet_size(data, position)
            if size is None or (data[position] == PUBACK and position + size > end and size <= 127):
                self._withheld = data[position:]
                break
            if data[position] == PUBACK and position + size <= end:
                self.acknowledged.append(parse_puback(data[position : position + size]))
                position += size
                continue
            if data[position] == PINGRESP[0] and self.pongs < self.pings:  # not one that nobody asked for
                self.pongs += 1  # the client's to read, too
            self._left = size
            if size > self._max:
                self._head = bytearray()
                self.skipped += 1
        return b"".join(kept)

    def _skip(self, piece: bytes) -> None:
        """Look for the identifier in the first bytes of a publish, to acknowledge it."""
        head = self._head
        if head is None or len(head) > _HEAD_BYTES:
            return
        head += piece[:_HEAD_BYTES]
        body = 1
        while body < len(head) and head[body] & 0x80:
            body += 1
        body += 1
        if len(head) < body + 2:
            return
        at = body + 2 + int.from_bytes(head[body : body + 2], "big")
        if head[0] >> 4 != _PUBLISH_TYPE or not head[0] & 0x06:
            head += bytes(_HEAD_BYTES)  # nothing to answer: look no further
        elif len(head) >= at + 2:
            self._out += struct.pack("!BB", PUBACK, 2) + head[at : at + 2]
            head += bytes(_HEAD_BYTES)


def _packet_size(data: bytes, position: int) -> int | None:
    """Bytes of the packet whose fixed header is at `position`; None when more of it must come."""
    length = shift = 0
    for index in range(position + 1, min(position + 5, len(data))):
        byte = data[index]
        length |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return index + 1 - position + length
        shift += 7
    # a length of more than four bytes is malformed: the client shall see it and say so
    return None if len(data) < position + 5 else 5
