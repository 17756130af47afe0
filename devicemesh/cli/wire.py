"""read, trace, discover: straight to a device, no runtime needed."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Awaitable
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote

import click

from devicemesh.cli.common import (
    NOT_REACHABLE,
    PROBLEMS,
    WRONG_USE,
    database,
    fail,
    home_of,
    namespace_option,
)
from devicemesh.cli.plain import as_json, plain, plain_lines
from devicemesh.cli.show import MARKS, value_text
from devicemesh.mapper import (
    ConfigError,
    Found,
    LinkError,
    Mapper,
    MapperError,
    Point,
    Secrets,
    Trace,
    Traceable,
)
from devicemesh.spec.values import ValueType
from devicemesh.store.base import Key, NotFoundError

T = TypeVar("T")


def hex_of(data: bytes) -> str:
    return data.hex(" ")


def mapper_for(uri: str) -> Mapper[Any, Any]:
    """The mapper of a URI's scheme: `modbus://`, `modbus+udp://`."""
    from devicemesh import plugins
    from devicemesh.spec.words import suggest

    protocol = uri.partition("://")[0].partition("+")[0]
    mappers = plugins.load().mappers
    for mapper in mappers.values():
        if protocol in mapper.schemes:
            return mapper
    if protocol not in mappers:
        hint = suggest(protocol, mappers) or f"installed: {', '.join(mappers) or 'none'}"
        fail(f"no installed mapper speaks `{protocol}`: {hint}", WRONG_USE, "devicemesh mappers")
    return mappers[protocol]


def guarded(work: Awaitable[T], again: str) -> T:
    """Run, and turn what can go wrong into a sentence and an exit code."""

    async def run() -> T:
        return await work

    try:
        return asyncio.run(run())
    except ConfigError as error:
        fail(str(error), WRONG_USE, again)
    except LinkError as error:
        fail(str(error), NOT_REACHABLE, "devicemesh doctor")  # to look for things there helps nobody
    except MapperError as error:
        _refused(error, again)


def _refused(error: MapperError, again: str) -> NoReturn:
    fail(str(error), NOT_REACHABLE if error.reason == "NoAnswer" else PROBLEMS, again)


async def traced(mapper: Mapper[Any, Any], point: Point[Any, Any], secrets: Secrets) -> Trace:
    """Read one point over a connection of our own."""
    async with mapper.open(point.endpoint, secrets) as session:
        if not isinstance(session, Traceable):
            raise ConfigError(f"{mapper.protocol} can't show its bytes")
        return await session.trace(point)


@click.command("read")
@click.argument("uri")
@click.argument("address")
@click.option(
    "--as",
    "as_",
    default="all",
    show_default=True,
    type=click.Choice(["all", *(t.value for t in ValueType if t != ValueType.JSON)]),
    help="The type; all: every plausible reading.",
)
@click.option("-o", "--output", type=click.Choice(["json"]))
@click.pass_context
def read_command(ctx: click.Context, uri: str, address: str, as_: str, output: str | None) -> None:
    """Read once, with no file at all: `read modbus://10.0.0.5:502/1 holding:100 --as all`."""
    from devicemesh.cli.interpret import interpretations
    from devicemesh.runtime.secrets import in_home

    mapper = mapper_for(uri)
    try:
        endpoint = mapper.parse_endpoint(uri)
        where = mapper.parse_address(address)
    except (ConfigError, ValueError) as error:
        fail(str(error), WRONG_USE, "devicemesh read --help")
    type_ = _probe_type(where, as_)
    point = Point(0, "default/read", "value", type_, endpoint, where)
    found = guarded(traced(mapper, point, in_home(home_of(ctx))), f"devicemesh discover {shlex.quote(uri)}")
    readings: list[tuple[str, Any]] = [(str(type_), found.value)]
    if type_ == ValueType.JSON:
        readings = [("value", found.value)]
    elif as_ == "all" and type_ != ValueType.BOOL:
        readings = list(interpretations(found.field))
    if output == "json":
        body = {
            "address": address,
            "bytes": hex_of(found.field),
            "readings": {n: _plain(v) for n, v in readings},
        }
        click.echo(as_json(body))
        return
    click.echo(f"{address} = {hex_of(found.field)}")
    width = max(len(name) for name, _ in readings)
    likely = _plausible(readings) if len(readings) > 1 else None
    for name, value in readings:
        click.echo(f"  {name:<{width}}  {_text(value)}{'  ◄ plausible' if name == likely else ''}")


def _probe_type(where: Any, as_: str) -> ValueType:
    """For `all`, four registers would be best, but a device may hold fewer: two show every usual type.

    Where values say their type themselves, as in OPC UA, there is nothing to guess.
    """
    if as_ == "all" and where.refusal(ValueType.JSON, "ReadOnly") is None:
        return ValueType.JSON
    if (
        where.refusal(ValueType.BOOL, "ReadOnly") is None
        and where.refusal(ValueType.FLOAT32, "ReadOnly") is not None
    ):
        return ValueType.BOOL
    return ValueType.UINT32 if as_ == "all" else ValueType(as_)


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


def _text(value: Any) -> str:
    return (
        repr(value)
        if isinstance(value, str)
        else value_text(value)
        if not isinstance(value, bytes)
        else value.hex(" ")
    )


def _plausible(readings: list[tuple[str, Any]]) -> str | None:
    """The name of the float32 that looks most like a measured value: of usual size, with few digits."""
    floats = [(len(f"{v:.7g}"), n) for n, v in readings if n.startswith("float32") and 1e-3 < abs(v) < 1e7]
    return min(floats, default=(0, None))[1]


@click.command("trace")
@click.argument("device")
@click.argument("prop", metavar="PROPERTY")
@namespace_option
@click.option("-o", "--output", type=click.Choice(["json"]))
@click.pass_context
def trace_command(ctx: click.Context, device: str, prop: str, namespace: str, output: str | None) -> None:
    """The way of one value from bytes to number: `trace pump-1 speed`."""
    from devicemesh import plugins
    from devicemesh.runtime.binding import Binder, BoundDevice
    from devicemesh.runtime.binding import point as point_of
    from devicemesh.runtime.secrets import in_home
    from devicemesh.spec.words import suggest

    store = database(ctx)
    try:
        declared = store.get(Key("Device", namespace, device))
    except NotFoundError as error:
        fail(str(error), PROBLEMS, "devicemesh get devices")
    models = {m.key: m for m in store.list("DeviceModel", namespace)}
    bound = Binder(plugins.load().mappers).bind(declared, models)
    if not isinstance(bound, BoundDevice):
        fail(bound.message, PROBLEMS, f"devicemesh describe {device}")
    if prop not in bound.properties:
        hint = suggest(prop, bound.properties)
        fail(f"{device} has no property `{prop}` {hint}".rstrip(), PROBLEMS, f"devicemesh describe {device}")
    one = point_of(bound, prop, 0)
    one = _redirected(ctx, one)
    secrets = in_home(home_of(ctx))
    found = guarded(traced(bound.mapper, one, secrets), f"devicemesh describe {device}")
    unit = bound.properties[prop].spec.unit or ""
    if output == "json":
        body = {
            "request": hex_of(found.request),
            "response": hex_of(found.response),
            "field": hex_of(found.field),
            "steps": list(found.steps),
            "value": _plain(found.value),
            "quality": found.quality.word,
        }
        click.echo(as_json(body))
        return
    from devicemesh.spec.units import symbol

    click.echo(f"→ {hex_of(found.request)}")
    click.echo(f"← {hex_of(found.response)}")
    click.echo(f"  {hex_of(found.field)}")
    for step in found.steps:
        click.echo(plain(f"    {step}"))
    mark = MARKS.get(found.quality.word.split(".")[0], " ")
    click.echo(
        f"{prop} = {value_text(found.value)} {symbol(unit)}".rstrip() + f"   {mark} {found.quality.word}"
    )


def _redirected(ctx: click.Context, one: Point[Any, Any]) -> Point[Any, Any]:
    """Where a simulator stands in for the device, ask that."""
    import dataclasses

    from devicemesh.cli.common import home_of
    from devicemesh.cli.sim import living

    found = living(home_of(ctx))
    address = found["addresses"].get(one.endpoint.link()) if found else None
    return dataclasses.replace(one, endpoint=one.endpoint.redirect(address)) if address else one


@click.command("discover")
@click.argument("where", nargs=-1, required=True, metavar="[PROTOCOL] URI")
@click.option("--path", help="Only what lies below, where the protocol has paths, as in Plant/Pump1.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="yaml: to be applied as it is.")
@click.pass_context
def discover_command(
    ctx: click.Context, where: tuple[str, ...], path: str | None, output: str | None
) -> None:
    """Look for devices behind an address, or for what is inside one.

    \b
    discover modbus://10.0.0.5:502               which units answer, and what they are
    discover modbus://10.0.0.5:502/3             which registers unit 3 has
    discover modbus://10.0.0.9:1502/1 -o yaml    a SunSpec inverter, meter or battery
    discover opcua://10.0.0.5:4840 -o yaml       a model and a device that can be applied
    discover opc.tcp://10.0.0.5:4840 --path Plant/Pump1 -o yaml
    """
    from devicemesh.runtime.secrets import in_home

    *protocol, uri = where
    if len(protocol) > 1:
        raise click.UsageError("give one URI, and before it a protocol at most")
    mapper = mapper_for(f"{protocol[0]}://" if protocol else uri)
    if path:
        uri += f"{'&' if '?' in uri else '?'}path={quote(path)}"

    async def look() -> list[Found]:
        seen = []
        async for found in mapper.discover(uri, in_home(home_of(ctx))):
            _show(found, output)
            seen.append(found)
        return seen  # to its end, whatever is wrong: it closes what it has opened

    seen = guarded(look(), "devicemesh doctor")
    if not seen:
        fail(f"nothing answers at {uri}", NOT_REACHABLE, "devicemesh doctor")
    if output == "yaml" and (dumb := [found.uri for found in seen if not found.manifest]):
        fail(f"{dumb[0]} does not say enough of itself", PROBLEMS, f"devicemesh discover {uri}")


def _show(found: Found, output: str | None) -> None:
    if output == "yaml":
        click.echo(plain_lines(found.manifest), nl=False)
    elif output == "json":
        points = [list(point) for point in found.points]
        body = {"uri": found.uri, "identity": dict(found.identity), "points": points}
        click.echo(as_json(body))
    else:
        who = "  ".join(f"{k} {v}" for k, v in found.identity.items())
        click.echo(plain(f"{found.uri}  {who}".rstrip()))
        for address, sample in found.points:
            click.echo(plain(f"  {address:<24} {sample}"))
