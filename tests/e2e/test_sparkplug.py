"""The factory as a Sparkplug Edge Node: what a SCADA host sees, asks, and gets after a kill."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devicemesh.testing.broker import RealBroker
from devicemesh.testing.sparkplug import GROUP, NODE, Host

Wait = Callable[..., Any]


@pytest.fixture
def host(broker: RealBroker) -> Iterator[Host]:
    with Host(broker) as found:
        yield found


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    file = tmp_path / "settings.yaml"
    file.write_text(f"mqtt:\n  sparkplug:\n    group: {GROUP}\n    node: {NODE}\n")
    return file


def test_the_factory_as_tags(site: Any, host: Host, settings: Path, wait: Wait) -> None:
    site.simulate()
    run = site.run("--settings", str(settings))
    wait(lambda: len(host.devices) == 7)
    assert host.devices["pump-1"].properties["speed"]["engUnit"] == "rpm"
    wait(lambda: host.of("pump-1", "pressure/mean"))
    wait(lambda: host.of("oven-1", "temperature"))

    host.ask("DCMD", "oven-1", ("setpoint", 10, 200.5))
    wait(lambda: 200.5 in host.of("oven-1", "setpoint"))
    assert wait(lambda: host.of("oven-1", "twin/desired/result"))
    host.ask("DCMD", "oven-1", ("setpoint", 10, 9999.0))
    refused = wait(lambda: [one for one in host.of("oven-1", "twin/desired/result") if "refused" in one])
    assert "above setpoint's maximum" in refused[0]

    assert site.dm("fault", "pump-3", "unplug").returncode == 0
    wait(lambda: "pump-3" not in host.devices)
    assert "pump-1" in host.devices
    assert site.dm("fault", "pump-3", "heal").returncode == 0
    wait(lambda: "pump-3" in host.devices)

    assert site.dm("delete", "device", "pump-2").returncode == 0
    wait(lambda: "pump-2" not in host.devices)
    assert site.stop(run) == 0
    wait(lambda: not host.online)
    assert host.wrong == []
    assert "Traceback" not in site.log()


def test_a_killed_node_is_dead_and_the_next_goes_on(
    site: Any, host: Host, settings: Path, wait: Wait
) -> None:
    site.simulate()
    run = site.run("--settings", str(settings))
    wait(lambda: len(host.devices) == 7)
    first = host.bd_seq
    wait(lambda: host.of("meter-1", "voltage"))
    site.stop(run, signal.SIGKILL)
    wait(lambda: not host.online)
    assert host.verbs[-1] == "NDEATH"
    site.run("--settings", str(settings))
    wait(lambda: len(host.devices) == 7)
    assert first is not None and host.bd_seq == first + 1
    assert host.wrong == []
