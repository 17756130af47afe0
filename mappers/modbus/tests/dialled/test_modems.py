"""Modems that dial in: who is who, who comes back, and who lies."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from devicemesh_modbus import hall
from devicemesh_modbus.session import open_session

from devicemesh.mapper import Quality, Write
from devicemesh.testing.broker import free_port
from devicemesh.testing.clock import SOCKETS_S, run_virtual
from devicemesh.testing.waiting import until as waited

GOOD, NO_LINK = int(Quality.GOOD), int(Quality.NO_LINK)
FRAMES = ("tcp", "rtuovertcp", "asciiovertcp")
IMEI, OTHER = "860000000000001", "860000000000002"


@pytest.mark.parametrize("transport", FRAMES)
@pytest.mark.parametrize("says", [IMEI, "hex:7B01A0"])
def test_a_modem_comes_goes_and_comes_back(transport: str, says: str, kit: Any) -> None:
    async def work() -> None:
        port, device = free_port(), kit.hostile(transport=transport)
        first = bytes.fromhex(says[4:]) if says.startswith("hex:") else says.encode()
        one = kit.endpoint(port, says, transport=transport)
        async with open_session(one) as session:
            reader = session.reader(kit.points(one, "holding:7"))
            (_, quality, error) = (await kit.collect(reader))[0]
            assert quality == NO_LINK and error.reason == "NotDialledIn"
            assert str(error) == f"nobody has dialled in to 127.0.0.1:{port} yet as {says}"
            (refused,) = await session.write([Write(kit.points(one, "holding:7")[0], 5)])
            assert refused.error.reason == "NotDialledIn" and refused.error.passes
            async with kit.modem(device, port, first) as calling:
                await kit.good(reader, 1)
                assert (await kit.collect(reader))[0][0] == device.value(1, "holding", 7)
                (done,) = await session.write([Write(kit.points(one, "holding:7")[0], 5)])
                assert (done.value, done.error) == (5, None)
                calling.hang_up()
                await kit.good(reader, 1)
                assert calling.dialled == 2

            async def gone() -> bool:
                return (await kit.collect(reader))[0][1] == NO_LINK

            await kit.until(gone)
            error = (await kit.collect(reader))[0][2]
            assert (
                str(error)
                == f"the modem {says} has hung up, and has not dialled in to 127.0.0.1:{port} again"
            )

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_registration_in_pieces_and_one_that_begins_another(kit: Any) -> None:
    async def work() -> None:
        port, short, long = free_port(), kit.hostile(), kit.hostile(memory={(1, "holding", 0): 4711})
        asked = kit.several(
            (kit.endpoint(port, "86"), "holding:0"), (kit.endpoint(port, "8601"), "holding:0")
        )
        async with open_session(asked[0].endpoint) as session:
            reader = session.reader(asked)
            async with kit.modem(long, port, b"8") as slow, kit.modem(short, port, b"86\r\n"):

                async def first() -> bool:
                    return (await kit.collect(reader))[0][1] == GOOD

                await kit.until(first)
                for piece in (b"6", b"0", b"1"):
                    await asyncio.sleep(0.1)
                    slow.say(piece)
                await kit.good(reader, 2)
                seen = await kit.collect(reader)
                assert [seen[0][0], seen[1][0]] == [short.value(1, "holding", 0), 4711]

    run_virtual(work(), patience_s=SOCKETS_S)


def test_who_has_said_all_is_let_in_though_another_begins_so(kit: Any) -> None:
    """It says no CR LF behind, and nothing more."""

    async def work() -> None:
        port, device = free_port(), kit.hostile()
        asked = kit.several(*((kit.endpoint(port, says), "holding:0") for says in ("meter-a", "meter-a2")))
        async with open_session(asked[0].endpoint) as session, kit.modem(device, port, b"meter-a") as calling:
            reader = session.reader(asked)

            async def first() -> bool:
                seen = await kit.collect(reader)
                assert seen[1][1] == NO_LINK
                return seen[0][1] == GOOD

            await kit.until(first, 10.0)
            assert calling.dialled == 1

    run_virtual(work(), patience_s=SOCKETS_S)


@pytest.mark.parametrize(("before", "after"), [(None, IMEI), (IMEI, None), ("meter", "meter-a")])
def test_a_registration_is_edited_while_the_modem_is_here(
    before: str | None, after: str | None, kit: Any
) -> None:
    """It is hung up on, dials in again, and is known by the new one; its neighbour is not."""

    async def work() -> None:
        port, device, near = free_port(), kit.hostile(), kit.hostile()
        says = b"meter-a" if after == "meter-a" else IMEI.encode()
        other = kit.endpoint(port, OTHER)
        asked = kit.several((kit.endpoint(port, before), "holding:0"), (other, "holding:0"))
        edited = kit.several((kit.endpoint(port, after), "holding:0"), (other, "holding:0"))
        async with (
            open_session(other) as session, kit.modem(device, port, says) as calling,
            kit.modem(near, port, OTHER.encode()) as stays,
        ):  # fmt: skip
            await kit.good(session.reader(asked), 2)
            await kit.good(session.reader(edited), 2)
            assert calling.dialled == 2 and stays.dialled == 1

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_unit_is_edited_while_its_modem_is_here(kit: Any) -> None:
    async def work() -> None:
        port, device = free_port(), kit.hostile()
        async with open_session(kit.endpoint(port)) as session, kit.modem(device, port) as calling:
            await kit.good(session.reader(kit.points(kit.endpoint(port, unit=3), "holding:0")), 1)
            await kit.good(session.reader(kit.points(kit.endpoint(port, unit=5), "holding:0")), 1)
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
def test_modems_are_told_apart_by_their_units(transport: str, kit: Any) -> None:
    """One modem has units 1 and 2, the other 3; 2 is switched on later; the third has none of them."""

    async def work() -> None:
        port = free_port()
        left, right, none = (kit.hostile(transport=transport, memory={(u, "holding", 0): 1000 * u for u in (1, 2, 3)})
                             for _ in range(3))  # fmt: skip
        left.faults = [kit.fault(unit=u, deaf=True) for u in (2, 3)]
        right.faults = [kit.fault(unit=u, deaf=True) for u in (1, 2)]
        none.faults = [kit.fault(deaf=True)]
        asked = kit.several(
            *((kit.endpoint(port, transport=transport, unit=u), "holding:0") for u in (1, 2, 3))
        )
        async with open_session(asked[0].endpoint) as session, AsyncExitStack() as stack:
            reader = session.reader(asked)
            error = (await kit.collect(reader))[1][2]
            assert str(error) == f"nobody has dialled in to 127.0.0.1:{port} yet who answers as unit 2"
            for device in (none, left, right):
                await stack.enter_async_context(kit.modem(device, port))

            async def two() -> bool:
                seen = await kit.collect(reader)
                return [seen[s][1] for s in (0, 1, 2)] == [GOOD, NO_LINK, GOOD]

            await kit.until(two)
            left.faults = left.faults[1:]
            await kit.good(reader, 3)
            seen = await kit.collect(reader)
            assert [seen[s][0] for s in (0, 1, 2)] == [1000, 2000, 3000]
            assert {r[0] for r in left.requests[-4:]} <= {1, 2} and right.requests[-1][0] == 3

    run_virtual(work(), patience_s=SOCKETS_S)


def test_units_that_are_not_there_are_looked_for_seldom_and_new_ones_at_once(kit: Any) -> None:
    async def work() -> None:
        port, device = free_port(), kit.hostile(faults=[kit.fault(unit=u, deaf=True) for u in range(2, 9)])
        asked = kit.several(*((kit.endpoint(port, unit=u), "holding:0") for u in range(1, 9)))
        async with open_session(asked[0].endpoint) as session, kit.modem(device, port):
            reader = session.reader(asked)
            loop = asyncio.get_running_loop()
            while loop.time() < 3600:
                await kit.collect(reader)
                await asyncio.sleep(10)
            searched = [request[0] for request in device.requests]
            assert searched.count(1) > 300 and 10 <= searched.count(8) <= 20
            new = kit.several(*((kit.endpoint(port, unit=u), "holding:0") for u in (1, 9)))
            reader = session.reader(new)
            await kit.good(reader, 2, 2.0)

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_unit_moves_from_one_modem_to_another(kit: Any) -> None:
    async def work() -> None:
        port, left, right = free_port(), kit.hostile(), kit.hostile(memory={(2, "holding", 0): 4711})
        right.faults = [kit.fault(unit=1, deaf=True)]
        asked = kit.several(*((kit.endpoint(port, unit=u), "holding:0") for u in (1, 2)))
        async with open_session(asked[0].endpoint) as session, kit.modem(left, port) as stays:
            reader = session.reader(asked)
            await kit.good(reader, 2)
            left.faults = [kit.fault(unit=2, deaf=True)]
            async with kit.modem(right, port):
                await kit.good(reader, 2)
                seen = await kit.collect(reader)
                assert (seen[0][0], seen[1][0]) == (left.value(1, "holding", 0), 4711)
                assert stays.dialled == 1, "its other unit was read on"

    run_virtual(work(), patience_s=SOCKETS_S)


@pytest.mark.parametrize("registration", [IMEI, None])
def test_the_newer_connection_of_a_modem_wins(registration: str | None, kit: Any) -> None:
    """Its old one is half open: it takes what is sent, and nothing ever comes over it again."""

    async def work() -> None:
        port, old, new = free_port(), kit.hostile(), kit.hostile(memory={(1, "holding", 0): 4711})
        one, says = kit.endpoint(port, registration), (registration or "").encode()
        async with open_session(one) as session, kit.modem(old, port, says) as before:
            reader = session.reader(kit.points(one, "holding:0"))
            await kit.good(reader, 1)
            before.again_s = 1e6
            old.faults = [kit.fault(deaf=True)]
            async with kit.modem(new, port, says) as after:
                loop = asyncio.get_running_loop()
                started = loop.time()
                await waited(lambda: after.dialled)
                await asyncio.sleep(0.05)  # the old one is being asked
                after.say(b"beat")
                await kit.good(reader, 1)
                assert loop.time() - started < 2.0, "one timeout or two, and no more"
                assert (await kit.collect(reader))[0][0] == 4711
                assert after.dialled == 1 and not old.connections, "the old one was hung up on"

    run_virtual(work(), patience_s=SOCKETS_S)


def test_who_dials_in_faster_than_an_answer_would_come_gets_its_place(kit: Any) -> None:
    """Its old connection is half open, and is asked once for all its calls."""

    async def work() -> None:
        port, old = free_port(), kit.hostile()
        one = kit.endpoint(port, IMEI, timeout="5s")
        async with open_session(one) as session, kit.modem(old, port, IMEI.encode()) as before:
            reader = session.reader(kit.points(one, "holding:0"))
            await kit.good(reader, 1)
            before.again_s = 1e6
            old.faults = [kit.fault(deaf=True)]
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
def test_two_that_claim_to_be_one(registration: str | None, caplog: Any, kit: Any) -> None:
    async def work() -> None:
        port, true, liar = free_port(), kit.hostile(), kit.hostile(memory={(1, "holding", 0): 4711})
        one, says = kit.endpoint(port, registration), (registration or "").encode()
        async with open_session(one) as session, kit.modem(true, port, says) as first:
            reader = session.reader(kit.points(one, "holding:0"))
            await kit.good(reader, 1)
            async with kit.modem(liar, port, says) as second:
                for _ in range(40):
                    assert (await kit.collect(reader))[0][:2] == (true.value(1, "holding", 0), GOOD)
                    await asyncio.sleep(0.1)
                assert first.dialled == 1
                assert second.dialled > 1 or registration is None
        said = [r.getMessage() for r in caplog.records if "two modems" in r.getMessage()]
        who = registration or "unit 1"
        assert said == [f"listen 127.0.0.1:{port}: two modems are {who}: the one from 127.0.0.1 was sent away, the"
                        " first stays"]  # fmt: skip

    run_virtual(work(), patience_s=SOCKETS_S)
