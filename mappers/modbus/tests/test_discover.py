"""What a scan finds."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from devicemesh_modbus import discover as scanning
from devicemesh_modbus.mapper import ModbusMapper
from pymodbus import ModbusDeviceIdentification
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from devicemesh.mapper import ConfigError, Found, LinkError
from devicemesh.testing.clock import SOCKETS_S, run_virtual


async def found(uri: str) -> list[Found]:
    return [one async for one in ModbusMapper().discover(uri)]


def test_units_say_who_they_are() -> None:
    async def work() -> None:
        blocks = [SimData(0, values=[7], datatype=DataType.REGISTERS)]
        names = {"VendorName": "Mesh", "ProductCode": "P1", "MajorMinorRevision": "1.2", "ModelName": "pump"}
        identity = ModbusDeviceIdentification(info_name=names)  # type: ignore[no-untyped-call]
        server = ModbusTcpServer(SimDevice(id=0, simdata=blocks), identity=identity, address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        try:
            port = server.transport.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
            seen = await found(f"modbus://127.0.0.1:{port}")
        finally:
            await server.shutdown()  # type: ignore[no-untyped-call]
        assert [one.uri for one in seen] == [f"modbus://127.0.0.1:{port}/{unit}" for unit in scanning.UNITS]
        expected = {"vendor": "Mesh", "product": "P1", "revision": "1.2", "model": "pump"}
        assert {k: v for k, v in seen[0].identity.items() if v} == expected

    asyncio.run(work())


def test_silent_units_are_passed_by(hostile: Any, fault: Any, serving: Any) -> None:
    async def work() -> None:
        device = hostile(faults=[fault(unit=unit, silent=True) for unit in range(256) if unit not in (5, 0)])
        async with serving(device):
            seen = await found(f"modbus://127.0.0.1:{device.port}")
        assert [(one.uri.rsplit("/")[-1], dict(one.identity)) for one in seen] == [
            ("5", {"vendor": "Mesh"}),
            ("0", {"vendor": "Mesh"}),
        ]

    run_virtual(work(), patience_s=SOCKETS_S)


def test_what_is_inside_a_unit(hostile: Any, fault: Any, serving: Any) -> None:
    async def work() -> None:
        there = {*range(10), *range(100, 400), 3050, *range(40000, 40010)}
        device = hostile(
            missing={(1, "holding", n) for n in range(65536) if n not in there}
            | {(1, "coil", n) for n in range(65536) if not 16 <= n < 40}
            | {(1, "discrete", n) for n in range(65536)},
            faults=[fault(function=4, exception=1)],
        )
        async with serving(device):
            (one,) = await found(f"modbus://127.0.0.1:{device.port}/1")
        places = {address: sample.partition(":")[0] for address, sample in one.points}
        assert places == {
            "coil:16": "coil 16..39",
            "holding:0": "holding 0..9",
            "holding:100": "holding 100..399",
            "holding:40000": "holding 40000..40009",
        }, "3050 is an island that no probe meets"
        sample = dict(one.points)["holding:0"].partition(": ")[2].split()
        assert [int(word, 16) for word in sample] == [device.value(1, "holding", n) for n in range(8)]
        bits = dict(one.points)["coil:16"].partition(": ")[2].split()
        assert [int(bit) for bit in bits] == [device.value(1, "coil", n) for n in range(16, 24)]
        assert len(device.requests) < 4 * scanning.BUDGET
        assert len([r for r in device.requests if r[1] == 4]) == 1, "an unknown function is asked for once"

    run_virtual(work(), patience_s=SOCKETS_S)


def test_a_scan_never_exceeds_its_budget(hostile: Any, serving: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        device = hostile()
        async with serving(device):
            (one,) = await found(f"modbus://127.0.0.1:{device.port}/1")
        assert len(one.points) == 4 and len(device.requests) <= 4 * 40 + 2

    monkeypatch.setattr(scanning, "BUDGET", 40)
    run_virtual(work(), patience_s=SOCKETS_S)


@pytest.mark.parametrize("output", [[], ["-o", "json"]])
def test_a_name_that_would_steer_the_terminal(
    output: list[str], hostile: Any, serving: Any, fault: Any, tmp_path: Path
) -> None:
    """As `devicemesh discover` prints it, of a real answer to function 43."""
    name = b"Pump\x1b]0;owned\x07\x1b[2J\xc2\x9b31m"
    pdu = bytes((43, 14, 1, 1, 0, 0, 1, 0, len(name))) + name

    async def work() -> subprocess.CompletedProcess[bytes]:
        device = hostile(faults=[fault(function=43, pdu=pdu.hex())])
        async with serving(device):
            uri = f"modbus://127.0.0.1:{device.port}"
            command = [sys.executable, "-m", "devicemesh", "--home", str(tmp_path), "discover", uri, *output]
            return await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)

    out = asyncio.run(work()).stdout.decode()
    assert "owned" in out and all(one.isprintable() or one == "\n" for one in out)


def test_a_scan_of_nothing() -> None:
    with pytest.raises(ConfigError):
        asyncio.run(found("modbus://"))
    with pytest.raises(LinkError):
        asyncio.run(found("modbus://no-such-host.invalid"))
