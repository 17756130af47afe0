"""get, describe."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from devicemesh.cli.common import (
    NOT_REACHABLE,
    PROBLEMS,
    WRONG_USE,
    Row,
    ago,
    database,
    emit,
    fail,
    home_of,
    namespace_option,
    output_option,
    running_pid,
    table,
)
from devicemesh.cli.plain import as_json, plain
from devicemesh.store.base import Key, NotFoundError, Object, StoreUnavailableError

KINDS = {
    **dict.fromkeys(("device", "devices", "dev"), "Device"),
    **dict.fromkeys(("devicemodel", "devicemodels", "model", "models", "dm"), "DeviceModel"),
}
DEVICE = (("NAME", 0), ("MODEL", 3), ("PROTOCOL", 2), ("READY", 0), ("REASON", 0), ("DESIRED", 1), ("AGE", 0))
NAMESPACE = ("NAMESPACE", 0)
WIDE = (("NAMESPACE", 3), *DEVICE, ("ENDPOINT", 4), ("LABELS", 5), ("MESSAGE", 6))
MODEL = (("NAME", 0), ("PROPERTIES", 0), ("WRITABLE", 1), ("PROTOCOLS", 1), ("AGE", 0))


Columns = tuple[tuple[str, int], ...]


def kind_of(word: str) -> str:
    kind = KINDS.get(word.lower())
    if kind is None:
        fail(
            f"'{word}' is no kind of resource", WRONG_USE, "devicemesh get devices, or: devicemesh get models"
        )
    return kind


def condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """One condition of a status, empty when there is none."""
    return next((c for c in status.get("conditions", ()) if c["type"] == kind), {})


class Endpoints:
    """Endpoints as people read them, in the words of the installed mappers."""

    def __init__(self) -> None:
        from devicemesh import plugins

        self._mappers = plugins.load().mappers

    def of(self, spec: Mapping[str, Any]) -> tuple[str, str, str]:
        """(protocol, endpoint, link); the endpoint as it is declared where its mapper is not installed."""
        protocol, raw = next(iter(spec["endpoint"].items()))
        if protocol not in self._mappers:
            return protocol, json.dumps(raw), ""
        try:
            endpoint = self._mappers[protocol].endpoint_type.model_validate(raw)
        except ValueError:  # another version of the mapper took it
            return protocol, json.dumps(raw), ""
        return protocol, endpoint.text(), endpoint.link()


def device_row(found: Object, now: datetime, endpoints: Endpoints | None) -> Row:
    """A row of the listing, which begins with the namespace; with `endpoints` of the wide one."""
    ready = condition(found.status, "Ready")
    desired = found.status.get("desired") or f"0/{len(found.spec.get('desired', ()))}"
    row = [
        found.key.namespace,
        found.key.name,
        found.model,
        next(iter(found.spec["endpoint"])),
        ready.get("status", "Unknown"),
        ready.get("reason", "NotRunning"),
        "-" if desired == "0/0" else desired,
        ago(found.status.get("lastSeen"), now),
    ]
    if endpoints is None:
        return row
    labels = ",".join(f"{k}={v}" for k, v in found.labels.items()) or "-"
    return [*row, endpoints.of(found.spec)[1], labels, ready.get("message", "")]


def model_row(found: Object, now: datetime) -> Row:
    properties = found.spec["properties"]
    writable = sum(p.get("access", "ReadOnly") != "ReadOnly" for p in properties)
    protocols = sorted({protocol for p in properties for protocol in p.get("address", {})})
    return [
        found.key.namespace,
        found.key.name,
        str(len(properties)),
        str(writable),
        ",".join(protocols) or "-",
        ago(found.created, now),
    ]


def tint(row: Row) -> str | None:
    if "False" in row:
        return "red"
    return "yellow" if "Degraded" in row or "Unknown" in row else None


def select(found: Iterable[Object], labels: str | None, not_ready: bool) -> list[Object]:
    wanted = dict(part.partition("=")[::2] for part in labels.split(",")) if labels else {}
    return [
        one
        for one in found
        if all(one.labels.get(k) == v for k, v in wanted.items())
        and not (not_ready and condition(one.status, "Ready").get("status") == "True")
    ]


@click.command("get")
@click.argument("kind", default="devices")
@click.argument("name", required=False)
@click.option("-n", "--namespace", help="Only this namespace.  [default: all]")
@click.option("-l", "--labels", help="Only with these labels: key=value,...")
@click.option("--not-ready", is_flag=True, help="Only what is not ready.")
@click.option("-w", "--watch", is_flag=True, help="Go on, and print what changes.")
@output_option("wide", "name")
@click.pass_context
def get_command(
    ctx: click.Context,
    kind: str,
    name: str | None,
    namespace: str | None,
    labels: str | None,
    not_ready: bool,
    watch: bool,
    output: str | None,
) -> None:
    """List resources: `get devices`, `get models`, `get device pump-1`."""
    store, kind = database(ctx), kind_of(kind)

    def look() -> list[Object]:
        listed = store.list(kind, namespace)
        if name is not None:
            listed = [one for one in listed if one.key.name == name]
        return select(listed, labels, not_ready)

    if kind == "Device" and not (name or labels or watch or output):
        _print_rows(ctx, store.device_rows(namespace), namespace, not_ready)
        return
    try:
        found = look()
    except StoreUnavailableError as error:
        fail(str(error), NOT_REACHABLE, "devicemesh doctor")
    if name is not None and not found:
        fail(f"there is no {kind} `{name}`", PROBLEMS, f"devicemesh get {kind.lower()}s")
    _print(found, kind, output, alone=name is not None)
    if not found and output is None:
        _nothing(ctx, kind, sifted=bool(namespace or labels or not_ready))
    before = {one.key: _shown(one) for one in found}
    if watch:
        with contextlib.suppress(KeyboardInterrupt):
            _watch(look, before, lambda changed: _print(changed, kind, output, alone=name is not None))


def _watch(
    look: Callable[[], list[Object]],
    before: dict[Key, tuple[Any, ...]],
    show: Callable[[list[Object]], None],
) -> None:
    """Print what changes, for ever; a store that is busy is asked again."""
    while True:
        time.sleep(0.5)
        try:
            now = {one.key: one for one in look()}
        except StoreUnavailableError:
            continue
        changed = [one for key, one in now.items() if before.get(key) != _shown(one)]
        if changed:
            show(changed)
            sys.stdout.flush()
        before = {key: _shown(one) for key, one in now.items()}


def _how_fresh(ctx: click.Context) -> None:
    """Say so when nobody keeps what is shown up to date."""
    if running_pid(home_of(ctx)) is None:
        click.echo("No runtime runs on this home: this is how it was.\nTry: devicemesh run", err=True)


def _nothing(ctx: click.Context, kind: str, *, sifted: bool) -> None:
    if sifted:
        click.echo(f"No {kind} is like that.\nTry: devicemesh get {kind.lower()}s", err=True)
    else:
        click.echo(f"No {kind}s in {home_of(ctx)}.\nTry: devicemesh apply -f DIR", err=True)


def _print_rows(
    ctx: click.Context, found: Iterable[Sequence[str | None]], namespace: str | None, not_ready: bool
) -> None:
    """The plain listing of devices: as quick with ten thousand as with ten."""
    now = datetime.now(UTC)
    rows = [
        [
            str(place), str(name), str(model), str(protocol), ready or "Unknown", reason or "NotRunning",
            "-" if desired in (None, "0/0") else str(desired), ago(seen, now),
        ]
        for place, name, model, protocol, ready, reason, desired, seen in found
        if not (not_ready and ready == "True")
    ]  # fmt: skip
    if rows:
        click.echo(_listed(DEVICE, rows, tint))
        _how_fresh(ctx)
    else:
        _nothing(ctx, "Device", sifted=bool(namespace or not_ready))


def _listed(columns: Columns, rows: Sequence[Row], tint: Callable[[Row], str | None] | None = None) -> str:
    """Rows that begin with the namespace; it is shown where there are several, or a name would mean two."""
    if len({row[0] for row in rows}) > 1:
        return table((NAMESPACE, *columns), rows, tint)
    return table(columns, [row[1:] for row in rows], tint)


def _shown(found: Object) -> tuple[Any, ...]:
    """What a watch compares: everything but the ages."""
    conditions = [(c["type"], c["status"], c["reason"]) for c in found.status.get("conditions", ())]
    return found.version, conditions, found.status.get("desired")


def _print(found: list[Object], kind: str, output: str | None, *, alone: bool) -> None:
    """`alone`: one was asked for, so that one is no list."""
    now = datetime.now(UTC)
    if output in ("json", "yaml"):
        resources = [one.resource() for one in found]
        emit(resources[0] if alone and len(resources) == 1 else resources, output)
    elif output == "name":
        click.echo("".join(f"{kind.lower()}/{one.key.name}\n" for one in found), nl=False)
    elif found and kind == "DeviceModel":
        click.echo(_listed(MODEL, [model_row(one, now) for one in found]))
    elif found and output == "wide":
        endpoints = Endpoints()
        click.echo(table(WIDE, [device_row(one, now, endpoints) for one in found], tint))
    elif found:
        click.echo(_listed(DEVICE, [device_row(one, now, None) for one in found], tint))


@click.command("describe")
@click.argument("words", nargs=-1, required=True, metavar="[device|model] NAME...")
@namespace_option
@output_option()
@click.pass_context
def describe_command(ctx: click.Context, words: tuple[str, ...], namespace: str, output: str | None) -> None:
    """Everything known of a device or model, or of some."""
    kind, names = ("Device", words) if len(words) == 1 else (kind_of(words[0]), words[1:])
    store = database(ctx)
    try:
        found = [store.get(Key(kind, namespace, name)) for name in names]
        neighbours = store.list("Device", namespace) if kind == "Device" else ()
    except NotFoundError as error:
        fail(str(error), PROBLEMS, f"devicemesh get {kind.lower()}s")
    if output or kind == "DeviceModel":
        resources = [one.resource() for one in found]
        emit(resources[0] if len(resources) == 1 else resources, output or "yaml")
    else:
        click.echo("\n\n".join("\n".join(describe_device(one, neighbours)) for one in found))
        _how_fresh(ctx)


def describe_device(found: Object, others: Iterable[Object]) -> list[str]:
    """A device, for people."""
    now = datetime.now(UTC)
    endpoints = Endpoints()
    protocol, endpoint, host = endpoints.of(found.spec)
    shared = [
        o.key.name
        for o in others
        if host and o.key != found.key and endpoints.of(o.spec)[::2] == (protocol, host)
    ]
    labels = ",".join(f"{k}={v}" for k, v in found.labels.items()) or "-"
    ready = condition(found.status, "Ready")
    state = {"True": "Ready", "False": "Offline"}.get(ready.get("status", ""), "Not running")
    state = "Degraded" if ready.get("reason") == "Degraded" else state
    since = f" for {ago(ready.get('lastTransitionTime'), now)}" if ready else ""
    why = f": {ready['message']}" if ready.get("message") else ""
    link = (
        f"   shares {host} with {', '.join(shared[:4])}{' ...' if len(shared) > 4 else ''}" if shared else ""
    )
    lines = [
        f"Name:      {found.key.name:<16} Namespace: {found.key.namespace:<12} Labels: {labels}",
        f"Model:     {found.model:<16} Endpoint:  {protocol} {endpoint}{link}",
        plain(f"State:     {state}{since}{why}"),
    ]
    conditions = [
        [f"  {c['type']}", c["status"], c["reason"], ago(c["lastTransitionTime"], now), c["message"]]
        for c in found.status.get("conditions", ())
    ]
    if conditions:
        lines += [
            "Conditions:",
            table((("  TYPE", 0), ("STATUS", 0), ("REASON", 0), ("SINCE", 0), ("MESSAGE", 0)), conditions),
        ]
    values = [_value_row(p, now) for p in found.status.get("properties", ())]
    if values:
        titles = (
            ("  NAME", 0),
            ("REPORTED", 0),
            ("UNIT", 0),
            ("QUALITY", 0),
            ("AGE", 0),
            ("DESIRED", 0),
            ("APPLIED", 0),
        )
        lines += ["Properties:", table(titles, values)]
    if ready.get("status") != "True":
        name = found.key.name
        lines.append(
            f"Try: devicemesh trace {name} {values[0][0].strip() if values else 'PROPERTY'}"
            if ready
            else "Try: devicemesh run"
        )
    return lines


MARKS = {"Good": "●", "Uncertain": "◐", "Bad": "○"}


def _value_row(entry: Mapping[str, Any], now: datetime) -> Row:
    reported, desired = entry.get("reported", {}), entry.get("desired", {})
    quality = reported.get("quality", "-")
    mark = MARKS.get(quality.split(".")[0], " ")
    applied = desired.get("state", "")
    if applied == "applied":
        applied = f"read back {ago(desired.get('appliedAt'), now)} ago"
    elif desired.get("message"):
        applied = f"{applied}: {desired['message']}"
    return [
        f"  {entry['name']}",
        value_text(reported.get("value")),
        entry.get("unit", ""),
        f"{mark} {quality}",
        ago(reported.get("time"), now),
        value_text(desired["value"]) if desired else "",
        applied,
    ]


def value_text(value: Any) -> str:
    """A value as a cell: never `off` for what nobody knows."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        return as_json(value)  # as it is typed, too
    return f"{value:.7g}" if isinstance(value, float) else plain(str(value))
