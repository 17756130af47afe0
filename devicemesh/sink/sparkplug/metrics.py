"""What metrics a device has: its model as Sparkplug says it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from devicemesh.sink.base import Declaration
from devicemesh.sink.sparkplug.wire import Type
from devicemesh.spec.device import Property
from devicemesh.spec.units import symbol
from devicemesh.spec.values import ValueType

TYPES: Mapping[ValueType, Type] = {
    ValueType.BOOL: Type.BOOLEAN,
    ValueType.INT8: Type.INT32,
    ValueType.INT16: Type.INT32,
    ValueType.INT32: Type.INT32,
    ValueType.INT64: Type.INT64,
    ValueType.UINT8: Type.UINT8,
    ValueType.UINT16: Type.UINT16,
    ValueType.UINT32: Type.INT64,
    ValueType.UINT64: Type.UINT64,
    ValueType.FLOAT16: Type.FLOAT,
    ValueType.FLOAT32: Type.FLOAT,
    ValueType.FLOAT64: Type.DOUBLE,
    ValueType.STRING: Type.STRING,
    ValueType.BYTES: Type.BYTES,
    ValueType.JSON: Type.STRING,
}
"""Of a property's values: only types that all decoders in use read alike: no Int8, Int16 or UInt32."""
COUNTS = ("count", "bad", "transitions", "resets")
"""Statistics that are whole numbers; the others are Doubles."""
DESIRED_RESULT, ALARM = "twin/desired/result", "alarm"
"""Metrics (String, JSON) of what has no form of its own in Sparkplug."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A metric of a device; `offset` makes its alias, together with the device's number."""

    name: str
    type: Type
    offset: int
    properties: Mapping[str, tuple[Type, Any]] = field(default_factory=dict)
    setting: str = ""
    """Of what it takes: a property that may be written, or a command."""
    structured: bool = False
    """Whether its text is JSON."""


class Metrics(Mapping[str, Definition]):
    """All metrics of a device by name, in the order of their offsets; shared by devices that are alike."""

    def __init__(self, definitions: Iterable[Definition]) -> None:
        self._all = {one.name: one for one in definitions}
        self._by_offset = list(self._all.values())

    def __getitem__(self, name: str) -> Definition:
        return self._all[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def at(self, offset: int) -> Definition | None:
        """The metric of an offset."""
        return self._by_offset[offset] if 0 <= offset < len(self._by_offset) else None

    def with_unknown(self, names: Mapping[str, Type]) -> Metrics:
        """These, and others that were told of the device though nothing declares them."""
        more = [Definition(name, type_, len(self) + at) for at, (name, type_) in enumerate(names.items())]
        return Metrics([*self._all.values(), *more])


NO_METRICS = Metrics(())


def metrics_of(declaration: Declaration) -> Metrics:
    """What a declared device has; see docs/sparkplug.md."""
    found: list[tuple[str, Type, Mapping[str, tuple[Type, Any]], str]] = []
    structured = {prop.name for prop in declaration.properties.values() if prop.type == ValueType.JSON}
    for prop in declaration.properties.values():
        settable = prop.name if prop.access != "ReadOnly" else ""
        found.append((prop.name, TYPES[prop.type], _properties(prop), settable))
        found += [(f"{prop.name}/{name}", type_, {}, "") for name, type_ in _statistics(prop)]
        found += [(alarm_name(prop.name, one.name), Type.BOOLEAN, {}, "") for one in prop.alarms]
    for name, command in declaration.commands.items():
        type_ = Type.STRING if command.arguments else Type.BOOLEAN
        found.append((f"command/{name}", type_, {}, name))
        found.append((f"command/{name}/result", Type.STRING, {}, ""))
    if any(prop.access != "ReadOnly" for prop in declaration.properties.values()):
        found.append((DESIRED_RESULT, Type.STRING, {}, ""))
    if declaration.events:
        found.append((ALARM, Type.STRING, {}, ""))
    return Metrics(
        Definition(name, type_, at, said, setting, name in structured)
        for at, (name, type_, said, setting) in enumerate(found)
    )


def alarm_name(prop: str, alarm: str) -> str:
    """The metric that says whether an alarm of a limit stands."""
    return f"{prop}/alarm/{alarm}"


def statistic_type(name: str) -> Type:
    """Of a window's statistic."""
    return Type.INT64 if name in COUNTS else Type.DOUBLE


def _statistics(prop: Property) -> list[tuple[str, Type]]:
    if prop.telemetry.report != "window":
        return []
    names = dict.fromkeys(("count", "bad", *prop.telemetry.statistics))
    return [(name, statistic_type(name)) for name in names]


def _properties(prop: Property) -> dict[str, tuple[Type, Any]]:
    """What hosts show of a metric, by the names of Ignition's MQTT Engine; Sparkplug itself names none."""
    said: dict[str, tuple[Type, Any]] = {}
    if prop.unit:
        said["engUnit"] = (Type.STRING, symbol(prop.unit))
    if prop.minimum is not None:
        said["engLow"] = (Type.DOUBLE, float(prop.minimum))
    if prop.maximum is not None:
        said["engHigh"] = (Type.DOUBLE, float(prop.maximum))
    if prop.description:
        said["documentation"] = (Type.STRING, prop.description)
    if prop.access == "ReadOnly":
        said["readOnly"] = (Type.BOOLEAN, True)
    return said
