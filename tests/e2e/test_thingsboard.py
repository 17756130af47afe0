"""The factory as ThingsBoard sees it: what comes, what is set and called there, and what a kill loses."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devicemesh.testing.thingsboard import ThingsBoard

Wait = Callable[..., Any]
FACTORY = {"pump-1", "pump-2", "pump-3", "oven-1", "meter-1"}


@pytest.fixture
def platform(site: Any) -> Iterator[ThingsBoard]:
    with ThingsBoard() as found:
        site.broker = found
        yield found
        assert found.wrong == []


@pytest.fixture
def settings(site: Any, tmp_path: Path) -> Path:
    (site.home / "secrets/thingsboard").mkdir(parents=True)
    (site.home / "secrets/thingsboard/token").write_text("token")
    file = tmp_path / "settings.yaml"
    file.write_text("mqtt: {thingsboard: {token: {name: thingsboard, key: token}}}\n")
    return file


def test_the_factory_at_thingsboard(site: Any, platform: ThingsBoard, settings: Path, wait: Wait) -> None:
    site.simulate()
    run = site.run("--settings", str(settings))
    wait(lambda: set(platform.connected()) >= FACTORY)
    pump, oven = platform.devices["pump-1"], platform.devices["oven-1"]
    assert pump.type == "centrifugal-pump"
    wait(lambda: pump.latest("pressure/mean") is not None)
    wait(lambda: oven.latest("temperature") is not None)
    assert pump.client["twin/units"]["speed"] == "rpm"

    platform.share("oven-1", setpoint=200.5)
    wait(lambda: oven.client.get("setpoint") == 200.5)
    assert oven.client["twin/desired"]["setpoint"]["state"] == "applied"
    refused = platform.request("oven-1", "set", {"setpoint": 9999.0})
    assert "above setpoint's maximum" in wait(lambda: platform.answers.get(refused))["error"]
    taken = platform.request("oven-1", "set", "setpoint=180")
    assert wait(lambda: platform.answers.get(taken)) == {"success": True}
    asked = platform.request("oven-1", "get", "setpoint")
    assert wait(lambda: platform.answers.get(asked)) == {"result": 180.0}, "not what was told 5 s ago"

    assert site.dm("fault", "pump-3", "unplug").returncode == 0
    wait(lambda: "pump-3" not in platform.connected())
    assert platform.devices["pump-3"].client["twin/state"] == "Offline"
    assert site.dm("fault", "pump-3", "heal").returncode == 0
    wait(lambda: "pump-3" in platform.connected())
    assert site.dm("delete", "device", "pump-2").returncode == 0
    wait(lambda: "pump-2" not in platform.connected())
    assert site.stop(run) == 0
    wait(lambda: platform.connected() == [])
    assert "Traceback" not in site.log()


def test_a_kill_loses_nothing_that_waited(
    site: Any, platform: ThingsBoard, settings: Path, wait: Wait
) -> None:
    site.simulate()
    run = site.run("--settings", str(settings))
    wait(
        lambda: len(platform.devices["meter-1"].series("voltage")) > 3 if "meter-1" in platform.devices else 0
    )
    platform.stop()
    before = max(platform.devices["meter-1"].telemetry["voltage"])
    outbox = site.home / "outbox"
    size = sum(one.stat().st_size for one in outbox.iterdir())
    wait(lambda: sum(one.stat().st_size for one in outbox.iterdir()) > size + 2000)
    site.stop(run, signal.SIGKILL)
    waiting = site.dm("outbox", "dump").stdout.count("meter-1")
    assert waiting
    platform.start()
    site.run("--settings", str(settings))
    wait(lambda: len([ts for ts in platform.devices["meter-1"].telemetry["voltage"] if ts > before]) > 3)
    wait(lambda: "outbox" not in site.dm("outbox", "verify").stderr)
    assert platform.devices["meter-1"].type != "default"
