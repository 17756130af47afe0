"""The TCP simulator that authors build on: links, ports, and the faults of a line."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from devicemesh.testing.fake import FakeEndpoint
from devicemesh.testing.server import Talk
from devicemesh.testing.simulator import SimulatedDevice
from devicemesh.testing.tcp import TcpSimulator


class Echo(TcpSimulator):
    """Says what it hears, and how many devices are behind it."""

    protocol = "fake"

    def talk(self, devices: Sequence[SimulatedDevice], seed: int) -> Talk:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while line := await reader.readline():
                writer.write(f"{len(devices)} {seed} ".encode() + line)

        return talk


def declared(name: str, link: str) -> SimulatedDevice:
    return SimulatedDevice(name, FakeEndpoint(host=link), [], {}, Path())


async def asked(address: str, within_s: float = 5.0) -> str:
    """What is said to a line, over a connection of its own."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(b"hello\n")
        async with asyncio.timeout(within_s):
            return (await reader.readline()).decode().strip()
    finally:
        writer.transport.abort()


@pytest.fixture
def served() -> Callable[[Callable[[Any], Coroutine[Any, Any, None]]], None]:
    """Run a test's coroutine with two links, one of two devices."""

    def run(work: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            devices = [declared("default/a", "10.0.0.5:7"), declared("default/b", "10.0.0.5:7")]
            devices.append(declared("default/c", "[2001:db8::1]:9"))
            async with Echo().serve(devices, seed=4, host="127.0.0.1") as simulation:
                await work(simulation)

        asyncio.run(main())

    return run


def test_each_link_has_a_server_of_its_devices(served: Any) -> None:
    async def work(simulation: Any) -> None:
        assert set(simulation.addresses) == {"10.0.0.5:7", "[2001:db8::1]:9"}
        assert await asked(simulation.addresses["10.0.0.5:7"]) == "2 4 hello"

    served(work)


def test_faults_are_those_of_the_line(served: Any) -> None:
    async def work(simulation: Any) -> None:
        address = simulation.addresses["10.0.0.5:7"]
        assert simulation.fault("default/a", "unplug", {}) == "silent"
        with pytest.raises(TimeoutError):
            await asked(address, 0.1)
        assert simulation.fault("default/b", "heal", {}) == "healthy", "neighbours share the line"
        assert await asked(address) == "2 4 hello"
        assert simulation.fault("default/a", "delay", {"value": "150ms"}) == "everything 150 ms late"
        began = asyncio.get_running_loop().time()
        assert await asked(address) == "2 4 hello"
        assert asyncio.get_running_loop().time() - began >= 0.15
        simulation.fault("default/a", "heal", {})
        reader, writer = await asyncio.open_connection(*address.split(":"))
        writer.write(b"hello\n")
        assert await reader.readline() == b"2 4 hello\n"
        assert simulation.fault("default/a", "disconnect", {}) == "healthy"
        with pytest.raises(ConnectionResetError):
            await reader.readline()
        writer.close()
        assert await asked(address) == "2 4 hello"

    served(work)


def test_what_is_no_fault_is_answered_with_those_that_are(served: Any) -> None:
    async def work(simulation: Any) -> None:
        with pytest.raises(ValueError, match="`explode` is no fault: delay=500ms, unplug, disconnect, heal"):
            simulation.fault("default/a", "explode", {})
        with pytest.raises(ValueError, match="is not a duration"):
            simulation.fault("default/a", "delay", {"value": "soon"})

    served(work)
