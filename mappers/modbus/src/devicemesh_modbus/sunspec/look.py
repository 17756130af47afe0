"""Asking a device for its SunSpec models."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from devicemesh_modbus.sunspec.models import model
from devicemesh_modbus.sunspec.walk import Placed, walk

Read = Callable[[int, int], Awaitable[bytes]]
"""Holding registers (first, how many), big-endian; fewer where the device has not all of them."""
BASES = (40000, 50000, 0)
"""Where the map may begin (Device Information Model Specification, 6.1)."""
_MARK, _END = b"SunS", 0xFFFF
_REGISTERS = 1 << 16
_MAX_MODELS, _MAX_LENGTH = 200, 4000


@dataclass(frozen=True, slots=True)
class Map:
    """What a device says of itself."""

    models: list[int]  # as they come
    unknown: list[int]  # of them those that are not published
    cut: list[int]  # and those of which the device gives less than it says
    placed: list[Placed]


async def look(read: Read) -> Map | None:
    """What is there; None where there is no SunSpec map. Raises LookupError without the definitions."""
    for base in BASES:
        if await read(base, 2) == _MARK:
            return await _models(read, base + 2)
    return None


async def _models(read: Read, at: int) -> Map:
    found = Map([], [], [], [])
    while len(found.models) < _MAX_MODELS and at + 2 <= _REGISTERS:
        head = await read(at, 1)  # alone: some devices have nothing behind the end's
        number = int.from_bytes(head, "big") if head else _END
        length = await read(at + 1, 1) if number != _END else b""
        size = 2 + int.from_bytes(length, "big")
        if not length or size > _MAX_LENGTH or at + size > _REGISTERS:
            break
        found.models.append(number)
        definition = model(number)
        if definition is None:
            found.unknown.append(number)
        else:
            data = await read(at, size)
            found.placed.extend(walk(number, definition, at, data))
            if len(data) < 2 * size:
                found.cut.append(number)
        at += size
    return found
