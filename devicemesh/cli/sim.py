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
from typing import Any

import click

from devicemesh.cli.common import NOT_REACHABLE, PROBLEMS, WRONG_USE, fail, home_of, table
from devicemesh.cli.edit import check, files_option, show_problems

SOCKET = "sim.sock"
FILE = "sim.json"


def simulated(files: Sequence[Path]) -> dict[str, list[Any]]:
    """The declared devices by protocol; exits when the files have problems."""
    from devicemesh import plugins
    from devicemesh.runtime.binding import Binder, BoundDevice, point
    from devicemesh.store.base import Key, Object
    from devicemesh.testing.simulator import SimulatedDevice

    found = check(files, None)
    if found.problems:
        show_problems(found, None, "simulated")
        sys.exit(PROBLEMS)
    binder = Binder(plugins.load().mappers)
    objects = {
        Key(r.kind, r.namespace, r.name): Object(Key(r.kind, r.namespace, r.name), "", 1, 1, "", r.body, {})
        for r in found.resources
    }
    folders = {Key(r.kind, r.namespace, r.name): Path(r.path).parent for r in found.resources}
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
                bound.shape.specs,
                folders[key],
            )
        )
    return devices


def _prepare(home: Path) -> tuple[Path, Path]:
    """The control socket's path, free, and that of the description."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    (home / SOCKET).unlink(missing_ok=True)
    return home / SOCKET, home / FILE


@contextlib.asynccontextmanager
async def serving(
    devices: Mapping[str, Sequence[Any]], seed: int, host: str, home: Path
) -> AsyncIterator[dict[str, str]]:
    """Serve every device; yields declared link -> address. Faults are switched over a socket in the home."""
    from devicemesh import plugins

    simulators = plugins.load().simulators
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
        path, described = _prepare(home)
        server = await asyncio.start_unix_server(lambda r, w: _control(r, w, owners), path)
        stack.callback(path.unlink, missing_ok=True)
        stack.callback(server.close)
        described.write_text(json.dumps({"pid": os.getpid(), "addresses": addresses}, indent=2))
        stack.callback(described.unlink, missing_ok=True)
        yield addresses


async def _control(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, owners: Mapping[str, Any]
) -> None:
    """One line of JSON in, one out."""
    try:
        asked = json.loads(await reader.readline())
        owner = owners.get(asked["device"])
        if owner is None:
            raise ValueError(f"no simulated device {asked['device']}")
        answer = {"state": owner.fault(asked["device"], asked["fault"], asked["arguments"])}
    except (ValueError, KeyError, TypeError) as error:
        answer = {"error": str(error)}
    writer.write(json.dumps(answer).encode() + b"\n")
    with contextlib.suppress(OSError):
        await writer.drain()
    writer.close()


@click.command("sim")
@files_option
@click.option("--seed", default=1, show_default=True, help="The same seed, the same values.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.pass_context
def sim_command(ctx: click.Context, files: tuple[Path, ...], seed: int, host: str) -> None:
    """Serve every declared device, simulated; `devicemesh run --simulated` speaks to them."""
    devices = simulated(files)

    async def main() -> None:
        from devicemesh.cli.run import until_stopped

        async with serving(devices, seed, host, home_of(ctx)) as addresses:
            names: dict[str, list[str]] = {}
            for protocol in devices.values():
                for device in protocol:
                    names.setdefault(device.endpoint.link(), []).append(device.name.partition("/")[2])
            rows = [[link, address, ", ".join(names[link])] for link, address in addresses.items()]
            click.echo(table((("DECLARED", 0), ("SERVED AT", 0), ("DEVICES", 1)), rows))
            click.echo("Try: devicemesh run -f DIR --simulated · devicemesh fault DEVICE unplug", err=True)
            sys.stdout.flush()
            await until_stopped()

    try:
        asyncio.run(main())
    except (ValueError, OSError) as error:
        fail(f"{error}", PROBLEMS, "devicemesh validate -f DIR")


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
    unplug        silent                       heal        ends all faults
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
