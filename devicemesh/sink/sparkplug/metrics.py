"""What metrics a device has: its model as Sparkplug says it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from devicemesh.sink.base import Declaration
from devicemesh.sink.sparkplug.wire import Type
from devicemesh.sink.told import OWN_ALARM, alarm_name
from devicemesh.spec.device import Property
from devicemesh.spec.statistics import STATISTICS
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
"""Statistics that are whole numbers, whatever they are of."""
_VALUES, _SUMS = ("min", "max", "first", "last"), ("sum", "range", "delta", "increase")
DESIRED_RESULT = "twin/desired/result"
"""A metric (String, JSON), as `OWN_ALARM`: they have no form of their own in Sparkplug."""


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
    rest: bool | None = None
    """What it is as long as nothing was told."""


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
    return Metrics(replace(one, offset=at) for at, one in enumerate(_definitions(declaration)))


def _definitions(declaration: Declaration) -> Iterator[Definition]:
    for prop in declaration.properties.values():
        setting = prop.name if prop.access != "ReadOnly" else ""
        structured = prop.type == ValueType.JSON
        yield Definition(prop.name, TYPES[prop.type], 0, _properties(prop), setting, structured)
        if prop.telemetry.report == "window":
            for name in dict.fromkeys(("count", "bad", *prop.telemetry.statistics)):
                yield Definition(f"{prop.name}/{name}", statistic_type(name, prop.type), 0)
        for alarm in prop.alarms:
            yield Definition(alarm_name(prop.name, alarm.name), Type.BOOLEAN, 0, rest=False)
    for name, command in declaration.commands.items():
        if command.arguments:
            yield Definition(f"command/{name}", Type.STRING, 0, setting=name)
        else:
            yield Definition(f"command/{name}", Type.BOOLEAN, 0, setting=name, rest=False)
        yield Definition(f"command/{name}/result", Type.STRING, 0)
    if any(prop.access != "ReadOnly" for prop in declaration.properties.values()):
        yield Definition(DESIRED_RESULT, Type.STRING, 0)
    if declaration.events:
        yield Definition(OWN_ALARM, Type.STRING, 0)


def statistic_type(name: str, of: ValueType) -> Type:
    """Of a window's statistic: a value stays what it is, a quantile of integers may lie between them."""
    if name in COUNTS or (name in _SUMS and not of.is_float):
        return Type.INT64
    quantile = name not in STATISTICS
    if (name in _VALUES or quantile) and of == ValueType.BOOL:
        return Type.BOOLEAN
    if (name in _VALUES or quantile) and of.is_float:
        return TYPES[of]
    return Type.INT64 if name in _VALUES else Type.DOUBLE


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
