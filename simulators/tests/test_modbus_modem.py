"""Simulated modems against the mapper: they dial in, come back, and fault as they are told."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from devicemesh_modbus.mapper import ModbusMapper

from devicemesh.mapper import Quality

PROPERTIES = [
    {"name": "count", "type": "uint16", "address": {"modbus": {"table": "holding", "offset": 1}},
     "access": "ReadWrite", "simulation": {"value": 42}},
    {"name": "door", "type": "bool", "address": {"modbus": {"table": "discrete", "offset": 2}},
     "simulation": {"value": True}},
]  # fmt: skip
FIELDS = {"listen": "0.0.0.0:5020", "timeout": "300ms"}


async def poll(reader: Any) -> dict[int, tuple[Any, int, str]]:
    """Slot -> (value, quality, reason)."""
    seen: dict[int, tuple[Any, int, str]] = {}
    async for batch in reader():
        for i, slot in enumerate(batch.slot):
            quality = batch.quality if isinstance(batch.quality, int) else batch.quality[i]
            seen[slot] = (batch.value[i], quality, batch.error.reason if batch.error else "")
    return seen


async def until(reader: Any, wanted: Callable[[dict[int, tuple[Any, int, str]]], bool]) -> None:
    async with asyncio.timeout(20):
        seen = await poll(reader)
        while not wanted(seen):
            await asyncio.sleep(0.05)
            seen = await poll(reader)


def all_good(seen: dict[int, tuple[Any, int, str]]) -> bool:
    return bool(seen) and all(row[1] == Quality.GOOD for row in seen.values())


@pytest.mark.parametrize("transport", ["tcp", "rtuovertcp", "asciiovertcp"])
@pytest.mark.parametrize("registered", [True, False])
def test_modems_dial_in_and_fault(declare: Any, serve: Any, transport: str, registered: bool) -> None:
    async def main() -> None:
        own = [{"registration": f"86000{n}"} if registered else {"unit": n} for n in (1, 2)]
        devices = [
            declare(f"pump-{n}", PROPERTIES, **FIELDS, transport=transport, **o) for n, o in enumerate(own)
        ]
        async with serve(*devices) as simulation:
            (address,) = simulation.addresses.values()
            points = [
                type(point)(10 * n + point.slot, point.device, point.name, point.type,
                            device.endpoint.redirect(address), point.address)
                for n, device in enumerate(devices) for point in device.points
            ]  # fmt: skip
            async with ModbusMapper().open(points[0].endpoint) as session:
                reader = session.reader(points)  # type: ignore[attr-defined]
                await until(reader, all_good)
                assert [(await poll(reader))[slot][0] for slot in (0, 1, 10, 11)] == [42, True, 42, True]
                said = simulation.fault("default/pump-0", "redial", {})
                assert said == "dials in anew; its old connection is half open"
                await until(reader, lambda seen: seen[0][1] != Quality.GOOD)
                assert (await poll(reader))[10][:2] == (42, Quality.GOOD), "its neighbour is read on"
                await until(reader, all_good)
                for fault, wrong in (("unplug", "NoAnswer"), ("disconnect", "NotDialledIn"), ("garbage", "")):
                    value = {"value": "100"} if fault == "garbage" else {}
                    simulation.fault("default/pump-0", fault, value)
                    await until(
                        reader, lambda seen, wrong=wrong: seen[0][1] != Quality.GOOD and wrong in seen[0][2]
                    )  # type: ignore[misc]
                    assert (await poll(reader))[10][:2] == (42, Quality.GOOD)
                    simulation.fault("default/pump-0", "heal", {})
                    await until(reader, all_good)

    asyncio.run(main())


def test_redialling_is_of_those_who_dial_in(declare: Any, serve: Any) -> None:
    async def main() -> None:
        async with serve(declare("pump-1", PROPERTIES)) as simulation:
            with pytest.raises(ValueError, match="`redial` takes no value, and is of devices with `listen`"):
                simulation.fault("default/pump-1", "redial", {})

    asyncio.run(main())
