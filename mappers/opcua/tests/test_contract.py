"""The contract of all mappers, against asyncua's server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from devicemesh_opcua.mapper import OpcUaMapper

from devicemesh.mapper import Write
from devicemesh.testing.contract import MapperContract, Peer, Serve

VALUES: list[tuple[str, str, str, Any]] = [
    ("word", "uint16", "UInt16", 7),
    ("signed", "int16", "Int16", -1),
    ("wide", "int64", "Int64", -5_000_000_000),
    ("widest", "uint64", "UInt64", 2**64 - 1),
    ("float", "float32", "Float", 1.5),
    ("double", "float64", "Double", 0.1),
    ("truth", "bool", "Boolean", True),
    ("text", "string", "String", "mesh"),
    ("raw", "bytes", "ByteString", b"\x00\xff"),
    ("list", "json", "Int32", [1, 2, 3]),
]


class TestContract(MapperContract):
    @pytest.fixture
    def mapper(self) -> OpcUaMapper:
        return OpcUaMapper()

    @pytest.fixture
    def serve(self, serve_plant: Callable[..., Any], point: Callable[..., Any]) -> Serve:
        @asynccontextmanager
        async def serve_asyncua() -> AsyncIterator[Peer]:
            async with serve_plant() as plant:
                for name, _, kind, value in VALUES:
                    await plant.add(name, value, kind)
                await plant.add("locked", 1, "Int32")
                await plant.read_only("locked")
                endpoint = plant.endpoint()
                good = [(point(i, endpoint, t, n), v) for i, (n, t, _, v) in enumerate(VALUES)]
                bad = point(90, endpoint, "uint16", "gone")
                refused = Write(point(91, endpoint, "int32", "locked"), 2)
                yield Peer(good, bad, (good[4][0], 2.3), refused, plant.stop)

        return serve_asyncua
