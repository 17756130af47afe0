"""`devicemesh sim` as a process, and the factory example from its own YAML."""

import asyncio
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from devicemesh_modbus.mapper import ModbusMapper

from devicemesh.cli.sim import living, serving, simulated
from devicemesh.mapper import Quality

FACTORY = Path(__file__).parent.parent.parent / "examples/factory"
Start = Callable[..., subprocess.Popen[str]]


def command(home: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "devicemesh", "--home", str(home), *words]


def dm(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(home, *words), capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture
def start() -> Iterator[Start]:
    """Start `devicemesh sim` and wait until it says where it serves."""
    started: list[subprocess.Popen[str]] = []

    def go(home: Path, *words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command(home, "sim", *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], 30)
        assert readable, "it said nothing"
        return process

    yield go
    for process in started:
        process.kill()
        process.communicate()


def test_it_says_where_and_leaves_nothing(tmp_path: Path, start: Start) -> None:
    process = start(tmp_path, "-f", str(FACTORY))
    described = living(tmp_path)
    assert described is not None
    assert described["pid"] == process.pid
    assert set(described["addresses"]) == {
        "192.0.2.5:502", "192.0.2.6:502", "192.0.2.7:502", "192.0.2.8:4001", "/dev/ttyUSB0",
    }  # fmt: skip
    assert all(a.startswith(("127.0.0.1:", "/dev/pts/")) for a in described["addresses"].values())
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "192.0.2.5:502" in out
    assert "pump-1, pump-2" in out
    assert err.startswith("Try: ")
    assert list(tmp_path.iterdir()) == []


def test_one_a_home_and_a_killed_one_is_no_hindrance(tmp_path: Path, start: Start) -> None:
    first = start(tmp_path, "-f", str(FACTORY))
    second = dm(tmp_path, "sim", "-f", str(FACTORY))
    assert second.returncode == 2
    assert f"a simulator (pid {first.pid}) already runs on {tmp_path}" in second.stderr
    assert dm(tmp_path, "fault", "pump-1", "unplug").stdout == "pump-1: silent\n"

    first.kill()
    first.wait()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sim.json", "sim.sock"]
    assert living(tmp_path) is None
    late = dm(tmp_path, "fault", "pump-1", "heal")
    assert late.returncode == 3
    assert "no simulator runs on" in late.stderr

    third = start(tmp_path, "-f", str(FACTORY))
    described = living(tmp_path)
    assert described is not None
    assert described["pid"] == third.pid


def test_a_wrong_fault_is_answered_with_what_was_meant(tmp_path: Path, start: Start) -> None:
    start(tmp_path, "-f", str(FACTORY))
    assert "did you mean `pump-1`?" in dm(tmp_path, "fault", "pmp-1", "heal").stderr
    assert "there are default/meter-1" in dm(tmp_path, "fault", "x", "heal").stderr
    wrong = dm(tmp_path, "fault", "pump-1", "drop=lots")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "'lots' is not a percentage" in wrong.stderr


def test_beyond_loopback_there_is_a_warning(tmp_path: Path, start: Start) -> None:
    model = (FACTORY / "models.yaml").read_text()
    (tmp_path / "all.yaml").write_text(model)
    (tmp_path / "power.csv").write_text("0,1\n")
    (tmp_path / "one.yaml").write_text(
        "apiVersion: devicemesh.io/v1alpha1\nkind: Device\nmetadata: {name: oven-1}\n"
        "spec: {modelRef: {name: oven}, endpoint: {modbus: {serial: {port: /dev/ttyUSB0}}}}\n"
    )
    process = start(
        tmp_path / "home", "-f", str(tmp_path), "--host", "0.0.0.0"
    )  # a serial line only: no port
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[1].startswith(
        "Warning: on 0.0.0.0 everybody who reaches this machine"
    )


def test_a_recording_lies_beside_the_model_that_names_it(tmp_path: Path) -> None:
    for folder in ("models", "devices"):
        (tmp_path / folder).mkdir()
    for name in ("models.yaml", "power.csv"):
        (tmp_path / "models" / name).write_bytes((FACTORY / name).read_bytes())
    (tmp_path / "devices/devices.yaml").write_bytes((FACTORY / "devices.yaml").read_bytes())
    (meter, *_) = [
        d
        for d in simulated([tmp_path / "models", tmp_path / "devices"])["modbus"]
        if d.name == "default/meter-1"
    ]
    assert meter.properties["power"].simulation.file == str(tmp_path / "models/power.csv")


SANE = {
    "speed": (1450, 1450), "pressure": (2.6, 3.8), "vibration": (0.4, 4.0), "running": (1, 1), "fault": (0, 0),
    "voltage": (226, 234), "current": (2, 63), "power": (0, 100), "energy": (0, 1000),
    "temperature": (177, 187), "setpoint": (182, 182), "heating": (1, 1), "sensorBroken": (0, 0),
}  # fmt: skip
WORDS = {"serialNumber": "EM-2026-0042", "mode": "automatic"}


def test_the_factory_is_served_whole(tmp_path: Path) -> None:
    async def main() -> dict[str, Any]:
        devices = simulated([FACTORY])
        found = {}
        async with serving(devices, 1, "127.0.0.1", tmp_path) as addresses:
            for device in devices["modbus"]:
                endpoint = device.endpoint.redirect(addresses[device.endpoint.link()])
                async with ModbusMapper().open(endpoint) as session:
                    for point in device.points:
                        trace = await session.trace(replace(point, endpoint=endpoint))
                        assert trace.quality == Quality.GOOD
                        found[f"{device.name} {point.name}"] = trace.value
        return found

    found = asyncio.run(main())
    assert len(found) == 3 * 5 + 2 * 5 + 5
    for name, value in found.items():
        prop = name.rpartition(" ")[2]
        if prop in WORDS:
            assert value == WORDS[prop], name
        else:
            low, high = SANE[prop]
            assert low <= value <= high, f"{name}: {value}"


def test_what_is_wrong_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        """
apiVersion: devicemesh.io/v1alpha1
kind: DeviceModel
metadata: {name: m}
spec:
  properties:
  - {name: a, type: float64, address: {modbus: {table: input, offset: 0, type: uint16}}, simulation: {value: 70000}}
---
apiVersion: devicemesh.io/v1alpha1
kind: Device
metadata: {name: d}
spec: {modelRef: {name: m}, endpoint: {modbus: {host: 192.0.2.1}}}
"""
    )
    (tmp_path / "home").mkdir()
    (tmp_path / "home/sim.json").write_text('{"pid": 1, "addresses": {}}')  # of a killed one: not to be read
    failed = dm(tmp_path / "home", "sim", "-f", str(tmp_path))
    assert failed.returncode == 1
    assert "default/d: a: value 70000 does not fit its address, which holds 0 to 65535" in failed.stderr
    assert list((tmp_path / "home").iterdir()) == []
