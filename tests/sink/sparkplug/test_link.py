"""Acknowledgements at QoS 0: only a broker that answers has had what was sent."""

from __future__ import annotations

import asyncio
from typing import Any

from devicemesh.testing.waiting import until

PINGRESP = bytes((0xD0, 0))


def test_nothing_counts_as_published_before_a_ping_after_it_is_answered(plant: Any, scripted: Any) -> None:
    data: list[Any] = []
    pings: list[int] = []  # how many data had come before each

    async def script(wire: Any) -> None:
        nonlocal peer
        peer = wire
        await wire.accept()
        while True:
            packet = await wire.packet()
            if packet.kind == 3 and "DDATA" in packet.topic:
                assert packet.flags == 0  # QoS 0, not retained
                data.append(packet)
            elif packet.kind == 12:
                pings.append(len(data))

    async def scenario() -> None:
        async with scripted(script) as broker, plant(broker.url) as it:
            it.declare("default/pump-1")
            it.known()
            it.read("default/pump-1", count=1)
            await until(lambda: pings)
            assert it.sink.stats().samples_spooled == 1
            for number in range(2, 12):
                it.read("default/pump-1", count=number)
            await until(lambda: len(data) == 11)
            await asyncio.sleep(0)
            assert pings == [1]  # one is under way at a time
            assert it.sink.stats().samples_published == 0
            peer.send(PINGRESP[:1])
            peer.send(PINGRESP[1:])
            await until(lambda: pings == [1, 11])
            assert it.sink.stats().samples_published == 1
            peer.send(PINGRESP)
            await until(lambda: it.sink.stats().samples_published == 11)
            peer.send(PINGRESP)  # unasked for
            it.read("default/pump-1", count=12)
            await until(lambda: len(pings) == 3)
            peer.send(PINGRESP)
            assert await it.sink.drain(10)
            it.conserved()

    peer: Any = None
    asyncio.run(scenario())


def test_an_answer_that_nobody_asked_for_acknowledges_nothing(plant: Any, scripted: Any) -> None:
    pings = 0

    async def script(wire: Any) -> None:
        nonlocal peer, pings
        peer = wire
        await wire.accept()
        while True:
            pings += (await wire.packet()).kind == 12

    async def scenario() -> None:
        async with scripted(script) as broker, plant(broker.url) as it:
            it.declare("default/pump-1")
            it.known()
            await until(lambda: it.sink.stats().up)
            peer.send(PINGRESP * 5 + b"\x30\x04\0\1x\0")  # and a message, to see that they have arrived
            await until(lambda: it.sink.stats().commands_refused == 1)
            it.read("default/pump-1", count=1)
            await until(lambda: pings)
            peer.send(b"\x30\x04\0\1x\0")
            await until(lambda: it.sink.stats().commands_refused == 2)
            assert it.sink.stats().samples_published == 0
            peer.send(PINGRESP)
            assert await it.sink.drain(10)

    peer: Any = None
    asyncio.run(scenario())


def test_a_connection_that_ends_before_the_answer_brings_it_all_again(plant: Any, scripted: Any) -> None:
    sessions: list[list[tuple[str, bool]]] = []

    async def script(wire: Any) -> None:
        seen: list[tuple[str, bool]] = []
        sessions.append(seen)
        await wire.accept()
        while True:
            packet = await wire.packet()
            if packet.kind == 3:
                seen.append((packet.topic.split("/")[2], b"\x28\x01" in packet.body))
            elif packet.kind == 12:
                if len(sessions) == 1:
                    return  # hangs up
                wire.send(PINGRESP)

    async def scenario() -> None:
        async with scripted(script) as broker, plant(broker.url) as it:
            it.declare("default/pump-1")
            it.known()
            it.read("default/pump-1", count=1)
            it.read("default/pump-1", count=2)
            await until(lambda: it.sink.stats().samples_published == 2)
            it.conserved()

    asyncio.run(scenario())
    assert [verb for verb, _ in sessions[1]][:4] == ["NBIRTH", "DBIRTH", "DDATA", "DDATA"]
    assert [late for verb, late in sessions[1] if verb == "DDATA"] == [True, True]
