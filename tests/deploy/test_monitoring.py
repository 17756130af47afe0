"""deploy/monitoring: the alerts fire when they should, and all that they and the dashboard ask for exists."""

import asyncio
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from devicemesh.api.server import serve
from devicemesh.cli.main import COMMANDS
from devicemesh.runtime.runtime import Runtime
from devicemesh.settings import ApiSettings, Settings
from devicemesh.testing.fake import FakeMapper, FakeSink
from devicemesh.testing.memory import MemoryStore

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/monitoring"
SCRAPED = {"instance", "job", "namespace", "pod", "le"}
"""Labels that Prometheus adds, and that of a histogram's buckets."""
OURS = re.compile(r"\bdevicemesh_[a-z_]+\b")
MODEL = {
    "apiVersion": "devicemesh.io/v1alpha1", "kind": "DeviceModel", "metadata": {"name": "pump"},
    "spec": {"properties": [{"name": "speed", "type": "float64", "address": {"fake": {"key": "s"}},
                             "telemetry": {"samplingInterval": "10ms", "report": "every"}}]},
}  # fmt: skip
DEVICE = {
    "apiVersion": "devicemesh.io/v1alpha1", "kind": "Device", "metadata": {"name": "pump-1"},
    "spec": {"modelRef": {"name": "pump"}, "endpoint": {"fake": {"host": "h"}}},
}  # fmt: skip


@pytest.fixture(scope="module")
def generate() -> Any:
    spec = importlib.util.spec_from_file_location("generate", FOLDER / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["generate"] = module  # a dataclass looks its module up
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules["generate"]


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
    return found


def queries() -> Iterator[tuple[str, str]]:
    """(whose, query) of the dashboard, its variables filled in."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            query = re.sub(r"\$(namespace|instance)\b", ".*", target["expr"]).replace(
                "$__rate_interval", "5m"
            )
            assert "$" not in query, panel["title"]
            yield panel["title"], query


def promtool(*words: str | Path) -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("no promtool. Try: apt install prometheus")
    done = subprocess.run([found, *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_is_derived_is_fresh(generate: Any) -> None:
    for path, text in generate.made().items():
        assert path.read_text("utf-8") == text, f"{path.name}: python deploy/monitoring/generate.py"
    rule = yaml.safe_load(generate.RULE.read_text())
    assert rule["spec"] == yaml.safe_load((FOLDER / "alerts.yaml").read_text())


def test_alerts_are_rules_and_each_fires_and_rests_when_it_should() -> None:
    promtool("check", "rules", FOLDER / "alerts.yaml")
    promtool("test", "rules", FOLDER / "alerts.test.yaml")
    tested = yaml.safe_load((FOLDER / "alerts.test.yaml").read_text())["tests"]
    outcomes: dict[str, list[bool]] = {}
    for one in tested:
        for case in one.get("promql_expr_test", ()):
            name = re.findall(r'alertname="(\w+)"', case["expr"])[0]
            outcomes.setdefault(name, []).append(bool(case["exp_samples"]))
    assert outcomes == {rule["alert"]: [True, False] for rule in rules()}


def test_an_alert_says_what_it_means_and_what_to_do() -> None:
    page = (ROOT / "docs/operate.md").read_text()
    for rule in rules():
        about = rule["annotations"]
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert about["summary"].endswith((".", "full.")), rule["alert"]
        assert len(about["description"]) > 40
        assert rule["alert"] in page
        for command in re.findall(r"`devicemesh ([a-z]+)", about["description"]):
            assert command in COMMANDS


def test_queries_of_the_dashboard_are_promql(tmp_path: Path) -> None:
    recorded = [{"record": f"test:{index}", "expr": query} for index, (_, query) in enumerate(queries())]
    assert len(recorded) > 30
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": recorded}]}))
    promtool("check", "rules", tmp_path / "rules.yaml")


def test_the_dashboard_has_no_panel_over_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The metrics of a running runtime: name -> its labels."""
    text = asyncio.run(_scrape(tmp_path_factory.mktemp("home")))
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        found.setdefault(f"{family.name}_total" if family.type == "counter" else family.name, set())
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


async def _scrape(home: Path) -> str:
    store, sink = MemoryStore(), FakeSink()
    await store.apply([MODEL, DEVICE])
    mapper = FakeMapper(time.time_ns)
    mapper.values["h", 1, "s"] = 42.5
    async with (
        Runtime(Settings(home=home), store, sink, {"fake": mapper}) as runtime,
        serve(runtime, ApiSettings(port=0), None) as url,
    ):
        while not sink.published:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        # what has not happened yet has no series: let it have happened
        runtime.occurrences.published["active"] = 1
        runtime.occurrences.dropped["rate"] = 1
        (link,) = runtime.supervisor.links.values()
        link.writeback.outcomes["refused"] = link.writeback.calls["failed"] = 1
        mapper.lost["server_queue"] = 3

        def ask() -> str:
            with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
                body: str = answer.read().decode()
                return body

        return await asyncio.to_thread(ask)


def test_every_metric_and_label_that_is_asked_for_exists(scraped: dict[str, set[str]]) -> None:
    asked = [*queries(), *((rule["alert"], rule["expr"]) for rule in rules())]
    for whose, query in asked:
        for name, chosen in re.findall(r"\b(devicemesh_[a-z_0-9]+)(?:\{([^}]*)\})?", query):
            assert name in scraped, f"{whose}: there is no {name}"
            for label in re.findall(r"(\w+) *(?:=|!=|=~|!~)", chosen):
                assert label in scraped[name] | SCRAPED, f"{whose}: {name} has no {label}"
        known = set().union(SCRAPED, *(scraped[name] for name in OURS.findall(query)))
        for group in re.findall(r"\b(?:by|without|on) *\(([^)]*)\)", query):
            for label in re.split(r"[ ,]+", group):
                assert label in known, f"{whose}: {label}"


def test_every_metric_that_there_is_is_shown_or_alerted_on(scraped: dict[str, set[str]]) -> None:
    text = " ".join([*(query for _, query in queries()), *(rule["expr"] for rule in rules())])
    asked = {re.sub(r"_(bucket|sum|count)$", "", name) for name in OURS.findall(text)}
    ours = {
        re.sub(r"_(bucket|sum|count|created)$", "", name) for name in scraped if name.startswith("devicemesh")
    }
    assert ours == asked
