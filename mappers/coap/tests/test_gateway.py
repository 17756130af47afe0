"""Devices that push: aiocoap's client and bare datagrams against our listening side."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiocoap
import cbor2
import pytest
from devicemesh_coap import message as coap
from devicemesh_coap.gateway import GatewaySession, open_gateway
from devicemesh_coap.mapper import CoapMapper
from devicemesh_coap.message import Block, Message, Option, decode, encode, ordered
from devicemesh_coap.model import CoapEndpoint

from devicemesh.mapper import LinkError, Quality, Readable
from devicemesh.testing.contract import rows


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def declared(port: int, **fields: Any) -> CoapEndpoint:
    return CoapEndpoint.model_validate({"listen": f"127.0.0.1:{port}", "name": "node1", **fields})


class Heard:
    """What a session delivers, collected."""

    def __init__(self) -> None:
        self.values: list[tuple[int, Any]] = []
        self.errors: list[str] = []

    async def collect(self, session: GatewaySession, points: list[Any]) -> None:
        async with contextlib.aclosing(session.subscribe(points)) as batches:
            async for batch in batches:
                for row in rows(batch):
                    if row.error is None:
                        self.values.append((row.slot, row.value))
                    else:
                        assert row.quality >= Quality.BAD
                        self.errors.append(str(row.error))


@asynccontextmanager
async def gateway(points: list[Any]) -> AsyncIterator[tuple[GatewaySession, Heard]]:
    heard = Heard()
    async with open_gateway(points[0].endpoint) as session:
        task = asyncio.create_task(heard.collect(session, points))
        await asyncio.sleep(0)
        try:
            yield session, heard
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.result()


@asynccontextmanager
async def device() -> AsyncIterator[Callable[..., Any]]:
    """aiocoap's client: `await say(method, uri, payload, form)`."""
    context = await aiocoap.Context.create_client_context(transports=["simple6"])

    async def say(code: Any, uri: str, payload: bytes = b"", form: int | None = None) -> Any:
        message = aiocoap.Message(code=code, uri=uri, payload=payload, content_format=form)
        return await context.request(message).response

    try:
        yield say
    finally:
        await context.shutdown()


def test_pushed_values_arrive_by_path_and_format(
    point: Any, run: Callable[[Any], None], wait_until: Any
) -> None:
    async def work() -> None:
        port = free_port()
        one = declared(port)
        places: list[Any] = [
            "/temp", {"path": "/air", "pointer": "/h"}, {"path": "/pack", "record": "t"}, {"path": "/raw", "offset": 1},
            "/",
        ]  # fmt: skip
        points = [point(i, one, "uint8" if i == 3 else "float64", place) for i, place in enumerate(places)]
        async with gateway(points) as (_, heard), device() as say:
            base = f"coap://127.0.0.1:{port}/push/node1"
            for path, body, form in [
                ("/temp", b"21.5", 0), ("/temp", b"22.5", None), ("/air", b'{"h":40}', 50),
                ("/air", cbor2.dumps({"h": 41}), 60), ("/pack", b'[{"n":"t","v":5,"t":-1},{"n":"t","v":6}]', 110),
                ("/raw", b"\x00\x07", 42), ("", b"1", 0),
            ]:  # fmt: skip
                for method in (aiocoap.POST, aiocoap.PUT):
                    assert (await say(method, base + path, body, form)).code == aiocoap.CHANGED
            expected = [(0, 21.5), (0, 22.5), (1, 40), (1, 41), (2, 5), (2, 6), (3, 7), (4, 1)]
            await wait_until(lambda: len(heard.values) == 16)
            assert sorted(heard.values) == sorted(expected * 2)
            wrong = await say(aiocoap.POST, f"{base}/temp", b"hot")
            assert wrong.code == aiocoap.BAD_REQUEST and b"'hot' is no number" in wrong.payload
            await wait_until(lambda: heard.errors)
            gone = await say(aiocoap.POST, f"{base}/nothing", b"1")
            assert gone.code == aiocoap.NOT_FOUND and b"/temp" in gone.payload
            tlv = await say(aiocoap.POST, f"{base}/temp", b"1", 11542)
            assert tlv.code == aiocoap.UNSUPPORTED_CONTENT_FORMAT
            assert (await say(aiocoap.GET, f"{base}/temp")).code == aiocoap.METHOD_NOT_ALLOWED
            listing = await say(aiocoap.GET, f"coap://127.0.0.1:{port}/.well-known/core")
            assert b'</rd>;rt="core.rd"' in listing.payload

    run(work())


def test_strangers_are_refused_and_told_of_once(
    point: Any, run: Callable[[Any], None], caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        port = free_port()
        points = [
            point(0, declared(port), "float64", "/a"),
            point(1, declared(port, name="far", sender="192.0.2.0/24"), "float64", "/a"),
            point(2, declared(port, name="near", sender="127.0.0.1"), "float64", "/a"),
        ]
        async with gateway(points) as (session, heard), device() as say:
            base = f"coap://127.0.0.1:{port}"
            for _ in range(3):
                assert (await say(aiocoap.POST, f"{base}/push/evil/a", b"1")).code == aiocoap.FORBIDDEN
                assert (await say(aiocoap.POST, f"{base}/rd?ep=evil")).code == aiocoap.FORBIDDEN
                assert (await say(aiocoap.POST, f"{base}/push/far/a", b"1")).code == aiocoap.UNAUTHORIZED
            assert (await say(aiocoap.POST, f"{base}/push/near/a", b"1")).code == aiocoap.CHANGED
            await asyncio.sleep(0)
            assert session.refused == 9
            assert heard.values in ([], [(2, 1.0)]), "nothing of a stranger is delivered"

    with caplog.at_level(logging.WARNING):
        run(work())
    told = [r.getMessage() for r in caplog.records if r.name == "devicemesh.coap"]
    assert [t.partition(": ")[2] for t in told] == [
        "refused 'evil' from 127.0.0.1: it is not declared",
        "refused 'far' from 127.0.0.1: it is declared, but not as coming from there",
    ]


def test_a_registration_lives_is_renewed_and_ends(
    point: Any, run: Callable[[Any], None], wait_until: Any
) -> None:
    async def work() -> None:
        port = free_port()
        async with gateway([point(0, declared(port), "float64", "/a")]) as (_, heard), device() as say:
            base = f"coap://127.0.0.1:{port}"
            done = await say(aiocoap.POST, f"{base}/rd?ep=node1&lt=1")
            assert (done.code, done.opt.location_path) == (aiocoap.CREATED, ("rd", "node1"))
            await wait_until(lambda: heard.errors)
            assert heard.errors == [f"node1 has sent nothing to listen 127.0.0.1:{port} for 1 s"]
            assert (await say(aiocoap.POST, f"{base}/rd/node1?lt=60")).code == aiocoap.CHANGED
            assert (await say(aiocoap.POST, f"{base}/push/node1/a", b"5")).code == aiocoap.CHANGED
            await wait_until(lambda: heard.values == [(0, 5.0)])
            assert (await say(aiocoap.DELETE, f"{base}/rd/node1")).code == aiocoap.DELETED
            await wait_until(lambda: len(heard.errors) == 2)
            assert "has signed off" in heard.errors[1]
            for uri, code in [
                ("/rd", aiocoap.BAD_REQUEST), ("/rd?ep=node1&lt=0", aiocoap.BAD_REQUEST),
                ("/rd?ep=node1&lt=99999999999", aiocoap.BAD_REQUEST), ("/rd/node1/x", aiocoap.NOT_FOUND),
                ("/rd?ep=node1&lt=" + "1".zfill(11) + "0" * 400, aiocoap.BAD_REQUEST),
                ("/", aiocoap.NOT_FOUND), ("/push", aiocoap.NOT_FOUND),
            ]:  # fmt: skip
                assert (await say(aiocoap.POST, base + uri)).code == code, uri

    run(work())


def test_blocks_repetitions_and_garbage(point: Any, run: Callable[[Any], None], wait_until: Any) -> None:
    """A body in blocks has a limit, a repeated request is done once, and nonsense does no harm."""

    async def work() -> None:
        port = free_port()
        text = point(0, declared(port, maxPayload=4000), "string", "/a")
        loop = asyncio.get_running_loop()
        uri = [(int(Option.URI_PATH), one) for one in (b"push", b"node1", b"a")]
        async with gateway([text]) as (_, heard), device() as say:
            push = f"coap://127.0.0.1:{port}/push/node1/a"
            assert (await say(aiocoap.POST, push, b"x" * 3000, 0)).code == aiocoap.CHANGED
            assert (await say(aiocoap.POST, push, b"x" * 5000, 0)).code == aiocoap.REQUEST_ENTITY_TOO_LARGE
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bare:
                bare.setblocking(False)
                bare.connect(("127.0.0.1", port))

                async def ask(data: bytes) -> Message:
                    bare.send(data)
                    async with asyncio.timeout(5):
                        return decode(await loop.sock_recv(bare, 2048))

                once = encode(Message(coap.POST, ordered(uri), b"once", b"t", 7))
                first = await ask(once)
                assert (first.code, first.type, first.mid, first.token) == (coap.CHANGED, coap.ACK, 7, b"t")
                assert await ask(once) == first
                for block, code in [
                    (Block(1, True, 2), coap.INCOMPLETE), (Block(0, True, 7), coap.INCOMPLETE),
                    (Block(0, True, 2), coap.INCOMPLETE),
                ]:  # fmt: skip
                    options = ordered([*uri, (Option.BLOCK1, block.encoded())])
                    answer = await ask(
                        encode(
                            Message(
                                coap.POST, options, b"short", b"b", 20 + block.number * 9 + block.exponent
                            )
                        )
                    )
                    assert answer.code == code, block
                lying = ordered(
                    [*uri, (Option.BLOCK1, Block(0, True, 0).encoded()), (Option.SIZE1, b"\xff" * 4)]
                )
                assert (
                    await ask(encode(Message(coap.POST, lying, b"x" * 16, b"b", 50)))
                ).code == coap.TOO_LARGE
                critical = ordered([*uri, (65001, b"")])
                refused = await ask(encode(Message(coap.POST, critical, b"x", b"b", 51)))
                assert (refused.code, b"critical option 65001" in refused.payload) == (coap.BAD_OPTION, True)
                assert await ask(b"\x40\x00\x00\x09") == Message(0, mid=9, type=coap.RST)
                assert await ask(b"\x4f\x01\x00\x0a") == Message(0, mid=10, type=coap.RST)
                assert await ask(b"\x40\x45\x00\x0b") == Message(0, mid=11, type=coap.RST)
                for junk in (b"", b"\x00", b"\x80\x01\x00\x00", b"\x60\x45\x00\x00", b"\x70\x00\x00\x00"):
                    bare.send(junk)
                assert (
                    await ask(encode(Message(coap.POST, ordered(uri), b"last", b"t", 99)))
                ).code == coap.CHANGED
            await wait_until(lambda: (0, "last") in heard.values)
            assert [v for _, v in heard.values] == ["x" * 3000, "once", "last"]

    run(work())


def test_what_comes_while_devices_are_declared_anew_is_counted(
    point: Any, run: Callable[[Any], None]
) -> None:
    """The runtime has left one subscription and not yet begun the next one."""

    async def work() -> None:
        port = free_port()
        points = [point(0, declared(port), "float64", "/a")]
        async with open_gateway(points[0].endpoint) as session, device() as say:
            push = f"coap://127.0.0.1:{port}/push/node1/a"
            async with contextlib.aclosing(session.subscribe(points)) as first:
                waiting = asyncio.ensure_future(anext(first))
                await asyncio.sleep(0)
                await say(aiocoap.POST, push, b"1")
                assert list((await waiting).value) == [1] and session.lost() == {}
            await say(aiocoap.POST, push, b"2")
            await say(aiocoap.POST, push, b"hot")  # no value: nothing is lost
            async with contextlib.aclosing(session.subscribe(points)) as second:
                waiting = asyncio.ensure_future(anext(second))
                await asyncio.sleep(0)
                await say(aiocoap.POST, push, b"3")
                assert list((await waiting).value) == [3]
            assert session.lost() == {"redeclared": 1}

    run(work())


def test_a_port_that_is_taken_is_a_link_error(point: Any, run: Callable[[Any], None]) -> None:
    async def work() -> None:
        endpoint = declared(free_port())
        async with CoapMapper().open(endpoint) as session:
            assert not isinstance(session, Readable)
            with pytest.raises(LinkError, match="Address already in use"):
                async with CoapMapper().open(endpoint):
                    pytest.fail("two listeners")
        async with CoapMapper().open(endpoint):
            pass

    run(work())
