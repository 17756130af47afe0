"""demo: simulated devices, a broker and the runtime, live in one terminal. Nothing is kept."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from devicemesh.cli.common import NOT_REACHABLE, PROBLEMS, WRONG_USE, ago, fail, until_stopped

if TYPE_CHECKING:
    from rich.table import Table

    from devicemesh.runtime.runtime import Runtime

MARKS = (("Good", "●", "green"), ("Uncertain", "◐", "yellow"), ("Bad", "○", "red"))
TITLES = ("DEVICE", "PROPERTY", "VALUE", "UNIT", "QUALITY", "AGE", "RATE")


class ErrorCount(logging.Handler):
    """Counts what was logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


@click.command("demo")
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="What to simulate.  [default: examples/factory]",
)
@click.option("--for", "seconds", type=float, help="Stop by itself after this many seconds.")
@click.option("--seed", default=1, show_default=True, help="The same seed, the same values.")
@click.option("--mqtt", "mqtt_url", help="Broker.  [default: an embedded one]")
def demo_command(files: tuple[Path, ...], seconds: float | None, seed: int, mqtt_url: str | None) -> None:
    """Simulated devices, a broker and the runtime, live in this terminal."""
    from devicemesh.cli.run import run_guarded
    from devicemesh.settings import ApiSettings, MqttSettings, Settings

    if find_spec("devicemesh_simulators") is None:
        fail("the simulators are not installed here", WRONG_USE, "pip install 'devicemesh[demo]'")
    chosen = files or (example(),)
    with tempfile.TemporaryDirectory(prefix="devicemesh-demo-") as folder:
        settings = Settings(
            home=Path(folder),
            instance="demo",
            mqtt=MqttSettings(url=mqtt_url),
            api=ApiSettings(port=0),
            status_interval_s=1.0,
        )
        verdict: dict[str, Any] = {}
        run_guarded(_demo(settings, chosen, seconds, seed, verdict), settings)
    if seconds is not None:
        click.echo(json.dumps(verdict["line"], separators=(",", ":")))
        sys.exit(0 if verdict["well"] else PROBLEMS)


def example() -> Path:
    """The factory example: of the checkout, or below the folder that we are in."""
    import devicemesh

    for folder in (Path.cwd(), Path(devicemesh.__file__).parent.parent):
        if (folder / "examples/factory").is_dir():
            return folder / "examples/factory"
    return fail("examples/factory is not here", WRONG_USE, "devicemesh demo -f DIR")


@contextlib.contextmanager
def simulators(home: Path, files: tuple[Path, ...], seed: int) -> Iterator[None]:
    """`devicemesh sim` in a process of its own, as devices are."""
    command = [sys.executable, "-m", "devicemesh", "--home", str(home), "sim", "--seed", str(seed)]
    for file in files:
        command += ["-f", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 15
        while not (home / "sim.json").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                words = process.stderr.read() if process.stderr and process.poll() is not None else ""
                fail(f"the simulators did not start: {words.strip()}", NOT_REACHABLE, "devicemesh sim -f DIR")
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(10)


async def _demo(
    settings: Any, files: tuple[Path, ...], seconds: float | None, seed: int, verdict: dict[str, Any]
) -> None:
    from devicemesh.cli.run import apply_files, read_redirects, running, set_up_logging

    set_up_logging("error", "text")
    errors = ErrorCount()
    logging.getLogger().addHandler(errors)
    apply_files(settings.home, files)
    with simulators(settings.home, files, seed):
        redirects = read_redirects(settings.home)
        async with running(settings, redirects) as (runtime, broker, api):
            await runtime.supervisor.synced.wait()
            await _show(runtime, settings, broker, api, seconds)
            connected = sum(
                any(c.type == "Connected" and c.status == "True" for c in _conditions(runtime, device))
                for device in runtime.supervisor.devices.values()
            )
        samples = runtime.samples()
    dropped = sum(samples["dropped"].values())
    verdict["line"] = {
        "read": samples["read"],
        "published": samples["published"],
        "dropped": dropped,
        "devices_connected": connected,
        "errors": errors.count + runtime.errors,
    }
    balanced = samples["read"] == samples["published"] + dropped and samples["read"] > 0
    declared = len(runtime.supervisor.devices) + len(runtime.supervisor.unbound)
    verdict["well"] = balanced and connected == declared and declared > 0


def _conditions(runtime: Runtime, device: Any) -> list[Any]:
    from devicemesh.runtime.reporter import conditions

    return conditions(device, runtime.aggregator, runtime.aggregator.snapshot(device.column))


async def _show(runtime: Runtime, settings: Any, broker: str, api: str | None, seconds: float | None) -> None:
    """The live table until Ctrl-C, or for so many seconds."""

    host, _, port = broker.rpartition("//")[2].rpartition(":")
    subscribe = f"mosquitto_sub -h {host} -p {port} -v -t '{settings.mqtt.root}/#'"
    head = f"{len(runtime.supervisor.devices)} simulated devices   {broker}   page {api or 'off'}"
    first = next(
        iter(sorted(d.name.partition("/")[2] for d in runtime.supervisor.devices.values())), "pump-1"
    )
    program = "devicemesh" if shutil.which("devicemesh") else sys.argv[0]
    tail = f"{program} --home {settings.home} fault {first} unplug"
    stop = asyncio.create_task(until_stopped())
    timer = asyncio.create_task(asyncio.sleep(seconds)) if seconds is not None else None
    ends = {stop, timer} if timer else {stop}
    try:
        if sys.stdout.isatty():
            await _live(runtime, head, [subscribe, tail], ends)
        else:
            click.echo(f"{head}\nTry: {subscribe}", err=True)
            await _plain(runtime, ends)
    finally:
        for task in ends:
            task.cancel()


class Rates:
    """Samples a second of every property, over the last ten seconds."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[tuple[float, int]]] = {}

    def update(self, name: str, count: int, now: float) -> float:
        seen = self._seen.setdefault(name, deque(maxlen=20))  # two looks a second
        seen.append((now, count))
        (since, before), took = seen[0], now - seen[0][0]
        return (count - before) / took if took > 0.4 and since < now else 0.0


def _rows(runtime: Runtime, rates: Rates) -> Iterator[tuple[str, ...]]:
    from devicemesh.cli.show import value_text
    from devicemesh.runtime.reporter import stamp
    from devicemesh.spec.units import symbol

    now = time.monotonic()
    for device in sorted(runtime.supervisor.devices.values(), key=lambda d: d.name):
        for name, reading in device.reported(runtime.aggregator).items():
            spec = device.specs[name]
            rate = rates.update(f"{device.name} {name}", runtime.aggregator.count(device.slot(name)), now)
            yield (
                device.name.partition("/")[2],
                name,
                value_text(reading.value) if reading.good else "–",
                symbol(spec.unit) if spec.unit else "",
                reading.quality.word,
                ago(stamp(reading.time_ns)) if reading.time_ns else "-",
                f"{rate:.1f}/s",
            )


def _counts(runtime: Runtime) -> str:
    """Where every sample is; what was left out on purpose goes by its reason."""
    samples = runtime.samples()
    reasons = ", ".join(f"{policy} {count:,}" for policy, count in samples["dropped"].items() if count)
    parts = [
        f"read {samples['read']:,} = published {samples['published']:,}",
        f"dropped {sum(samples['dropped'].values()):,}" + (f" ({reasons})" if reasons else ""),
        f"under way {samples['spooled'] + samples['pending']:,}",
    ]
    return " + ".join(parts)


async def _live(runtime: Runtime, head: str, tries: list[str], ends: set[Any]) -> None:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    console, rates = Console(), Rates()

    def view() -> Group:
        foot = [Text(_counts(runtime), style="dim")]
        foot += [Text(f"Try: {line}", style="cyan", overflow="fold") for line in tries]
        room = max(3, console.size.height - 4 - len(foot))
        return Group(
            Text(f"DeviceMesh  {head}", style="bold"), _table(list(_rows(runtime, rates)), room), *foot
        )

    done: set[Any] = set()
    with Live(view(), console=console, auto_refresh=False, screen=True, vertical_overflow="crop") as live:
        while not done:
            done, _ = await asyncio.wait(ends, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
            live.update(view(), refresh=True)
    click.echo(f"{_counts(runtime)}\nTry: devicemesh validate -f examples/factory", err=True)


def _table(rows: list[tuple[str, ...]], room: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for title in TITLES:
        table.add_column(
            title, no_wrap=True, justify="right" if title in ("VALUE", "AGE", "RATE") else "left"
        )
    shown = rows if len(rows) <= room else rows[: room - 1]
    previous = ""
    for device, *cells in shown:
        quality = cells[3]
        mark, colour = next((m, c) for word, m, c in MARKS if quality.startswith(word))
        cells[3] = ""
        line: list[Any] = [device if device != previous else "", *cells]
        line[4] = Text(f"{mark} {quality}", style=colour)
        table.add_row(*line)
        previous = device
    if len(shown) < len(rows):
        table.add_row(f"{len(shown)} of {len(rows)} rows")
    return table


async def _plain(runtime: Runtime, ends: set[Any]) -> None:
    """No terminal: the table once, then a line of counts, each 5 s apart."""
    from devicemesh.cli.common import table

    rates = Rates()
    list(_rows(runtime, rates))
    done, _ = await asyncio.wait(ends, timeout=5.0, return_when=asyncio.FIRST_COMPLETED)
    click.echo(table([(title, 0) for title in TITLES], list(_rows(runtime, rates))), err=True)
    while not done:
        done, _ = await asyncio.wait(ends, timeout=5.0, return_when=asyncio.FIRST_COMPLETED)
        click.echo(_counts(runtime), err=True)
