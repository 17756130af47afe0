"""Polling and writing against aiocoap's server: ETag, Max-Age, Accept, blocks, parts of documents."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from devicemesh_coap.message import (
    CHANGED,
    CONTENT,
    FETCH,
    FORBIDDEN,
    GET,
    IPATCH,
    POST,
    PUT,
    UNAVAILABLE,
    UNSUPPORTED_FORMAT,
    Message,
    Option,
    decode,
    encode,
    ordered,
    uint,
)
from devicemesh_coap.model import CoapEndpoint
from devicemesh_coap.payload import JSON
from devicemesh_coap.session import open_session

from devicemesh.mapper import ConfigError, LinkError, Quality, Write
from devicemesh.testing.contract import once, poll


def test_an_etag_saves_the_body_and_a_max_age_the_request(
    serve_plant: Any, point: Any, run: Callable[[Any], None]
) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("/tagged", b"1.5", etag=True)
            await plant.add("/aged", b"2.5", max_age=3600)
            await plant.add("/plain", b"3.5")
            for cache, asked in ((True, 1), (False, 3)):
                await plant.change("/aged", log=[])
                await plant.change("/plain", log=[])
                endpoint = plant.endpoint(cache=cache)
                points = [
                    point(i, endpoint, "float64", p) for i, p in enumerate(["/tagged", "/aged", "/plain"])
                ]
                async with open_session(endpoint) as session:
                    reader = session.reader(points)
                    seen = [await once(reader, points) for _ in range(3)]
                    assert [[s[i].value for i in range(3)] for s in seen] == [[1.5, 2.5, 3.5]] * 3
                    assert len({s[1].time_ns for s in seen}) == asked, "a cached value keeps its time"
                    assert len({s[0].time_ns for s in seen}) == 3, "a valid one has been confirmed now"
                    await plant.set("/tagged", b"9")
                    assert (await once(reader, points))[0].value == 9
                assert len(await plant.log("/aged")) == asked + (0 if cache else 1)
                assert len(await plant.log("/plain")) == 4, "the implied Max-Age of 60 s does not count"
                await plant.set("/tagged", b"1.5")

    run(work())


def test_a_write_makes_cached_answers_old(serve_plant: Any, point: Any, run: Callable[[Any], None]) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("/a", b"1", max_age=3600)
            endpoint = plant.endpoint()
            points = [point(0, endpoint, "float64", "/a")]
            async with open_session(endpoint) as session:
                reader = session.reader(points)
                assert (await once(reader, points))[0].value == 1
                await session.write([Write(points[0], 2.0)])
                assert (await once(reader, points))[0].value == 2

    run(work())


def test_formats_are_negotiated(serve_plant: Any, point: Any, run: Callable[[Any], None]) -> None:
    """A pack is asked for in CBOR, then in JSON; a declared format is the only one that is asked for."""

    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("/pack", b'[{"n":"t","v":5}]', 110)
            endpoint = plant.endpoint()
            free = point(0, endpoint, "float64", {"path": "/pack", "record": "t"})
            fixed = point(1, endpoint, "float64", {"path": "/pack", "record": "t", "format": "senml+cbor"})
            async with open_session(endpoint) as session:
                reader = session.reader([free, fixed])
                for _ in range(2):
                    seen = await once(reader, [free, fixed])
                    assert seen[0].value == 5
                    assert "4.06 Not Acceptable" in str(seen[1].error)
            assert [accept for _, accept, _ in await plant.log("/pack")] == [112, 110, 112, 110, 112]

    run(work())


def test_fetch_asks_for_records_by_name(serve_plant: Any, point: Any, run: Callable[[Any], None]) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("/pack", b'[{"n":"t","v":5},{"n":"u","v":6}]', 110)
            endpoint = plant.endpoint()
            place = {"path": "/pack", "format": "senml+json", "read": "FETCH"}
            points = [point(i, endpoint, "float64", {**place, "record": n}) for i, n in enumerate("tu")]
            async with open_session(endpoint) as session:
                seen = await poll(session, points)
                assert (seen[0].value, seen[1].value) == (5, 6)
            assert await plant.log("/pack") == [(FETCH, 110, b'[{"n":"t"},{"n":"u"}]')]

    run(work())


@pytest.mark.parametrize(
    "held, form, type_, address, value, method, sent_form, sent",
    [
        (b"1", 0, "float64", {}, 2.5, PUT, 0, b"2.5"),
        (b"1", 0, "bool", {"write": "POST"}, True, POST, 0, b"1"),
        (b"1", 50, "uint8", {}, 7, PUT, 50, b"7"),
        (cbor2.dumps(1), 60, "uint8", {}, 7, PUT, 60, b"\x07"),
        (b"\x01", 42, "bytes", {}, b"\x00\xff", PUT, 42, b"\x00\xff"),
        (b'{"a":1}', 50, "json", {}, {"b": 2}, PUT, 50, b'{"b":2}'),
        (b'{"a":{"b":1},"c":2}', 50, "uint8", {"pointer": "/a/b"}, 7, PUT, 50, b'{"a":{"b":7},"c":2}'),
        (b'{"a":{"b":1},"c":2}', 50, "uint8", {"pointer": "/a/b", "write": "iPATCH"}, 7, IPATCH, 52, b'{"a":{"b":7}}'),
        (b'{"a":{"b":1},"c":2}', 50, "uint8", {"pointer": "/a/b", "write": "POST"}, 7, POST, 50, b'{"a":{"b":7}}'),
        (cbor2.dumps({"a": 1, "c": 2}), 60, "uint8", {"pointer": "/a"}, 7, PUT, 60, cbor2.dumps({"a": 7, "c": 2})),
        (b'[{"n":"t","v":1}]', 110, "float64", {"record": "t", "format": "senml+json"}, 2.5, PUT, 110, b'[{"n":"t","v":2.5}]'),
        (b'[{"n":"t","v":1}]', 110, "float64", {"record": "t", "format": "senml+json", "write": "iPATCH"}, 2.5, IPATCH, 320, b'[{"n":"t","v":2.5}]'),
        (b"\xff\x00\x01\xff", 42, "float64", {"offset": 1, "type": "uint16", "scale": 0.5}, 2.5, PUT, 42, b"\xff\x00\x05\xff"),
        (b"10", 0, "float64", {"scale": 0.1, "type": "int32"}, 2.5, PUT, 0, b"25"),
    ],
)  # fmt: skip
def test_writes_by_format(
    serve_plant: Any, point: Any, run: Callable[[Any], None],
    held: bytes, form: int, type_: str, address: Any, value: Any, method: int, sent_form: int, sent: bytes,
) -> None:  # fmt: skip
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("/a", held, form)
            endpoint = plant.endpoint()
            one = point(0, endpoint, type_, {"path": "/a", **address})
            async with open_session(endpoint) as session:
                (outcome,) = await session.write([Write(one, value)])
            written = [entry for entry in await plant.log("/a") if entry[0] not in (GET, FETCH)]
            assert written == [(method, sent_form, sent)]
            part = (method != PUT and address.get("pointer")) or sent_form == 320
            assert outcome.error is None or part, outcome.error
            if not part:
                assert outcome.value == one.address.nearest(one.type, value)

    run(work())


@pytest.mark.parametrize("excuse", [UNAVAILABLE, None])
def test_a_format_that_was_not_told_is_asked_for_again(
    raw_peer: Any, point: Any, run: Callable[[Any], None], excuse: int | None
) -> None:
    """The resource holds JSON, which the device did not tell when it was asked first."""

    async def work() -> None:
        asked, written = 0, list[int | None]()

        def answer(data: bytes) -> list[bytes]:
            nonlocal asked
            request = decode(data)
            ours = request.texts(Option.URI_PATH) == ["a"]
            if request.code not in (GET, PUT) or not ours:
                return []
            asked += request.code == GET
            options, code = [(int(Option.CONTENT_FORMAT), uint(JSON))], CONTENT
            if request.code == PUT:
                written.append(request.integer(Option.CONTENT_FORMAT))
                options, code = [], CHANGED if written[-1] == JSON else UNSUPPORTED_FORMAT
            elif asked == 1:
                if excuse is None:
                    return [encode(Message(0, mid=request.mid, type=2))]  # heard, and never answered
                options, code = [], excuse
            body = b"7" if code == CONTENT else b""
            return [encode(Message(code, ordered(options), body, request.token, request.mid, 2))]

        async with raw_peer(answer) as peer:
            endpoint = CoapEndpoint(uri=f"coap://127.0.0.1:{peer.port}", timeout="100ms")
            one = Write(point(0, endpoint, "float64", "/a"), 7.0)
            async with open_session(endpoint) as session:
                await session.write([one])
                (outcome,) = await session.write([one])
            assert (outcome.error, outcome.value, written[-1]) == (None, 7, JSON)

    run(work())


@pytest.mark.parametrize(
    ("code", "max_age_s", "again_s"),
    [(UNAVAILABLE, 30, 30), (UNAVAILABLE, None, 60), (FORBIDDEN, None, None)],
)
def test_a_device_that_wants_to_be_left_alone_says_for_how_long(
    raw_peer: Any,
    point: Any,
    run: Callable[[Any], None],
    code: int,
    max_age_s: int | None,
    again_s: float | None,
) -> None:
    async def work() -> None:
        def answer(data: bytes) -> list[bytes]:
            request = decode(data)
            options = [] if max_age_s is None else [(int(Option.MAX_AGE), uint(max_age_s))]
            return [encode(Message(code, ordered(options), b"", request.token, request.mid, 2))]

        async with raw_peer(answer) as peer:
            endpoint = CoapEndpoint(uri=f"coap://127.0.0.1:{peer.port}", timeout="100ms")
            where = {"path": "/a", "format": "json"}
            async with open_session(endpoint) as session:
                (outcome,) = await session.write([Write(point(0, endpoint, "float64", where), 7.0)])
            assert outcome.error is not None
            assert outcome.error.again_s == again_s

    run(work())


@pytest.mark.parametrize("done", [False, True])
def test_of_a_write_without_an_answer_the_read_back_tells(
    raw_peer: Any, point: Any, run: Callable[[Any], None], done: bool
) -> None:
    async def work() -> None:
        held = b"5"

        def answer(data: bytes) -> list[bytes]:
            nonlocal held
            request = decode(data)
            if request.code == PUT:
                held = request.payload if done else held
                return [encode(Message(0, mid=request.mid, type=2))]  # heard, and never answered
            return [encode(Message(CONTENT, (), held, request.token, request.mid, 2))]

        async with raw_peer(answer) as peer:
            endpoint = CoapEndpoint(uri=f"coap://127.0.0.1:{peer.port}", timeout="100ms")
            async with open_session(endpoint) as session:
                (outcome,) = await session.write([Write(point(0, endpoint, "float64", "/a"), 7.0)])
            assert outcome.value == (7 if done else 5)
            assert (outcome.error and outcome.error.reason) == (None if done else "NoAnswer")

    run(work())


def test_a_part_that_others_changed_meanwhile_is_changed_anew(
    serve_plant: Any, point: Any, run: Callable[[Any], None]
) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("/a", b'{"x":1,"y":2}', 50, etag=True)
            endpoint = plant.endpoint()
            x = point(0, endpoint, "uint8", {"path": "/a", "pointer": "/x"})
            async with open_session(endpoint) as session:
                await plant.change("/a", conflicts=2)
                (outcome,) = await session.write([Write(x, 9)])
                assert outcome.value == 9
                assert json.loads(await plant.body("/a")) == {"x": 9, "y": 2}
                await plant.change("/a", conflicts=9)
                (outcome,) = await session.write([Write(x, 3)])
                assert "4.12 Precondition Failed: it was changed by others" in str(outcome.error)

    run(work())


def test_refusals_are_outcomes_in_words(serve_plant: Any, point: Any, run: Callable[[Any], None]) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("/raw", b"\x00", 42)
            await plant.add("/locked", b"1")
            await plant.change("/locked", refusal=0x85)
            endpoint = plant.endpoint()
            wrong = [
                (point(0, endpoint, "uint16", {"path": "/raw", "offset": 0}), 1, "the resource has 1 bytes"),
                (point(1, endpoint, "float64", "/raw"), 1.0, "give its `offset`"),
                (point(2, endpoint, "float64", "/gone"), 1.0, "4.04"),
                (point(3, endpoint, "float64", "/locked"), 1.0, "4.05 Method Not Allowed"),
            ]
            async with open_session(endpoint) as session:
                outcomes = await session.write([Write(p, v) for p, v, _ in wrong])
            for (_, _, why), outcome in zip(wrong, outcomes, strict=True):
                assert why in str(outcome.error)

    run(work())


@pytest.mark.parametrize("size", [16, 64, 1024])
def test_large_bodies_go_in_blocks_both_ways(
    size: int, serve_plant: Any, point: Any, run: Callable[[Any], None]
) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("/big", b"x")
            endpoint = plant.endpoint(blockSize=size)
            big = point(0, endpoint, "string", "/big")
            text = "".join(str(i) for i in range(700))
            async with open_session(endpoint) as session:
                (outcome,) = await session.write([Write(big, text)])
                assert (outcome.value, outcome.error) == (text, None)
            assert await plant.body("/big") == text.encode()
            small = plant.endpoint(maxPayload=1000)
            async with open_session(small) as session:
                seen = await poll(session, [point(0, small, "string", "/big")])
                assert seen[0].quality == Quality.UNDECODABLE and "raise `maxPayload`" in str(seen[0].error)

    run(work())


def test_unconfirmable_requests_and_a_device_that_is_gone(
    serve_plant: Any, point: Any, run: Callable[[Any], None]
) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("/a", b"1")
            endpoint = plant.endpoint(confirmable=False, timeout="1s", ackTimeout="100ms")
            a = point(0, endpoint, "float64", "/a")
            async with open_session(endpoint) as session:
                assert (await poll(session, [a]))[0].value == 1
                await plant.stop()
                with pytest.raises(LinkError):
                    await poll(session, [a])

    run(work())


def test_a_wrong_interface_and_a_wrong_name_say_so(run: Callable[[Any], None]) -> None:
    from devicemesh_coap.model import CoapEndpoint

    async def work() -> None:
        with pytest.raises(ConfigError, match="can't use the interface nosuch0"):
            async with open_session(CoapEndpoint(uri="coap://127.0.0.1", interface="nosuch0")):
                pytest.fail("opened")
        with pytest.raises(LinkError, match=r"the name nosuch\.invalid can't be resolved"):
            async with open_session(CoapEndpoint(uri="coap://nosuch.invalid")):
                pytest.fail("opened")

    run(work())
