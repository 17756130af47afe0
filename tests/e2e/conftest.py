"""Real processes: a broker, `devicemesh sim`, `devicemesh run`, and a client that listens."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest

from devicemesh.store.base import Key
from devicemesh.store.database import Database
from devicemesh.testing.broker import RealBroker

FACTORY = Path(__file__).parent.parent.parent / "examples/factory"


def until(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait for something to be true; returns it. A dead link alone may rest for more than 30 s."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.02)
    return found


class Listener:
    """Subscribes to everything and remembers it."""

    def __init__(self, port: int) -> None:
        self._lock = threading.Lock()
        self._messages: list[tuple[str, Any, bool]] = []
        self._client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id="listener", clean_session=False
        )
        self._client.on_message = self._on_message
        self.subscribed = 0  # how often: a broker that was restarted knows nothing of us
        self._client.on_subscribe = self._on_subscribe
        self._client.on_connect = lambda client, *_: client.subscribe("devicemesh/v1/#", 1)
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port, 5)
        self._client.loop_start()

    def _on_message(self, _: Any, __: Any, message: mqtt.MQTTMessage) -> None:
        body = json.loads(message.payload) if message.payload else None
        with self._lock:
            self._messages.append((message.topic, body, bool(message.retain)))

    def _on_subscribe(self, *_: Any) -> None:
        self.subscribed += 1

    def of(self, topic: str) -> list[Any]:
        """The payloads of a topic, in order."""
        with self._lock:
            return [body for name, body, _ in self._messages if name == f"devicemesh/v1/{topic}"]

    def telemetry(self) -> dict[str, list[Any]]:
        """Telemetry payloads by device."""
        out: dict[str, list[Any]] = {}
        with self._lock:
            for topic, body, _ in self._messages:
                if topic.endswith("/telemetry"):
                    out.setdefault(topic.split("/")[3], []).append(body)
        return out

    def say(self, topic: str, body: Any) -> None:
        self._client.publish(f"devicemesh/v1/{topic}", json.dumps(body), 1).wait_for_publish(5)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Site:
    """A home, and the processes on it."""

    def __init__(self, home: Path, broker: RealBroker) -> None:
        self.home = home
        self.broker = broker
        self._processes: list[subprocess.Popen[bytes]] = []

    @cached_property
    def store(self) -> Database:
        return Database(self.home / "store.db")

    def dm(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        command = [sys.executable, "-m", "devicemesh", "--home", str(self.home), *words]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL
        )

    def start(self, *words: str, home: Path | None = None) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "devicemesh", "--home", str(home or self.home), *words]
        with (self.home.parent / f"{words[0]}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self._processes.append(process)
        return process

    def simulate(self, files: Path = FACTORY) -> subprocess.Popen[bytes]:
        process = self.start("sim", "-f", str(files))
        until((self.home / "sim.json").exists)
        return process

    def run(self, *words: str, files: Path = FACTORY) -> subprocess.Popen[bytes]:
        return self.start(
            "run", "-f", str(files), "--simulated", "--mqtt", self.broker.url, "--api-port", "0", *words
        )

    def log(self, name: str = "run") -> str:
        return (self.home.parent / f"{name}.log").read_text()

    def device(self, name: str) -> dict[str, Any]:
        """What `devicemesh get device NAME -o json` prints, without a process: tests ask for it at every turn."""
        return self.store.get(Key("Device", "default", name)).resource()

    def condition(self, name: str, kind: str) -> dict[str, Any]:
        found = self.device(name).get("status", {}).get("conditions", [])
        return next((c for c in found if c["type"] == kind), {})

    def all_ready(self) -> bool:
        conditions = [one.status.get("conditions", [{}])[0] for one in self.store.list("Device")]
        return bool(conditions) and all(c.get("status") == "True" for c in conditions)

    def stop(self, process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
        process.send_signal(number)
        code = process.wait(30)
        self._processes.remove(process)
        return code

    def close(self) -> None:
        if "store" in self.__dict__:
            self.store.close()
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            process.wait(10)


@pytest.fixture
def broker() -> Iterator[RealBroker]:
    with RealBroker(configuration="persistence false") as found:
        yield found


@pytest.fixture
def site(tmp_path: Path, broker: RealBroker) -> Iterator[Site]:
    found = Site(tmp_path / "home", broker)
    yield found
    found.close()


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The factory as it runs, for tests that leave it as they have found it."""
    with RealBroker(configuration="persistence false") as broker:
        found = Site(tmp_path_factory.mktemp("factory") / "home", broker)
        try:
            found.simulate()
            found.run()
            yield found
        finally:
            found.close()


@pytest.fixture
def listener(broker: RealBroker) -> Iterator[Listener]:
    found = Listener(broker.port)
    yield found
    found.close()


@pytest.fixture
def wait() -> Callable[..., Any]:
    return until


@pytest.fixture
def gapless() -> Callable[[list[Any]], int]:
    """Check a device's telemetry: per epoch, sequences without a gap, in order of first arrival."""

    def check(messages: list[Any]) -> int:
        seen: dict[int, int] = {}
        epochs: list[int] = []
        for message in messages:
            epoch, sequence = message["epoch"], message["seq"]
            if epoch not in seen:
                assert not epochs or epoch > epochs[-1], "an old epoch came after a newer one"
                epochs.append(epoch)
                seen[epoch] = -1
            if sequence <= seen[epoch]:
                continue  # sent twice: (epoch, seq) makes it removable
            assert sequence == seen[epoch] + 1, f"epoch {epoch}: {sequence} came after {seen[epoch]}"
            seen[epoch] = sequence
        return sum(last + 1 for last in seen.values())

    return check
