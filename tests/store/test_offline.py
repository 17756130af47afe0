"""A store whose server goes away: the contract, a start without it, edits on both sides."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from devicemesh.store.base import Event, Key, NotFoundError, RefusedError, Store, StoreUnavailableError
from devicemesh.store.merge import Policy
from devicemesh.store.offline import OfflineStore
from devicemesh.store.sqlite import SqliteStore
from devicemesh.testing.memory import MemoryStore
from devicemesh.testing.store import KEY, StoreContract, body

NS = 10**9


class TestOfflineStore(StoreContract):
    """With its server there it is the server's store."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self._path = tmp_path
        self._opened = 0

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Store]:
        self._opened += 1
        remote = SqliteStore(self._path / "server.db", poll_s=0.02)
        async with OfflineStore(remote, self._path / f"home-{self._opened}.db", "newest") as store:
            yield store


class Away(MemoryStore):
    """A server that can be away, also for edits, and says when values were set."""

    async def set_desired(self, key: Key, values: Any, owner: str) -> Any:
        self._check()
        return await super().set_desired(key, values, owner)

    async def get(self, key: Key) -> Any:
        import dataclasses

        return dataclasses.replace(await super().get(key), edited={"": self.edited_s})

    edited_s = 0


class Scene:
    def __init__(self, path: Path, policy: Policy = "newest") -> None:
        self.server = Away()
        self.now_s = 1000
        self._path, self._policy = path, policy

    def home(self) -> OfflineStore:
        return OfflineStore(self.server, self._path / "home.db", self._policy, lambda: self.now_s * NS)

    async def desired(self, where: Store) -> dict[str, Any]:
        return {d["name"]: d["value"] for d in (await where.get(KEY)).spec.get("desired", ())}


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.setattr("devicemesh.store.offline.START_S", 0.2)
    monkeypatch.setattr("devicemesh.store.offline.FIRST_RETRY_S", 0.02)

    def run(scene: Callable[[Scene], Awaitable[None]], policy: Policy = "newest") -> None:
        async def main() -> None:
            async with asyncio.timeout(15):
                await scene(Scene(tmp_path, policy))

        asyncio.run(main())

    return run


async def until_synced(watch: AsyncIterator[Event]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    async for event in watch:
        if event.type == "synced":
            return found
        assert event.object is not None
        found[event.object.key.name] = event.object
    raise AssertionError("unreachable")


async def seen_once(scene: Scene) -> None:
    """The home has heard the server."""
    async with scene.home() as store:
        await until_synced(store.watch(("Device",)))


def test_a_start_without_the_server_shows_what_it_said_last(play: Callable[..., None]) -> None:
    async def test(scene: Scene) -> None:
        await scene.server.apply([body("a"), body("b")])
        await seen_once(scene)
        await scene.server.delete(Key("Device", "default", "a"))
        await scene.server.apply([body("c")])
        scene.server.away = True
        async with scene.home() as store:
            watch = store.watch(("Device",))
            assert set(await until_synced(watch)) == {"a", "b"}
            scene.server.away = False
            changes = {
                (e.type, e.object.key.name) for e in [await anext(watch), await anext(watch)] if e.object
            }
            assert changes == {("deleted", "a"), ("added", "c")}

    play(test)


def test_a_server_that_does_not_answer_is_away_too(play: Callable[..., None]) -> None:
    class Silent(Away):
        async def watch(self, kinds: Any) -> AsyncIterator[Event]:
            await asyncio.sleep(3600)
            yield Event("synced", None)

    async def test(scene: Scene) -> None:
        await scene.server.apply([body("a")])
        await seen_once(scene)
        scene.server = Silent()
        async with scene.home() as store:
            assert set(await until_synced(store.watch(("Device",)))) == {"a"}

    play(test)


def test_without_a_server_and_without_a_past_there_is_nothing_to_start_from(
    play: Callable[..., None],
) -> None:
    async def test(scene: Scene) -> None:
        scene.server.away = True
        async with scene.home() as store:
            with pytest.raises(StoreUnavailableError, match="the store is away"):
                await until_synced(store.watch(("Device",)))
            with pytest.raises(StoreUnavailableError):
                await store.get(KEY)
            with pytest.raises(StoreUnavailableError):
                await store.set_desired(KEY, {"speed": 1}, "mqtt")

    play(test)


def test_an_edit_made_meanwhile_holds_at_once_and_is_told_to_the_server(play: Callable[..., None]) -> None:
    async def test(scene: Scene) -> None:
        await scene.server.apply([body(desired={"speed": 1, "level": 1})])
        async with scene.home() as store:
            watch = store.watch(("Device",))
            await until_synced(watch)
            scene.server.away = True
            await store.set_desired(KEY, {"speed": 5, "level": None}, "mqtt")
            event = await anext(watch)
            assert event.object is not None
            assert event.object.spec["desired"] == [{"name": "speed", "value": 5}]
            assert await scene.desired(store) == {"speed": 5}
            scene.server.away = False
            while await scene.desired(scene.server) != {"speed": 5}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    play(test)


def test_an_edit_survives_a_restart_without_the_server(play: Callable[..., None]) -> None:
    async def test(scene: Scene) -> None:
        await scene.server.apply([body()])
        await seen_once(scene)
        scene.server.away = True
        async with scene.home() as store:
            await store.set_desired(KEY, {"speed": 5}, "mqtt")
        async with scene.home() as store:
            assert await scene.desired(store) == {"speed": 5}
            scene.server.away = False
            while await scene.desired(scene.server) != {"speed": 5}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        async with scene.home() as store:
            assert await scene.desired(store) == {"speed": 5}

    play(test)


@pytest.mark.parametrize(
    ("policy", "there_s", "holds"),
    [("newest", 2000, 7), ("newest", 500, 5), ("cloud", 500, 7), ("edge", 2000, 5)],
)
def test_edits_on_both_sides_are_merged_and_the_loser_is_told(
    play: Callable[..., None], policy: Policy, there_s: int, holds: int
) -> None:
    async def test(scene: Scene) -> None:
        await scene.server.apply([body(desired={"speed": 1})])
        async with scene.home() as store:
            watch = store.watch(("Device",))
            await until_synced(watch)
            scene.server.away = True
            await store.set_desired(KEY, {"speed": 5}, "mqtt")
            scene.server.edited_s = there_s
            scene.server.away = False
            await scene.server.set_desired(KEY, {"speed": 7}, "cli")
            while True:
                event = await anext(watch)
                assert event.object is not None
                if event.object.overruled:
                    break
            assert await scene.desired(scene.server) == {"speed": holds}
            assert await scene.desired(store) == {"speed": holds}
            lost = {5: "5 was set here", 7: "7 was set on the server"}[12 - holds]
            assert event.object.overruled["speed"].startswith(lost)
            await store.set_desired(KEY, {"speed": 9}, "mqtt")
            while (event := await anext(watch)).object is None or event.object.overruled:
                pass

    play(test, policy)


def test_what_was_deleted_meanwhile_is_gone(play: Callable[..., None]) -> None:
    async def test(scene: Scene) -> None:
        await scene.server.apply([body()])
        async with scene.home() as store:
            watch = store.watch(("Device",))
            await until_synced(watch)
            scene.server.away = True
            await store.set_desired(KEY, {"speed": 5}, "mqtt")
            scene.server.away = False
            await scene.server.delete(KEY)
            while (await anext(watch)).type != "deleted":
                pass
            with pytest.raises(NotFoundError):
                await store.get(KEY)

    play(test)


def test_a_refusal_is_no_outage(play: Callable[..., None]) -> None:
    class Strict(Away):
        async def set_desired(self, key: Key, values: Any, owner: str) -> Any:
            raise RefusedError("you may not")

    async def test(scene: Scene) -> None:
        scene.server = Strict()
        await scene.server.apply([body()])
        async with scene.home() as store:
            await until_synced(store.watch(("Device",)))
            with pytest.raises(RefusedError):
                await store.set_desired(KEY, {"speed": 5}, "mqtt")
            assert await scene.desired(store) == {}

    play(test)


def test_an_edit_during_the_telling_is_not_lost(play: Callable[..., None]) -> None:
    """Edited again while the first edit is on its way: the server's second is ours, and no conflict."""

    class Slow(Away):
        async def set_desired(self, key: Key, values: Any, owner: str) -> Any:
            found = await super().set_desired(key, values, owner)
            self.edited_s = 9999
            told.set()
            await asyncio.sleep(0.2)
            return found

    told = asyncio.Event()

    async def test(scene: Scene) -> None:
        scene.server = Slow()
        await scene.server.apply([body(desired={"speed": 1})])
        async with scene.home() as store:
            watch = store.watch(("Device",))
            await until_synced(watch)
            scene.server.away = True
            await store.set_desired(KEY, {"speed": 5}, "mqtt")
            scene.server.away = False
            await told.wait()
            await store.set_desired(KEY, {"speed": 6}, "mqtt")
            seen = []
            while await scene.desired(scene.server) != {"speed": 6}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            with contextlib.suppress(TimeoutError):
                while True:
                    event = await asyncio.wait_for(anext(watch), 0.5)
                    assert event.object is not None
                    seen.append(event.object.spec["desired"][0]["value"])
                    assert not event.object.overruled
            assert seen == sorted(seen), "never back to a value of before"
            assert seen[-1] == 6

    play(test)


def test_an_edit_that_is_being_kept_while_the_one_before_is_told_does_not_lose_against_it(
    play: Callable[..., None],
) -> None:
    """Two quick edits when the server is back: the second was overruled by our own first."""

    async def test(scene: Scene) -> None:
        told, keep = asyncio.Event(), threading.Event()

        class Telling(Away):
            async def set_desired(self, key: Key, values: Any, owner: str) -> Any:
                found = await super().set_desired(key, values, owner)
                self.edited_s = 9999
                told.set()
                return found

        scene.server = Telling()
        await scene.server.apply([body(desired={"speed": 1})])
        async with scene.home() as store:
            await until_synced(store.watch(("Device",)))
            scene.server.away = True
            await store.set_desired(KEY, {"speed": 5}, "mqtt")
            kept = store._mirror.edit

            def slow(key: Key, edits: Any) -> None:
                keep.wait(10)
                kept(key, edits)

            store._mirror.edit = slow  # type: ignore[method-assign]
            second = asyncio.create_task(store.set_desired(KEY, {"speed": 6}, "mqtt"))
            await asyncio.sleep(0)
            scene.server.away = False
            await told.wait()
            await asyncio.sleep(0)
            keep.set()
            await second
            while await scene.desired(scene.server) != {"speed": 6}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    play(test)


def test_an_edit_that_can_not_be_kept_is_none(play: Callable[..., None]) -> None:
    async def test(scene: Scene) -> None:
        await scene.server.apply([body(desired={"speed": 1})])
        async with scene.home() as store:
            await until_synced(store.watch(("Device",)))
            scene.server.away = True
            await store.set_desired(KEY, {"speed": 5}, "mqtt")
            kept = store._mirror.edit

            def full(key: Key, edits: Any) -> None:
                raise StoreUnavailableError("database or disk is full")

            store._mirror.edit = full  # type: ignore[method-assign]
            with pytest.raises(StoreUnavailableError, match="full"):
                await store.set_desired(KEY, {"speed": 6, "level": 1}, "mqtt")
            store._mirror.edit = kept  # type: ignore[method-assign]
            assert await scene.desired(store) == {"speed": 5}
            scene.server.away = False
            while await scene.desired(scene.server) != {"speed": 5}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    play(test)


def test_what_the_server_refuses_later_is_told(play: Callable[..., None]) -> None:
    class Strict(Away):
        async def set_desired(self, key: Key, values: Any, owner: str) -> Any:
            self._check()
            raise RefusedError("speed: too fast")

    async def test(scene: Scene) -> None:
        scene.server = Strict()
        await scene.server.apply([body(desired={"speed": 1})])
        async with scene.home() as store:
            watch = store.watch(("Device",))
            await until_synced(watch)
            scene.server.away = True
            await store.set_desired(KEY, {"speed": 5}, "mqtt")
            scene.server.away = False
            while not (event := await anext(watch)).object or not event.object.overruled:
                pass
            assert event.object.spec["desired"] == [{"name": "speed", "value": 1}]
            assert event.object.overruled["speed"] == (
                "5 was set here, but the server refuses it: speed: too fast"
            )

    play(test)
