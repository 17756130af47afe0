"""Those who dial in and are not known: they harm nobody, and are told of."""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import Any

import pytest
from devicemesh_modbus import hall
from devicemesh_modbus.door import Gossip
from devicemesh_modbus.endpoint import ModbusEndpoint
from devicemesh_modbus.session import open_session

from devicemesh.mapper import LinkError, Quality
from devicemesh.testing.broker import free_port
from devicemesh.testing.clock import SOCKETS_S, run_virtual

GOOD, NO_LINK = int(Quality.GOOD), int(Quality.NO_LINK)
CUT = (ConnectionError, asyncio.IncompleteReadError)
IMEI, OTHER = "860000000000001", "860000000000002"


def test_strangers(caplog: Any, kit: Any) -> None:
    """They say garbage, or nothing; some are very many: all are sent away, and the modem is served throughout."""

    async def work() -> None:
        port, device = free_port(), kit.hostile()
        one = kit.endpoint(port, IMEI)
        async with open_session(one) as session, kit.modem(device, port, IMEI.encode()) as calling:
            reader = session.reader(kit.points(one, "holding:0"))
            await kit.good(reader, 1)
            talkers = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            for words, (_, writer) in zip(
                (b"GET / HTTP/1.1\r\n\r\n", b"\xff\0" * 5000, b""), talkers, strict=True
            ):
                writer.write(words)
            for _ in range(20):
                assert (await kit.collect(reader))[0][1] == GOOD
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
            assert (await kit.collect(reader))[0][1] == GOOD
            calling.hang_up()
            await kit.good(reader, 1, 5.0)
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


def test_all_modems_come_back_at_once(kit: Any) -> None:
    """As after an outage of the network: more than may be strangers, and each needs a while to speak."""

    async def work() -> None:
        port, count = free_port(), 3 * hall.MOST_STRANGERS
        asked = kit.several(*((kit.endpoint(port, f"IMEI{n:04}"), "holding:0") for n in range(count)))
        device, serving = kit.hostile(), []
        async with open_session(asked[0].endpoint) as session:
            reader = session.reader(asked)
            calls = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
            await asyncio.sleep(1)
            for n, (reading, writer) in enumerate(calls):
                writer.write(f"IMEI{n:04}".encode())
                serving.append(asyncio.create_task(device.serve_stream(reading, writer)))
            await kit.good(reader, count, 5.0)
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)

    run_virtual(work(), patience_s=SOCKETS_S)


def test_what_a_stranger_says_byte_by_byte_is_told_as_a_whole(caplog: Any, kit: Any) -> None:
    """Also when it leaves before it has been silent for long; nothing is when we close."""

    async def work() -> None:
        port = free_port()
        one = kit.endpoint(port, IMEI)
        async with open_session(one) as session:
            session.reader(kit.points(one, "holding:0"))
            for words, stays_s in ((b"869999", 5.0), (b"nobody", 0.1)):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                for byte in words:
                    writer.write(bytes((byte,)))
                    await asyncio.sleep(0.01)
                await asyncio.sleep(stays_s)
                writer.close()
                await asyncio.sleep(0.1)
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"late")
            await asyncio.sleep(0.1)
        writer.close()

    run_virtual(work(), patience_s=SOCKETS_S)
    said = [record.getMessage().partition(": ")[2] for record in caplog.records]
    assert said == [
        f"127.0.0.1 dialled in and said `{words}`: no device's `registration`"
        for words in ("869999", "nobody")
    ]


def test_all_come_back_while_their_old_connections_are_half_open(kit: Any) -> None:
    """More than may be strangers, and each needs a while to speak."""

    async def work() -> None:
        port, count = free_port(), 3 * hall.MOST_STRANGERS
        asked = kit.several(*((kit.endpoint(port, f"IMEI{n:04}"), "holding:0") for n in range(count)))
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
    monkeypatch: pytest.MonkeyPatch, caplog: Any, kit: Any
) -> None:
    async def work() -> None:
        port, loop = free_port(), asyncio.get_running_loop()
        one, accept = kit.endpoint(port, IMEI), loop.sock_accept
        full_until = 100.0

        async def crowded(listening: Any) -> Any:
            if loop.time() < full_until:
                raise OSError(errno.EMFILE, "Too many open files")
            return await accept(listening)

        monkeypatch.setattr(loop, "sock_accept", crowded)
        async with open_session(one) as session, kit.modem(kit.hostile(), port, IMEI.encode()):
            await asyncio.sleep(full_until)
            await kit.good(session.reader(kit.points(one, "holding:0")), 1)

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


def test_who_waits_is_let_in_when_its_device_is_declared(kit: Any) -> None:
    async def work() -> None:
        port, device = free_port(), kit.hostile()
        known, new = kit.endpoint(port, IMEI), kit.endpoint(port, OTHER)
        async with open_session(known) as session, kit.modem(device, port, OTHER.encode()) as calling:
            assert (await kit.collect(session.reader(kit.points(known, "holding:0"))))[0][1] == NO_LINK
            await asyncio.sleep(30)
            reader = session.reader(kit.several((known, "holding:0"), (new, "holding:0")))
            seen = await kit.collect(reader)
            assert [seen[0][1], seen[1][1]] == [NO_LINK, GOOD] and calling.dialled == 1

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_port_that_is_taken_and_one_that_is_not_ours(kit: Any) -> None:
    async def work() -> None:
        port = free_port()
        async with open_session(kit.endpoint(port)):
            with pytest.raises(
                LinkError, match="another program, or another `listen`, has this port"
            ) as caught:
                async with open_session(kit.endpoint(port)):
                    pytest.fail("opened a port twice")
        assert caught.value.reason == "PortInUse" and f"listen 127.0.0.1:{port}" in str(caught.value)
        async with open_session(kit.endpoint(port)):
            pass
        with pytest.raises(LinkError, match="this machine has no such address"):
            async with open_session(ModbusEndpoint(listen="203.0.113.7:5020")):
                pytest.fail("listened where we are not")

    run_virtual(work(), patience_s=SOCKETS_S)
