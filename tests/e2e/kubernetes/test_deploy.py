"""deploy/: every form of it is what an API server takes, and its pods are what a restricted namespace takes."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
APPLY = "application/apply-patch+yaml"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
OPERATOR = ("podmonitors.yaml", "prometheusrules.yaml")
KUSTOMIZATIONS = ["base", "runtime", "overlays/k3s", "overlays/sites", "overlays/edge"]
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # definitions of resources are long: 7 s of CPU here
RELEASES = {
    "shared": [],
    "alone": ["mode=alone", "replicas=1", "networkPolicy.enabled=false"],
    "serial": ["serial={/dev/ttyUSB0,/dev/ttyUSB1}", "storage.className=local-path"],
    "node": ["mode=node", "ble.enabled=true", "podMonitor.enabled=true", "labels.site=north"],
    "watched": [
        "podMonitor.enabled=true",
        "prometheusRule.enabled=true",
        "prometheusRule.labels.release=prom",
    ],
    "own token": ["apiToken.existingSecret=mine", "rbac.create=false", "admissionPolicy.create=false"],
}


class Tools:
    """kustomize and helm, and an API server to ask."""

    def __init__(self, server: Any, folder: Path) -> None:
        self.server = server
        self._folder = folder
        self._paths: dict[str, str] = {}

    def _run(self, *command: str | Path) -> list[dict[str, Any]]:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return [one for one in yaml.load_all(done.stdout, LOADER) if one]

    def kustomized(self, folder: Path) -> list[dict[str, Any]]:
        return self._run(self._folder / "kustomize", "build", folder)

    def release(self, *values: str) -> list[dict[str, Any]]:
        sets = [word for value in values for word in ("--set", value)]
        chart = "deploy/helm/devicemesh"
        flags = ("--namespace", "plant", "--kube-version", "1.34.4", "--include-crds")
        return self._run(self._folder / "helm", "template", "mesh", chart, *flags, *sets)

    def _path(self, version: str, kind: str, namespace: str) -> str:
        base = f"/apis/{version}" if "/" in version else f"/api/{version}"
        if f"{version} {kind}" not in self._paths:
            for one in self.server.ask("GET", base)["resources"]:
                if "/" not in one["name"]:
                    place = "namespaces/{}/" if one["namespaced"] else ""
                    self._paths[f"{version} {one['kind']}"] = f"{base}/{place}{one['name']}"
        return self._paths[f"{version} {kind}"].format(namespace)

    def take(self, one: dict[str, Any]) -> None:
        """Have it checked as a server-side apply that is not kept. Raises AssertionError with the server's words."""
        path = self._path(one["apiVersion"], one["kind"], one["metadata"].get("namespace", ""))
        query = "dryRun=All&force=true&fieldManager=test&fieldValidation=Strict"
        try:
            self.server.ask("PATCH", f"{path}/{one['metadata']['name']}?{query}", one, content=APPLY)
        except urllib.error.HTTPError as error:
            message = json.loads(error.read())["message"]
            raise AssertionError(f"{one['kind']} {one['metadata']['name']}: {message}") from None

    def take_pod(self, workload: dict[str, Any]) -> None:
        """Have the pod of a workload checked, also by the policy of its namespace."""
        spec = workload["spec"]["template"]["spec"]
        claims = [
            {"name": one["metadata"]["name"], "persistentVolumeClaim": {"claimName": "claim"}}
            for one in workload["spec"].get("volumeClaimTemplates", ())
        ]
        metadata = {"name": "probe", "namespace": workload["metadata"]["namespace"]}
        spec = {**spec, "volumes": [*spec["volumes"], *claims]}
        self.take({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


@pytest.fixture(scope="module")
def tools(api_server: Any, kube_assets: Path) -> Iterator[Tools]:
    for word in ("kustomize", "helm", *OPERATOR):
        if not (kube_assets / word).exists():
            pytest.skip(f"no {word}. Try: make kube-assets")
    definitions = [yaml.safe_load((kube_assets / word).read_text()) for word in OPERATOR]
    for definition in definitions:
        api_server.ask("POST", DEFINITIONS, definition)
    yield Tools(api_server, kube_assets)
    for definition in definitions:
        api_server.ask("DELETE", f"{DEFINITIONS}/{definition['metadata']['name']}")


def _namespaces(server: Any, **policies: str) -> None:
    """Namespaces, each with a pod security policy."""
    for name, policy in policies.items():
        labels = {"pod-security.kubernetes.io/enforce": policy}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        server.ask("PATCH", f"/api/v1/namespaces/{name}?fieldManager=test&force=true", body, content=APPLY)


def _policy_of(resources: list[dict[str, Any]]) -> str:
    for one in resources:
        if one["kind"] == "Namespace":
            return str(one["metadata"]["labels"]["pod-security.kubernetes.io/enforce"])
    return "restricted"


def _workloads(resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in resources if one["kind"] in ("StatefulSet", "DaemonSet")]


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_a_kustomization_is_what_the_server_takes(name: str, tools: Tools) -> None:
    resources = tools.kustomized(ROOT / "deploy" / name)
    _namespaces(tools.server, devicemesh=_policy_of(resources))
    for one in resources:
        tools.take(one)
    for workload in _workloads(resources):
        tools.take_pod(workload)


def test_each_site_has_replicas_and_settings_of_its_own(tools: Tools) -> None:
    resources = tools.kustomized(ROOT / "deploy/overlays/sites")
    workloads = {one["metadata"]["name"]: one for one in _workloads(resources)}
    assert set(workloads) == {"devicemesh-north", "devicemesh-south"}
    settings = {one["metadata"]["name"]: one["data"] for one in resources if one["kind"] == "ConfigMap"}
    for site in ("north", "south"):
        spec = workloads[f"devicemesh-{site}"]["spec"]["template"]["spec"]
        (mounted,) = [v["configMap"]["name"] for v in spec["volumes"] if "configMap" in v]
        assert yaml.safe_load(settings[mounted]["settings.yaml"])["shards"]["labels"] == {"site": site}
        assert spec["nodeSelector"] == {"site": site}


@pytest.mark.parametrize("component", ["serial", "ble", "pod-monitor", "prometheus-rule"])
def test_a_component_is_what_the_server_takes(component: str, tools: Tools, tmp_path: Path) -> None:
    overlay = ROOT / f"deploy/overlays/.{tmp_path.name}"
    overlay.mkdir()
    try:
        (overlay / "kustomization.yaml").write_text(
            f"resources: [../k3s]\ncomponents: [../../components/{component}]\n"
        )
        resources = tools.kustomized(overlay)
    finally:
        (overlay / "kustomization.yaml").unlink(missing_ok=True)
        overlay.rmdir()
    _namespaces(tools.server, devicemesh=_policy_of(resources))
    for one in resources:
        tools.take(one)
    tools.take_pod(_workloads(resources)[0])


@pytest.mark.parametrize("values", RELEASES.values(), ids=list(RELEASES))
def test_a_release_is_what_the_server_takes(values: list[str], tools: Tools) -> None:
    host = any(word in value for value in values for word in ("serial", "node"))
    _namespaces(tools.server, plant="privileged" if host else "restricted")
    resources = tools.release(*values)
    for one in resources:
        tools.take(one)
    tools.take_pod(_workloads(resources)[0])


def test_what_is_scraped_is_what_the_alerts_watch(tools: Tools) -> None:
    alerts = yaml.safe_load((ROOT / "deploy/monitoring/alerts.yaml").read_text())
    (down,) = [rule for rule in alerts["groups"][0]["rules"] if rule["alert"] == "DevicemeshDown"]
    job = re.findall(r'job=~"(.*)"', down["expr"])[0]
    resources = tools.release(*RELEASES["watched"])
    (monitor,) = [one for one in resources if one["kind"] == "PodMonitor"]
    pod = _workloads(resources)[0]["spec"]["template"]["metadata"]["labels"]
    assert re.fullmatch(job, pod[monitor["spec"]["jobLabel"]])
    (rule,) = [one for one in resources if one["kind"] == "PrometheusRule"]
    assert rule["spec"] == alerts
    assert rule["metadata"]["labels"]["release"] == "prom"


def test_what_is_mounted_as_settings_the_runtime_takes(tools: Tools, tmp_path: Path) -> None:
    from devicemesh.settings import load

    maps = [one for name in KUSTOMIZATIONS for one in tools.kustomized(ROOT / "deploy" / name)]
    maps += [one for values in RELEASES.values() for one in tools.release(*values)]
    found = [one["data"]["settings.yaml"] for one in maps if one["kind"] == "ConfigMap"]
    assert len(found) == 5 + len(RELEASES)
    for text in found:
        (tmp_path / "settings.yaml").write_text(text)
        settings = load(tmp_path / "settings.yaml", {"shards": {"node": "worker-1"}})
        assert settings.store.kind == "kubernetes"
        assert settings.api is not None and settings.api.token is not None
