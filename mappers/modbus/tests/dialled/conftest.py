"""Endpoints, points and polls of devices that dial in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from devicemesh_modbus.endpoint import ModbusEndpoint

from devicemesh.mapper import Quality


def _endpoint(port: int, registration: str | None = None, **fields: Any) -> ModbusEndpoint:
    data = {"listen": f"127.0.0.1:{port}", "registration": registration, "timeout": "200ms", **fields}
    return ModbusEndpoint.model_validate(data)


def _several(points: Any, *asked: tuple[ModbusEndpoint, str]) -> list[Any]:
    """Points of several endpoints, their slots one after the other."""
    made = []
    for slot, (one, text) in enumerate(asked):
        (point,) = points(one, text)
        made.append(type(point)(slot, f"default/{one.text()}", text, point.type, one, point.address))
    return made


async def _until(poll: Callable[[], Awaitable[bool]], patience_s: float = 60.0) -> None:
    """Poll once each 50 ms until it is true."""
    deadline = asyncio.get_running_loop().time() + patience_s
    while not await poll():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)


def _all_good(collect: Any, reader: Any, count: int) -> Callable[[], Awaitable[bool]]:
    async def poll() -> bool:
        seen = await collect(reader)
        return len(seen) == count and all(row[1] == Quality.GOOD for row in seen.values())

    return poll


@pytest.fixture
def endpoint() -> Callable[..., Any]:
    return _endpoint


@pytest.fixture
def several() -> Callable[..., Any]:
    return _several


@pytest.fixture
def until() -> Callable[..., Any]:
    return _until


@pytest.fixture
def all_good() -> Callable[..., Any]:
    return _all_good
