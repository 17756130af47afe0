"""A store in memory, for tests of what stands on a store."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Self

from devicemesh.store.base import (
    Event,
    Key,
    NotFoundError,
    Object,
    Store,
    StoreUnavailableError,
    alike,
    pack,
)


class MemoryStore(Store):
    """Keeps the store contract without a file. `away` makes every call fail."""

    kind = "memory"

    def __init__(self) -> None:
        self._objects: dict[Key, Object] = {}
        self._owners: dict[Key, dict[str, str]] = {}
        self._version = 0
        self._changed = asyncio.Condition()
        self._log: list[Event] = []
        self.away = False
        self.patches = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None: ...

    def _check(self) -> None:
        if self.away:
            raise StoreUnavailableError("the store is away")

    async def _put(self, kind: str, found: Object) -> None:
        self._log.append(Event(kind, found))
        async with self._changed:
            self._changed.notify_all()

    async def get(self, key: Key) -> Object:
        self._check()
        if key not in self._objects:
            raise NotFoundError(f"there is no {key.kind} `{key.name}`")
        return self._objects[key]

    async def list(self, kind: str, namespace: str | None = None) -> Sequence[Object]:
        self._check()
        return [
            o for k, o in sorted(self._objects.items()) if k.kind == kind and namespace in (None, k.namespace)
        ]

    async def apply(self, bodies: Sequence[Mapping[str, Any]]) -> Sequence[tuple[Key, str]]:
        self._check()
        return [await self._apply(body) for body in bodies]

    async def _apply(self, body: Mapping[str, Any]) -> tuple[Key, str]:
        metadata = body["metadata"]
        key = Key(body["kind"], metadata.get("namespace", "default"), metadata["name"])
        declared = {**body, "metadata": {**metadata, "namespace": key.namespace}}
        owners = {entry["name"]: "apply" for entry in declared["spec"].get("desired", ())}
        old = self._objects.get(key)
        if old is not None:
            kept = [
                entry
                for entry in old.spec.get("desired", ())
                if self._owners[key].get(entry["name"]) != "apply" and entry["name"] not in owners
            ]
            owners |= {entry["name"]: self._owners[key][entry["name"]] for entry in kept}
            if kept:
                desired = [*declared["spec"].get("desired", ()), *kept]
                declared["spec"] = {**declared["spec"], "desired": desired}
            if alike(old.body, declared):
                return key, "unchanged"
        self._owners[key] = owners
        await self._store(key, declared)
        return key, "configured" if old else "created"

    async def _store(self, key: Key, body: Mapping[str, Any]) -> None:
        old = self._objects.get(key)
        self._version += 1
        changed = old is None or not alike(old.spec, body["spec"])
        self._objects[key] = Object(
            key,
            old.uid if old else str(uuid.uuid4()),
            (old.generation if old else 0) + changed,
            self._version,
            "2026-01-01T00:00:00Z",
            pack(body),
            old.status if old else {},
        )
        await self._put("modified" if old else "added", self._objects[key])

    async def delete(self, key: Key) -> None:
        found = await self.get(key)
        del self._objects[key]
        self._version += 1
        await self._put("deleted", found)

    async def set_desired(self, key: Key, values: Mapping[str, Any], owner: str) -> Object:
        found = await self.get(key)
        desired = {e["name"]: e["value"] for e in found.spec.get("desired", ())} | dict(values)
        self._owners.setdefault(key, {}).update(dict.fromkeys(values, owner))
        entries = [{"name": n, "value": v} for n, v in desired.items() if v is not None]
        await self._store(key, {**found.body, "spec": {**found.spec, "desired": entries}})
        return self._objects[key]

    async def patch_status(self, statuses: Mapping[Key, Mapping[str, Any]]) -> None:
        self._check()
        self.patches += 1
        for key, given in statuses.items():
            status = dict(given)
            if isinstance(status.get("properties"), bytes):
                status["properties"] = json.loads(status["properties"])
            if old := self._objects.get(key):
                self._objects[key] = Object(
                    key, old.uid, old.generation, old.version, old.created, old.packed, status
                )

    async def watch(self, kinds: Sequence[str]) -> AsyncIterator[Event]:
        self._check()
        position = len(self._log)
        for found in list(self._objects.values()):
            if found.key.kind in kinds:
                yield Event("added", found)
        yield Event("synced", None)
        while True:
            async with self._changed:
                while len(self._log) <= position:
                    await self._changed.wait()
            event, position = self._log[position], position + 1
            if event.object is not None and event.object.key.kind in kinds:
                yield event
