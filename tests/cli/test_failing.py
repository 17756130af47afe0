"""What goes wrong is one sentence, one thing to try, and no secret."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from devicemesh.cli.call import call_command
from devicemesh.cli.main import app
from devicemesh.runtime.runtime import exclusive
from devicemesh.settings import Settings, load
from devicemesh.store.base import Key, StoreUnavailableError
from devicemesh.store.database import Database
from devicemesh.testing.broker import RealBroker
from devicemesh.testing.store import body

FACTORY = Path(__file__).parent.parent.parent / "examples/factory"


def run(home: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["--home", str(home), *words], prog_name="devicemesh")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mqtt: {password: hunter2}", "mqtt.password: "),
        ("mqtt: [", "settings.yaml can't be read"),
        ("api: {prot: 1}\ninstance: A_B", "; "),
        ("mqtt: {url: 'mqtts:/broker'}", "'mqtts:/broker' has no host"),
        ("mqtt: {url: 'mqtt://me:hunter2@broker'}", "must not carry credentials"),
        ("mqtt: {topic: 'a/{device}'}", "must have {namespace}, {device} and {suffix}"),
    ],
)
def test_wrong_settings_are_a_sentence_without_their_values(tmp_path: Path, text: str, said: str) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(text)
    found = run(tmp_path, "run", "--settings", str(settings))
    assert found.exit_code == 2
    assert said in found.stderr
    assert "hunter2" not in found.stderr
    assert [line.split(":")[0] for line in found.stderr.splitlines()] == ["Error", "Try"]


def test_a_folder_as_settings(tmp_path: Path) -> None:
    found = run(tmp_path, "run", "--settings", str(tmp_path))
    assert (found.exit_code, "can't be read" in found.stderr) == (2, True)


@pytest.fixture(scope="module")
def broker() -> Iterator[RealBroker]:
    """One that is there: a runtime that ends would wait for it."""
    with RealBroker() as found:
        yield found


RunAlone = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run_alone(broker: RealBroker) -> RunAlone:
    """`run` on a home, in a process of its own, to its end."""

    def work(home: Path, *words: str) -> "subprocess.CompletedProcess[str]":
        line = [sys.executable, "-m", "devicemesh", "--home", str(home), "run", "--mqtt", broker.url]
        return subprocess.run([*line, *words], check=False, capture_output=True, text=True, timeout=60)

    return work


def test_a_port_that_is_taken_is_named(tmp_path: Path, run_alone: RunAlone) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run_alone(tmp_path, "--api-port", port)
    assert done.returncode == 3
    assert f"can't listen on 127.0.0.1 port {port}: " in done.stderr
    assert done.stderr.splitlines()[-1] == "Try: devicemesh run --api-port 0"


def test_run_says_why_it_can_not_apply(tmp_path: Path, run_alone: RunAlone) -> None:
    (tmp_path / "store.db").write_bytes(b"no database" * 1000)
    done = run_alone(tmp_path, "--no-api", "-f", str(FACTORY))
    assert (done.returncode, done.stdout) == (3, "")
    assert "store.db can't be opened: file is not a database" in done.stderr


def test_a_signal_while_it_starts_ends_run_in_good_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_alone: RunAlone
) -> None:
    """A plugin that is imported at the start sends the signal, so that it comes then."""
    info = tmp_path / "zz_signal-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zz_signal\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[devicemesh]\nzz_signal = zz_signal\n")
    (tmp_path / "zz_signal.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    done = run_alone(tmp_path / "home", "--no-api")
    assert (done.returncode, done.stdout) == (0, "")
    assert "stopping: flushing what is under way" in done.stderr


def test_a_second_runtime_on_a_home_has_applied_nothing(tmp_path: Path, run_alone: RunAlone) -> None:
    with exclusive(Settings(home=tmp_path)):
        done = run_alone(tmp_path, "--no-api", "-f", str(FACTORY))
    assert (done.returncode, "already uses" in done.stderr) == (2, True)
    assert Database(tmp_path / "store.db").list("Device") == []


def test_without_a_simulator_nothing_is_applied(tmp_path: Path, run_alone: RunAlone) -> None:
    done = run_alone(tmp_path, "--no-api", "--simulated", "-f", str(FACTORY))
    assert (done.returncode, "no simulator runs" in done.stderr) == (3, True)
    assert Database(tmp_path / "store.db").list("Device") == []


def test_where_call_finds_the_runtime_is_no_setting_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {option.envvar for option in call_command.params if option.envvar} | {"DEVICEMESH_API_TOKEN"}
    for name in names:
        monkeypatch.setenv(str(name), "http://127.0.0.1:1")
    assert load(None, {"home": tmp_path}).api is not None
    found = run(tmp_path, "call", "nobody", "move")
    assert (found.exit_code, names) == (1, {"DEVICEMESH_API_URL", "DEVICEMESH_API_TOKEN"})


def test_what_is_in_the_way_of_a_start_is_named(tmp_path: Path, run_alone: RunAlone) -> None:
    (tmp_path / "file").touch()
    done = run_alone(tmp_path / "file", "--no-api")
    assert (done.returncode, f"{tmp_path / 'file'}: File exists" in done.stderr) == (3, True)
    settings = tmp_path / "settings.yaml"
    settings.write_text("api: {port: 0, token: {name: nobody}}")
    done = run_alone(tmp_path, "--settings", str(settings))
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, "Try: devicemesh explain settings.api")
    assert "there is neither" in done.stderr


def test_a_device_that_is_deleted_while_its_value_is_waited_for(tmp_path: Path) -> None:
    CliRunner().invoke(app, ["--home", str(tmp_path), "apply", "-f", str(FACTORY)])
    store, key = Database(tmp_path / "store.db"), Key("Device", "default", "pump-1")
    line = [
        sys.executable,
        "-m",
        "devicemesh",
        "--home",
        str(tmp_path),
        "set",
        "pump-1",
        "speed=100",
        "--wait",
    ]
    waiting = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    while not store.get(key).spec.get("desired"):
        assert waiting.poll() is None
    store.delete(key)
    said = waiting.communicate(timeout=30)[1]
    assert waiting.returncode == 1
    assert said.splitlines()[1:] == [
        "Error: there is no Device `pump-1` in namespace default",
        "Try: devicemesh get devices",
    ]


def test_a_watch_outlives_a_busy_store_and_ends_quietly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Database(tmp_path / "store.db").apply([body()])
    turns = iter([StoreUnavailableError("locked"), None, KeyboardInterrupt()])
    listing = Database.list

    def busy(self: Database, *arguments: str) -> object:
        found = listing(self, *arguments)
        if turns_begun:
            turn = next(turns)
            if turn is not None:
                raise turn
        turns_begun.append(True)
        return found

    turns_begun: list[bool] = []
    monkeypatch.setattr(Database, "list", busy)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    found = run(tmp_path, "get", "-w")
    assert (found.exit_code, found.stderr) == (0, "")
    assert list(turns) == []
