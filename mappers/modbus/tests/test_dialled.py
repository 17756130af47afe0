"""Modems that dial in: who is who, who comes back, who lies, and that nobody holds up a neighbour."""

from __future__ import annotations

import asyncio
import errno
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from devicemesh_modbus import hall
from devicemesh_modbus.door import Gossip
from devicemesh_modbus.endpoint import ModbusEndpoint
from devicemesh_modbus.mapper import ModbusMapper
from devicemesh_modbus.session import open_session
from pymodbus.framer import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from devicemesh.mapper import LinkError, PointError, Quality, Write
from devicemesh.testing.broker import free_port
from devicemesh.testing.clock import SOCKETS_S, run_virtual
from devicemesh.testing.waiting import until as waited

GOOD, NO_LINK = int(Quality.GOOD), int(Quality.NO_LINK)
FRAMES = ("tcp", "rtuovertcp", "asciiovertcp")
CUT = (ConnectionError, asyncio.IncompleteReadError)
IMEI, OTHER = "860000000000001", "860000000000002"


def endpoint(port: int, registration: str | None = None, **fields: Any) -> ModbusEndpoint:
    data = {"listen": f"127.0.0.1:{port}", "registration": registration, "timeout": "200ms", **fields}
    return ModbusEndpoint.model_validate(data)


def several(points: Any, *asked: tuple[ModbusEndpoint, str]) -> list[Any]:
    """Points of several endpoints, their slots one after the other."""
    made = []
    for slot, (one, text) in enumerate(asked):
        (point,) = points(one, text)
        made.append(type(point)(slot, f"default/{one.text()}", text, point.type, one, point.address))
    return made


async def until(poll: Callable[[], Awaitable[bool]], patience_s: float = 60.0) -> None:
    """Poll once each 50 ms until it is true."""
    deadline = asyncio.get_running_loop().time() + patience_s
    while not await poll():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)


def all_good(collect: Any, reader: Any, count: int) -> Callable[[], Awaitable[bool]]:
    async def poll() -> bool:
        seen = await collect(reader)
        return len(seen) == count and all(row[1] == GOOD for row in seen.values())

    return poll


@pytest.mark.parametrize("transport", FRAMES)
@pytest.mark.parametrize("says", [IMEI, "hex:7B01A0"])
def test_a_modem_comes_goes_and_comes_back(
    transport: str, says: str, hostile: Any, modem: Any, points: Any, collect: Any
) -> None:
    async def work() -> None:
        port, device = free_port(), hostile(transport=transport)
        first = bytes.fromhex(says[4:]) if says.startswith("hex:") else says.encode()
        one = endpoint(port, says, transport=transport)
        async with open_session(one) as session:
            reader = session.reader(points(one, "holding:7"))
            (_, quality, error) = (await collect(reader))[0]
            assert quality == NO_LINK and error.reason == "NotDialledIn"
            assert str(error) == f"nobody has dialled in to 127.0.0.1:{port} yet as {says}"
            (refused,) = await session.write([Write(points(one, "holding:7")[0], 5)])
            assert refused.error.reason == "NotDialledIn" and refused.error.passes
            async with modem(device, port, first) as calling:
                await until(all_good(collect, reader, 1))
                assert (await collect(reader))[0][0] == device.value(1, "holding", 7)
                (done,) = await session.write([Write(points(one, "holding:7")[0], 5)])
                assert (done.value, done.error) == (5, None)
                calling.hang_up()
                await until(all_good(collect, reader, 1))
                assert calling.dialled == 2

            async def gone() -> bool:
                return (await collect(reader))[0][1] == NO_LINK

            await until(gone)
            error = (await collect(reader))[0][2]
            assert (
                str(error)
                == f"the modem {says} has hung up, and has not dialled in to 127.0.0.1:{port} again"
            )

    run_virtual(work(), patience_s=SOCKETS_S)


@pytest.mark.parametrize("transport", FRAMES)
def test_heartbeats_and_other_talk_are_passed_over(
    transport: str, hostile: Any, modem: Any, fault: Any, points: Any, collect: Any
) -> None:
    """In one piece and in several, between answers, right before and right after them, and half of one."""

    async def work() -> None:
        port, device = free_port(), hostile(transport=transport)
        one = endpoint(port, IMEI, transport=transport)
        talk = [IMEI.encode(), b"www.usr.cn", b"\0", b"\0\1\0\0\0\3\0\x86\3", b"ping\r\n", b"\xfe" * 3]
        async with open_session(one) as session, modem(device, port, IMEI.encode() + b"\r\n") as calling:
            reader = session.reader(points(one, "holding:7", "coil:3", "holding:600"))
            await until(all_good(collect, reader, 3))
            for word in talk:
                for where in ("before", "after"):
                    device.faults = [fault(**{where: word.hex()})]
                    calling.say(word)
                    seen = await collect(reader)
                    assert [row[1] for row in seen.values()] == [GOOD] * 3, f"{word!r} {where}"
                device.faults = [fault(before=word.hex(), drip_s=0.001)]
                seen = await collect(reader)
                assert seen[0][:2] == (device.value(1, "holding", 7), GOOD), word
            assert calling.dialled == 1

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_registration_in_pieces_and_one_that_begins_another(
    hostile: Any, modem: Any, points: Any, collect: Any
) -> None:
    async def work() -> None:
        port, short, long = free_port(), hostile(), hostile(memory={(1, "holding", 0): 4711})
        asked = several(points, (endpoint(port, "86"), "holding:0"), (endpoint(port, "8601"), "holding:0"))
        async with open_session(asked[0].endpoint) as session:
            reader = session.reader(asked)
            async with modem(long, port, b"8") as slow, modem(short, port, b"86\r\n"):

                async def first() -> bool:
                    return (await collect(reader))[0][1] == GOOD

                await until(first)
                for piece in (b"6", b"0", b"1"):
                    await asyncio.sleep(0.1)
                    slow.say(piece)
                await until(all_good(collect, reader, 2))
                seen = await collect(reader)
                assert [seen[0][0], seen[1][0]] == [short.value(1, "holding", 0), 4711]

    run_virtual(work(), patience_s=SOCKETS_S)


def test_who_has_said_all_is_let_in_though_another_begins_so(
    hostile: Any, modem: Any, points: Any, collect: Any
) -> None:
    """It says no CR LF behind, and nothing more."""

    async def work() -> None:
        port, device = free_port(), hostile()
        asked = several(points, *((endpoint(port, says), "holding:0") for says in ("meter-a", "meter-a2")))
        async with open_session(asked[0].endpoint) as session, modem(device, port, b"meter-a") as calling:
            reader = session.reader(asked)

            async def first() -> bool:
                seen = await collect(reader)
                assert seen[1][1] == NO_LINK
                return seen[0][1] == GOOD

            await until(first, 10.0)
            assert calling.dialled == 1

    run_virtual(work(), patience_s=SOCKETS_S)


@pytest.mark.parametrize(("before", "after"), [(None, IMEI), (IMEI, None), ("meter", "meter-a")])
def test_a_registration_is_edited_while_the_modem_is_here(
    before: str | None, after: str | None, hostile: Any, modem: Any, points: Any, collect: Any
) -> None:
    """It is hung up on, dials in again, and is known by the new one; its neighbour is not."""

    async def work() -> None:
        port, device, near = free_port(), hostile(), hostile()
        says = b"meter-a" if after == "meter-a" else IMEI.encode()
        other = endpoint(port, OTHER)
        asked = several(points, (endpoint(port, before), "holding:0"), (other, "holding:0"))
        edited = several(points, (endpoint(port, after), "holding:0"), (other, "holding:0"))
        async with (
            open_session(other) as session, modem(device, port, says) as calling,
            modem(near, port, OTHER.encode()) as stays,
        ):  # fmt: skip
            await until(all_good(collect, session.reader(asked), 2))
            await until(all_good(collect, session.reader(edited), 2))
            assert calling.dialled == 2 and stays.dialled == 1

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_unit_is_edited_while_its_modem_is_here(
    hostile: Any, modem: Any, points: Any, collect: Any
) -> None:
    async def work() -> None:
        port, device = free_port(), hostile()
        async with open_session(endpoint(port)) as session, modem(device, port) as calling:
            await until(all_good(collect, session.reader(points(endpoint(port, unit=3), "holding:0")), 1))
            await until(all_good(collect, session.reader(points(endpoint(port, unit=5), "holding:0")), 1))
            assert calling.dialled == 1, "it is asked for what is new"

    run_virtual(work(), patience_s=SOCKETS_S)


@pytest.mark.parametrize(
    ("said", "registration", "is_it"),
    [
        (b"8601", b"8601", True),
        (b"8601\r\n", b"8601", True),
        (b"8601www.usr.cn", b"8601", True),
        (b"86018601", b"8601", True),
        (b"86012", b"8601", False),  # another modem's, of whose number this is the beginning
        (b"meter12", b"meter1", False),
        (b"meter-a2", b"meter-a", True),
        (b"8600", b"8601", False),
        (b"86", b"8601", False),
        (b"\1\2\3", b"\1\2", True),
    ],
)
def test_what_is_said_first(said: bytes, registration: bytes, is_it: bool) -> None:
    assert hall.begins(said, registration) == is_it


@pytest.mark.parametrize("transport", FRAMES)
def test_modems_are_told_apart_by_their_units(
    transport: str, hostile: Any, modem: Any, fault: Any, points: Any, collect: Any
) -> None:
    """One modem has units 1 and 2, the other 3; 2 is switched on later; the third has none of them."""

    async def work() -> None:
        port = free_port()
        left, right, none = (hostile(transport=transport, memory={(u, "holding", 0): 1000 * u for u in (1, 2, 3)})
                             for _ in range(3))  # fmt: skip
        left.faults = [fault(unit=u, deaf=True) for u in (2, 3)]
        right.faults = [fault(unit=u, deaf=True) for u in (1, 2)]
        none.faults = [fault(deaf=True)]
        asked = several(
            points, *((endpoint(port, transport=transport, unit=u), "holding:0") for u in (1, 2, 3))
        )
        async with open_session(asked[0].endpoint) as session, AsyncExitStack() as stack:
            reader = session.reader(asked)
            error = (await collect(reader))[1][2]
            assert str(error) == f"nobody has dialled in to 127.0.0.1:{port} yet who answers as unit 2"
            for device in (none, left, right):
                await stack.enter_async_context(modem(device, port))

            async def two() -> bool:
                seen = await collect(reader)
                return [seen[s][1] for s in (0, 1, 2)] == [GOOD, NO_LINK, GOOD]

            await until(two)
            left.faults = left.faults[1:]
            await until(all_good(collect, reader, 3))
            seen = await collect(reader)
            assert [seen[s][0] for s in (0, 1, 2)] == [1000, 2000, 3000]
            assert {r[0] for r in left.requests[-4:]} <= {1, 2} and right.requests[-1][0] == 3

    run_virtual(work(), patience_s=SOCKETS_S)


def test_units_that_are_not_there_are_looked_for_seldom_and_new_ones_at_once(
    hostile: Any, modem: Any, fault: Any, points: Any, collect: Any
) -> None:
    async def work() -> None:
        port, device = free_port(), hostile(faults=[fault(unit=u, deaf=True) for u in range(2, 9)])
        asked = several(points, *((endpoint(port, unit=u), "holding:0") for u in range(1, 9)))
        async with open_session(asked[0].endpoint) as session, modem(device, port):
            reader = session.reader(asked)
            loop = asyncio.get_running_loop()
            while loop.time() < 3600:
                await collect(reader)
                await asyncio.sleep(10)
            searched = [request[0] for request in device.requests]
            assert searched.count(1) > 300 and 10 <= searched.count(8) <= 20
            new = several(points, *((endpoint(port, unit=u), "holding:0") for u in (1, 9)))
            reader = session.reader(new)
            await until(all_good(collect, reader, 2), 2.0)

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_unit_moves_from_one_modem_to_another(
    hostile: Any, modem: Any, fault: Any, points: Any, collect: Any
) -> None:
    async def work() -> None:
        port, left, right = free_port(), hostile(), hostile(memory={(2, "holding", 0): 4711})
        right.faults = [fault(unit=1, deaf=True)]
        asked = several(points, *((endpoint(port, unit=u), "holding:0") for u in (1, 2)))
        async with open_session(asked[0].endpoint) as session, modem(left, port) as stays:
            reader = session.reader(asked)
            await until(all_good(collect, reader, 2))
            left.faults = [fault(unit=2, deaf=True)]
            async with modem(right, port):
                await until(all_good(collect, reader, 2))
                seen = await collect(reader)
                assert (seen[0][0], seen[1][0]) == (left.value(1, "holding", 0), 4711)
                assert stays.dialled == 1, "its other unit was read on"

    run_virtual(work(), patience_s=SOCKETS_S)


@pytest.mark.parametrize("registration", [IMEI, None])
def test_the_newer_connection_of_a_modem_wins(
    registration: str | None, hostile: Any, modem: Any, fault: Any, points: Any, collect: Any
) -> None:
    """Its old one is half open: it takes what is sent, and nothing ever comes over it again."""

    async def work() -> None:
        port, old, new = free_port(), hostile(), hostile(memory={(1, "holding", 0): 4711})
        one, says = endpoint(port, registration), (registration or "").encode()
        async with open_session(one) as session, modem(old, port, says) as before:
            reader = session.reader(points(one, "holding:0"))
            await until(all_good(collect, reader, 1))
            before.again_s = 1e6
            old.faults = [fault(deaf=True)]
            async with modem(new, port, says) as after:
                loop = asyncio.get_running_loop()
                started = loop.time()
                await waited(lambda: after.dialled)
                await asyncio.sleep(0.05)  # the old one is being asked
                after.say(b"beat")
                await until(all_good(collect, reader, 1))
                assert loop.time() - started < 2.0, "one timeout or two, and no more"
                assert (await collect(reader))[0][0] == 4711
                assert after.dialled == 1 and not old.connections, "the old one was hung up on"

    run_virtual(work(), patience_s=SOCKETS_S)


def test_who_dials_in_faster_than_an_answer_would_come_gets_its_place(
    hostile: Any, modem: Any, fault: Any, points: Any, collect: Any
) -> None:
    """Its old connection is half open, and is asked once for all its calls."""

    async def work() -> None:
        port, old = free_port(), hostile()
        one = endpoint(port, IMEI, timeout="5s")
        async with open_session(one) as session, modem(old, port, IMEI.encode()) as before:
            reader = session.reader(points(one, "holding:0"))
            await until(all_good(collect, reader, 1))
            before.again_s = 1e6
            old.faults = [fault(deaf=True)]
            calls = []
            for _ in range(8):
                calls.append(await asyncio.open_connection("127.0.0.1", port))
                calls[-1][1].write(IMEI.encode())
                await asyncio.sleep(1)
            assert not old.connections, "it was asked, and hung up on"
            assert len(old.requests) <= 4
            for _, writer in calls:
                writer.transport.abort()
            await asyncio.sleep(0)

    run_virtual(work(), patience_s=SOCKETS_S)


@pytest.mark.parametrize("registration", [IMEI, None])
def test_two_that_claim_to_be_one(
    registration: str | None, hostile: Any, modem: Any, points: Any, collect: Any, caplog: Any
) -> None:
    async def work() -> None:
        port, true, liar = free_port(), hostile(), hostile(memory={(1, "holding", 0): 4711})
        one, says = endpoint(port, registration), (registration or "").encode()
        async with open_session(one) as session, modem(true, port, says) as first:
            reader = session.reader(points(one, "holding:0"))
            await until(all_good(collect, reader, 1))
            async with modem(liar, port, says) as second:
                for _ in range(40):
                    assert (await collect(reader))[0][:2] == (true.value(1, "holding", 0), GOOD)
                    await asyncio.sleep(0.1)
                assert first.dialled == 1
                assert second.dialled > 1 or registration is None
        said = [r.getMessage() for r in caplog.records if "two modems" in r.getMessage()]
        who = registration or "unit 1"
        assert said == [f"listen 127.0.0.1:{port}: two modems are {who}: the one from 127.0.0.1 was sent away, the"
                        " first stays"]  # fmt: skip

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_dead_unit_does_not_make_its_modem_look_dead(
    hostile: Any, modem: Any, fault: Any, points: Any, collect: Any
) -> None:
    """Somebody claims to be a modem of which the first unit is silent, and the second answers."""

    async def work() -> None:
        port, true, liar = free_port(), hostile(faults=[fault(unit=1, deaf=True)]), hostile()
        liar.memory = {(unit, "holding", 0): 4711 for unit in (1, 2)}
        asked = several(points, *((endpoint(port, IMEI, unit=u), "holding:0") for u in (1, 2)))
        async with open_session(asked[0].endpoint) as session, modem(true, port, IMEI.encode()) as first:
            reader = session.reader(asked)

            async def second_unit() -> bool:
                return (await collect(reader)).get(1, (None, 1))[1] == GOOD

            await until(second_unit)
            async with modem(liar, port, IMEI.encode()) as second:
                for _ in range(40):
                    for value, quality, _ in (await collect(reader)).values():
                        assert quality != GOOD or value == true.value(2, "holding", 0)
                    await asyncio.sleep(0.1)
                assert first.dialled == 1 and second.dialled > 1

    run_virtual(work(), patience_s=SOCKETS_S)


def test_strangers(hostile: Any, modem: Any, points: Any, collect: Any, caplog: Any) -> None:
    """They say garbage, or nothing; some are very many: all are sent away, and the modem is served throughout."""

    async def work() -> None:
        port, device = free_port(), hostile()
        one = endpoint(port, IMEI)
        async with open_session(one) as session, modem(device, port, IMEI.encode()) as calling:
            reader = session.reader(points(one, "holding:0"))
            await until(all_good(collect, reader, 1))
            talkers = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            for words, (_, writer) in zip(
                (b"GET / HTTP/1.1\r\n\r\n", b"\xff\0" * 5000, b""), talkers, strict=True
            ):
                writer.write(words)
            for _ in range(20):
                assert (await collect(reader))[0][1] == GOOD
            await asyncio.sleep(hall.REGISTER_S + 1)
            for reading, writer in talkers:
                with pytest.raises(CUT):
                    async with asyncio.timeout(5):
                        await reading.readexactly(1)
                writer.close()
            many = [
                await asyncio.open_connection("127.0.0.1", port) for _ in range(hall.MOST_STRANGERS + 1 + 10)
            ]
            async with asyncio.timeout(5):
                for reading, _ in many[:10]:  # the first had to go
                    with pytest.raises(CUT):
                        await reading.readexactly(1)
            assert (await collect(reader))[0][1] == GOOD
            calling.hang_up()
            await until(all_good(collect, reader, 1), 5.0)
            for _, writer in many:
                writer.close()

    with caplog.at_level(logging.WARNING):
        run_virtual(work(), patience_s=SOCKETS_S)
    said = [record.getMessage().partition(": ")[2] for record in caplog.records]
    mute = said.pop(2)  # of the three that are given up at once one is told of
    assert mute.startswith("127.0.0.1 dialled in and said ") and mute.endswith(f" for {hall.REGISTER_S:g} s")
    assert said == [
        "127.0.0.1 dialled in and said `GET / HTTP/1.1`: no device's `registration`",
        f"127.0.0.1 dialled in and said `hex:{'ff00' * 16}`...: no device's `registration`",
        f"more than {hall.MOST_STRANGERS} dialled in who are not known",
    ]


def test_all_modems_come_back_at_once(hostile: Any, points: Any, collect: Any) -> None:
    """As after an outage of the network: more than may be strangers, and each needs a while to speak."""

    async def work() -> None:
        port, count = free_port(), 3 * hall.MOST_STRANGERS
        asked = several(points, *((endpoint(port, f"IMEI{n:04}"), "holding:0") for n in range(count)))
        device, serving = hostile(), []
        async with open_session(asked[0].endpoint) as session:
            reader = session.reader(asked)
            calls = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
            await asyncio.sleep(1)
            for n, (reading, writer) in enumerate(calls):
                writer.write(f"IMEI{n:04}".encode())
                serving.append(asyncio.create_task(device.serve_stream(reading, writer)))
            await until(all_good(collect, reader, count), 5.0)
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)

    run_virtual(work(), patience_s=SOCKETS_S)


def test_what_a_stranger_says_byte_by_byte_is_told_as_a_whole(points: Any, collect: Any, caplog: Any) -> None:
    """Also when it leaves before it has been silent for long."""

    async def work() -> None:
        port = free_port()
        one = endpoint(port, IMEI)
        async with open_session(one) as session:
            session.reader(points(one, "holding:0"))
            for words, stays_s in ((b"869999", 5.0), (b"nobody", 0.1)):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                for byte in words:
                    writer.write(bytes((byte,)))
                    await asyncio.sleep(0.01)
                await asyncio.sleep(stays_s)
                writer.close()
                await asyncio.sleep(0.1)

    run_virtual(work(), patience_s=SOCKETS_S)
    said = [record.getMessage().partition(": ")[2] for record in caplog.records]
    assert said == [
        f"127.0.0.1 dialled in and said `{words}`: no device's `registration`"
        for words in ("869999", "nobody")
    ]


def test_all_come_back_while_their_old_connections_are_half_open(
    hostile: Any, points: Any, collect: Any
) -> None:
    """More than may be strangers, and each needs a while to speak."""

    async def work() -> None:
        port, count = free_port(), 3 * hall.MOST_STRANGERS
        asked = several(points, *((endpoint(port, f"IMEI{n:04}"), "holding:0") for n in range(count)))
        writers = []

        async def dial() -> list[asyncio.StreamReader]:
            calls = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
            writers.extend(writer for _, writer in calls)
            await asyncio.sleep(1)
            for n, (_, writer) in enumerate(calls):
                writer.write(f"IMEI{n:04}".encode())
            await asyncio.sleep(1)
            return [reading for reading, _ in calls]

        async with open_session(asked[0].endpoint) as session:
            session.reader(asked)
            await dial()
            assert not any(reading.at_eof() for reading in await dial())
            for writer in writers:
                writer.transport.abort()
            await asyncio.sleep(0)

    run_virtual(work(), patience_s=SOCKETS_S)


def test_no_room_for_a_connection_is_said_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, hostile: Any, modem: Any, points: Any, collect: Any, caplog: Any
) -> None:
    async def work() -> None:
        port, loop = free_port(), asyncio.get_running_loop()
        one, accept = endpoint(port, IMEI), loop.sock_accept
        full_until = 100.0

        async def crowded(listening: Any) -> Any:
            if loop.time() < full_until:
                raise OSError(errno.EMFILE, "Too many open files")
            return await accept(listening)

        monkeypatch.setattr(loop, "sock_accept", crowded)
        async with open_session(one) as session, modem(hostile(), port, IMEI.encode()):
            await asyncio.sleep(full_until)
            await until(all_good(collect, session.reader(points(one, "holding:0")), 1))

    run_virtual(work(), patience_s=SOCKETS_S)
    said = [record.getMessage().partition(": ")[2] for record in caplog.records]
    assert said == ["no room for another connection: Too many open files"] * 2


def test_a_log_is_not_filled_by_strangers(caplog: Any) -> None:
    async def work() -> None:
        gossip = Gossip("listen 0.0.0.0:5020")
        for n in range(1000):
            gossip.tell(n, f"{n} dialled in")
        await asyncio.sleep(61)
        gossip.tell(5, "5 dialled in")
        gossip.tell(500, "500 dialled in")
        gossip.tell(2000, "2000 dialled in")
        gossip.tell(2000, "2000 dialled in")
        gossip.forget(2000)
        gossip.tell(2000, "2000 dialled in")

    run_virtual(work())
    said = [record.getMessage().partition(": ")[2] for record in caplog.records]
    assert said[:10] == [f"{n} dialled in" for n in range(10)]
    more = " (990 others were not told of)"
    assert said[10:] == [f"500 dialled in{more}", "2000 dialled in", "2000 dialled in"], "5 was told of"


def test_who_waits_is_let_in_when_its_device_is_declared(
    hostile: Any, modem: Any, points: Any, collect: Any
) -> None:
    async def work() -> None:
        port, device = free_port(), hostile()
        known, new = endpoint(port, IMEI), endpoint(port, OTHER)
        async with open_session(known) as session, modem(device, port, OTHER.encode()) as calling:
            assert (await collect(session.reader(points(known, "holding:0"))))[0][1] == NO_LINK
            await asyncio.sleep(30)
            reader = session.reader(several(points, (known, "holding:0"), (new, "holding:0")))
            seen = await collect(reader)
            assert [seen[0][1], seen[1][1]] == [NO_LINK, GOOD] and calling.dialled == 1

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_slow_modem_does_not_hold_up_its_neighbour(
    hostile: Any, modem: Any, fault: Any, points: Any
) -> None:
    async def work() -> None:
        port, slow, quick = free_port(), hostile(faults=[fault(delay_s=2.5)]), hostile()
        asked = several(
            points, (endpoint(port, IMEI, timeout="5s"), "holding:0"), (endpoint(port, OTHER), "holding:0")
        )
        loop, came = asyncio.get_running_loop(), {0: 0, 1: 0}
        async with open_session(asked[0].endpoint) as session:
            reader = session.reader(asked)
            async with modem(slow, port, IMEI.encode()), modem(quick, port, OTHER.encode()):
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


def test_values_of_an_old_plan_never_get_into_a_new_one(
    hostile: Any, modem: Any, fault: Any, points: Any
) -> None:
    """A slow modem's answer comes when its slot is another property's."""

    async def work() -> None:
        port, device = free_port(), hostile(faults=[fault(delay_s=1.5)])
        one = endpoint(port, IMEI, timeout="5s")
        async with open_session(one) as session, modem(device, port, IMEI.encode()):
            old = session.reader(points(one, "holding:0"))
            await asyncio.sleep(1)
            assert [batch async for batch in old()] == [], "it is under way"
            new, values = session.reader(points(one, "holding:7")), []
            while not values:
                values = [value async for batch in new() for value in batch.value]
            assert values == [device.value(1, "holding", 7)]

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_port_that_is_taken_and_one_that_is_not_ours() -> None:
    async def work() -> None:
        port = free_port()
        async with open_session(endpoint(port)):
            with pytest.raises(
                LinkError, match="another program, or another `listen`, has this port"
            ) as caught:
                async with open_session(endpoint(port)):
                    pytest.fail("opened a port twice")
        assert caught.value.reason == "PortInUse" and f"listen 127.0.0.1:{port}" in str(caught.value)
        async with open_session(endpoint(port)):
            pass
        with pytest.raises(LinkError, match="this machine has no such address"):
            async with open_session(ModbusEndpoint(listen="203.0.113.7:5020")):
                pytest.fail("listened where we are not")

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_device_that_disagrees_is_bad_and_the_others_are_not(
    hostile: Any, modem: Any, points: Any, collect: Any
) -> None:
    async def work() -> None:
        port = free_port()
        one, other = endpoint(port, IMEI), endpoint(port, OTHER, transport="rtuovertcp")
        async with open_session(one) as session, modem(hostile(), port, IMEI.encode()):
            asked = several(points, (one, "holding:0"), (other, "holding:0"))
            reader = session.reader(asked)

            async def first() -> bool:
                return (await collect(reader))[0][1] == GOOD

            await until(first)
            (_, quality, error) = (await collect(reader))[1]
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
def test_pymodbus_behind_a_modem(transport: str, framer: FramerType, points: Any, collect: Any) -> None:
    async def work() -> None:
        registers = [SimData(0, values=list(range(1000, 1200)), datatype=DataType.REGISTERS)]
        bits = [SimData(0, values=[True, False] * 30, datatype=DataType.BITS)]
        device = SimDevice(id=1, simdata=(bits, bits, registers, registers))
        server = ModbusTcpServer(device, framer=framer, address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        target, port = server.transport.sockets[0].getsockname()[1], free_port()  # type: ignore[attr-defined]
        one = endpoint(port, IMEI, transport=transport, timeout="5s")
        try:
            async with open_session(one) as session, pumped(port, target, IMEI.encode()):
                asked = points(one, "holding:0", "holding:150", "coil:0", "input:7", "holding:9:uint32")
                reader = session.reader(asked)
                await until(all_good(collect, reader, 5))
                seen = await collect(reader)
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
def test_connections_cut_at_random(
    transport: str, registration: str | None, hostile: Any, modem: Any, fault: Any, points: Any, collect: Any
) -> None:
    """Whatever happens: a good value is the true one, every point comes once a poll, and all heals."""
    rng = random.Random(f"{transport} {registration}")

    async def work() -> None:
        port = free_port()
        devices = [hostile(transport=transport) for _ in range(3)]
        says = [f"{registration}{n}" if registration else None for n in range(3)]
        ends = [endpoint(port, says[n], unit=1 + n, transport=transport, timeout="30ms") for n in range(3)]
        wheres = ("holding:0", "holding:40", "coil:3", "input:5")
        asked = several(points, *((one, where) for one in ends for where in wheres))
        for n, device in enumerate(devices):
            device.faults = [fault(unit=1 + other, deaf=True) for other in range(3) if other != n]
        loop, ahead_s, good, bad = asyncio.get_running_loop(), 0.0, 0, 0
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(
                open_session(ends[0], lambda: loop.time() + ahead_s, rng)
            )
            modems = [
                await stack.enter_async_context(modem(device, port, (who or "").encode()))
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
                        fault(unit=1 + n, times=rng.choice((1, 5)), **rng.choice(kinds)),
                    ]
                else:
                    devices[n].faults = own
                    modems[n].dialled and modems[n].say(rng.choice((b"beat", b"\0" * 9, rng.randbytes(20))))
                seen = await collect(reader)
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
            await until(all_good(collect, reader, len(asked)), 300.0)
        assert good > 400 and bad > 50, f"{good} good and {bad} bad mean nothing"

    run_virtual(work(), patience_s=SOCKETS_S)


def test_discovery_names_who_dials_in_and_then_what_is_behind(hostile: Any, modem: Any) -> None:
    async def work() -> None:
        port, devices = free_port(), [hostile() for _ in range(3)]
        place, mapper = f"127.0.0.1:{port}", ModbusMapper()
        says = (b"860000000000001\r\n", b"\x01\xa0\xff", b"")
        async with AsyncExitStack() as stack:
            for device, said in zip(devices, says, strict=True):
                await stack.enter_async_context(modem(device, port, said))
            found = [one async for one in mapper.discover(f"modbus+listen://{place}")]
            assert sorted((one.uri, one.identity["registration"]) for one in found) == [
                (f"modbus+listen://{place}?registration=860000000000001", "860000000000001"),
                (f"modbus+listen://{place}?registration=hex%3A01a0ff", "hex:01a0ff"),
            ]
            behind = [one async for one in mapper.discover(found[0].uri)]
            assert len(behind) == 249 and behind[0].identity["vendor"] == "Mesh"
            assert mapper.parse_endpoint(behind[0].uri).unit == 1
            inside = [one async for one in mapper.discover(behind[0].uri)]
            assert any(address == "holding:0" for address, _ in inside[0].points)
        nobody = mapper.discover(f"modbus+listen://{place}?registration=nobody&timeout=1s")
        with pytest.raises(LinkError, match=f"nobody has dialled in to {place} yet as nobody"):
            await anext(nobody)

    run_virtual(work(), patience_s=SOCKETS_S)


def test_discovery_names_who_speaks_slowly_and_again_once(hostile: Any, modem: Any) -> None:
    async def work() -> None:
        port, mapper = free_port(), ModbusMapper()

        async def talk(calling: Any) -> None:
            for word in (b"6", b"0", b"1"):
                await asyncio.sleep(0.05)
                calling.say(word)
            while True:
                await asyncio.sleep(10)
                calling.say(b"8601")

        async with modem(hostile(), port, b"8") as calling:
            finding = mapper.discover(f"modbus+listen://127.0.0.1:{port}")
            looking = asyncio.ensure_future(anext(finding))
            await waited(lambda: calling.dialled)
            talking = asyncio.create_task(talk(calling))
            found = [await looking, *[one async for one in finding]]
            assert [one.identity["registration"] for one in found] == ["8601"]
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)

    run_virtual(work(), patience_s=SOCKETS_S)


def test_discovery_of_one_that_says_nothing(hostile: Any, modem: Any) -> None:
    async def work() -> None:
        port, mapper = free_port(), ModbusMapper()
        async with modem(hostile(), port):
            found = [one async for one in mapper.discover(f"modbus+listen://127.0.0.1:{port}")]
            assert [(one.uri, dict(one.identity)) for one in found] == [
                (f"modbus+listen://127.0.0.1:{port}", {"from": "127.0.0.1", "registration": "none"})
            ]

    run_virtual(work(), patience_s=SOCKETS_S)
