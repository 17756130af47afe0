"""import: a table of signals to a model, and a device, in YAML."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from devicemesh.cli.common import PROBLEMS, WRONG_USE, fail

if TYPE_CHECKING:
    from devicemesh.mapper import Mapper
    from devicemesh.spec.places import Problem
    from devicemesh.table.columns import Known

WIDTH = 110
"""Columns of the YAML: an address stays on one line."""


@click.command("import")
@click.argument("file", metavar="TABLE.csv", type=click.Path(path_type=Path))
@click.option("--protocol", help="Whose addresses these are, as in modbus; by default that of --endpoint.")
@click.option("--model", help="The DeviceModel's name.  [default: the file's]")
@click.option("--endpoint", metavar="URI", help="Also a Device, reached here: modbus://10.0.0.5:502/1")
@click.option("--device", help="The Device's name.  [default: the model's and -1]")
@click.option(
    "--column",
    "given",
    multiple=True,
    metavar="NAME=TEXT",
    help="What stands in a column that the table lacks.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the YAML here, not to stdout.")
def import_command(
    file: Path,
    protocol: str | None,
    model: str | None,
    endpoint: str | None,
    device: str | None,
    given: tuple[str, ...],
    output: Path | None,
) -> None:
    """Turn a table of signals, as CSV, into YAML that `validate` accepts.

    Columns are found by their headers, in any order: name, address, type, unit, scale, access, minimum,
    maximum, description, and every field that an address of the protocol has. All mistakes are shown at
    once, each at its cell; what was assumed is said on stderr. See docs/import.md.

    \b
    import meter.csv --protocol modbus
    import meter.csv --endpoint modbus://10.0.0.5:502/1 -o meter.yaml
    import meter.csv --protocol modbus --column table=input --column wordOrder=little
    import nodes.csv --endpoint opcua://10.0.0.5:4840 --device press-1
    """
    from devicemesh.spec.places import dump
    from devicemesh.table.words import resource_name

    mapper = _mapper(protocol, endpoint)
    if device and not endpoint:
        fail(
            "a device needs --endpoint, the place where it is reached", WRONG_USE, "devicemesh import --help"
        )
    name = _named(model or resource_name(file.stem) or "model")
    documents = [_model(file, mapper, name, given)]
    if endpoint:
        documents.append(_device(mapper, endpoint, name, _named(device or f"{name[:61]}-1")))
    text = dump(documents, WIDTH)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, "utf-8")
    except OSError as error:
        fail(f"can't write {output}: {error.strerror}", PROBLEMS, f"devicemesh import {file} -o FILE")
    count = len(documents[0]["spec"]["properties"])
    click.echo(f"{output}: {count} propert{'y' if count == 1 else 'ies'} of model {name}.", err=True)


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


def _model(file: Path, mapper: Mapper[Any, Any], name: str, given: tuple[str, ...]) -> dict[str, Any]:
    """The model of a table; exits with every mistake in it."""
    from devicemesh.spec.rows import Tabular
    from devicemesh.table import columns, compose, reading

    known = columns.known(
        mapper.protocol, mapper.address_type, mapper.columns if isinstance(mapper, Tabular) else {}
    )
    constants = _constants(given, known)
    try:
        data = file.read_bytes()
    except OSError as error:
        fail(f"can't read {file}: {error.strerror}", PROBLEMS, "devicemesh import --help")
    text = ""
    try:
        text, note = reading.decode(str(file), data)
        table = reading.find(str(file), text, known.look)
    except reading.TableError as error:
        _refuse(file, text, [error.problem])
    found = compose.compose(table, mapper, known, name, constants)
    for line in (note, *found.notes):
        if line:
            click.echo(f"{file}: {line}", err=True)
    if found.problems:
        _refuse(file, text, found.problems)
    return found.model


def _refuse(file: Path, text: str, problems: list[Problem]) -> None:
    from devicemesh.cli.edit import show_problems
    from devicemesh.spec.manifest import Manifest

    show_problems(Manifest(problems=problems, sources={str(file): text}), None, "written")
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
    from devicemesh.spec.device import API_VERSION
    from devicemesh.spec.places import Inline

    try:
        endpoint = mapper.parse_endpoint(uri)
    except (ConfigError, ValueError) as error:
        fail(str(error), WRONG_USE, "devicemesh import --help")
    fields = endpoint.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return {
        "apiVersion": API_VERSION,
        "kind": "Device",
        "metadata": Inline(name=name),
        "spec": {"modelRef": Inline(name=model), "endpoint": Inline({mapper.protocol: Inline(fields)})},
    }
