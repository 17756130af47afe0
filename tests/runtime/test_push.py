"""Peers that push: their values, their end, and polls and writes beside them."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from devicemesh.mapper import LinkError, Quality

Play = Callable[[Any], None]
SPEED = {"name": "speed", "access": "ReadWrite", "telemetry": {"report": "every"}}
SLOW = {"name": "slow", "telemetry": {"samplingInterval": "100ms", "report": "every"}}


def _latest(world: Any, key: Any, name: str) -> Any:
    device = world.runtime.supervisor.devices[key]
    return world.runtime.pipeline.aggregator.latest(device.slot(name))


def _says(world: Any, key: Any, name: str, value: Any) -> Callable[[], Any]:
    async def check() -> bool:
        device = world.runtime.supervisor.devices.get(key)
        return device is not None and name in device.names and _latest(world, key, name).value == value

    return check


def test_pushed_and_polled_points_of_one_session(play: Play) -> None:
    async def scene(world: Any) -> None:
        queue = world.mapper.pushes["h1"] = asyncio.Queue()
        world.mapper.values["h1", 1, "slow"] = 7.0
        await world.model(SPEED, SLOW)
        key = await world.device("pump-1")
        async with world.running():
            await world.until(_says(world, key, "slow", 7.0), 2)
            assert _latest(world, key, "speed").quality == Quality.PENDING
            queue.put_nowait(("speed", 3.0))
            await world.until(_says(world, key, "speed", 3.0), 0.5)
            assert world.mapper.subscribed == [("h1", ["speed"])]
            assert {points for _, _, points in world.mapper.polls} == {1}
            await world.ready(key, "SubscribedAndPolling", 5)

    play(scene)


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (LinkError("reset by h1"), "NoLink"),
        (StopAsyncIteration(), "SubscriptionEnded"),
        (ZeroDivisionError("a bug"), "InternalError"),
        (asyncio.CancelledError(), "InternalError"),
    ],
)
def test_a_subscription_that_ends_is_begun_anew(play: Play, end: BaseException, reason: str) -> None:
    async def scene(world: Any) -> None:
        queue = world.mapper.pushes["h1"] = asyncio.Queue()
        await world.model(SPEED)
        key = await world.device("pump-1")
        async with world.running():
            queue.put_nowait(("speed", 3.0))
            await world.until(_says(world, key, "speed", 3.0), 2)
            queue.put_nowait(end)
            await world.ready(key, reason, 5)
            assert _latest(world, key, "speed").quality == Quality.NO_LINK
            queue.put_nowait(("speed", 4.0))
            await world.until(_says(world, key, "speed", 4.0), 5)
            await world.ready(key, "Subscribed", 5)
            assert len(world.mapper.subscribed) == 2

    play(scene)


def test_a_desired_value_waits_for_the_first_pushed_reading(play: Play) -> None:
    async def scene(world: Any) -> None:
        queue = world.mapper.pushes["h1"] = asyncio.Queue()
        await world.model(SPEED)
        key = await world.device("pump-1", desired=[{"name": "speed", "value": 5}])
        async with world.running():
            await world.ready(key, "Starting", 5)
            assert world.mapper.written == []
            queue.put_nowait(("speed", 3.0))
            await world.applied(key)
            assert world.mapper.written == [("h1", 1, "speed", 5)]

    play(scene)


def test_an_edit_subscribes_anew_only_where_it_matters(play: Play) -> None:
    async def scene(world: Any) -> None:
        queue = world.mapper.pushes["h1"] = asyncio.Queue()
        await world.model(SPEED)
        key = await world.device("pump-1")
        async with world.running():
            queue.put_nowait(("speed", 3.0))
            await world.until(_says(world, key, "speed", 3.0), 2)
            await world.device("pump-1", desired=[{"name": "speed", "value": 9}])
            await world.applied(key)
            assert len(world.mapper.subscribed) == 1
            await world.model({**SPEED, "telemetry": {"report": "every", "samplingInterval": "5s"}}, SLOW)
            await world.until(_says(world, key, "slow", 0.0), 5)
            assert len(world.mapper.subscribed) == 2, "the peer must be told of the new interval"
            queue.put_nowait(("speed", 11.0))
            await world.until(_says(world, key, "speed", 11.0), 2)

    play(scene)


def test_a_pushed_value_that_rests_is_weighed_in_every_window(play: Play) -> None:
    power = {
        "name": "power",
        "access": "ReadWrite",
        "telemetry": {"report": "window", "window": "10s", "statistics": ["mean", "timeAverage"]},
    }

    def windows(world: Any) -> list[tuple[Any, ...]]:
        found = [window for _, body in world.sink.published for window in json.loads(body)["windows"]]
        return [(each["count"], each["mean"], each["timeAverage"]) for each in found]

    async def scene(world: Any) -> None:
        queue = world.mapper.pushes["h1"] = asyncio.Queue()
        await world.model(power)
        await world.device("pump-1")
        async with world.running():
            await asyncio.sleep(1)
            queue.put_nowait(("power", 3.0))
            await asyncio.sleep(40)
            assert windows(world) == [(1, 3.0, 3.0), *[(0, None, 3.0)] * 3]
            queue.put_nowait(LinkError("reset by h1"))
            await asyncio.sleep(15)
            before = len(windows(world))
            await asyncio.sleep(40)
            assert len(windows(world)) == before  # nothing is known

    play(scene)


@pytest.mark.parametrize(
    "telemetry",
    [{"heartbeat": "10s"}, {"report": "window", "window": "10s", "statistics": ["timeAverage"]}],
    ids=["heartbeat", "windows"],
)
def test_what_rests_is_told_until_the_device_is_paused(play: Play, telemetry: dict[str, Any]) -> None:
    async def scene(world: Any) -> None:
        queue = world.mapper.pushes["h1"] = asyncio.Queue()
        await world.model({**SPEED, "telemetry": telemetry})
        key = await world.device("pump-1")
        async with world.running():
            queue.put_nowait(("speed", 3.0))
            await world.until(_says(world, key, "speed", 3.0), 2)
            await asyncio.sleep(60)
            assert 4 <= len(world.sink.published) <= 8
            await world.device("pump-1", paused=True)
            await world.ready(key, "Paused")
            told = len(world.sink.published)
            await asyncio.sleep(60)
            assert len(world.sink.published) == told
            await world.device("pump-1", paused=False)
            await world.ready(key, "Subscribed")
            queue.put_nowait(("speed", 3.0))
            await asyncio.sleep(60)
            assert len(world.sink.published) >= told + 4

    play(scene)


def test_a_value_that_chatters_is_published_once_an_interval_and_where_it_rests(play: Play) -> None:
    async def scene(world: Any) -> None:
        queue = world.mapper.pushes["h1"] = asyncio.Queue()
        await world.model({**SPEED, "telemetry": {"minInterval": "10s"}})
        await world.device("pump-1")
        async with world.running():
            await asyncio.sleep(1)
            for step in range(200):
                queue.put_nowait(("speed", float(step)))
                await asyncio.sleep(0.1)
            await asyncio.sleep(30)
            told = [
                row["values"]["speed"] for _, body in world.sink.published for row in json.loads(body)["rows"]
            ]
            assert (told[0], told[-1]) == (0.0, 199.0)
            assert 3 <= len(told) <= 4
            dropped = world.runtime.samples()["dropped"]
            assert dropped["rate"] > 190

    play(scene)
