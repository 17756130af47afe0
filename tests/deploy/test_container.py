"""deploy/Containerfile says what the rest of the project says: the parts that can be held without a container engine."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from devicemesh.settings import load
from devicemesh.sink.secret import resolve

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "deploy/Containerfile").read_text().replace("\\\n", " ")
LINES = [line for line in TEXT.splitlines() if line and not line.startswith("#")]
WORKLOADS = ["deploy/runtime/statefulset.yaml", "deploy/overlays/edge/daemonset.yaml"]


def instructions(name: str) -> list[str]:
    return [line.removeprefix(f"{name} ") for line in LINES if line.startswith(f"{name} ")]


def installations() -> list[str]:
    return [line for line in instructions("RUN") if line.startswith("pip install")]


def workload(path: str) -> dict[str, Any]:
    spec: dict[str, Any] = yaml.safe_load((ROOT / path).read_text())["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def trim() -> Any:
    spec = importlib.util.spec_from_file_location("trim", ROOT / "deploy/trim.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_mapper_is_installed() -> None:
    there = {path.parent.name for path in (ROOT / "mappers").glob("*/pyproject.toml")}
    assert len(installations()) == 2, "the runtime, and the demo"
    for line in installations():
        assert set(re.findall(r"\./mappers/(\w+)", line)) == there


def test_what_is_copied_is_let_in() -> None:
    """Docker and Podman see what .dockerignore lets them: a folder that it forgets is missing in the build."""
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    asked = {path for line in installations() for path in re.findall(r"\./([\w/]+)", line)}
    asked |= {
        "deploy/trim.py",
        "examples",
        "devicemesh",
        "setup.py",
        "pyproject.toml",
        "README.md",
        "LICENSE",
    }
    for path in asked:
        assert (ROOT / path).exists()
        assert {path, path.split("/")[0]} & allowed, path
    assert not {".git", ".venv", "tests", ".kube-assets"} & {
        one.split("/")[0] for one in allowed - {"devicemesh/template/tests"}
    }


@pytest.mark.parametrize("path", WORKLOADS)
def test_user_and_home_are_those_of_the_pods(path: str) -> None:
    user, group = instructions("USER")[-1].split(":")
    pod = workload(path)
    assert (int(user), int(group)) == (
        pod["securityContext"]["runAsUser"],
        pod["securityContext"]["runAsGroup"],
    )
    (home,) = instructions("VOLUME")
    assert f"DEVICEMESH_HOME={home}" in TEXT
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["home"] == home
    environment = {one["name"]: one.get("value", "") for one in container["env"]}
    assert Path(environment["DEVICEMESH_SETTINGS"]).parent == Path(mounts["settings"])


def test_stages_share_one_base_and_one_tree() -> None:
    """A virtual environment lives where it was made, on the interpreter that made it."""
    bases = {line.split()[0] for line in instructions("FROM") if "/" in line}
    assert bases == {"docker.io/library/python:3.11-slim-bookworm"}
    trees = [line for line in instructions("COPY") if line.startswith("--from")]
    assert (
        all(line.split()[1:] == ["/opt/devicemesh", "/opt/devicemesh"] for line in trees) and len(trees) == 2
    )
    assert "PATH=/opt/devicemesh/bin:" in TEXT


def test_the_container_of_the_docs_has_the_settings_that_it_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs/operate.md").read_text().split("podman run -d")[1].split("```")[0]
    for name, value in re.findall(r"-e (\w+)=(\S+)", text):
        monkeypatch.setenv(name, value)
    settings = load()
    assert settings.mqtt.url == "mqtt://broker:1883"
    assert settings.api is not None and settings.api.token is not None
    assert settings.api.host == "0.0.0.0" and f"-p {settings.api.port}:{settings.api.port}" in text
    assert resolve(settings.home, settings.api.token) == "..."


def test_each_distribution_has_its_licence() -> None:
    whole = (ROOT / "LICENSE").read_text()
    assert "END OF TERMS AND CONDITIONS" in whole, "the licence itself, not a note that names it"
    for project in [*(ROOT / "mappers").glob("*/pyproject.toml"), ROOT / "simulators/pyproject.toml"]:
        assert 'license-files = ["LICENSE"]' in project.read_text(), project
        assert (project.parent / "LICENSE").read_text() == whole


def test_trimming_takes_what_is_generated_and_nothing_else(tmp_path: Path, trim: Any) -> None:
    gone = ["kubernetes/client/models/v1_pod.py", "kubernetes/client/api/core_v1_api.py",
            "kubernetes/aio/client/models/v1_pod.py", "kubernetes/aio/client/models/__pycache__/v1_pod.pyc",
            "asyncua/server/standard_address_space/services_1.py"]  # fmt: skip
    kept = ["kubernetes/client/models/__init__.py", "kubernetes/aio/client/api/__init__.py",
            "kubernetes/aio/client/rest.py", "asyncua/server/server.py", "devicemesh/api/server.py"]  # fmt: skip
    for name in gone + kept:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x" * 10)
    assert trim.trim(tmp_path) == 10 * len(gone)
    assert sorted(str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*") if one.is_file()) == sorted(
        kept
    )
    assert trim.trim(tmp_path) == 0
