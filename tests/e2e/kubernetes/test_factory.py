"""The main job with the declarations on an API server: `kubectl apply` and `kubectl get`, a runtime, a broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

FACTORY = Path(__file__).parents[3] / "examples/factory"
GROUP = "/apis/devicemesh.io/v1alpha1/namespaces/default"
EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
APPLY = "application/apply-patch+yaml"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
Wait = Callable[..., Any]


def _path(resource: dict[str, Any]) -> str:
    return f"{GROUP}/{resource['kind'].lower()}s/{resource['metadata']['name']}"


@pytest.fixture
def cluster(api_server: Any) -> Iterator[Any]:
    """The API server with the factory applied, as kubectl does it."""
    resources = [
        one for file in sorted(FACTORY.glob("*.yaml")) for one in yaml.safe_load_all(file.read_text())
    ]
    for one in resources:
        api_server.ask("PATCH", f"{_path(one)}?fieldManager=kubectl", one, content=APPLY)
    yield api_server
    for one in resources:
        api_server.ask("DELETE", _path(one))


@pytest.fixture
def running(cluster: Any, site: Any) -> Any:
    """A runtime with the rights that deploy/ gives it, on simulated devices."""
    site.simulate()
    (site.home / "settings.yaml").write_text(
        f"store: {{kind: kubernetes, kubeconfig: {cluster.kubeconfig('runtime')}}}\n"
    )
    return lambda: site.start(
        *("run", "--settings", str(site.home / "settings.yaml"), "--simulated"),
        *("--mqtt", site.broker.url, "--api-port", "0"),
    )


def _conditions(cluster: Any) -> dict[str, dict[str, Any]]:
    """Conditions by device and type."""
    return {
        one["metadata"]["name"]: {c["type"]: c for c in one.get("status", {}).get("conditions", [])}
        for one in cluster.ask("GET", f"{GROUP}/devices")["items"]
    }


def _all_ready(cluster: Any) -> bool:
    return all(c.get("Ready", {}).get("status") == "True" for c in _conditions(cluster).values())


def _desire(cluster: Any, value: float) -> None:
    patch = {"spec": {"desired": [{"name": "speed", "value": value}]}}
    cluster.ask("PATCH", f"{GROUP}/devices/pump-1", patch, content="application/merge-patch+json")


def _applied(cluster: Any, reason: str) -> Callable[[], Any]:
    return lambda: _conditions(cluster)["pump-1"].get("DesiredApplied", {}).get("reason") == reason


def test_declared_on_the_server_read_written_and_reported(
    cluster: Any, site: Any, running: Callable[[], Any], listener: Any, wait: Wait
) -> None:
    running()
    wait(lambda: _all_ready(cluster), 60)
    wait(lambda: "pump-1" in listener.telemetry())
    _desire(cluster, 1200)
    wait(_applied(cluster, "Applied"))
    pump = cluster.ask("GET", f"{GROUP}/devices/pump-1")
    assert pump["status"]["observedGeneration"] == pump["metadata"]["generation"]
    _desire(cluster, 4200)
    wait(_applied(cluster, "OutOfRange"))
    message = _conditions(cluster)["pump-1"]["DesiredApplied"]["message"]
    assert message == "speed: 4200 is above speed's maximum of 3000 rpm"
    assert _conditions(cluster)["pump-1"]["Stalled"]["reason"] == "OutOfRange"
    told = wait(lambda: [e for e in cluster.ask("GET", EVENTS)["items"] if e["reason"] == "OutOfRange"])
    assert told[0]["regarding"]["uid"] == pump["metadata"]["uid"]
    assert told[0]["note"] == f"DesiredApplied is False: {message}"
    listener.say("default/pump-1/twin/desired", {"speed": 900})
    wait(lambda: _results(listener, 900) == ["applied"])
    entries = cluster.ask("GET", f"{GROUP}/devices/pump-1")["spec"]["desired"]
    assert entries == [{"name": "speed", "value": 900}]
    columns = cluster.ask("GET", f"{GROUP}/devices", accept=TABLE)
    names = [column["name"] for column in columns["columnDefinitions"]]
    row = next(r["cells"] for r in columns["rows"] if r["cells"][0] == "pump-1")
    shown = dict(zip(names, row, strict=True))
    assert (shown["Protocol"], shown["Shard"], shown["Connected"]) == ("modbus", "main", "True")


def test_a_server_that_goes_away_stops_nothing(
    cluster: Any, site: Any, running: Callable[[], Any], listener: Any, wait: Wait
) -> None:
    """Read and written without it, started without it; both sides' edits are brought together."""
    process = running()
    wait(lambda: _all_ready(cluster), 60)
    cluster.kill()
    before = len(listener.telemetry()["pump-1"])
    wait(lambda: len(listener.telemetry()["pump-1"]) > before + 3)
    listener.say("default/pump-1/twin/desired", {"speed": 900})
    wait(lambda: _results(listener, 900) == ["applied"])
    assert site.stop(process) == 0
    process = running()
    epochs = len({message["epoch"] for message in listener.telemetry()["pump-1"]})
    wait(lambda: len({message["epoch"] for message in listener.telemetry()["pump-1"]}) > epochs)
    listener.say("default/pump-3/twin/desired", {"speed": 800})
    wait(lambda: any(body.get("value") == 800 for body in listener.of("default/pump-3/twin/desired/result")))
    assert site.stop(process) == 0

    cluster.start()
    _desire(cluster, 700)
    running()
    wait(_applied(cluster, "Overruled"), 60)
    message = _conditions(cluster)["pump-1"]["DesiredApplied"]["message"]
    assert message.startswith("speed: 900 was set here at ")
    assert message.endswith(", but 700 holds: the newest does")
    assert _desired(cluster, "pump-1") == [{"name": "speed", "value": 700}]
    wait(lambda: _desired(cluster, "pump-3") == [{"name": "speed", "value": 800}])


@pytest.mark.parametrize(
    ("mode", "refused"),
    [("alone", 'cannot list resource "devicemodels"'), ("shared", 'cannot list resource "leases"')],
)
def test_a_runtime_without_rights_says_which(
    cluster: Any, site: Any, wait: Wait, mode: str, refused: str
) -> None:
    site.simulate()
    settings = (
        f"store: {{kind: kubernetes, kubeconfig: {cluster.kubeconfig('nobody')}}}\nshards: {{mode: {mode}}}\n"
    )
    (site.home / "settings.yaml").write_text(settings)
    words = ("run", "--settings", str(site.home / "settings.yaml"), "--simulated", "--no-api")
    process = site.start(*words, "--mqtt", site.broker.url)
    wait(lambda: refused in site.log())
    assert "Traceback" not in site.log()
    assert site.stop(process) == 0


def _results(listener: Any, value: float) -> list[str]:
    """What was said of a desired value of pump-1."""
    results = listener.of("default/pump-1/twin/desired/result")
    return [body["state"] for body in results if body.get("value") == value]


def _desired(cluster: Any, name: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = cluster.ask("GET", f"{GROUP}/devices/{name}")["spec"].get("desired", [])
    return entries
