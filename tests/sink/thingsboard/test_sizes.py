"""What is larger than a message of ThingsBoard's, or than it reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from devicemesh.mapper import Quality
from devicemesh.testing.thingsboard import ThingsBoard
from devicemesh.testing.waiting import until

Plants = Callable[..., Any]
MS = 10**6


def count(platform: ThingsBoard, name: str) -> list[Any]:
    return [value for _, value in platform.devices[name].series("count")] if name in platform.devices else []


def test_messages_are_as_small_as_the_server_wants_them(plant: Plants) -> None:
    async def scenario(platform: ThingsBoard) -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            await until(platform.connected)
            text = "x" * 700
            for step in range(20):
                it.read("default/pump-1", time_ns=(1_795_000_000_000 + step) * MS, mode=f"{text}{step}")
            await until(lambda: len(platform.devices["pump-1"].series("mode")) == 20)
            it.read("default/pump-1", time_ns=1_795_000_000_100 * MS, mode="y" * 5000)
            it.read("default/pump-1", time_ns=1_795_000_000_101 * MS, mode="z")
            await until(lambda: platform.devices["pump-1"].latest("mode") == "z")
            assert it.sink.stats().samples_dropped["too_large"] == 1
            assert platform.connections == 1
            it.conserved()
        assert platform.wrong == []

    with ThingsBoard(max_payload=2048) as platform:
        asyncio.run(scenario(platform))


def test_good_again_is_told_though_a_record_is_too_large(plant: Plants) -> None:
    async def scenario(platform: ThingsBoard) -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            await until(lambda: it.sink._dialect._limits.payload_bytes == 2048)
            it.read("default/pump-1", Quality.NO_ANSWER, speed=6.0)
            it.read("default/pump-1", speed=7.0, mode="y" * 5000)
            await until(lambda: it.sink.stats().samples_dropped["too_large"] == 2)
            it.read("default/pump-1", speed=8.0)
            await until(lambda: platform.devices["pump-1"].latest("speed") == 8.0)
            assert platform.devices["pump-1"].latest("speed/quality") == "Good"

    with ThingsBoard(max_payload=2048) as platform:
        asyncio.run(scenario(platform))


def test_attributes_and_answers_are_as_small_as_the_server_wants_them(plant: Plants) -> None:
    names = [f"{'text' * 10}{number}" for number in range(100)]
    model = {"properties": [{"name": name, "type": "string", "access": "ReadWrite"} for name in names]}

    async def scenario(platform: ThingsBoard) -> None:
        async with plant(platform.url) as it:
            it.declare("default/pump-1", model=model)
            it.sink.forget_absent(lambda device: True)
            it.state("default/pump-1")
            await until(lambda: it.sink._dialect._limits.payload_bytes == 2048)
            it.read("default/pump-1", **dict.fromkeys(names[:9], "x" * 500), **{names[9]: "y" * 3000})
            it.twin("default/pump-1")
            await until(lambda: platform.devices and names[8] in platform.devices["pump-1"].client)
            pump = platform.devices["pump-1"]
            platform.share("pump-1", **{names[99]: "set"})
            await until(lambda: it.commands)
            asked = platform.request("pump-1", "get")
            await until(lambda: len(it.commands) == 2)
            twin = {name: {"reported": {"value": "x" * 500, "quality": "Good"}} for name in names[:9]}
            body = {"state": "applied", "reported": twin, "id": it.commands[1].id}
            it.sink.event("default/pump-1", "twin/desired/result", body)
            await until(lambda: asked in platform.answers)
            assert "bytes, is more than ThingsBoard takes" in platform.answers[asked]["error"]
            platform.stop()
            pump.shared = {names[0]: "first", names[99]: "last"}
            platform.start()
            await until(lambda: it.commands[2:] and names[99] in it.commands[-1].body)
            assert it.commands[2].body == {names[0]: "first"}
            await until(lambda: names[8] in pump.client and "twin/state" in pump.client)
            assert names[9] not in pump.client
            assert platform.connections == 2
        assert platform.wrong == []

    with ThingsBoard(max_payload=2048) as platform:
        asyncio.run(scenario(platform))


def test_an_attribute_that_can_not_be_read_there_takes_no_other_along(plant: Plants) -> None:
    async def scenario(platform: ThingsBoard) -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            it.read("default/pump-1", speed=5.0)
            it.read("default/pump-1", mode="x" * 100)
            it.twin("default/pump-1")
            await until(lambda: platform.connected() and platform.devices["pump-1"].client.get("speed") == 5)
            await until(lambda: platform.devices["pump-1"].client.get("twin/state") == "Ready")
            assert "mode" not in platform.devices["pump-1"].client
        assert all("RefusedError" in one for one in platform.wrong)

    with ThingsBoard(longest=50) as platform:
        asyncio.run(scenario(platform))


def test_a_record_larger_than_a_message_goes_in_parts(plant: Plants) -> None:
    async def scenario(platform: ThingsBoard) -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            await until(platform.connected)
            await until(lambda: it.sink._dialect._limits.payload_bytes == 2048)
            for step in range(100):
                it.aggregator.push(it.batch("default/pump-1", (1_795_000_000_000 + step) * MS, count=step))
            it.publish()
            await until(lambda: count(platform, "pump-1") == list(range(100)))
            assert await it.sink.drain(5)
            assert it.sink.stats().messages == 1
            it.conserved()
        assert platform.wrong == []

    with ThingsBoard(max_payload=2048) as platform:
        asyncio.run(scenario(platform))
