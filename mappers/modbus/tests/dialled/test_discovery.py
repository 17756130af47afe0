"""Who dials in, and what is behind."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from devicemesh_modbus.mapper import ModbusMapper

from devicemesh.mapper import LinkError
from devicemesh.testing.broker import free_port
from devicemesh.testing.clock import SOCKETS_S, run_virtual
from devicemesh.testing.waiting import until as waited


def test_discovery_names_who_dials_in_and_then_what_is_behind(kit: Any) -> None:
    async def work() -> None:
        port, devices = free_port(), [kit.hostile() for _ in range(3)]
        place, mapper = f"127.0.0.1:{port}", ModbusMapper()
        says = (b"860000000000001\r\n", b"\x01\xa0\xff", b"")
        async with AsyncExitStack() as stack:
            for device, said in zip(devices, says, strict=True):
                await stack.enter_async_context(kit.modem(device, port, said))
            found = [one async for one in mapper.discover(f"modbus+listen://{place}")]
            assert sorted((one.uri, one.identity["registration"]) for one in found) == [
                (f"modbus+listen://{place}?registration=860000000000001", "860000000000001"),
                (f"modbus+listen://{place}?registration=hex%3A01a0ff", "hex:01a0ff"),
            ]
            behind = [one async for one in mapper.discover(found[0].uri)]
            assert len(behind) == 249 and behind[0].identity["vendor"] == "Mesh"
            assert mapper.parse_endpoint(behind[0].uri).unit == 1
            inside = [one async for one in mapper.discover(behind[0].uri)]
            assert any(address == "holding:0" for address, _ in inside[0].points)
        nobody = mapper.discover(f"modbus+listen://{place}?registration=nobody&timeout=1s")
        with pytest.raises(LinkError, match=f"nobody has dialled in to {place} yet as nobody"):
            await anext(nobody)

    run_virtual(work(), patience_s=SOCKETS_S)


def test_discovery_names_who_speaks_slowly_and_again_once(kit: Any) -> None:
    async def work() -> None:
        port, mapper = free_port(), ModbusMapper()

        async def talk(calling: Any) -> None:
            for word in (b"6", b"0", b"1"):
                await asyncio.sleep(0.05)
                calling.say(word)
            while True:
                await asyncio.sleep(10)
                calling.say(b"8601")

        async with kit.modem(kit.hostile(), port, b"8") as calling:
            finding = mapper.discover(f"modbus+listen://127.0.0.1:{port}")
            looking = asyncio.ensure_future(anext(finding))
            await waited(lambda: calling.dialled)
            talking = asyncio.create_task(talk(calling))
            found = [await looking, *[one async for one in finding]]
            assert [one.identity["registration"] for one in found] == ["8601"]
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)

    run_virtual(work(), patience_s=SOCKETS_S)


def test_discovery_of_one_that_says_nothing(kit: Any) -> None:
    async def work() -> None:
        port, mapper = free_port(), ModbusMapper()
        async with kit.modem(kit.hostile(), port):
            found = [one async for one in mapper.discover(f"modbus+listen://127.0.0.1:{port}")]
            assert [(one.uri, dict(one.identity)) for one in found] == [
                (f"modbus+listen://127.0.0.1:{port}", {"from": "127.0.0.1", "registration": "none"})
            ]

    run_virtual(work(), patience_s=SOCKETS_S)
