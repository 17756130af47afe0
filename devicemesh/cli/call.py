"""call: a command of a device, done by the runtime that has its link."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from devicemesh.cli.common import NOT_REACHABLE, PROBLEMS, WRONG_USE, database, fail, namespace_option
from devicemesh.cli.edit import parse_value, stored_model
from devicemesh.cli.plain import as_json, plain
from devicemesh.cli.show import value_text
from devicemesh.store.base import Key, NotFoundError

if TYPE_CHECKING:
    from devicemesh.spec.device import Command, DeviceModel

PATIENCE_S = 60.0


def parse_arguments(command: Command, assignments: Sequence[str]) -> dict[str, Any]:
    """`level=3 ...` as JSON; exits with the first mistake. The runtime checks the rest."""
    known = {one.name: one for one in command.arguments}
    given: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or name not in known:
            takes = " ".join(f"{one}=..." for one in known) or "no arguments"
            fail(f"'{assignment}' is no argument: `{command.name}` takes {takes}", WRONG_USE)
        try:
            one = known[name]
            given[name] = text if one.type == "bytes" else parse_value(text, one.type)
        except ValueError as error:
            fail(f"{name}: {error}", PROBLEMS)
    return given


def ask(url: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The runtime's answer; exits where there is none."""
    headers = {"content-type": "application/json"}
    if token := os.environ.get("DEVICEMESH_API_TOKEN"):
        headers["authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            raw = answer.read()
    except urllib.error.HTTPError as error:
        with error:
            raw = error.read()
    except OSError as error:
        why = getattr(error, "reason", error)
        fail(f"no runtime answers at {url.partition('/api/')[0]}: {why}", NOT_REACHABLE, "devicemesh run")
    try:
        told: dict[str, Any] = json.loads(raw)
    except ValueError:
        fail(f"what answers at {url.partition('/api/')[0]} is no runtime", NOT_REACHABLE, "devicemesh run")
    return told


def _declared(model: DeviceModel, name: str) -> Command:
    from devicemesh.spec.words import suggest

    commands = {one.name: one for one in model.spec.commands}
    if name not in commands:
        hint = suggest(name, commands) or f"it has {', '.join(commands) or 'none'}"
        fail(f"model `{model.metadata.name}` has no command `{name}`: {hint}", PROBLEMS)
    return commands[name]


@click.command("call")
@click.argument("device")
@click.argument("command")
@click.argument("arguments", nargs=-1, metavar="[ARGUMENT=VALUE]...")
@namespace_option
@click.option(
    "--api",
    default="http://127.0.0.1:8080",
    envvar="DEVICEMESH_API_URL",
    show_default=True,
    show_envvar=True,
    help="The runtime that has the device; a token comes from $DEVICEMESH_API_TOKEN.",
)
@click.option("-o", "--output", type=click.Choice(["json"]))
@click.pass_context
def call_command(
    ctx: click.Context,
    device: str,
    command: str,
    arguments: tuple[str, ...],
    namespace: str,
    api: str,
    output: str | None,
) -> None:
    """Run a command once: `call pump-1 reset`, `call pump-1 move position=3`."""
    store = database(ctx)
    name = device.removeprefix("device/")
    try:
        found = store.get(Key("Device", namespace, name))
    except NotFoundError as error:
        fail(str(error), PROBLEMS, "devicemesh get devices")
    model = stored_model(store, namespace, found.model)
    if model is None:
        fail(f"the model of {name} is not in the store", PROBLEMS, "devicemesh apply -f DIR")
    body = parse_arguments(_declared(model, command), arguments)
    answer = ask(f"{api.rstrip('/')}/api/v1/devices/{namespace}/{name}/commands/{command}", body)
    if output == "json":
        click.echo(as_json(answer))
    if answer.get("state") != "applied":
        why = answer.get("message") or answer.get("reason") or answer.get("error") or "no reason given"
        code = NOT_REACHABLE if answer.get("state") == "failed" else PROBLEMS
        fail(f"{command} of {name}: {answer.get('state', 'refused')}: {why}", code)
    if output is None:
        click.echo(f"{command} done", err=True)
        for key, value in answer.get("result", {}).items():
            click.echo(f"{plain(key)} {value_text(value)}")
