"""import: tables of signals, and configurations of other systems, to models and devices in YAML."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from devicemesh.cli.common import PROBLEMS, WRONG_USE, fail

if TYPE_CHECKING:
    from devicemesh.foreign.systems import Imported
    from devicemesh.mapper import Mapper
    from devicemesh.spec.places import Problem
    from devicemesh.table.columns import Known

WIDTH = 110
"""Columns of the YAML: an address stays on one line."""
FROM = ("kubeedge", "edgex", "telegraf", "thingsboard", "neuron")
OF_TABLES = ("protocol", "model", "endpoint", "device", "given")
"""Options that a configuration has no use for: it says all that by itself."""
NO_TABLES = (".yaml", ".yml", ".json", ".toml", ".conf")


@click.command("import")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--from", "whose", type=click.Choice(FROM), help="Whose configuration; else it is looked at.")
@click.option(
    "--namespace-uri",
    "uris",
    multiple=True,
    metavar="INDEX=URI",
    help="Of OPC UA in a configuration: what ns=INDEX stands for, as in 2=urn:plant.",
)
@click.option("--protocol", help="Of a table: whose addresses these are, as in modbus.  [--endpoint's]")
@click.option("--model", help="Of a table: the DeviceModel's name.  [default: the file's]")
@click.option("--endpoint", metavar="URI", help="Of a table: also a Device, here: modbus://10.0.0.5:502/1")
@click.option("--device", help="Of a table: the Device's name.  [default: the model's and -1]")
@click.option(
    "--column",
    "given",
    multiple=True,
    metavar="NAME=TEXT",
    help="Of a table: what stands in a column that it lacks.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the YAML here, not to stdout.")
@click.pass_context
def import_command(
    ctx: click.Context,
    files: tuple[Path, ...],
    whose: str | None,
    uris: tuple[str, ...],
    protocol: str | None,
    model: str | None,
    endpoint: str | None,
    device: str | None,
    given: tuple[str, ...],
    output: Path | None,
) -> None:
    """Turn what others have into YAML that `validate` accepts.

    FILE is a table of signals (CSV), or the configuration of KubeEdge, EdgeX, Telegraf, the ThingsBoard
    gateway or Neuron, which is recognised; give all its files at once. All mistakes are shown at once, each
    at its place; what was assumed, and what can't be carried over, is said on stderr. See docs/import.md.

    \b
    import meter.csv --protocol modbus
    import meter.csv --endpoint modbus://10.0.0.5:502/1 -o meter.yaml
    import meter.csv --protocol modbus --column table=input --column wordOrder=little
    import nodes.csv --endpoint opcua://10.0.0.5:4840 --device press-1
    import profile.yaml devices.yaml -o factory.yaml
    import /etc/telegraf/telegraf.conf
    """
    from devicemesh.spec.places import dump

    contents = {file: _bytes(file) for file in files}
    if found := _foreign(contents, whose, _namespaces(uris)):
        if unused := [name for name in OF_TABLES if ctx.params[name]]:
            option = "column" if unused[0] == "given" else unused[0]
            fail(
                f"--{option} is for tables: a configuration says it by itself",
                WRONG_USE,
                "devicemesh import --help",
            )
        documents = found.documents
    elif len(files) > 1:
        fail("one table at a time", WRONG_USE, "devicemesh import --help")
    elif not (protocol or endpoint) and files[0].suffix.lower() in NO_TABLES:
        _refuse_unknown(files[0], contents[files[0]])
    else:
        documents = _table(files[0], contents[files[0]], protocol, model, endpoint, device, given)
    _write(dump(documents, WIDTH), documents, output, files)


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        fail(f"can't read {file}: {error.strerror}", PROBLEMS, "devicemesh import --help")


def _write(text: str, documents: list[dict[str, Any]], output: Path | None, files: tuple[Path, ...]) -> None:
    if output is None:
        click.echo(text, nl=False)
        return
    if output.exists() and any(output.samefile(file) for file in files):
        fail(f"{output} is what is read: it would be lost", WRONG_USE, "another name after -o")
    try:
        output.write_text(text, "utf-8")
    except OSError as error:
        again = f"devicemesh import {' '.join(map(str, files))} -o FILE"
        fail(f"can't write {output}: {error.strerror}", PROBLEMS, again)
    models = [one for one in documents if one["kind"] == "DeviceModel"]
    devices = len(documents) - len(models)
    properties = _count(sum(len(one["spec"]["properties"]) for one in models), "propert", "ies", "y")
    if len(models) == 1:
        words = f"{properties} of model {models[0]['metadata']['name']}"
    else:
        words = f"{properties} of {_count(len(models), 'model', 's')}"
    also = f", {_count(devices, 'device', 's')}" if devices else ""
    click.echo(f"{output}: {words}{also}.", err=True)


def _count(number: int, word: str, many: str, one: str = "") -> str:
    return f"{number} {word}{one if number == 1 else many}"


def _namespaces(given: tuple[str, ...]) -> dict[int, str]:
    """`2=urn:plant`: index -> URI."""
    found = {}
    for one in given:
        index, _, uri = one.partition("=")
        if not index.isdecimal() or not uri:
            again = "devicemesh import opcua.json --namespace-uri 2=urn:plant"
            fail(f"--namespace-uri {one}: write it like 2=urn:plant", WRONG_USE, again)
        found[int(index)] = uri
    return found


def _foreign(contents: dict[Path, bytes], whose: str | None, uris: dict[int, str]) -> Imported | None:
    """What was made of configurations; None of a table. Exits with every mistake in them."""
    from devicemesh import plugins
    from devicemesh.foreign import systems
    from devicemesh.table import reading

    sources = {}
    for file, data in contents.items():
        try:
            sources[str(file)] = reading.decode(str(file), data)[0]
        except reading.TableError as error:
            _refuse({str(file): ""}, [error.problem])
    found = systems.bring(sources, plugins.load().protocols(), whose, uris)
    if found is None:
        return None
    for path, title in found.taken.items():
        click.echo(f"{path}: taken for a configuration of {title}", err=True)
    for line in found.said.lines():
        click.echo(line, err=True)
    if found.said.problems:
        _refuse(sources, found.said.problems)
    if not found.documents:
        fail("nothing in it can be carried over", PROBLEMS, "devicemesh import --help")
    return found


def _table(
    file: Path,
    data: bytes,
    protocol: str | None,
    model: str | None,
    endpoint: str | None,
    device: str | None,
    given: tuple[str, ...],
) -> list[dict[str, Any]]:
    from devicemesh.table.words import resource_name

    mapper = _mapper(protocol, endpoint)
    if device and not endpoint:
        fail(
            "a device needs --endpoint, the place where it is reached", WRONG_USE, "devicemesh import --help"
        )
    name = _named(model or resource_name(file.stem) or "model")
    documents = [_model(file, data, mapper, name, given)]
    if endpoint:
        documents.append(_device(mapper, endpoint, name, _named(device or f"{name[:61]}-1")))
    return documents


def _mapper(protocol: str | None, endpoint: str | None) -> Mapper[Any, Any]:
    from devicemesh.cli.wire import mapper_for

    if protocol is None and endpoint is None:
        fail("whose addresses are these?", WRONG_USE, "devicemesh import TABLE.csv --protocol modbus")
    mapper = mapper_for(endpoint or f"{protocol}://")
    if protocol not in (None, mapper.protocol):
        fail(f"{endpoint} is {mapper.protocol}, not {protocol}", WRONG_USE, "devicemesh import --help")
    return mapper


def _named(name: str) -> str:
    """A resource's name; exits where it is none."""
    from pydantic import ValidationError

    from devicemesh.spec.base import first_mistake
    from devicemesh.spec.device import Metadata

    try:
        return Metadata(name=name).name
    except ValidationError as error:
        fail(first_mistake(error), WRONG_USE, "devicemesh import --help")


def _model(
    file: Path, data: bytes, mapper: Mapper[Any, Any], name: str, given: tuple[str, ...]
) -> dict[str, Any]:
    """The model of a table; exits with every mistake in it."""
    from devicemesh.spec.rows import Tabular
    from devicemesh.table import columns, compose, reading

    known = columns.known(
        mapper.protocol, mapper.address_type, mapper.columns if isinstance(mapper, Tabular) else {}
    )
    constants = _constants(given, known)
    text = ""
    try:
        text, note = reading.decode(str(file), data)
        table = reading.find(str(file), text, known.look)
    except reading.TableError as error:
        _refuse({str(file): text}, [error.problem])
    found = compose.compose(table, mapper, known, name, constants)
    for line in (note, *found.notes):
        if line:
            click.echo(f"{file}: {line}", err=True)
    if found.problems:
        _refuse({str(file): text}, found.problems)
    return found.model


def _refuse_unknown(file: Path, data: bytes) -> NoReturn:
    from devicemesh.foreign import systems
    from devicemesh.table import reading

    _refuse({str(file): reading.decode(str(file), data)[0]}, [systems.unknown(str(file))])


def _refuse(sources: dict[str, str], problems: list[Problem]) -> NoReturn:
    from devicemesh.cli.edit import show_problems
    from devicemesh.spec.manifest import Manifest

    show_problems(Manifest(problems=problems, sources=sources), None, "written")
    sys.exit(PROBLEMS)


def _constants(given: tuple[str, ...], known: Known) -> dict[str, str]:
    """`--column table=input`: column -> text."""
    from devicemesh.spec.words import suggest

    found = {}
    for one in given:
        header, equals, text = one.partition("=")
        key = header if header in known.columns else next(iter(known.match([header])), None)
        if not equals or key is None:
            hint = suggest(header, known.columns) or f"columns are {', '.join(known.columns)}"
            why = f"there is no such column: {hint}" if equals else "it says nothing"
            fail(f"--column {one}: {why}", WRONG_USE, "devicemesh import TABLE.csv --column type=float32")
        found[key] = text
    return found


def _device(mapper: Mapper[Any, Any], uri: str, model: str, name: str) -> dict[str, Any]:
    from devicemesh.mapper import ConfigError
    from devicemesh.table import resources

    try:
        endpoint = mapper.parse_endpoint(uri)
    except (ConfigError, ValueError) as error:
        fail(str(error), WRONG_USE, "devicemesh import --help")
    fields = endpoint.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return resources.device(name, model, mapper.protocol, fields)
