"""The image's tree: what deploy/trim.py takes out of it, no runtime on an API server asks for."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
FACTORY = ROOT / "examples/factory"
GROUP = "/apis/devicemesh.io/v1alpha1/namespaces/default"
TRIMMED = ("kubernetes", "asyncua")
EVERY_OPCUA_FILE = """
import importlib, json, pkgutil, asyncua, kubernetes, devicemesh_opcua
for one in pkgutil.iter_modules(devicemesh_opcua.__path__):
    importlib.import_module(f"devicemesh_opcua.{one.name}")
print(json.dumps([asyncua.__file__, kubernetes.__file__]))
"""


@pytest.fixture
def trimmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What processes find first from now on: the two libraries as they are in the image."""
    site = tmp_path / "site"
    for name in TRIMMED:
        found = importlib.util.find_spec(name)
        assert found is not None and found.origin is not None
        shutil.copytree(Path(found.origin).parent, site / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, ROOT / "deploy/trim.py", site]
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(told.stdout.split()[0]) > 50, "megabytes, or it is not worth its lines"
    monkeypatch.setenv("PYTHONPATH", str(site))
    return site


def test_devices_are_declared_read_and_reported_without_it(
    api_server: Any, site: Any, trimmed: Path, wait: Callable[..., Any]
) -> None:
    """Shared, so that Leases, Events and the status are written, too."""
    resources = [
        one for file in sorted(FACTORY.glob("*.yaml")) for one in yaml.safe_load_all(file.read_text())
    ]
    paths = [f"{GROUP}/{one['kind'].lower()}s/{one['metadata']['name']}" for one in resources]
    site.simulate()
    shards = "shards: {mode: shared, namespace: devicemesh, node: worker-1}"
    store = f"store: {{kind: kubernetes, kubeconfig: {api_server.kubeconfig('runtime')}}}"
    (site.home / "settings.yaml").write_text(f"{store}\n{shards}\ninstance: trimmed\n")
    try:
        for path, one in zip(paths, resources, strict=True):
            api_server.ask(
                "PATCH", f"{path}?fieldManager=kubectl", one, content="application/apply-patch+yaml"
            )
        words = ("--settings", str(site.home / "settings.yaml"), "--simulated", "--mqtt", site.broker.url)
        process = site.start("run", *words, "--api-port", "0")
        wait(lambda: _reported(api_server), 60)
        checks = json.loads(site.dm("doctor", *words[:2], "-o", "json").stdout)
        assert next(one for one in checks if one["check"] == "store")["found"].endswith(": 6 devices")
        assert site.stop(process) == 0
        assert "Traceback" not in site.log()
    finally:
        for path in paths:
            api_server.ask("DELETE", path)


def _reported(server: Any) -> bool:
    """Whether a value of each device was read and written to the server."""
    devices = server.ask("GET", f"{GROUP}/devices")["items"]
    return all(one.get("status", {}).get("lastSeen") for one in devices)


def test_opcua_is_a_client_without_it(trimmed: Path) -> None:
    command = [sys.executable, "-c", EVERY_OPCUA_FILE]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert all(Path(one).is_relative_to(trimmed) for one in json.loads(done.stdout))
