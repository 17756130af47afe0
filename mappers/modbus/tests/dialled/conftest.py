"""Endpoints, points and polls of devices that dial in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from devicemesh_modbus.endpoint import ModbusEndpoint

from devicemesh.mapper import Quality


class Kit:
    """What these tests are made of; the parts that all of Modbus has are fixtures beside it."""

    def __init__(self, **parts: Any) -> None:
        self.hostile, self.modem, self.fault = parts["hostile"], parts["modem"], parts["fault"]
        self.points, self.collect = parts["points"], parts["collect"]

    @staticmethod
    def endpoint(port: int, registration: str | None = None, **fields: Any) -> ModbusEndpoint:
        data = {"listen": f"127.0.0.1:{port}", "registration": registration, "timeout": "200ms", **fields}
        return ModbusEndpoint.model_validate(data)

    def several(self, *asked: tuple[ModbusEndpoint, str]) -> list[Any]:
        """Points of several endpoints, their slots one after the other."""
        made = []
        for slot, (one, text) in enumerate(asked):
            (point,) = self.points(one, text)
            made.append(type(point)(slot, f"default/{one.text()}", text, point.type, one, point.address))
        return made

    @staticmethod
    async def until(poll: Callable[[], Awaitable[bool]], patience_s: float = 60.0) -> None:
        """Poll once each 50 ms until it is true."""
        deadline = asyncio.get_running_loop().time() + patience_s
        while not await poll():
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.05)

    async def good(self, reader: Any, count: int, patience_s: float = 60.0) -> None:
        """Poll until there are so many readings, and all are good."""

        async def poll() -> bool:
            seen = await self.collect(reader)
            return len(seen) == count and all(row[1] == Quality.GOOD for row in seen.values())

        await self.until(poll, patience_s)


@pytest.fixture
def kit(hostile: Any, modem: Any, fault: Any, points: Any, collect: Any) -> Kit:
    return Kit(hostile=hostile, modem=modem, fault=fault, points=points, collect=collect)
