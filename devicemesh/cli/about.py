"""mappers, crd, explain, outbox, version."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator
from typing import Any

import click

from devicemesh import __version__
from devicemesh.cli.common import (
    NOT_REACHABLE,
    PROBLEMS,
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
