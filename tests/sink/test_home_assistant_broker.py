"""Discovery messages on a real broker: when they come, change and go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from devicemesh.settings import MqttSettings
from devicemesh.sink.base import Command, Declaration
from devicemesh.sink.mqtt import MqttSink
from devicemesh.sink.retained import Retained
from devicemesh.sink.topics import Topics
from devicemesh.spec.device import Property
from devicemesh.testing.broker import RealBroker, free_port
from devicemesh.testing.waiting import until

pytestmark = pytest.mark.skipif(not RealBroker.available(), reason="no MQTT broker is installed")
PUMP = "devicemesh_v1_default_pump-1/config"
RUNTIME = "devicemesh_v1__runtime_test/config"


def declared(**types: str) -> Declaration:
    access = {"rw": "ReadWrite", "ro": "ReadOnly"}
    properties = {
        name: Property.model_validate({"name": name, "type": type_, "access": access[kind]})
        for name, (type_, _, kind) in ((name, each.partition(" ")) for name, each in types.items())
    }
    return Declaration(properties, {}, {})


def components(payload: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(payload)["components"]
    return found


def kept(broker: RealBroker, consumer: Any) -> dict[str, bytes]:
    """What the broker keeps below homeassistant/device, by the rest of the topic."""
    with consumer(broker.port, "homeassistant/#", "end") as seen:
        seen.publish("end", b"")  # it comes after what is retained
        asyncio.run(until(lambda: seen.on("end")))
        assert all(each.retain for each in seen.messages if each.topic != "end")
        return {
            each.topic.removeprefix("homeassistant/device/"): bytes(each.payload)
            for each in seen.messages
            if each.topic != "end"
        }


def run(
    rig: Any, broker: RealBroker, act: Callable[[MqttSink], None], known: Sequence[str] | None = None
) -> None:
    """A whole life of a sink: all devices are said to be known at the end, as by the runtime."""

    async def life() -> None:
        async with rig.sink(broker.url, home_assistant=True) as sink:
            act(sink)
            if known is not None:
                sink.forget_absent(lambda device: device in known)
            await rig.up()
            assert await sink.drain(10)

    asyncio.run(life())


@pytest.mark.parametrize("kind", RealBroker.available())
def test_a_device_is_announced_changes_and_goes(kind: str, rig: Any, consumer: Any) -> None:
    async def scenario() -> None:
        async with rig.sink(broker.url, home_assistant=True) as sink:
            sink.declare("default/pump-1", declared(speed="float32 ro", fault="uint16 ro"))
            await until(lambda: seen.on(PUMP))
            assert components(seen.on(PUMP)[0]).keys() == {"sensor/speed", "sensor/fault"}
            sink.declare("default/pump-1", declared(speed="float32 ro", fault="uint16 ro"))
            sink.declare("default/pump-1", declared(speed="float32 rw"))
            await until(lambda: len(seen.on(PUMP)) == 2)
            now = components(seen.on(PUMP)[1])
            assert now.pop("number/speed")["max"] > 0
            assert now == {"sensor/speed": {"platform": "sensor"}, "sensor/fault": {"platform": "sensor"}}
            sink.retain("default/pump-1", "status", {"state": "Ready"})
            await until(lambda: seen.on("pump-1/status"))
            sink.retain("default/pump-1", "status", None)
            await until(lambda: seen.on("pump-1/status")[-1] == b"")
            assert await sink.drain(10)
        assert seen.on(PUMP)[2:] == [b""]
        order = [each.topic for each in seen.messages if not each.payload]
        assert order == [f"homeassistant/device/{PUMP}", "devicemesh/v1/default/pump-1/status"]

    with RealBroker(kind) as broker:
        with consumer(broker.port, "homeassistant/device/#", "devicemesh/v1/#") as seen:
            asyncio.run(scenario())
        assert kept(broker, consumer).keys() == {RUNTIME}


def test_what_was_edited_or_deleted_while_nobody_ran(rig: Any, consumer: Any) -> None:
    def first(sink: MqttSink) -> None:
        for name in ("pump-1", "pump-2"):
            sink.declare(f"default/{name}", declared(speed="float32 ro", fault="uint16 ro"))

    def second(sink: MqttSink) -> None:
        sink.declare("default/pump-1", declared(speed="float32 ro"))

    with RealBroker() as broker:
        run(rig, broker, first)
        assert len(kept(broker, consumer)) == 3
        run(rig, broker, second, ["default/pump-1"])
        found = kept(broker, consumer)
        assert found.keys() == {PUMP, RUNTIME}
        assert components(found[PUMP])["sensor/fault"] == {"platform": "sensor"}
        run(rig, broker, second, ["default/pump-1"])
        assert "pump-2" not in (rig.home / "home-assistant").read_text()
        assert kept(broker, consumer) == found, "nobody knows whether Home Assistant has heard it"


def test_what_another_replica_serves_stays(rig: Any, consumer: Any) -> None:
    async def scenario() -> None:
        async with rig.sink(broker.url, home_assistant=True) as sink:
            sink.declare("default/pump-1", declared(speed="float32 ro"))
            await rig.up()
            assert await sink.drain(10)
            sink.release("default/pump-1")
            broker.kill()  # and with it what it kept
            await until(lambda: not sink.stats().up)
            broker.start()
            await rig.up()
            assert await sink.drain(10)

    with RealBroker() as broker:
        asyncio.run(scenario())
        assert kept(broker, consumer).keys() == {RUNTIME}, "what is released is not said again"


def test_home_assistant_that_starts_hears_all_again(rig: Any, consumer: Any) -> None:
    async def scenario() -> None:
        seen.publish("homeassistant/status", b"online", retain=True)  # old news: all is said anyway
        async with rig.sink(broker.url, home_assistant=True) as sink:
            for number in range(300):
                sink.declare(f"default/pump-{number}", declared(speed="float32 ro"))
            await rig.up()
            assert await sink.drain(10)
            await until(lambda: len(seen.on("/config")) == 301)
            messages = sink.stats().messages
            await hears(sink)
            assert len(seen.on("/config")) == 301
            seen.publish("homeassistant/status", b"offline")
            seen.publish("homeassistant/status", b"online")
            await until(lambda: len(seen.on("/config")) == 602)
            assert await sink.drain(10)
            assert sink.stats().messages == messages + 301
        assert sorted(seen.on("/config")[:301]) == sorted(seen.on("/config")[301:])

    async def hears(sink: MqttSink) -> None:
        """Wait until it is subscribed: all of its filters are in one packet."""
        refused = sink.stats().commands_refused
        seen.publish(
            "devicemesh/v1/default/pump-1/command/x", b"1", retain=True
        )  # refused, whenever it comes
        await until(lambda: sink.stats().commands_refused > refused)

    with RealBroker() as broker, consumer(broker.port, "homeassistant/device/#") as seen:
        asyncio.run(scenario())


def test_what_the_broker_hangs_up_on_waits_all_the_same() -> None:
    retained = Retained(0.0)
    for device in ("a/1", "a/2"):
        retained.put((device, "x"), b"1")
        retained.sent((device, "x"))
    retained.defer(("a/1", "x"), 0.0)
    retained.repeat("x")
    assert retained.next(1.0) == (("a/2", "x"), b"1")
    retained.sent(("a/2", "x"))
    assert retained.next(2.0) is None


def test_what_is_set_there_is_a_write_and_never_a_retained_one(rig: Any, consumer: Any) -> None:
    async def scenario() -> None:
        seen.publish("devicemesh/v1/default/pump-1/twin/desired/now", b'{"speed": 1}', retain=True)
        sink = rig.sink(broker.url, home_assistant=True)
        sink.on_command(rig.on_command)
        async with sink:
            await until(lambda: sink.stats().commands_refused == 1)  # then it is subscribed, too
            seen.publish("devicemesh/v1/default/pump-1/twin/desired/now", b'{"speed": 2}')
            await until(lambda: rig.commands)
            assert rig.commands == [Command("write", "default/pump-1", "", {"speed": 2})]
            assert sink.stats().commands_refused == 1

    with RealBroker() as broker, consumer(broker.port, "none") as seen:
        asyncio.run(scenario())


def test_a_name_that_makes_no_topic_is_the_stores_to_tell(rig: Any, consumer: Any) -> None:
    with RealBroker() as broker:
        run(rig, broker, lambda sink: sink.declare("default/pump.1", declared(speed="float32 ro")))
        assert kept(broker, consumer).keys() == {RUNTIME}
        with pytest.raises(ValueError, match="is no device"):
            run(rig, broker, lambda sink: sink.retain("default/pump.1", "status", None))


def test_turned_off_again_it_leaves_nothing_behind(rig: Any, consumer: Any) -> None:
    """Not even where the broker is away when the runtime starts without it, and has ended by then."""
    file = rig.home / "home-assistant"

    async def life(url: str) -> list[str]:
        async with rig.sink(url) as sink:
            sink.declare("default/pump-1", declared(speed="float32 ro"))
            if url == broker.url:
                await rig.up()
                assert await sink.drain(10)
                await until(lambda: not file.exists())
            return list(sink._dialect.subscriptions)

    with RealBroker() as broker:
        run(rig, broker, lambda sink: sink.declare("default/pump-1", declared(speed="float32 ro")))
        assert kept(broker, consumer).keys() == {PUMP, RUNTIME}
        file.write_bytes(file.read_bytes() + b'[["sensor/x"], ["no device"]]\n')
        asyncio.run(life(f"mqtt://127.0.0.1:{free_port()}"))
        assert file.exists()
        subscriptions = asyncio.run(life(broker.url))
        assert kept(broker, consumer) == {}
        assert (
            asyncio.run(life(broker.url))
            == subscriptions
            == list(Topics(MqttSettings(), "test").subscriptions)
        )


def test_nothing_is_announced_unasked(rig: Any, consumer: Any) -> None:
    async def life() -> None:
        async with rig.sink(broker.url) as sink:
            sink.declare("default/pump-1", declared(speed="float32 ro"))
            await rig.up()
            assert await sink.drain(10)

    with RealBroker() as broker:
        asyncio.run(life())
        assert kept(broker, consumer) == {}
    assert not (rig.home / "home-assistant").exists()
