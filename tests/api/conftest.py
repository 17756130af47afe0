"""A runtime on fakes behind a real socket, and a client that asks it; the same on real parts, and a browser."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from devicemesh.api.server import serve
from devicemesh.runtime.runtime import Runtime
from devicemesh.settings import ApiSettings, Settings
from devicemesh.testing.broker import RealBroker, free_port
from devicemesh.testing.fake import FakeMapper, FakeSink
from devicemesh.testing.memory import MemoryStore

API = "devicemesh.io/v1alpha1"
NO_PLAYWRIGHT = "no browser tests: pip install 'devicemesh[browser]'"
PATIENCE_MS = 60_000
"""A device that was dead for a while is tried again after up to 30 s."""
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Scene:
    """What is declared, and what of it runs."""

    def __init__(self, home: Path) -> None:
        self.store, self.sink, self.mapper = MemoryStore(), FakeSink(), FakeMapper(time.time_ns)
        self.runtime = Runtime(
            Settings(home=home, status_interval_s=0.1), self.store, self.sink, {"fake": self.mapper}
        )
        self.client: httpx.AsyncClient

    async def model(self, *properties: dict[str, Any], name: str = "pump", **more: Any) -> None:
        entries = [{"type": "float64", "address": {"fake": {"key": p["name"]}}, **p} for p in properties]
        for entry in entries:
            entry.setdefault("telemetry", {"samplingInterval": "10ms"})
        await self.store.apply(
            [{"apiVersion": API, "kind": "DeviceModel", "metadata": {"name": name},
              "spec": {"properties": entries, **more}}]
        )  # fmt: skip

    async def device(
        self, name: str, labels: dict[str, str] | None = None, *, host: str = "h", **spec: Any
    ) -> None:
        whole = {"modelRef": {"name": "pump"}, "endpoint": {"fake": {"host": host}}, **spec}
        metadata = {"name": name, "labels": labels or {}}
        await self.store.apply([{"apiVersion": API, "kind": "Device", "metadata": metadata, "spec": whole}])

    async def get(self, path: str, **parameters: Any) -> Any:
        """The JSON of a good answer."""
        answer = await self.client.get(f"/api/v1/{path}", params=parameters or None)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def until(self, what: Callable[[Any], Any], path: str, **parameters: Any) -> Any:
        """Ask until the answer is as wanted; returns it."""
        async with asyncio.timeout(20):
            while not what(found := await self.get(path, **parameters)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return found

    async def state(self, device: str, state: str) -> Any:
        """Wait until a device is so; returns its twin."""
        return await self.until(lambda twin: twin["status"]["state"] == state, f"devices/default/{device}")

    @contextlib.asynccontextmanager
    async def running(self, token: str | None = None) -> AsyncIterator["Scene"]:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        async with (
            self.runtime,
            serve(self.runtime, ApiSettings(port=0), token) as url,
            httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as self.client,
        ):
            await self.runtime.supervisor.synced.wait()
            yield self


Running = Callable[..., AbstractAsyncContextManager[Scene]]


@pytest.fixture
def scene(tmp_path: Path) -> Callable[[], Scene]:
    """Makes a scene, in the loop that it runs in."""
    return lambda: Scene(tmp_path)


MODEL = """
apiVersion: devicemesh.io/v1alpha1
kind: DeviceModel
metadata: {name: pump}
spec:
  properties:
  - name: speed
    type: float32
    unit: rpm
    access: ReadWrite
    minimum: 0
    maximum: 3000
    address: {modbus: {table: holding, offset: 100}}
    telemetry: {samplingInterval: 200ms}
    alarms: [{name: overspeed, above: 2800, severity: critical}]
    simulation: {signal: constant, value: 1450}
  - {name: uptime, type: uint32, unit: s, address: {modbus: {table: holding, offset: 120}},
     telemetry: {samplingInterval: 200ms}, simulation: {signal: counter, step: 1, period: 200ms}}
  - {name: running, type: bool, address: {modbus: {table: discrete, offset: 0}}, simulation: {value: true}}
  - {name: serial, type: int64, access: ReadWrite, address: {modbus: {table: holding, offset: 130}},
     simulation: {value: 9007199254740993}}
  - {name: note, type: string, address: {modbus: {table: holding, offset: 200, length: 8}}, simulation: {value: "<img src=x>"}}
  commands:
  - {name: stop, description: "Stops <b>now</b>", writes: [{property: speed, value: 0}]}
"""
DEVICE = """---
apiVersion: devicemesh.io/v1alpha1
kind: Device
metadata: {name: %s, labels: {line: %s}}
spec: {modelRef: {name: pump}, endpoint: {modbus: {host: 192.0.2.%d, timeout: 300ms}}}
"""
PUMPS = {f"pump-{n}": "a" if n < 4 else "b" for n in range(1, 7)}


class Site:
    """A folder of declarations, simulators, a broker, and a runtime on a port of its own."""

    def __init__(self, folder: Path, broker: RealBroker) -> None:
        self.folder, self.home, self.broker, self.port = folder, folder / "home", broker, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        devices = [DEVICE % (name, line, n) for n, (name, line) in enumerate(PUMPS.items(), 1)]
        odd = DEVICE.replace("{line: %s}", "{note: '<img src=y>'}") % ("odd", 9)
        (folder / "site.yaml").write_text(MODEL + "".join(devices) + odd)
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "devicemesh", "--home", str(self.home), *words]
        with (self.folder / f"{words[0]}.log").open("ab") as log:
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        return self.processes[-1]

    def run(self) -> subprocess.Popen[bytes]:
        """Start the runtime and wait until it has read the devices."""
        found = self.start(
            "run",
            "--simulated",
            "-f",
            str(self.folder),
            "--mqtt",
            self.broker.url,
            "--api-port",
            str(self.port),
        )
        until(lambda: self.ask("/readyz")["devices"]["Ready"] >= len(PUMPS))
        return found

    def ask(self, path: str) -> Any:
        """The answer; empty where there is none yet."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return json.load(answer)
        except OSError:
            return {"devices": {"Ready": 0}}

    @contextlib.contextmanager
    def fault(self, device: str, fault: str) -> Iterator[None]:
        """As long as it lasts."""
        command = [sys.executable, "-m", "devicemesh", "--home", str(self.home), "fault", device]
        subprocess.run([*command, fault], check=True, capture_output=True)
        try:
            yield
        finally:
            subprocess.run([*command, "heal"], check=True, capture_output=True)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        self.processes.remove(process)

    def close(self) -> None:
        for process in list(self.processes):
            self.kill(process)


def until(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def site(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with RealBroker() as broker:
        made = Site(tmp_path_factory.mktemp("site"), broker)
        try:
            made.start("sim", "-f", str(made.folder))
            until((made.home / "sim.json").exists)
            made.run()
            yield made
        finally:
            made.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason=NO_PLAYWRIGHT)
    if CHROMIUM is None:
        pytest.skip("no browser tests: apt install chromium")
    with sync_api.sync_playwright() as playwright:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []  # which root can't have
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield found
        found.close()


Open = Callable[..., AbstractContextManager[Any]]


@pytest.fixture
def opened(browser: Any) -> Open:
    """A page that complains of nothing and asks nobody else, in a browser that has no memory."""

    sync_api = pytest.importorskip("playwright.sync_api", reason=NO_PLAYWRIGHT)

    @contextlib.contextmanager
    def page(url: str, *, allowed: str = "$^", **options: Any) -> Iterator[Any]:
        context = browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        sync_api.expect.set_options(timeout=PATIENCE_MS)
        found, said, asked = context.new_page(), [], []
        found.on("console", lambda message: said.append(message.text))
        found.on("pageerror", lambda error: said.append(f"{error}"))
        found.on("request", lambda request: asked.append(request.url))
        found.goto(url)
        yield found
        host = url.partition("#")[0].rstrip("/") + "/"
        assert [one for one in said if not re.search(allowed, one)] == []
        assert [one for one in asked if not one.startswith(host)] == []
        assert asked
        context.close()

    return page
