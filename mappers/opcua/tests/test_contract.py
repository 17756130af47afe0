"""The contract of all mappers, against asyncua's server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asyncua import ua
from devicemesh_opcua.mapper import OpcUaMapper

from devicemesh.mapper import Write
from devicemesh.testing.contract import MapperContract, Peer, Serve

VALUES: list[tuple[str, str, Any, Any]] = [
    ("word", "uint16", ua.VariantType.UInt16, 7),
    ("signed", "int16", ua.VariantType.Int16, -1),
    ("wide", "int64", ua.VariantType.Int64, -5_000_000_000),
    ("widest", "uint64", ua.VariantType.UInt64, 2**64 - 1),
    ("float", "float32", ua.VariantType.Float, 1.5),
    ("double", "float64", ua.VariantType.Double, 0.1),
    ("truth", "bool", ua.VariantType.Boolean, True),
    ("text", "string", ua.VariantType.String, "mesh"),
    ("raw", "bytes", ua.VariantType.ByteString, b"\x00\xff"),
    ("list", "json", ua.VariantType.Int32, [1, 2, 3]),
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
                locked = await plant.add("locked", 1, ua.VariantType.Int32)
                await locked.set_read_only()
                endpoint = plant.endpoint()
                good = [(point(i, endpoint, t, n), v) for i, (n, t, _, v) in enumerate(VALUES)]
                bad = point(90, endpoint, "uint16", "gone")
                refused = Write(point(91, endpoint, "int32", "locked"), 2)
                yield Peer(good, bad, (good[4][0], 2.3), refused, plant.stop)

        return serve_asyncua
