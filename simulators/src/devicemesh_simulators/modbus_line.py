"""The bytes of a simulated Modbus link: requests in, answers and faults out.

Framing is pymodbus's; tables, signals and faults are ours.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from devicemesh_modbus.endpoint import Frames
from pymodbus.framer import FramerAscii, FramerRTU, FramerSocket
from pymodbus.framer.base import FramerBase
from pymodbus.pdu import DecodePDU

from devicemesh_simulators.bank import WRITES, Bank

_FRAMERS: dict[Frames, type[FramerBase]] = {"mbap": FramerSocket, "rtu": FramerRTU, "ascii": FramerAscii}
NO_ANSWER_FROM_TARGET = 0x0B
MAX_BUFFER = 4096
RTU_SILENCE_S = 0.2
"""Half a request is forgotten after this silence. On a wire it is 3.5 characters; programs are slower."""


class Line:
    """The units of one link, and what they answer."""

    def __init__(self, frames: Frames, rng: random.Random) -> None:
        self.units: dict[int, Bank] = {}
        self.frames = frames
        self._framer = _FRAMERS[frames](DecodePDU(True))
        self._rng = rng

    def request(self, data: bytes) -> tuple[int, int, int, bytes]:
        """The first whole request: (bytes used, unit, transaction, PDU); 0 bytes: more are needed.

        Raises ValueError on what can't be Modbus/TCP (Modbus Messaging on TCP/IP V1.0b, 3.1.3).
        """
        if self.frames == "mbap" and len(data) >= 6:
            size = int.from_bytes(data[4:6])
            if data[2:4] != b"\0\0" or not 2 <= size <= 254:
                raise ValueError("not a Modbus/TCP header")
        try:
            return self._framer.decode(data)
        except ValueError:
            if self.frames != "ascii":
                raise
            return data.find(b"\r\n") + 2, 0, 0, b""  # a line that is not hexadecimal is nobody's

    def answer(self, unit: int, transaction: int, pdu: bytes) -> tuple[bytes, float] | None:
        """The answer's frame and how many seconds late it is to be; None: silence.

        Raises ConnectionAbortedError where a fault wants the connection closed.
        """
        bank = self.units.get(unit)
        if bank is None:
            return self._not_here(unit, transaction, pdu)
        if bank.faults.drops(self._rng):
            return None
        if bank.faults.disconnect:
            raise ConnectionAbortedError
        frame = self._framer.encode(bank.answer(pdu), unit, transaction)
        if bank.faults.garbles(self._rng):
            frame = self._rng.randbytes(len(frame))
        return frame, bank.faults.delay_s

    def _not_here(self, unit: int, transaction: int, pdu: bytes) -> tuple[bytes, float] | None:
        if self.frames == "mbap":  # as a gateway says it
            refusal = bytes((pdu[0] | 0x80, NO_ANSWER_FROM_TARGET))
            return self._framer.encode(refusal, unit, transaction), 0.0
        if unit == 0 and pdu[0] in WRITES:  # a broadcast: all obey, nobody answers (Serial Line V1.02, 2.1)
            for bank in self.units.values():
                if not bank.faults.drops(self._rng):
                    bank.answer(pdu)
        return None


class Conversation:
    """The bytes of one connection."""

    def __init__(self, line: Line, send: Callable[[bytes], None], close: Callable[[], None]) -> None:
        self._line, self._send, self._close = line, send, close
        self._buffer = bytearray()
        self._heard = 0.0
        self._late: set[asyncio.TimerHandle] = set()

    def received(self, data: bytes) -> None:
        """Answer every whole request."""
        now = asyncio.get_running_loop().time()
        if self._line.frames == "rtu" and now - self._heard > RTU_SILENCE_S:
            self._buffer.clear()
        self._heard = now
        self._buffer += data
        try:
            while self._buffer:
                used, unit, transaction, pdu = self._line.request(bytes(self._buffer))
                if not used:
                    break
                del self._buffer[:used]
                if pdu and (answer := self._line.answer(unit, transaction, pdu)):
                    self._answer(*answer)
            if len(self._buffer) > MAX_BUFFER:
                raise ValueError("endless")
        except (ValueError, ConnectionAbortedError):
            self._buffer.clear()
            self._close()

    def _answer(self, frame: bytes, late_s: float) -> None:
        if not late_s:
            self._send(frame)
            return

        def send() -> None:
            self._late.discard(timer)
            self._send(frame)

        timer = asyncio.get_running_loop().call_later(late_s, send)
        self._late.add(timer)

    def end(self) -> None:
        """The connection is gone, late answers with it."""
        for timer in self._late:
            timer.cancel()


class Stream(asyncio.Protocol):
    """One TCP connection."""

    def __init__(self, line: Line, connections: set[asyncio.Transport]) -> None:
        self._line = line
        self._connections = connections
        self.deaf = False  # half open: it takes what comes, and nothing comes of it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._conversation = Conversation(self._line, transport.write, transport.abort)
        self._connections.add(transport)

    def data_received(self, data: bytes) -> None:
        if not self.deaf:
            self._conversation.received(data)

    def pause_writing(self) -> None:
        """A client that only asks and never listens is not asked for more."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._conversation.end()
        self._connections.discard(self._transport)
