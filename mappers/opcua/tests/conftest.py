"""Servers to test against: asyncua's, with nodes of every kind, and what a test needs of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from asyncua import Server, ua
from devicemesh_opcua.model import OpcUaAddress, OpcUaEndpoint

from devicemesh.mapper import Point
from devicemesh.spec.device import Telemetry
from devicemesh.spec.values import ValueType

PLANT = "urn:plant"
OTHER = "urn:other"


@dataclass
class Plant:
    """A running server and its nodes."""

    server: Server
    port: int
    index: int
    nodes: dict[str, Any] = field(default_factory=dict)
    stopped: bool = False

    def endpoint(self, **fields: Any) -> OpcUaEndpoint:
        return OpcUaEndpoint(url=f"opc.tcp://127.0.0.1:{self.port}", **{"timeout": "2s", **fields})

    async def add(self, name: str, value: Any, kind: Any = None, **variant: Any) -> Any:
        """A writable variable `s=<name>` without a time of its own."""
        node_id = ua.NodeId(name, self.index)
        held = ua.Variant(value, kind, **variant)
        node = await self.server.nodes.objects.add_variable(node_id, f"{self.index}:{name}", held)
        await node.set_writable()
        self.nodes[name] = node
        await self.set(name, value, kind, **variant)
        return node

    async def set(self, name: str, value: Any, kind: Any = None, **data: Any) -> None:
        """Write as the plant does: any status, any time."""
        status = data.pop("status", 0)
        time = data.pop("time", None)
        shown = ua.DataValue(ua.Variant(value, kind, **data), ua.StatusCode(status), time)
        await self.server.write_attribute_value(self.nodes[name].nodeid, shown)

    async def stop(self) -> None:
        if not self.stopped:
            self.stopped = True
            await self.server.stop()


@contextlib.asynccontextmanager
async def plant(port: int = 0, namespaces: tuple[str, ...] = (PLANT,)) -> AsyncIterator[Plant]:
    logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    for uri in namespaces:
        await server.register_namespace(uri)
    index = await server.get_namespace_index(PLANT)
    await server.start()
    bound = server.bserver._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    running = Plant(server, bound, index)
    try:
        yield running
    finally:
        await running.stop()


@pytest.fixture
def serve_plant() -> Callable[..., Any]:
    return plant


def make_point(slot: int, endpoint: OpcUaEndpoint, type_: str, address: Any, **telemetry: Any) -> Any:
    where = OpcUaAddress.model_validate(
        {"node": f"nsu={PLANT};s={address}"} if isinstance(address, str) else address
    )
    wish = Telemetry.model_validate({"sampling_interval": "50ms", **telemetry})
    return Point(slot, "default/plc", f"p{slot}", ValueType(type_), endpoint, where, wish)


@pytest.fixture
def point() -> Callable[..., Any]:
    return make_point


@pytest.fixture
def run() -> Iterator[Callable[[Any], None]]:
    def bounded(work: Any) -> None:
        async def main() -> None:
            async with asyncio.timeout(30):
                await work

        asyncio.run(main())

    yield bounded
