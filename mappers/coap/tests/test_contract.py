"""The contract of all mappers, against aiocoap's server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import cbor2
import pytest
from devicemesh_coap.call import CoapCall
from devicemesh_coap.mapper import CoapMapper

from devicemesh.mapper import Invocation, Write
from devicemesh.testing.contract import MapperContract, Peer, Serve

PACK = b'[{"bn":"urn:dev:ow:10e2073a01080063;","n":"temp","u":"Cel","v":23.5},{"n":"door","vb":true}]'
VALUES: list[tuple[Any, str, Any]] = [
    ("/word", "uint16", 7),
    ("/wide", "int64", -5_000_000_000),
    ("/float", "float64", 1.5),
    ("/truth", "bool", True),
    ("/text", "string", "mesh"),
    ("/raw", "bytes", b"\x00\xff"),
    ({"path": "/air", "pointer": "/inside/temperature"}, "float32", 21.5),
    ({"path": "/air", "pointer": "/names/1"}, "string", "b"),
    ({"path": "/air", "pointer": "/inside"}, "json", {"temperature": 21.5}),
    ({"path": "/state", "pointer": "/n", "format": "cbor"}, "uint64", 2**64 - 1),
    (
        {"path": "/pack", "record": "urn:dev:ow:10e2073a01080063;temp", "format": "senml+json"},
        "float64",
        23.5,
    ),
    ({"path": "/pack", "record": "urn:dev:ow:10e2073a01080063;door", "format": "senml+json"}, "bool", True),
    ({"path": "/block", "offset": 1, "type": "uint16", "scale": 0.1}, "float64", 25.6),
    ("/3303/0/5700", "float64", 19.25),
]


async def furnish(plant: Any) -> None:
    await plant.add("/word", b"7")
    await plant.add("/wide", b"-5000000000")
    await plant.add("/float", b"1.5")
    await plant.add("/truth", b"1")
    await plant.add("/text", b"mesh")
    await plant.add("/raw", b"\x00\xff", 42)
    await plant.add("/air", b'{"inside": {"temperature": 21.5}, "names": ["a", "b"]}', 50)
    await plant.add("/state", cbor2.dumps({"n": 2**64 - 1}), 60)
    await plant.add("/pack", PACK, 110)
    await plant.add("/block", b"\xff\x01\x00\x00", 42)
    await plant.add("/3303/0/5700", b"19.25")
    await plant.add("/locked", b"1")
    await plant.change("/locked", refusal=0x83)
    await plant.add("/actions/move", b"", None)
    await plant.change("/actions/move", answer=(b'{"position": 3}', 50))


class TestContract(MapperContract):
    @pytest.fixture
    def mapper(self) -> CoapMapper:
        return CoapMapper()

    @pytest.fixture
    def serve(self, serve_plant: Callable[..., Any], point: Callable[..., Any]) -> Serve:
        @asynccontextmanager
        async def serve_aiocoap() -> AsyncIterator[Peer]:
            async with serve_plant() as plant:
                await furnish(plant)
                endpoint = plant.endpoint()
                good = [(point(i, endpoint, t, a), v) for i, (a, t, v) in enumerate(VALUES)]
                bad = point(90, endpoint, "uint16", "/gone")
                refused = Write(point(91, endpoint, "int32", "/locked"), 2)
                calls = [
                    Invocation("default/pump-1", "move", endpoint, CoapCall(path=path), {"to": 3})
                    for path in ("/actions/move", "/locked", "/gone")
                ]
                done = (calls[0], {"position": 3})
                yield Peer(
                    good, bad, (good[2][0], 2.3), refused, plant.stop, call=done, refused_calls=calls[1:]
                )

        return serve_aiocoap
