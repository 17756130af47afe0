"""Births on which a broker hangs up: the others are told all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from devicemesh.sink.sparkplug.trial import Trial
from devicemesh.sink.suspects import LEARNED_S
from devicemesh.testing.waiting import until

SMALL, LARGE = ("default/pump-1", "default/pump-2", "default/pump-9"), "default/pump-5"
MODEL = {"properties": [{"name": f"temperature{n}", "type": "float64"} for n in range(100)]}


class Refusing:
    """A broker that hangs up on some births."""

    def __init__(self, refuses: Callable[[str, bytes], bool]) -> None:
        self.refuses = refuses
        self.taken: list[str] = []  # on this connection, the births and the data

    async def script(self, wire: Any) -> None:
        await wire.accept()
        self.taken.clear()
        async for packet in wire.publishes():
            if self.refuses(packet.topic, packet.body):
                wire.writer.close()
                return
            self.taken.append("/".join(packet.topic.split("/")[2::2]))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devicemesh.sink.mqtt.FIRST_DELAY_S", 0.01)
    monkeypatch.setattr("devicemesh.sink.mqtt.PATIENCE_S", 0.3)


@pytest.mark.usefixtures("impatient")
def test_a_birth_that_is_too_large_stops_nobody(plant: Any, scripted: Any) -> None:
    """MQTT 3.1.1 has no word for it; what waits of the device is dropped, and counted."""
    refusing = Refusing(lambda topic, body: len(body) > 2000)

    async def scenario() -> None:
        async with scripted(refusing.script) as broker, plant(broker.url) as it:
            it.declare(*SMALL)
            it.declare(LARGE, model=MODEL)
            it.known()
            it.state(*SMALL, LARGE)
            it.read(SMALL[2], count=1)
            it.read(LARGE, temperature0=1.0)
            await until(lambda: it.sink.stats().samples_spooled == 0)
            assert {f"DBIRTH/{name[8:]}" for name in SMALL} < set(refusing.taken)
            assert f"DBIRTH/{LARGE[8:]}" not in refusing.taken
            assert it.sink.stats().samples_dropped["too_large"] == 1
            assert it.sink.stats().samples_published == 1
            connections = broker.connections
            it.read(LARGE, temperature0=1.0)
            it.read(SMALL[0], count=2)
            assert await it.sink.drain(10)
            assert broker.connections == connections
            it.conserved()

    asyncio.run(scenario())


@pytest.mark.usefixtures("impatient")
def test_a_birth_that_is_not_allowed_stops_nobody(plant: Any, scripted: Any) -> None:
    """It is smaller than others that were taken, so that its readings wait for better days."""
    refusing = Refusing(lambda topic, body: "/DBIRTH/" in topic and topic.endswith("/pump-2"))

    async def scenario() -> None:
        async with scripted(refusing.script) as broker, plant(broker.url) as it:
            it.declare(LARGE, model=MODEL)
            it.declare(*SMALL)
            it.known()
            it.state(LARGE, *SMALL)
            it.read(SMALL[2], count=1)
            await until(lambda: "DDATA/pump-9" in refusing.taken)
            assert "DBIRTH/pump-2" not in refusing.taken

    asyncio.run(scenario())


@pytest.mark.usefixtures("impatient")
def test_what_waits_for_a_birth_is_not_blamed_for_it(plant: Any, scripted: Any) -> None:
    refusing = Refusing(lambda topic, body: len(body) > 2000)

    async def scenario() -> None:
        async with scripted(refusing.script) as broker, plant(broker.url) as it:
            it.declare(LARGE, model=MODEL)
            it.declare(SMALL[0])
            it.known()
            it.state(LARGE)
            it.read(SMALL[0], count=1)
            await until(lambda: it.sink.stats().samples_published == 1)
            assert it.sink.stats().refusals == 0

    asyncio.run(scenario())


def _sessions(trial: Trial, names: Sequence[str], refused: dict[str, int], most: int = 20) -> int:
    """How many it took until all others were told; a session tells them by turns."""
    for session in range(1, most):
        unborn = list(names)
        hung_up = False
        while unborn and not hung_up:
            turn = [name for name in trial.turn(unborn) if not trial.is_left_out(name, 0.0)]
            unborn = [name for name in unborn if not trial.is_left_out(name, 0.0)]
            for name in turn:
                unborn.remove(name)
                trial.sent(name, refused.get(name, 100))
            guilty = [name for name in turn if name in refused]
            taken = turn[: turn.index(guilty[0])] if guilty else turn
            hung_up = bool(guilty)
            if not hung_up:
                trial.answered(taken, 0.0)
        if not hung_up:
            assert not trial.careful
            return session
        trial.disconnected(0.0, hung_up=True)
    raise AssertionError("it goes on and on")


@pytest.mark.parametrize("count", [2, 60, 2000])
def test_it_is_found_soon_among_many(count: int) -> None:
    trial, names = Trial(), [f"default/pump-{n}" for n in range(count)]
    assert _sessions(trial, names, {names[count - 1]: 5000}) <= 8
    assert trial.too_large(5000, 0.0) and not trial.too_large(4999, 0.0)
    assert not trial.too_large(5000, LEARNED_S)


def test_several_are_found_one_after_the_other() -> None:
    trial, names = Trial(), [f"default/pump-{n}" for n in range(200)]
    assert _sessions(trial, names, {names[7]: 50, names[150]: 50}) <= 13
    assert trial.is_left_out(names[7], 0.0) and not trial.too_large(50, 0.0)
    assert not trial.is_left_out(names[7], LEARNED_S)
    trial.forget(names[150])
    assert not trial.is_left_out(names[150], 0.0)


def test_a_network_that_breaks_blames_nobody() -> None:
    trial = Trial()
    for _ in range(10):
        (name,) = trial.turn(["default/pump-1"])
        trial.sent(name, 100)
        assert trial.disconnected(0.0, hung_up=False) is None
    assert not trial.is_left_out("default/pump-1", 0.0)


def test_who_is_gone_is_not_waited_for() -> None:
    trial = Trial()
    for name in trial.turn(["default/pump-1", "default/pump-2"]):
        trial.sent(name, 100)
    trial.disconnected(0.0, hung_up=True)
    assert trial.turn(["default/pump-2"]) == ["default/pump-2"]
    trial.sent("default/pump-2", 100)
    assert trial.careful
    trial.answered(trial.under_way, 0.0)
    assert not trial.careful
