"""What every mapper promises, by ChirpStack: the peer is a broker, and a network server that speaks and obeys."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from devicemesh_lora.broker import Broker, connected
from devicemesh_lora.mapper import LoraMapper
from devicemesh_lora.model import LoraCommand, LoraEndpoint
from devicemesh_lora.servers import ServerSession, account, open_session

from devicemesh.mapper import Invocation, Mapper, Write
from devicemesh.spec.values import ValueType
from devicemesh.testing.broker import RealBroker
from devicemesh.testing.contract import MapperContract, Peer, Serve, run

APP = "b3a1"


class Subscribed(LoraMapper):
    """A session that knows its points from the start, as a runtime's does after its first subscription."""

    def __init__(self, points: list[Any]) -> None:
        self.points = points

    def open(self, endpoint: Any, secrets: Any = None) -> Any:
        return self._opened(endpoint)

    @asynccontextmanager
    async def _opened(self, endpoint: Any) -> AsyncIterator[ServerSession]:
        async with open_session(endpoint) as session:
            session.declare(self.points)
            assert session.broker is not None
            await session.broker.subscribe([f"application/{APP}/device/+/event/+"], 1)
            session.topics = [f"application/{APP}/device/+/event/+"]
            yield session


class TestContract(MapperContract):
    @pytest.fixture
    def points(self, kit: Any) -> list[Any]:
        server = {"broker": f"mqtt://127.0.0.1:{kit.free_port()}", "application": APP}
        node = LoraEndpoint.model_validate({"chirpstack": server, "devEui": kit.eui, "writeTimeout": "5s"})
        return [
            kit.point(0, node, "float64", port=2, offset=0, type="int16", scale=0.5),
            kit.point(1, node, "string", stat="dataRate"),
            kit.point(2, node, "uint32", pointer="/count"),
            kit.point(3, node, "int32", port=2, offset=30),
        ]

    @pytest.fixture
    def mapper(self, points: list[Any]) -> Mapper[Any, Any]:
        return Subscribed(points)

    @pytest.fixture
    def serve(self, kit: Any, points: list[Any]) -> Serve:
        node = points[0].endpoint
        head = f"application/{APP}/device/{kit.eui}/event/"

        @asynccontextmanager
        async def serving() -> AsyncIterator[Peer]:
            with RealBroker("mosquitto", port=node.address[1], configuration="persistence false") as broker:
                speaking: list[Broker] = []

                def obey(topic: str, payload: bytes | None, retained: bool) -> None:
                    told = json.loads(payload or b"{}")
                    done = {"queueItemId": told["id"], "gatewayId": kit.gateway_eui}
                    speaking[0].publish(f"{head}txack", json.dumps(done).encode(), 1)

                async def speak() -> None:
                    for counter in range(10_000):
                        lora = {"bandwidth": 125000, "spreadingFactor": 7}
                        body = {"fCnt": counter, "fPort": 2, "data": base64.b64encode(b"\x00\x2b").decode(),
                                "object": {"count": 5}, "txInfo": {"modulation": {"lora": lora}}}  # fmt: skip
                        speaking[0].publish(f"{head}up", json.dumps(body).encode(), 1)
                        await asyncio.sleep(0.05)

                async with connected(account(node, kit.read_secret), obey) as connection:
                    speaking.append(connection)
                    await connection.subscribe([f"application/{APP}/device/+/command/down"], 1)
                    task = asyncio.create_task(speak())

                    async def stop() -> None:
                        task.cancel()
                        await asyncio.wait({task})
                        await asyncio.to_thread(broker.kill)

                    def call(value: int) -> Invocation[Any]:
                        where = LoraCommand(port=7, payload="aa")
                        return Invocation(
                            "default/n", "reset", node, where, {"s": value}, {"s": ValueType.UINT8}
                        )

                    try:
                        yield Peer(
                            points=[(points[0], 21.5), (points[1], "SF7BW125"), (points[2], 5)],
                            bad=points[3], writable=(points[0], 10.0), refused=Write(points[0], 1e9), stop=stop,
                            call=(call(5), {"gateway": kit.gateway_eui, "bytes": "aa05"}),
                            refused_calls=[call(500)],
                        )  # fmt: skip
                    finally:
                        await stop()

        return serving

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
