"""Calls: what is sent, and what comes back."""

from __future__ import annotations

import json
from typing import Any

import cbor2
import pytest
from devicemesh_coap.call import CoapCall, body, result
from devicemesh_coap.message import Message, Option, ordered, uint
from devicemesh_coap.payload import PayloadError
from devicemesh_coap.session import open_session

from devicemesh.mapper import Invocation, PointError

CHANGED = 0x44


def answer(payload: bytes, form: int | None) -> Message:
    options = () if form is None else ordered([(int(Option.CONTENT_FORMAT), uint(form))])
    return Message(CHANGED, options, payload)


@pytest.mark.parametrize(
    ("form", "arguments", "sent"),
    [
        ("json", {}, (b"", None)),
        ("json", {"to": 3.5, "fast": True}, (b'{"to":3.5,"fast":true}', 50)),
        ("cbor", {"to": 3}, (cbor2.dumps({"to": 3}), 60)),
        ("text", {"to": 3}, (b"3", 0)),
        ("text", {"to": 3, "fast": False}, (b"to=3,fast=0", 0)),
    ],
)
def test_what_is_sent(form: Any, arguments: dict[str, Any], sent: tuple[bytes, int | None]) -> None:
    assert body(CoapCall(path="/x", format=form), arguments) == sent


@pytest.mark.parametrize(
    ("payload", "form", "found"),
    [
        (b"", None, {}),
        (b"done", 0, {"result": "done"}),
        (b"done", None, {"result": "done"}),
        (b"7", 50, {"result": 7}),
        (b'{"a": 1}', 50, {"a": 1}),
        (cbor2.dumps({"raw": b"\x00"}), 60, {"raw": "AA"}),
        (b"\x01\x02", 42, {"result": "AQI"}),
    ],
)
def test_what_comes_back(payload: bytes, form: int | None, found: dict[str, Any]) -> None:
    assert result(answer(payload, form)) == found
    json.dumps(found)


@pytest.mark.parametrize(("payload", "form"), [(b"{", 50), (b"\xa1", 60), (b"\xff", 0)])
def test_a_wrong_answer_is_none(payload: bytes, form: int) -> None:
    with pytest.raises(PayloadError):
        result(answer(payload, form))


def test_it_is_done_once_and_a_wrong_answer_says_that_it_was(serve_plant: Any, run: Any) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("/reset", b"", None)
            await plant.change("/reset", answer=(b"{", 50))
            endpoint = plant.endpoint()
            async with open_session(endpoint) as session:
                call = Invocation("default/one", "reset", endpoint, CoapCall(path="/reset"), {"hard": True})
                with pytest.raises(PointError, match="did it, but what it answers is wrong"):
                    await session.invoke(call)
            assert await plant.log("/reset") == [(2, 50, b'{"hard":true}')]

    run(work())
