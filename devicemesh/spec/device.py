"""Device and DeviceModel: the one source of the YAML's shape, the CRDs and the error messages."""

from __future__ import annotations

import base64
import math
import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from devicemesh.spec.base import Strict
from devicemesh.spec.telemetry import Simulation, Telemetry
from devicemesh.spec.units import canonical, symbol
from devicemesh.spec.values import Duration, Scalar, ValueType, mismatch

GROUP = "devicemesh.io"
API_VERSION = f"{GROUP}/v1alpha1"
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def _resource_name(name: str) -> str:
    if len(name) > 63 or not _LABEL.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a resource name: lower-case letters, digits and '-', at most 63 (RFC 1123)"
        )
    return name


def _word(name: str) -> str:
    if len(name) > 63 or not _WORD.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a name: a letter, then letters, digits, '_', '.' or '-', at most 63"
        )
    return name


ResourceName = Annotated[str, AfterValidator(_resource_name)]
Word = Annotated[str, AfterValidator(_word)]
Unit = Annotated[str, AfterValidator(canonical)]


class Metadata(Strict):
    name: ResourceName
    """Unique in its namespace; also a part of every MQTT topic."""
    namespace: ResourceName = "default"
    """Keeps sites or customers apart."""
    labels: dict[str, str] = {}
    """Your own words, for `-l key=value`."""
    annotations: dict[str, str] = {}
    """Notes for other tools."""


class Alarm(Strict):
    """Raised while a value is beyond a limit."""

    name: Word
    """Unique in the property."""
    above: float | None = None
    """Raised when the value is greater."""
    below: float | None = None
    """Raised when the value is less."""
    clear_below: float | None = None
    """For `above`: cleared when the value is less again; `above` itself by default."""
    clear_above: float | None = None
    """For `below`: cleared when the value is greater again; `below` itself by default."""
    delay: Duration = "0s"
    """Raised once the value was beyond the limit for so long: a short peak raises nothing."""
    severity: Literal["info", "warning", "critical"] = "warning"
    """How urgent it is."""

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if (self.above is None) == (self.below is None):
            raise ValueError("an alarm has either `above` or `below`")
        if self.above is not None and self.clear_below is not None and self.clear_below > self.above:
            raise ValueError("`clearBelow` is above the limit itself")
        if self.below is not None and self.clear_above is not None and self.clear_above < self.below:
            raise ValueError("`clearAbove` is below the limit itself")
        return self


def _unfit(slot: Property | Argument, value: Any) -> str | None:
    """Say why `value` is of another type, or out of range."""
    wrong = mismatch(value, slot.type)
    if wrong:
        return wrong
    unit = f" {symbol(slot.unit)}" if slot.unit else ""
    if slot.minimum is not None and value < slot.minimum:
        return f"{value} is below {slot.name}'s minimum of {slot.minimum:g}{unit}"
    if slot.maximum is not None and value > slot.maximum:
        return f"{value} is above {slot.name}'s maximum of {slot.maximum:g}{unit}"
    return None


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not base64") from None


def _check_limits(slot: Property | Argument) -> None:
    """Raise ValueError for limits that can't be."""
    if slot.minimum is not None and slot.maximum is not None and slot.minimum > slot.maximum:
        raise ValueError(f"minimum {slot.minimum:g} is above maximum {slot.maximum:g}")
    for limit in (slot.minimum, slot.maximum):
        if limit is not None and not (math.isfinite(limit) and slot.type.is_number):
            raise ValueError(f"a {slot.type} can't have the limit {limit}")


class Property(Strict):
    """Something a device has: a measured value, a setting, a state."""

    name: Word
    """Unique in the model."""
    type: ValueType
    """What a value of it is; where an address gives no wire type, also how it lies on the wire."""
    unit: Unit | None = None
    """As you write it (rpm, degC, kWh); stored as its UCUM code."""
    description: str | None = None
    """For people."""
    access: Literal["ReadOnly", "ReadWrite", "WriteOnly"] = "ReadOnly"
    """What the device allows."""
    minimum: float | None = None
    """The smallest value that may be written."""
    maximum: float | None = None
    """The greatest value that may be written."""
    address: dict[str, Any] = {}
    """Where it lives, by protocol; a Device may override it."""
    telemetry: Telemetry = Telemetry()
    alarms: tuple[Alarm, ...] = ()
    simulation: Simulation = Simulation()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._check()
        return self

    def _check(self) -> None:
        _check_limits(self)
        if self.telemetry.report == "window" and not (self.type.is_number or self.type == ValueType.BOOL):
            raise ValueError(f"a {self.type} has no statistics: use report: change or every")
        if self.alarms and not self.type.is_number:
            raise ValueError(f"a {self.type} can't have limits to alarm on")
        if wrong := self.simulation.refusal(self.type):
            raise ValueError(f"simulation: {wrong}")

    def overridden(self, by: PropertyOverride) -> Property:
        """This property with what a device does otherwise. Raises ValueError where it can't be."""
        given = {name: getattr(by, name) for name in ("telemetry", "simulation") if getattr(by, name)}
        changed = self.model_copy(update=given)  # which checks nothing
        changed._check()
        return changed

    def refusal(self, value: Any) -> str | None:
        """Say why `value` may not be written to this property, or None when it may."""
        if self.access == "ReadOnly":
            return f"{self.name} is read-only"
        try:
            return _unfit(self, self.taken(value))
        except ValueError as error:
            return str(error)

    def taken(self, value: Any) -> Any:
        """A value out of JSON as it is written; bytes are base64 there. Raises ValueError."""
        return _from_base64(value) if self.type == ValueType.BYTES and isinstance(value, str) else value


class PropertyValue(Strict):
    """A value wanted for a property."""

    name: str
    """A property of the model."""
    value: Any
    """Plain scalar, of the property's type and within its range; bytes are base64."""


class CommandWrite(Strict):
    property: str
    """A property of the model."""
    value: Any
    """What is written; bytes are base64."""


class Argument(Strict):
    """A value that a client gives a command."""

    name: Word
    """Unique in the command; the key in the client's payload."""
    type: ValueType
    """What a value of it is."""
    unit: Unit | None = None
    """As you write it (rpm, degC, kWh)."""
    description: str | None = None
    """For people."""
    minimum: float | None = None
    """The smallest value that is let through."""
    maximum: float | None = None
    """The greatest value that is let through."""
    default: Any = None
    """Sent where the client gives none; without it the client must."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _check_limits(self)
        if self.default is not None:
            self.accept(self.default)
        return self

    def accept(self, value: Any) -> Scalar:
        """A value out of JSON as this argument is sent; bytes are base64 there. Raises ValueError."""
        if self.type == ValueType.BYTES and isinstance(value, str):
            try:
                return _from_base64(value)
            except ValueError as error:
                raise ValueError(f"{self.name}: {error}") from None
        if wrong := _unfit(self, value):
            raise ValueError(f"{self.name}: {wrong}")
        taken: Scalar = float(value) if self.type.is_float else value
        return taken


class Command(Strict):
    """Something that a device is told to do, once: a group of writes, or a call of its own."""

    name: Word
    """Unique in the model; the last part of the MQTT topic."""
    description: str | None = None
    """For people."""
    writes: tuple[CommandWrite, ...] = ()
    """Done in this order."""
    arguments: tuple[Argument, ...] = ()
    """Of a call: what the client gives, in the order in which the device takes it."""
    address: dict[str, Any] = {}
    """Of a call: where it lives, by protocol; a Device may override it."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.writes and (self.address or self.arguments):
            raise ValueError("a command either has `writes`, or is a call, with `address` and `arguments`")
        if not self.writes and not self.address and not self.arguments:
            raise ValueError("a command needs `writes`, or the `address` of a call")
        names = [one.name for one in self.arguments]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"argument `{twice[0]}` is declared twice")
        return self

    @property
    def is_call(self) -> bool:
        """Whether it is a call and no group of writes."""
        return not self.writes

    def accept(self, given: Any) -> dict[str, Scalar]:
        """The arguments of a call out of a client's payload, defaults filled in, in their order.

        Raises ValueError that names every mistake.
        """
        if given is None and not self.arguments:
            given = {}
        if not isinstance(given, dict):
            raise ValueError('the payload must be a JSON object of the arguments, as in {"level": 3}')
        known = {one.name: one for one in self.arguments}
        takes = f"it takes {', '.join(known)}" if known else "it takes none"
        wrong = [f"no argument `{str(name)[:64]}`: {takes}" for name in given if name not in known]
        taken: dict[str, Scalar] = {}
        for name, one in known.items():
            value = given.get(name, one.default)
            try:
                if value is None:
                    raise ValueError(f"{name} is missing")
                taken[name] = one.accept(value)
            except ValueError as error:
                wrong.append(str(error))
        if wrong:
            raise ValueError("; ".join(wrong[:5]))
        return taken


class EventSource(Strict):
    """Where a device tells of what happens: its alarms, conditions and events."""

    name: Word
    """Unique in the model; `event` in the messages of the topic `alarm`."""
    description: str | None = None
    """For people."""
    severity: Literal["info", "warning", "critical"] = "info"
    """The least that is published."""
    address: dict[str, Any] = {}
    """Where it lives, by protocol; a Device may override it."""


class DeviceModelSpec(Strict):
    description: str | None = None
    """For people."""
    properties: tuple[Property, ...] = Field(min_length=1)
    """All that such a device has."""
    commands: tuple[Command, ...] = ()
    """What it can be told to do."""
    events: tuple[EventSource, ...] = ()
    """Where it tells of alarms and events."""


class DeviceModel(Strict):
    """A type of device."""

    api_version: Literal["devicemesh.io/v1alpha1"]
    kind: Literal["DeviceModel"]
    metadata: Metadata
    spec: DeviceModelSpec


class ModelRef(Strict):
    name: ResourceName
    """A DeviceModel of the same namespace."""


class PropertyOverride(Strict):
    """What this one device does otherwise than its model."""

    name: str
    """A property of the model."""
    address: dict[str, Any] = {}
    """Replaces the model's address for the same protocol."""
    telemetry: Telemetry | None = None
    """Replaces the model's."""
    simulation: Simulation | None = None
    """Replaces the model's."""


class AddressOverride(Strict):
    """Where this one device has a command, or tells of events, otherwise than its model."""

    name: str
    """A command, or an event source, of the model."""
    address: dict[str, Any]
    """Replaces the model's address for the same protocol."""


class DeviceSpec(Strict):
    model_ref: ModelRef
    endpoint: dict[str, Any] = Field(min_length=1, max_length=1)
    """How to reach it: one protocol and its fields."""
    properties: tuple[PropertyOverride, ...] = ()
    """Overrides."""
    commands: tuple[AddressOverride, ...] = ()
    """Overrides of calls' addresses."""
    events: tuple[AddressOverride, ...] = ()
    """Overrides of event sources' addresses."""
    desired: tuple[PropertyValue, ...] = ()
    """What you want it to be."""
    paused: bool = False
    """True: neither read nor written."""
    node_selector: dict[str, str] = {}
    """On a cluster: labels that the runtime must have; `kubernetes.io/hostname` pins it to a node."""


class Device(Strict):
    """One device: a model and where to find it."""

    api_version: Literal["devicemesh.io/v1alpha1"]
    kind: Literal["Device"]
    metadata: Metadata
    spec: DeviceSpec
