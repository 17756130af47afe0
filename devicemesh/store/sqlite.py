"""The embedded store: `Database` for asyncio, in one worker thread; its watch sees other processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

from devicemesh.store.base import Event, Key, Object, Store
from devicemesh.store.database import Changes, Database

T = TypeVar("T")


class SqliteStore(Store):
    """`Database` for asyncio: one worker thread, and a watch that sees other processes' edits."""

    kind = "sqlite"

    def __init__(self, path: Path, poll_s: float = 0.1) -> None:
        self._path = path
        self._poll_s = poll_s
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._watchers: set[asyncio.Event] = set()

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work, *arguments)

    async def __aenter__(self) -> Self:
        self._database = await self._run(Database, self._path)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._run(self._database.close)
        self._worker.shutdown()

    async def get(self, key: Key) -> Object:
        return await self._run(self._database.get, key)

    async def list(self, kind: str, namespace: str | None = None) -> Sequence[Object]:
        return await self._run(self._database.list, kind, namespace)

    async def apply(self, bodies: Sequence[Mapping[str, Any]]) -> Sequence[tuple[Key, str]]:
        return await self._edit(self._database.apply, bodies)

    async def delete(self, key: Key) -> None:
        await self._edit(self._database.delete, key)

    async def set_desired(self, key: Key, values: Mapping[str, Any], owner: str) -> Object:
        return await self._edit(self._database.set_desired, key, values, owner)

    async def _edit(self, work: Callable[..., T], *arguments: Any) -> T:
        result = await self._run(work, *arguments)
        for changed in self._watchers:  # data_version does not tell of our own connection's writes
            changed.set()
        return result

    async def patch_status(self, statuses: Mapping[Key, Mapping[str, Any]]) -> None:
        await self._run(self._database.patch_status, statuses)

    async def watch(self, kinds: Sequence[str]) -> AsyncIterator[Event]:
        known: dict[Key, Object] = {}
        changed = asyncio.Event()
        self._watchers.add(changed)
        try:
            since = seen = -1
            while True:
                found: Changes = await self._run(self._database.changes, kinds, since)
                for event in _events(known, found):
                    yield event
                if since < 0:
                    yield Event("synced", None)
                since = found.version
                seen = await self._wait(changed, seen)
        finally:
            self._watchers.discard(changed)

    async def _wait(self, changed: asyncio.Event, seen: int) -> int:
        """Until somebody may have written: we (`changed`), or another process (data_version)."""
        while True:
            try:
                await asyncio.wait_for(changed.wait(), self._poll_s)
            except TimeoutError:
                version = await self._run(self._database.data_version)
                if version != seen:
                    return version
            else:
                changed.clear()
                return seen


def _events(known: dict[Key, Object], found: Changes) -> Iterator[Event]:
    """What differs from `known`, which is brought up to date."""
    if found.complete:
        for gone in known.keys() - {row.key for row, _ in found.rows}:
            yield Event("deleted", known.pop(gone))
    for row, deleted in found.rows:
        before = known.get(row.key)
        if deleted:
            if known.pop(row.key, None):
                yield Event("deleted", row)
        elif before is None or before.version != row.version:
            known[row.key] = row
            yield Event("modified" if before else "added", row)
