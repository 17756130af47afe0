"""As much of an MQTT server (5 and 3.1.1, QoS 1) as a platform that is none of its own needs, for tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from devicemesh.testing.server import StreamServer

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = (
    1, 2, 3, 4, 8, 9, 12, 13, 14,
)  # fmt: skip


def packet(kind: int, body: bytes, flags: int = 0) -> bytes:
    """A packet with its fixed header."""
    length, head = len(body), bytearray((kind << 4 | flags,))
    while True:
        head.append(length & 0x7F | (0x80 if length > 0x7F else 0))
        length >>= 7
        if not length:
            return bytes(head) + body


def string(text: str) -> bytes:
    """Text with its length."""
    raw = text.encode()
    return len(raw).to_bytes(2, "big") + raw


class Cursor:
    """Reads a packet's body."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def binary(self) -> bytes:
        return self.take(self.number(2))

    def properties(self) -> None:
        """Passed over."""
        length = shift = 0
        while True:
            byte = self.number(1)
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        self.take(length)


@dataclass(eq=False)
class Session:
    """A client's connection."""

    writer: asyncio.StreamWriter
    v5: bool = True
    username: str | None = None
    client_id: str = ""
    filters: set[str] = field(default_factory=set)

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def publish(self, topic: str, payload: bytes) -> None:
        """A message to the client, QoS 0."""
        properties = b"\0" if self.v5 else b""
        self.send(packet(PUBLISH, string(topic) + properties + payload))

    def acknowledge(self, identifier: int, code: int = 0) -> None:
        """Answer a publish; MQTT 3.1.1 has no code to give."""
        tail = bytes((code, 0)) if self.v5 else b""
        self.send(packet(PUBACK, identifier.to_bytes(2, "big") + tail))

    def close(self) -> None:
        self.writer.close()


class MqttServer:
    """On 127.0.0.1, in a thread of its own; subclasses say what becomes of messages, in that thread."""

    max_packet_bytes = 1 << 28

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.connections = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: StreamServer | None = None

    # -- for subclasses

    def admit(self, session: Session) -> int:
        """The code of the answer to a CONNECT; 0 lets in."""
        return 0

    def grant(self, session: Session, topic_filter: str) -> int:
        """The code of the answer to a subscription."""
        return 1

    def published(self, session: Session, topic: str, payload: bytes, identifier: int) -> None:
        """A client's message, of QoS 1."""
        raise NotImplementedError

    def ended(self, session: Session) -> None:
        """A client is gone."""

    # -- for tests

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def call(self, work: Callable[[], Any]) -> Any:
        """Do something in the server's thread."""

        async def run() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def start(self) -> None:
        """Take connections, again where it was stopped, on the same port."""

        async def run() -> None:
            self._server = await StreamServer(self._serve, self.port).__aenter__()
            self.port = self._server.port

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def stop(self) -> None:
        """Hang up on everybody, and take nobody."""

        async def run() -> None:
            if self._server is not None:
                await self._server.__aexit__()
                self._server = None

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    # -- connections

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(writer)
        try:
            while not writer.is_closing():
                kind, flags, body = await self._read(reader)
                if kind == DISCONNECT:
                    return
                self._take(session, kind, flags, body)
                await writer.drain()
        except (OSError, EOFError, ValueError, asyncio.CancelledError):
            return
        finally:
            if session in self.sessions:
                self.sessions.remove(session)
                self.ended(session)
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> tuple[int, int, bytes]:
        first = (await reader.readexactly(1))[0]
        length = shift = 0
        while True:
            byte = (await reader.readexactly(1))[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        if length > self.max_packet_bytes:
            raise ValueError("too large")
        return first >> 4, first & 15, await reader.readexactly(length)

    def _take(self, session: Session, kind: int, flags: int, body: bytes) -> None:
        cursor = Cursor(body)
        if kind == CONNECT:
            self._opened(session, cursor)
        elif kind == SUBSCRIBE:
            self._subscribe(session, cursor)
        elif kind == PINGREQ:
            session.send(packet(PINGRESP, b""))
        elif kind == PUBLISH:
            topic = cursor.binary().decode()
            identifier = cursor.number(2) if flags & 6 else 0
            if session.v5:
                cursor.properties()
            self.published(session, topic, body[cursor.at :], identifier)

    def _opened(self, session: Session, cursor: Cursor) -> None:
        cursor.binary()
        session.v5, flags = cursor.number(1) == 5, cursor.number(1)
        cursor.take(2)
        if session.v5:
            cursor.properties()
        session.client_id = cursor.binary().decode()
        if flags & 0x04:
            if session.v5:
                cursor.properties()
            cursor.binary()
            cursor.binary()
        session.username = cursor.binary().decode() if flags & 0x80 else None
        code = self.admit(session)
        session.send(packet(CONNACK, bytes((0, code)) + (b"\0" if session.v5 else b"")))
        if code:
            session.close()
            return
        self.connections += 1
        self.sessions.append(session)

    def _subscribe(self, session: Session, cursor: Cursor) -> None:
        identifier = cursor.take(2)
        if session.v5:
            cursor.properties()
        codes = bytearray()
        while cursor.at < len(cursor.data):
            topic_filter = cursor.binary().decode()
            cursor.take(1)
            code = self.grant(session, topic_filter)
            codes.append(code)
            if code < 0x80:
                session.filters.add(topic_filter)
        session.send(packet(SUBACK, identifier + (b"\0" if session.v5 else b"") + codes))
