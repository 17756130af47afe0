"""What every mapper promises. The peer is a gateway and a device; it speaks, nobody connects to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from devicemesh_lora.mapper import LoraMapper
from devicemesh_lora.model import LoraCommand
from devicemesh_lora.session import LoraSession, open_session

from devicemesh.mapper import Invocation, LinkError, Mapper, Quality, Subscribable, Write
from devicemesh.spec.values import ValueType
from devicemesh.testing.contract import MapperContract, Peer, Serve, rows, run


class Declaring(LoraMapper):
    """A session that knows its points from the start, as a runtime's does after its first subscription."""

    def __init__(self, kit: Any, points: list[Any]) -> None:
        self.kit, self.points = kit, points

    def open(self, endpoint: Any, secrets: Any = None) -> Any:
        return self._opened(endpoint)

    @asynccontextmanager
    async def _opened(self, endpoint: Any) -> AsyncIterator[LoraSession]:
        async with open_session(endpoint, self.kit.read_secret) as session:
            session.declare(self.points)
            yield session


class TestContract(MapperContract):
    @pytest.fixture
    def points(self, kit: Any) -> list[Any]:
        port = kit.free_port()
        node, gateway = kit.node(port, writeTimeout="5s", lifetime="300ms"), kit.gateway(port)
        return [
            kit.point(0, node, "float64", port=2, offset=0, type="int16", scale=0.5),
            kit.point(1, node, "string", stat="dataRate"),
            kit.point(2, gateway, "uint32", stat="rxok"),
            kit.point(3, node, "int32", port=2, offset=30),
        ]

    @pytest.fixture
    def mapper(self, kit: Any, points: list[Any]) -> Mapper[Any, Any]:
        return Declaring(kit, points)

    @pytest.fixture
    def serve(self, kit: Any, points: list[Any]) -> Serve:
        node = points[0].endpoint

        async def speak(radio: Any) -> None:
            counter = 0
            while True:
                counter += 1
                radio.pull()
                radio.push({"stat": {"rxok": 5}})
                radio.uplink(kit.frame(counter, b"\x00\x2b"))
                await asyncio.sleep(0.05)

        @asynccontextmanager
        async def serving() -> AsyncIterator[Peer]:
            loop = asyncio.get_running_loop()
            transport, radio = await loop.create_datagram_endpoint(kit.radio, remote_addr=node.address)
            task = asyncio.create_task(speak(radio))

            async def stop() -> None:
                task.cancel()
                await asyncio.wait({task})

            call = Invocation(
                "default/n",
                "reset",
                node,
                LoraCommand(port=7, payload="aa"),
                {"s": 5},
                {"s": ValueType.UINT8},
            )
            refused = Invocation(
                "default/n", "reset", node, LoraCommand(port=7), {"s": 500}, {"s": ValueType.UINT8}
            )
            try:
                yield Peer(
                    points=[(points[0], 21.5), (points[1], "SF7BW125"), (points[2], 5)],
                    bad=points[3],
                    writable=(points[0], 10.0),
                    refused=Write(points[0], 1e9),
                    stop=stop,
                    call=(call, {"gateway": kit.gateway_eui, "bytes": "aa05"}),
                    refused_calls=[refused],
                )
            finally:
                await stop()
                transport.close()
                await asyncio.sleep(0)

        return serving

    def test_a_peer_that_dies_ends_its_subscription(self, mapper: Any, serve: Serve) -> None:
        """Nobody is connected to, so nobody is lost: who is silent for its lifetime turns bad."""

        async def work() -> None:
            async with serve() as peer, mapper.open(peer.endpoint) as session:
                assert isinstance(session, Subscribable)
                points = [point for point, _ in peer.points]
                async with contextlib.aclosing(session.subscribe(points)) as batches:
                    await anext(batches)
                    await peer.stop()
                    async for batch in batches:
                        found = [row for row in rows(batch) if row.quality == Quality.NO_ANSWER]
                        if found:
                            assert "has sent nothing to" in str(found[0].error)
                            break

        run(work())

    def test_nobody_there_is_a_link_error(self, mapper: Any, serve: Serve) -> None:
        """It listens: what can fail is that the address is taken."""

        async def work() -> None:
            async with serve() as peer, mapper.open(peer.endpoint):
                with pytest.raises(LinkError) as caught:
                    async with mapper.open(peer.endpoint):
                        pytest.fail("two listeners")
                assert peer.endpoint.link() in str(caught.value), "the message must name the link"

        run(work())

    def test_a_write_is_read_back(self, mapper: Any, serve: Serve) -> None:
        """A device can't be asked: the outcome of a write that was sent has no value."""

        async def work() -> None:
            async with serve() as peer, mapper.open(peer.endpoint) as session:
                outcomes = await session.write([Write(*peer.writable)])
                assert [(o.value, o.error) for o in outcomes] == [(None, None)]

        run(work())

    def test_a_refused_write_is_an_outcome(self, mapper: Any, serve: Serve) -> None:
        async def work() -> None:
            async with serve() as peer, mapper.open(peer.endpoint) as session:
                first, second = await session.write([peer.refused, Write(*peer.writable)])
                assert first.error is not None and str(first.error)
                assert (second.value, second.error) == (None, None)

        run(work())
