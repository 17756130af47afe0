"""`write`: desired by somebody who acts, and sees what the device says now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from devicemesh.mapper import PointError
from devicemesh.sink.base import Command
from devicemesh.store.base import Key

Play = Callable[[Any], None]
SPEED = {"name": "speed", "access": "ReadWrite", "maximum": 3000, "telemetry": {"samplingInterval": "100ms"}}
PUMP = "default/pump-1"


async def ask(world: Any, kind: str, body: Any, identity: str | None = "id-1") -> list[Any]:
    """What is answered on `twin/desired/result` within some seconds."""
    before = len(world.sink.events)
    await world.sink.handler(Command(kind, PUMP, "", body, identity))
    await asyncio.sleep(3)
    return [answer for device, topic, answer in world.sink.events[before:] if topic == "twin/desired/result"]


async def reads(world: Any, key: Key, value: Any) -> bool:
    return bool((await world.status(key))["properties"][0]["reported"]["value"] == value)


def test_what_is_desired_already_is_written_again(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        key = await world.device("pump-1", desired=[{"name": "speed", "value": 1200}])
        async with world.running():
            await world.ready(key)
            await world.applied(key)
            world.mapper.values["h1", 1, "speed"] = 900.0  # somebody at the machine
            await world.until(lambda: reads(world, key, 900.0))
            assert [(a["state"], a["value"]) for a in await ask(world, "desired", {"speed": 1200})] == [
                ("applied", 1200)
            ]
            assert world.mapper.values["h1", 1, "speed"] == 900.0, "a client that says it again fights nobody"
            answers = await ask(world, "write", {"speed": 1200})
            assert [(a["state"], a["value"], a["id"]) for a in answers] == [("applied", 1200, "id-1")]
            assert world.mapper.values["h1", 1, "speed"] == 1200
            await world.applied(key)

    play(scene)


def test_it_is_written_at_once_and_told_to_who_has_no_id(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model({**SPEED, "telemetry": {"samplingInterval": "1h"}})
        key = await world.device("pump-1", desired=[{"name": "speed", "value": 1200}])
        async with world.running():
            await world.applied(key)
            await asyncio.sleep(60)  # nothing is due now
            world.mapper.values["h1", 1, "speed"] = 900.0
            world.store.set_desired = lambda key, *_: world.store.get(key)  # as an API server: no news
            answers = await ask(world, "write", {"speed": 1200}, None)
            assert world.mapper.values["h1", 1, "speed"] == 1200
            assert [(a["state"], a["value"], a.get("id")) for a in answers] == [("applied", 1200, None)]

    play(scene)


def test_each_failure_is_told(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        key = await world.device("pump-1")
        async with world.running():
            await world.ready(key)
            world.mapper.refuse["h1", 1, "speed"] = PointError("busy", again_s=3600)
            for _ in range(2):
                answers = await ask(world, "write", {"speed": 1200}, None)
                assert [(a["state"], a["message"]) for a in answers] == [("failed", "busy")]

    play(scene)


def test_it_is_desired_as_by_any_client(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        key = await world.device("pump-1")
        async with world.running():
            await world.ready(key)
            assert [a["state"] for a in await ask(world, "write", {"speed": 700})] == ["applied"]
            assert world.mapper.values["h1", 1, "speed"] == 700
            assert [a["state"] for a in await ask(world, "write", {"speed": 9000})] == ["refused"]
            assert [a["reason"] for a in await ask(world, "write", "text")] == ["BadPayload"]
            assert (await world.object(key)).body["spec"]["desired"] == [{"name": "speed", "value": 700}]

    play(scene)


def test_while_the_device_is_away_it_waits(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        key = await world.device("pump-1", desired=[{"name": "speed", "value": 1200}])
        async with world.running():
            await world.applied(key)
            world.mapper.down.add("h1")
            await world.ready(key, "ConnectionRefused")
            assert await ask(world, "write", {"speed": 1200}) == []
            world.mapper.values["h1", 1, "speed"] = 900.0
            world.mapper.down.clear()
            await world.applied(key)
            assert world.mapper.values["h1", 1, "speed"] == 1200

    play(scene)
