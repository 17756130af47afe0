"""From declared to running, pure: Device x DeviceModel x mappers -> a bound device, or why not."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from devicemesh.aggregate import Limit, Report, Series, kind
from devicemesh.mapper import Address, Endpoint, Mapper, Notifier, Point
from devicemesh.sink.base import Declaration
from devicemesh.spec.base import Strict, first_mistake
from devicemesh.spec.device import (
    AddressOverride,
    Command,
    Device,
    DeviceModel,
    DeviceSpec,
    EventSource,
    Property,
)
from devicemesh.spec.values import duration_ns
from devicemesh.store.base import NOTHING, Key, Object

log = logging.getLogger("devicemesh.binding")


@dataclass(frozen=True, slots=True)
class BoundProperty:
    """A property of one device: the model's, with the device's overrides, at its address."""

    spec: Property
    address: Address


@dataclass(frozen=True, slots=True)
class Shape:
    """The properties of a device, in order; one object for all devices of a model that override none.

    `calls` and `events` are addresses: of the commands that are calls, and of where it tells of events.
    """

    properties: Mapping[str, BoundProperty]
    specs: Mapping[str, Property]
    names: tuple[str, ...]
    calls: Mapping[str, Any]
    events: Mapping[str, Any]

    @classmethod
    def of(
        cls, properties: Mapping[str, BoundProperty], calls: Mapping[str, Any], events: Mapping[str, Any]
    ) -> Shape:
        specs = {name: bound.spec for name, bound in properties.items()}
        return cls(properties, specs, tuple(properties), calls, events)


@dataclass(frozen=True, slots=True)
class BoundDevice:
    """A device that can run."""

    key: Key
    name: str  # "namespace/name"
    generation: int
    labels: Mapping[str, str]
    model: str
    mapper: Mapper[Any, Any]
    endpoint: Endpoint
    link: tuple[str, str]  # (protocol, link name): what it shares a session by
    shape: Shape
    desired: Mapping[str, Any]
    nearest_desired: Mapping[str, Any]  # as the device reports them once it holds them
    commands: Mapping[str, Command]
    sources: Mapping[str, EventSource]
    paused: bool
    overruled: Mapping[str, str] = field(default_factory=lambda: NOTHING)  # set by two sides: which one lost
    manufacturer: str = ""

    def declaration(self) -> Declaration:
        """What sinks are told of it."""
        shape, model = self.shape, self.model
        return Declaration(shape.specs, self.commands, self.sources, model, self.manufacturer)

    @property
    def properties(self) -> Mapping[str, BoundProperty]:
        return self.shape.properties

    def nearest(self, name: str, value: Any) -> Any:
        """What a property reports once the device holds `value`."""
        return nearest(self.shape, name, value)

    def redirected(self, address: str) -> BoundDevice:
        """The same device at another address."""
        endpoint = self.endpoint.redirect(address)
        return dataclasses.replace(self, endpoint=endpoint, link=_link(self.mapper.protocol, endpoint.link()))

    def same_wire(self, other: BoundDevice) -> bool:
        """Whether nothing has changed that the link would have to plan anew."""
        return (
            self.endpoint == other.endpoint
            and self.properties == other.properties
            and self.shape.events == other.shape.events
            and self.paused == other.paused
        )

    def reads_as(self, other: BoundDevice, name: str) -> bool:
        """Whether what was read of a property by `other` is what is read of it by this one."""
        mine, its = self.properties.get(name), other.properties.get(name)
        if mine is None or its is None or self.endpoint != other.endpoint:
            return False
        return mine.address == its.address and mine.spec.type == its.spec.type


@dataclass(frozen=True, slots=True)
class Unbound:
    """A device that can't run; `reason` and `message` go into its ModelResolved condition."""

    key: Key
    generation: int
    reason: str
    message: str


class Binder:
    """Resolves devices. What a model means for a protocol is worked out once and shared by its devices."""

    def __init__(self, mappers: Mapping[str, Mapper[Any, Any]]) -> None:
        self._mappers = mappers
        self._models: dict[tuple[Key, str, int, str], tuple[DeviceModel, Shape]] = {}

    def bind(self, device: Object, models: Mapping[Key, Object]) -> BoundDevice | Unbound:
        """Resolve one device. Never raises for what a person may have written."""

        def unbound(reason: str, message: str) -> Unbound:
            return Unbound(device.key, device.generation, reason, message)

        body = device.body
        try:
            spec = Device.model_validate(body).spec
        except ValidationError as error:
            return unbound("InvalidDevice", first_mistake(error))
        model = models.get(Key("DeviceModel", device.key.namespace, spec.model_ref.name))
        if model is None:
            return unbound("ModelNotFound", f"there is no DeviceModel `{spec.model_ref.name}`")
        protocol, raw = next(iter(spec.endpoint.items()))
        mapper = self._mappers.get(protocol)
        if mapper is None:
            message = f"no installed mapper speaks `{protocol}`: pip install devicemesh-{protocol}"
            return unbound("NoMapper", message)
        try:
            endpoint = mapper.endpoint_type.model_validate(raw)
            link = _link(protocol, endpoint.link())
            declared, shape = self._model(model, mapper)
            if strange := [p.name for p in spec.properties if p.name not in _names(declared)]:
                message = f"model `{spec.model_ref.name}` has no property `{strange[0]}`"
                return unbound("UnknownProperty", message)
            if spec.properties or spec.commands or spec.events:
                shape = _own_shape(declared, shape, spec, mapper)
        except ValidationError as error:
            return unbound("InvalidModel", first_mistake(error))
        except ValueError as error:
            return unbound("InvalidDevice", str(error))
        except Exception as error:  # a bug in a mapper's model must not end the others
            log.exception("device %s: unexpected error, a bug", device.key.device)
            return unbound("InternalError", f"{type(error).__name__}: {error}")
        homeless = [p.name for p in declared.spec.properties if p.name not in shape.specs]
        if homeless:
            return unbound("NoAddress", f"{homeless[0]} has no {protocol} address")
        return BoundDevice(
            key=device.key,
            name=device.key.device,
            generation=device.generation,
            labels=body["metadata"].get("labels") or NOTHING,
            model=model.key.name,
            mapper=mapper,
            endpoint=endpoint,
            link=link,
            shape=shape,
            desired={entry.name: entry.value for entry in spec.desired} or NOTHING,
            nearest_desired={e.name: nearest(shape, e.name, e.value) for e in spec.desired} or NOTHING,
            commands={command.name: command for command in declared.spec.commands} or NOTHING,
            sources={source.name: source for source in declared.spec.events} or NOTHING,
            paused=spec.paused,
            overruled=device.overruled,
            manufacturer=_manufacturer(declared),
        )

    def _model(self, model: Object, mapper: Mapper[Any, Any]) -> tuple[DeviceModel, Shape]:
        """The model, and those of its properties that it gives an address for the protocol."""
        key = (model.key, model.uid, model.version, mapper.protocol)
        if key not in self._models:
            for old in [k for k in self._models if k[0] == model.key and k[1:3] != key[1:3]]:
                del self._models[old]
            declared = DeviceModel.model_validate(model.body)
            placed = {
                prop.name: BoundProperty(
                    prop, mapper.address_type.model_validate(prop.address[mapper.protocol])
                )
                for prop in declared.spec.properties
                if mapper.protocol in prop.address
            }
            calls = _placed(declared.spec.commands, mapper.protocol, mapper.command_type)
            events = _placed(declared.spec.events, mapper.protocol, mapper.event_type)
            self._models[key] = (declared, Shape.of(placed, calls, events))
        return self._models[key]


@functools.lru_cache(256)
def _link(protocol: str, name: str) -> tuple[str, str]:
    """What the devices of one link share a session by: mostly they come one after the other."""
    return protocol, name


def _placed(
    parts: Iterable[Command | EventSource | AddressOverride], protocol: str, type_: type[Strict] | None
) -> dict[str, Any]:
    """The addresses for a protocol. Raises ValidationError."""
    if type_ is None:
        return {}
    return {one.name: type_.model_validate(one.address[protocol]) for one in parts if protocol in one.address}


def _own_shape(declared: DeviceModel, shape: Shape, spec: DeviceSpec, mapper: Mapper[Any, Any]) -> Shape:
    """The model's shape with what this device does otherwise."""
    calls = _placed(spec.commands, mapper.protocol, mapper.command_type)
    events = _placed(spec.events, mapper.protocol, mapper.event_type)
    return Shape.of(
        _overridden(declared, shape.properties, spec, mapper),
        {**shape.calls, **calls},
        {**shape.events, **events},
    )


def _overridden(
    declared: DeviceModel, placed: Mapping[str, BoundProperty], spec: DeviceSpec, mapper: Mapper[Any, Any]
) -> dict[str, BoundProperty]:
    """The model's properties with what this device does otherwise."""
    properties = {p.name: p for p in declared.spec.properties}
    out = dict(placed)
    for override in spec.properties:
        prop = properties[override.name].overridden(override)
        raw = override.address.get(mapper.protocol)
        if raw is not None:
            out[override.name] = BoundProperty(prop, mapper.address_type.model_validate(raw))
        elif override.name in placed:
            out[override.name] = BoundProperty(prop, placed[override.name].address)
    return out


def _manufacturer(model: DeviceModel) -> str:
    """Whom the model says to have made such devices; "" where it says nothing."""
    about = model.metadata
    return about.annotations.get("manufacturer") or about.labels.get("manufacturer", "")


def _names(model: DeviceModel) -> set[str]:
    return {prop.name for prop in model.spec.properties}


def nearest(shape: Shape, name: str, value: Any) -> Any:
    """What a property reports once the device holds `value`; the value itself where it can't be held."""
    bound = shape.properties.get(name)
    if bound is None or bound.spec.refusal(value) is not None:
        return value
    taken = bound.spec.taken(value)
    try:
        return bound.address.nearest(bound.spec.type, taken)
    except ValueError:
        return taken  # the write will say why


def point(device: BoundDevice, name: str, slot: int) -> Point[Any, Any]:
    """What the mapper is told of one property."""
    bound = device.properties[name]
    spec = bound.spec
    return Point(slot, device.name, name, spec.type, device.endpoint, bound.address, spec.telemetry)


def notifiers(device: BoundDevice) -> list[Notifier[Any]]:
    """Where a device tells of what happens."""
    return [
        Notifier(device.name, name, device.endpoint, address)
        for name, address in device.shape.events.items()
        if name in device.sources
    ]


def series(prop: Property, slot: int, stream: int) -> Series:
    """How the core treats one property."""
    telemetry = prop.telemetry
    limits = tuple(
        Limit(
            name=alarm.name,
            above=alarm.above is not None,
            limit=alarm.above if alarm.above is not None else alarm.below or 0.0,
            clear=_clear(alarm.above, alarm.clear_below, alarm.below, alarm.clear_above),
            severity=alarm.severity,
            delay_ns=duration_ns(alarm.delay),
        )
        for alarm in prop.alarms
    )
    return Series(
        slot=slot,
        stream=stream,
        name=prop.name,
        kind=kind(prop.type),
        report=Report[telemetry.report.upper()],
        deadband=telemetry.deadband,
        deadband_percent=telemetry.deadband_percent,
        heartbeat_ns=duration_ns(telemetry.heartbeat),
        min_interval_ns=duration_ns(telemetry.min_interval),
        window_ns=duration_ns(telemetry.window),
        lateness_ns=duration_ns(telemetry.lateness),
        statistics=telemetry.statistics,
        limits=limits,
    )


def _clear(
    above: float | None, clear_below: float | None, below: float | None, clear_above: float | None
) -> float:
    if above is not None:
        return above if clear_below is None else clear_below
    limit = below or 0.0
    return limit if clear_above is None else clear_above
