"""The Modbus simulator: every declared device, on TCP, RTU over TCP, UDP or a pseudo-terminal.

Framing is pymodbus's; tables, signals and faults are ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import tty
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

from devicemesh_modbus.endpoint import ModbusEndpoint
from pymodbus.framer import FramerRTU, FramerSocket
from pymodbus.framer.base import FramerBase
from pymodbus.pdu import DecodePDU

from devicemesh.testing.simulator import SimulatedDevice, Simulation, Simulator, by_link, place
from devicemesh_simulators.bank import WRITES, Bank

NO_ANSWER_FROM_TARGET = 0x0B
MAX_BUFFER = 4096
RTU_SILENCE_S = 0.2
"""Half a request is forgotten after this silence. On a wire it is 3.5 characters; programs are slower."""


class Line:
    """The units of one link, and what they answer."""

    def __init__(self, rtu: bool, rng: random.Random) -> None:
        self.units: dict[int, Bank] = {}
        self.rtu = rtu
        self._framer: FramerBase = (FramerRTU if rtu else FramerSocket)(DecodePDU(True))
        self._rng = rng

    def request(self, data: bytes) -> tuple[int, int, int, bytes]:
        """The first whole request: (bytes used, unit, transaction, PDU); 0 bytes: more are needed.

        Raises ValueError on what can't be Modbus/TCP (Modbus Messaging on TCP/IP V1.0b, 3.1.3).
        """
        if not self.rtu and len(data) >= 6:
            size = int.from_bytes(data[4:6])
            if data[2:4] != b"\0\0" or not 2 <= size <= 254:
                raise ValueError("not a Modbus/TCP header")
        return self._framer.decode(data)

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
        if not self.rtu:  # as a gateway says it
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
        if self._line.rtu and now - self._heard > RTU_SILENCE_S:
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


class _Stream(asyncio.Protocol):
    """One TCP connection."""

    def __init__(self, line: Line, connections: set[asyncio.Transport]) -> None:
        self._line = line
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._conversation = Conversation(self._line, transport.write, transport.abort)
        self._connections.add(transport)

    def data_received(self, data: bytes) -> None:
        self._conversation.received(data)

    def pause_writing(self) -> None:
        """A client that only asks and never listens is not asked for more."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._conversation.end()
        self._connections.discard(self._transport)


class _Datagram(asyncio.DatagramProtocol):
    """A UDP socket: each datagram is a conversation of its own."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        def send(frame: bytes) -> None:
            if not self._transport.is_closing():
                self._transport.sendto(frame, addr)

        Conversation(self._line, send, lambda: None).received(data)


class ModbusSimulation(Simulation):
    """Running servers."""

    def __init__(self) -> None:
        self._addresses: dict[str, str] = {}
        self._banks: dict[str, Bank] = {}  # by device

    @property
    def addresses(self) -> Mapping[str, str]:
        return self._addresses

    def lives(self, device: str, bank: Bank) -> None:
        self._banks[device] = bank

    def served(self, link: str, address: str) -> None:
        self._addresses[link] = address

    def fault(self, device: str, fault: str, arguments: Mapping[str, str]) -> str:
        bank = self._banks.get(device)
        if bank is None:
            raise ValueError(f"no simulated device {device}")
        bank.faults = bank.faults.switched(fault, arguments)
        others = [name for name in bank.devices if name != device]
        return bank.faults.words() + (f" (so is {', '.join(others)}, the same unit)" if others else "")


class ModbusSimulator(Simulator):
    """Serves Modbus."""

    protocol = "modbus"

    @contextlib.asynccontextmanager
    async def serve(
        self, devices: Sequence[SimulatedDevice], *, seed: int, host: str
    ) -> AsyncIterator[Simulation]:
        """See `Simulator`. Raises ValueError for what can't be simulated, OSError where it can't listen."""
        simulation = ModbusSimulation()
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with contextlib.AsyncExitStack() as stack:
            for link, sharing in by_link(devices).items():
                endpoint = _agreed(link, sharing)
                line = Line(endpoint.kind in ("serial", "rtuovertcp"), random.Random(f"{seed} {link}"))
                for device in sharing:
                    unit = _endpoint(device).unit
                    bank = line.units.setdefault(unit, Bank(f"{seed}", lambda: loop.time() - start))
                    bank.add(device)
                    simulation.lives(device.name, bank)
                simulation.served(link, await stack.enter_async_context(_served(endpoint, line, host)))
            yield simulation


def _endpoint(device: SimulatedDevice) -> ModbusEndpoint:
    assert isinstance(device.endpoint, ModbusEndpoint)
    return device.endpoint


def _agreed(link: str, sharing: Sequence[SimulatedDevice]) -> ModbusEndpoint:
    """The endpoint of a link. Raises ValueError where it can't be simulated."""
    endpoint = _endpoint(sharing[0])
    for other in sharing[1:]:
        if conflict := endpoint.conflict(_endpoint(other)):
            raise ValueError(f"{sharing[0].name} and {other.name} share {link}, but not: {conflict}")
    if endpoint.kind == "tls":
        names = ", ".join(device.name for device in sharing)
        raise ValueError(
            f"{names}: TLS is not simulated, because only the device has its key;"
            f" to simulate the others, leave {link} out or declare it without TLS"
        )
    return endpoint


@contextlib.asynccontextmanager
async def _served(endpoint: ModbusEndpoint, line: Line, host: str) -> AsyncIterator[str]:
    """Serve one link; yields where."""
    if endpoint.kind == "serial":
        with _pty(line) as path:
            yield path
        return
    serve = _udp if endpoint.kind == "udp" else _tcp
    async with serve(line, *place((endpoint.host or "", endpoint.tcp_port), host)) as (name, port):
        yield f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def _bind_error(host: str, port: int, error: OSError) -> OSError:
    if error.errno == errno.EADDRINUSE:
        return OSError(f"{host}:{port} is used by another program")
    if error.errno == errno.EACCES:
        return OSError(f"{host}:{port} needs root, as all ports below 1024: declare another `port`")
    return OSError(f"can't listen on {host}:{port}: {error.strerror or error}")


@contextlib.asynccontextmanager
async def _tcp(line: Line, host: str, port: int) -> AsyncIterator[tuple[str, int]]:
    connections: set[asyncio.Transport] = set()
    try:
        server = await asyncio.get_running_loop().create_server(
            lambda: _Stream(line, connections), host, port
        )
    except OSError as error:
        raise _bind_error(host, port, error) from error
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()
        for connection in connections:
            connection.abort()
        await asyncio.sleep(0)  # an aborted connection is closed in the next round of the loop


@contextlib.asynccontextmanager
async def _udp(line: Line, host: str, port: int) -> AsyncIterator[tuple[str, int]]:
    loop = asyncio.get_running_loop()
    try:
        transport, _ = await loop.create_datagram_endpoint(lambda: _Datagram(line), (host, port))
    except OSError as error:
        raise _bind_error(host, port, error) from error
    try:
        yield transport.get_extra_info("sockname")[:2]
    finally:
        transport.close()
        await asyncio.sleep(0)


@contextlib.contextmanager
def _pty(line: Line) -> Iterator[str]:
    """A pseudo-terminal in the place of a serial port; yields its path."""
    loop = asyncio.get_running_loop()
    ours, theirs = os.openpty()  # both stay open: a client may come and go

    def send(frame: bytes) -> None:
        with contextlib.suppress(BlockingIOError):  # nobody has listened for long
            os.write(ours, frame)

    conversation = Conversation(line, send, lambda: None)
    try:
        tty.setraw(theirs)
        os.set_blocking(ours, False)
        loop.add_reader(ours, lambda: conversation.received(os.read(ours, MAX_BUFFER)))
        yield os.ttyname(theirs)
    finally:
        conversation.end()
        loop.remove_reader(ours)
        os.close(ours)
        os.close(theirs)
