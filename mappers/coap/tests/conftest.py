"""Devices to test against: aiocoap's server, one that says what a test tells it to, and a bad line."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from devicemesh_coap.model import CoapAddress, CoapEndpoint

from devicemesh.mapper import Point
from devicemesh.spec.telemetry import Telemetry
from devicemesh.spec.values import ValueType
from devicemesh.testing import contract
from devicemesh.testing.datagrams import DatagramProxy
from devicemesh.testing.waiting import until

sys.path.append(str(Path(__file__).parent))  # the fork server imports the plant by its name
PATIENCE_S = 30.0


def pytest_configure(config: pytest.Config) -> None:
    """aiocoap's DTLS connection warns where the collector of cycles comes before its own end, and then ends.

    For all tests: the collector comes when it likes. As an error it would keep the connection from its end.
    """
    config.addinivalue_line("filterwarnings", "ignore:DTLS module did not shut down:UserWarning")


class Plant:
    """A server in another process; every method of `coap_plant.PlantServer` can be awaited."""

    def __init__(self, port: int = 0) -> None:
        import coap_plant

        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["pytest", "coap_plant"])
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=coap_plant.main, args=(theirs, port), daemon=True)
        with patch.dict(os.environ, PYTHONPATH=str(Path(__file__).parent)):  # for its preloading
            self.process.start()
        theirs.close()
        self.port = self._answer()

    def _answer(self) -> Any:
        if not self._pipe.poll(PATIENCE_S):
            raise TimeoutError("the plant does not answer")
        done, answer = self._pipe.recv()
        assert done, answer
        return answer

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def ask(*args: Any, **kwargs: Any) -> Any:
            self._pipe.send((name, args, kwargs))
            return await asyncio.to_thread(self._answer)

        return ask

    def endpoint(self, **fields: Any) -> CoapEndpoint:
        scheme = fields.pop("scheme", "coap")
        wish = {"uri": f"{scheme}://127.0.0.1:{self.port}", "timeout": "5s", "ackTimeout": "500ms", **fields}
        return CoapEndpoint.model_validate(wish)

    async def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self._pipe.close()


@asynccontextmanager
async def running_plant(port: int = 0) -> AsyncIterator[Plant]:
    plant = Plant(port)
    try:
        yield plant
    finally:
        await plant.stop()


@pytest.fixture
def serve_plant() -> Callable[..., Any]:
    """aiocoap's server for the time of an `async with`."""
    return running_plant


class RawPeer(asyncio.DatagramProtocol):
    """A device without manners: each datagram is given to `answer`, which says what to send back."""

    def __init__(self, answer: Callable[[bytes], list[bytes]]) -> None:
        self.answer = answer
        self.heard: list[bytes] = []
        self.port = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.heard.append(data)
        self.caller = address
        for reply in self.answer(data):
            self.transport.sendto(reply, address)

    def send(self, data: bytes) -> None:
        self.transport.sendto(data, self.caller)


def is_ping(data: bytes) -> bool:
    return data[1] == 0 and data[0] >> 4 == 4


@asynccontextmanager
async def running_raw_peer(answer: Callable[[bytes], list[bytes]]) -> AsyncIterator[RawPeer]:
    """Pings are answered; all else is the test's."""

    def with_pings(data: bytes) -> list[bytes]:
        return [bytes((0x70, 0, data[2], data[3]))] if is_ping(data) else answer(data)

    loop = asyncio.get_running_loop()
    transport, peer = await loop.create_datagram_endpoint(
        lambda: RawPeer(with_pings), local_addr=("127.0.0.1", 0)
    )
    try:
        yield peer
    finally:
        transport.close()
        await asyncio.sleep(0)


@pytest.fixture
def raw_peer() -> Callable[..., Any]:
    return running_raw_peer


@pytest.fixture
def lossy_line() -> Callable[[int, int], DatagramProxy]:
    """(port of a server, seed): a line that can be made bad, for an `async with`."""
    return lambda port, seed: DatagramProxy(("127.0.0.1", port), random.Random(seed))


def make_point(slot: int, endpoint: CoapEndpoint, type_: str, address: Any, **telemetry: Any) -> Any:
    place = {"path": address} if isinstance(address, str) else address
    wish = Telemetry.model_validate({"sampling_interval": "50ms", **telemetry})
    where = CoapAddress.model_validate(place)
    return Point(slot, "default/thing", f"p{slot}", ValueType(type_), endpoint, where, wish)


@pytest.fixture
def point() -> Callable[..., Any]:
    """A point of a device: (slot, endpoint, type, path or address)."""
    return make_point


@pytest.fixture
def run() -> Callable[[Any], None]:
    """Run a test's coroutine; it must end in time and leave no task behind."""
    return contract.run


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    return until
