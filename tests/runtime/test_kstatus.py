"""What GitOps tools make of a device: kstatus' rules, as its README states them, on what the runtime reports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from devicemesh.mapper import ConfigError, PointError
from devicemesh.store.base import Object
from devicemesh.testing.fake import FakeMapper

Play = Callable[[Any], None]
SPEED = {"name": "speed", "access": "ReadWrite", "maximum": 3000}


def compute(found: Object) -> str:
    """kstatus (sigs.k8s.io/cli-utils/pkg/kstatus): generic properties first, then the Ready condition."""
    if "observedGeneration" not in found.status:
        return "InProgress"  # nothing was reported yet: what waits for it sees no Ready
    if found.status["observedGeneration"] != found.generation:
        return "InProgress"
    conditions = {one["type"]: one["status"] for one in found.status.get("conditions", ())}
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    return "Current" if conditions.get("Ready", "True") == "True" else "InProgress"


async def becomes(world: Any, key: Any, wanted: str, seconds: float = 60.0) -> None:
    async def check() -> bool:
        return compute(await world.object(key)) == wanted

    await world.until(check, seconds)


def test_a_device_that_runs_is_current_and_an_edit_is_in_progress_until_it_is_done(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        key = await world.device("pump-1")
        async with world.running():
            await becomes(world, key, "Current")
            await world.store.set_desired(key, {"speed": 100}, "test")
            assert compute(await world.object(key)) == "InProgress"
            await becomes(world, key, "Current")
            await world.store.set_desired(key, {"speed": 5000}, "test")
            await becomes(world, key, "Failed")
            stalled = await world.condition(key, "Stalled")
            assert stalled["reason"] == "OutOfRange" and "maximum of 3000" in stalled["message"]
            await world.store.set_desired(key, {"speed": 200}, "test")
            await becomes(world, key, "Current")
            assert await world.condition(key, "Stalled") == {}

    play(scene)


def test_an_edit_that_changes_nothing_to_be_seen_is_observed(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        key = await world.device("pump-1")
        async with world.running():
            await becomes(world, key, "Current")
            await world.device("pump-1", properties=[{"name": "speed", "telemetry": {"report": "every"}}])
            assert compute(await world.object(key)) == "InProgress"
            await becomes(world, key, "Current", 5)

    play(scene)


def test_what_waits_for_an_edit_has_failed_and_what_may_pass_is_in_progress(play: Play) -> None:
    async def scene(world: Any) -> None:
        early = await world.device("early")
        async with world.running():
            await world.ready(early, "ModelNotFound")
            assert (await world.condition(early, "Reconciling"))["reason"] == "ModelNotFound"
            assert compute(await world.object(early)) == "InProgress"
            await world.model(SPEED)
            await becomes(world, early, "Current")
            wrong = await world.device("wrong", properties=[{"name": "sped"}])
            await becomes(world, wrong, "Failed")
            assert (await world.condition(wrong, "Stalled"))["reason"] == "UnknownProperty"
            world.mapper.down.add("h1")
            await becomes(world, early, "InProgress")
            world.mapper.down.clear()
            await becomes(world, early, "Current")
            world.mapper.refuse["h1", 1, "speed"] = PointError("it is locked", reason="Locked")
            await world.store.set_desired(early, {"speed": 7}, "test")
            await becomes(world, early, "Failed")

    play(scene)


def test_a_link_that_waits_for_an_edit_has_stalled(play: Play, monkeypatch: Any) -> None:
    def wrong(self: FakeMapper, endpoint: Any, secrets: Any = None) -> Any:
        raise ConfigError("no such port")

    async def scene(world: Any) -> None:
        await world.model(SPEED)
        key = await world.device("pump-1")
        with monkeypatch.context() as patch:
            patch.setattr(FakeMapper, "open", wrong)
            async with world.running():
                await becomes(world, key, "Failed")
                assert (await world.condition(key, "Stalled"))["reason"] == "Misconfigured"
                patch.undo()
                await world.device("pump-1", host="h2")
                await becomes(world, key, "Current")
        await asyncio.sleep(0)

    play(scene)
