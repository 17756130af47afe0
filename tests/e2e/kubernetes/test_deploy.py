"""deploy/: every form of it is what an API server takes, and its pods are what a restricted namespace takes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.error
from collections.abc import Iterator, Sequence
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
    "secured": [
        "mqtt.url=mqtts://broker.plant:8884",
        "secrets={broker}",
        "settings.mqtt.username=plant",
        "settings.mqtt.password.name=broker",
        "settings.api.port=9000",
        "rbac.deviceSecrets.default={plc}",
        "priorityClassName=system-node-critical",
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

    def release(self, *values: str, name: str = "mesh", namespace: str = "plant") -> list[dict[str, Any]]:
        return self._run(*self._template(values, name, namespace), "--include-crds")

    def refusal(self, *values: str) -> str:
        """What Helm says of values that are wrong."""
        command = self._template(values, "mesh", "plant")
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode != 0, f"{values} were taken"
        return done.stderr

    def _template(self, values: Sequence[str], name: str, namespace: str) -> list[str | Path]:
        sets = [word for value in values for word in ("--set", value)]
        flags = ("--namespace", namespace, "--kube-version", "1.34.4")
        return [self._folder / "helm", "template", name, "deploy/helm/devicemesh", *flags, *sets]

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


@pytest.mark.parametrize("component", ["serial", "ble", "broker-secret", "pod-monitor", "prometheus-rule"])
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


RIGHTS = {
    "ServiceAccount": "/api/v1/namespaces/plant/serviceaccounts",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/plant/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/plant/rolebindings",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
}


def test_releases_stand_side_by_side(tools: Tools) -> None:
    """Two in a namespace, and one of the same name in another: Helm refuses what has an owner already."""
    once = "admissionPolicy.create=false"
    releases = [
        tools.release(),
        tools.release("mode=node", once, name="edge"),
        tools.release(once, namespace="north"),
    ]
    names = [
        (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"])
        for release in releases
        for one in release
        if one["kind"] != "CustomResourceDefinition"
    ]
    assert len(names) == len(set(names))


def test_the_account_of_a_release_may_what_a_runtime_does(tools: Tools) -> None:
    """The roles under their new names still belong together: the server is asked as the pod would be."""
    resources = tools.release("rbac.deviceSecrets.plant={plc}")
    _namespaces(tools.server, plant="restricted")
    spec = _workloads(resources)[0]["spec"]["template"]["spec"]
    user = f"system:serviceaccount:plant:{spec['serviceAccountName']}"
    made = [one for one in resources if one["kind"] in RIGHTS]
    for one in made:
        tools.server.ask("POST", RIGHTS[one["kind"]], one)
    try:
        for group, resource, verb, name in (
            ("devicemesh.io", "devices", "watch", ""),
            ("devicemesh.io", "devices/status", "patch", ""),
            ("coordination.k8s.io", "leases", "update", ""),
            ("", "secrets", "get", "plc"),
        ):
            assert _may(tools.server, user, group, resource, verb, name), (resource, verb)
        assert not _may(tools.server, user, "", "secrets", "get", "another")
        assert not _may(tools.server, user, "devicemesh.io", "devices", "delete", "")
    finally:
        for one in made:
            tools.server.ask("DELETE", f"{RIGHTS[one['kind']]}/{one['metadata']['name']}")


def _may(server: Any, user: str, group: str, resource: str, verb: str, name: str) -> bool:
    kind, _, part = resource.partition("/")
    asked = {"namespace": "plant", "group": group, "resource": kind, "subresource": part}
    review = {"spec": {"user": user, "resourceAttributes": {**asked, "verb": verb, "name": name}}}
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    return bool(server.ask("POST", path, review)["status"]["allowed"])


def test_an_account_that_is_there_is_taken(tools: Tools) -> None:
    without = ("rbac.create=false", "admissionPolicy.create=false")
    for values, name in ((without, "devicemesh-runtime"), ((*without, "rbac.serviceAccount=mine"), "mine")):
        resources = tools.release(*values)
        assert not [one for one in resources if one["kind"] in RIGHTS]
        assert _workloads(resources)[0]["spec"]["template"]["spec"]["serviceAccountName"] == name


def test_what_the_settings_move_moves_in_the_pod(tools: Tools) -> None:
    """The broker's port is let out, the HTTP server's is probed, and a Secret is where the runtime looks."""
    resources = tools.release(*RELEASES["secured"])
    (policy,) = [one for one in resources if one["kind"] == "NetworkPolicy"]
    assert 8884 in [one["port"] for one in policy["spec"]["egress"][0]["ports"]]
    pod = _workloads(resources)[0]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["ports"] == [{"name": "http", "containerPort": 9000}]
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    (volume,) = [one for one in pod["volumes"] if one.get("secret", {}).get("secretName") == "broker"]
    assert mounts[volume["name"]] == f"{mounts['home']}/secrets/broker"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("mqtt.ulr=mqtt://broker", "'ulr' not allowed"),
        ("mqtt.url=broker", "'/mqtt/url'"),
        ("settings.mqtt.keepalive=3", "'keepalive' not allowed"),
        ("settings.outbox.sync=never", "'strict'"),
        ("networkPolicy.ports.tpc={502}", "'tpc' not allowed"),
        ("networkPolicy.listen={70000}", "65,535"),
        ("resources.limit.memory=1Gi", "'limit' not allowed"),
        ("image.pullPolicy=Sometimes", "'IfNotPresent'"),
        ("nodeSelector.edge=true", "'/nodeSelector/edge'"),
        ("settings.api=null", "settings.api is null"),
        ("mode=alone", "mode alone is for one replica"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(value: str, said: str, tools: Tools) -> None:
    assert said in tools.refusal(value)


def test_the_overlay_of_the_readme_is_one(tools: Tools, tmp_path: Path) -> None:
    """With a broker and an image of one's own, as it is written there."""
    text = (ROOT / "deploy/README.md").read_text()
    blocks = re.findall(r"```yaml\n# (\S+)\n(.*?)```", text, re.S)
    assert [name for name, _ in blocks] == ["kustomization.yaml", "settings.yaml"]
    overlay = ROOT / f"deploy/overlays/.{tmp_path.name}"
    overlay.mkdir()
    try:
        for name, content in blocks:
            (overlay / name).write_text(content)
        resources = tools.kustomized(overlay)
    finally:
        shutil.rmtree(overlay)
    pod = _workloads(resources)[0]["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "registry.example/devicemesh:0.1.0"
    (mounted,) = [one["configMap"]["name"] for one in pod["volumes"] if "configMap" in one]
    (settings,) = [one["data"] for one in resources if one["kind"] == "ConfigMap"]
    assert mounted in [one["metadata"]["name"] for one in resources]
    assert yaml.safe_load(settings["settings.yaml"])["mqtt"]["url"] == "mqtts://broker.example:8883"


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
