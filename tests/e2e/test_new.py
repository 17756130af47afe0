"""A mapper that `devicemesh new` has just written, end to end: simulated, run, written to, broken, to a real broker."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devicemesh.cli.new import write

Wait = Callable[..., Any]


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example of a mapper of acme, which every process from here on finds installed."""
    folder = tmp_path / "devicemesh-acme"
    write("acme", folder)
    command = [sys.executable, "-c", "from setuptools import setup; setup()", "-q", "egg_info"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    monkeypatch.setenv("PYTHONPATH", str(folder / "src"))
    return folder / "device.example.yaml"


def test_from_simulated_instruments_to_the_broker(
    example: Path, site: Any, listener: Any, wait: Wait, gapless: Callable[[list[Any]], int]
) -> None:
    assert site.dm("validate", "-f", str(example)).returncode == 0
    site.simulate(example)
    run = site.run(files=example)
    wait(site.all_ready)
    wait(lambda: set(listener.telemetry()) == {"supply-1-a", "supply-1-b"})

    def held(device: str, name: str) -> Any:
        listed = site.device(device)["status"]["properties"]
        return next(one.get("reported", {}).get("value") for one in listed if one["name"] == name)

    wait(lambda: 11.9 <= (held("supply-1-a", "voltage") or 0) <= 12.1)
    done = site.dm("set", "supply-1-b", "limit=5.25", "enabled=true", "--wait")
    assert (done.returncode, "read back 5.25" in done.stdout) == (0, True), done
    wait(lambda: (held("supply-1-b", "limit"), held("supply-1-b", "enabled")) == (5.25, True))
    wait(lambda: held("supply-1-a", "limit") == 12)  # the neighbour on the same link is another device
    assert (
        "VOLT? (@2)"
        in bytes.fromhex(
            site.dm("trace", "supply-1-b", "limit", "-o", "json")
            .stdout.split('"request": "')[1]
            .split('"')[0]
        ).decode()
    )

    assert site.dm("fault", "supply-1-a", "unplug").returncode == 0
    wait(lambda: "no answer to" in str(site.device("supply-1-a").get("status", {})))
    assert site.dm("fault", "supply-1-a", "heal").returncode == 0
    wait(site.all_ready)

    assert site.stop(run) == 0
    for device, messages in listener.telemetry().items():
        assert gapless(messages) == len(messages), device
    assert "Traceback" not in site.log() + site.log("sim")
