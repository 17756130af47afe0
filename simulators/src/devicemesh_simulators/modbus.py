"""The Modbus simulator: every declared device, on TCP, UDP or a pseudo-terminal, or dialling in."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import tty
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from devicemesh_modbus.endpoint import ModbusEndpoint

from devicemesh.testing.simulator import SimulatedDevice, Simulation, Simulator, by_link, place
from devicemesh_simulators.bank import Bank
from devicemesh_simulators.modbus_line import MAX_BUFFER, Conversation, Line, Stream
from devicemesh_simulators.modbus_modem import REDIAL, Modem, dialling


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
        self.modems: dict[str, Modem] = {}  # by device, of those who dial in

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
        if fault == REDIAL:
            if arguments or device not in self.modems:
                raise ValueError(f"`{REDIAL}` takes no value, and is of devices with `listen`")
            self.modems[device].redial()
            return "dials in anew; its old connection is half open"
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
                lines: dict[bytes | int | None, Line] = {}  # each modem has its own
                for device in sharing:
                    declared = _endpoint(device)
                    who = declared.identity if endpoint.listen is not None else None
                    if who not in lines:
                        mark = f"{seed} {link}" if who is None else f"{seed} {link} {who!r}"
                        lines[who] = Line(endpoint.frames, random.Random(mark))
                    line = lines[who]
                    bank = line.units.setdefault(declared.unit, Bank(f"{seed}", lambda: loop.time() - start))
                    bank.add(device)
                    simulation.lives(device.name, bank)
                modems = {who: Modem(line, who) for who, line in lines.items() if who is not None}
                simulation.modems |= {d.name: modems[_endpoint(d).identity] for d in sharing if modems}
                live = dialling(endpoint, modems, host) if modems else _served(endpoint, lines[None], host)
                simulation.served(link, await stack.enter_async_context(live))
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
        server = await asyncio.get_running_loop().create_server(lambda: Stream(line, connections), host, port)
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
