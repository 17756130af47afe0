"""Replicas that share the factory: one is stopped and goes on, one is killed, one leaves. Real processes."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

FACTORY = Path(__file__).parents[3] / "examples/factory"
GROUP = "/apis/devicemesh.io/v1alpha1/namespaces/default"
APPLY = "application/apply-patch+yaml"
BUS = "192.0.2.5:502"  # pump-1 and pump-2
WRITES = (5, 6, 15, 16)  # Modbus Application Protocol 1.1b3, section 6
MOVE_S = 15.0
Wait = Callable[..., Any]


class Recorder:
    """A way to a simulated device that writes down the function codes that pass, and when."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self.requests: list[tuple[float, int]] = []

        class Handler(socketserver.BaseRequestHandler):
            def handle(handler) -> None:  # noqa: N805 - self is the recorder
                with contextlib.suppress(OSError), socket.create_connection((host, int(port))) as far:
                    back = threading.Thread(target=_pump, args=(far, handler.request, None), daemon=True)
                    back.start()
                    _pump(handler.request, far, self._note)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    def _note(self, data: bytes) -> None:
        now = time.monotonic()
        while len(data) >= 8:
            self.requests.append((now, data[7]))
            data = data[6 + int.from_bytes(data[4:6], "big") :]

    def writes(self) -> list[float]:
        return [at for at, code in self.requests if code in WRITES]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _pump(source: socket.socket, sink: socket.socket, note: Callable[[bytes], None] | None) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            if note is not None:
                note(data)
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


class Replicas:
    """Runtimes on homes of their own; each reaches the bus through a recorder of its own."""

    def __init__(self, cluster: Any, site: Any) -> None:
        self._cluster, self._site = cluster, site
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.recorders: dict[str, Recorder] = {}

    def start(self, name: str, **shards: Any) -> None:
        home = self._site.home.parent / name
        home.mkdir()
        simulated = json.loads((self._site.home / "sim.json").read_text())
        self.recorders[name] = Recorder(simulated["addresses"][BUS])
        simulated["addresses"][BUS] = self.recorders[name].address
        (home / "sim.json").write_text(json.dumps(simulated))
        for path in self._site.home.glob("*.sock"):
            (home / path.name).symlink_to(path)
        settings = {
            "instance": name,
            "store": {"kind": "kubernetes", "kubeconfig": str(self._cluster.kubeconfig("runtime"))},
            "shards": {"mode": "shared", **shards},
            "outbox": {"max_bytes": 1 << 24},
        }
        (home / "settings.yaml").write_text(yaml.safe_dump(settings))
        words = ("run", "--settings", str(home / "settings.yaml"), "--simulated", "--no-api")
        self.processes[name] = self._site.start(*words, "--mqtt", self._site.broker.url, home=home)

    def signal(self, name: str, number: int) -> float:
        """When it was sent."""
        self.processes[name].send_signal(number)
        return time.monotonic()

    def close(self) -> None:
        for one in self.recorders.values():
            one.close()


@pytest.fixture
def cluster(api_server: Any) -> Iterator[Any]:
    resources = [
        one for file in sorted(FACTORY.glob("*.yaml")) for one in yaml.safe_load_all(file.read_text())
    ]
    paths = [f"{GROUP}/{one['kind'].lower()}s/{one['metadata']['name']}" for one in resources]
    for path, one in zip(paths, resources, strict=True):
        api_server.ask("PATCH", f"{path}?fieldManager=kubectl", one, content=APPLY)
    yield api_server
    for path in paths:
        api_server.ask("DELETE", path)


@pytest.fixture
def replicas(cluster: Any, site: Any) -> Iterator[Replicas]:
    site.simulate()
    found = Replicas(cluster, site)
    yield found
    found.close()


def _shards(cluster: Any) -> dict[str, str]:
    """Who serves each device that is ready."""
    out = {}
    for one in cluster.ask("GET", f"{GROUP}/devices")["items"]:
        status = one.get("status", {})
        ready = next((c for c in status.get("conditions", ()) if c["type"] == "Ready"), {})
        if ready.get("status") == "True":
            out[one["metadata"]["name"]] = status["shard"]
    return out


def _epochs(listener: Any, device: str) -> list[int]:
    return list(dict.fromkeys(message["epoch"] for message in listener.telemetry().get(device, ())))


def _taken_over(listener: Any, before: dict[str, int]) -> Callable[[], bool]:
    """Whether all these devices are published under a later epoch."""
    return lambda: all(_epochs(listener, name)[-1] > epoch for name, epoch in before.items())


def test_one_of_three_is_stopped_and_goes_on_then_one_is_killed_then_one_leaves(
    replicas: Replicas, cluster: Any, site: Any, listener: Any, wait: Wait
) -> None:
    for name in "abc":
        replicas.start(name)
    wait(lambda: set(_shards(cluster).values()) == {"a", "b", "c"} and len(_shards(cluster)) == 6, 60)
    wait(lambda: len(listener.telemetry()) == 6)
    served = _shards(cluster)
    assert served["pump-1"] == served["pump-2"], "one bus, one process"
    epochs = [_epochs(listener, name)[-1] for name in served]
    assert len(set(epochs)) == 3, "one to each replica"

    first = served["pump-1"]
    theirs = {name: _epochs(listener, name)[-1] for name, shard in served.items() if shard == first}
    stopped = replicas.signal(first, signal.SIGSTOP)
    wall_stopped = time.time()
    wait(_taken_over(listener, theirs))
    assert time.monotonic() - stopped < MOVE_S
    wait(lambda: _shards(cluster).get("pump-1") not in (None, first))
    second = _shards(cluster)["pump-1"]
    listener.say("default/pump-1/command/reset", {})  # waits in the stopped one's socket too
    wait(lambda: listener.of("default/pump-1/command/reset/result"))
    writes = len(replicas.recorders[first].writes())
    epochs_before = _epochs(listener, "pump-1")
    replicas.signal(first, signal.SIGCONT)
    wait(lambda: f"{first} serves its share" in site.log().rpartition(f"{first} stops")[2])
    wait(lambda: _shards(cluster).get("pump-1") == first)
    assert [r["state"] for r in listener.of("default/pump-1/command/reset/result")] == ["applied"]
    assert len(replicas.recorders[first].writes()) == writes, "nothing is written twice"
    wait(lambda: _epochs(listener, "pump-1")[-1] > max(epochs_before))
    late = [
        row["time"]
        for name, epoch in theirs.items()
        for message in listener.telemetry()[name]
        if message["epoch"] == epoch
        for row in message.get("rows", ())
        if datetime.fromisoformat(row["time"]).timestamp() > wall_stopped + 0.1
    ]
    assert late == [], "nothing was read and published under the old epoch"

    theirs = {name: _epochs(listener, name)[-1] for name, s in _shards(cluster).items() if s == second}
    killed = replicas.signal(second, signal.SIGKILL)
    wait(_taken_over(listener, theirs))
    assert time.monotonic() - killed < MOVE_S

    wait(lambda: len(_shards(cluster)) == 6 and second not in _shards(cluster).values())
    third = _shards(cluster)["pump-1"]
    theirs = {name: _epochs(listener, name)[-1] for name, s in _shards(cluster).items() if s == third}
    left = time.monotonic()
    assert site.stop(replicas.processes[third]) == 0
    wait(_taken_over(listener, theirs))
    assert time.monotonic() - left < MOVE_S / 2, "who leaves hands over"
    for device, messages in listener.telemetry().items():
        seen = [(m["epoch"], m["seq"]) for m in messages]
        order = list(dict.fromkeys(epoch for epoch, _ in seen))
        assert order == sorted(order), f"{device}: an old epoch came after a newer one"
        for epoch in order:
            numbers = list(dict.fromkeys(seq for e, seq in seen if e == epoch))
            assert numbers == list(range(len(numbers))), f"{device}: a gap in epoch {epoch}"
