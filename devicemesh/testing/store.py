"""What every store must do: inherit it, give it a `store` fixture's factory, and run it."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from devicemesh.store.base import Event, Key, NotFoundError, Object, Store

KEY = Key("Device", "default", "pump-1")


def body(name: str = "pump-1", desired: dict[str, Any] | None = None, **labels: str) -> dict[str, Any]:
    """A small device."""
    spec: dict[str, Any] = {"modelRef": {"name": "pump"}, "endpoint": {"custom": {"host": "h"}}}
    if desired:
        spec["desired"] = [{"name": n, "value": v} for n, v in desired.items()]
    metadata: dict[str, Any] = {"name": name, "labels": labels} if labels else {"name": name}
    return {"apiVersion": "devicemesh.io/v1alpha1", "kind": "Device", "metadata": metadata, "spec": spec}


HEALTH = {
    "type": "Ready",
    "status": "True",
    "reason": "Polling",
    "message": "",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}
STATUS = {"conditions": [HEALTH], "properties": [{"name": "speed", "reported": {"value": 1.5}}]}


async def status_is(store: Store, key: Key, status: Mapping[str, Any]) -> Object:
    """The object once it has this status: a store may write it a little later."""
    found = await store.get(key)
    while found.status != status:
        await asyncio.sleep(0.02)
        found = await store.get(key)
    return found


class StoreContract:
    """Subclass it, implement `open` (each call opens the same, initially empty, store)."""

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[Store]: ...

    def run(self, test: Callable[[Store], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            async with asyncio.timeout(20), self.open() as store:
                await test(store)

        asyncio.run(main())

    def test_apply_says_what_it_did(self) -> None:
        async def test(store: Store) -> None:
            assert await store.apply([body()]) == [(KEY, "created")]
            assert await store.apply([body()]) == [(KEY, "unchanged")]
            assert await store.apply([body(line="a")]) == [(KEY, "configured")]
            found = await store.get(KEY)
            assert (found.generation, found.labels) == (1, {"line": "a"})

        self.run(test)

    def test_generation_counts_spec_changes_and_versions_rise(self) -> None:
        async def test(store: Store) -> None:
            await store.apply([body()])
            before = await store.get(KEY)
            await store.apply([body(desired={"speed": 1})])
            after = await store.get(KEY)
            assert after.generation == before.generation + 1
            assert after.version > before.version
            assert after.uid == before.uid

        self.run(test)

    def test_one_is_not_true(self) -> None:
        async def test(store: Store) -> None:
            await store.apply([body(desired={"on": 1})])
            assert await store.apply([body(desired={"on": True})]) == [(KEY, "configured")]
            found = await store.get(KEY)
            assert found.spec["desired"][0]["value"] is True
            assert found.generation == 2

        self.run(test)

    def test_status_is_apart_from_spec(self) -> None:
        async def test(store: Store) -> None:
            await store.apply([body()])
            before = await store.get(KEY)
            await store.patch_status({KEY: STATUS, Key("Device", "default", "gone"): STATUS})
            found = await status_is(store, KEY, STATUS)
            assert (found.body, found.generation) == (before.body, before.generation)
            await store.apply([body(line="b")])
            assert (await store.get(KEY)).status == STATUS

        self.run(test)

    def test_desired_values_of_others_survive_an_apply(self) -> None:
        async def test(store: Store) -> None:
            await store.apply([body(desired={"speed": 1, "fault": 0})])
            await store.set_desired(KEY, {"level": 5}, "cli")
            await store.apply([body(desired={"speed": 2})])
            found = await store.get(KEY)
            assert {d["name"]: d["value"] for d in found.spec["desired"]} == {"speed": 2, "level": 5}
            await store.set_desired(KEY, {"level": None}, "cli")
            assert [d["name"] for d in (await store.get(KEY)).spec["desired"]] == ["speed"]

        self.run(test)

    def test_what_is_not_there(self) -> None:
        async def test(store: Store) -> None:
            for call in (store.get(KEY), store.delete(KEY), store.set_desired(KEY, {"speed": 1}, "cli")):
                with pytest.raises(NotFoundError):
                    await call
            assert await store.list("Device") == []

        self.run(test)

    def test_a_deleted_name_can_be_used_again(self) -> None:
        async def test(store: Store) -> None:
            await store.apply([body()])
            first = await store.get(KEY)
            await store.patch_status({KEY: STATUS})
            await status_is(store, KEY, STATUS)
            await store.delete(KEY)
            assert await store.list("Device") == []
            await store.apply([body()])
            again = await store.get(KEY)
            assert again.uid != first.uid
            assert again.version > first.version
            assert again.status == {}

        self.run(test)

    def test_list_is_by_kind_and_namespace(self) -> None:
        async def test(store: Store) -> None:
            other = body("b")
            other["metadata"]["namespace"] = "site-2"
            await store.apply([body("c"), body("a"), other])
            assert [o.key.name for o in await store.list("Device")] == ["a", "c", "b"]
            assert [o.key.name for o in await store.list("Device", "site-2")] == ["b"]
            assert await store.list("DeviceModel") == []

        self.run(test)

    def test_a_watch_sees_what_is_there_then_what_changes(self) -> None:
        async def test(store: Store) -> None:
            await store.apply([body("a"), body("b")])
            seen: list[tuple[str, str]] = []

            async def next_is(watch: Any, *expected: tuple[str, str]) -> None:
                for one in expected:
                    event: Event = await anext(watch)
                    seen.append((event.type, event.object.key.name if event.object else ""))
                    assert seen[-1] == one

            watch = store.watch(("Device",))
            await next_is(watch, ("added", "a"), ("added", "b"), ("synced", ""))
            await store.set_desired(Key("Device", "default", "a"), {"speed": 1}, "cli")
            await next_is(watch, ("modified", "a"))
            async with self.open() as other:  # another process, for the store
                await other.apply([body("c")])
                await other.delete(Key("Device", "default", "b"))
            await next_is(watch, ("added", "c"), ("deleted", "b"))

        self.run(test)

    def test_status_does_not_disturb_a_watch(self) -> None:
        async def test(store: Store) -> None:
            await store.apply([body("a")])
            watch = store.watch(("Device",))
            assert [(await anext(watch)).type for _ in range(2)] == ["added", "synced"]
            async with self.open() as other:
                key = Key("Device", "default", "a")
                for word in ("one", "two", "three"):
                    status = {**STATUS, "conditions": [{**HEALTH, "message": word}]}
                    await other.patch_status({key: status})
                    await status_is(other, key, status)
                await other.apply([body("z")])
            event = await anext(watch)
            assert (event.type, event.object and event.object.key.name) == ("added", "z")

        self.run(test)
