"""Brokers that hang up on a publish, without a word or with one: it alone has to wait, or is dropped and counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from devicemesh.sink.suspects import LEARNED_S, STRIKES, TOO_LARGE, Suspects
from devicemesh.testing.broker import RealBroker
from devicemesh.testing.waiting import until

pytestmark = pytest.mark.usefixtures("impatient")
PROBLEM = "devicemesh/v1/default/pump-0/telemetry"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devicemesh.sink.mqtt.PATIENCE_S", 0.3)
    monkeypatch.setattr("devicemesh.sink.mqtt.FIRST_DELAY_S", 0.02)
    monkeypatch.setattr("devicemesh.sink.refusals._FIRST_S", 0.02)


class Picky:
    """Takes publishes in order and hangs up on those that it does not like."""

    def __init__(self, dislikes: Callable[[str, bytes], bool]) -> None:
        self.dislikes = dislikes
        self.taken: list[tuple[str, bytes]] = []

    async def script(self, wire: Any) -> None:
        await wire.accept()
        async for packet in wire.publishes():
            at = 2 + int.from_bytes(packet.body[:2], "big") + 3
            payload = bytes(packet.body[at:])
            if self.dislikes(packet.topic, payload):
                wire.writer.close()
                return
            self.taken.append((packet.topic, payload))
            wire.send(bytes((0x40, 2)) + packet.identifier.to_bytes(2, "big"))

    def bodies(self, topic: str) -> list[int]:
        """What `Rig.put` numbered, without what came twice."""
        found = [int(json.loads(payload)["body"]) for to, payload in self.taken if to == topic]
        return sorted(set(found), key=found.index)


def play(rig: Any, scripted: Any, picky: Picky, scene: Callable[[Any], Any]) -> None:
    async def main() -> None:
        async with scripted(picky.script) as broker, rig.sink(broker.url) as sink:
            await asyncio.wait_for(scene(sink), 60)
            rig.conserved()

    asyncio.run(main())


def test_a_record_that_is_too_large_holds_up_nobody(rig: Any, scripted: Any) -> None:
    """Nor the next ones of its device; and what is as large is not tried again."""
    picky = Picky(lambda topic, payload: len(payload) > 2000)

    async def scene(sink: Any) -> None:
        rig.put(10, streams=3)
        assert await sink.drain(10)
        rig.put(1, size=5000)
        rig.put(10, streams=3)
        assert await sink.drain(30)
        assert sink.stats().samples_dropped["refused"] == 1
        connections = sink.stats().reconnects
        rig.put(5, size=6000)
        rig.put(5)
        assert await sink.drain(10)
        assert sink.stats().samples_dropped["too_large"] == 5
        assert sink.stats().reconnects == connections

    play(rig, scripted, picky, scene)
    assert picky.bodies("devicemesh/v1/default/pump-1/telemetry") == [*range(10), *range(11, 21)]
    assert picky.bodies(PROBLEM) == [*range(10), *range(11, 21), *range(26, 31)]


def test_a_topic_that_is_not_allowed_loses_nothing(rig: Any, scripted: Any) -> None:
    picky = Picky(lambda topic, payload: topic == PROBLEM)

    async def scene(sink: Any) -> None:
        rig.put(20, streams=3)
        await until(lambda: sink.stats().samples_spooled == 20)
        assert len(picky.bodies("devicemesh/v1/default/pump-2/telemetry")) == 20
        assert picky.bodies(PROBLEM) == []
        picky.dislikes = lambda topic, payload: False
        assert await sink.drain(30)
        assert not sum(sink.stats().samples_dropped.values())

    play(rig, scripted, picky, scene)
    assert sorted(picky.bodies(PROBLEM)) == list(range(20))  # the second one may have been tried first


def test_state_that_is_too_large_holds_up_nobody(rig: Any, scripted: Any) -> None:
    picky = Picky(lambda topic, payload: len(payload) > 2000)

    async def scene(sink: Any) -> None:
        for number in range(20):
            size = 5000 if number == 7 else 10
            sink.retain(f"default/pump-{number}", "twin/reported", {"text": "x" * size})
        rig.put(20, streams=3)
        assert await sink.drain(30)
        assert sink.stats().samples_published == 60
        sink.retain("default/pump-7", "twin/reported", {"text": "y" * 5001})
        rig.put(1)
        assert await sink.drain(10)
        sink.retain("default/pump-7", "twin/reported", None)
        await until(lambda: picky.taken[-1] == ("devicemesh/v1/default/pump-7/twin/reported", b""))

    play(rig, scripted, picky, scene)
    assert len({topic for topic, _ in picky.taken if topic.endswith("reported")}) == 20


@pytest.mark.skipif("mosquitto" not in RealBroker.available(), reason="needs mosquitto")
def test_mosquitto_says_so_and_hangs_up(rig: Any, consumer: Any) -> None:
    async def scenario() -> None:
        async with rig.sink(broker.url) as sink:
            rig.put(10)
            rig.put(1, size=5000)
            rig.put(10)
            sink.retain("default/pump-0", "status", {"state": "x" * 3000})
            sink.retain("default/pump-1", "status", {"state": "Ready"})
            assert await sink.drain(20)
            assert sink.stats().samples_dropped["too_large"] == 1
            await until(lambda: len(seen.bodies()) >= 20 and seen.on("/pump-1/status"))

    with (
        RealBroker("mosquitto", configuration="message_size_limit 2000") as broker,
        consumer(broker.port, "devicemesh/v1/#") as seen,
    ):
        asyncio.run(scenario())
    assert sorted(set(seen.bodies())) == [*range(10), *range(11, 21)]


def test_whom_to_blame() -> None:
    """A network that breaks on different ones, or on several, proves nothing."""
    suspects = Suspects()
    assert suspects.hung_up([]) is None
    assert suspects.hung_up([5, 6, 7]) is None
    assert suspects.first == 5
    for _ in range(STRIKES - 1):
        assert suspects.hung_up([5]) is None
    assert suspects.hung_up([6, 7]) is None
    assert suspects.first == 6
    for _ in range(STRIKES - 1):
        assert suspects.hung_up([6]) is None
    suspects.answered(1, 6, 0, 0.0)
    assert suspects.first is None
    results = [suspects.hung_up([8]) for _ in range(STRIKES + 1)]
    assert results == [None] * STRIKES + [8]


def test_what_is_known_of_sizes() -> None:
    suspects = Suspects()
    suspects.sent(1, 1000)
    suspects.answered(1, 1, 0, 0.0)
    suspects.not_taken(900, 0.0)  # not for its size: larger ones were taken
    assert not suspects.too_large(900, 0.0)
    suspects.sent(2, 3000)
    suspects.answered(2, 2, TOO_LARGE, 0.0)
    assert [suspects.too_large(size, 0.0) for size in (2999, 3000, 3001)] == [False, True, True]
    assert not suspects.too_large(3000, LEARNED_S)
