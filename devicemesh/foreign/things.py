"""What was understood of a configuration, and its way into models and devices. Pure."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from devicemesh.foreign.tree import Branch, Loc, Said
from devicemesh.spec import manifest, units
from devicemesh.spec.base import Protocol
from devicemesh.spec.places import Document, Inline
from devicemesh.spec.rules import collisions
from devicemesh.spec.values import ValueType, mismatch
from devicemesh.table import nodes, resources, words
from devicemesh.table.reading import Cell

SHOWN = 3
"""Examples that a note gives."""
_WHERE = ("address", "attributes", "visitors", "modbus", "bluetooth", "id", "identifier")
"""What a signal's place is called by one system or another."""


@dataclass(slots=True, eq=False)
class Signal:
    """A property on its way."""

    at: Branch
    name: str
    type: ValueType
    address: dict[str, Any]
    """Of the protocol, as in YAML."""
    unit: str = ""
    description: str = ""
    access: str = "ReadOnly"
    minimum: float | None = None
    maximum: float | None = None
    telemetry: dict[str, Any] = field(default_factory=dict)
    apart: str = ""
    """What tells it from another of its name, as the group that it is in."""


@dataclass(slots=True)
class Order:
    """A command on its way: a group of writes."""

    name: str
    writes: Sequence[tuple[Signal, Any]]


@dataclass(slots=True)
class Thing:
    """A device on its way."""

    at: Branch
    name: str
    signals: list[Signal]
    protocol: str
    endpoint: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    """What its type is called; "": nobody has a name for it, and equal ones are one."""
    orders: Sequence[Order] = ()
    desired: Sequence[tuple[Signal, Any]] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: str = ""
    paused: bool = False
    lone: bool = False
    """Only the model is meant: nobody has such a device."""


def compose(things: Iterable[Thing], protocols: Mapping[str, Protocol], said: Said) -> list[dict[str, Any]]:
    """The resources, each model before its first device; what is wrong with them goes into `said`."""
    house = _House(said)
    for thing in things:
        for one in _apart(thing, protocols):
            house.add(one)
    house.tell_names()
    found = manifest.check(house.checked, protocols, lambda namespace, name: None)
    said.problems = sorted({*said.problems, *found.problems})
    return house.documents


def _apart(thing: Thing, protocols: Mapping[str, Protocol]) -> Iterator[Thing]:
    """The thing; what reads registers of others as something else is a device of its own beside it."""
    name, model = thing.name, thing.model
    rest, number = _colliding(thing, protocols), 2
    while rest:
        other = replace(thing, name=f"{name}-{number}", signals=rest, orders=(), desired=())
        other.model = model and f"{model}-{number}"
        rest[0].at.tell(
            f"`{rest[0].name}` reads registers of another as something else: it is in `{other.name}`"
        )
        thing.signals = [one for one in thing.signals if one not in rest]
        kept = set(map(id, thing.signals))
        thing.orders = [one for one in thing.orders if all(id(signal) in kept for signal, _ in one.writes)]
        thing.desired = [one for one in thing.desired if id(one[0]) in kept]
        yield thing
        thing, number = other, number + 1
        rest = _colliding(thing, protocols)
    yield thing


def _colliding(thing: Thing, protocols: Mapping[str, Protocol]) -> list[Signal]:
    """The signals that overlap one before them which stays."""
    shape = protocols.get(thing.protocol)
    if shape is None:
        return []
    placed = []
    for one in thing.signals:
        with contextlib.suppress(ValidationError):  # said where the whole is checked
            placed.append((one, shape.address.model_validate(one.address)))
    gone: set[int] = set()
    for later, before, _ in collisions([(one.type, address) for one, address in placed]):
        if before not in gone:
            gone.add(later)
    return [placed[index][0] for index in sorted(gone)]


class _House:
    def __init__(self, said: Said) -> None:
        self.documents: list[dict[str, Any]] = []
        self.checked: list[Document] = []
        self._said = said
        self._models: dict[str, tuple[str, dict[str, Any]]] = {}  # what it is -> its name, its telemetry
        self._taken: dict[tuple[str, str], dict[str, int]] = {}  # of a kind in a namespace
        self._renamed: dict[str, Branch] = {}

    def add(self, thing: Thing) -> None:
        if not thing.signals:
            if not self._said.problems:  # what it has may be among them
                thing.at.tell(f"`{thing.name}` is left out: it has nothing that can be read or written")
            return
        names = self._names(thing.signals)
        model_name, told = self._model(thing, names)
        if thing.lone:
            return
        other = [one for one in thing.signals if one.telemetry != told[names[one]]]
        more = {
            "namespace": thing.namespace,
            "labels": dict(thing.labels),
            "properties": [Inline(name=names[one], telemetry=Inline(one.telemetry)) for one in other],
            "desired": [Inline(name=names[one], value=value) for one, value in thing.desired],
            "paused": thing.paused,
        }
        name = self._free("Device", thing.namespace, thing.name, "device", thing.at)
        made = resources.device(name, model_name, thing.protocol, thing.endpoint, **more)
        self._keep(thing.at, made, {})

    def _model(self, thing: Thing, names: Mapping[Signal, str]) -> tuple[str, dict[str, Any]]:
        """The thing's model and its telemetry: one is made unless there is one that differs in this only."""
        properties = [_property(one, names[one], thing.protocol) for one in thing.signals]
        commands = self._commands(thing, names)
        alike = [{key: value for key, value in one.items() if key != "telemetry"} for one in properties]
        key = json.dumps([thing.namespace, thing.model, alike, commands], default=str)
        if key in self._models:
            return self._models[key]
        name = self._free("DeviceModel", thing.namespace, thing.model or thing.name, "model", thing.at)
        self._models[key] = name, {names[one]: one.telemetry for one in thing.signals}
        made = resources.model(name, properties, namespace=thing.namespace, commands=commands)
        path = thing.signals[0].at.source.path
        own = [(index, one) for index, one in enumerate(thing.signals) if one.at.source.path == path]
        cells: dict[Loc, Cell] = {("spec", "properties", index): one.at.cell for index, one in own}
        cells |= {("spec", "properties", index, "address"): one.at.here(*_WHERE).cell for index, one in own}
        self._keep(thing.signals[0].at, made, cells)
        return self._models[key]

    def _commands(self, thing: Thing, names: Mapping[Signal, str]) -> list[dict[str, Any]]:
        found, taken = [], dict[str, int]()
        for order in thing.orders:
            name = _unlike(words.property_name(order.name) or "command", taken)
            writes = [Inline(property=names[one], value=value) for one, value in order.writes]
            found.append({"name": name, "writes": writes})
        return found

    def _keep(self, at: Branch, made: dict[str, Any], cells: Mapping[Loc, Cell]) -> None:
        self.documents.append(made)
        self.checked.append(nodes.document(at.source.path, made, cells, at.cell))

    def _names(self, signals: Sequence[Signal]) -> dict[Signal, str]:
        """Names as a model has them, each once; of equal ones what tells them apart goes before."""
        often: dict[str, int] = {}
        for one in signals:
            often[one.name] = often.get(one.name, 0) + 1
        found, taken = dict[Signal, str](), dict[str, int]()
        for one in signals:
            text = f"{one.apart}_{one.name}" if often[one.name] > 1 and one.apart else one.name
            name = words.property_name(text)
            if not name:
                message = f"{one.name!r} has no letter or digit that a name can be made of"
                self._said.problems.append(one.at.problem(message).problem)
            found[one] = _unlike(name or "_", taken)
            if found[one] != one.name:
                self._renamed.setdefault(f"`{one.name}` is {found[one]}", one.at)
        return found

    def _free(self, kind: str, namespace: str, text: str, other: str, at: Branch) -> str:
        """A name for a resource that no other of its kind has."""
        taken = self._taken.setdefault((kind, namespace), {})
        name = _unlike(words.resource_name(text) or other, taken, "-")
        if name != text and kind == "Device":
            self._renamed.setdefault(f"`{text}` is {name}", at)
        return name

    def tell_names(self) -> None:
        """Which names are others here."""
        changed = list(self._renamed)
        if changed:
            more = f", and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
            self._renamed[changed[0]].tell(f"names: {', '.join(changed[:SHOWN])}{more}")


def _unlike(name: str, taken: dict[str, int], sign: str = "_") -> str:
    """The name, or with a number where it is taken. `taken`: name -> the last number that it was given."""
    found, number = name, taken.get(name, 1)
    while found in taken:
        number += 1
        found = f"{name[:56]}{sign}{number}"
    taken[name] = number
    taken.setdefault(found, 1)
    return found


def _property(signal: Signal, name: str, protocol: str) -> dict[str, Any]:
    limits = _limits(signal)
    fields = {
        "name": name,
        "type": signal.type.value,
        "unit": _unit(signal) or None,
        "description": " ".join(signal.description.split()) or None,
        "access": None if signal.access == "ReadOnly" else signal.access,
        "minimum": limits[0],
        "maximum": limits[1],
        "address": {protocol: signal.address},
        "telemetry": signal.telemetry or None,
    }
    return resources.property_of(fields)


def _limits(signal: Signal) -> tuple[float | None, float | None]:
    low, high = signal.minimum, signal.maximum
    if (low is None and high is None) or not signal.type.is_number:
        return None, None  # of what is true or false, or a text, they say nothing
    if low is not None and high is not None and low > high:
        signal.at.tell(f"the limits {low} and {high} are left out: the one is above the other")
        return None, None
    return low, high


def _unit(signal: Signal) -> str:
    text = signal.unit.strip()
    for one in (text, words.unit_of(text), text.casefold().removeprefix("degree").removeprefix("s").strip()):
        if one and units.find(one):
            return one
    if text:
        signal.at.tell(f"the unit `{text}` is left out: it is not known here")
    return ""


def value_of(text: str, type_: ValueType) -> Any:
    """A value out of its text, as a property of this type has it; None where it is none."""
    found: Any = text
    try:
        if type_ == ValueType.BOOL:
            found = {"true": True, "1": True, "false": False, "0": False}.get(text.casefold())
        elif type_.is_integer:
            found = int(text)
        elif type_.is_float:
            found = float(text)
    except ValueError:
        return None
    return None if found is None or mismatch(found, type_) else found
