"""Subscriptions: nothing lost, bad nodes apart, deadbands at the server, ends that are noticed."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import math
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from devicemesh_opcua import sampling, subscribe
from devicemesh_opcua.model import OpcUaEndpoint
from devicemesh_opcua.session import open_session

from devicemesh.mapper import LinkError, Quality
from devicemesh.testing.contract import Row, rows
from devicemesh.testing.proxy import Proxy
from devicemesh.testing.server import StreamServer


class Follower:
    """Rows of a subscription as they come, by slot."""

    def __init__(self, session: Any, points: list[Any]) -> None:
        self._batches = session.subscribe(points)
        self.rows: list[Row] = []

    async def __aenter__(self) -> Follower:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._batches.aclose()

    async def until(self, done: Callable[[], bool]) -> None:
        while not done():
            self.rows.extend(rows(await anext(self._batches)))

    def values(self, slot: int) -> list[Any]:
        return [row.value for row in self.rows if row.slot == slot and row.quality < Quality.BAD]

    def last(self, slot: int) -> Row:
        return [row for row in self.rows if row.slot == slot][-1]


@contextlib.asynccontextmanager
async def following(endpoint: Any, points: list[Any]) -> AsyncIterator[Follower]:
    async with open_session(endpoint) as session, Follower(session, points) as follower:
        yield follower


@pytest.mark.timeout(300)
def test_ten_thousand_items_lose_no_change(serve_plant: Any, point: Any, run: Any) -> None:
    async def work() -> None:
        count, turns = 10_000, 2
        names = [f"f{i // 100}/v{i}" for i in range(count)]  # asyncua takes long for many nodes in one folder
        async with serve_plant() as plant:
            await plant.add_many(names, 0.0, "Double")
            endpoint = plant.endpoint(publishing_interval="100ms", timeout="30s")
            points = [point(i, endpoint, "float64", name) for i, name in enumerate(names)]
            async with following(endpoint, points) as follower:
                await follower.until(lambda: len(follower.rows) >= count)
                await plant.count_up(names, turns, 0.2)
                await follower.until(lambda: len(follower.rows) >= count * (turns + 1))
                seen: dict[int, list[float]] = {}
                for row in follower.rows:
                    seen.setdefault(row.slot, []).append(row.value)
                wanted = [float(n) for n in range(turns + 1)]
                assert all(seen[slot] == wanted for slot in range(count))

    run(work(), patience_s=240)  # the plant alone takes some seconds of CPU


def test_a_bad_node_leaves_the_others_good_and_is_taken_when_it_comes(
    serve_plant: Any, point: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscribe, "RETRY_S", 0.2)

    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("here", 1, "Int32")
            endpoint = plant.endpoint()
            points = [
                point(0, endpoint, "int32", "here"),
                point(1, endpoint, "int32", "later"),
                point(2, endpoint, "int32", {"node": "nsu=urn:nowhere;i=1"}),
                point(3, endpoint, "int32", {"node": "ns=2;s=here"}),
                point(4, endpoint, "int32", {"browse_path": "Nobody"}),
            ]
            async with following(endpoint, points) as follower:
                await follower.until(lambda: {row.slot for row in follower.rows} == {0, 1, 2, 3, 4})
                assert follower.values(0) == [1]
                reasons = {slot: str(follower.last(slot).error) for slot in (1, 2, 3, 4)}
                assert "BadNodeIdUnknown: it has no such node" in reasons[1]
                assert "no namespace `urn:nowhere`; it has " in reasons[2] and "urn:plant" in reasons[2]
                assert "write nsu=urn:plant; instead" in reasons[3]
                assert "no `Nobody` below i=85" in reasons[4]
                assert follower.last(1).quality == Quality.BAD_ADDRESS
                await plant.add("later", 7, "Int32")
                await follower.until(lambda: follower.values(1) == [7])

    run(work())


def test_status_and_source_time_are_kept(serve_plant: Any, point: Any, run: Any) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("x", 1.0, "Double")
            points = [point(0, plant.endpoint(), "float64", "x")]
            async with following(plant.endpoint(), points) as follower:
                await follower.until(lambda: follower.values(0) == [1.0])
                moment = datetime.datetime(2020, 2, 29, 12, 0, 0, 250_000, datetime.UTC)
                await plant.set("x", 2.0, "Double", time=moment)
                await follower.until(lambda: follower.values(0)[-1:] == [2.0])
                assert follower.last(0).time_ns == int(moment.timestamp() * 1000) * 10**6
                await plant.set("x", 3.0, "Double", status=0x40920000)
                await follower.until(lambda: follower.values(0)[-1:] == [3.0])
                assert follower.last(0).quality == Quality.UNCERTAIN
                await plant.set("x", 4.0, "Double", status=0x808C0000)
                await follower.until(lambda: follower.last(0).quality >= Quality.BAD)
                bad = follower.last(0)
                assert math.isnan(bad.value) and "BadSensorFailure: the sensor has failed" in str(bad.error)

    run(work())


def test_the_server_applies_the_deadband(serve_plant: Any, point: Any, run: Any) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("x", 10.0, "Double")
            await plant.add("text", "a", "String")
            endpoint = plant.endpoint()
            points = [
                point(0, endpoint, "float64", "x", deadband=5),
                point(1, endpoint, "float64", "x"),
                point(2, endpoint, "string", "text"),
            ]
            async with following(endpoint, points) as follower:
                await follower.until(lambda: {row.slot for row in follower.rows} == {0, 1, 2})
                for value in (12.0, 20.0, 22.0, 99.0):
                    await plant.set("x", value, "Double")
                await follower.until(lambda: follower.values(0)[-1] == follower.values(1)[-1] == 99.0)
                assert follower.values(0) == [10.0, 20.0, 99.0]
                assert follower.values(1) == [10.0, 12.0, 20.0, 22.0, 99.0]

    run(work())


def test_a_value_of_another_type_is_bad_and_says_so(serve_plant: Any, point: Any, run: Any) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("x", "one", "String")
            await plant.add("list", [1, 2], "Int32")
            points = [point(0, plant.endpoint(), "int32", "x"), point(1, plant.endpoint(), "int32", "list")]
            async with following(plant.endpoint(), points) as follower:
                await follower.until(lambda: {row.slot for row in follower.rows} == {0, 1})
                assert follower.last(0).quality == Quality.UNDECODABLE
                assert str(follower.last(0).error) == "the server sends a String, the property is an int32"
                assert "an array of Int32, the property is an int32: take one element" in str(
                    follower.last(1).error
                )

    run(work())


def test_points_may_change_while_it_runs(serve_plant: Any, point: Any, run: Any) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("a", 1, "Int32")
            await plant.add("b", 2, "Int32")
            endpoint = plant.endpoint()
            async with open_session(endpoint) as session:
                for _ in range(3):
                    async with Follower(session, [point(0, endpoint, "int32", "a")]) as follower:
                        await follower.until(lambda f=follower: f.values(0) == [1])
                    async with Follower(session, [point(1, endpoint, "int32", "b")]) as follower:
                        await follower.until(lambda f=follower: f.values(1) == [2])
                        assert await plant.sessions() == 1, "an old subscription was left at the server"

    run(work())


def test_a_forgotten_subscription_is_a_link_error(
    serve_plant: Any, point: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscribe, "KEEP_ALIVE_S", 0.2)

    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("x", 1, "Int32")
            endpoint = plant.endpoint(timeout="500ms")
            with pytest.raises(LinkError) as caught:
                async with following(endpoint, [point(0, endpoint, "int32", "x")]) as follower:
                    await follower.until(lambda: follower.values(0) == [1])
                    await plant.forget()
                    await follower.until(lambda: False)
            assert "not even a keep-alive" in str(caught.value), "asyncua's server does not say it"

    run(work())


def test_a_server_that_falls_silent_is_noticed(
    serve_plant: Any, point: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscribe, "KEEP_ALIVE_S", 0.2)

    async def work() -> None:
        async with serve_plant() as plant, Proxy(plant.port) as proxy:
            await plant.add("x", 1, "Int32")
            endpoint = plant.endpoint(timeout="200ms").redirect(f"127.0.0.1:{proxy.port}")
            with pytest.raises(LinkError) as caught:
                async with following(endpoint, [point(0, endpoint, "int32", "x")]) as follower:
                    await follower.until(lambda: follower.values(0) == [1])
                    proxy.hole = True
                    await follower.until(lambda: False)
            assert "not even a keep-alive" in str(caught.value)

    run(work())


def test_it_comes_back_when_the_server_does_with_other_indices(
    serve_plant: Any, point: Any, run: Any
) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            port = plant.port
            await plant.add("x", 1, "Int32")
            endpoint = plant.endpoint()
            points = [point(0, endpoint, "int32", "x")]
            with pytest.raises(LinkError):
                async with following(endpoint, points) as follower:
                    await follower.until(lambda: follower.values(0) == [1])
                    plant.kill()
                    await follower.until(lambda: False)
        async with serve_plant(port=port, namespaces=["urn:other", "urn:plant"]) as plant:
            assert plant.index == 3
            await plant.add("x", 2, "Int32")
            async with following(endpoint, points) as follower:
                await follower.until(lambda: follower.values(0) == [2])

    run(work())


def test_a_server_with_small_limits_is_respected(serve_plant: Any, point: Any, run: Any) -> None:
    async def work() -> None:
        names = [f"v{i}" for i in range(50)]
        limits = {11705: 7, 11714: 6, 11712: 5, 11711: 4}
        async with serve_plant(limits=limits) as plant:
            await plant.add_many(names, 1.5, "Double")
            endpoint = plant.endpoint()
            points = [
                point(i, endpoint, "float64", {"browse_path": n, "namespace": "urn:plant"})
                for i, n in enumerate(names)
            ]
            async with open_session(endpoint) as session:
                assert (session.server.limits.read, session.server.limits.monitor) == (7, 6)
                async with Follower(session, points) as follower:
                    await follower.until(lambda: len(follower.rows) == 50)
                polled = [row async for batch in session.reader(points)() for row in rows(batch)]
                assert sorted(row.slot for row in polled) == list(range(50))
                assert {row.value for row in [*follower.rows, *polled]} == {1.5}

    run(work())


def test_limits_that_a_server_does_not_tell_are_found(serve_plant: Any, point: Any, run: Any) -> None:
    async def work() -> None:
        names = [f"v{i}" for i in range(50)]
        async with serve_plant(most=4) as plant:
            await plant.add_many(names, 1.5, "Double")
            endpoint = plant.endpoint()
            points = [
                point(i, endpoint, "float64", {"browse_path": n, "namespace": "urn:plant"})
                for i, n in enumerate(names)
            ]
            async with open_session(endpoint) as session:
                async with Follower(session, points) as follower:
                    await follower.until(lambda: len(follower.rows) == 50)
                polled = [row async for batch in session.reader(points)() for row in rows(batch)]
                assert sorted(row.slot for row in polled) == list(range(50))
                assert {row.value for row in [*follower.rows, *polled]} == {1.5}

    run(work())


def test_a_loaded_session_is_resumed_after_each_kill(serve_plant: Any, point: Any, run: Any) -> None:
    async def work() -> None:
        port, names = 0, [f"v{i}" for i in range(200)]
        for turn in range(3):
            async with serve_plant(port=port) as plant:
                port = plant.port
                await plant.add_many(names, -1.0, "Double")
                endpoint = plant.endpoint()
                points = [point(i, endpoint, "float64", n) for i, n in enumerate(names)]
                with pytest.raises(LinkError):
                    async with following(endpoint, points) as follower:
                        await plant.count_up(names, 1000, 0.01)
                        await follower.until(lambda f=follower: len(f.rows) > 2000)
                        plant.kill()
                        began = time.monotonic()
                        await follower.until(lambda: False)
                assert time.monotonic() - began < 5, f"turn {turn}"

    run(work())


def test_publishing_is_grouped_and_queues_hold_what_is_sampled(point: Any) -> None:
    slow = OpcUaEndpoint(url="opc.tcp://plc", publishing_interval="1s")
    fast = OpcUaEndpoint(url="opc.tcp://plc")
    points = [point(0, slow, "int32", "a"), point(1, slow, "int32", "b"), point(2, fast, "int32", "c")]
    made = sampling.groups(points)
    assert [(g.interval_ms, [p.slot for p in g.points]) for g in made] == [(1000.0, [0, 1]), (100.0, [2])]
    assert sampling.queue_size(points[0], 1000.0) == 41  # 20 samples of 50 ms, twice, and one


def test_it_does_not_hang_on_one_who_says_nothing(run: Any) -> None:
    async def work() -> None:
        async with StreamServer(lambda reader, _: asyncio.Event().wait()) as server:
            endpoint = OpcUaEndpoint(url=f"opc.tcp://127.0.0.1:{server.port}", timeout="200ms")
            with pytest.raises(LinkError) as caught:
                async with open_session(endpoint):
                    pytest.fail("opened")
            assert f"no answer from 127.0.0.1:{server.port} within 0.2 s" in str(caught.value)

    run(work())
