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
