"""A socket between the MQTT client and the network: reads ahead, writes packets together, skips giants."""

from __future__ import annotations

import contextlib
import ssl
import struct
from typing import Protocol

_READ_BYTES = 1 << 16
_WRITE_BYTES = 1 << 18
_PUBLISH = 3  # packet type (MQTT 5, section 2.1.2)
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

    `send` always takes the whole packet; `flush` brings it to the network. A packet beyond
    `max_packet_bytes` never reaches the client, so it costs no memory; a publish among them is acknowledged,
    lest the peer wait for it for ever.
    """

    def __init__(self, stream: Stream, max_packet_bytes: int) -> None:
        self.skipped = 0  # packets
        self.received = 0  # bytes
        self._stream, self._max = stream, max_packet_bytes
        self._in, self._at = b"", 0
        self._out = bytearray()
        self._header = b""  # an incomplete one, withheld
        self._left = 0  # bytes of a packet that are to come
        self._head: bytearray | None = None  # the start of a packet that is being skipped

    @property
    def unread(self) -> bool:
        """Whether bytes are at hand that no selector will report."""
        pending = getattr(self._stream, "pending", None)  # TLS keeps what it has decrypted
        return self._at < len(self._in) or bool(pending is not None and pending())

    @property
    def unsent(self) -> int:
        """Bytes that the network did not take yet."""
        return len(self._out)

    def recv(self, size: int) -> bytes:
        """As a socket's; raises BlockingIOError when nothing is there."""
        if self._at >= len(self._in):
            data = self._stream.recv(_READ_BYTES)
            if not data:
                return b""
            self.received += len(data)
            self._in, self._at = self._admit(data), 0
            if not self._in:
                raise BlockingIOError
        chunk = self._in[self._at : self._at + size]
        self._at += len(chunk)
        return chunk

    def send(self, data: bytes | bytearray | memoryview) -> int:
        self._out += data
        return len(data)

    def flush(self) -> bool:
        """Write what waits; True when nothing is left. Raises OSError when the connection is lost."""
        while self._out:
            with memoryview(self._out) as view:
                try:
                    sent = self._stream.send(view[:_WRITE_BYTES])
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
        """Walk over the packets in `data`; return the bytes of those that are not skipped."""
        data, self._header = self._header + data, b""
        end, start, position = len(data), 0, 0
        kept = []
        while position < end:
            if self._left:
                step = min(self._left, end - position)
                if self._head is not None:
                    self._skip(data[position : position + step])
                self._left -= step
                position += step
                if self._head is not None:
                    start = position
                    if not self._left:
                        self._head = None
                continue
            size = _packet_size(data, position)
            if size is None:  # the header is incomplete
                kept.append(data[start:position])
                self._header = data[position:]
                return b"".join(kept)
            self._left = size
            if size > self._max:
                kept.append(data[start:position])
                start, self._head = position, bytearray()
                self.skipped += 1
        kept.append(data[start:])
        return b"".join(kept)

    def _skip(self, piece: bytes) -> None:
        """Look for the identifier in the first bytes of a publish, to acknowledge it."""
        head = self._head
        if head is None or len(head) > (1 << 17):
            return
        head += piece[: 1 << 17]
        body = 1
        while body < len(head) and head[body] & 0x80:
            body += 1
        body += 1
        if len(head) < body + 2:
            return
        at = body + 2 + int.from_bytes(head[body : body + 2], "big")
        if head[0] >> 4 != _PUBLISH or not head[0] & 0x06:
            head += bytes(1 << 18)  # nothing to answer: look no further
        elif len(head) >= at + 2:
            self._out += struct.pack("!BB", 0x40, 2) + head[at : at + 2]
            head += bytes(1 << 18)


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
