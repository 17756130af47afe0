"""What ThingsBoard does not take, and how little of it: limits, refusals, servers of yesterday."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devicemesh.sink.thingsboard import gateway, link
from devicemesh.testing.broker import RealBroker
from devicemesh.testing.thingsboard import ThingsBoard
from devicemesh.testing.waiting import until

Plants = Callable[..., Any]
MS = 10**6


def count(platform: ThingsBoard, name: str) -> list[Any]:
    return [value for _, value in platform.devices[name].series("count")] if name in platform.devices else []


def test_nobody_is_sent_more_than_he_allows(plant: Plants) -> None:
    limits = {"messages": "200:1", "telemetryMessages": "40:1", "telemetryDataPoints": "100:1"}
    pumps = [f"default/pump-{number}" for number in range(3)]

    async def scenario(platform: ThingsBoard) -> None:
        async with plant(platform.url) as it:
            it.up(*pumps)
            await until(lambda: len(platform.connected()) == 3)
            platform.stop()
            for step in range(60):
                for pump in pumps:
                    it.read(pump, time_ns=(1_795_000_000_000 + step) * MS, count=step)
            platform.start()
            started = time.monotonic()
            await until(lambda: all(count(platform, f"pump-{n}") == list(range(60)) for n in range(3)))
            assert time.monotonic() - started > 0.5, "180 values do not go in a second of 100"
            assert platform.overruns == 0
            assert platform.connections == 2
            assert await it.sink.drain(5)
            it.conserved()
        assert platform.wrong == []

    with ThingsBoard(limits=limits) as platform:
        asyncio.run(scenario(platform))


def test_a_storm_of_calls_holds_up_no_data(plant: Plants, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devicemesh.sink.mqtt.PATIENCE_S", 0)  # most are never answered

    async def scenario(platform: ThingsBoard) -> None:
        async with plant(platform.url) as it:
            it.takes_s = 3600
            it.up("default/pump-1")
            await until(lambda: it.sink._dialect._limits.devices.messages.most == 2)
            await until(platform.connected)
            for _ in range(500):
                platform.request("pump-1", "move", {"position": 1})
            await until(lambda: it.sink.stats().commands_refused == 500 - 64)
            it.read("default/pump-1", count=5)
            await until(lambda: count(platform, "pump-1") == [5], 20)
            assert len(it.sink._dialect._link._replies) <= link.REPLIES
            assert platform.overruns == 0

    with ThingsBoard(limits={"messages": "3:1"}) as platform:
        asyncio.run(scenario(platform))


@pytest.mark.parametrize("old", [False, True])
def test_limits_that_nobody_tells_lose_nothing(
    plant: Plants, monkeypatch: pytest.MonkeyPatch, old: bool
) -> None:
    monkeypatch.setattr(gateway, "_FIRST_REST_S", 0.05)

    async def scenario(platform: ThingsBoard) -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1", "default/pump-2")
            for step in range(60):
                it.read(f"default/pump-{1 + step % 2}", time_ns=(1_795_000_000_000 + step) * MS, count=step)
                await asyncio.sleep(0)
            await until(lambda: count(platform, "pump-1") == list(range(0, 60, 2)))
            await until(lambda: count(platform, "pump-2") == list(range(1, 60, 2)))
            assert await it.sink.drain(20)
            it.conserved()
        assert platform.overruns > 0
        assert platform.wrong == []

    limits = {"telemetryMessages": "20:1", "telemetryDataPoints": "12:1"}
    with ThingsBoard(limits=limits, silent=True, old=old) as platform:
        asyncio.run(scenario(platform))


def test_a_session_that_was_too_fast_is_followed_by_a_rest(plant: Plants) -> None:
    async def scenario(platform: ThingsBoard) -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            await until(platform.connected)
            platform.limit("telemetryMessages", "1:60")
            for step in range(3):
                it.read("default/pump-1", count=step)
                await asyncio.sleep(0.01)
            await until(lambda: "waits a little" in (it.sink.stats().last_error or ""))
            it.read("default/pump-1", count=9)
            assert not await it.sink.drain(5), "it is not waited for when the runtime stops"
        assert platform.overruns >= 1

    with ThingsBoard(silent=True) as platform:
        asyncio.run(scenario(platform))


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("old", [False, True])
def test_what_can_not_be_read_there_stops_nothing_else(
    plant: Plants, version: str, old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text that is longer than the server wants: it says no, or hangs up."""
    monkeypatch.setattr(gateway, "_FIRST_REST_S", 0.05)
    monkeypatch.setattr(gateway, "FEW", 1000)  # nobody takes it for a matter of speed
    monkeypatch.setattr("devicemesh.sink.mqtt.Backoff.next", lambda self: 0.05)
    monkeypatch.setattr("devicemesh.sink.refusals._FIRST_S", 0.05)

    async def scenario(platform: ThingsBoard) -> None:
        async with plant(platform.url, version=version) as it:
            it.up("default/pump-1", "default/pump-2")
            await until(lambda: all("twin/state" in one.client for one in platform.devices.copy().values()))
            await until(lambda: len(platform.connected()) == 2 and it.sink._dialect.answers() is None)
            platform.stop()  # who hangs up owing answers may have been sent too much
            await until(lambda: not it.sink.stats().up)
            for step in range(6):
                it.read("default/pump-1", time_ns=(1_795_000_000_000 + step) * MS, count=step)
                it.read("default/pump-2", time_ns=(1_795_000_000_000 + step) * MS, count=step)
                if step == 2:
                    it.read("default/pump-1", mode="x" * 100)
            platform.start()
            await until(lambda: it.sink.stats().samples_dropped["refused"] == 1, why=it.sink.stats)
            await until(lambda: count(platform, "pump-1") == count(platform, "pump-2") == list(range(6)))
            assert await it.sink.drain(20)
            it.conserved()
        assert all("RefusedError" in one for one in platform.wrong)

    with ThingsBoard(longest=50, old=old) as platform:
        asyncio.run(scenario(platform))


@pytest.mark.parametrize("old", [False, True])
def test_a_device_that_is_one_too_many_waits_alone(
    plant: Plants, old: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(link, "UNANSWERED_S", 0.5)

    async def scenario(platform: ThingsBoard) -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            await until(lambda: platform.connected() == ["pump-1"])
            it.up("default/pump-2")
            for step in range(50):
                it.read("default/pump-2", time_ns=(1_795_000_000_000 + step) * MS, count=step)
                it.read("default/pump-1", time_ns=(1_795_000_000_000 + step) * MS, count=step)
                await asyncio.sleep(0.02)
            await until(lambda: count(platform, "pump-1") == list(range(50)))
            await until(lambda: "does not take the device pump-2" in caplog.text)
            assert platform.connections == 1
            assert it.sink._sender.refusals.paused_until == 0, "nobody else waits"
            platform.most = 2
            await until(lambda: count(platform, "pump-2") == list(range(50)))
            assert platform.devices["pump-2"].type == "pump"
            assert await it.sink.drain(20)
            it.conserved()

    with caplog.at_level(logging.WARNING), ThingsBoard(most=1, old=old) as platform:
        asyncio.run(scenario(platform))
    assert caplog.text.count("does not take the device") == 1


@pytest.mark.parametrize("silent", [False, True])
def test_it_is_said_that_we_are_no_gateway_there(
    plant: Plants, silent: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gateway, "DEAF_S", 0.3)

    async def scenario(platform: ThingsBoard) -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            await until(lambda: "is our device there a gateway?" in (it.sink.stats().last_error or ""))
            platform.tokens["token"] = True
            platform.stop()
            platform.start()
            await until(lambda: platform.connected() == ["pump-1"])
            await until(lambda: it.sink.stats().last_error is None)

    with caplog.at_level(logging.WARNING), ThingsBoard(tokens={"token": False}, silent=silent) as platform:
        asyncio.run(scenario(platform))
    assert caplog.text.count("Try: edit the device of our token") == 1


def test_the_token_is_a_secret_and_each_replica_has_its_own(plant: Plants, tmp_path: Path) -> None:
    (tmp_path / "secrets/things").mkdir(parents=True)
    (tmp_path / "secrets/things/token-test").write_text("second\n")
    options = {"username": None, "thingsboard": {"token": {"name": "things", "key": "token-{instance}"}}}

    async def scenario(platform: ThingsBoard) -> None:
        async with plant(platform.url, **options) as it:
            it.up("default/pump-1")
            await until(lambda: platform.connected() == ["pump-1"])
            assert list(platform.gateways) == ["second"]

    with ThingsBoard(tokens={"second": True}) as platform:
        asyncio.run(scenario(platform))


def test_a_wrong_token_is_said(plant: Plants, platform: ThingsBoard) -> None:
    async def scenario() -> None:
        async with plant(platform.url, username="wrong") as it:
            await until(lambda: "refused us" in (it.sink.stats().last_error or ""))

    asyncio.run(scenario())


def test_a_slow_server_gets_no_more_than_it_lets_wait(
    plant: Plants, platform: ThingsBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devicemesh.sink.mqtt.PATIENCE_S", 0)  # it never answers

    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            await until(platform.connected)
            platform.deaf = True
            before = platform.taken
            for step in range(300):
                it.read("default/pump-1", count=step)
                await asyncio.sleep(0.001)
            assert platform.taken - before <= 80
            assert it.sink.stats().samples_spooled == 300

    asyncio.run(scenario())


def test_a_server_that_goes_dumb_is_left(plant: Plants, platform: ThingsBoard) -> None:
    async def scenario() -> None:
        async with plant(platform.url, stall_s=0.5) as it:
            it.up("default/pump-1")
            await until(platform.connected)
            platform.deaf = True
            it.read("default/pump-1", count=1)
            await until(lambda: platform.connections > 1)
            platform.deaf = False
            await until(lambda: count(platform, "pump-1") == [1])

    asyncio.run(scenario())


def test_who_waits_for_its_rate_is_not_taken_for_dumb(plant: Plants) -> None:
    async def scenario(platform: ThingsBoard) -> None:
        async with plant(platform.url, stall_s=0.5) as it:
            it.up("default/pump-1")
            await until(lambda: it.sink._dialect._limits.devices.values.most == 4)
            for step in range(12):
                it.read("default/pump-1", time_ns=(1_795_000_000_000 + step) * MS, count=step)
            await until(lambda: count(platform, "pump-1") == list(range(12)))
            assert platform.connections == 1
            assert platform.overruns == 0

    with ThingsBoard(limits={"telemetryDataPoints": "5:2"}) as platform:
        asyncio.run(scenario(platform))


@pytest.mark.skipif(not RealBroker.available(), reason="no MQTT broker is installed")
def test_a_broker_between_is_killed_and_nothing_is_lost(plant: Plants, consumer: Any) -> None:
    import json

    async def scenario(broker: RealBroker, seen: Any) -> None:
        async with plant(broker.url) as it:
            it.up("default/pump-1")
            for step in range(300):
                it.read("default/pump-1", time_ns=(1_795_000_000_000 + step) * MS, count=step)
                if step in (100, 200):
                    broker.kill()
                    broker.start()
                await asyncio.sleep(0.002)
            await until(lambda: it.sink.stats().outbox_messages == 0)
            it.conserved()

        def got() -> set[int]:
            return {one["values"]["count"] for body in seen.on("gateway/telemetry")
                    for one in json.loads(body)["pump-1"]}  # fmt: skip

        await until(lambda: len(got()) >= 290)

    with RealBroker() as broker, consumer(broker.port, "v1/#") as seen:
        asyncio.run(scenario(broker, seen))
