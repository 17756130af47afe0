"""The connection to an API server: what the environment says of it."""

import pytest

pytest.importorskip("kubernetes.aio", reason="no Kubernetes client. Try: pip install devicemesh[kubernetes]")

from devicemesh.store.cluster import has_proxy


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_without_a_proxy_nobody_looks_for_one() -> None:
    assert not has_proxy("https://10.0.0.1:6443")


def test_a_proxy_is_used_unless_the_server_is_excepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    assert has_proxy("https://10.0.0.1:6443")
    assert not has_proxy("http://10.0.0.1:8080")
    monkeypatch.setenv("NO_PROXY", "10.0.0.1,.cluster.local")
    assert not has_proxy("https://10.0.0.1:6443")
    assert has_proxy("https://10.0.0.2:6443")
