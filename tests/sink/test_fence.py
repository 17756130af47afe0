"""A sink behind a fence: not a byte leaves while it is shut, and what others speak for is not said again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from devicemesh.sink.wire import PacketSocket
from devicemesh.testing.broker import RealBroker
from devicemesh.testing.waiting import until

needs_broker = pytest.mark.skipif(not RealBroker.available(), reason="no MQTT broker is installed")


class Sock:
    """A socket that takes everything."""

    def __init__(self) -> None:
        self.sent = b""

    def send(self, data: Any) -> int:
        self.sent += bytes(data)
        return len(data)

    def recv(self, size: int) -> bytes:
        raise BlockingIOError

    def close(self) -> None: ...

    def fileno(self) -> int:
        return -1

    def setblocking(self, flag: bool) -> None: ...


def test_what_waits_in_the_buffer_when_it_shuts_never_leaves() -> None:
    sock, holds = Sock(), True
    wire = PacketSocket(sock, 1 << 20)
    wire.fence = lambda: holds
    wire.send(b"one")
    assert wire.flush()
    wire.send(b"two")
    holds = False
    with pytest.raises(ConnectionAbortedError, match="has lost its Lease"):
        wire.flush()
    wire.close()
    assert sock.sent == b"one"


@needs_broker
def test_it_leaves_the_broker_when_it_shuts_and_comes_back(rig: Any, consumer: Any) -> None:
    async def scenario() -> None:
        holds = False
        async with rig.sink(broker.url, fence=lambda: holds) as sink:
            sink.retain("default/pump-0", "status", {"state": "Ready"})
            sink.retain("default/pump-1", "status", {"state": "Ready"})
            rig.put(5)
            await asyncio.sleep(0.5)
            assert not sink.stats().up and seen.messages == []
            holds = True
            await rig.up()
            assert await sink.drain(10)
            await until(lambda: len(seen.on("pump-0/telemetry")) == 5 and seen.on("pump-1/status"))
            holds = False
            await until(lambda: not sink.stats().up)
            await until(lambda: b"connection lost" in (seen.on("_runtime/test/status") or [b""])[-1])
            rig.put(5)
            sink.release("default/pump-1")
            heard = len(seen.messages)
            await asyncio.sleep(0.5)
            assert len(seen.messages) == heard
            holds = True
            await rig.up()
            await until(lambda: len(seen.on("pump-0/telemetry")) == 10 and len(seen.on("pump-0/status")) == 2)
            assert await sink.drain(10)
            assert len(seen.on("pump-1/status")) == 1, "another speaks for it"
            rig.conserved()

    with RealBroker() as broker, consumer(broker.port, "devicemesh/v1/#") as seen:
        asyncio.run(scenario())
