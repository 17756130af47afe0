"""mappers, crd, explain, doctor, outbox, version."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from devicemesh import __version__
from devicemesh.cli.common import (
    NOT_REACHABLE,
    PROBLEMS,
    STORE,
    WRONG_USE,
    emit,
    fail,
    home_of,
    output_option,
    paint,
    table,
)


@click.command("version")
@click.option("-o", "--output", type=click.Choice(["json"]))
def version_command(output: str | None) -> None:
    """Print the version."""
    if output:
        click.echo(json.dumps({"devicemesh": __version__, "python": platform.python_version()}))
    else:
        click.echo(f"devicemesh {__version__} (Python {platform.python_version()})")


@click.command("mappers")
@output_option()
def mappers_command(output: str | None) -> None:
    """Installed protocol mappers, and those that could not be loaded."""
    from devicemesh import plugins

    found = plugins.load()
    simulating = found.simulating()
    rows = []
    for plugin in found.found:
        brings = ", ".join([*plugin.protocols, *(["simulators"] if plugin.name in simulating else [])])
        rows.append([plugin.name, plugin.distribution, plugin.version, brings or "-", plugin.error or "ok"])
    if output:
        names = ("name", "distribution", "version", "brings", "state")
        emit([dict(zip(names, row, strict=True)) for row in rows], output)
    elif rows:
        click.echo(
            table((("NAME", 0), ("DISTRIBUTION", 1), ("VERSION", 2), ("BRINGS", 0), ("STATE", 0)), rows)
        )
    else:
        click.echo("No mapper is installed.\nTry: pip install devicemesh-modbus", err=True)
    if any(plugin.error for plugin in found.found):
        sys.exit(PROBLEMS)


@click.command("crd")
def crd_command() -> None:
    """Print the CustomResourceDefinitions: `devicemesh crd | kubectl apply -f -`."""
    from devicemesh import plugins
    from devicemesh.spec.crd import definitions

    emit(definitions(plugins.load().protocols()), "yaml")


@click.command("explain")
@click.argument("topic", required=False)
def explain_command(topic: str | None) -> None:
    """What a field or an error means: `explain device.spec.endpoint.modbus`, `explain unknown-field`."""
    from devicemesh.spec.codes import CODES
    from devicemesh.spec.words import suggest

    if topic is None:
        click.echo(
            "Fields:  device, devicemodel, settings, and any path below, as in device.spec.endpoint.modbus"
        )
        click.echo("Errors:  " + "\n         ".join(CODES))
        return
    if topic in CODES:
        click.echo(f"{paint(topic, 'red')}\n{CODES[topic]}")
        return
    head, *path = topic.split(".")
    schema = _schema(head.lower())
    if schema is None:
        hint = suggest(topic, [*CODES, "device", "devicemodel", "settings"])
        fail(f"nothing is known of `{topic}` {hint}".rstrip(), WRONG_USE, "devicemesh explain")
    for index, part in enumerate(path):
        schema = _below(schema)
        inner = schema.get("properties", {})
        if part not in inner:
            here = ".".join([head, *path[:index]])
            hint = suggest(part, inner) or f"known: {', '.join(inner)}"
            fail(f"`{here}` has no field `{part}`: {hint}", WRONG_USE, f"devicemesh explain {here}")
        schema = inner[part]
    click.echo("\n".join(_explained(topic, schema)))


def _schema(head: str) -> dict[str, Any] | None:
    from devicemesh import plugins
    from devicemesh.spec.crd import definitions, structural

    if head == "settings":
        from devicemesh.settings import Settings

        return structural(Settings)
    for definition in definitions(plugins.load().protocols()):
        if definition["spec"]["names"]["singular"] == head:
            schema: dict[str, Any] = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
            return schema
    return None


def _below(schema: dict[str, Any]) -> dict[str, Any]:
    """A list is explained as its entries."""
    inner: dict[str, Any] = schema.get("items", schema)
    return inner


def _explained(topic: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"{topic} <{schema.get('type', 'any')}>"
    if text := schema.get("description"):
        yield text
    inner = _below(schema)
    required = set(inner.get("required", ()))
    rows = []
    for name, field in inner.get("properties", {}).items():
        text = (field.get("description") or "").split("\n")[0]
        words = f" ({', '.join(map(str, field['enum']))})" if "enum" in field else ""
        default = f" [default: {field['default']}]" if field.get("default") not in (None, {}, [], "") else ""
        rows.append(
            [
                f"  {name}{'*' if name in required else ''}",
                f"<{field.get('type', 'any')}>",
                f"{text}{words}{default}",
            ]
        )
    if rows:
        yield "Fields (* must be given):"
        yield table((("  NAME", 0), ("TYPE", 0), ("MEANING", 0)), rows)


@click.command("doctor")
@click.option("-o", "--output", type=click.Choice(["json"]))
@click.pass_context
def doctor_command(ctx: click.Context, output: str | None) -> None:
    """Check this installation: what is there, what is missing, and what to do."""
    checks = list(_checks(home_of(ctx)))
    if output:
        click.echo(
            json.dumps([dict(zip(("check", "ok", "found", "try"), c, strict=True)) for c in checks], indent=2)
        )
    else:
        for name, good, found, mend in checks:
            mark = paint("ok  ", "green") if good else paint("FAIL", "red")
            click.echo(f"{mark}  {name:<12} {found}" + (f"\n      Try: {mend}" if not good and mend else ""))
    if not all(good for _, good, _, _ in checks):
        sys.exit(PROBLEMS)


def _checks(home: Path) -> Iterator[tuple[str, bool, str, str]]:
    """(check, good?, what was found, what to try)."""
    from devicemesh import plugins
    from devicemesh.store.base import StoreUnavailableError
    from devicemesh.store.database import Database

    yield "python", sys.version_info >= (3, 11), platform.python_version(), "Python 3.11 or newer"
    try:
        from devicemesh import aggregate  # noqa: F401 - its import is the check

        yield "C core", True, "loaded", ""
    except ImportError as error:
        yield "C core", False, str(error), "pip install --force-reinstall devicemesh"
    found = plugins.load()
    broken = [f"{p.name}: {p.error}" for p in found.found if p.error]
    names = ", ".join(found.mappers) or "none"
    yield (
        "mappers",
        bool(found.mappers) and not broken,
        "; ".join(broken) or names,
        "pip install devicemesh-modbus",
    )
    broker = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    wheel = find_spec("iotcore") is not None
    what = broker or ("the iotcore wheel" if wheel else "no broker to embed")
    yield "broker", bool(broker or wheel), what, "apt install mosquitto, or: pip install 'devicemesh[broker]'"
    try:
        store = Database(home / STORE)
        count = len(store.list("Device"))
        yield "store", True, f"{home / STORE}: {count} devices", ""
        store.close()
    except StoreUnavailableError as error:
        yield "store", False, str(error), f"look at the rights of {home}"
    room = shutil.disk_usage(home if home.exists() else Path.home()).free >> 20
    yield "disk", room > 256, f"{room} MiB free for the outbox", "make room, or set outbox.max_bytes"
    pid = running_pid(home)
    yield "runtime", True, f"running, pid {pid}" if pid else "not running", ""


def running_pid(home: Path) -> int | None:
    """The process that holds this home, if any."""
    import fcntl

    try:
        with (home / "runtime.lock").open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return int(lock.read().strip() or 0) or os.getpid()
    except (OSError, ValueError):
        return None
    return None


@click.command("outbox")
@click.argument("action", type=click.Choice(["verify", "dump"]), default="verify")
@click.pass_context
def outbox_command(ctx: click.Context, action: str) -> None:
    """Look into what waits for the broker: `verify` counts and checks it, `dump` prints it."""
    from devicemesh.sink import outbox

    folder = home_of(ctx) / "outbox"
    if not folder.is_dir():
        fail(f"there is no outbox in {home_of(ctx)}", NOT_REACHABLE, "devicemesh run")
    if action == "verify":
        report = outbox.verify(folder)
        for name, value in report.items():
            click.echo(f"{name:<20} {value}")
        sys.exit(PROBLEMS if report.get("corrupt") else 0)
    for line in outbox.dump(folder):
        click.echo(line)
