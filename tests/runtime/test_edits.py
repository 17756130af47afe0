"""Declarations that change under a running runtime, at the worst moment."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from devicemesh.store.base import StoreUnavailableError

Play = Callable[[Any], None]
SPEED = {
    "name": "speed",
    "access": "ReadWrite",
    "telemetry": {"samplingInterval": "100ms", "report": "every"},
}
LEVEL = {"name": "level", "telemetry": {"samplingInterval": "100ms", "report": "every"}}


async def _is(value: bool) -> bool:
    return value


def test_an_override_of_a_property_that_the_model_lost_stops_only_that_device(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED, LEVEL)
        override = [{"name": "level", "address": {"fake": {"key": "other"}}}]
        one, two = await world.device("pump-1", properties=override), await world.device("pump-2", "h2")
        async with world.running():
            await world.ready(one)
            await world.ready(two)
            await world.model(SPEED)
            await world.ready(one, "UnknownProperty")
            await world.ready(two)
            assert world.runtime.errors == 0

    play(scene)


def test_a_mapper_whose_model_has_a_bug_stops_only_its_device(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        link = world.mapper.endpoint_type.link
        monkeypatch.setattr(
            world.mapper.endpoint_type, "link", lambda self: 1 / 0 if self.host == "h2" else link(self)
        )
        one, two = await world.device("pump-1"), await world.device("pump-2", "h2")
        async with world.running():
            await world.ready(one)
            await world.ready(two, "InternalError")
            assert world.runtime.errors == 0

    play(scene)


def test_a_device_deleted_while_the_store_was_away_stops(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        gone, stays = await world.device("pump-1"), await world.device("pump-2", unit=2)
        watch = world.store.watch

        async def interrupted(kinds: Any) -> Any:
            async for event in watch(kinds):
                if world.store.away or event.type == "deleted":
                    raise StoreUnavailableError("the watch broke, and the deletion with it")
                yield event

        world.store.watch = interrupted
        async with world.running():
            await world.ready(gone)
            await world.ready(stays)
            await world.store.delete(gone)
            await world.until(lambda: _is(gone not in world.runtime.supervisor.devices), 10)
            assert list(world.runtime.supervisor.devices) == [stays]
            assert ("default/pump-1", "status") not in world.sink.retained

    play(scene)


def test_a_device_deleted_while_its_status_can_not_be_written(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        key = await world.device("pump-1")
        patch, writing, go = world.store.patch_status, asyncio.Event(), asyncio.Event()

        async def slow(statuses: Any) -> None:
            if world.mapper.down:
                writing.set()
                await go.wait()
                raise StoreUnavailableError("no space left")
            await patch(statuses)

        world.store.patch_status = slow
        async with world.running():
            await world.ready(key, "Polling")
            world.mapper.down.add("h1")
            await writing.wait()
            await world.store.delete(key)
            await world.until(lambda: _is(key not in world.runtime.supervisor.devices))
            go.set()
            await asyncio.sleep(1)
            assert world.runtime.errors == 0

    play(scene)


def test_why_a_device_can_not_run_is_said_once_the_store_is_back(play: Play) -> None:
    async def scene(world: Any) -> None:
        key = await world.device("pump-1")
        patch, failures = world.store.patch_status, [1, 2, 3]

        async def failing(statuses: Any) -> None:
            if failures:
                failures.pop()
                raise StoreUnavailableError("busy")
            await patch(statuses)

        world.store.patch_status = failing
        async with world.running():
            await world.ready(key, "ModelNotFound", 10)

    play(scene)


def test_an_alarm_of_what_is_gone_is_cleared(play: Play) -> None:
    async def scene(world: Any) -> None:
        alarm = {"name": "fast", "above": 100}
        await world.model({**SPEED, "alarms": [alarm]}, {**LEVEL, "alarms": [alarm]})
        one = await world.device("pump-1")
        world.mapper.values |= {("h1", 1, "speed"): 200.0, ("h1", 1, "level"): 200.0}
        async with world.running():
            await world.ready(one)
            await world.until(lambda: _is(len(world.runtime.alarms) == 2))
            await world.model({**SPEED, "alarms": [alarm]}, {"name": "other"})
            await world.until(lambda: _is(len(world.runtime.alarms) == 1))
            assert [(b["property"], b["active"]) for _, t, b in world.sink.events if t == "alarm"][2:] == [
                ("level", False)
            ]
            await world.store.delete(one)
            await world.until(lambda: _is(not world.runtime.supervisor.devices))
            assert world.runtime.alarms == {}

    play(scene)
