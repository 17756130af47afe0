"""Devices that are edited, deleted and made anew, at the wrong moment."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from devicemesh.testing.broker import RealBroker
from devicemesh.testing.waiting import until

pytestmark = pytest.mark.skipif(not RealBroker.available(), reason="no MQTT broker is installed")
PUMP = "default/pump-1"
PUMP_MODEL: dict[str, Any] = {"properties": [
    {"name": "speed", "type": "float32", "alarms": [{"name": "overspeed", "above": 2000}]},
    {"name": "count", "type": "int64", "telemetry": {"report": "every"}},
]}  # fmt: skip
FLOW = {"properties": [{"name": "flow", "type": "float64", "telemetry": {"report": "every"}}]}


async def alive(it: Any, seen: Any) -> None:
    it.declare(PUMP)
    it.known()
    it.state(PUMP)
    it.read(PUMP, count=1)
    await until(lambda: seen.of("pump-1", "count"), why=lambda: seen.wrong)


def test_a_device_that_is_made_anew_as_it_dies_keeps_its_new_metrics(plant: Any, host: Any) -> None:
    async def scenario() -> None:
        async with plant(broker.url) as it:
            await alive(it, seen)
            it.sink.retain(PUMP, "status", None)
            it.sink.retain(PUMP, "twin/reported", None)
            it.declare(PUMP, model=FLOW)  # before the old one is buried
            await until(lambda: "pump-1" not in seen.devices)
            it.state(PUMP)
            await until(lambda: "pump-1" in seen.devices and seen.devices["pump-1"].types)
            assert list(seen.devices["pump-1"].types) == ["flow"]

    with RealBroker() as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []


def test_a_declared_device_with_a_backlog_is_what_it_was_declared_when_it_comes(
    plant: Any, host: Any
) -> None:
    async def scenario() -> None:
        async with plant(broker.url) as it:
            it.declare(PUMP)
            it.known()
            it.read(PUMP, count=1)  # read before its status is told
            await until(lambda: "DDEATH/pump-1" in seen.verbs)
            it.state(PUMP)
            await until(lambda: "pump-1" in seen.devices and "mode" in seen.devices["pump-1"].types)

    with RealBroker() as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []


def test_a_device_that_is_edited_and_goes_at_once_is_told_dead(plant: Any, host: Any) -> None:
    async def scenario() -> None:
        async with plant(broker.url) as it:
            await alive(it, seen)
            it.declare(PUMP, model=FLOW)
            it.state(PUMP, state="Offline")
            await until(lambda: "pump-1" not in seen.devices)

    with RealBroker() as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []


def test_an_alarm_stands_through_an_edit(plant: Any, host: Any) -> None:
    """The core tells of it once, and keeps it over edits that leave it as it is."""
    speed, *others = PUMP_MODEL["properties"]
    edited = {"properties": [{**speed, "maximum": 4000}, *others]}
    alarm = {"property": "speed", "alarm": "overspeed", "active": True, "time": "2026-11-29T23:00:00Z"}

    async def scenario() -> None:
        async with plant(broker.url) as it:
            await alive(it, seen)
            it.sink.event(PUMP, "alarm", alarm)
            await until(lambda: seen.of("pump-1", "speed/alarm/overspeed") == [True])
            it.declare(PUMP, model=edited)
            await until(lambda: seen.devices["pump-1"].values.get("speed/alarm/overspeed") is True)
            it.sink.retain(PUMP, "status", None)  # another one has that name then
            it.declare(PUMP)
            it.state(PUMP)
            await until(lambda: seen.devices["pump-1"].values.get("speed/alarm/overspeed") is False)

    with RealBroker() as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []


def test_a_device_that_moves_away_while_it_dies_dies_once(plant: Any, host: Any) -> None:
    async def scenario() -> None:
        async with plant(broker.url) as it:
            dialect = it.sink._dialect
            await alive(it, seen)
            it.declare(PUMP, model=FLOW)
            it.state(PUMP, state="Offline")
            it.sink.release(PUMP)
            clock = dialect._clock
            dialect._clock = lambda: clock() + 5
            dialect.tend()
            await until(lambda: "pump-1" not in seen.devices)
            assert dialect._devices.find(PUMP) is None
            it.declare("default/pump-2")
            it.state("default/pump-2")
            await until(lambda: "pump-2" in seen.devices)

    with RealBroker() as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []
        assert seen.verbs.count("DDEATH/pump-1") == 1


def test_nothing_is_kept_of_a_device_that_is_deleted_while_there_is_no_broker(plant: Any, host: Any) -> None:
    async def scenario() -> None:
        async with plant(broker.url) as it:
            await alive(it, seen)
            broker.kill()
            await until(lambda: not it.sink.stats().up)
            it.sink.retain(PUMP, "status", None)
            it.sink.retain(PUMP, "twin/reported", None)
            assert it.sink._dialect._devices.find(PUMP) is None

    with RealBroker() as broker, host(broker) as seen:
        asyncio.run(scenario())


def test_all_births_come_before_all_data(plant: Any, host: Any) -> None:
    """payloads-dbirth-order: at the start, and when a host asks who is here."""
    names = [f"default/device-{number}" for number in range(400)]

    def in_order() -> bool:
        verbs = seen.verbs[len(seen.verbs) - seen.verbs[::-1].index("NBIRTH") :]
        first = next((at for at, verb in enumerate(verbs) if "DATA" in verb), len(verbs))
        return len([verb for verb in verbs[:first] if "DBIRTH" in verb]) == len(names)

    async def scenario() -> None:
        async with plant(broker.url) as it:
            it.declare(*names)
            it.state(*names)
            it.read(names[-1], count=1)
            it.read(names[0], count=1)
            it.known()
            await until(lambda: seen.of("device-0", "count"))
            assert in_order()
            seen.ask("NCMD", None, ("Node Control/Rebirth", 11, True))
            number = 1
            while seen.births < 2 or len(seen.of("device-399", "count")) < number:
                number += seen.births < 2
                if seen.births < 2:
                    it.read(names[-1], count=number)
                    it.read(names[-1], hours=number)
                    it.twin(names[-1])
                await asyncio.sleep(0.01)
            await until(lambda: len(seen.devices) == 401)
            assert in_order()

    with RealBroker() as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []


def test_json_is_told_as_its_text_and_taken_as_it_was_told(plant: Any, host: Any) -> None:
    values = [5, "5", "abc", {"a": [1, None]}, True]
    model = {
        "properties": [
            {"name": "setup", "type": "json", "access": "ReadWrite", "telemetry": {"report": "every"}}
        ]
    }

    async def scenario() -> None:
        async with plant(broker.url) as it:
            it.declare(PUMP, model=model)
            it.known()
            it.state(PUMP)
            for value in values:
                it.read(PUMP, setup=value)
            await until(lambda: len(seen.of("pump-1", "setup")) == len(values))
            told = seen.of("pump-1", "setup")
            assert [json.loads(text) for text in told] == values
            for text in told:
                seen.ask("DCMD", "pump-1", ("setup", 12, text))
            await until(lambda: len(it.commands) == len(values))
            assert [command.body["setup"] for command in it.commands] == values
            it.twin(PUMP)
            seen.ask("NCMD", None, ("Node Control/Rebirth", 11, True))
            await until(lambda: seen.births == 2 and "pump-1" in seen.devices)
            await until(lambda: seen.devices["pump-1"].values.get("setup") == told[-1])

    with RealBroker() as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []


def test_a_twin_and_a_record_that_can_not_be_read_end_nothing(plant: Any, host: Any) -> None:
    async def scenario() -> None:
        async with plant(broker.url) as it:
            await alive(it, seen)
            it.sink._sender.event(["E", PUMP, "alarm"], b"[" * 5000 + b"]" * 5000)
            it.sink._sender.event(["E", PUMP, "alarm"], json.dumps({"property": "speed"}).encode())
            it.sink._sender.event(["G"], json.dumps({"dropped": {"of_tomorrow": 1}, "time": 1}).encode())
            it.read(PUMP, count=2)
            await until(lambda: len(seen.of("pump-1", "count")) == 2)
            assert await it.sink.drain(10)
            assert it.sink.errors == 0

    with RealBroker() as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []


def test_leaving_waits_for_no_primary_host(plant: Any) -> None:
    async def scenario() -> None:
        async with plant(broker.url, sparkplug={"primary_host": "scada"}) as it:
            it.declare(PUMP)
            it.read(PUMP, count=1)
            await until(lambda: it.sink.stats().up)
            started = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - started < 3

    with RealBroker() as broker:
        asyncio.run(scenario())


def test_a_request_that_is_too_large_is_not_even_read(plant: Any, host: Any) -> None:
    async def scenario() -> None:
        async with plant(broker.url, max_payload_bytes=1024) as it:
            await alive(it, seen)
            it.sink._dialect._born_s -= 5
            rebirth = b"\x12\x1a\x0a\x14Node Control/Rebirth\x20\x0b\x70\x01"
            seen.publish("NCMD", None, rebirth + b"\x12\x00" * 600)
            await until(lambda: it.sink.stats().commands_refused == 1)
            assert not it.sink._dialect._rebirth
            seen.publish("NCMD", None, rebirth)
            await until(lambda: seen.births == 2)

    with RealBroker() as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []


def test_a_flood_of_nonsense_does_not_fill_the_log(plant: Any, host: Any, caplog: Any) -> None:
    async def scenario() -> None:
        async with plant(broker.url) as it:
            await alive(it, seen)
            for _ in range(200):
                seen.publish("DCMD", "pump-1", b"\xff")
            await until(lambda: it.sink.stats().commands_refused == 200)

    with RealBroker() as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []
        assert len([one for one in caplog.records if "refused" in one.getMessage()]) == 8
