"""Frames of serial lines, RTU and ASCII: nothing in an answer says which request it is to.

So only one request is under way, and a unit that did not answer, or whose request was abandoned, is asked
again only after another response time: what comes until then is dropped.
"""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from typing import Protocol

from devicemesh_modbus.link import Answer, Ask, Link

MAX_NOISE = 4096
"""Bytes of an answer's search: far more than a frame (256, in ASCII 513) with noise and an echo before it."""


class RtuAsk(Ask):
    """A request in an RTU frame: the PDU is between the unit and the checksum."""

    __slots__ = ()

    @property
    def pdu(self) -> bytes:
        return self.frame[1:-2]


class AsciiAsk(Ask):
    """A request as text: `:`, then unit, PDU and checksum in hexadecimal, then CR LF."""

    __slots__ = ()

    @property
    def pdu(self) -> bytes:
        return bytes.fromhex(self.frame[3:-4].decode())


class RtuCodec(Protocol):
    """What an RTU link has to know about frames."""

    def length(self, frame: bytes) -> int | None:
        """How long the frame that begins with these bytes is; None while, or because, they don't say."""

    def is_sound(self, frame: bytes) -> bool:
        """Whether its checksum is right."""


class AsciiCodec(Protocol):
    """What an ASCII link has to know about frames."""

    def is_sound(self, frame: bytes) -> bool:
        """Whether the checksum (LRC) behind these bytes, which were hexadecimal on the line, is right."""


class LineLink(Link):
    """A serial line, or one behind TCP."""

    repeatable = False
    pauses = True

    def __init__(self, name: str, silence_s: float = 0.0) -> None:
        """`silence_s`: what has to be between two frames."""
        super().__init__(name)
        self._silence_s = silence_s
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

    @abstractmethod
    def _find(self) -> tuple[bytes | None, bool]:
        """The first sound frame of the asked unit and function, whatever noise or echo is around it.

        Also whether there is a whole frame of them with a wrong checksum: the answer has come, garbled.
        """

    def _echo(self, buffer: bytes) -> int:
        """How much of it is our own question, given back by the line."""
        echo = buffer.startswith(self._asked.frame)
        if echo and self._asked.function <= 4:  # the answer of a reading function never equals its question
            self._echoes = True
        return len(self._asked.frame) if echo and self._echoes else 0

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


class RtuLink(LineLink):
    """RTU framing."""

    def __init__(self, name: str, codec: RtuCodec, silence_s: float = 0.0) -> None:
        super().__init__(name, silence_s)
        self._codec = codec

    def _find(self) -> tuple[bytes | None, bool]:
        buffer, ask, garbled = bytes(self._buffer), self._asked, False
        at = buffer.find(ask.unit, self._echo(buffer))
        while 0 <= at <= len(buffer) - 4:
            if buffer[at + 1] & 0x7F == ask.function:
                length = self._codec.length(buffer[at:])
                if length is not None and at + length <= len(buffer):
                    if self._codec.is_sound(buffer[at : at + length]):
                        return buffer[at + 1 : at + length - 2], False
                    garbled = True
            at = buffer.find(ask.unit, at + 1)
        return None, garbled


class AsciiLink(LineLink):
    """ASCII framing (Modbus over Serial Line V1.02, 2.5.2)."""

    def __init__(self, name: str, codec: AsciiCodec) -> None:
        super().__init__(name)
        self._codec = codec

    def _find(self) -> tuple[bytes | None, bool]:
        buffer, ask, garbled = bytes(self._buffer), self._asked, False
        heads = [b"%02X%02X" % (ask.unit, function) for function in (ask.function, ask.function | 0x80)]
        *whole, _ = buffer[self._echo(buffer) :].split(b"\r\n")
        for one in whole:
            _, colon, text = one.upper().rpartition(b":")  # a colon begins anew, whatever came before
            if not colon or text[:4] not in heads:
                continue
            try:
                frame = bytes.fromhex(text.decode())
            except ValueError:  # noise in it
                garbled = True
                continue
            if len(frame) > 3 and self._codec.is_sound(frame):
                return frame[1:-1], False
            garbled = True
        return None, garbled
