"""sim, fault: simulated devices, and what goes wrong with them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from devicemesh.api.loopback import loopback
from devicemesh.cli.common import NOT_REACHABLE, PROBLEMS, WRONG_USE, fail, home_of, table, until_stopped
from devicemesh.cli.edit import check, files_option, show_problems

if TYPE_CHECKING:
    from devicemesh.spec.device import Property

SHOWN = 4  # devices of a link
SOCKET = "sim.sock"
FILE = "sim.json"


def simulated(files: Sequence[Path]) -> dict[str, list[Any]]:
    """The declared devices by protocol; exits when the files have problems."""
    from devicemesh import plugins
    from devicemesh.runtime.binding import Binder, BoundDevice, point
    from devicemesh.store.base import Key, Object, pack
    from devicemesh.testing.simulator import SimulatedDevice

    found = check(files, None)
    if found.problems:
        show_problems(found, None, "simulated")
        sys.exit(PROBLEMS)
    binder = Binder(plugins.load().mappers)
    objects = {
        Key(r.kind, r.namespace, r.name): Object(
            Key(r.kind, r.namespace, r.name), "", 1, 1, "", pack(r.body), {}
        )
        for r in found.resources
    }
    folders = {Key(r.kind, r.namespace, r.name): Path(r.path).absolute().parent for r in found.resources}
    devices: dict[str, list[Any]] = {}
    slot = 0
    for key, declared in objects.items():
        if key.kind != "Device":
            continue
        bound = binder.bind(declared, objects)
        if not isinstance(bound, BoundDevice):
            fail(f"{key.name}: {bound.message}", PROBLEMS, "devicemesh validate -f DIR")
        points = [point(bound, name, slot + i) for i, name in enumerate(bound.properties)]
        slot += len(points)
        devices.setdefault(bound.mapper.protocol, []).append(
            SimulatedDevice(
                key.device,
                bound.endpoint,
                points,
                _with_files(bound, declared, folders),
                folders[key],
                {n: (bound.commands[n], a) for n, a in bound.shape.calls.items() if n in bound.commands},
                {n: a for n, a in bound.shape.events.items() if n in bound.sources},
            )
        )
    return devices


def _with_files(bound: Any, declared: Any, folders: Mapping[Any, Path]) -> dict[str, Property]:
    """The properties; a recording lies beside the file that names it, the model's or the device's."""
    overridden = {p["name"] for p in declared.body["spec"].get("properties", ()) if p.get("simulation")}
    model = bound.key._replace(kind="DeviceModel", name=declared.body["spec"]["modelRef"]["name"])
    out = {}
    for name, prop in bound.shape.specs.items():
        out[name] = prop
        if prop.simulation.file is not None and name not in overridden:
            file = str(folders[model] / prop.simulation.file)
            simulation = prop.simulation.model_copy(update={"file": file})
            out[name] = prop.model_copy(update={"simulation": simulation})
    return out


def living(home: Path) -> dict[str, Any] | None:
    """The description of the simulator that runs on a home: its `pid` and `addresses`; None: there is none.

    What a killed one left behind does not count: only a living one takes a connection.
    """
    try:
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(5)
            control.connect(str(home / SOCKET))
        described: dict[str, Any] = json.loads((home / FILE).read_text())
    except (OSError, ValueError):
        return None
    return described


def _prepare(home: Path) -> None:
    """A home without leftovers; exits where another simulator lives on it."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    if other := living(home):
        message = f"a simulator (pid {other['pid']}) already runs on {home}"
        fail(message, WRONG_USE, f"kill {other['pid']}, or devicemesh --home DIR sim -f DIR")
    for left in (SOCKET, FILE):
        (home / left).unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def _controlled(
    home: Path, owners: Mapping[str, Any], addresses: Mapping[str, str]
) -> AsyncIterator[None]:
    """Take faults over a socket in the home, and say there what is served; both go at the end."""
    path, described = home / SOCKET, home / FILE
    try:
        server = await asyncio.start_unix_server(lambda r, w: _control(r, w, owners), path)
    except OSError as error:
        raise OSError(f"{path}: {error}") from error
    try:
        text = json.dumps({"pid": os.getpid(), "addresses": addresses}, indent=2)
        partial = described.with_suffix(".new")
        partial.write_text(text)
        partial.replace(described)  # whoever waits for it reads it whole
        yield
    finally:
        described.unlink(missing_ok=True)
        server.close()
        path.unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def serving(
    devices: Mapping[str, Sequence[Any]], seed: int, host: str, home: Path
) -> AsyncIterator[dict[str, str]]:
    """Serve every device; yields declared link -> address. Faults are switched over a socket in the home."""
    from devicemesh import plugins

    _prepare(home)
    simulators = plugins.load().simulators()
    async with contextlib.AsyncExitStack() as stack:
        running = []
        for protocol, declared in devices.items():
            simulator = simulators.get(protocol)
            if simulator is None:
                fail(f"no simulator speaks {protocol}", WRONG_USE, "pip install devicemesh-simulators")
            running.append(await stack.enter_async_context(simulator.serve(declared, seed=seed, host=host)))
        addresses = {link: address for one in running for link, address in one.addresses.items()}
        owners = {
            d.name: one for one, declared in zip(running, devices.values(), strict=True) for d in declared
        }
        await stack.enter_async_context(_controlled(home, owners, addresses))
        yield addresses


async def _control(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, owners: Mapping[str, Any]
) -> None:
    """One line of JSON in, one out."""
    try:
        asked = json.loads(await reader.readline())
        owner = owners.get(asked["device"])
        if owner is None:
            raise ValueError(_unknown(asked["device"], sorted(owners)))
        answer = {"state": owner.fault(asked["device"], asked["fault"], asked["arguments"])}
    except (ValueError, KeyError, TypeError) as error:
        answer = {"error": str(error)}
    writer.write(json.dumps(answer).encode() + b"\n")
    with contextlib.suppress(OSError):
        await writer.drain()
    writer.close()


def _unknown(device: str, known: Sequence[str]) -> str:
    from devicemesh.spec.words import suggest

    namespace, _, name = device.partition("/")
    near = suggest(name, [k.partition("/")[2] for k in known if k.startswith(f"{namespace}/")])
    more = ", ..." if len(known) > 10 else ""
    return f"no simulated device {device}: {near or 'there are ' + ', '.join(known[:10]) + more}"


@click.command("sim")
@files_option
@click.option("--seed", default=1, show_default=True, help="The same seed, the same values.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.pass_context
def sim_command(ctx: click.Context, files: tuple[Path, ...], seed: int, host: str) -> None:
    """Serve every declared device, simulated; `devicemesh run --simulated` speaks to them."""
    devices = simulated(files)

    if not devices:
        fail("no device is declared there", PROBLEMS, "devicemesh sim -f examples/factory")
    if not loopback(host):
        click.echo(f"Warning: on {host} everybody who reaches this machine can read and write them", err=True)

    async def main() -> None:
        stopped = asyncio.create_task(until_stopped())
        await asyncio.sleep(0)  # from here on a signal ends it in good order
        async with serving(devices, seed, host, home_of(ctx)) as addresses:
            _show(devices, addresses)
            await stopped

    try:
        asyncio.run(main())
    except ValueError as error:
        fail(f"{error}", PROBLEMS, "devicemesh explain DeviceModel.spec.properties.simulation")
    except OSError as error:
        fail(f"{error}", NOT_REACHABLE, "ss -ltnup")


def _show(devices: Mapping[str, Sequence[Any]], addresses: Mapping[str, str]) -> None:
    names: dict[str, list[str]] = {}
    for protocol in devices.values():
        for device in protocol:
            names.setdefault(device.endpoint.link(), []).append(device.name.partition("/")[2])
    rows = [[link, address, _some(names[link])] for link, address in addresses.items()]
    click.echo(table((("DECLARED", 0), ("SERVED AT", 0), ("DEVICES", 1)), rows))
    click.echo("Try: devicemesh run -f DIR --simulated · devicemesh fault DEVICE unplug", err=True)
    sys.stdout.flush()


@click.command("fault")
@click.argument("device")
@click.argument("fault")
@click.option("-n", "--namespace", default="default", show_default=True)
@click.pass_context
def fault_command(ctx: click.Context, device: str, fault: str, namespace: str) -> None:
    """Switch a fault of a simulated device: `fault pump-1 unplug`, `fault pump-1 heal`.

    \b
    delay=500ms   every answer comes late      garbage=30  this percentage is random bytes
    drop=30       requests not answered, in %  noise=5     numbers are off by up to this percentage
    exception=4   answered with this code      disconnect  the connection is closed instead
    unplug        silent                       redial      its modem dials in anew (`listen`)
    heal          ends all faults

    Each protocol has others beside these: one that it does not know is answered with those that it does.
    """
    name, equals, argument = fault.partition("=")
    asked = {
        "device": f"{namespace}/{device}",
        "fault": name,
        "arguments": {"value": argument} if equals else {},
    }
    try:
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(5)
            control.connect(str(home_of(ctx) / SOCKET))
            control.sendall(json.dumps(asked).encode() + b"\n")
            with control.makefile("r") as lines:
                answer = json.loads(lines.readline())
    except (OSError, ValueError):
        fail(f"no simulator runs on {home_of(ctx)}", NOT_REACHABLE, "devicemesh sim -f DIR")
    if "error" in answer:
        fail(answer["error"], PROBLEMS, "devicemesh fault --help")
    click.echo(f"{device}: {answer['state']}")


def _some(names: Sequence[str]) -> str:
    """As many as fit a line."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
