"""Devices on a real API server, by the thousand: from apply to Ready, from an edit to the wire, the memory.

`python benchmarks/kubernetes.py [--devices 10000]` starts etcd and kube-apiserver (`make kube-assets`),
simulated devices, a broker and a runtime; prints what it sees, and one line of JSON at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import json
import re
import signal
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import yaml

from devicemesh.testing.broker import RealBroker

ROOT = Path(__file__).resolve().parents[1]
GROUP = "/apis/devicemesh.io/v1alpha1"
UNITS = 100  # devices on one gateway, that is, on one link
MODEL = {
    "apiVersion": "devicemesh.io/v1alpha1",
    "kind": "DeviceModel",
    "metadata": {"name": "meter"},
    "spec": {
        "properties": [
            {
                "name": name,
                "type": "uint16",
                "access": access,
                "address": {"modbus": {"table": "holding", "offset": offset}},
                "telemetry": {"samplingInterval": "10s", "report": "change"},
            }
            for offset, (name, access) in enumerate([("power", "ReadOnly"), ("limit", "ReadWrite")])
        ]
    },
}


def api_server_class() -> Any:
    """That of the tests."""
    path = ROOT / "tests/e2e/kubernetes/conftest.py"
    spec = importlib.util.spec_from_file_location("kubernetes_conftest", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def devices(count: int) -> list[dict[str, Any]]:
    return [
        device(number, f"192.0.2.{1 + number // UNITS}", 502, 1 + number % UNITS) for number in range(count)
    ]


def device(number: int, host: str, port: int, unit: int) -> dict[str, Any]:
    return {
        "apiVersion": "devicemesh.io/v1alpha1",
        "kind": "Device",
        "metadata": {"name": f"meter-{number}", "namespace": "default"},
        "spec": {
            "modelRef": {"name": "meter"},
            "endpoint": {"modbus": {"host": host, "port": port, "unit": unit}},
        },
    }


class Client:
    """HTTP with many requests at once."""

    def __init__(self, server: Any, folder: Path) -> None:
        self._base = f"https://127.0.0.1:{server._port}"
        self._context = ssl.create_default_context(cafile=str(folder / "certs/apiserver.crt"))

    async def __aenter__(self) -> Client:
        headers = {"Authorization": "Bearer admin-token"}
        connector = aiohttp.TCPConnector(ssl=self._context, limit=0)
        self._http = aiohttp.ClientSession(self._base, headers=headers, connector=connector)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._http.close()

    async def apply(self, body: dict[str, Any]) -> None:
        path = f"{GROUP}/namespaces/default/{body['kind'].lower()}s/{body['metadata'].get('name')}"
        headers = {"Content-Type": "application/apply-patch+yaml"}
        params = {"fieldManager": "kubectl"}
        async with self._http.patch(path, json=body, headers=headers, params=params) as answer:
            assert answer.status < 400, await answer.text()

    async def desire(self, name: str, value: int) -> None:
        body = {"spec": {"desired": [{"name": "limit", "value": value}]}}
        headers = {"Content-Type": "application/merge-patch+json"}
        async with self._http.patch(
            f"{GROUP}/namespaces/default/devices/{name}", json=body, headers=headers
        ) as answer:
            assert answer.status < 400, await answer.text()

    async def watch(self) -> AsyncIterator[dict[str, Any]]:
        """For ever; a server that has just been given a definition takes a moment."""
        while True:
            async with contextlib.aclosing(self._watch()) as events:
                async for event in events:
                    if "object" in event:
                        yield event
            await asyncio.sleep(0.2)

    async def _watch(self) -> AsyncGenerator[dict[str, Any]]:
        rest = b""
        async with self._http.get(
            f"{GROUP}/devices", params={"watch": "true"}, timeout=aiohttp.ClientTimeout(None)
        ) as answer:
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)

    async def ready(self) -> int:
        """How many devices are Ready, as `kubectl get` sees it."""
        async with self._http.get(f"{GROUP}/devices", params={"resourceVersion": "0"}) as answer:
            items = json.loads(await answer.read())["items"]
        return sum(
            any(
                c["type"] == "Ready" and c["status"] == "True"
                for c in one.get("status", {}).get("conditions", [])
            )
            for one in items
        )

    async def requests(self) -> dict[str, int]:
        """What the server has answered, of our resources, by verb and subresource."""
        async with self._http.get("/metrics") as answer:
            text = await answer.text()
        found: dict[str, int] = {}
        for line in text.splitlines():
            if line.startswith("apiserver_request_total{") and 'group="devicemesh.io"' in line:
                labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
                name = f"{labels['verb']} {labels['resource']}/{labels['subresource']}".rstrip("/")
                found[name] = found.get(name, 0) + round(float(line.rsplit(" ", 1)[1]))
        return found


@contextlib.contextmanager
def process(home: Path, *arguments: str, log: Path) -> Iterator[subprocess.Popen[str]]:
    """`devicemesh` with these arguments, until it is left."""
    command = [sys.executable, "-m", "devicemesh", "--home", str(home), *arguments]
    with log.open("w") as output:
        running = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, text=True)
        try:
            yield running
        finally:
            running.send_signal(signal.SIGTERM)
            running.wait(60)


class Wire(asyncio.Protocol):
    """A Modbus device that notes when it was written to."""

    written: asyncio.Queue[float] = asyncio.Queue()
    registers = [0] * 16

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while len(self._rest) >= 6 and len(self._rest) >= 6 + (length := int.from_bytes(self._rest[4:6])):
            frame, self._rest = self._rest[: 6 + length], self._rest[6 + length :]
            function, first, count = struct.unpack_from(">BHH", frame, 7)
            if function == 6:
                Wire.registers[first] = count
                Wire.written.put_nowait(time.perf_counter())
                self._transport.write(frame)
            else:
                values = struct.pack(f">{count}H", *self.registers[first : first + count])
                self._transport.write(
                    frame[:4]
                    + struct.pack(">HBBB", 3 + len(values), frame[6], function, len(values))
                    + values
                )


async def edits(client: Client, count: int) -> list[float]:
    """Milliseconds from the watch event of an edit to its write on the wire."""
    server = await asyncio.get_running_loop().create_server(Wire, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    events: asyncio.Queue[tuple[float, int]] = asyncio.Queue()

    async def follow() -> None:
        async for event in client.watch():
            one = event["object"]
            if one["metadata"]["name"] == "meter-wire":
                for wanted in one["spec"].get("desired", []):
                    events.put_nowait((time.perf_counter(), wanted["value"]))

    watching = asyncio.create_task(follow())
    watching.add_done_callback(lambda task: task.cancelled() or print("watch ended:", task.exception()))
    wired = device(0, "127.0.0.1", port, 1)
    wired["metadata"]["name"] = "meter-wire"
    await client.apply(wired)
    await client.desire("meter-wire", 1)
    await Wire.written.get()
    while not events.empty():
        events.get_nowait()
    found = []
    for number in range(count):
        await asyncio.sleep(0.2)
        await client.desire("meter-wire", 100 + number)
        written = await Wire.written.get()
        seen, value = await events.get()
        while value != 100 + number:
            seen, value = await events.get()
        while not events.empty():
            events.get_nowait()
        found.append((written - seen) * 1e3)
    watching.cancel()
    server.close()
    return found


async def all_ready(client: Client, count: int, start: float) -> float:
    """Seconds until the server says of each that it is Ready; asked only when enough was written."""
    last, written = start, 0
    while True:
        await asyncio.sleep(0.5 if written >= 0.95 * count else 2.0)  # its metrics cost the server much
        written = (await client.requests()).get("APPLY devices/status", 0)
        now = time.perf_counter()
        if now - last > 10:
            last = now
            print(f"  {now - start:5.1f} s  {written:6} status writes", flush=True)
        if written >= count and await client.ready() >= count:
            return time.perf_counter() - start


def cpu(of: psutil.Process) -> float:
    return sum(one.cpu_times().user + one.cpu_times().system for one in [of, *of.children(recursive=True)])


async def measure(server: Any, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    home, count = folder / "home", options.devices
    declared = devices(count)
    (folder / "devices").mkdir()
    manifest = yaml.dump_all([MODEL, *declared], Dumper=yaml.CSafeDumper)
    (folder / "devices/devices.yaml").write_text(manifest)
    home.mkdir()
    (home / "settings.yaml").write_text(
        f"store: {{kind: kubernetes, kubeconfig: {server.kubeconfig('runtime')}}}\n"
    )
    broker = RealBroker("mosquitto")
    with broker, process(home, "sim", "-f", str(folder / "devices"), log=folder / "sim.log") as sim:
        await until(lambda: (folder / "sim.log").read_text().strip(), sim)
        run = (
            "run",
            "--settings",
            str(home / "settings.yaml"),
            "--simulated",
            "--mqtt",
            broker.url,
            "--api-port",
            "0",
        )
        with process(home, *run, log=folder / "run.log") as runtime:
            it = psutil.Process(runtime.pid)
            async with Client(server, folder) as client:
                await until(lambda: "devices on" in (folder / "run.log").read_text(), runtime)
                await client.apply(MODEL)
                await client.apply(declared[0])
                await all_ready(client, 1, time.perf_counter())
                await asyncio.sleep(options.settle)
                base = it.memory_info().rss  # with its mapper, its session and its connections
                start = time.perf_counter()
                ready = asyncio.create_task(all_ready(client, count, start))
                slots = asyncio.Semaphore(16)

                async def apply(body: dict[str, Any]) -> None:
                    async with slots:
                        await client.apply(body)

                await asyncio.gather(*map(apply, declared))
                applied = time.perf_counter() - start
                print(f"applied in {applied:.1f} s", flush=True)
                seconds = await asyncio.wait_for(ready, 600)
                requests = await client.requests()
                used = cpu(it)
                await asyncio.sleep(options.settle)
                rss = it.memory_info().rss
                api = {name: psutil.Process(one.pid).cpu_times() for name, one in server._processes.items()}
                result = {
                    "devices": count,
                    "apply_s": round(applied, 1),
                    "ready_s": round(seconds, 1),
                    "runtime_cpu_s": round(used, 1),
                    "api_server_cpu_s": {name: round(t.user + t.system, 1) for name, t in api.items()},
                    "rss_base_mb": round(base / 1e6, 1),
                    "rss_mb": round(rss / 1e6, 1),
                    "kb_per_device": round((rss - base) / (count - 1) / 1e3, 2),
                    "requests": requests,
                }
    return result


async def until(what: Any, running: subprocess.Popen[str]) -> None:
    while not what():
        assert running.poll() is None, "a process ended: see its log"
        await asyncio.sleep(0.1)


async def measure_edits(server: Any, folder: Path, count: int) -> list[float]:
    """A runtime on real addresses, with one device that is there."""
    home = folder / "home-edits"
    home.mkdir()
    (home / "settings.yaml").write_text(
        f"store: {{kind: kubernetes, kubeconfig: {server.kubeconfig('runtime')}}}\n"
    )
    async with Client(server, folder) as client:
        await client.apply(MODEL)
        with RealBroker("mosquitto") as broker:
            run = ("run", "--settings", str(home / "settings.yaml"), "--mqtt", broker.url, "--api-port", "0")
            with process(home, *run, log=folder / "edits.log"):
                return await edits(client, count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--edits", type=int, default=50)
    parser.add_argument("--settle", type=float, default=25.0)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    module = api_server_class()
    assets = module._assets()
    if assets is None:
        sys.exit("no kube-apiserver and etcd. Try: make kube-assets")
    folder = options.keep or Path(tempfile.mkdtemp())
    folder.mkdir(exist_ok=True)
    server = module.ApiServer(assets, folder)
    try:
        server.start_etcd()
        server.start()
        for definition in module._documents("crds/devicemesh.io.yaml"):
            server.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
        for role in module._documents("deploy/base/rbac.yaml"):
            module._grant(server, role)
        time.sleep(2)
        latencies = asyncio.run(measure_edits(server, folder, options.edits))
        print("edit to wire ms", sorted(round(x, 1) for x in latencies))
        found = asyncio.run(measure(server, folder, options))
        found["edit_to_wire_ms_p50"] = round(statistics.median(latencies), 1)
        print(json.dumps(found))
    finally:
        server.stop()


if __name__ == "__main__":
    main()
