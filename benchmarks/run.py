"""`make bench`: DeviceMesh beside a floor in plain Python and beside ThingsBoard's gateway.

The same Modbus server, broker and counter for all three, in turn, several times; medians. The gateway has
one core, everything else the other. The last line is one line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import thingsboard

HERE = Path(__file__).parent
PEER = "thingsboard-gateway==3.8.5"
PEER_NEEDS = ("pymodbus==3.9.2", "pyserial", "pyserial-asyncio", "setuptools<81")
Result = dict[str, float]


def free_ports(count: int) -> int:
    """The first of `count` consecutive free ports."""
    for first in range(20000, 60000, count + 1):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise SystemExit("no free ports")


def start(command: list[str], core: int, log: Path, **more: Any) -> subprocess.Popen[str]:
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, text=True, **more)
    os.sched_setaffinity(process.pid, {core} if os.cpu_count() != 1 else {0})
    return process


def stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def bench(folder: Path, devices: int) -> Iterator[tuple[int, int, Callable[[], dict[str, Any]], Path]]:
    """Broker, server and counter; yields both ports, the counter's newest line and the server's log."""
    mqtt_port = free_ports(devices + 1)
    modbus_port = mqtt_port + 1
    broker = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
    if broker is None:
        raise SystemExit("mosquitto is needed. Try: apt install mosquitto")
    (folder / "broker.conf").write_text(
        f"listener {mqtt_port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
        "max_queued_messages 100000\nmax_inflight_messages 1000\nset_tcp_nodelay true\nlog_type error\n"
    )
    served, counted = folder / "server.log", folder / "count.jsonl"
    with contextlib.ExitStack() as stack:

        def run(name: str, *command: str, log: Path | None = None) -> None:
            process = start(list(command), 0, log or folder / f"{name}.log")
            stack.callback(stop, process)

        run("broker", broker, "-c", str(folder / "broker.conf"))
        time.sleep(0.5)
        python = sys.executable
        run(
            "server",
            python,
            str(HERE / "modbus_server.py"),
            "--port",
            str(modbus_port),
            "--ports",
            str(devices),
            log=served,
        )
        run("counter", python, str(HERE / "counter.py"), str(mqtt_port), str(counted))

        def newest() -> dict[str, Any]:
            lines = counted.read_text().splitlines() if counted.exists() else []
            return json.loads(lines[-1]) if lines else {"values": 0}

        while "ready" not in served.read_text():
            time.sleep(0.1)
        yield mqtt_port, modbus_port, newest, served


def cpu_s(process: psutil.Process) -> float:
    """User and system time of a process and its children."""
    tree = [process, *process.children(recursive=True)]
    return sum(sum(p.cpu_times()[:2]) for p in tree)


def measure(command: Callable[[Path, int, int], tuple[list[str], dict[str, Any]]], options: Any) -> Result:
    """One run of one gateway."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with bench(folder, options.devices) as (mqtt_port, modbus_port, newest, served):
            line, more = command(folder, mqtt_port, modbus_port)
            gateway = start(line, os.cpu_count() - 1 if os.cpu_count() else 0, folder / "gateway.log", **more)
            try:
                result = _window(gateway, newest, options, folder)
            finally:
                stop(gateway)
            time.sleep(1.5)
            total = newest()["values"]
        read = json.loads(served.read_text().splitlines()[-1])["registers"]
    result["published_over_read"] = round(total / read, 4) if read else 0.0
    return result


def _window(
    gateway: subprocess.Popen[str], newest: Callable[[], dict[str, Any]], options: Any, folder: Path
) -> Result:
    deadline = time.monotonic() + 90
    while not newest()["values"]:
        if gateway.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("the gateway published nothing: " + (folder / "gateway.log").read_text()[-2000:])
        time.sleep(0.5)
    time.sleep(options.warm)
    process = psutil.Process(gateway.pid)
    first, cpu, began = newest(), cpu_s(process), time.monotonic()
    time.sleep(options.window)
    last, cpu, took = newest(), cpu_s(process) - cpu, time.monotonic() - began
    rate = (last["values"] - first["values"]) / (last["at"] - first["at"])
    return {
        "values_per_s": round(rate),
        "cores": round(cpu / took, 3),
        "cpu_s_per_million_values": round(cpu / took / rate * 1e6, 3),
        "rss_mb": round(process.memory_info().rss / 1e6, 1),
        "lag_p50_ms": last["lag_ms"],
    }


def devicemesh(options: Any) -> Callable[[Path, int, int], tuple[list[str], dict[str, Any]]]:
    def command(folder: Path, mqtt_port: int, modbus_port: int) -> tuple[list[str], dict[str, Any]]:
        properties = "\n".join(
            f"  - {{name: r{n}, type: int16, address: {{modbus: {{table: holding, offset: {n}}}}},"
            f" telemetry: {{samplingInterval: {options.period_ms}ms, report: every}}}}"
            for n in range(options.registers)
        )
        head = "apiVersion: devicemesh.io/v1alpha1\nkind: "
        model = f"{head}DeviceModel\nmetadata: {{name: block}}\nspec:\n  properties:\n{properties}\n"
        devices = "".join(
            f"---\n{head}Device\nmetadata: {{name: dev{n}}}\nspec:\n  modelRef: {{name: block}}\n"
            f"  endpoint: {{modbus: {{host: 127.0.0.1, port: {modbus_port + n}}}}}\n"
            for n in range(options.devices)
        )
        (folder / "devices.yaml").write_text(model + devices)
        run = [
            sys.executable,
            "-m",
            "devicemesh",
            "--home",
            str(folder / "home"),
            "run",
            "--log-level",
            "warning",
        ]
        run += [
            "-f",
            str(folder / "devices.yaml"),
            "--mqtt",
            f"mqtt://127.0.0.1:{mqtt_port}",
            "--api-port",
            "0",
        ]
        return run, {}

    return command


def floor(options: Any) -> Callable[[Path, int, int], tuple[list[str], dict[str, Any]]]:
    load = [str(options.devices), str(options.registers), str(options.period_ms)]
    return lambda _, mqtt, modbus: (
        [sys.executable, str(HERE / "floor.py"), *load, str(modbus), str(mqtt)],
        {},
    )


def peer(options: Any, python: Path) -> Callable[[Path, int, int], tuple[list[str], dict[str, Any]]]:
    """At ten times the period: its own best, where it still publishes what it reads."""

    def command(folder: Path, mqtt_port: int, modbus_port: int) -> tuple[list[str], dict[str, Any]]:
        period = options.period_ms * 10
        thingsboard.write(folder / "conf", options.devices, options.registers, period, modbus_port, mqtt_port)
        environment = {**os.environ, "TB_GW_CONFIG_DIR": str(folder / "conf")}
        code = "from thingsboard_gateway.tb_gateway import main; main()"
        return [str(python), "-c", code], {"cwd": folder, "env": environment}

    return command


def peer_python(folder: Path) -> Path:
    """An environment of its own for the peer, kept between runs."""
    python = folder / "bin/python"
    if not python.exists():
        print(f"installing {PEER} into {folder} ...", file=sys.stderr)
        subprocess.check_call([sys.executable, "-m", "venv", str(folder)])
        subprocess.check_call([str(python), "-m", "pip", "install", "-q", PEER, *PEER_NEEDS])
    return python


def medians(runs: list[Result]) -> Result:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=100)
    parser.add_argument("--registers", type=int, default=100)
    parser.add_argument("--period-ms", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--warm", type=float, default=5)
    parser.add_argument("--window", type=float, default=12)
    parser.add_argument("--only", choices=["devicemesh", "floor", "thingsboard"])
    options = parser.parse_args()
    gateways: dict[str, Any] = {"devicemesh": devicemesh(options), "floor": floor(options)}
    if options.only in (None, "thingsboard"):
        gateways["thingsboard"] = peer(options, peer_python(HERE / ".thingsboard"))
    chosen = {n: g for n, g in gateways.items() if options.only in (None, n)}
    runs: dict[str, list[Result]] = {name: [] for name in chosen}
    for _ in range(options.repeats):
        for name, gateway in chosen.items():
            runs[name].append(measure(gateway, options))
            print(f"{name:<12} {json.dumps(runs[name][-1])}", file=sys.stderr, flush=True)
    result = {name: medians(found) for name, found in runs.items()}
    ours = result.get("devicemesh", next(iter(result.values())))
    line = {**ours, "load_average": os.getloadavg()[0]}
    for name in ("floor", "thingsboard"):
        if name in result:
            line[f"{name}_cpu_s_per_million_values"] = result[name]["cpu_s_per_million_values"]
            line[f"{name}_published_over_read"] = result[name]["published_over_read"]
    print(json.dumps(line))


if __name__ == "__main__":
    main()
