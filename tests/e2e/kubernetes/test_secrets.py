"""Secrets on a real API server, with the rights that docs/kubernetes.md gives: get and watch of those named."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

PAGE = Path(__file__).parents[3] / "docs/kubernetes.md"
RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
SECRETS = "/api/v1/namespaces/default/secrets"


def _role() -> list[dict[str, Any]]:
    """The manifests of the page."""
    text = PAGE.read_text().partition("<!-- secrets -->")[2].partition("```yaml")[2].partition("```")[0]
    return list(yaml.safe_load_all(text))


@pytest.fixture
def granted(api_server: Any) -> Iterator[Any]:
    role, binding = _role()
    binding["subjects"] = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "runtime"}]
    api_server.ask("POST", f"{RBAC}/roles", role)
    api_server.ask("POST", f"{RBAC}/rolebindings", binding)
    yield api_server
    api_server.ask("DELETE", f"{RBAC}/rolebindings/{binding['metadata']['name']}")
    api_server.ask("DELETE", f"{RBAC}/roles/{role['metadata']['name']}")
    for name in ("plc", "other"):
        with contextlib.suppress(urllib.error.HTTPError):
            api_server.ask("DELETE", f"{SECRETS}/{name}")


def _set(server: Any, name: str, value: str) -> None:
    body = {"metadata": {"name": name}, "data": {"password": base64.b64encode(value.encode()).decode()}}
    try:
        server.ask("POST", SECRETS, body)
    except urllib.error.HTTPError:
        server.ask("PATCH", f"{SECRETS}/{name}", body, content="application/merge-patch+json")


def test_a_named_secret_is_watched_and_others_may_not_be_read(
    granted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from devicemesh.store import secrets
    from devicemesh.store.cluster import Cluster

    monkeypatch.setattr(secrets, "RETRY_S", 0.05)

    async def scene() -> None:
        changed = asyncio.Event()

        async def becomes(value: str) -> None:
            async with asyncio.timeout(20):
                while True:
                    changed.clear()
                    with contextlib.suppress(LookupError):
                        if found.find("default", "plc", "password") == value:
                            return
                    await changed.wait()

        async with (
            Cluster(granted.kubeconfig("runtime")) as cluster,
            secrets.ClusterSecrets(cluster) as found,
        ):
            found.on_change = changed.set
            await asyncio.to_thread(_set, granted, "other", "not for us")
            found.want(frozenset({("default", "plc"), ("default", "other")}))
            await asyncio.to_thread(_set, granted, "plc", "open sesame\n")
            await becomes("open sesame")
            await asyncio.to_thread(_set, granted, "plc", "open barley")
            await becomes("open barley")
            with pytest.raises(LookupError, match="has no key `user`"):
                found.find("default", "plc", "user")
            with pytest.raises(LookupError, match='may not be read: secrets "other" is forbidden'):
                found.find("default", "other", "password")
            changed.clear()
            await asyncio.to_thread(granted.ask, "DELETE", f"{SECRETS}/plc")
            await asyncio.wait_for(changed.wait(), 20)
            with pytest.raises(LookupError, match="Secret default/plc was deleted"):
                found.find("default", "plc", "password")
            found.want(frozenset())
            with pytest.raises(LookupError, match="is not read yet"):
                found.find("default", "plc", "password")

    asyncio.run(scene())
