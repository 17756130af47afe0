"""Devices on the virtual air: what goes wrong with them, many at once, and discovery."""

from __future__ import annotations

import asyncio
import contextlib
import time
from array import array
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from devicemesh_ble import adapter as adapters
from devicemesh_ble import peripheral as peripherals
from devicemesh_ble import subscribe
from devicemesh_ble.mapper import BleMapper
from devicemesh_ble.model import BleAddress, BleEndpoint

from devicemesh.mapper import Batch, ConfigError, LinkError, Quality, Write
from devicemesh.spec.values import ValueType
from devicemesh.testing.clock import SOCKETS_S, run_virtual
from devicemesh.testing.contract import once, run
from devicemesh.testing.server import StreamServer

PUMP: dict[str, Any] = {
    "default/pump": (
        {"name": "Pump 1", "timeout": "500ms", "connectTimeout": "2s", "silence": "400ms"},
        {
            "battery": ("uint8", {"characteristic": "battery_level"}, {"value": 77}),
            "set-text": ("string", {"characteristic": "fff1"}, {"value": "a" * 100}),
            "set-command": ("uint8", {"characteristic": "fff3", "write": "command"}, {"value": 1}),
            "count": (
                "uint32",
                {"characteristic": "fff2", "mode": "notify"},
                {"signal": "counter", "low": 0, "high": 1000000, "step": 1, "period": "60ms"},
            ),
            "celsius": ("float64", {"beacon": "ruuvi/temperature"}, {"value": 21.5}),
            "rssi": ("int16", {"signal": "rssi"}, {}),
            "seen": ("int64", {"signal": "lastSeen"}, {}),
        },
    )
}
P = "default/pump"
Air = Callable[..., Any]


async def until(batches: AsyncIterator[Batch], wanted: Callable[[Batch], bool]) -> Batch:
    async for batch in batches:
        if wanted(batch):
            return batch
    raise AssertionError("the subscription has ended")


async def one(session: Any, point: Any) -> Any:
    return (await once(session.reader([point]), [point]))[point.slot]


def test_att_errors_and_slow_answers_concern_the_point(air: Air) -> None:
    async def work() -> None:
        async with air(PUMP) as plant, BleMapper().open(plant.endpoint) as session:
            battery, text = plant.of((P, "battery"), (P, "set-text"))
            assert (await one(session, battery)).value == 77
            plant.fault(P, "att", "5")
            row = await one(session, battery)
            assert row.quality == Quality.REFUSED and "0x05: it wants authentication" in str(row.error)
            assert row.error.reason == "Unauthorized"
            (outcome,) = await session.write([Write(text, "b")])
            assert "ATT error 0x05" in str(outcome.error) and not outcome.error.passes
            plant.fault(P, "att", "17")
            (outcome,) = await session.write([Write(text, "b")])
            assert "0x11: the device has no room" in str(outcome.error) and outcome.error.passes
            plant.fault(P, "heal")
            plant.fault(P, "delay", "2s")
            row = await one(session, battery)
            assert row.quality == Quality.NO_ANSWER and "no answer in time" in str(row.error)

    run(work())


def test_a_dropped_link_is_told_and_mended(air: Air) -> None:
    async def work() -> None:
        async with air(PUMP) as plant, BleMapper().open(plant.endpoint) as session:
            (count,) = plant.of((P, "count"))
            async with contextlib.aclosing(session.subscribe([count])) as batches:
                await until(batches, lambda b: b.error is None)
                plant.fault(P, "drop")
                gone = await until(batches, lambda b: b.error is not None)
                assert gone.error.reason == "NoAnswer"
                await until(batches, lambda b: b.error is None)

    run(work())


def test_notifications_come_in_order(air: Air) -> None:
    async def work() -> None:
        async with air(PUMP) as plant, BleMapper().open(plant.endpoint) as session:
            (count,) = plant.of((P, "count"))
            seen: list[float] = []
            async with contextlib.aclosing(session.subscribe([count])) as batches:
                async for batch in batches:
                    seen += batch.value
                    if len(seen) == 20:
                        break
            assert seen == sorted(seen) and seen[-1] - seen[0] >= 15

    run(work())


def test_an_mtu_of_23_is_enough_for_long_values(air: Air) -> None:
    async def work() -> None:
        async with air(PUMP) as plant:
            plant.fault(P, "mtu23")
            await asyncio.sleep(0.2)  # the device looks at its faults that often
            async with BleMapper().open(plant.endpoint) as session:
                (text,) = plant.of((P, "set-text"))
                assert (await one(session, text)).value == "a" * 100
                assert [o.value for o in await session.write([Write(text, "b" * 90)])] == ["b" * 90]
                found = session.devices.peripherals["Pump 1"]
                async with found.using() as client:
                    assert client.mtu_size == 23

    run(work())


def test_a_write_without_response_is_read_back(air: Air) -> None:
    async def work() -> None:
        async with air(PUMP) as plant, BleMapper().open(plant.endpoint) as session:
            (command,) = plant.of((P, "set-command"))
            assert [(o.value, o.error) for o in await session.write([Write(command, 9)])] == [(9, None)]
            (long,) = await session.write([Write(replace(command, type=ValueType.UINT16), 70000)])
            assert "does not fit" in str(long.error)

    run(work())


def test_a_device_known_by_name_may_change_its_address(air: Air) -> None:
    async def work() -> None:
        async with air(PUMP) as plant, BleMapper().open(plant.endpoint) as session:
            battery, rssi = plant.of((P, "battery"), (P, "rssi"))
            assert (await one(session, battery)).value == 77
            before = session.devices.adapter.found("Pump 1")[1].address
            assert "its address is" in plant.fault(P, "rotate")
            async with asyncio.timeout(5):
                while session.devices.adapter.found("Pump 1")[1].address == before:
                    assert (await one(session, rssi)).value == -50
            assert (await one(session, battery)).value == 77

    run(work())


def test_silence_turns_what_is_heard_bad(air: Air) -> None:
    async def work() -> None:
        async with air(PUMP) as plant, BleMapper().open(plant.endpoint) as session:
            heard = plant.of((P, "celsius"), (P, "rssi"), (P, "seen"))
            async with contextlib.aclosing(session.subscribe(heard)) as batches:
                seen = await until(batches, lambda b: b.slot[0] == heard[2].slot)
                assert abs(seen.value[0] - time.time()) < 3
                plant.fault(P, "silence")
                silent = await until(batches, lambda b: b.error is not None)
                assert list(silent.slot) == [p.slot for p in heard]
                assert "has advertised nothing for 400ms" in str(silent.error)
                plant.fault(P, "heal")
                await until(batches, lambda b: b.error is None)

    run(work())


def test_a_scanner_that_hears_nothing_begins_anew_and_then_the_link_is_lost(air: Air) -> None:
    async def work() -> None:
        async with air(PUMP) as plant:
            plant.fault(P, "silence")
            with pytest.raises(LinkError, match=r"heard nothing at all for 1\.2 s"):
                async with BleMapper().open(plant.endpoint) as session:
                    async for _ in session.subscribe(plant.of((P, "rssi"))):
                        pass
            assert session.devices.adapter.restarts == adapters.RESTARTS

    run(work())


def test_a_connect_to_an_absent_device_ends(air: Air) -> None:
    async def work() -> None:
        async with air(PUMP) as plant, BleMapper().open(plant.endpoint) as session:
            battery = plant.points[P, "battery"]
            absent = replace(
                battery,
                endpoint=BleEndpoint(adapter=plant.endpoint.adapter, name="Nobody", connect_timeout="200ms"),
            )
            row = await one(session, absent)
            assert row.quality == Quality.NO_ANSWER and "nothing is heard of it" in str(row.error)
            assert await one(session, absent), "a pause: nothing is tried"
            assert (await one(session, battery)).value == 77
            # one that was heard, and has gone: the controller's attempt is taken back
            plant.fault(P, "silence")
            plant.fault(P, "drop")
            async with asyncio.timeout(5):
                await session.devices.peripherals["Pump 1"].dropped.wait()
            task = asyncio.ensure_future(one(session, battery))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            plant.fault(P, "heal")
            assert (await one(session, battery)).value == 77

    run(work())


def test_a_device_without_room_is_left_alone(air: Air, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peripherals, "BACKOFF_S", (0.2, 0.4))

    async def work() -> None:
        async with air(PUMP) as plant, BleMapper().open(plant.endpoint) as session:
            battery = plant.points[P, "battery"]
            plant.fault(P, "slots", "0")
            row = await one(session, battery)
            assert row.quality == Quality.NO_ANSWER
            plant.fault(P, "heal")
            assert (await one(session, battery)).quality == Quality.NO_ANSWER, "it is not asked at once"
            await asyncio.sleep(0.3)
            assert (await one(session, battery)).value == 77

    run(work())


def test_a_hundred_advertise_and_five_are_connected(air: Air) -> None:
    declared: dict[str, Any] = {
        f"default/b{i}": (
            {"address": f"C0:00:00:00:00:{i:02X}", "silence": "5s"},
            {"celsius": ("float64", {"beacon": "bthome/temperature"}, {"value": i / 4})},
        )
        for i in range(95)
    }
    for i in range(5):
        declared[f"default/c{i}"] = (
            {"address": f"C0:00:00:00:01:{i:02X}", "timeout": "10s", "connectTimeout": "15s"},
            {"battery": ("uint8", {"characteristic": "battery_level"}, {"value": 50 + i})},
        )

    async def work() -> None:
        async with asyncio.timeout(60), air(declared) as plant, BleMapper().open(plant.endpoint) as session:
            heard = [p for p in plant.points.values() if p.address.passive]
            seen: dict[int, float] = {}
            connected = [p for p in plant.points.values() if not p.address.passive]
            reader = session.reader(connected)

            async def all_read() -> Any:
                """A connection may come too late for its poll; the next one has it."""
                while True:
                    found = await once(reader, connected)
                    if all(found[p.slot].quality == Quality.GOOD for p in connected):
                        return found

            polled = asyncio.ensure_future(all_read())
            async with contextlib.aclosing(session.subscribe(heard)) as batches:
                async for batch in batches:
                    seen |= dict(zip(batch.slot, batch.value, strict=True))
                    if len(seen) == 95 and polled.done():
                        break
            assert [seen[p.slot] for p in heard] == [i / 4 for i in range(95)]
            found = polled.result()
            assert [found[p.slot].value for p in connected] == [50, 51, 52, 53, 54]
            assert session.devices.adapter.slots.locked(), "all five slots are taken"

    run_virtual(work(), patience_s=SOCKETS_S)


def test_release_gives_the_slot_back(air: Air) -> None:
    declared: dict[str, Any] = {
        f"default/c{i}": (
            {"address": f"C0:00:00:00:01:{i:02X}", "connection": "release", "slots": 1},
            {"battery": ("uint8", {"characteristic": "battery_level"}, {"value": 50 + i})},
        )
        for i in range(3)
    }

    async def work() -> None:
        async with air(declared) as plant, BleMapper().open(plant.endpoint) as session:
            points = list(plant.points.values())
            found = await once(session.reader(points), points)
            assert [found[p.slot].value for p in points] == [50, 51, 52]
            assert not session.devices.adapter.slots.locked()

    run(work())


def test_what_is_discovered_can_be_applied(air: Air) -> None:
    async def work() -> None:
        async with air(PUMP) as plant:
            uri = f"ble://{plant.endpoint.adapter}?seconds=0.5"
            found = [one async for one in BleMapper().discover(uri)]
            assert [one.identity["name"] for one in found] == ["Pump 1"]
            assert found[0].identity["recognised"] == "ruuvi"
            assert ("ruuvi/temperature", "21.5") in found[0].points
            model, device = yaml.safe_load_all(found[0].manifest)
            for prop in model["spec"]["properties"]:
                address = BleAddress.model_validate(prop["address"]["ble"])
                assert address.refusal(ValueType(prop["type"]), "ReadOnly") is None
            endpoint = BleEndpoint.model_validate(device["spec"]["endpoint"]["ble"])
            assert BleMapper().parse_endpoint(found[0].uri) == endpoint
            async with BleMapper().open(endpoint) as session:
                point = replace(plant.points[P, "celsius"], endpoint=endpoint)
                assert (await one(session, point)).value == 21.5

    run(work())


def test_pairing_encrypts_the_link_and_again_after_a_drop(air: Air) -> None:
    declared = {P: ({**PUMP[P][0], "pair": True, "timeout": "3s", "connectTimeout": "5s"}, PUMP[P][1])}

    async def work() -> None:
        async with air(declared) as plant, BleMapper().open(plant.endpoint) as session:
            battery = plant.points[P, "battery"]
            for _ in range(2):
                assert (await one(session, battery)).value == 77
                peripheral = session.devices.peripherals["Pump 1"]
                (connection,) = session.devices.adapter._options["host"].device.connections.values()
                assert connection.is_encrypted
                plant.fault(P, "drop")
                await peripheral.dropped.wait()

    run(work())


def test_rows_that_nobody_takes_in_time_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscribe, "MAX_WAITING", 2)
    devices = SimpleNamespace(overrun=0)

    async def work() -> None:
        subscriber = subscribe.Subscriber(devices, [])  # type: ignore[arg-type]
        for count in (3, 2, 1, 1):
            subscriber._put(Batch(array("I", range(count)), 0, array("d", [0.0] * count)))

    run(work())
    assert devices.overrun == 3 + 2


def test_who_speaks_no_hci_is_a_link_error() -> None:
    async def work() -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()

        async with StreamServer(talk) as server:
            endpoint = BleEndpoint(adapter=f"bumble:tcp-client:127.0.0.1:{server.port}", name="x")
            with pytest.raises(LinkError, match=str(server.port)):
                async with BleMapper().open(endpoint):
                    pytest.fail("opened")

    run(work())


def test_models_say_what_is_wrong() -> None:
    for bad, why in (
        ({"beacon": "bthome/temprature"}, "has no 'temprature'"),
        ({"beacon": "x/y"}, "none of bthome"),
        ({"characteristic": "nonsense"}, "is no UUID"),
        ({"signal": "rssi", "offset": 2}, "does not go with `signal`"),
        ({"manufacturer": 1, "mode": "notify"}, "goes with `characteristic`"),
        ({"manufacturer": 1, "characteristic": "2a19"}, "give one of"),
    ):
        with pytest.raises(ValueError, match=why):
            BleAddress.model_validate(bad)
    for uri in ("ble://hci0/F0:F1", "ble://hci0", "coap://x", "ble://hci0/?name=a&x=1"):
        with pytest.raises(ConfigError):
            BleMapper().parse_endpoint(uri)
    address = BleMapper().parse_address
    assert address("manufacturer:0x0499@3").text == "manufacturer:0x0499@3"
    for type_, offset in (("uint16", 2), ("uint24", 2), ("medfloat", 1)):
        part = BleAddress.model_validate({"characteristic": "fff1", "type": type_, "offset": offset})
        assert part.refusal(ValueType.FLOAT64, "ReadOnly") is None
        assert "only be read" in str(part.refusal(ValueType.FLOAT64, "ReadWrite")), "the rest would be lost"
    assert address("signal:rssi").refusal(ValueType.STRING, "ReadOnly") == "rssi is not a string"
    assert "only be read" in str(address("bthome/temperature").refusal(ValueType.FLOAT64, "ReadWrite"))
