"""bleak's own BlueZ backend, unchanged, against a stand-in for the daemon on a private D-Bus."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from devicemesh_ble.mapper import BleMapper
from devicemesh_ble.model import BleAddress, BleEndpoint

from devicemesh.mapper import LinkError, Point, Write
from devicemesh.spec.values import ValueType
from devicemesh.testing.contract import once

ENDPOINT = BleEndpoint(adapter="hci0", address="F0:F1:F2:F3:F4:F5", timeout="3s")


@pytest.fixture
def bluez(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if shutil.which("dbus-daemon") is None:
        pytest.skip("dbus-daemon is not installed: apt install dbus-daemon")
    with contextlib.ExitStack() as stack:
        bus = stack.enter_context(
            subprocess.Popen(
                ["dbus-daemon", "--session", "--nofork", "--print-address=1"],
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(bus.terminate)
        assert bus.stdout is not None
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.stdout.readline().strip())
        script = Path(__file__).parent / "bluez_standin.py"
        daemon = stack.enter_context(
            subprocess.Popen(
                [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        )
        stack.callback(daemon.terminate)
        assert daemon.stdout is not None and daemon.stdout.readline() == "ready\n"
        yield


def run(work: Coroutine[Any, Any, None]) -> None:
    """In time; bleak's own watch over the bus stays until the loop ends, as it does in a program."""

    async def bounded() -> None:
        async with asyncio.timeout(20):
            await work

    asyncio.run(bounded())


def point(slot: int, type_: str, address: dict[str, object]) -> Point[BleEndpoint, BleAddress]:
    place = BleAddress.model_validate(address)
    return Point(slot, "default/thermo", f"p{slot}", ValueType(type_), ENDPOINT, place)


@pytest.mark.usefixtures("bluez")
def test_heard_read_written_and_notified() -> None:
    heard = point(0, "float64", {"beacon": "bthome/temperature"})
    battery = point(1, "uint8", {"characteristic": "battery_level"})
    failing = point(2, "uint8", {"characteristic": "fff1"})
    notified = point(3, "uint8", {"characteristic": "battery_level", "mode": "notify"})

    async def work() -> None:
        opened: Any = BleMapper().open(ENDPOINT)
        async with opened as session:
            points = [heard, battery, failing]
            found = await once(session.reader(points), points)
            assert (found[0].value, found[1].value) == (25.06, 77)
            assert "ATT error 0x0e" in str(found[2].error)
            seen = []
            async with contextlib.aclosing(session.subscribe([notified])) as batches:
                async for batch in batches:
                    assert batch.error is None
                    seen.append(batch.value[0])
                    if len(seen) == 1:
                        (done,) = await session.write([Write(battery, 42)])
                        assert (done.value, done.error) == (42, None)
                    if seen[-1] == 42:
                        break
            assert seen[0] == 77

    run(work())


def test_no_daemon_is_a_link_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path / 'none'}")

    async def work() -> None:
        for scanning in ("active", "passive"):
            endpoint = BleEndpoint.model_validate({**ENDPOINT.model_dump(), "scanning": scanning})
            with pytest.raises(LinkError, match="hci0: scanning failed"):
                async with BleMapper().open(endpoint):
                    pytest.fail("opened")

    run(work())
