"""A watch on an API server that is away for very long, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from devicemesh.store.base import StoreUnavailableError
from devicemesh.testing.clock import run_virtual

pytest.importorskip("kubernetes.aio", reason="no Kubernetes client. Try: pip install devicemesh[kubernetes]")


def test_a_server_that_is_away_for_days_is_asked_for_ever(tmp_path: Any) -> None:
    from devicemesh.store.kubernetes import KubernetesStore

    store = KubernetesStore(tmp_path / "none")
    asked: list[float] = []

    async def away(path: str, version: str) -> AsyncGenerator[Any]:
        asked.append(asyncio.get_running_loop().time())
        raise StoreUnavailableError("no route to host")
        yield

    async def unanswered(*_: Any, **__: Any) -> Any:
        asked.append(asyncio.get_running_loop().time())
        raise StoreUnavailableError("no route to host")

    async def one_page(kind: str, namespace: str | None = None) -> Any:
        return [], "1"

    async def scene() -> None:
        store.cluster.watch = away  # type: ignore[method-assign]
        store.cluster.request = unanswered  # type: ignore[method-assign]
        store._list = one_page  # type: ignore[method-assign]
        watch = store.watch(("Device",))
        assert (await anext(watch)).type == "synced"
        waiting = asyncio.ensure_future(anext(watch))
        await asyncio.wait({waiting}, timeout=72 * 3600)
        assert not waiting.done()
        assert asked[-1] > 72 * 3600 - 31, "it has given up"
        waiting.cancel()
        await asyncio.wait({waiting})

    run_virtual(scene())


def test_a_bug_in_a_watch_is_not_silence(tmp_path: Any) -> None:
    from devicemesh.store.kubernetes import KubernetesStore

    store = KubernetesStore(tmp_path / "none")

    async def broken(path: str, version: str) -> AsyncGenerator[Any]:
        yield {"type": "ADDED", "object": {"metadata": {}}}

    async def one_page(kind: str, namespace: str | None = None) -> Any:
        return [], "1"

    async def scene() -> None:
        store.cluster.watch = broken  # type: ignore[method-assign]
        store._list = one_page  # type: ignore[method-assign]
        watch = store.watch(("Device",))
        await anext(watch)
        with pytest.raises(KeyError):
            await asyncio.wait_for(anext(watch), 10)

    run_virtual(scene())
