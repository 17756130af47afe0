"""Simulated OPC UA properties, without I/O: what a node holds, and what is wrong with its values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from devicemesh_opcua.model import OpcUaAddress

from devicemesh.spec.device import Property
from devicemesh.spec.values import INTEGER_RANGES, ValueType
from devicemesh.testing.signals import Room, Signal, coerced

LEAST_TICK_S = 0.05
"""Signals move at most this often."""
DATA_TYPES = {
    ValueType.BOOL: "Boolean", ValueType.INT8: "SByte", ValueType.INT16: "Int16", ValueType.INT32: "Int32",
    ValueType.INT64: "Int64", ValueType.UINT8: "Byte", ValueType.UINT16: "UInt16", ValueType.UINT32: "UInt32",
    ValueType.UINT64: "UInt64", ValueType.FLOAT16: "Float", ValueType.FLOAT32: "Float",
    ValueType.FLOAT64: "Double", ValueType.STRING: "String", ValueType.BYTES: "ByteString",
    ValueType.JSON: "String",
}  # fmt: skip
STATUSES = {
    "sensor": 0x808C0000, "device": 0x808B0000, "communication": 0x80310000, "uncertain": 0x40920000,
}  # fmt: skip
"""What `bad=` can be: BadSensorFailure, BadDeviceFailure, BadNoCommunication, UncertainSensorNotAccurate."""
FAULTS = ("bad", "delay", "noise", "alarm", "publish", "session", "shift", "disconnect", "unplug", "heal")


@dataclass(frozen=True, slots=True)
class Faults:
    """Of one device; `delay`, `publish` and `unplug` are of its whole server."""

    status: int = 0
    noise: float = 0.0  # relative


@dataclass(slots=True, eq=False)
class Cell:
    """A property at its node."""

    device: str
    prop: Property
    address: OpcUaAddress
    room: Room
    signal: Signal
    period_s: float
    node: Any = None  # asyncua's
    written: Any = None  # by a client: the signal is over

    @property
    def kind(self) -> str:
        return DATA_TYPES[self.address.type or self.prop.type]

    def now(self, seconds: float) -> Any:
        """What the signal gives, as the node holds it."""
        value = self.signal.at(seconds)
        if isinstance(value, str | bytes):
            return value
        wire = self.address.type or self.prop.type
        return coerced(value, wire, self.room)


def room(address: OpcUaAddress, type_: ValueType) -> Room:
    """What a node holds of a property of this type."""
    wire = address.type or type_
    if wire == ValueType.BOOL:
        return Room(0, 1, whole=True)
    if wire.is_integer:
        low, high = INTEGER_RANGES[wire]
        return Room(low, high, whole=True)
    limit = 3.4028234663852886e38 if wire in (ValueType.FLOAT16, ValueType.FLOAT32) else 1.7e308
    return Room(-limit, limit)


def switched(faults: Faults, fault: str, given: str | None) -> Faults:
    """These faults, and `bad` or `noise` with its value. Raises ValueError."""
    if fault == "bad":
        name = given or "sensor"
        if name not in STATUSES:
            raise ValueError(f"`{name}` is no bad status: {', '.join(STATUSES)}")
        return replace(faults, status=STATUSES[name])
    try:
        percent = float((given or "5").removesuffix("%"))
    except ValueError:
        percent = -1.0
    if not 0 <= percent <= 100:
        raise ValueError(f"{given!r} is not a percentage: 0 to 100")
    return replace(faults, noise=percent / 100)
