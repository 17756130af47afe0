"""Simulated devices in this process, and pymodbus's client as a peer that is not ours."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from devicemesh_modbus.endpoint import ModbusEndpoint
from devicemesh_modbus.model import ModbusAddress
from devicemesh_simulators.bank import Bank
from devicemesh_simulators.modbus import ModbusSimulator
from pymodbus import FramerType
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient, AsyncModbusUdpClient

from devicemesh.mapper import Point
from devicemesh.spec.device import Property
from devicemesh.testing.simulator import SimulatedDevice, Simulation

Declare = Callable[..., SimulatedDevice]
Serve = Callable[..., AbstractAsyncContextManager[Simulation]]


def declare_device(
    name: str, properties: Sequence[dict[str, Any]], folder: Path = Path(), **endpoint: Any
) -> SimulatedDevice:
    """A device as its YAML would declare it; by default at 192.0.2.1:502, unit 1."""
    found = {p["name"]: Property.model_validate(p) for p in properties}
    reached = ModbusEndpoint.model_validate(
        endpoint if endpoint.keys() & {"serial", "listen"} else {"host": "192.0.2.1", **endpoint}
    )
    points = [
        Point(
            slot,
            f"default/{name}",
            p.name,
            p.type,
            reached,
            ModbusAddress.model_validate(p.address["modbus"]),
        )
        for slot, p in enumerate(found.values())
    ]
    return SimulatedDevice(f"default/{name}", reached, points, found, folder)


@pytest.fixture(scope="session")
def declare() -> Declare:
    return declare_device


@pytest.fixture(scope="session")
def serve() -> Serve:
    def serving(*devices: SimulatedDevice, seed: int = 1) -> AbstractAsyncContextManager[Simulation]:
        return ModbusSimulator().serve(devices, seed=seed, host="127.0.0.1")

    return serving


@pytest.fixture(scope="session")
def client() -> Callable[..., AbstractAsyncContextManager[Any]]:
    """pymodbus's client, connected: to `host:port` by a transport, or to a serial port."""

    @asynccontextmanager
    async def connected(address: str, transport: str = "tcp", patience: float = 5.0) -> AsyncIterator[Any]:
        options: dict[str, Any] = {"timeout": patience, "retries": 0, "reconnect_delay": 0}
        host, _, port = address.rpartition(":")
        framer = FramerType.ASCII if "ascii" in transport else FramerType.RTU
        if transport.startswith("serial"):
            made: Any = AsyncModbusSerialClient(address, framer=framer, baudrate=115200, **options)
        elif transport == "udp":
            made = AsyncModbusUdpClient(host, port=int(port), **options)
        else:
            framer = FramerType.SOCKET if transport == "tcp" else framer
            made = AsyncModbusTcpClient(host, port=int(port), framer=framer, **options)
        assert await made.connect()
        try:
            yield made
        finally:
            made.close()
            await asyncio.sleep(0)

    return connected


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bank(clock: Clock) -> Callable[..., Bank]:
    """A unit with these properties, on the test's clock."""

    def made(*properties: dict[str, Any], folder: Path = Path()) -> Bank:
        unit = Bank("1", clock)
        unit.add(declare_device("device", properties, folder))
        return unit

    return made
