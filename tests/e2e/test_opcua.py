"""OPC UA end to end: what a server records while the runtime is dead comes when it lives again, once."""

import signal
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

Wait = Callable[..., Any]
MANIFEST = """
apiVersion: devicemesh.io/v1alpha1
kind: DeviceModel
metadata: {name: tank}
spec:
  properties:
  - name: level
    type: float64
    unit: m
    address: {opcua: {browsePath: Level, namespace: "urn:plant"}}
    telemetry: {samplingInterval: 100ms, report: every}
    simulation: {signal: ramp, low: 0, high: 1000, period: 1000s, history: true}
---
apiVersion: devicemesh.io/v1alpha1
kind: Device
metadata: {name: tank-1}
spec:
  modelRef: {name: tank}
  endpoint: {opcua: {url: "opc.tcp://192.0.2.9:4840", timeout: 2s}}
"""


def samples(messages: list[Any]) -> list[tuple[int, float, str]]:
    """Epoch, time in seconds, and quality of each sample; a message that was sent twice counts once."""
    found = {(m["epoch"], m["seq"]): m for m in messages}
    return [
        (epoch, datetime.fromisoformat(row["time"]).timestamp(), row.get("quality", {}).get("level", "Good"))
        for (epoch, _), message in sorted(found.items())
        for row in message.get("rows", ())
    ]


def test_a_killed_runtime_reads_what_it_has_missed_once(
    site: Any, listener: Any, wait: Wait, tmp_path: Path
) -> None:
    folder = tmp_path / "declared"
    folder.mkdir()
    (folder / "tank.yaml").write_text(MANIFEST)

    def told() -> list[tuple[int, float, str]]:
        return samples(listener.telemetry().get("tank-1", []))

    def good(row: tuple[int, float, str]) -> bool:
        return row[2] == "Good"

    site.simulate(folder)
    run = site.run(files=folder)
    wait(lambda: len(told()) > 5)
    wait(lambda: "Good" in str(site.device("tank-1").get("status", {}).get("properties")))
    site.stop(run, signal.SIGKILL)
    died = time.time()
    wait(lambda: time.time() > died + 3)  # the server records meanwhile
    run = site.run(files=folder)
    wait(lambda: [row for row in told() if row[2] == "Good.FromHistory"])
    seen = len(told())
    wait(lambda: len(told()) > seen + 5)
    assert site.stop(run) == 0

    rows = [row for row in told() if not row[2].startswith("Bad")]
    first, second = sorted({epoch for epoch, _, _ in rows})
    last_before = max(at for epoch, at, _ in rows if epoch == first)
    first_after = min(at for epoch, at, quality in rows if epoch == second and quality == "Good")
    missed = sorted(at for _, at, _ in rows if last_before < at < first_after)
    assert first_after - last_before > 3
    assert len(missed) > 15, "they came"
    assert max(Counter(missed).values()) == 1, "once"
    assert all(row[2] == "Good.FromHistory" for row in rows if last_before < row[1] < first_after)
    edges = [last_before, *missed, first_after]
    assert max(late - early for early, late in pairwise(edges)) < 1, "none is missing"
    of_second = Counter(at for epoch, at, _ in rows if epoch == second)
    assert max(of_second.values()) == 1, "no sample twice under one epoch"
    assert "Traceback" not in site.log() + site.log("sim")


def test_a_runtime_that_was_stopped_well_reads_no_sample_twice(
    site: Any, listener: Any, wait: Wait, tmp_path: Path
) -> None:
    folder = tmp_path / "declared"
    folder.mkdir()
    (folder / "tank.yaml").write_text(MANIFEST)

    def told() -> list[tuple[int, float, str]]:
        return samples(listener.telemetry().get("tank-1", []))

    site.simulate(folder)
    for turn in range(3):
        run = site.run(files=folder)
        wait(lambda turn=turn: len({epoch for epoch, _, _ in told()}) == turn + 1)
        wait(
            lambda turn=turn: (
                turn == 0 or told()[-1][0] in {e for e, _, q in told() if q == "Good.FromHistory"}
            )
        )
        seen = len(told())
        wait(lambda seen=seen: len(told()) > seen + 3)
        assert site.stop(run) == 0
    times = Counter(at for _, at, quality in told() if not quality.startswith("Bad"))
    assert max(times.values()) == 1
    assert max(late - early for early, late in pairwise(sorted(times))) < 1, "none is missing"


PUMP = """
apiVersion: devicemesh.io/v1alpha1
kind: DeviceModel
metadata: {name: pump}
spec:
  properties:
  - name: position
    type: float64
    access: ReadWrite
    address: {opcua: {browsePath: Motor/Position, namespace: "urn:plant"}}
    simulation: {value: 5}
  - name: count
    type: int32
    address: {opcua: {node: "nsu=urn:plant;s=Count"}}
    telemetry: {samplingInterval: 100ms, report: every}
    simulation: {signal: counter, high: 1000000, period: 200ms}
  commands:
  - name: move
    arguments: [{name: position, type: float64, maximum: 120}]
    address: {opcua: {browsePath: Motor/Move, namespace: "urn:plant"}}
  events:
  - {name: alarms, address: {opcua: {node: "nsu=urn:plant;s=Pump"}}}
---
apiVersion: devicemesh.io/v1alpha1
kind: Device
metadata: {name: pump-9}
spec:
  modelRef: {name: pump}
  endpoint: {opcua: {url: "opc.tcp://192.0.2.9:4840", root: "nsu=urn:plant;s=Pump", timeout: 2s}}
"""


def test_a_device_is_told_tells_and_breaks_in_every_way(
    site: Any, listener: Any, wait: Wait, tmp_path: Path, gapless: Callable[[list[Any]], int]
) -> None:
    folder = tmp_path / "declared"
    folder.mkdir()
    (folder / "pump.yaml").write_text(PUMP)
    site.simulate(folder)
    run = site.run(files=folder)

    def count() -> int:
        return len(listener.telemetry().get("pump-9", ()))

    def grows() -> None:
        before = count()
        wait(lambda: count() > before + 5)
        wait(lambda: site.condition("pump-9", "Ready").get("status") == "True")

    wait(count)
    grows()
    done = site.dm("set", "pump-9", "position=42.5", "--wait")
    assert (done.returncode, "read back 42.5" in done.stdout) == (0, True), done
    listener.say("default/pump-9/command/move", {"position": 12.5})
    assert wait(lambda: listener.of("default/pump-9/command/move/result"))[-1]["state"] == "applied"
    listener.say("default/pump-9/command/move", {"position": 500})
    wait(lambda: listener.of("default/pump-9/command/move/result")[-1]["state"] == "refused")

    assert site.dm("fault", "pump-9", "alarm").returncode == 0
    assert wait(lambda: listener.of("default/pump-9/alarm"))[-1]["state"] == "active"
    assert site.dm("fault", "pump-9", "bad=sensor").returncode == 0
    wait(lambda: "BadSensorFailure" in str(site.device("pump-9")["status"]["conditions"]))
    assert site.dm("fault", "pump-9", "heal").returncode == 0
    wait(lambda: listener.of("default/pump-9/alarm")[-1]["state"] == "cleared")
    for fault in ("shift", "session", "publish=500ms", "disconnect"):
        assert site.dm("fault", "pump-9", fault).returncode == 0
        grows()
    assert site.dm("fault", "pump-9", "unplug").returncode == 0
    wait(lambda: site.condition("pump-9", "Ready").get("status") == "False")
    assert site.dm("fault", "pump-9", "heal").returncode == 0
    grows()
    assert site.stop(run) == 0
    assert gapless(listener.telemetry()["pump-9"]) == count()
    assert "Traceback" not in site.log() + site.log("sim")
