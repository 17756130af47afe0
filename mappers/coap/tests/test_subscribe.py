"""Observations against aiocoap's server: order, freshness, fallback to polling, a server that comes back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from devicemesh_coap.message import Block, Message, Option, decode, encode, ordered, uint
from devicemesh_coap.session import open_session
from devicemesh_coap.subscribe import is_newer
from hypothesis import given, settings
from hypothesis import strategies as st

from devicemesh.mapper import LinkError, Quality
from devicemesh.testing.contract import rows


@settings(deadline=None)
@given(last=st.integers(0, 2**24 - 1), ahead=st.integers(1, 2**23 - 1))
def test_newer_is_what_rfc_7641_3_4_says(last: int, ahead: int) -> None:
    later = (last + ahead) % 2**24
    assert is_newer(last, later, 0) and not is_newer(later, last, 0) and not is_newer(last, last, 0)
    assert is_newer(later, last, 129)


async def values_of(batches: Any, count: int) -> list[Any]:
    """The next so many values; a bad one as its error."""
    found: list[Any] = []
    async with asyncio.timeout(15):
        async for batch in batches:
            found += [r.value if r.error is None else r.error for r in rows(batch)]
            if len(found) >= count:
                return found
    return found


def test_changes_come_at_once_large_ones_too(
    serve_plant: Any, point: Any, run: Callable[[Any], None]
) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("/a", b"1")
            await plant.add("/big", b"x" * 2000)
            endpoint = plant.endpoint()
            points = [point(0, endpoint, "float64", "/a"), point(1, endpoint, "string", "/big")]
            async with open_session(endpoint) as session:
                async with contextlib.aclosing(session.subscribe(points)) as batches:
                    assert await values_of(batches, 2) == [1, "x" * 2000]
                    for number in range(2, 6):
                        await plant.set("/a", str(number).encode())
                        assert await values_of(batches, 1) == [number]
                    await plant.set("/big", b"y" * 3000)
                    assert await values_of(batches, 1) == ["y" * 3000]
                    assert len(await plant.log("/a")) == 5, "registered once, rendered for each change"
                assert not session.channel._observers  # type: ignore[attr-defined]

    run(work())


def test_what_can_not_be_observed_is_polled(serve_plant: Any, point: Any, run: Callable[[Any], None]) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("/a", b"1", observable=False)
            await plant.add("/b", b"1")
            endpoint = plant.endpoint()
            points = [point(0, endpoint, "float64", "/a"), point(1, endpoint, "float64", "/gone")]
            points.append(point(2, endpoint, "float64", {"path": "/b", "mode": "poll"}))
            async with open_session(endpoint) as session:
                assert [session.pushes(p) for p in points] == [True, True, False]
                async with contextlib.aclosing(session.subscribe(points[:2])) as batches:
                    first = await values_of(batches, 2)
                    assert first[0] == 1 and "4.04" in str(first[1])
                    await plant.set("/a", b"2")
                    while (await values_of(batches, 1))[-1] != 2:
                        pass

    run(work())


def test_a_silent_observation_is_renewed_and_turns_bad_where_it_can_not(
    serve_plant: Any, point: Any, run: Callable[[Any], None], lossy_line: Any, monkeypatch: Any
) -> None:
    """The server has forgotten us, as after a restart: its value is fetched anew when Max-Age is over."""

    monkeypatch.setattr("devicemesh_coap.subscribe.GRACE_S", (0.01, 0.02))

    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("/a", b"1", max_age=1)
            async with lossy_line(plant.port, 1) as line:
                fields = {"uri": f"coap://127.0.0.1:{line.port}", "timeout": "700ms", "ackTimeout": "100ms"}
                endpoint = plant.endpoint().model_validate({**fields, "keepAlive": "1h"})
                a = point(0, endpoint, "float64", "/a")
                async with open_session(endpoint) as session:  # noqa: SIM117
                    async with contextlib.aclosing(session.subscribe([a])) as batches:
                        assert await values_of(batches, 1) == [1]
                        assert await values_of(batches, 2) == [1, 1], "renewed twice"
                        await plant.change("/a", delay_s=30)
                        (error,) = await values_of(batches, 1)
                        assert "has sent nothing for" in str(error) and "and now: no answer" in str(error)
                        await plant.change("/a", delay_s=0)
                        while (await values_of(batches, 1))[-1] != 1:
                            pass
                        line.hole = True
                        with pytest.raises(LinkError):
                            await values_of(batches, 99)

    run(work())


def test_a_kill_and_a_restart_under_load(serve_plant: Any, point: Any, run: Callable[[Any], None]) -> None:
    """A hundred observed resources: the server dies in the midst of their changes and comes back."""

    async def work() -> None:
        async with serve_plant() as plant:
            paths = [f"/r{i}" for i in range(100)]
            for path in paths:
                await plant.add(path, b"0")
            endpoint, port = plant.endpoint(keepAlive="200ms"), plant.port
            points = [point(i, endpoint, "float64", path) for i, path in enumerate(paths)]
            latest: dict[int, float] = {}

            async def watch(session: Any, done: Callable[[], bool]) -> None:
                async with contextlib.aclosing(session.subscribe(points)) as batches:
                    async for batch in batches:
                        latest.update(zip(batch.slot, batch.value, strict=True))
                        if done():
                            return

            async def churn(server: Any, number: int) -> None:
                for path in paths:
                    await server.set(path, str(number).encode())

            with pytest.raises(LinkError):
                async with open_session(endpoint) as session:
                    await watch(session, lambda: len(latest) == 100)
                    working = asyncio.create_task(churn(plant, 1))
                    await watch(session, lambda: 1.0 in latest.values())
                    await working
                    await plant.stop()
                    await watch(session, lambda: False)
            async with serve_plant(port) as again:
                for path in paths:
                    await again.add(path, b"5")
                async with open_session(endpoint) as session:
                    await watch(session, lambda: set(latest.values()) == {5.0})
                    working = asyncio.create_task(churn(again, 6))
                    await watch(session, lambda: set(latest.values()) == {6.0})
                    await working

    run(work())


def test_no_notification_of_a_burst_is_lost(
    raw_peer: Any, point: Any, run: Callable[[Any], None], wait_until: Any
) -> None:
    async def work() -> None:
        def answer(data: bytes) -> list[bytes]:
            request = decode(data)
            if request.code != 1:
                return []
            first = Message(0x45, ordered([(Option.OBSERVE, b"\x01")]), b"1", request.token, request.mid, 2)
            burst = [
                Message(0x45, ordered([(Option.OBSERVE, uint(n))]), b"%d" % n, request.token, n, n % 2)
                for n in range(2, 202)
            ]
            return [encode(message) for message in (first, *burst)]

        async with raw_peer(answer) as peer:
            from devicemesh_coap.model import CoapEndpoint

            endpoint = CoapEndpoint(uri=f"coap://127.0.0.1:{peer.port}")
            a = point(0, endpoint, "float64", "/a")
            async with open_session(endpoint) as session:  # noqa: SIM117
                async with contextlib.aclosing(session.subscribe([a])) as batches:
                    assert await values_of(batches, 201) == list(range(1, 202))

                    def acknowledged() -> list[int]:
                        return [decode(m).mid for m in peer.heard if m[0] >> 4 == 6]

                    await wait_until(lambda: len(acknowledged()) >= 100)
                    assert acknowledged() == list(range(2, 202, 2)), "each confirmable one, and none else"

    run(work())


def test_an_observation_that_nobody_wants_is_reset(
    raw_peer: Any, point: Any, run: Callable[[Any], None], wait_until: Any
) -> None:
    async def work() -> None:
        token = b""

        def answer(data: bytes) -> list[bytes]:
            nonlocal token
            request = decode(data)
            if request.code != 1 or request.integer(Option.OBSERVE) == 1:
                return []
            token = request.token
            first = Message(0x45, ordered([(Option.OBSERVE, b"\x01")]), b"1", request.token, request.mid, 2)
            return [encode(first)]

        async with raw_peer(answer) as peer:
            from devicemesh_coap.model import CoapEndpoint

            endpoint = CoapEndpoint(uri=f"coap://127.0.0.1:{peer.port}")
            async with open_session(endpoint) as session:
                async with contextlib.aclosing(
                    session.subscribe([point(0, endpoint, "float64", "/a")])
                ) as batches:
                    assert await values_of(batches, 1) == [1]
                await wait_until(lambda: decode(peer.heard[-1]).integer(Option.OBSERVE) == 1)
                assert decode(peer.heard[-1]).token == token, "the registration is taken back"
                peer.send(encode(Message(0x45, ordered([(Option.OBSERVE, b"\x02")]), b"2", token, 77, 1)))
                await wait_until(lambda: peer.heard[-1] == b"\x70\x00\x00\x4d")

    run(work())


def test_quality_of_a_dead_observation(serve_plant: Any, point: Any, run: Callable[[Any], None]) -> None:
    """A resource that goes away turns bad at once: its last notification says so."""

    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("/a", b"1")
            endpoint = plant.endpoint()
            async with open_session(endpoint) as session:
                subscribed = session.subscribe([point(0, endpoint, "float64", "/a")])
                async with contextlib.aclosing(subscribed) as batches:
                    assert await values_of(batches, 1) == [1]
                    await plant.change("/a", refusal=0xA0)
                    await plant.set("/a", b"2")
                    batch = await anext(batches)
                    assert batch.quality == Quality.REFUSED and "5.00" in str(batch.error)

    run(work())


@pytest.mark.parametrize("in_blocks", [False, True])
def test_a_body_in_blocks_does_not_come_after_a_newer_one(
    raw_peer: Any, point: Any, run: Callable[[Any], None], in_blocks: bool
) -> None:
    """While the rest of a notification is fetched the next one comes, and of it is what is fetched then."""
    newest = "c" * 20 if in_blocks else "c"

    def notification(number: int, body: str, token: bytes) -> bytes:
        options = [(Option.OBSERVE, uint(number))]
        if len(body) > 16:
            options.append((Option.BLOCK2, Block(0, True, 0).encoded()))
        return encode(Message(0x45, ordered(options), body[:16].encode(), token, number, 1))

    async def work() -> None:
        observing, held = b"", "a"

        def answer(data: bytes) -> list[bytes]:
            nonlocal observing, held
            request = decode(data)
            if request.code != 1:
                return []
            if request.integer(Option.OBSERVE) == 0:
                observing = request.token
                first = [(Option.OBSERVE, b"\x01")]
                return [encode(Message(0x45, ordered(first), b"a", request.token, request.mid, 2))]
            told = []
            if held == "b" * 20:
                held = newest
                told = [notification(3, newest, observing)]
            rest = [(Option.BLOCK2, Block(1, False, 0).encoded())]
            body = ("b" * 20 if told else newest)[16:].encode()
            return [*told, encode(Message(0x45, ordered(rest), body, request.token, request.mid, 2))]

        async with raw_peer(answer) as peer:
            from devicemesh_coap.model import CoapEndpoint

            endpoint = CoapEndpoint(uri=f"coap://127.0.0.1:{peer.port}")
            a = point(0, endpoint, "string", "/a")
            async with open_session(endpoint) as session:
                async with contextlib.aclosing(session.subscribe([a])) as batches:
                    assert await values_of(batches, 1) == ["a"]
                    held = "b" * 20
                    peer.send(notification(2, held, observing))
                    assert await values_of(batches, 1) == [newest]
                    peer.send(notification(4, "d", observing))
                    assert await values_of(batches, 1) == ["d"], "nothing else has come between"
                assert session.lost() == {"superseded": 1}

    run(work())
