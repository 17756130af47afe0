"""What declarations ask of each other: addresses that exist, names that are there, values in range. Pure."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal
from typing import Protocol as Shaped

from pydantic import ValidationError

from devicemesh.spec import words
from devicemesh.spec.base import Protocol
from devicemesh.spec.device import AddressOverride, Device, DeviceModel, Property
from devicemesh.spec.places import Document, Problem
from devicemesh.spec.values import ValueType

ModelLookup = Callable[[str, str], "DeviceModel | None"]
"""(namespace, name) -> a model that is already in the store."""


def check_model(
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
    for index, before, why in collisions([(prop.type, address) for prop, address, _ in placed]):
        prop, _, loc = placed[index]
        message = f"{prop.name} and {placed[before][0].name} overlap: {why}"
        yield document.problem(document.at(loc), "overlap", message)


def collisions(placed: Sequence[tuple[ValueType, Any]]) -> Iterator[tuple[int, int, str]]:
    """Which of these types at their addresses read one place as different things: (later, earlier, why)."""
    for index, before in _near(placed):
        (type_, address), (other_type, other) = placed[index], placed[before]
        if why := address.overlap(other, type_, other_type):
            yield index, before, why


def _near(placed: Sequence[tuple[ValueType, Any]]) -> Iterator[tuple[int, int]]:
    """Pairs (later, earlier) of indices whose extents meet, in order; with one that has none all do."""
    extents = [address.extent(type_) for type_, address in placed]
    vague = [index for index, extent in enumerate(extents) if extent is None]
    spaces: dict[Any, list[tuple[int, int, int]]] = {}
    for index, extent in enumerate(extents):
        if extent is not None:
            spaces.setdefault(extent[0], []).append((*extent[1:], index))
    meets: list[list[int]] = [[] for _ in placed]  # of each those before it
    for several in spaces.values():
        open_: list[tuple[int, int]] = []  # (last, index) of those that may reach as far
        for first, last, index in sorted(several):
            open_ = [one for one in open_ if one[0] >= first]
            for _, other in open_:
                meets[max(index, other)].append(min(index, other))
            open_.append((last, index))
    for index, extent in enumerate(extents):
        met = range(index) if extent is None else sorted([*meets[index], *(v for v in vague if v < index)])
        yield from ((index, one) for one in met)


def check_device(
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
