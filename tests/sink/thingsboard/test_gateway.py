"""What ThingsBoard is told of devices, and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from devicemesh.testing.thingsboard import ThingsBoard
from devicemesh.testing.waiting import until

Plants = Callable[..., Any]
MS = 10**6


def test_a_device_is_connected_with_its_profile_and_its_readings_keep_their_times(
    plant: Plants, platform: ThingsBoard
) -> None:
    at_ns = time.time_ns() // MS * MS

    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1", "north/pump-2")
            for step in range(3):
                it.read("default/pump-1", time_ns=at_ns + step * 5 * MS, speed=1000.5 + step, count=step)
            await until(lambda: platform.connected() == ["north:pump-2", "pump-1"])
            pump = platform.devices["pump-1"]
            await until(lambda: len(pump.series("count")) == 3)
            assert pump.series("speed") == [(at_ns // MS + 5 * step, 1000.5 + step) for step in range(3)]
            assert pump.series("count") == [(at_ns // MS + 5 * step, step) for step in range(3)]
            assert pump.type == "pump"
            assert await it.sink.drain(5)
            it.conserved()

    asyncio.run(scenario())
