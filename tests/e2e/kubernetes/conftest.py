"""A real API server with RBAC, and etcd, for this folder's tests: see `make kube-assets`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

ROOT = Path(__file__).parents[3]
TOKENS = {"admin": "admin-token", "runtime": "runtime-token", "nobody": "nobody-token"}


def _assets() -> Path | None:
    for folder in (os.environ.get("KUBEBUILDER_ASSETS"), ROOT / ".kube-assets"):
        if folder and (Path(folder) / "kube-apiserver").exists() and (Path(folder) / "etcd").exists():
            return Path(folder)
    return None


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ApiServer:
    """kube-apiserver on etcd; it can be killed and started again on the same port."""

    def __init__(self, assets: Path, folder: Path) -> None:
        self._assets = assets
        self._folder = folder
        self._etcd_port, self._port = _port(), _port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._key = folder / "sa.key"
        self._key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        groups = {"admin": '"system:masters"'}
        lines = [f"{token},{user},{user},{groups.get(user, '')}" for user, token in TOKENS.items()]
        (folder / "tokens.csv").write_text("\n".join(line.rstrip(",") for line in lines) + "\n")

    def _start(self, name: str, *arguments: str) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [self._assets / name, *arguments], stdout=log, stderr=subprocess.STDOUT
            )

    def start_etcd(self) -> None:
        clients = f"http://127.0.0.1:{self._etcd_port}"
        self._start(
            "etcd",
            f"--data-dir={self._folder / 'etcd'}",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            "--listen-peer-urls=http://127.0.0.1:0",
            "--unsafe-no-fsync",
        )

    def start(self) -> None:
        """Start the API server and wait until it serves."""
        self._start(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            f"--secure-port={self._port}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={self._folder / 'certs'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self._key}",
            f"--service-account-signing-key-file={self._key}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            f"--token-auth-file={self._folder / 'tokens.csv'}",
            "--disable-admission-plugins=ServiceAccount",
        )
        deadline = time.monotonic() + 90
        while True:
            try:
                if self.ask("GET", "/readyz") == "ok":
                    return
            except (OSError, urllib.error.URLError):
                pass
            if time.monotonic() > deadline or self._processes["kube-apiserver"].poll() is not None:
                raise RuntimeError((self._folder / "kube-apiserver.log").read_text()[-3000:])
            time.sleep(0.1)

    def kill(self, name: str = "kube-apiserver") -> None:
        process = self._processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """The server neither answers nor hangs up meanwhile."""
        process = self._processes["kube-apiserver"]
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def ask(
        self,
        verb: str,
        path: str,
        body: Any = None,
        user: str = "admin",
        content: str = "application/json",
        accept: str = "application/json",
    ) -> Any:
        """One request by a user, without any library of ours. Raises HTTPError."""
        certificate = self._folder / "certs/apiserver.crt"
        context = ssl.create_default_context(cafile=str(certificate) if certificate.exists() else None)
        request = urllib.request.Request(
            f"https://127.0.0.1:{self._port}{path}",
            json.dumps(body).encode() if body is not None else None,
            {"Authorization": f"Bearer {TOKENS[user]}", "Content-Type": content, "Accept": accept},
            method=verb,
        )
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            text = answer.read().decode()
        return json.loads(text) if text.startswith("{") else text

    def kubeconfig(self, user: str) -> Path:
        """A kubeconfig file of a user."""
        path = self._folder / f"{user}.kubeconfig"
        cluster = {
            "server": f"https://127.0.0.1:{self._port}",
            "certificate-authority": str(self._folder / "certs/apiserver.crt"),
        }
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "test",
                    "clusters": [{"name": "test", "cluster": cluster}],
                    "users": [{"name": user, "user": {"token": TOKENS[user]}}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
                }
            )
        )
        return path

    def stop(self) -> None:
        for name in list(self._processes):
            self.kill(name)


@pytest.fixture(scope="session")
def kube_assets() -> Path:
    """Where kube-apiserver, etcd and their companions are; skips where they are not."""
    assets = _assets()
    if assets is None and os.environ.get("DEVICEMESH_TEST_KUBERNETES") == "required":
        pytest.fail("no kube-apiserver and etcd")
    if assets is None:
        pytest.skip("no kube-apiserver and etcd. Try: make kube-assets")
    return assets


@pytest.fixture(scope="session")
def api_server(kube_assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    pytest.importorskip(
        "kubernetes.aio", reason="no Kubernetes client. Try: pip install devicemesh[kubernetes]"
    )
    folder = tmp_path_factory.mktemp("kubernetes")
    server = ApiServer(kube_assets, folder)
    try:
        server.start_etcd()
        server.start()
        for definition in _documents("crds/devicemesh.io.yaml"):
            server.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
        for role in _documents("deploy/base/rbac.yaml"):
            _grant(server, role)
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder / "etcd", ignore_errors=True)


def _documents(path: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / path).read_text()))


def _grant(server: ApiServer, role: dict[str, Any]) -> None:
    """The roles as they are deployed, but bound to a user of these tests."""
    group = "/apis/rbac.authorization.k8s.io/v1"
    namespace = role["metadata"].get("namespace")
    path = f"{group}/namespaces/{namespace}" if namespace else group
    if namespace:
        with contextlib.suppress(urllib.error.HTTPError):  # it is there
            server.ask("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    if role["kind"].endswith("Binding"):
        role["subjects"] = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "runtime"}]
    if "Role" in role["kind"]:
        server.ask("POST", f"{path}/{role['kind'].lower()}s", role)
