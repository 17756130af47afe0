"""Manifests: YAML files in, resources and every mistake out, each with file, line and column.

Pure but for `read_files`. Mistakes inside one resource come from pydantic; those between resources (a
model that is not there, a value out of its range, two properties on the same register) are found here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from typing import Protocol as Shaped

from pydantic import ValidationError

from devicemesh.spec import words
from devicemesh.spec.base import Protocol
from devicemesh.spec.device import AddressOverride, Device, DeviceModel, Property
from devicemesh.spec.places import Document, Problem, parse

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


ModelLookup = Callable[[str, str], "DeviceModel | None"]
"""(namespace, name) -> a model that is already in the store."""


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
            manifest.problems += _check_model(one.document, one.resource, protocols)
        else:
            manifest.problems += _check_device(one.document, one.resource, protocols, models, stored)
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


def _link_conflicts(parsed: Sequence[_Parsed], protocols: Mapping[str, Protocol]) -> Iterator[Problem]:
    """Devices that share a link must agree on it: it is opened once."""
    first: dict[tuple[str, str], tuple[Any, str]] = {}
    for one in parsed:
        if not isinstance(one.resource, Device):
            continue
        protocol, raw = next(iter(one.resource.spec.endpoint.items()))
        known = protocols.get(protocol)
        try:
            endpoint: Any = known.endpoint.model_validate(raw) if known else None
        except ValidationError:
            continue  # said by `_check_device`
        if endpoint is None:
            continue
        name = one.resource.metadata.name
        other, whose = first.setdefault((protocol, endpoint.link()), (endpoint, name))
        if collision := endpoint.conflict(other):
            message = f"{name} and {whose} share {endpoint.link()} but disagree: {collision}"
            node = one.document.at(("spec", "endpoint", protocol))
            yield one.document.problem(node, "link-conflict", message)


def _check_model(
    document: Document, model: DeviceModel, protocols: Mapping[str, Protocol]
) -> Iterator[Problem]:
    yield from _names_once(document, ("spec", "properties"), "property", model.spec.properties)
    by_protocol: dict[str, list[tuple[Property, Any, tuple[int | str, ...]]]] = {}
    for index, prop in enumerate(model.spec.properties):
        yield from _names_once(document, ("spec", "properties", index, "alarms"), "alarm", prop.alarms)
        for protocol, raw in prop.address.items():
            loc: tuple[int | str, ...] = ("spec", "properties", index, "address", protocol)
            address = yield from _address(document, loc, protocol, raw, prop, protocols)
            if address is not None:
                by_protocol.setdefault(protocol, []).append((prop, address, loc))
    for placed in by_protocol.values():
        yield from _overlaps(document, placed)
    properties = {p.name: p for p in model.spec.properties}
    yield from _names_once(document, ("spec", "commands"), "command", model.spec.commands)
    yield from _names_once(document, ("spec", "events"), "event", model.spec.events)
    for i, command in enumerate(model.spec.commands):
        for j, write in enumerate(command.writes):
            loc = ("spec", "commands", i, "writes", j)
            yield from _wanted(document, loc, "property", write.property, write.value, model, properties)
        yield from _places(document, ("spec", "commands", i), "command", command.address, protocols)
    for i, event in enumerate(model.spec.events):
        yield from _places(document, ("spec", "events", i), "event", event.address, protocols)


class _Named(Shaped):
    @property
    def name(self) -> str: ...


def _names_once(
    document: Document, loc: tuple[int | str, ...], what: str, named: Sequence[_Named]
) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, one in enumerate(named):
        if one.name in seen:
            node = document.at((*loc, index, "name"))
            yield document.problem(node, "duplicate-name", f"{what} `{one.name}` is declared twice")
        seen.add(one.name)


def _places(
    document: Document,
    loc: tuple[int | str, ...],
    part: Literal["command", "event"],
    address: Mapping[str, Any],
    protocols: Mapping[str, Protocol],
) -> Iterator[Problem]:
    """Check where a call, or a source of events, lives."""
    for protocol, raw in address.items():
        here = (*loc, "address", protocol)
        known = protocols.get(protocol)
        if known is None:
            yield _unknown_protocol(document, here, protocol, protocols)
            continue
        shape = known.command if part == "command" else known.event
        if shape is None:
            can = "calls nothing" if part == "command" else "tells of no events"
            yield document.problem(document.key_at(here), "wrong-address", f"{protocol} {can}")
            continue
        try:
            shape.model_validate(raw)
        except ValidationError as error:
            yield from words.problems(document, error, shape, here)


def _address(
    document: Document,
    loc: tuple[int | str, ...],
    protocol: str,
    raw: Any,
    prop: Property,
    protocols: Mapping[str, Protocol],
) -> Generator[Problem, None, Any]:
    """Yield problems; return the parsed address, or None."""
    known = protocols.get(protocol)
    if known is None:
        yield _unknown_protocol(document, loc, protocol, protocols)
        return None
    try:
        address = known.address.model_validate(raw)
    except ValidationError as error:
        yield from words.problems(document, error, known.address, loc)
        return None
    refusal = address.refusal(prop.type, prop.access)  # type: ignore[attr-defined]
    if refusal:
        yield document.problem(document.at(loc), "wrong-address", f"{prop.name}: {refusal}")
    return address


def _unknown_protocol(
    document: Document, loc: tuple[int | str, ...], protocol: str, protocols: Mapping[str, Protocol]
) -> Problem:
    help_ = (
        words.suggest(protocol, protocols)
        or f"pip install devicemesh-{protocol}, or one of {', '.join(protocols)}"
    )
    return document.problem(
        document.key_at(loc), "unknown-protocol", f"no installed mapper speaks `{protocol}`", help_
    )


def _overlaps(
    document: Document, placed: Sequence[tuple[Property, Any, tuple[int | str, ...]]]
) -> Iterator[Problem]:
    for index, (prop, address, loc) in enumerate(placed):
        for other, other_address, _ in placed[:index]:
            collision = address.overlap(other_address, prop.type, other.type)
            if collision:
                message = f"{prop.name} and {other.name} overlap: {collision}"
                yield document.problem(document.at(loc), "overlap", message)


def _check_device(
    document: Document,
    device: Device,
    protocols: Mapping[str, Protocol],
    models: Mapping[tuple[str, str], Any],
    stored: ModelLookup,
) -> Iterator[Problem]:
    protocol, raw = next(iter(device.spec.endpoint.items()))
    known = protocols.get(protocol)
    loc: tuple[int | str, ...] = ("spec", "endpoint", protocol)
    if known is None:
        yield _unknown_protocol(document, loc, protocol, protocols)
    else:
        try:
            known.endpoint.model_validate(raw)
        except ValidationError as error:
            yield from words.problems(document, error, known.endpoint, loc)
    namespace, ref = device.metadata.namespace, device.spec.model_ref.name
    model = models.get((namespace, ref)) or stored(namespace, ref)
    if model is None:
        near = [name for ns, name in models if ns == namespace]
        node = document.at(("spec", "modelRef", "name"))
        yield document.problem(
            node,
            "unknown-model",
            f"no DeviceModel `{ref}` in these files or in the store",
            words.suggest(ref, near),
        )
        model = next((models[namespace, n] for n in near if words.suggest(ref, [n])), None)
    if model is not None:
        yield from _check_against(document, device, model, protocol, protocols)


def _check_against(
    document: Document, device: Device, model: DeviceModel, protocol: str, protocols: Mapping[str, Protocol]
) -> Iterator[Problem]:
    properties = {p.name: p for p in model.spec.properties}
    placed = {p.name for p in model.spec.properties if protocol in p.address}
    yield from _names_once(document, ("spec", "properties"), "override of", device.spec.properties)
    for index, override in enumerate(device.spec.properties):
        loc: tuple[int | str, ...] = ("spec", "properties", index)
        prop = properties.get(override.name)
        if prop is None:
            yield _unknown_property(document, (*loc, "name"), override.name, model, properties)
            continue
        if protocol in override.address:
            placed.add(override.name)
            raw = override.address[protocol]
            yield from _address(document, (*loc, "address", protocol), protocol, raw, prop, protocols)
        try:
            prop.overridden(override)
        except ValueError as error:
            yield document.problem(document.at(loc), "wrong-value", str(error))
    yield from _check_overrides(document, device, model, protocols)
    missing = [name for name in properties if name not in placed]
    if missing and protocol in protocols:
        node = document.at(("spec", "modelRef", "name"))
        message = f"model `{model.metadata.name}` has no {protocol} address for {', '.join(missing)}"
        yield document.problem(
            node, "no-address", message, "give it in the model, or in this device's `properties`"
        )
    yield from _names_once(document, ("spec", "desired"), "desired", device.spec.desired)
    for index, wanted in enumerate(device.spec.desired):
        loc = ("spec", "desired", index)
        yield from _wanted(document, loc, "name", wanted.name, wanted.value, model, properties)


def _check_overrides(
    document: Document, device: Device, model: DeviceModel, protocols: Mapping[str, Protocol]
) -> Iterator[Problem]:
    """The addresses of calls and event sources that are the device's own."""
    calls = {one.name for one in model.spec.commands if one.is_call}
    sources = {one.name for one in model.spec.events}
    parts: list[tuple[Literal["command", "event"], set[str], Sequence[AddressOverride]]] = [
        ("command", calls, device.spec.commands),
        ("event", sources, device.spec.events),
    ]
    for part, known, overrides in parts:
        yield from _names_once(document, ("spec", f"{part}s"), "override of", overrides)
        for index, override in enumerate(overrides):
            loc: tuple[int | str, ...] = ("spec", f"{part}s", index)
            yield from _places(document, loc, part, override.address, protocols)
            if override.name not in known:
                what = "call" if part == "command" else "event source"
                message = f"model `{model.metadata.name}` has no {what} `{override.name}`"
                node = document.at((*loc, "name"))
                yield document.problem(node, "unknown-name", message, words.suggest(override.name, known))


def _wanted(
    document: Document,
    loc: tuple[int | str, ...],
    key: str,
    name: str,
    value: Any,
    model: DeviceModel,
    properties: Mapping[str, Property],
) -> Iterator[Problem]:
    prop = properties.get(name)
    if prop is None:
        yield _unknown_property(document, (*loc, key), name, model, properties)
        return
    refusal = prop.refusal(value)
    if refusal:
        code = (
            "read-only"
            if prop.access == "ReadOnly"
            else "out-of-range"
            if "imum" in refusal
            else "wrong-type"
        )
        node = document.at((*loc, key if code == "read-only" else "value"))
        yield document.problem(node, code, refusal)


def _unknown_property(
    document: Document, loc: tuple[int | str, ...], name: str, model: DeviceModel, properties: Iterable[str]
) -> Problem:
    message = f"model `{model.metadata.name}` has no property `{name}`"
    return document.problem(document.at(loc), "unknown-property", message, words.suggest(name, properties))


def _resource(one: _Parsed) -> Resource:
    resource = one.resource
    body = resource.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return Resource(
        resource.kind, resource.metadata.namespace, resource.metadata.name, body, one.document.path
    )
