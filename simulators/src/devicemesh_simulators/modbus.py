"""The Modbus simulator: every declared device, on TCP, RTU over TCP, UDP or a pseudo-terminal.

Framing is pymodbus's; tables, signals and faults are ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import tty
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from devicemesh_modbus.model import ModbusEndpoint
from pymodbus.framer import FramerRTU, FramerSocket
from pymodbus.framer.base import FramerBase
from pymodbus.pdu import DecodePDU

from devicemesh.testing.simulator import SimulatedDevice, Simulation, Simulator
from devicemesh_simulators.bank import Bank

log = logging.getLogger("devicemesh.sim")
MAX_BUFFER = 4096


class _Peer:
    """The units of one link, and how bytes become answers. `send` and `close` belong to one connection."""

    def __init__(self, rtu: bool, rng: random.Random) -> None:
        self.units: dict[int, Bank] = {}
        self._framer: FramerBase = (FramerRTU if rtu else FramerSocket)(DecodePDU(True))
        self._rng = rng
        self._rtu = rtu

    def received(self, buffer: bytearray, send: Callable[[bytes], None], close: Callable[[], None]) -> None:
        """Answer every whole request in the buffer and take it out."""
        while buffer:
            used, unit, transaction, pdu = self._framer.decode(bytes(buffer))
            if not used:
                break
            del buffer[:used]
            if pdu:
                self._answer(unit, transaction, pdu, send, close)
        if len(buffer) > MAX_BUFFER:
            close()

    def _answer(
        self,
        unit: int,
        transaction: int,
        pdu: bytes,
        send: Callable[[bytes], None],
        close: Callable[[], None],
    ) -> None:
        bank = self.units.get(unit)
        if bank is None:
            if not self._rtu:  # a gateway says so; on a line nobody answers
                send(self._framer.encode(bytes((pdu[0] | 0x80, 0x0B)), unit, transaction))
            return
        faults = bank.faults
        if faults.drops(self._rng):
            return
        if faults.disconnect:
            close()
            return
        frame = self._framer.encode(bank.answer(pdu), unit, transaction)
        if faults.garbles(self._rng):
            frame = self._rng.randbytes(len(frame))
        if faults.delay_s:
            asyncio.get_running_loop().call_later(faults.delay_s, send, frame)
        else:
            send(frame)


class _Stream(asyncio.Protocol):
    """One TCP connection."""

    def __init__(self, peer: _Peer) -> None:
        self._peer = peer
        self._buffer = bytearray()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._peer.received(self._buffer, self._send, self._transport.abort)

    def _send(self, frame: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(frame)


class _Datagram(asyncio.DatagramProtocol):
    """A UDP socket."""

    def __init__(self, peer: _Peer) -> None:
        self._peer = peer

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._peer.received(bytearray(data), lambda frame: self._transport.sendto(frame, addr), lambda: None)


class ModbusSimulation(Simulation):
    """Running servers."""

    def __init__(self) -> None:
        self._addresses: dict[str, str] = {}
        self.banks: dict[str, Bank] = {}  # by device

    @property
    def addresses(self) -> Mapping[str, str]:
        return self._addresses

    def served(self, link: str, address: str) -> None:
        self._addresses[link] = address

    def fault(self, device: str, fault: str, arguments: Mapping[str, str]) -> str:
        bank = self.banks.get(device)
        if bank is None:
            raise ValueError(f"no simulated device {device}")
        bank.faults = bank.faults.switched(fault, arguments)
        return bank.faults.words()


class ModbusSimulator(Simulator):
    """Serves Modbus."""

    protocol = "modbus"

    @contextlib.asynccontextmanager
    async def serve(
        self, devices: Sequence[SimulatedDevice], *, seed: int, host: str
    ) -> AsyncIterator[Simulation]:
        simulation = ModbusSimulation()
        loop = asyncio.get_running_loop()
        start = loop.time()
        links: dict[str, list[SimulatedDevice]] = {}
        for device in sorted(devices, key=lambda d: d.name):
            links.setdefault(device.endpoint.link(), []).append(device)
        async with contextlib.AsyncExitStack() as stack:
            for link, sharing in links.items():
                endpoint = sharing[0].endpoint
                assert isinstance(endpoint, ModbusEndpoint)
                rtu = endpoint.kind in ("serial", "rtuovertcp")
                peer = _Peer(rtu, random.Random(f"{seed} {link}"))
                for device in sharing:
                    unit = device.endpoint.unit  # type: ignore[attr-defined]
                    if unit not in peer.units:
                        rng = random.Random(f"{seed} {device.name}")
                        peer.units[unit] = Bank(rng, lambda: loop.time() - start)
                    peer.units[unit].add(device)
                    simulation.banks[device.name] = peer.units[unit]
                simulation.served(link, await stack.enter_async_context(_served(endpoint, peer, host)))
            yield simulation


@contextlib.asynccontextmanager
async def _served(endpoint: ModbusEndpoint, peer: _Peer, host: str) -> AsyncIterator[str]:
    """Serve one link; yields where."""
    if endpoint.kind == "tls":
        raise ValueError(f"{endpoint.link()}: TLS can't be simulated, it needs the device's key")
    if endpoint.kind == "serial":
        with _pty(peer) as path:
            yield path
        return
    loop = asyncio.get_running_loop()
    port = endpoint.tcp_port if endpoint.host == host else 0
    if endpoint.kind == "udp":
        transport, _ = await loop.create_datagram_endpoint(lambda: _Datagram(peer), (host, port))
        try:
            yield f"{host}:{transport.get_extra_info('sockname')[1]}"
        finally:
            transport.close()
        return
    server = await loop.create_server(lambda: _Stream(peer), host, port)
    try:
        yield f"{host}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@contextlib.contextmanager
def _pty(peer: _Peer) -> Any:
    """A pseudo-terminal in the place of a serial port; yields its path."""
    loop = asyncio.get_running_loop()
    ours, theirs = os.openpty()
    try:
        tty.setraw(theirs)
        os.set_blocking(ours, False)
        buffer = bytearray()

        def readable() -> None:
            with contextlib.suppress(OSError):
                buffer.extend(os.read(ours, 4096))
            peer.received(buffer, send, buffer.clear)

        def send(frame: bytes) -> None:
            with contextlib.suppress(OSError):
                os.write(ours, frame)

        loop.add_reader(ours, readable)
        try:
            yield os.ttyname(theirs)
        finally:
            loop.remove_reader(ours)
    finally:
        os.close(ours)
        os.close(theirs)
