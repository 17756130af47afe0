"""doctor: what a runtime with these settings would meet, said before it runs; and homes of a cluster."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from devicemesh.cli.demo import demo_command
from devicemesh.cli.main import app

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
clusters: [{name: here, cluster: {server: "http://127.0.0.1:PORT"}}]
contexts: [{name: here, context: {cluster: here, user: me}}]
users: [{name: me, user: {token: t}}]
"""


def run(home: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["--home", str(home), *words], prog_name="devicemesh")


def doctor(home: Path, settings: str) -> dict[str, tuple[bool, str]]:
    """What was found, by check: whether it is well, and the words."""
    home.mkdir(exist_ok=True)
    file = home.parent / "settings.yaml"
    file.write_text(settings)
    told = json.loads(run(home, "doctor", "--settings", str(file), "-o", "json").stdout)
    assert all(one["ok"] or one["try"] for one in told), "what is wrong has a way out"
    return {one["check"]: (one["ok"], one["found"]) for one in told}


def declare(home: Path, *endpoints: str) -> None:
    """Devices of one model, at these endpoints."""
    text = (
        "apiVersion: devicemesh.io/v1alpha1\nkind: DeviceModel\nmetadata: {name: m}\nspec: {properties: ["
        "{name: n, type: uint16, address: {modbus: {table: holding, offset: 0}, coap: {path: /n}}}]}\n"
    )
    for i, endpoint in enumerate(endpoints):
        text += "---\napiVersion: devicemesh.io/v1alpha1\nkind: Device\n"
        text += f"metadata: {{name: d-{i}}}\nspec: {{modelRef: {{name: m}}, endpoint: {{{endpoint}}}}}\n"
    (home.parent / "all.yaml").write_text(text)
    done = run(home, "apply", "-f", str(home.parent / "all.yaml"))
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_ports_that_devices_come_to(tmp_path: Path, kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as holder:
        holder.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            holder.listen()
        place = f"127.0.0.1:{holder.getsockname()[1]}"
        tcp = kind == socket.SOCK_STREAM
        one = f"modbus: {{listen: '{place}'}}" if tcp else f"coap: {{listen: '{place}', name: n}}"
        declare(tmp_path / "home", one, "modbus: {host: 192.0.2.5}")
        shown = f"{'tcp' if tcp else 'udp'} {place}"
        told = doctor(tmp_path / "home", "{}")["listen"]
        assert told == (False, f"{shown}: another program has this port")
    told = doctor(tmp_path / "home", "{}")["listen"]
    assert told == (True, f"{shown}: free; whatever stands before this machine must let it through")
    declare(
        tmp_path / "home",
        "modbus: {listen: '203.0.113.9:5020'}" if tcp else "coap: {listen: '203.0.113.9:5683', name: n}",
    )
    well, found = doctor(tmp_path / "home", "{}")["listen"]
    assert not well and found.endswith(": Cannot assign requested address")


@pytest.fixture
def broker() -> Iterator[int]:
    """A port on which somebody takes connections and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    server.accept()[0].close()
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_the_broker_of_the_settings_is_asked(tmp_path: Path, broker: int, nobody: int) -> None:
    home = tmp_path / "home"
    there = doctor(home, f"mqtt: {{url: 'mqtt://127.0.0.1:{broker}'}}")
    assert there["broker"] == (True, f"127.0.0.1:{broker} answers")
    away = doctor(home, f"mqtt: {{url: 'mqtt://127.0.0.1:{nobody}'}}")
    assert away["broker"] == (False, f"no broker listens on 127.0.0.1:{nobody}")
    plain = doctor(home, f"mqtt: {{url: 'mqtts://127.0.0.1:{broker}'}}")
    assert not plain["broker"][0], "what hangs up during the handshake is no broker with TLS"


def test_secrets_of_the_settings_are_looked_for_and_not_shown(tmp_path: Path, broker: int) -> None:
    home = tmp_path / "home"
    settings = f"mqtt: {{url: 'mqtt://127.0.0.1:{broker}', username: me, password: {{name: broker}}}}"
    good, words = doctor(home, settings)["secret"]
    assert not good and str(home / "secrets/broker/password") in words
    (home / "secrets/broker").mkdir(parents=True)
    (home / "secrets/broker/password").write_text("hunter2")
    assert doctor(home, settings)["secret"] == (True, "broker/password, for mqtt.password")


def test_the_api_server_of_the_settings_is_asked(tmp_path: Path, nobody: int) -> None:
    pytest.importorskip("kubernetes.aio")
    (tmp_path / "kubeconfig").write_text(KUBECONFIG.replace("PORT", str(nobody)))
    settings = f"store: {{kind: kubernetes, kubeconfig: {tmp_path / 'kubeconfig'}}}"
    good, words = doctor(tmp_path / "home", settings)["store"]
    assert not good and words
    assert not (tmp_path / "home/store.db").exists(), "nothing is declared here"


def test_settings_that_are_wrong_end_the_search(tmp_path: Path) -> None:
    found = doctor(tmp_path / "home", "mqtt: {ulr: mqtt://broker}")
    assert "mqtt.ulr" in found["settings"][1]
    assert "broker" not in found


def test_a_pod_has_its_settings_in_the_environment(
    tmp_path: Path, broker: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(f"mqtt: {{url: 'mqtt://127.0.0.1:{broker}'}}\n")
    monkeypatch.setenv("DEVICEMESH_SETTINGS", str(file))
    assert f"127.0.0.1:{broker} answers" in run(tmp_path / "home", "doctor").stdout
    file.write_text("instance: A_B\n")
    refused = run(tmp_path / "home", "run")
    assert (refused.exit_code, "instance" in refused.stderr) == (2, True)


@pytest.mark.parametrize("words", [["get"], ["describe", "pump-1"], ["set", "pump-1", "speed=1"]])
def test_devices_of_a_cluster_are_not_looked_for_here(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "cluster.db").touch()
    found = run(tmp_path, *words)
    assert found.exit_code == 2
    assert found.stderr == (
        f"Error: the devices of {tmp_path} are on an API server\nTry: kubectl get devices -A\n"
    )
    assert not (tmp_path / "store.db").exists()


def test_a_demo_without_simulators_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devicemesh.cli.demo.find_spec", lambda name: None)
    found = CliRunner().invoke(demo_command, [])
    assert found.exit_code == 2
    assert "Try: pip install 'devicemesh[demo]'" in found.stderr
