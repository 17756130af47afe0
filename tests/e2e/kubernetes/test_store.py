"""The store contract on a real API server, and what only such a store has."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import urllib.error
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from devicemesh.store.base import Key, RefusedError, Store, StoreUnavailableError
from devicemesh.testing.store import HEALTH, KEY, STATUS, StoreContract, body, status_is

DEVICES = "/apis/devicemesh.io/v1alpha1/devices"
IN_DEFAULT = "/apis/devicemesh.io/v1alpha1/namespaces/default/devices"
APPLY = "application/apply-patch+yaml"


@pytest.fixture(autouse=True)
def empty(api_server: Any) -> Iterator[None]:
    """Each test begins and ends with no devices."""
    with contextlib.suppress(urllib.error.HTTPError):
        api_server.ask("POST", "/api/v1/namespaces", {"metadata": {"name": "site-2"}})
    yield
    for found in api_server.ask("GET", DEVICES)["items"]:
        namespace, name = found["metadata"]["namespace"], found["metadata"]["name"]
        api_server.ask("DELETE", f"/apis/devicemesh.io/v1alpha1/namespaces/{namespace}/devices/{name}")


@contextlib.asynccontextmanager
async def opened(api_server: Any, user: str = "admin") -> AsyncIterator[Any]:
    from devicemesh.store.kubernetes import KubernetesStore

    async with KubernetesStore(api_server.kubeconfig(user)) as store:
        yield store


class TestKubernetesStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _server(self, api_server: Any) -> None:
        self._api_server = api_server

    def open(self) -> contextlib.AbstractAsyncContextManager[Store]:
        return opened(self._api_server)


def test_a_users_own_manager_keeps_what_it_declared(api_server: Any) -> None:
    """kubectl apply --server-side, an application's desired entry and the runtime's status live side by side."""

    async def scene() -> None:
        async with opened(api_server) as store:
            api_server.ask(
                "PATCH",
                f"{IN_DEFAULT}/pump-1?fieldManager=kubectl",
                body(desired={"speed": 1}),
                content=APPLY,
            )
            await store.set_desired(KEY, {"level": 5}, "cli")
            await store.patch_status({KEY: STATUS})
            await status_is(store, KEY, STATUS)
            api_server.ask(
                "PATCH",
                f"{IN_DEFAULT}/pump-1?fieldManager=kubectl",
                body(desired={"speed": 2}),
                content=APPLY,
            )
            found = await store.get(KEY)
            assert {d["name"]: d["value"] for d in found.spec["desired"]} == {"speed": 2, "level": 5}
            assert found.status == STATUS
            managers = {
                one["manager"]
                for one in api_server.ask("GET", f"{IN_DEFAULT}/pump-1")["metadata"]["managedFields"]
            }
            assert managers == {"kubectl", "devicemesh-cli", "devicemesh-runtime", "devicemesh-controller"}

    asyncio.run(scene())


def test_wrong_manifests_are_refused_with_the_rules_message(api_server: Any) -> None:
    async def scene() -> None:
        async with opened(api_server) as store:
            two = body()
            two["spec"] = {**two["spec"], "endpoint": {"modbus": {"host": "h"}, "custom": {"host": "h"}}}
            with pytest.raises(RefusedError, match="give exactly one protocol"):
                await store.apply([body("good"), two])
            unknown = body()
            unknown["spec"] = {**unknown["spec"], "endpiont": {}}
            with pytest.raises(RefusedError, match="endpiont"):
                await store.apply([unknown])
            assert await store.list("Device") == [], "all are tried before the first is written"

    asyncio.run(scene())


@pytest.mark.parametrize("value", [1 << 63, [{"at": -(1 << 63) - 1}]])
def test_an_integer_that_the_server_would_round_is_refused(api_server: Any, value: Any) -> None:
    async def scene() -> None:
        async with opened(api_server) as store:
            await store.apply([body(desired={"total": 1})])
            with pytest.raises(RefusedError, match="total: the API server keeps no integer beyond int64"):
                await store.set_desired(KEY, {"total": value}, "mqtt")
            largest = (1 << 63) - 1
            found = await store.set_desired(KEY, {"total": largest}, "mqtt")
            assert found.spec["desired"] == [{"name": "total", "value": largest}]

    asyncio.run(scene())


def test_a_user_without_rights_gets_a_clear_error(api_server: Any) -> None:
    async def scene() -> None:
        async with opened(api_server, "nobody") as store:
            with pytest.raises(RefusedError, match='"nobody" cannot list resource "devices"'):
                await store.list("Device")

    asyncio.run(scene())


def test_a_server_that_is_not_there_is_a_store_that_is_away(tmp_path: Any) -> None:
    from devicemesh.store.kubernetes import KubernetesStore

    async def scene() -> None:
        file = tmp_path / "config"
        file.write_text(
            '{"current-context": "c", "clusters": [{"name": "k", "cluster": {"server": "http://127.0.0.1:1"}}],'
            ' "users": [], "contexts": [{"name": "c", "context": {"cluster": "k", "user": ""}}]}'
        )
        async with KubernetesStore(file) as store:
            with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:1 can't be reached"):
                await store.get(KEY)
        with pytest.raises(StoreUnavailableError, match="no way to an API server"):
            async with KubernetesStore(tmp_path / "none"):
                pass

    asyncio.run(scene())


def test_a_listing_comes_in_pages(api_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devicemesh.store.kubernetes.PAGE", 3)

    async def scene() -> None:
        async with opened(api_server) as store:
            await store.apply([body(f"pump-{number}") for number in range(8)])
            assert [one.key.name for one in await store.list("Device")] == [f"pump-{n}" for n in range(8)]

    asyncio.run(scene())


def test_a_watch_outlives_a_server_that_is_killed(api_server: Any) -> None:
    async def scene() -> None:
        async with opened(api_server) as store:
            await store.apply([body("a"), body("b")])
            watch = store.watch(("Device",))
            assert [(await anext(watch)).type for _ in range(3)] == ["added", "added", "synced"]
            waiting = asyncio.ensure_future(anext(watch))
            await asyncio.sleep(0)
            await asyncio.to_thread(api_server.kill)
            await asyncio.to_thread(api_server.start)
            await store.set_desired(Key("Device", "default", "a"), {"speed": 1}, "cli")
            await store.delete(Key("Device", "default", "b"))
            events = [await asyncio.wait_for(waiting, 60), await asyncio.wait_for(anext(watch), 60)]
            assert {(e.type, e.object.key.name) for e in events if e.object} == {
                ("modified", "a"),
                ("deleted", "b"),
            }
            await watch.aclose()

    asyncio.run(scene())


def test_a_store_leaves_no_connection_to_a_silent_server(api_server: Any) -> None:
    """A TLS connection ends with both sides' farewell, and this server gives none."""

    async def scene() -> None:
        async with opened(api_server) as store:
            await store.apply([body()])
            watch = store.watch(("Device",))
            assert [(await anext(watch)).type for _ in range(2)] == ["added", "synced"]
            change = asyncio.ensure_future(anext(watch))
            await store.set_desired(KEY, {"speed": 1}, "cli")
            assert (await change).type == "modified"
            silence.enter_context(api_server.silent())
            await watch.aclose()

    with contextlib.ExitStack() as silence, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        asyncio.run(scene())
        gc.collect()
    assert [str(w.message) for w in warned if issubclass(w.category, ResourceWarning)] == []


def test_a_watch_that_can_not_list_forgets_no_identity(
    api_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event without the device's uid is not shown by `kubectl describe`."""
    told: list[str] = []

    async def away(*_: Any) -> Any:
        raise StoreUnavailableError("away")

    async def scene() -> None:
        async with opened(api_server) as store:
            await store.apply([body()])
            watch = store.watch(("Device",))
            assert [(await anext(watch)).type for _ in range(2)] == ["added", "synced"]
            monkeypatch.setattr(store, "_list", away)
            with pytest.raises(StoreUnavailableError):
                await anext(store.watch(("Device",)))
            monkeypatch.setattr(store._events, "put", lambda key, uid, status: told.append(uid))
            await store.patch_status({KEY: STATUS})
            await watch.aclose()

    asyncio.run(scene())
    assert len(told) == 1
    assert len(told[0]) == 36


def test_an_expired_watch_lists_again(api_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """410 Gone: what came and went meanwhile is told once, what only aged is not told."""
    from devicemesh.store.cluster import ApiError, Cluster

    watched, real = asyncio.Event(), Cluster.watch

    async def expired(self: Any, path: str, version: str) -> AsyncIterator[Any]:
        if not watched.is_set():
            watched.set()
            async with opened(api_server) as other:
                await other.delete(Key("Device", "default", "b"))
                await other.apply([body("c")])
            raise ApiError(410, "Expired", "too old resource version")
        async for event in real(self, path, version):
            yield event

    monkeypatch.setattr(Cluster, "watch", expired)

    async def scene() -> None:
        async with opened(api_server) as store:
            await store.apply([body("a"), body("b")])
            watch = store.watch(("Device",))
            assert [(await anext(watch)).type for _ in range(3)] == ["added", "added", "synced"]
            events = [await asyncio.wait_for(anext(watch), 20) for _ in range(2)]
            assert [(e.type, e.object.key.name) for e in events if e.object] == [
                ("deleted", "b"),
                ("added", "c"),
            ]
            await watch.aclose()

    asyncio.run(scene())


def test_a_server_that_was_restored_from_a_backup_is_listed_again(
    api_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its versions are older than those that the watch has seen: it would be silent until they come again."""
    from devicemesh.store.cluster import Cluster

    watched, real = asyncio.Event(), Cluster.watch

    async def interrupted(self: Any, path: str, version: str) -> AsyncIterator[Any]:
        if not watched.is_set():
            watched.set()
            version = str(int(version) + 10**6)
            yield {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}}
            async with opened(api_server) as other:
                await other.apply([body("a", desired={"speed": 7})])
            raise StoreUnavailableError("the server is restored")
        async for event in real(self, path, version):
            yield event

    monkeypatch.setattr(Cluster, "watch", interrupted)

    async def scene() -> None:
        async with opened(api_server) as store, asyncio.timeout(20):
            await store.apply([body("a")])
            watch = store.watch(("Device",))
            assert [(await anext(watch)).type for _ in range(2)] == ["added", "synced"]
            event = await anext(watch)
            assert event.object is not None
            assert event.object.spec["desired"] == [{"name": "speed", "value": 7}]
            await watch.aclose()

    asyncio.run(scene())


def test_a_device_made_anew_while_nobody_looked_is_written_again(api_server: Any) -> None:
    async def scene() -> None:
        async with opened(api_server) as store, asyncio.timeout(20):
            for _ in range(2):
                await store.apply([body()])
                async with contextlib.aclosing(store.watch(("Device",))) as watch:
                    while (await anext(watch)).type != "synced":
                        pass
                await store.patch_status({KEY: STATUS})
                await status_is(store, KEY, STATUS)
                api_server.ask("DELETE", f"{IN_DEFAULT}/pump-1")

    asyncio.run(scene())


def test_a_write_whose_answer_nobody_reads_is_answered_briefly(api_server: Any) -> None:
    """The status is written, the answer has no more than metadata, and what is refused is still said."""
    from devicemesh.store.cluster import ApiError, Cluster

    class Ear(Cluster):
        heard: list[str]

        async def _text(self, response: Any) -> str:
            self.heard.append(text := await super()._text(response))
            return text

    async def scene() -> None:
        api_server.ask("PATCH", f"{IN_DEFAULT}/pump-1?fieldManager=kubectl", body(), content=APPLY)
        async with Ear(api_server.kubeconfig("admin")) as cluster:
            cluster.heard = []
            patch, merge = {"status": {"observedGeneration": 1}}, "application/merge-patch+json"
            await cluster.send("PATCH", f"{IN_DEFAULT}/pump-1/status", patch, content=merge)
            assert '"kind":"PartialObjectMetadata"' in cluster.heard[0] and '"spec"' not in cluster.heard[0]
            with pytest.raises(ApiError, match="not found"):
                await cluster.send("PATCH", f"{IN_DEFAULT}/pump-2/status", patch, content=merge)
        assert api_server.ask("GET", f"{IN_DEFAULT}/pump-1")["status"] == {"observedGeneration": 1}

    asyncio.run(scene())


def test_values_do_not_cost_requests(api_server: Any) -> None:
    """A hundred times the samples, the same number of writes: values wait, health does not."""

    async def scene() -> None:
        async with opened(api_server) as store:
            await store.apply([body("a")])
            key = Key("Device", "default", "a")
            await store.patch_status({key: STATUS})
            await status_is(store, key, STATUS)
            before = dict(store.cluster.requests)
            for number in range(100):
                values = [{"name": "speed", "reported": {"value": number}}]
                await store.patch_status({key: {**STATUS, "properties": values}})
                await asyncio.sleep(0.005)
            assert store.cluster.requests == before
            stale = {**HEALTH, "status": "False", "reason": "NoAnswer"}
            await store.patch_status({key: {**STATUS, "conditions": [stale]}})
            await status_is(store, key, {**STATUS, "conditions": [stale]})
            assert store.cluster.requests["PATCH"] == before["PATCH"] + 1

    asyncio.run(scene())
