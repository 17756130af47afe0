"""What ThingsBoard is told of devices, and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from devicemesh.mapper import Quality
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


def test_every_kind_of_value_keeps_its_type(plant: Plants, platform: ThingsBoard) -> None:
    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            it.read("default/pump-1", speed=0.1, count=-(1 << 62), huge=(1 << 64) - 1, power=0.1 + 0.2,
                    running=True, mode="a\"ü\n")  # fmt: skip
            await until(lambda: platform.devices and platform.devices["pump-1"].latest("mode") is not None)
            pump = platform.devices["pump-1"]
            await until(lambda: pump.latest("power") is not None)
            assert pump.latest("speed") == 0.1
            assert pump.latest("count") == -(1 << 62)
            assert str(pump.latest("huge")) == str((1 << 64) - 1)
            assert pump.latest("power") == 0.3
            assert pump.latest("running") is True
            assert pump.latest("mode") == 'a"ü\n'

    asyncio.run(scenario())


def test_windows_alarms_and_events_are_telemetry(plant: Plants, platform: ThingsBoard) -> None:
    start_ns = time.time_ns() // (10**9) * 10**9

    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            it.read("default/pump-1", speed=2500.0)
            for step in range(12):
                it.read("default/pump-1", time_ns=start_ns + step * 100 * MS, pressure=float(step))
            await until(lambda: platform.devices and platform.devices["pump-1"].series("pressure/mean"))
            pump = platform.devices["pump-1"]
            assert pump.series("pressure/mean") == [(start_ns // MS + 1000, 4.5)]
            assert pump.series("pressure/count") == [(start_ns // MS + 1000, 10)]
            assert pump.latest("pressure/p95") is not None
            assert not pump.series("pressure")
            stamp = "2026-11-29T12:00:00.5Z"
            alarm = {
                "alarm": "overspeed",
                "property": "speed",
                "active": True,
                "value": 2500.0,
                "time": stamp,
            }
            it.sink.event("default/pump-1", "alarm", alarm)
            own = {
                "alarm": "MotorHot",
                "event": "alarms",
                "state": "active",
                "message": "96 degC",
                "time": stamp,
            }
            it.sink.event("default/pump-1", "alarm", own)
            await until(lambda: pump.latest("alarm/event"))
            assert pump.series("speed/alarm/overspeed") == [(1795953600500, True)]
            assert pump.latest("alarm/event")["message"] == "96 degC"

    asyncio.run(scenario())


def test_a_bad_value_is_no_value_and_its_quality_is_told(plant: Plants, platform: ThingsBoard) -> None:
    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            now_ns = time.time_ns()
            it.read("default/pump-1", time_ns=now_ns, speed=5.0)
            it.read("default/pump-1", Quality.NO_ANSWER, now_ns + 2 * MS, speed=6.0)
            it.read("default/pump-1", time_ns=now_ns + 4 * MS, speed=7.0)
            await until(lambda: platform.devices and platform.devices["pump-1"].latest("speed") == 7.0)
            pump = platform.devices["pump-1"]
            assert [value for _, value in pump.series("speed")] == [5.0, 7.0]
            assert [value for _, value in pump.series("speed/quality")] == ["Bad.NoAnswer", "Good"]

    asyncio.run(scenario())


def test_good_again_is_told_again_where_nobody_knows_whether_it_arrived(
    plant: Plants, platform: ThingsBoard
) -> None:
    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            it.read("default/pump-1", Quality.NO_ANSWER, speed=6.0)
            await until(lambda: platform.devices and platform.devices["pump-1"].latest("speed/quality"))
            platform.deaf = True
            it.read("default/pump-1", speed=7.0)
            await until(lambda: it.sink.stats().samples_spooled == 1)
            await asyncio.sleep(0)
            platform.stop()
            platform.deaf = False
            platform.start()
            await until(lambda: platform.devices["pump-1"].latest("speed") == 7.0)
            assert platform.devices["pump-1"].latest("speed/quality") == "Good"

    asyncio.run(scenario())


def test_good_again_is_told_by_the_next_process(plant: Plants, platform: ThingsBoard) -> None:
    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            it.read("default/pump-1", Quality.NO_ANSWER, speed=6.0)
            await until(lambda: platform.devices and platform.devices["pump-1"].latest("speed/quality"))
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            it.read("default/pump-1", speed=7.0, count=1)
            await until(lambda: platform.devices["pump-1"].latest("speed/quality") == "Good", 20)
            assert "count/quality" not in platform.devices["pump-1"].telemetry

    asyncio.run(scenario())


def test_what_was_read_while_the_platform_was_away_comes_late_and_whole(
    plant: Plants, platform: ThingsBoard
) -> None:
    pumps = [f"default/pump-{number}" for number in range(5)]

    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.up(*pumps)
            await until(lambda: len(platform.connected()) == 5)
            platform.stop()
            await until(lambda: not it.sink.stats().up)
            for step in range(200):
                for pump in reversed(pumps):
                    it.read(pump, time_ns=(1_795_000_000_000 + step) * MS, count=step)
            sent = len(platform.messages)
            platform.start()
            expected = [(1_795_000_000_000 + step, step) for step in range(200)]
            await until(
                lambda: all(one.series("count") == expected for one in platform.devices.copy().values())
            )
            assert await it.sink.drain(10)
            it.conserved()
            telemetry = [
                body for topic, body in platform.messages[sent:] if topic.endswith("gateway/telemetry")
            ]
            assert len(telemetry) < 500, "records of a device go together"
            assert all(len(body) == 1 for body in telemetry)
            assert {one.connects for one in platform.devices.copy().values()} == {2}

    asyncio.run(scenario())


def test_readings_of_a_past_process_reach_devices_with_their_profiles(
    plant: Plants, platform: ThingsBoard
) -> None:
    async def scenario() -> None:
        platform.stop()
        async with plant(platform.url) as it:
            it.up("default/pump-1", "default/gone")
            it.read("default/pump-1", count=1)
            it.read("default/gone", count=2)
            it.sink._leave = lambda: asyncio.sleep(0)
        platform.start()
        async with plant(platform.url) as it:
            await until(lambda: it.sink.stats().up)
            it.up("default/pump-1")
            await until(lambda: "gone" in platform.devices and platform.devices["gone"].latest("count") == 2)
            await until(lambda: platform.devices["pump-1"].latest("count") == 1)
            assert platform.devices["pump-1"].type == "pump"
            await until(lambda: platform.connected() == ["pump-1"])

    asyncio.run(scenario())


def test_a_dead_device_is_disconnected_once_its_state_is_told(plant: Plants, platform: ThingsBoard) -> None:
    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1", "default/pump-2")
            await until(lambda: len(platform.connected()) == 2)
            it.state("default/pump-1", state="Offline", reason="NoAnswer")
            await until(lambda: platform.connected() == ["pump-2"])
            client = platform.devices["pump-1"].client
            assert (client["twin/state"], client["twin/reason"]) == ("Offline", "NoAnswer")
            it.state("default/pump-1")
            await until(lambda: len(platform.connected()) == 2)
            await until(lambda: client["twin/state"] == "Ready")
            it.sink.retain("default/pump-2", "status", None)
            await until(lambda: platform.connected() == ["pump-1"])
            it.sink.release("default/pump-1")
            await until(lambda: platform.connected() == [])

    asyncio.run(scenario())


def test_a_device_that_died_while_the_platform_was_away_is_told_of(
    plant: Plants, platform: ThingsBoard
) -> None:
    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1", "default/pump-2")
            await until(lambda: platform.devices.keys() >= {"pump-1"} and platform.devices["pump-1"].client)
            client = platform.devices["pump-1"].client
            await until(lambda: client.get("twin/state") == "Ready")
            platform.stop()
            it.state("default/pump-1", state="Offline", reason="NoAnswer")
            platform.start()
            await until(lambda: client["twin/state"] == "Offline")
            await until(lambda: platform.connected() == ["pump-2"])
            platform.stop()
            platform.start()
            await until(lambda: platform.connected() == ["pump-2"])
            assert platform.devices["pump-1"].connects == 2

    asyncio.run(scenario())


def test_a_device_that_never_was_there_is_not_connected(plant: Plants, platform: ThingsBoard) -> None:
    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            it.declare("default/pump-2")
            it.state("default/pump-2", state="Offline")
            it.twin("default/pump-2")
            await until(lambda: platform.connected() == ["pump-1"])
            await until(lambda: platform.devices["pump-1"].client)
            assert list(platform.devices) == ["pump-1"]

    asyncio.run(scenario())


def test_attributes_are_what_can_be_set_what_is_no_telemetry_and_how_it_is(
    plant: Plants, platform: ThingsBoard
) -> None:
    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            it.read("default/pump-1", speed=1198.5, hours=7, count=3)
            it.read("default/pump-1", Quality.REFUSED, mode="x")
            it.twin("default/pump-1", speed=1200)
            await until(lambda: platform.devices and platform.devices["pump-1"].client.get("speed"))
            client = platform.devices["pump-1"].client
            await until(lambda: "twin/desired" in client)
            assert client == {
                "twin/state": "Ready", "twin/reason": "", "twin/message": "",
                "twin/model": "pump", "twin/manufacturer": "ACME", "twin/units": {"speed": "rpm"},
                "speed": 1198.5, "hours": 7, "twin/quality": {"mode": "Bad.Refused"},
                "twin/desired": {"speed": {"value": 1200, "state": "applied"}},
            }  # fmt: skip
            before = len(platform.messages)
            it.read("default/pump-1", speed=1199.5)
            it.twin("default/pump-1", speed=1200)
            await until(lambda: client["speed"] == 1199.5)
            told = [
                body["pump-1"] for topic, body in platform.messages[before:] if topic.endswith("y/attributes")
            ]
            assert told == [{"speed": "1199.5"}]

    asyncio.run(scenario())


def test_the_gateway_tells_of_itself(plant: Plants, platform: ThingsBoard) -> None:
    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            gateway = platform.gateways
            await until(lambda: gateway and gateway["token"].latest("devices") == 1)
            assert gateway["token"].latest("devices/alive") == 1
            assert gateway["token"].client["instance"] == "test"
            it.sink._sender.gap({"outbox_bytes": 7}, 1, 1795953600500 * MS)
            await until(lambda: gateway["token"].latest("Dropped/outbox_bytes") == 7)

    asyncio.run(scenario())


def test_two_thousand_devices_at_once(plant: Plants, platform: ThingsBoard) -> None:
    pumps = [f"default/pump-{number}" for number in range(2000)]
    model = {"properties": [{"name": "count", "type": "int64", "telemetry": {"report": "every"}}]}

    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.declare(*pumps, model=model)
            for number, pump in enumerate(pumps):
                it.read(pump, count=number)
            it.sink.forget_absent(lambda device: True)
            it.state(*pumps)
            await until(lambda: len(platform.connected()) == 2000)
            assert await it.sink.drain(30)
            assert all(platform.devices[f"pump-{n}"].latest("count") == n for n in range(2000))
            assert {one.type for one in platform.devices.copy().values()} == {"pump"}
            platform.stop()
            for number, pump in reversed(list(enumerate(pumps))):
                it.read(pump, count=-number - 1)
            platform.start()
            await until(
                lambda: all(platform.devices[f"pump-{n}"].latest("count") == -n - 1 for n in range(2000))
            )
            assert len(platform.connected()) == 2000
            it.conserved()

    asyncio.run(scenario())


def test_two_runtimes_are_two_gateways(plant: Plants) -> None:
    async def scenario(platform: ThingsBoard) -> None:
        options = {"thingsboard": {"prefix": "hall 2/", "profile": "Pump"}, "username": "second"}
        async with plant(platform.url) as one, plant(platform.url, "two", **options) as two:
            one.up("default/pump-1")
            two.up("default/pump-1")
            two.read("default/pump-1", count=2)
            one.read("default/pump-1", count=1)
            await until(lambda: platform.connected() == ["hall 2/pump-1", "pump-1"])
            await until(lambda: platform.devices["hall 2/pump-1"].latest("count") == 2)
            await until(lambda: platform.devices["pump-1"].latest("count") == 1)
            assert platform.devices["hall 2/pump-1"].type == "Pump"
            assert platform.connections == 2
        assert platform.wrong == []

    with ThingsBoard(tokens={"token": True, "second": True}) as platform:
        asyncio.run(scenario(platform))
