"""An Edge Node on real brokers, followed by a host that believes nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from devicemesh.mapper import Quality
from devicemesh.sink.base import Command
from devicemesh.testing.broker import RealBroker
from devicemesh.testing.waiting import until

pytestmark = pytest.mark.skipif(not RealBroker.available(), reason="no MQTT broker is installed")
KINDS = pytest.mark.parametrize("kind", RealBroker.available())
PUMP_1, PUMP_2 = "default/pump-1", "north/pump-2"


@KINDS
@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("aliases", [True, False])
def test_births_data_and_death(kind: str, version: str, aliases: bool, plant: Any, host: Any) -> None:
    if kind != "mosquitto" and version != "5":
        pytest.skip("this broker speaks MQTT 5 only")

    async def scenario() -> None:
        async with plant(broker.url, version=version, sparkplug={"aliases": aliases}) as it:
            await it.born(seen)
            for number in range(300):  # more than a sequence has numbers
                it.read(PUMP_1, speed=float(number), count=number)
            it.read(PUMP_2, running=True, mode="auto")
            assert await it.sink.drain(10)
            it.conserved()
            stats = it.sink.stats()
            assert (stats.samples_published, stats.samples_spooled) == (602, 0)
            await until(lambda: len(seen.of("pump-1", "count")) == 300, why=lambda: seen.wrong)
            await until(lambda: seen.of("north:pump-2", "mode"))
        await until(lambda: not seen.online)

    with RealBroker(kind) as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []
        assert seen.verbs[0] == "NBIRTH"
        assert seen.verbs.count("NDEATH") == 1
        assert seen.of("pump-1", "count") == list(range(300))
        assert seen.of("pump-1", "speed") == [float(number) for number in range(300)]
        assert seen.of("north:pump-2", "running") == [True]
        assert not any(each.historical or each.bad for each in seen.values)


@KINDS
def test_what_a_birth_says(kind: str, plant: Any, host: Any) -> None:
    async def scenario() -> None:
        async with plant(broker.url) as it:
            it.declare(PUMP_1, PUMP_2)
            it.read(PUMP_1, time_ns=1_700_000_000_123_456_789, speed=1198.5, hours=4_000_000_000, mode="auto")
            it.read(PUMP_1, Quality.NO_ANSWER, running=False)
            it.twin(PUMP_1)
            it.state(PUMP_1)
            await until(lambda: "pump-1" in seen.devices)
            pump = seen.devices["pump-1"]
            assert pump.values == {
                "speed": 1198.5,
                "speed/alarm/overspeed": False,
                "count": None,
                "running": None,
                "mode": "auto",
                "pressure": None,
                **dict.fromkeys(
                    ("pressure/count", "pressure/bad", "pressure/mean", "pressure/max", "pressure/p95")
                ),
                "hours": 4_000_000_000,
                "command/reset": False,
                "command/reset/result": None,
                "command/move": None,
                "command/move/result": None,
                "twin/desired/result": None,
            }
            assert pump.properties["speed"] == {"engUnit": "rpm", "engLow": 0.0, "engHigh": 3000.0}
            assert pump.properties["running"] == {"Quality": 0}
            assert pump.properties["count"] == {"readOnly": True}
            it.known()
            assert pump.types["hours"] == 4  # Int64: decoders disagree on UInt32

    with RealBroker(kind) as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []


def test_a_host_asks_who_is_here(plant: Any, host: Any) -> None:
    async def scenario() -> None:
        async with plant(broker.url) as it:
            await it.born(seen)
            it.read(PUMP_1, count=1)
            await until(lambda: seen.of("pump-1", "count"))
            number = seen.bd_seq
            seen.ask("NCMD", None, ("Node Control/Rebirth", 11, True))
            await until(lambda: seen.births == 2 and len(seen.devices) == 3)
            assert seen.bd_seq == number  # it is the same session
            now_s = it.sink._dialect._clock()
            it.sink._dialect._clock = lambda: now_s
            it.sink._dialect._born_s = now_s - 0.9
            for asked in (True, True, False):  # too soon, all of them
                seen.ask("NCMD", None, ("Node Control/Rebirth", 11, asked))
            await until(lambda: it.sink._dialect._rebirth)
            it.sink._dialect.tend()
            assert it.sink._dialect._rebirth
            assert seen.births == 2
            now_s += 0.1
            await until(lambda: seen.births == 3 and len(seen.devices) == 3)
            it.read(PUMP_1, count=2)
            await until(lambda: seen.of("pump-1", "count") == [1, 2])
            seen.publish("NCMD", None, b"\xff\xff")
            seen.ask(
                "NCMD", None, ("Node Control/Rebirth", 11, False), ("Node Control/Next Server", 11, True)
            )
            it.read(PUMP_1, count=3)
            await until(lambda: seen.of("pump-1", "count") == [1, 2, 3])
            assert seen.births == 3

    with RealBroker() as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []


def test_data_waits_for_births_while_a_host_asks_who_is_here(plant: Any, host: Any) -> None:
    async def scenario() -> None:
        async with plant(broker.url) as it:
            await it.born(seen)
            for number in range(400):
                if number == 20:
                    seen.ask("NCMD", None, ("Node Control/Rebirth", 11, True))
                it.read(PUMP_1, count=number)
                it.read(PUMP_2, count=number)
                await asyncio.sleep(0.005)  # data at any moment of it
                if seen.births == 2 and number > 50:
                    break
            assert await it.sink.drain(10)
            await until(lambda: seen.births == 2 and len(seen.devices) == 3)

    with RealBroker() as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []
        assert seen.of("pump-1", "count") == list(range(len(seen.of("pump-1", "count"))))


def test_a_device_that_dies_as_a_host_asks_is_dead_once(plant: Any, host: Any) -> None:
    async def scenario() -> None:
        async with plant(broker.url) as it:
            clock = it.sink._dialect._clock
            await it.born(seen)
            it.read(PUMP_1, count=1)
            await until(lambda: seen.of("pump-1", "count"))
            it.state(PUMP_1, state="Offline")
            seen.ask("NCMD", None, ("Node Control/Rebirth", 11, True))
            it.sink._dialect._born_s -= 5
            await until(lambda: seen.births == 2 and "north:pump-2" in seen.devices)
            it.sink._dialect._clock = lambda: clock() + 5
            it.read(PUMP_2, count=2)
            await until(lambda: seen.of("north:pump-2", "count"))
            it.state(PUMP_2, state="Offline")
            it.sink._dialect._clock = lambda: clock() + 10
            await until(lambda: "north:pump-2" not in seen.devices)

    with RealBroker() as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []
        assert "DDEATH/pump-1" not in seen.verbs


def test_a_host_sets_and_runs(plant: Any, host: Any) -> None:
    async def scenario() -> None:
        async with plant(broker.url, sparkplug={"aliases": True}) as it:
            await it.born(seen)
            alias = {name: number for number, name in seen.devices["pump-1"].aliases.items()}
            seen.ask("DCMD", "pump-1", ("speed", 9, 1200.0), ("running", 11, True))
            seen.ask("DCMD", "pump-1", (alias["mode"], 12, "manual"))
            seen.ask("DCMD", "pump-1", ("speed", 10, None))
            seen.ask("DCMD", "north:pump-2", ("command/reset", 11, True))
            seen.ask("DCMD", "north:pump-2", ("command/move", 12, '{"position": 4.5}'))
            await until(lambda: len(it.commands) == 5, why=lambda: it.commands)
            assert sorted(it.commands, key=lambda each: each.device) == [
                Command("desired", PUMP_1, "", {"speed": 1200.0, "running": True}),
                Command("desired", PUMP_1, "", {"mode": "manual"}),
                Command("desired", PUMP_1, "", {"speed": None}),
                Command("command", PUMP_2, "reset", None),
                Command("command", PUMP_2, "move", {"position": 4.5}),
            ]
            it.commands.clear()
            for nothing in (
                [("count", 4, 5)],  # read-only
                [("pressure/mean", 10, 5.0)],
                [("nobody", 10, 5.0)],
                [(alias["mode"] + (1 << 20), 12, "another's")],
                [("running", 11, True), ("speed", 12, "fast")],  # nothing of a message that is wrong
                [("command/move", 12, "{")],
                [("command/reset", 11, False)],  # at rest
            ):
                seen.ask("DCMD", "pump-1", *nothing)
            seen.ask("DCMD", "nobody", ("speed", 9, 1.0))
            seen.publish("DCMD", "pump-1", b"\x12\xff")
            seen.publish("DCMD", "Pump_1", b"")
            seen.ask("DCMD", "pump-1", ("speed", 9, 5.0))
            await until(lambda: it.commands)
            assert it.commands == [Command("desired", PUMP_1, "", {"speed": 5.0})]
            assert it.sink.stats().commands_refused == 9

    with RealBroker() as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []


def test_a_command_that_the_broker_retains_is_not_run_at_every_start(plant: Any, host: Any) -> None:
    async def scenario() -> None:
        seen.ask("DCMD", "pump-1", ("command/reset", 11, True))
        payload = b"\x08\x01\x12\x13\x0a\x0dcommand/reset\x20\x0b\x70\x01"
        seen.publish("DCMD", "pump-1", payload, retain=True)
        async with plant(broker.url) as it:
            await it.born(seen)
            seen.publish("DCMD", "north:pump-2", payload)
            await until(lambda: it.commands)
            assert it.commands == [Command("command", PUMP_2, "reset", None)]

    with RealBroker() as broker, host(broker) as seen:
        asyncio.run(scenario())


def test_windows_alarms_and_results(plant: Any, host: Any) -> None:
    second = 1_700_000_000_000_000_000

    async def scenario() -> None:
        async with plant(broker.url) as it:
            it.aggregator.advance(second)
            await it.born(seen)
            for tenth in range(25):
                it.read(PUMP_1, time_ns=second + tenth * 100_000_000, pressure=float(tenth))
            when = {"severity": "warning", "value": 2100.0, "time": "2023-11-14T22:13:21.5Z"}
            for active in (True, False):
                body = {"alarm": "overspeed", "property": "speed", "active": active, **when}
                it.sink.event(PUMP_1, "alarm", body)
            it.sink.event(PUMP_1, "twin/desired/result", {"property": "speed", "state": "refused"})
            it.sink.event(PUMP_1, "alarm", {"alarm": "MotorHot", "event": "alarms", "time": when["time"]})
            assert await it.sink.drain(10)
            await until(lambda: seen.of("pump-1", "alarm/event"), why=lambda: seen.wrong)

    with RealBroker() as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []
        mean = seen.seen("pump-1", "pressure/mean")
        assert [(one.value, one.time_ms) for one in mean][:2] == [
            (4.5, 1_700_000_001_000),
            (14.5, 1_700_000_002_000),
        ]
        assert seen.of("pump-1", "pressure/count")[:2] == [10, 10]
        assert seen.of("pump-1", "pressure/bad")[:2] == [0, 0]
        assert seen.of("pump-1", "pressure/p95")[1] == pytest.approx(18, rel=0.02)
        alarms = seen.seen("pump-1", "speed/alarm/overspeed")
        assert [(one.value, one.time_ms) for one in alarms] == [
            (True, 1_700_000_001_500),
            (False, 1_700_000_001_500),
        ]
        assert json.loads(seen.of("pump-1", "twin/desired/result")[0]) == {
            "property": "speed",
            "state": "refused",
        }
        assert json.loads(seen.of("pump-1", "alarm/event")[0])["alarm"] == "MotorHot"
        assert not any(one.bad for one in seen.values)


def test_an_alarm_that_stands_is_in_the_next_birth(plant: Any, host: Any) -> None:
    async def scenario() -> None:
        async with plant(broker.url) as it:
            await it.born(seen)
            body = {
                "alarm": "overspeed",
                "property": "speed",
                "active": True,
                "time": "2023-11-14T22:13:21.5Z",
            }
            it.sink.event(PUMP_1, "alarm", body)
            await until(lambda: seen.of("pump-1", "speed/alarm/overspeed"))
            seen.ask("NCMD", None, ("Node Control/Rebirth", 11, True))
            await until(lambda: seen.births == 2 and len(seen.devices) == 3)
            assert seen.devices["pump-1"].values["speed/alarm/overspeed"] is True
            assert seen.devices["north:pump-2"].values["speed/alarm/overspeed"] is False

    with RealBroker() as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []


def test_what_is_not_telemetry_follows_the_twin(plant: Any, host: Any) -> None:
    async def scenario() -> None:
        async with plant(broker.url) as it:
            it.declare(PUMP_1)
            for number in (7, 7, 8, 8, 9):
                it.read(PUMP_1, time_ns=1_700_000_000_000_000_000, hours=number)
                it.twin(PUMP_1)
                it.state(PUMP_1)
                await until(lambda: "pump-1" in seen.devices)
            await until(lambda: len(seen.of("pump-1", "hours")) == 2, why=lambda: seen.wrong)
            assert seen.of("pump-1", "hours") == [8, 9]
            assert seen.devices["pump-1"].values["hours"] == 7

    with RealBroker() as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []


def test_values_that_a_metric_can_not_hold(plant: Any, host: Any) -> None:
    async def scenario() -> None:
        async with plant(broker.url) as it:
            await it.born(seen)
            it.read(PUMP_1, count=2**53 + 1)
            it.read(PUMP_1, count=-(2**63))
            it.read(PUMP_1, speed=float("nan"))
            it.read(PUMP_1, Quality.UNCERTAIN, speed=5.0)
            it.read(PUMP_1, Quality.FROM_HISTORY, speed=6.0)
            it.read(PUMP_1, Quality.NO_ANSWER, speed=0.0)
            it.read(PUMP_1, mode="ü\N{GRINNING FACE}")
            await until(lambda: seen.of("pump-1", "mode"), why=lambda: seen.wrong)
            assert seen.of("pump-1", "count") == [2**53 + 1, -(2**63)]
            assert seen.of("pump-1", "mode") == ["ü\N{GRINNING FACE}"]
            speeds = [(one.value, one.bad, one.historical) for one in seen.seen("pump-1", "speed")]
            assert speeds[-3:] == [(5.0, True, False), (6.0, False, True), (None, True, False)]

    with RealBroker() as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []


def test_a_device_that_goes_and_comes(plant: Any, host: Any) -> None:
    async def scenario() -> None:
        async with plant(broker.url) as it:
            await it.born(seen)
            it.read(PUMP_1, count=1)
            it.state(PUMP_1, state="Offline")
            it.read(PUMP_1, Quality.NO_LINK, count=0)  # said by its death
            await until(lambda: "pump-1" not in seen.devices)
            assert it.sink.stats().samples_spooled == 0
            it.read(PUMP_1, count=2)  # read before it went
            await until(lambda: "pump-1" in seen.devices)
            await until(lambda: "pump-1" not in seen.devices)
            it.state(PUMP_1, state="Degraded")
            await until(lambda: "pump-1" in seen.devices)
            it.read(PUMP_1, count=3)
            it.sink.retain(PUMP_2, "status", None)
            it.sink.retain(PUMP_2, "twin/reported", None)
            await until(lambda: "north:pump-2" not in seen.devices and len(seen.of("pump-1", "count")) == 3)
            it.sink.retain("default/gone", "status", None)
            assert it.sink._dialect._devices.find(PUMP_2) is None  # nothing is kept of what is gone
            assert it.sink._dialect._devices.find("default/gone") is None

    with RealBroker() as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []
        assert seen.of("pump-1", "count") == [1, 2, 3]
        assert seen.verbs.count("DDEATH/pump-1") == 2


def test_a_model_that_changes_is_told_before_its_data(plant: Any, host: Any) -> None:
    async def scenario() -> None:
        async with plant(broker.url) as it:
            await it.born(seen)
            it.read(PUMP_1, count=1)
            await until(lambda: seen.of("pump-1", "count"))
            it.declare(PUMP_1, model={"properties": [{"name": "flow", "type": "float64"}]})
            it.read(PUMP_1, flow=1.5)
            await until(lambda: seen.of("pump-1", "flow"), why=lambda: seen.wrong)
            assert list(seen.devices["pump-1"].types) == ["flow"]

    with RealBroker() as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []
