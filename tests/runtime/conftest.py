import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from devicemesh.runtime.runtime import Runtime
from devicemesh.settings import Settings
from devicemesh.store.base import Key, Object
from devicemesh.testing.clock import run_virtual
from devicemesh.testing.fake import FakeMapper, FakeSink
from devicemesh.testing.memory import MemoryStore

START_NS = 1_790_000_000 * 10**9


class World:
    """A runtime on fakes, in virtual time."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.loop = loop
        self.wall_ns = lambda: START_NS + round(loop.time() * 1e9)
        self.mapper = FakeMapper(self.wall_ns)
        self.sink = FakeSink()
        self.store = MemoryStore()
        self.runtime = Runtime(
            Settings(status_interval_s=1.0),
            self.store,
            self.sink,
            {"fake": self.mapper},
            rng=random.Random(1),
        )
        self.runtime.pipeline.wall_ns = self.wall_ns

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["World"]:
        async with self.runtime:
            await self.runtime.supervisor.synced.wait()
            yield self

    async def model(self, *properties: dict[str, Any], name: str = "pump", **more: Any) -> None:
        entries = [{"type": "float64", "address": {"fake": {"key": p["name"]}}, **p} for p in properties]
        await self.store.apply(
            [{"apiVersion": "devicemesh.io/v1alpha1", "kind": "DeviceModel", "metadata": {"name": name},
              "spec": {"properties": entries, **more}}]
        )  # fmt: skip

    async def device(self, name: str, host: str = "h1", unit: int = 1, **spec: Any) -> Key:
        await self.store.apply(
            [{"apiVersion": "devicemesh.io/v1alpha1", "kind": "Device", "metadata": {"name": name},
              "spec": {"modelRef": {"name": "pump"}, "endpoint": {"fake": {"host": host, "unit": unit}}, **spec}}]
        )  # fmt: skip
        return Key("Device", "default", name)

    async def status(self, key: Key) -> dict[str, Any]:
        return dict((await self.store.get(key)).status)

    async def condition(self, key: Key, kind: str) -> dict[str, Any]:
        found = (await self.status(key)).get("conditions", ())
        return next((c for c in found if c["type"] == kind), {})

    async def until(self, what: Callable[[], Coroutine[Any, Any, bool]], seconds: float = 120.0) -> float:
        """Wait for a condition; returns the virtual seconds it took."""
        start = self.loop.time()
        while not await what():
            assert self.loop.time() - start < seconds, "did not come true in time"
            await asyncio.sleep(0.01)
        return self.loop.time() - start

    async def ready(self, key: Key, reason: str = "Polling", seconds: float = 120.0) -> float:
        async def check() -> bool:
            return (await self.condition(key, "Ready")).get("reason") == reason

        return await self.until(check, seconds)

    async def applied(self, key: Key, reason: str = "Applied", seconds: float = 120.0) -> dict[str, Any]:
        async def check() -> bool:
            return (await self.condition(key, "DesiredApplied")).get("reason") == reason

        await self.until(check, seconds)
        return await self.condition(key, "DesiredApplied")

    async def object(self, key: Key) -> Object:
        return await self.store.get(key)


@pytest.fixture
def play() -> Callable[[Callable[[World], Coroutine[Any, Any, None]]], None]:
    """Run a scene in a world of its own."""

    def run(scene: Callable[[World], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            await scene(World())

        run_virtual(main())

    return run
