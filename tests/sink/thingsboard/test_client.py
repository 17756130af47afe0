"""The platform that tests speak to, as ThingsBoard's own client for gateways understands it."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from devicemesh.testing.thingsboard import ThingsBoard

FOLDER = Path(__file__).parent / "client"


def test_its_own_client_and_our_platform_are_of_one_mind(platform: ThingsBoard) -> None:
    python = FOLDER / ".venv/bin/python"
    if not python.exists():
        pytest.skip(f"tb-mqtt-client is not installed: {FOLDER / 'install.sh'}")
    command = [str(python), str(FOLDER / "gateway.py"), str(platform.port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
        deadline = time.monotonic() + 30
        while not platform.devices or "fw" not in platform.devices["pump-1"].client:
            assert time.monotonic() < deadline and client.poll() is None, client.communicate()
            time.sleep(0.01)
        platform.share("pump-1", speed=1200, mode="auto")
        platform.request("pump-1", "reset", {"now": True})
        out, errors = client.communicate(timeout=30)
    assert client.returncode == 0, errors
    got = json.loads(out.splitlines()[-1])
    assert got == {
        "payload": 52428, "codes": [0, 0],
        "edited": {"device": "pump-1", "data": {"speed": 1200, "mode": "auto"}},
        "call": {"device": "pump-1", "data": {"id": 1, "method": "reset", "params": {"now": True}}},
        "some": {"id": 1, "device": "pump-1", "values": {"speed": 1200, "mode": "auto"}},
        "one": {"id": 2, "device": "pump-1", "value": 1200},
    }  # fmt: skip
    pump = platform.devices["pump-1"]
    assert (pump.type, pump.latest("speed"), pump.client, pump.session) == ("pump", 1198.5, {"fw": "a"}, None)
    assert platform.answers == {("pump-1", 1): {"success": True}}
