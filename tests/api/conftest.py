"""A runtime on fakes behind a real socket, and a client that asks it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from devicemesh.api.server import serve
from devicemesh.runtime.runtime import Runtime
from devicemesh.settings import ApiSettings, Settings
from devicemesh.testing.fake import FakeMapper, FakeSink
from devicemesh.testing.memory import MemoryStore

API = "devicemesh.io/v1alpha1"


class Scene:
    """What is declared, and what of it runs."""

    def __init__(self, home: Path) -> None:
        self.store, self.sink, self.mapper = MemoryStore(), FakeSink(), FakeMapper(time.time_ns)
        self.runtime = Runtime(
            Settings(home=home, status_interval_s=0.1), self.store, self.sink, {"fake": self.mapper}
        )
        self.client: httpx.AsyncClient

    async def model(self, *properties: dict[str, Any], name: str = "pump", **more: Any) -> None:
        entries = [{"type": "float64", "address": {"fake": {"key": p["name"]}}, **p} for p in properties]
        for entry in entries:
            entry.setdefault("telemetry", {"samplingInterval": "10ms"})
        await self.store.apply(
            [{"apiVersion": API, "kind": "DeviceModel", "metadata": {"name": name},
              "spec": {"properties": entries, **more}}]
        )  # fmt: skip

    async def device(
        self, name: str, labels: dict[str, str] | None = None, *, host: str = "h", **spec: Any
    ) -> None:
        whole = {"modelRef": {"name": "pump"}, "endpoint": {"fake": {"host": host}}, **spec}
        metadata = {"name": name, "labels": labels or {}}
        await self.store.apply([{"apiVersion": API, "kind": "Device", "metadata": metadata, "spec": whole}])

    async def get(self, path: str, **parameters: Any) -> Any:
        """The JSON of a good answer."""
        answer = await self.client.get(f"/api/v1/{path}", params=parameters or None)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def until(self, what: Callable[[Any], Any], path: str, **parameters: Any) -> Any:
        """Ask until the answer is as wanted; returns it."""
        async with asyncio.timeout(20):
            while not what(found := await self.get(path, **parameters)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return found

    async def state(self, device: str, state: str) -> Any:
        """Wait until a device is so; returns its twin."""
        return await self.until(lambda twin: twin["status"]["state"] == state, f"devices/default/{device}")

    @contextlib.asynccontextmanager
    async def running(self, token: str | None = None) -> AsyncIterator["Scene"]:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        async with (
            self.runtime,
            serve(self.runtime, ApiSettings(port=0), token) as url,
            httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as self.client,
        ):
            await self.runtime.supervisor.synced.wait()
            yield self


Running = Callable[..., AbstractAsyncContextManager[Scene]]


@pytest.fixture
def scene(tmp_path: Path) -> Callable[[], Scene]:
    """Makes a scene, in the loop that it runs in."""
    return lambda: Scene(tmp_path)
