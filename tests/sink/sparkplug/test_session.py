"""Sessions of an Edge Node that end and begin: brokers, hosts and processes that come and go."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from devicemesh.testing.broker import RealBroker
from devicemesh.testing.waiting import until

pytestmark = pytest.mark.skipif(not RealBroker.available(), reason="no MQTT broker is installed")
KINDS = pytest.mark.parametrize("kind", RealBroker.available())
PUMP_1, PUMP_2 = "default/pump-1", "north/pump-2"


@KINDS
def test_what_was_read_while_the_broker_was_away(kind: str, plant: Any, host: Any) -> None:
    """With a primary host, a new session begins when that is there to hear it."""

    async def scenario() -> None:
        async with plant(broker.url, sparkplug={"primary_host": "scada"}) as it:
            seen.state(True, 1000)
            await it.born(seen)
            it.read(PUMP_1, count=0)
            await until(lambda: seen.of("pump-1", "count") == [0])
            broker.kill()
            for each in range(1, 200):
                it.read(PUMP_1, count=each)
            seen.subscribed.clear()
            broker.start()
            await until(seen.subscribed.is_set, 20)
            seen.state(True, 2000)
            await until(lambda: len(seen.of("pump-1", "count")) >= 200, 30, lambda: seen.wrong)
            it.read(PUMP_1, count=200)
            await until(lambda: seen.of("pump-1", "count")[-1] == 200)
            assert it.sink.stats().samples_published == 201
            it.conserved()

    with RealBroker(kind) as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []
        data = seen.seen("pump-1", "count")
        assert [one.value for one in data] == list(range(201))
        assert [one.historical for one in data] == [False, *[True] * 199, False]


def test_an_early_host_misses_nothing_after_an_outage(plant: Any, host: Any) -> None:
    """The order of a new session, seen whole: births, then the backlog, then what is new."""

    async def scenario() -> None:
        async with plant("mqtt://127.0.0.1:1") as it:
            it.declare(PUMP_1)
            it.read(PUMP_1, count=1)
            it.read(PUMP_1, count=2)
        async with plant(broker.url) as it:
            await until(lambda: seen.online)
            it.sink._dialect.tend()  # what waits is not sent before its device is declared
            it.sink._sender.pump()
            await it.born(seen, PUMP_1)
            it.read(PUMP_1, count=3)
            await until(lambda: len(seen.of("pump-1", "count")) == 3)

    with RealBroker() as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []
        assert [(one.value, one.historical) for one in seen.seen("pump-1", "count")] == [
            (1, True),
            (2, True),
            (3, False),
        ]
        assert seen.verbs[:3] == ["NBIRTH", "DBIRTH/pump-1", "DDATA/pump-1"]
        assert seen.verbs.count("DBIRTH/pump-1") == 1


def test_records_of_a_device_that_nobody_declares_any_more(plant: Any, host: Any) -> None:
    async def scenario() -> None:
        async with plant("mqtt://127.0.0.1:1") as it:
            it.declare("default/gone")
            it.read("default/gone", count=1, speed=2.5, mode="x", running=True)
            it.sink.event("default/gone", "alarm", {"alarm": "a", "event": "e"})
        async with plant(broker.url) as it:
            it.known()
            await until(lambda: seen.of("gone", "alarm/event"), why=lambda: seen.wrong)
            await until(lambda: "gone" not in seen.devices)
            it.conserved()

    with RealBroker() as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []
        assert seen.of("gone", "count") == [1]
        assert seen.of("gone", "running") == [True]


def test_the_primary_host(plant: Any, host: Any) -> None:
    async def scenario() -> None:
        async with plant(broker.url, sparkplug={"primary_host": "scada"}) as it:
            it.declare(PUMP_1)
            it.known()
            it.state(PUMP_1)
            it.read(PUMP_1, count=1)
            await until(lambda: it.sink.stats().up)
            seen.state(False, 1000)
            await until(lambda: "primary host" in (it.sink.stats().last_error or ""))
            assert seen.verbs == []
            seen.state(True, 2000)
            await until(lambda: seen.of("pump-1", "count") == [1], why=lambda: seen.wrong)
            seen.state(False, 1500)  # old news
            it.read(PUMP_1, count=2)
            await until(lambda: seen.of("pump-1", "count") == [1, 2])
            seen.state(False, 3000)
            await until(lambda: not seen.online)
            number = seen.bd_seq
            it.read(PUMP_1, count=3)
            await until(lambda: it.sink.stats().reconnects == 2)
            assert seen.of("pump-1", "count") == [1, 2]
            seen.state(True, 4000)
            await until(lambda: seen.of("pump-1", "count") == [1, 2, 3], why=lambda: seen.wrong)
            assert seen.bd_seq == number + 1
            assert it.sink.stats().last_error is None

    with RealBroker() as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []
        assert seen.seen("pump-1", "count")[-1].historical


def test_a_restart_goes_on_with_the_next_number(plant: Any, host: Any) -> None:
    async def scenario() -> list[int]:
        numbers = []
        for _ in range(2):
            async with plant(broker.url):
                births = seen.births
                await until(lambda births=births: seen.births == births + 1)
                numbers.append(seen.bd_seq)
            await until(lambda: not seen.online)
        return numbers

    with RealBroker() as broker, host(broker) as seen:
        first, second = asyncio.run(scenario())
        assert second == first + 1
        assert seen.wrong == []


def test_a_birth_that_is_more_than_the_broker_takes_holds_up_nobody(
    plant: Any, host: Any, caplog: Any
) -> None:
    wide = {"properties": [{"name": f"property{n}", "type": "int16"} for n in range(200)]}

    async def scenario() -> None:
        async with plant(broker.url) as it:
            it.declare("default/wide", model=wide)
            it.state("default/wide")
            await it.born(seen)
            it.read("default/wide", property1=5)
            it.read(PUMP_1, count=1)
            await until(lambda: seen.of("pump-1", "count"))
            assert it.sink.stats().samples_dropped["too_large"] == 1
            assert it.sink.stats().reconnects == 1
            it.conserved()

    limit = "max_packet_size 3000"
    with RealBroker("mosquitto", configuration=limit) as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []
        assert "the birth of default/wide" in caplog.text


def test_what_was_dropped_is_a_metric_of_the_node(plant: Any, host: Any) -> None:
    async def scenario() -> None:
        async with plant(broker.url) as it:
            await until(lambda: seen.online)
            it.sink._sender.gap({"outbox_bytes": 52012}, 1, time.time_ns())
            it.known()
            await until(lambda: seen.of("", "Dropped/outbox_bytes") == [52012], why=lambda: seen.wrong)
            seen.ask("NCMD", None, ("Node Control/Rebirth", 11, True))
            await until(lambda: seen.births == 2)

    with RealBroker() as broker, host(broker) as seen:
        asyncio.run(scenario())
        assert seen.wrong == []
