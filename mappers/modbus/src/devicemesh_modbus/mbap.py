"""Modbus/TCP frames: answers are told apart by transaction id (TCP, TLS, UDP)."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from devicemesh_modbus.link import Answer, Ask, Link, words

MAX_NOISE = 4096
"""Bytes in which a modem's answer is looked for."""


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
        self._fail(f"nobody listens at {self.name}: {words(exc)}", exc)

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


class DialledMbapLink(MbapLink):
    """The same in a stream of a modem, which says other things in between: who it is, that it still lives.

    So what is no answer to a request is passed over, and ids begin anywhere: what some loggers say unasked
    bears the id 1.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name, datagrams=False)
        self._tid = random.randrange(0xFFFF)

    def send(self, ask: Ask) -> asyncio.Future[Answer | None]:
        if not self._pending:
            self._rest = b""
        return super().send(ask)

    def data_received(self, data: bytes) -> None:
        now_ns = time.time_ns()
        self.heard += 1
        data = self._rest + data
        for tid, (_, unit, _) in list(self._pending.items()):
            at, end = self._frame(data, tid, unit)
            if end:
                self._deliver(tid, unit, data[at + 7 : end], now_ns)
                data = data[end:]
        self._rest = data[-MAX_NOISE:] if self._pending else b""

    @staticmethod
    def _frame(data: bytes, tid: int, unit: int) -> tuple[int, int]:
        """Where the answer begins and ends; (0, 0) while it is not there."""
        head = tid.to_bytes(2) + b"\0\0\0"
        at = data.find(head)
        while 0 <= at <= len(data) - 8:
            length, end = data[at + 5], at + 6 + data[at + 5]
            if 2 <= length <= 254 and data[at + 6] == unit and end <= len(data):
                return at, end
            at = data.find(head, at + 1)
        return 0, 0

    def _expire(self) -> None:
        if self._rest:
            shown = self._rest[:8].hex(" ")
            self.stray = f"{len(self._rest)} bytes that are no answer in Modbus/TCP ({shown})"
        super()._expire()
