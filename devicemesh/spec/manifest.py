"""Manifests: YAML files in, resources and every mistake out, each with file, line and column.

Pure but for `read_files`. Mistakes inside one resource come from pydantic; those between resources (a
model that is not there, a value out of its range, two properties on the same register) from `rules`.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from devicemesh.spec import words
from devicemesh.spec.base import Protocol
from devicemesh.spec.device import Device, DeviceModel
from devicemesh.spec.places import Document, Problem, parse
from devicemesh.spec.rules import ModelLookup, check_device, check_model

KINDS: dict[str, type[Device] | type[DeviceModel]] = {"DeviceModel": DeviceModel, "Device": Device}


@dataclass(frozen=True, slots=True)
class Resource:
    """A declared thing, as it goes into the store."""

    kind: str
    namespace: str
    name: str
    body: dict[str, Any]  # apiVersion, kind, metadata, spec; plain data, defaults left out
    path: str = ""


@dataclass(slots=True)
class Manifest:
    """What was read: nothing may be applied while there are problems."""

    resources: list[Resource] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)  # path -> text, for showing source lines


@dataclass(slots=True)
class _Parsed:
    document: Document
    resource: Device | DeviceModel


def read_files(paths: Sequence[Path]) -> tuple[dict[str, str], list[Problem]]:
    """Read files and folders (their *.yaml and *.yml, sorted). A file that can't be read is a problem."""
    sources: dict[str, str] = {}
    problems: list[Problem] = []
    for path in paths:
        try:
            files = _within(path) if path.is_dir() else [path]
        except OSError as error:  # a folder in it went away meanwhile
            problems.append(Problem(str(path), 1, 1, 1, "no-file", f"can't be read: {error}"))
            continue
        if not files:
            problems.append(Problem(str(path), 1, 1, 1, "no-file", "no *.yaml or *.yml in this folder"))
        for file in files:
            try:
                sources[str(file)] = file.read_text("utf-8")
            except FileNotFoundError:
                problems.append(Problem(str(file), 1, 1, 1, "no-file", "there is no such file"))
            except (OSError, UnicodeDecodeError) as error:
                problems.append(Problem(str(file), 1, 1, 1, "no-file", f"can't be read: {error}"))
    return sources, problems


def _within(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix in (".yaml", ".yml"))


def load(sources: Mapping[str, str], protocols: Mapping[str, Protocol], stored: ModelLookup) -> Manifest:
    """Check everything at once. `stored` finds models that the files refer to but don't hold."""
    read: list[Document] = []
    unreadable: list[Problem] = []
    for path, text in sources.items():
        documents, problems = parse(path, text)
        read += documents
        unreadable += problems
    manifest = check(read, protocols, stored)
    manifest.sources = dict(sources)
    manifest.problems = sorted({*unreadable, *manifest.problems})
    return manifest


def check(documents: Iterable[Document], protocols: Mapping[str, Protocol], stored: ModelLookup) -> Manifest:
    """Check what was read already, wherever its places are: in YAML, or in a table."""
    manifest = Manifest()
    parsed = [one for document in documents for one in _parse(document, manifest.problems)]
    manifest.problems += _twice(parsed)
    models = {
        (p.resource.metadata.namespace, p.resource.metadata.name): p.resource
        for p in parsed
        if isinstance(p.resource, DeviceModel)
    }
    manifest.problems += _link_conflicts(parsed, protocols)
    for one in parsed:
        if isinstance(one.resource, DeviceModel):
            manifest.problems += check_model(one.document, one.resource, protocols)
        else:
            manifest.problems += check_device(one.document, one.resource, protocols, models, stored)
        manifest.resources.append(_resource(one))
    manifest.problems = sorted(set(manifest.problems))
    return manifest


def _parse(document: Document, problems: list[Problem]) -> list[_Parsed]:
    data = document.data
    if not isinstance(data, dict):
        problems.append(
            document.problem(
                document.node, "wrong-type", "a resource is a map that begins with `apiVersion:`"
            )
        )
        return []
    kind = data.get("kind")
    model = KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        place = document.at(("kind",)) if "kind" in data else document.node
        message = f"kind `{kind}` is not known" if "kind" in data else "a resource needs `kind`"
        problems.append(
            document.problem(
                place, "unknown-kind", message, words.suggest(kind, KINDS) or "Device or DeviceModel"
            )
        )
        return []
    try:
        return [_Parsed(document, model.model_validate(data))]
    except ValidationError as error:
        problems.extend(words.problems(document, error, model))
        rescued = _rescue(data, error, model)
        return [_Parsed(document, rescued)] if rescued else []


def _rescue(data: dict[str, Any], error: ValidationError, model: type[Device] | type[DeviceModel]) -> Any:
    """The resource as it was probably meant, so that what refers to it is still checked; or None."""
    data = copy.deepcopy(data)
    for finding in error.errors(include_url=False):
        if finding["type"] == "too_short":
            continue  # of wrong entries, mended below
        *way, last = finding["loc"]
        here: Any = data
        for part in way:
            reached = isinstance(here, list | tuple) or (isinstance(here, dict) and part in here)
            here = here[part] if reached else None
        if isinstance(here, dict) and last in here:
            meant = words.meant(dict(finding))
            if meant is None:
                del here[last]
            else:
                here[last] = meant
    try:
        return model.model_validate(data)
    except ValidationError:
        return None


def _twice(parsed: Sequence[_Parsed]) -> Iterator[Problem]:
    seen: dict[tuple[str, str, str], Document] = {}
    for one in parsed:
        meta = one.resource.metadata
        key = (one.resource.kind, meta.namespace, meta.name)
        if key in seen:
            first = seen[key]
            where = f"{first.path}:{first.at(('metadata', 'name')).start_mark.line + 1 + first.first_line}"
            node = one.document.at(("metadata", "name"))
            yield one.document.problem(
                node, "duplicate-name", f"{key[0]} `{meta.name}` is declared twice; the first is {where}"
            )
        else:
            seen[key] = one.document


def _endpoints(
    parsed: Sequence[_Parsed], protocols: Mapping[str, Protocol]
) -> Iterator[tuple[_Parsed, str, Any]]:
    """(document, protocol, endpoint) of each device; those that are wrong are said by `_check_device`."""
    for one in parsed:
        if isinstance(one.resource, Device):
            protocol, raw = next(iter(one.resource.spec.endpoint.items()))
            with contextlib.suppress(ValidationError):
                if protocol in protocols:
                    yield one, protocol, protocols[protocol].endpoint.model_validate(raw)


def _link_conflicts(parsed: Sequence[_Parsed], protocols: Mapping[str, Protocol]) -> Iterator[Problem]:
    """Devices that share a link must agree on it: it is opened once. Nor can two links have one port."""
    first: dict[tuple[str, str], tuple[Any, str]] = {}
    claimed: dict[tuple[str, str, str], Any] = {}
    listened: dict[tuple[str, int], dict[tuple[str, str], tuple[str, str]]] = {}
    for one, protocol, endpoint in _endpoints(parsed, protocols):
        name, link = one.resource.metadata.name, endpoint.link()
        messages = []
        other, whose = first.setdefault((protocol, link), (endpoint, name))
        if collision := endpoint.conflict(other):
            messages.append(f"{name} and {whose} share {link} but disagree: {collision}")
        if claim := endpoint.claims():
            holder = claimed.setdefault((protocol, link, claim), one.resource)
            if holder is not one.resource:
                messages.append(f"{name} and {holder.metadata.name} are both {claim} at {link}")
        if (place := endpoint.listens()) is not None:
            kind, host, port = place
            here = listened.setdefault((kind, port), {})
            for theirs, (address, who) in here.items():
                if theirs != (protocol, link) and _overlap(host, address):
                    messages.append(f"{name} and {who} need one port for two links: {theirs[1]} and {link}")
            here.setdefault((protocol, link), (host, name))
        node = one.document.at(("spec", "endpoint", protocol))
        for message in messages:
            yield one.document.problem(node, "link-conflict", message)


def _overlap(one: str, other: str) -> bool:
    """Whether nobody can listen at both addresses, on one port."""
    both = (one, other)
    if one == other or "::" in both:
        return True
    return "0.0.0.0" in both and not any(":" in address for address in both)


def _resource(one: _Parsed) -> Resource:
    resource = one.resource
    body = resource.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return Resource(
        resource.kind, resource.metadata.namespace, resource.metadata.name, body, one.document.path
    )
