"""The contract of all mappers, against asyncua's server."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from devicemesh_opcua.mapper import OpcUaMapper
from devicemesh_opcua.model import OpcUaEvents, OpcUaMethod

from devicemesh.mapper import Invocation, Notifier, Occurrence, Write
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
                await plant.add_methods()
                await plant.add_alarm("hot")

                def call(name: str, **arguments: Any) -> Invocation[Any]:
                    where = OpcUaMethod(node=f"nsu=urn:plant;s=Motor.{name}", object="nsu=urn:plant;s=Motor")
                    return Invocation("default/plc", name, endpoint, where, arguments)

                async def raise_alarm() -> Occurrence:
                    await plant.alarm("hot", True, "too hot")
                    return Occurrence("hot", 0, "too hot", "critical", "active", "Motor")

                async def past() -> list[tuple[int, float]]:
                    began = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
                    moments = [began - datetime.timedelta(minutes=30 - i) for i in range(5)]
                    await plant.historize("double", [(float(i), t, 0) for i, t in enumerate(moments)])
                    return [(round(t.timestamp()) * 10**9, float(i)) for i, t in enumerate(moments)]

                yield Peer(
                    good,
                    bad,
                    (good[4][0], 2.3),
                    refused,
                    plant.stop,
                    call=(call("Scale", level=3, factors=[1.5, 0.5]), {"total": 6.0, "words": ["a", "b"]}),
                    refused_calls=[
                        call("Gone"),
                        call("Scale", level=3),
                        call("Scale", level=1 << 20, factors=[1.0]),
                        call("Scale", level=200, factors=[1.0]),
                        call("Scale", level=2, factors=1.0),
                    ],
                    notifier=Notifier("default/plc", "alarms", endpoint, OpcUaEvents()),
                    raise_alarm=raise_alarm,
                    past=(good[5][0], past),
                )

        return serve_asyncua
