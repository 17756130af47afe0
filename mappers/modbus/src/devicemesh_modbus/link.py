"""Transactions over one connection: which answer belongs to which request.

A `Link` sends requests and resolves a future per request with its answer, or with None when its time is
over or the connection is. Answers that belong to no request are dropped, never guessed. `MbapLink` tells
answers apart by transaction id (TCP, TLS, UDP); `RtuLink`, which has none, lets only one request be under
way and keeps away from a unit whose late answer may still come.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from devicemesh.mapper import AuthError, LinkError

Answer: TypeAlias = tuple[bytes, int]
"""The answer from its function code on, and its arrival in Unix nanoseconds."""
MAX_NOISE = 4096
"""Bytes of an RTU answer's search: far more than a frame (256) with noise and an echo before it."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, ready to be sent."""

    unit: int
    frame: bytes  # as on the wire; for MBAP without the two bytes of the transaction id
    timeout_s: float
    pause_s: float = 0.0  # silence that the unit needs after its answer

    @property
    def pdu(self) -> bytes:
        """What is in the frame, from the function code on: behind protocol, length and unit."""
        return self.frame[5:]

    @property
    def function(self) -> int:
        return self.pdu[0]


class RtuAsk(Ask):
    """A request in an RTU frame: the PDU is between the unit and the checksum."""

    __slots__ = ()

    @property
    def pdu(self) -> bytes:
        return self.frame[1:-2]


class Codec(Protocol):
    """What an RTU link has to know about frames."""

    def length(self, frame: bytes) -> int | None:
        """How long the frame that begins with these bytes is; None while, or because, they don't say."""

    def is_sound(self, frame: bytes) -> bool:
        """Whether its checksum is right."""


class Link(asyncio.Protocol, ABC):
    """One connection."""

    repeatable = True  # whether a second request after a silence can't be mistaken for the first
    pauses = False  # whether a request may have to wait, so that `ask` is needed instead of `send`

    def __init__(self, name: str) -> None:
        self.name = name
        self.lost: str | None = None  # why the connection is over
        self.lost_cause: BaseException | None = None
        self.stray = ""  # what came instead of an answer since the last request
        self._loop = asyncio.get_running_loop()
        self.made: asyncio.Future[None] = self._loop.create_future()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self.heard = 0  # how often bytes came
        self._ready_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport

    @abstractmethod
    def send(self, ask: Ask) -> asyncio.Future[Answer | None]:
        """Send now. Raises `LinkError` when the connection is over."""

    @abstractmethod
    def _expire(self) -> None:
        """Resolve what is overdue."""

    async def ask(self, ask: Ask) -> Answer | None:
        """Send as soon as the line is free and wait; None: no answer in time. Raises `LinkError`."""
        await self.wait_ready(ask.unit)
        answer = await self.send(ask)
        if answer is None:
            self.check()
        if ask.pause_s:
            self._ready_at = self._loop.time() + ask.pause_s
        return answer

    async def wait_ready(self, unit: int) -> None:
        """Wait out the silence that the last unit, or the line, needs."""
        wait = self._ready_at - self._loop.time()
        if wait > 0:
            await asyncio.sleep(wait)

    def check(self) -> None:
        """Raise `LinkError` (`AuthError` where our certificate was refused) if the connection is over."""
        if self.lost is None:
            return
        if _is_rejected_certificate(self.lost_cause):
            raise AuthError(f"{self.name} does not accept our certificate") from self.lost_cause
        raise LinkError(self.lost) from self.lost_cause

    def close(self) -> None:
        """End the connection; `closed` is done when it is."""
        self._fail(f"the connection to {self.name} was closed", None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.made.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        why = (
            f"the connection to {self.name} broke: {_words(exc)}"
            if exc
            else f"{self.name} closed the connection"
        )
        if not self.heard and self._transport.get_extra_info("ssl_object") is not None:
            why += " before the first answer; does it accept our certificate?"
        self._fail(why, exc)
        self.closed.set_result(None)

    def _fail(self, why: str, cause: BaseException | None) -> None:
        if self.lost is None:
            self.lost, self.lost_cause = why, cause
            self._transport.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._drop_all()

    @abstractmethod
    def _drop_all(self) -> None:
        """Resolve everything under way with None."""

    def _arm(self, deadline: float) -> None:
        """See to it that `_expire` is called soon after `deadline`: one timer a link, not one a request."""
        if self._timer is None or deadline < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(deadline, self._expired)

    def _expired(self) -> None:
        self._timer = None
        self._expire()


class MbapLink(Link, asyncio.DatagramProtocol):
    """Modbus/TCP framing (Messaging on TCP/IP V1.0b, 3.1.3): also inside TLS and in datagrams."""

    def __init__(self, name: str, *, datagrams: bool) -> None:
        super().__init__(name)
        self._tid = 0
        self._pending: dict[int, tuple[asyncio.Future[Answer | None], int, float]] = {}
        self._rest = b""
        self._write: Callable[[bytes], None]
        self._datagrams = datagrams

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._write = transport.sendto if self._datagrams else transport.write  # type: ignore[attr-defined]

    def send(self, ask: Ask) -> asyncio.Future[Answer | None]:
        if self.lost is not None:
            self.check()
        if not self._pending:
            self.stray = ""
        self._tid = tid = self._tid % 0xFFFF + 1  # never 0: some devices answer everything with it
        future: asyncio.Future[Answer | None] = self._loop.create_future()
        deadline = self._loop.time() + ask.timeout_s
        self._pending[tid] = (future, ask.unit, deadline)
        self._write(tid.to_bytes(2) + ask.frame)
        if self._timer is None or deadline < self._timer.when():
            self._arm(deadline)
        return future

    def data_received(self, data: bytes) -> None:
        now_ns = time.time_ns()
        self.heard += 1
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        while size - at >= 6:
            length = data[at + 4] << 8 | data[at + 5]
            if data[at + 2] or data[at + 3] or not 2 <= length <= 254:
                self._fail(self._not_modbus(data[at : at + 6]), None)
                return
            end = at + 6 + length
            if end > size:
                break
            self._deliver(data[at] << 8 | data[at + 1], data[at + 6], data[at + 7 : end], now_ns)
            at = end
        self._rest = data[at:]

    def datagram_received(self, data: bytes, addr: object) -> None:
        now_ns = time.time_ns()
        self.heard += 1
        if len(data) < 8 or data[2:4] != b"\0\0" or int.from_bytes(data[4:6]) != len(data) - 6:
            self.stray = f"a datagram of {len(data)} bytes that is not Modbus/TCP"
            return
        self._deliver(data[0] << 8 | data[1], data[6], data[7:], now_ns)

    def error_received(self, exc: Exception) -> None:
        self._fail(f"nobody listens at {self.name}: {_words(exc)}", exc)

    def _deliver(self, tid: int, unit: int, answer: bytes, now_ns: int) -> None:
        pending = self._pending.get(tid)
        if pending is None:
            self.stray = f"an answer with transaction id {tid} instead of {self._tid}"
        elif pending[1] != unit:
            self.stray = f"an answer from unit {unit} instead of {pending[1]}"
        else:
            del self._pending[tid]
            if not pending[0].done():
                pending[0].set_result((answer, now_ns))

    def _not_modbus(self, header: bytes) -> str:
        return f"{self.name} does not speak Modbus/TCP (header {header.hex(' ')}); is it RTU over TCP?"

    def _expire(self) -> None:
        now = self._loop.time()
        overdue = [tid for tid, (_, _, deadline) in self._pending.items() if deadline <= now]
        for tid in overdue:
            future = self._pending.pop(tid)[0]
            if not future.done():
                future.set_result(None)
        if self._pending:
            self._arm(min(deadline for _, _, deadline in self._pending.values()))

    def _drop_all(self) -> None:
        pending, self._pending = self._pending, {}
        for future, _, _ in pending.values():
            if not future.done():
                future.set_result(None)


class RtuLink(Link):
    """RTU framing, on a serial line or over TCP: nothing in an answer says which request it is to.

    So only one request is under way, and a unit that did not answer, or whose request was abandoned, is
    asked again only after another response time: what comes until then is dropped.
    """

    repeatable = False
    pauses = True

    def __init__(self, name: str, codec: Codec, silence_s: float) -> None:
        super().__init__(name)
        self._codec = codec
        self._silence_s = silence_s  # 3.5 characters
        self._buffer = bytearray()
        self._pending: asyncio.Future[Answer | None] | None = None
        self._asked: Ask
        self._deadline = 0.0
        self._line_at = 0.0  # when the last byte came or went
        self._doubt: dict[int, float] = {}  # unit -> until when an old answer may still come
        self._echoes = False  # the line gives back what we send

    async def wait_ready(self, unit: int) -> None:
        self._abandon()
        now = self._loop.time()
        until = max(self._ready_at, self._line_at + self._silence_s, self._doubt.get(unit, 0.0))
        if until > now:
            await asyncio.sleep(until - now)

    def send(self, ask: Ask) -> asyncio.Future[Answer | None]:
        self.check()
        self._abandon()
        self._asked = ask
        self._buffer.clear()
        self.stray = ""
        self.repeatable = False
        self._pending = future = self._loop.create_future()
        self._line_at = self._loop.time()
        self._deadline = self._line_at + ask.timeout_s
        self._transport.write(ask.frame)
        self._arm(self._deadline)
        return future

    def _abandon(self) -> None:
        """Note that the answer to a cancelled request may still come."""
        if self._pending is not None:
            self._doubt[self._asked.unit] = self._deadline + self._asked.timeout_s
            self._pending = None

    def data_received(self, data: bytes) -> None:
        now_ns = time.time_ns()
        self.heard += 1
        self._line_at = self._loop.time()
        if self._pending is None or self._pending.done():
            return
        self._buffer += data
        del self._buffer[:-MAX_NOISE]
        answer, _ = self._find()
        if answer is not None:
            self._pending.set_result((answer, now_ns))
            self._pending = None

    def _find(self) -> tuple[bytes | None, bool]:
        """The first sound frame of the asked unit and function, whatever noise or echo is around it.

        Also whether there is a whole frame of them with a wrong checksum: the answer has come, garbled.
        """
        buffer, ask, garbled = bytes(self._buffer), self._asked, False
        echo = buffer.startswith(ask.frame)
        if echo and ask.function <= 4:  # the answer of a reading function never equals its question
            self._echoes = True
        at = buffer.find(ask.unit, len(ask.frame) if echo and self._echoes else 0)
        while 0 <= at <= len(buffer) - 4:
            if buffer[at + 1] & 0x7F == ask.function:
                length = self._codec.length(buffer[at:])
                if length is not None and at + length <= len(buffer):
                    if self._codec.is_sound(buffer[at : at + length]):
                        return buffer[at + 1 : at + length - 2], False
                    garbled = True
            at = buffer.find(ask.unit, at + 1)
        return None, garbled

    def _expire(self) -> None:
        if self._pending is None or self._pending.done():
            return
        if self._loop.time() < self._deadline:
            self._arm(self._deadline)
            return
        _, self.repeatable = self._find()
        self.stray = f"{len(self._buffer)} bytes that are no answer" if self._buffer else ""
        if not self.repeatable:
            self._doubt[self._asked.unit] = self._deadline + self._asked.timeout_s
        self._pending.set_result(None)
        self._pending = None

    def _drop_all(self) -> None:
        if self._pending is not None and not self._pending.done():
            self._pending.set_result(None)
        self._pending = None


def _words(exc: BaseException) -> str:
    """An operating system's error without its number."""
    return str(getattr(exc, "strerror", None) or exc or type(exc).__name__)


def _is_rejected_certificate(exc: BaseException | None) -> bool:
    """Whether TLS ended because of our certificate: with TLS 1.3 that is only known after the handshake."""
    reason = (exc.reason or "") if isinstance(exc, ssl.SSLError) else ""
    return "ALERT" in reason and any(
        word in reason for word in ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")
    )
