"""apply, validate, set, delete."""

from __future__ import annotations

import base64
import contextlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from devicemesh.cli.common import (
    NOT_REACHABLE,
    PROBLEMS,
    STORE,
    WRONG_USE,
    database,
    fail,
    home_of,
    namespace_option,
    paint,
)
from devicemesh.cli.show import kind_of, value_text
from devicemesh.store.base import Key, NotFoundError, StoreUnavailableError

if TYPE_CHECKING:
    from devicemesh.spec.device import DeviceModel
    from devicemesh.spec.manifest import Manifest
    from devicemesh.spec.places import Problem
    from devicemesh.spec.values import ValueType
    from devicemesh.store.database import Database

STDIN = "-"
SHOWN = 200
"""Characters of a line that are shown at most."""

files_option = click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="A YAML file, a folder of them, or - for what is piped in.",
)


def stored_model(store: Database | None, namespace: str, name: str) -> DeviceModel | None:
    """A model of the store, parsed."""
    from devicemesh.spec.device import DeviceModel

    if store is None:
        return None
    try:
        return DeviceModel.model_validate(store.get(Key("DeviceModel", namespace, name)).body)
    except (NotFoundError, ValueError):
        return None


def check(files: Sequence[Path], store: Database | None) -> Manifest:
    """Read and check files against the installed mappers and the store."""
    from devicemesh import plugins
    from devicemesh.spec import manifest
    from devicemesh.spec.places import Problem

    sources, unreadable = manifest.read_files([file for file in files if str(file) != STDIN])
    if Path(STDIN) in files:
        try:
            sources["stdin"] = sys.stdin.buffer.read().decode("utf-8")
        except UnicodeDecodeError as error:
            unreadable.append(Problem("stdin", 1, 1, 1, "no-file", f"can't be read: {error}"))
    found = manifest.load(sources, plugins.load().protocols(), lambda ns, name: stored_model(store, ns, name))
    found.problems = sorted([*unreadable, *found.problems])
    return found


def show_problems(found: Manifest, output: str | None, verb: str) -> None:
    """Every mistake on stdout; with its line and a caret where a person looks."""
    if output == "json":
        names = ("path", "line", "column", "width", "code", "message", "help")
        click.echo(json.dumps([{n: getattr(p, n) for n in names} for p in found.problems], indent=2))
        return
    for problem in found.problems:
        if output == "github":
            message = f"{problem.code}: {problem.message} {problem.help}".rstrip()
            click.echo(f"::error file={problem.path},line={problem.line},col={problem.column}::{message}")
        else:
            _show_problem(problem, found.sources.get(problem.path, ""))
    paths = sorted({p.path for p in found.problems})
    where = paths[0] if len(paths) == 1 else f"{len(paths)} files"
    count = len(found.problems)
    click.echo(f"{count} problem{'s' if count != 1 else ''} in {where}. Nothing was {verb}.", err=True)
    click.echo(f"Try: devicemesh explain {found.problems[0].code}", err=True)


def _show_problem(problem: Problem, source: str) -> None:
    place = f"{problem.path}:{problem.line}:{problem.column}:"
    click.echo(f"{place} {paint(problem.code, 'red')} {problem.message}")
    lines = source.splitlines()
    if problem.line <= len(lines) and problem.code != "no-file":
        number = str(problem.line)
        caret = "^" * min(problem.width, 60)
        line = lines[problem.line - 1].replace("\t", " ")
        left = max(0, problem.column - SHOWN // 2) if len(line) > SHOWN else 0  # of a long line, the part
        click.echo(f"{number} │ {line[left : left + SHOWN]}")
        help_ = f"  {paint(problem.help, 'cyan')}" if problem.help else ""
        click.echo(f"{' ' * len(number)} │ {' ' * (problem.column - 1 - left)}{paint(caret, 'red')}{help_}")
    elif problem.help:
        click.echo(f"    {problem.help}")


@click.command("validate")
@files_option
@click.option("-o", "--output", type=click.Choice(["json", "github"]), help="Print the problems as data.")
@click.pass_context
def validate_command(ctx: click.Context, files: tuple[Path, ...], output: str | None) -> None:
    """Check YAML files: all mistakes at once, each with file:line:column."""
    there = (home_of(ctx) / STORE).exists()  # none is made: a build server may have no home, or not its own
    found = check(files, database(ctx) if there else None)
    if found.problems:
        show_problems(found, output, "changed")
        sys.exit(PROBLEMS)
    if output == "json":
        click.echo("[]")
    else:
        count = len(found.resources)
        click.echo(
            f"{count} resource{'s' if count != 1 else ''} in {len(found.sources)} file(s): no problems.",
            err=True,
        )


@click.command("apply")
@files_option
@click.option(
    "-o", "--output", type=click.Choice(["json", "github", "name"]), help="Print the outcome as data."
)
@click.pass_context
def apply_command(ctx: click.Context, files: tuple[Path, ...], output: str | None) -> None:
    """Declare the resources of YAML files: all of them, or with any mistake none."""
    store = database(ctx)
    found = check(files, store)
    if found.problems:
        show_problems(found, None if output == "name" else output, "applied")
        sys.exit(PROBLEMS)
    try:
        done = store.apply([r.body for r in sorted(found.resources, key=lambda r: r.kind != "DeviceModel")])
    except StoreUnavailableError as error:
        fail(str(error), NOT_REACHABLE, "devicemesh doctor")
    if output == "json":
        click.echo(
            json.dumps(
                [{"kind": k.kind, "namespace": k.namespace, "name": k.name, "outcome": o} for k, o in done]
            )
        )
        return
    for key, outcome in done:
        click.echo(
            f"{key.kind.lower()}/{key.name}"
            if output == "name"
            else f"{key.kind.lower()}/{key.name} {outcome}"
        )


@click.command("delete")
@click.argument("kind", required=False)
@click.argument("names", nargs=-1)
@click.option(
    "-f", "--file", "files", multiple=True, type=click.Path(path_type=Path), help="All that these declare."
)
@namespace_option
@click.pass_context
def delete_command(
    ctx: click.Context, kind: str | None, names: tuple[str, ...], files: tuple[Path, ...], namespace: str
) -> None:
    """Remove resources: `delete device pump-1`, or `delete -f DIR`."""
    store = database(ctx)
    if files and kind is None:
        found = check(files, store)
        if found.problems:
            show_problems(found, None, "deleted")
            sys.exit(PROBLEMS)
        keys = [Key(r.kind, r.namespace, r.name) for r in found.resources]
    elif kind and names and not files:
        keys = [Key(kind_of(kind), namespace, name) for name in dict.fromkeys(names)]
    else:
        fail("say what to delete", WRONG_USE, "devicemesh delete device NAME, or: devicemesh delete -f DIR")
    missing = [key for key in keys if not _exists(store, key)]
    if missing and not files:  # a misspelt name: nothing is deleted of the others
        gone = ", ".join(f"`{key.name}`" for key in missing)
        kind = missing[0].kind
        fail(
            f"there is no {kind} {gone} in namespace {namespace}", PROBLEMS, f"devicemesh get {kind.lower()}s"
        )
    for key in missing:
        click.echo(f"{key.kind.lower()}/{key.name} is not there", err=True)
    keys = [key for key in keys if key not in missing]
    going = set(keys)
    for key in (k for k in keys if k.kind == "DeviceModel"):
        users = [
            d.key.name
            for d in store.list("Device", key.namespace)
            if d.model == key.name and d.key not in going
        ]
        if users:
            fail(
                f"model `{key.name}` is used by {', '.join(users[:5])}",
                PROBLEMS,
                f"devicemesh delete device {users[0]}",
            )
    for key in sorted(keys):  # Device before DeviceModel
        with contextlib.suppress(NotFoundError):  # somebody else was quicker
            store.delete(key)
        click.echo(f"{key.kind.lower()}/{key.name} deleted")


def _exists(store: Database, key: Key) -> bool:
    try:
        store.get(key)
    except NotFoundError:
        return False
    return True


def parse_value(text: str, type_: ValueType) -> Any:
    """A value as it was typed, of this type. Raises ValueError."""
    from devicemesh.spec.places import plain
    from devicemesh.spec.values import ValueType

    if type_ == ValueType.STRING:
        return text
    if type_ == ValueType.BYTES:
        return base64.b64encode(bytes.fromhex(text)).decode()
    if type_ == ValueType.BOOL:
        words = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
        if text.lower() not in words:
            raise ValueError(f"{text!r} is not true or false")
        return words[text.lower()]
    return json.loads(text) if type_ == ValueType.JSON else plain(text)


def _parse_assignments(assignments: Sequence[str], model: DeviceModel) -> dict[str, Any]:
    """`speed=1200 ...`; exits with every refusal."""
    from devicemesh.spec.words import suggest

    properties = {p.name: p for p in model.spec.properties}
    values: dict[str, Any] = {}
    refused: list[str] = []
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        prop = properties.get(name)
        if not equals:
            fail(f"'{assignment}' sets nothing", WRONG_USE, "devicemesh set DEVICE property=value")
        if prop is None:
            hint = suggest(name, properties)
            refused.append(f"there is no property `{name}`{': ' if hint else ''}{hint}")
            continue
        try:
            value = None if text == "" else parse_value(text, prop.type)
            refusal = prop.refusal(value) if value is not None else None
        except ValueError as error:
            refusal = str(error)
        if refusal:
            refused.append(refusal)
        else:
            values[name] = value
    if refused:
        fail("; ".join(refused), PROBLEMS, f"devicemesh describe model {model.metadata.name}")
    return values


@click.command("set")
@click.argument("device")
@click.argument("assignments", nargs=-1, required=True, metavar="PROPERTY=VALUE...")
@namespace_option
@click.option("--wait", is_flag=True, help="Until it is applied, or refused.")
@click.option("--timeout", default=10.0, show_default=True, help="Seconds to wait at most.")
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@click.pass_context
def set_command(
    ctx: click.Context,
    device: str,
    assignments: tuple[str, ...],
    namespace: str,
    wait: bool,
    timeout: float,
    yes: bool,
) -> None:
    """Set desired values: `set pump-1 speed=1200 --wait`. `speed=` takes one back. Bytes are hexadecimal."""
    store = database(ctx)
    key = Key("Device", namespace, device.removeprefix("device/"))
    try:
        found = store.get(key)
    except NotFoundError as error:
        fail(str(error), PROBLEMS, "devicemesh get devices")
    model = stored_model(store, namespace, found.model)
    if model is None:
        fail(
            f"its model `{found.model}` is not in the store",
            PROBLEMS,
            "devicemesh apply -f DIR",
        )
    values = _parse_assignments(assignments, model)
    now = {p["name"]: p for p in found.status.get("properties", ())}
    for name, value in values.items():
        entry = now.get(name, {})
        unit = entry.get("unit", "")
        before = f"{value_text(entry.get('reported', {}).get('value'))} {unit}".rstrip()
        after = f"{value_text(value)} {unit}".rstrip() if value is not None else "no desired value"
        click.echo(f"{name} {before} → {after} on {key.name}", err=True)
    if not yes and sys.stdin.isatty() and sys.stdout.isatty():
        click.confirm("Write?", abort=True, err=True)
    started = time.monotonic()
    changed = store.set_desired(key, values, "cli")
    if wait:
        _wait(store, key, values, changed.generation, started, timeout)


def _wait(
    store: Database, key: Key, values: Mapping[str, Any], generation: int, started: float, timeout: float
) -> None:
    """Until every value is applied (exit 0) or one is refused (1), or nobody does anything (3)."""
    waiting: list[str] = list(values)
    while time.monotonic() - started < timeout:
        found = store.get(key)
        entries = {p["name"]: p for p in found.status.get("properties", ())}
        fresh = found.status.get("observedGeneration", 0) >= generation
        states = {n: entries.get(n, {}).get("desired", {}) for n, v in values.items() if v is not None}
        waiting = [n for n, s in states.items() if s.get("state") not in ("applied", "refused")]
        if fresh and not waiting:
            took = (time.monotonic() - started) * 1e3
            _report(key, states, entries, took)
            return
        time.sleep(0.05)
    ready = next((c for c in store.get(key).status.get("conditions", ()) if c["type"] == "Ready"), None)
    if ready is None:
        fail("no runtime has looked at it", NOT_REACHABLE, "devicemesh run")
    why = ready["message"] or "it has not been written yet"
    fail(f"{', '.join(waiting) or key.name}: {why}", NOT_REACHABLE, f"devicemesh describe {key.name}")


def _report(
    key: Key,
    states: Mapping[str, Mapping[str, Any]],
    entries: Mapping[str, Mapping[str, Any]],
    took_ms: float,
) -> None:
    refused = [
        f"{name}: {state.get('message')}" for name, state in states.items() if state["state"] == "refused"
    ]
    if refused:
        fail(f"refused: {'; '.join(refused)}", PROBLEMS, f"devicemesh describe {key.name}")
    for name in states:
        entry = entries[name]
        unit = entry.get("unit", "")
        got = value_text(entry["reported"]["value"])
        click.echo(f"{name} written in {took_ms:.0f} ms, read back {got} {unit}".rstrip())
