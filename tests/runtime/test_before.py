"""The time before this process: what the status tells of it, and that a peer's past is read from there on."""

import asyncio
import random
import time
from array import array
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from devicemesh.mapper import Batch, LinkError
from devicemesh.runtime.before import before
from devicemesh.runtime.runtime import Runtime
from devicemesh.settings import Settings
from devicemesh.testing.fake import FakeMapper, FakeSink

Play = Callable[..., None]
SECOND = 1_790_000_000


def reported(time: Any, quality: Any = "Good", name: Any = "a") -> dict[str, Any]:
    return {"name": name, "reported": {"value": 1, "time": time, "quality": quality}}


@pytest.mark.parametrize(
    ("status", "seen_s", "times"),
    [
        ({}, 0, {}),
        ({"lastSeen": None, "properties": [reported(None, "Bad.Pending")]}, 0, {}),
        ({"properties": [reported("2026-09-21T14:13:20.5Z")]}, 0, {"a": 0.5}),
        ({"properties": [reported("2026-09-21T14:13:20Z", "Uncertain.FromHistory")]}, 0, {"a": 0}),
        (
            {"lastSeen": "2026-09-21T14:13:21.25Z", "properties": [reported("2026-09-21T14:13:25Z", "Bad.NoLink")]},
            1.25,
            {"a": 1.25},
        ),
        ({"lastSeen": "2026-09-21T14:13:21Z", "properties": [reported(None, "Bad.Pending")]}, 1, {"a": 1}),
        ({"lastSeen": "2026-09-21T14:13:21Z", "properties": [reported("2026-09-21T14:13:25Z", "Bad")]}, 1, {}),
    ],
)  # fmt: skip
def test_what_a_status_tells(status: Any, seen_s: float, times: dict[str, float]) -> None:
    found = before(status)
    end = 10**6 - 1  # of the millisecond
    assert found.seen_ns == (SECOND * 10**9 + round(seen_s * 1e9) if seen_s else 0)
    assert found.times == {name: SECOND * 10**9 + round(at * 1e9) + end for name, at in times.items()}


@pytest.mark.parametrize(
    "status",
    [
        {"lastSeen": 5, "properties": 7},
        {"lastSeen": "yesterday", "properties": ["x", None, {}, {"name": "a"}, {"name": "a", "reported": 5}]},
        {"lastSeen": "2026-09-21T14:13:20", "properties": [reported("0001-01-01T00:00:00Z")]},
        {"properties": [reported(5), reported("9" * 999), reported("2026-09-21T14:13:20Z", name=["a"])]},
        {"properties": [reported("2026-09-21T14:13:20Z", None, None)]},
    ],
)
def test_a_status_that_makes_no_sense_tells_nothing(status: Any) -> None:
    assert before(status).times == {}


def again(world: Any) -> None:
    """A new process on the same store, and on peers that still have what they had."""
    old = world.mapper
    world.mapper = FakeMapper(world.wall_ns)
    world.mapper.past = old.past
    world.sink = FakeSink()
    settings = Settings(status_interval_s=1.0)
    world.runtime = Runtime(settings, world.store, world.sink, {"fake": world.mapper}, rng=random.Random(1))
    world.runtime.pipeline.wall_ns = world.wall_ns


SPEED = {"name": "speed", "telemetry": {"samplingInterval": "100ms", "report": "every"}}


def test_a_new_process_reads_what_the_last_one_missed(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        key = await world.device("pump-1")
        world.mapper.pushes["h1"] = asyncio.Queue()
        async with world.running():
            world.mapper.pushes["h1"].put_nowait(("speed", 1.0))
            await world.ready(key, "Subscribed", 5)
            began = world.runtime.pipeline.aggregator.latest(0).time_ns
            await asyncio.sleep(2)
        for lost in range(2):  # and of one that never had a session, and was stopped again
            again(world)
            queue = world.mapper.pushes["h1"] = asyncio.Queue()
            if lost == 0:
                queue.put_nowait(LinkError("no answer from h1"))
                async with world.running():
                    await world.ready(key, "NoLink", 5)
                    await asyncio.sleep(2)
                assert (await world.status(key))["lastSeen"], "it is not forgotten"
        world.mapper.past["h1", 1, "speed"] = [(began + i * 10**8, 10.0 + i) for i in range(5)]
        async with world.running():
            await asyncio.sleep(1)
            queue.put_nowait(("speed", 2.0))

            async def filled() -> bool:
                return world.runtime.supervisor.links["fake", "h1"].stats.backfilled == 4

            await world.until(filled, 10)
            ((asked, begin, _),) = world.mapper.asked
            assert asked == "speed"
            assert began <= begin < began + 10**6

    play(scene)


def test_a_device_that_is_declared_later_has_no_time_before(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        key = await world.device("pump-1")
        world.mapper.pushes["h1"] = asyncio.Queue()
        async with world.running():
            world.mapper.pushes["h1"].put_nowait(("speed", 1.0))
            await world.ready(key, "Subscribed", 5)
            other = await world.device("pump-2", unit=2)
            await asyncio.sleep(1)
            world.mapper.pushes["h1"].put_nowait(("speed", 2.0))
            await asyncio.sleep(40)
            assert not world.mapper.asked
            assert not world.runtime.supervisor._before
            await world.store.delete(other)

    play(scene)


def test_nothing_is_seen_in_the_future(play: Play) -> None:
    """The device's clock runs ahead."""

    async def scene(world: Any) -> None:
        world.mapper.pushes["h1"] = asyncio.Queue()
        await world.model({"name": "speed"})
        key = await world.device("pump-1")
        async with world.running():
            ahead = array("q", [time.time_ns() + 1800 * 10**9])
            world.runtime.pipeline.push(Batch(array("I", [0]), ahead, array("d", [1.0])))
            await world.ready(key, "Subscribed")
            seen = datetime.fromisoformat((await world.status(key))["lastSeen"])
            assert abs((datetime.now(UTC) - seen).total_seconds()) < 60

    play(scene)
