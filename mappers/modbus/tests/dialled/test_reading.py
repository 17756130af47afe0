"""Devices behind modems: what they say in between, and that nobody holds up a neighbour."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from devicemesh_modbus.session import open_session
from pymodbus.framer import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from devicemesh.mapper import PointError, Quality, Write
from devicemesh.testing.broker import free_port
from devicemesh.testing.clock import SOCKETS_S, run_virtual

GOOD = int(Quality.GOOD)
FRAMES = ("tcp", "rtuovertcp", "asciiovertcp")
IMEI, OTHER = "860000000000001", "860000000000002"


@pytest.mark.parametrize("transport", FRAMES)
def test_heartbeats_and_other_talk_are_passed_over(transport: str, kit: Any) -> None:
    """In one piece and in several, between answers, right before and right after them, and half of one."""

    async def work() -> None:
        port, device = free_port(), kit.hostile(transport=transport)
        one = kit.endpoint(port, IMEI, transport=transport)
        talk = [IMEI.encode(), b"www.usr.cn", b"\0", b"\0\1\0\0\0\3\0\x86\3", b"ping\r\n", b"\xfe" * 3]
        async with open_session(one) as session, kit.modem(device, port, IMEI.encode() + b"\r\n") as calling:
            reader = session.reader(kit.points(one, "holding:7", "coil:3", "holding:600"))
            await kit.good(reader, 3)
            for word in talk:
                for where in ("before", "after"):
                    device.faults = [kit.fault(**{where: word.hex()})]
                    calling.say(word)
                    seen = await kit.collect(reader)
                    assert [row[1] for row in seen.values()] == [GOOD] * 3, f"{word!r} {where}"
                device.faults = [kit.fault(before=word.hex(), drip_s=0.001)]
                seen = await kit.collect(reader)
                assert seen[0][:2] == (device.value(1, "holding", 7), GOOD), word
            assert calling.dialled == 1

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_slow_modem_does_not_hold_up_its_neighbour(kit: Any) -> None:
    async def work() -> None:
        port, slow, quick = free_port(), kit.hostile(faults=[kit.fault(delay_s=2.5)]), kit.hostile()
        asked = kit.several(
            (kit.endpoint(port, IMEI, timeout="5s"), "holding:0"), (kit.endpoint(port, OTHER), "holding:0")
        )
        loop, came = asyncio.get_running_loop(), {0: 0, 1: 0}
        async with open_session(asked[0].endpoint) as session:
            reader = session.reader(asked)
            async with kit.modem(slow, port, IMEI.encode()), kit.modem(quick, port, OTHER.encode()):
                await asyncio.sleep(1)
                for turn in range(20):
                    started = loop.time()
                    async for batch in reader():
                        assert batch.error is None
                        for slot in batch.slot:
                            came[slot] += 1
                    assert loop.time() - started < 1.1
                    await asyncio.sleep(max(0.0, 1.0 - (loop.time() - started)))
                    assert came[1] == turn + 1
                assert 6 <= came[0] <= 8
                assert session.lost() == {"slow_modem": 20 - came[0] - 1}

    run_virtual(work(), patience_s=SOCKETS_S)


def test_who_takes_longer_than_others_are_polled_is_read_each_time(kit: Any) -> None:
    """Its answer comes while another interval's turn is; once it is there, it may be asked again."""

    async def work() -> None:
        port, slow, quick = free_port(), kit.hostile(faults=[kit.fault(delay_s=3)]), kit.hostile()
        seldom, often = kit.several(
            (kit.endpoint(port, IMEI, timeout="5s"), "holding:0"), (kit.endpoint(port, OTHER), "holding:0")
        )
        seldom = replace(seldom, telemetry=seldom.telemetry.model_copy(update={"sampling_interval": "10s"}))
        came = []
        async with (
            open_session(often.endpoint) as session, kit.modem(slow, port, IMEI.encode()),
            kit.modem(quick, port, OTHER.encode()),
        ):  # fmt: skip
            tens, ones = session.reader([seldom]), session.reader([often])
            await asyncio.sleep(1)
            for second in range(60):
                for reader in (ones, tens) if second % 10 == 0 else (ones,):
                    async for batch in reader():
                        assert batch.error is None
                        came.extend(batch.slot)
                await asyncio.sleep(0.5)
            assert came.count(0) == 6 and session.lost() == {}

    run_virtual(work(), patience_s=SOCKETS_S)


def test_values_of_an_old_plan_never_get_into_a_new_one(kit: Any) -> None:
    """A slow modem's answer comes when its slot is another property's."""

    async def work() -> None:
        port, device = free_port(), kit.hostile(faults=[kit.fault(delay_s=1.5)])
        one = kit.endpoint(port, IMEI, timeout="5s")
        async with open_session(one) as session, kit.modem(device, port, IMEI.encode()):
            old = session.reader(kit.points(one, "holding:0"))
            await asyncio.sleep(1)
            assert [batch async for batch in old()] == [], "it is under way"
            new, values = session.reader(kit.points(one, "holding:7")), []
            while not values:
                values = [value async for batch in new() for value in batch.value]
            assert values == [device.value(1, "holding", 7)]

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_device_that_disagrees_is_bad_and_the_others_are_not(kit: Any) -> None:
    async def work() -> None:
        port = free_port()
        one, other = kit.endpoint(port, IMEI), kit.endpoint(port, OTHER, transport="rtuovertcp")
        async with open_session(one) as session, kit.modem(kit.hostile(), port, IMEI.encode()):
            asked = kit.several((one, "holding:0"), (other, "holding:0"))
            reader = session.reader(asked)

            async def first() -> bool:
                return (await kit.collect(reader))[0][1] == GOOD

            await kit.until(first)
            (_, quality, error) = (await kit.collect(reader))[1]
            assert quality == Quality.BAD and "transport tcp and rtuovertcp" in str(error)
            outcomes = await session.write([Write(asked[1], 1), Write(asked[0], 2)])
            assert isinstance(outcomes[0].error, PointError) and outcomes[1].value == 2

    run_virtual(work(), patience_s=SOCKETS_S)


@asynccontextmanager
async def pumped(port: int, target: int, says: bytes) -> Any:
    """Dial in for a server of other people: bytes go to and fro, as through a transparent modem."""

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(4096):
            sink.write(data)

    near, near_out = await asyncio.open_connection("127.0.0.1", port)
    near_out.write(says)
    far, far_out = await asyncio.open_connection("127.0.0.1", target)
    pumps = [asyncio.create_task(pump(near, far_out)), asyncio.create_task(pump(far, near_out))]
    try:
        yield
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for writer in (near_out, far_out):
            writer.transport.abort()
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("transport", "framer"),
    [("tcp", FramerType.SOCKET), ("rtuovertcp", FramerType.RTU), ("asciiovertcp", FramerType.ASCII)],
)
def test_pymodbus_behind_a_modem(transport: str, framer: FramerType, kit: Any) -> None:
    async def work() -> None:
        registers = [SimData(0, values=list(range(1000, 1200)), datatype=DataType.REGISTERS)]
        bits = [SimData(0, values=[True, False] * 30, datatype=DataType.BITS)]
        device = SimDevice(id=1, simdata=(bits, bits, registers, registers))
        server = ModbusTcpServer(device, framer=framer, address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        target, port = server.transport.sockets[0].getsockname()[1], free_port()  # type: ignore[attr-defined]
        one = kit.endpoint(port, IMEI, transport=transport, timeout="5s")
        try:
            async with open_session(one) as session, pumped(port, target, IMEI.encode()):
                asked = kit.points(one, "holding:0", "holding:150", "coil:0", "input:7", "holding:9:uint32")
                reader = session.reader(asked)
                await kit.good(reader, 5)
                seen = await kit.collect(reader)
                assert [seen[s][0] for s in range(5)] == [1000, 1150, True, 1007, 1009 << 16 | 1010]
                (outcome,) = await session.write([Write(asked[1], 77)])
                assert (outcome.value, outcome.error) == (77, None)
                shown = await session.trace(asked[0])
                assert (shown.value, shown.quality) == (1000, Quality.GOOD)
        finally:
            await server.shutdown()  # type: ignore[no-untyped-call]

    asyncio.run(work())


@pytest.mark.parametrize("transport", FRAMES)
@pytest.mark.parametrize("registration", [IMEI, None])
def test_connections_cut_at_random(transport: str, registration: str | None, kit: Any) -> None:
    """Whatever happens: a good value is the true one, every point comes once a poll, and all heals."""
    rng = random.Random(f"{transport} {registration}")

    async def work() -> None:
        port = free_port()
        devices = [kit.hostile(transport=transport) for _ in range(3)]
        says = [f"{registration}{n}" if registration else None for n in range(3)]
        ends = [
            kit.endpoint(port, says[n], unit=1 + n, transport=transport, timeout="30ms") for n in range(3)
        ]
        wheres = ("holding:0", "holding:40", "coil:3", "input:5")
        asked = kit.several(*((one, where) for one in ends for where in wheres))
        for n, device in enumerate(devices):
            device.faults = [kit.fault(unit=1 + other, deaf=True) for other in range(3) if other != n]
        loop, ahead_s, good, bad = asyncio.get_running_loop(), 0.0, 0, 0
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(
                open_session(ends[0], lambda: loop.time() + ahead_s, rng)
            )
            modems = [
                await stack.enter_async_context(kit.modem(device, port, (who or "").encode()))
                for device, who in zip(devices, says, strict=True)
            ]
            reader = session.reader(asked)
            for _ in range(150):
                n, what = rng.randrange(3), rng.random()
                own = [f for f in devices[n].faults if f.unit not in (None, 1 + n)]
                if what < 0.2 and modems[n].writer is not None:
                    modems[n].hang_up()
                elif what < 0.7:
                    kinds: list[dict[str, Any]] = [
                        {"deaf": True}, {"close": True}, {"cut": rng.randrange(1, 8)}, {"twice": True}, {"delay_s": 0.04},
                        {"exception": rng.choice((2, 4, 6, 11))}, {"before": rng.randbytes(5).hex()},
                    ]  # fmt: skip
                    devices[n].faults = [
                        *own,
                        kit.fault(unit=1 + n, times=rng.choice((1, 5)), **rng.choice(kinds)),
                    ]
                else:
                    devices[n].faults = own
                    modems[n].dialled and modems[n].say(rng.choice((b"beat", b"\0" * 9, rng.randbytes(20))))
                seen = await kit.collect(reader)
                for slot, (value, quality, _) in seen.items():
                    point = asked[slot]
                    device = devices[point.endpoint.unit - 1]
                    if quality == GOOD:
                        good += 1
                        truth = device.value(point.endpoint.unit, point.address.table, point.address.offset)
                        assert value == truth, f"{point.device} {point.name}"
                    else:
                        bad += 1
                ahead_s += rng.choice((0.0, 0.0, 70.0))
                await asyncio.sleep(rng.choice((0.0, 0.1, 1.0)))
            for n, device in enumerate(devices):
                device.faults = [f for f in device.faults if f.unit not in (None, 1 + n)]
            ahead_s += 7200
            await kit.good(reader, len(asked), 300.0)
        assert good > 400 and bad > 50, f"{good} good and {bad} bad mean nothing"

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_dead_unit_does_not_make_its_modem_look_dead(kit: Any) -> None:
    """Somebody claims to be a modem of which the first unit is silent, and the second answers."""

    async def work() -> None:
        port, true, liar = free_port(), kit.hostile(faults=[kit.fault(unit=1, deaf=True)]), kit.hostile()
        liar.memory = {(unit, "holding", 0): 4711 for unit in (1, 2)}
        asked = kit.several(*((kit.endpoint(port, IMEI, unit=u), "holding:0") for u in (1, 2)))
        async with open_session(asked[0].endpoint) as session, kit.modem(true, port, IMEI.encode()) as first:
            reader = session.reader(asked)

            async def second_unit() -> bool:
                return (await kit.collect(reader)).get(1, (None, 1))[1] == GOOD

            await kit.until(second_unit)
            async with kit.modem(liar, port, IMEI.encode()) as second:
                for _ in range(40):
                    for value, quality, _ in (await kit.collect(reader)).values():
                        assert quality != GOOD or value == true.value(2, "holding", 0)
                    await asyncio.sleep(0.1)
                assert first.dialled == 1 and second.dialled > 1

    run_virtual(work(), patience_s=SOCKETS_S)
