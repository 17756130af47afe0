"""A real MQTT broker for tests, to be killed, suspended and started again: mosquitto, or rumqttd."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from devicemesh.sink.broker import RUMQTTD, find_mosquitto, rumqttd_toml


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RealBroker:
    """A broker on 127.0.0.1, as a context manager. `kind`: mosquitto or iotcore, by default what is there."""

    def __init__(self, kind: str | None = None, *, port: int | None = None, configuration: str = "") -> None:
        """`configuration` is appended to mosquitto's; if it has listeners of its own, there is no other."""
        self.kind = kind or ("mosquitto" if find_mosquitto() else "iotcore")
        self.port = port or free_port()
        self._configuration = configuration
        self._folder = tempfile.TemporaryDirectory(prefix="devicemesh-broker-")
        self._child: subprocess.Popen[bytes] | None = None

    @staticmethod
    def available() -> list[str]:
        """The kinds that are installed."""
        kinds = ["mosquitto"] if find_mosquitto() else []
        return kinds + (["iotcore"] if find_spec("iotcore") else [])

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return (Path(self._folder.name) / "log").read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End it and forget its files."""
        self.kill()
        self._folder.cleanup()

    def start(self, timeout_s: float = 10.0) -> None:
        """Start it, again if it was killed, and wait until it takes connections."""
        with (Path(self._folder.name) / "log").open("ab") as output:
            self._child = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # rumqttd is a child of its child
            )
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            if self._child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the broker does not start: {self.log}")
            time.sleep(0.01)

    def kill(self) -> None:
        """End it as a crash would."""
        if self._child is not None:
            self._signal(signal.SIGKILL)
            self._child.wait()
            self._child = None

    def _signal(self, number: int) -> None:
        assert self._child is not None, "the broker is not running"
        os.killpg(self._child.pid, number)

    def suspend(self) -> None:
        """Stop it without ending it: its port still takes connections, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def reload(self) -> None:
        """Make mosquitto read its lists of users and rights again."""
        self._signal(signal.SIGHUP)

    def _command(self) -> list[str]:
        folder = Path(self._folder.name)
        if self.kind == "iotcore":
            path = folder / "rumqttd.toml"
            path.write_text(rumqttd_toml(self.port), encoding="utf-8")
            return [sys.executable, "-c", RUMQTTD, str(path)]
        listener = "" if "listener" in self._configuration else f"listener {self.port} 127.0.0.1\n"
        anonymous = "" if "allow_anonymous" in self._configuration else "allow_anonymous true\n"
        user = "user root\n" if os.geteuid() == 0 else ""  # else it could not read what tests prepare
        path = folder / "mosquitto.conf"
        path.write_text(
            f"{user}{listener}{anonymous}max_queued_messages 0\nmax_inflight_messages 1000\nlog_dest stderr\n"
            f"log_type all\n{self._configuration}\n",
            encoding="utf-8",
        )
        program = find_mosquitto()
        assert program is not None, "mosquitto is not installed"
        return [program, "-c", str(path)]
