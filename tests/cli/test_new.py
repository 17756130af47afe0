"""`devicemesh new`: what it writes works as it is, and what it refuses it says why."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from devicemesh.cli.main import app
from devicemesh.cli.new import NAME, TEMPLATE, files

ROOT = Path(__file__).parent.parent.parent


def new(*words: str) -> Result:
    return CliRunner().invoke(app, ["new", *words], prog_name="devicemesh")


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mapper of acme, with the metadata that an installation would have made."""
    into = tmp_path_factory.mktemp("made") / "not there yet"
    done = new("acme", "--into", str(into))
    folder = into / "devicemesh-acme"
    assert (done.exit_code, done.stdout) == (0, f"{folder}\n"), done.stderr
    built = run(folder, "-c", "from setuptools import setup; setup()", "-q", "egg_info")
    assert built.returncode == 0, built.stderr
    return folder


def test_its_own_tests_are_green(made: Path) -> None:
    done = run(made, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) >= 40


def test_it_is_found_and_its_example_is_sound(made: Path) -> None:
    listed = run(made, "-m", "devicemesh", "mappers").stdout
    assert re.search(r"^acme +devicemesh-acme +0\.1\.0 +acme, simulators +ok$", listed, re.M), listed
    done = run(made, "-m", "devicemesh", "validate", "-f", "device.example.yaml")
    assert done.returncode == 0, done.stdout
    explained = run(made, "-m", "devicemesh", "explain", "device.spec.endpoint.acme.port")
    assert "5025" in explained.stdout


def test_nothing_of_the_template_s_name_is_left(made: Path) -> None:
    for path, content in files("acme").items():
        assert NAME not in path and NAME.encode() not in content and b"Scpi" not in content, path
        assert (made / path).read_bytes() == content
    assert {path.rpartition("/")[2] for path in files("acme")} >= {
        "py.typed",
        "pyproject.toml",
        "README.md",
        "case.yaml",
    }


def test_what_tools_leave_behind_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for left in ("a.py", "__pycache__/a.pyc", ".mypy_cache/b", "x.egg-info/c"):
        (tmp_path / left).parent.mkdir(exist_ok=True)
        (tmp_path / left).write_text("")
    monkeypatch.setattr("devicemesh.cli.new.TEMPLATE", tmp_path)
    assert list(files("acme")) == ["a.py"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Acme", "is no protocol's name"),
        ("my-bus", "is no protocol's name"),
        ("2wire", "is no protocol's name"),
        ("", "is no protocol's name"),
        ("a" * 32, "at most 31"),
        ("../acme", "is no protocol's name"),
        ("modbus", "`modbus` is taken"),
        ("coaps", "the installed mapper of coap has it"),
        ("simulators", "a package devicemesh_simulators is installed"),
        ("in", "means something else"),
        ("namespace", "means something else"),
        ("custom", "means something else"),
    ],
)
def test_a_name_that_will_not_do_is_refused(name: str, why: str, tmp_path: Path) -> None:
    done = new(name, "--into", str(tmp_path))
    assert (done.exit_code, why in done.stderr) == (2, True), done.stderr
    assert done.stderr.count("Try: ") == 1 and not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "devicemesh-acme").mkdir()
    done = new("acme", "--into", str(tmp_path))
    assert (done.exit_code, "is there already" in done.stderr) == (2, True)
    assert done.stderr.count("Try: ") == 1 and not list((tmp_path / "devicemesh-acme").iterdir())


def test_a_place_that_can_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = new("acme", "--into", str(tmp_path / "file" / "below"))
    assert (done.exit_code, "can't be written" in done.stderr) == (1, True), done.stderr
    assert done.stderr.count("Try: ") == 1


def test_the_commands_that_it_names_can_be_pasted(tmp_path: Path) -> None:
    done = new("acme", "--into", str(tmp_path / "a b"))
    commands = re.findall(r"^  (.*)$", done.stderr, re.M)
    assert commands == [
        f"cd '{tmp_path}/a b/devicemesh-acme' && pip install -e '.[dev]'",
        "pytest",
        "devicemesh demo -f device.example.yaml",
    ]


def imported() -> Iterator[tuple[str, str]]:
    """(file, module) of every import in the template's own code."""
    for path in sorted((TEMPLATE / f"src/devicemesh_{NAME}").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                yield path.name, node.module or ""
            elif isinstance(node, ast.Import):
                yield from ((path.name, one.name) for one in node.names)


def test_the_template_imports_what_a_mapper_may() -> None:
    ours = (
        "devicemesh.mapper",
        "devicemesh.layout",
        "devicemesh.spec",
        "devicemesh.testing",
        f"devicemesh_{NAME}",
    )
    for file, module in imported():
        if module.startswith("devicemesh"):
            assert module.startswith(ours), f"{file} imports {module}"
        if module.startswith("devicemesh.testing"):
            assert file == "simulator.py", f"{file} imports {module}"


def test_the_template_is_short_and_says_what_to_replace() -> None:
    sources = sorted((TEMPLATE / "src").rglob("*.py")) + sorted((TEMPLATE / "tests").glob("*.py"))
    for path in sources:
        assert "\n\nReplace: " in (ast.get_docstring(ast.parse(path.read_text())) or ""), path
    lines = sum(len(path.read_text().splitlines()) for path in sources if "src" in path.parts)
    assert lines < 500, "an author reads all of it"


def test_the_template_has_the_shape_of_our_mappers() -> None:
    ours = ROOT / "mappers/modbus"
    for name in (
        "pyproject.toml",
        "README.md",
        "device.example.yaml",
        "tests/test_contract.py",
        "tests/test_plan.py",
    ):
        assert (ours / name).is_file() and (TEMPLATE / name).is_file(), name
    for name in ("__init__", "model", "plan", "session", "mapper"):
        assert (ours / f"src/devicemesh_modbus/{name}.py").is_file()
        assert (TEMPLATE / f"src/devicemesh_{NAME}/{name}.py").is_file()
