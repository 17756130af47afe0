"""The contract of all mappers, against pymodbus's server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from devicemesh_modbus.endpoint import ModbusEndpoint
from devicemesh_modbus.mapper import ModbusMapper
from devicemesh_modbus.model import ModbusAddress
from pymodbus.framer import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from devicemesh.mapper import Point, Write
from devicemesh.spec.values import ValueType
from devicemesh.testing.contract import MapperContract, Peer, Serve

DEVICE = SimDevice(
    id=1,
    simdata=(
        [SimData(0, values=[True, False, True, True], datatype=DataType.BITS)],
        [SimData(0, values=[False, True], datatype=DataType.BITS)],
        [
            SimData(0, values=[7, 65535], datatype=DataType.REGISTERS),
            SimData(10, values=[1.5], datatype=DataType.FLOAT32),
            SimData(20, values="mesh", datatype=DataType.STRING),
            SimData(30, values=[-5_000_000_000], datatype=DataType.INT64),
        ],
        [SimData(0, values=[42], datatype=DataType.REGISTERS)],
    ),
)
POINTS: list[tuple[str, ValueType, dict[str, Any], Any]] = [
    ("word", ValueType.UINT16, {"table": "holding", "offset": 0}, 7),
    ("signed", ValueType.INT16, {"table": "holding", "offset": 1}, -1),
    ("scaled", ValueType.FLOAT64, {"table": "holding", "offset": 0, "type": "uint16", "scale": 0.5, "add": 1}, 4.5),
    ("bit", ValueType.BOOL, {"table": "holding", "offset": 1, "bit": 15}, True),
    ("state", ValueType.STRING, {"table": "holding", "offset": 0, "enum": {7: "running"}}, "running"),
    ("float", ValueType.FLOAT32, {"table": "holding", "offset": 10}, 1.5),
    ("text", ValueType.STRING, {"table": "holding", "offset": 20, "length": 2}, "mesh"),
    ("wide", ValueType.INT64, {"table": "holding", "offset": 30}, -5_000_000_000),
    ("coil", ValueType.BOOL, {"table": "coil", "offset": 1}, False),
    ("contact", ValueType.BOOL, {"table": "discrete", "offset": 1}, True),
    ("input", ValueType.UINT16, {"table": "input", "offset": 0}, 42),
]  # fmt: skip


@asynccontextmanager
async def serve_pymodbus(transport: str = "tcp") -> AsyncIterator[Peer]:
    framers = {"tcp": FramerType.SOCKET, "rtuovertcp": FramerType.RTU, "asciiovertcp": FramerType.ASCII}
    server = ModbusTcpServer(DEVICE, framer=framers[transport], address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    port = server.transport.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    fields = {"host": "127.0.0.1", "port": port, "transport": transport}
    endpoint = ModbusEndpoint.model_validate(fields)

    def point(slot: int, name: str, type_: ValueType, address: dict[str, Any]) -> Any:
        return Point(slot, "default/plc", name, type_, endpoint, ModbusAddress.model_validate(address))

    good = [(point(slot, *one[:3]), one[3]) for slot, one in enumerate(POINTS)]
    bad = point(90, "gone", ValueType.UINT16, {"table": "holding", "offset": 9})
    unwritable = point(91, "far", ValueType.UINT16, {"table": "holding", "offset": 999})
    try:
        yield Peer(good, bad, (good[5][0], -2.3), Write(unwritable, 1), server.shutdown)
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]


class TestContract(MapperContract):
    @pytest.fixture
    def mapper(self) -> ModbusMapper:
        return ModbusMapper()

    @pytest.fixture(params=["tcp", "rtuovertcp", "asciiovertcp"])
    def serve(self, request: pytest.FixtureRequest) -> Serve:
        return partial(serve_pymodbus, request.param)
