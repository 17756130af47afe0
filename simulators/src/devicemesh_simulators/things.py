"""Simulated CoAP resources, without I/O: what a body holds, and what a write puts into it."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from devicemesh_coap import convert, payload, senml
from devicemesh_coap.model import CoapAddress, CoapEndpoint, segments
from devicemesh_coap.payload import CBOR, JSON, OCTETS, SENML_CBOR, SENML_JSON, TEXT, PayloadError

from devicemesh import layout
from devicemesh.spec.device import Property
from devicemesh.spec.values import INTEGER_RANGES, ValueType, duration_ns
from devicemesh.testing.signals import Room, Signal, coerced, signal
from devicemesh.testing.simulator import SimulatedDevice

LEAST_TICK_S = 0.05
"""Signals move at most this often."""
VALUES = {
    "delay": "500ms",
    "drop": "30",
    "duplicate": "30",
    "reorder": "30",
    "noise": "5",
    "unavailable": "30",
}
PLAIN = ("unplug", "heal")
FAULTS = (*VALUES, *PLAIN)
_FLOAT_MAX = {ValueType.FLOAT16: 65504.0, ValueType.FLOAT32: 3.4028234663852886e38}
_ETCH = {payload.ETCH_JSON: SENML_JSON, payload.ETCH_CBOR: SENML_CBOR}


class RefusedError(Exception):
    """A request that is answered with an error code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Faults:
    """Of one device; those of its line are the relay's."""

    noise: float = 0.0  # relative
    unavailable_s: int = 0  # Max-Age of the 5.03 that everything is answered with

    def switched(self, fault: str, given: str) -> Faults:
        """These faults and one more. Raises ValueError."""
        if fault == "noise":
            return replace(self, noise=share(given))
        if not given.isascii() or not given.isdigit() or not 1 <= int(given) < 1 << 32:
            raise ValueError(f"{given!r} is no number of seconds: 1 to 4294967295")
        return replace(self, unavailable_s=int(given))


def share(text: str) -> float:
    """A percentage as a share of one. Raises ValueError."""
    try:
        percent = float(text.removesuffix("%"))
    except ValueError:
        percent = -1.0
    if not 0 <= percent <= 100:
        raise ValueError(f"{text!r} is not a percentage: 0 to 100")
    return percent / 100


@dataclass(slots=True, eq=False)
class Cell:
    """A property in its resource."""

    prop: Property
    address: CoapAddress
    room: Room
    signal: Signal
    period_s: float
    written: Any = None  # by a client: the signal is over

    def now(self, seconds: float, faults: Faults, rng: random.Random) -> Any:
        """The value, as the body holds it."""
        value = self.signal.at(seconds) if self.written is None else self.written
        if not isinstance(value, str | bytes | dict | list):
            if faults.noise and self.prop.type.is_number:
                value *= 1 + rng.uniform(-faults.noise, faults.noise)
            value = coerced(value, self.prop.type, self.room)
            if self.prop.type == ValueType.BOOL:
                value = bool(value)
            elif self.prop.type.is_integer:
                value = int(value)
        return value

    def raw(self, value: Any) -> Any:
        return convert.raw(value, self.prop.type, self.address)


def room(address: CoapAddress, type_: ValueType) -> Room:
    """What a resource holds of a property of this type."""
    if type_ == ValueType.BOOL:
        return Room(0, 1, whole=True)
    wire = address.field(type_) if address.offset is not None else layout.Field(0, address.type or type_)
    if wire.enum is not None:
        return Room(words=tuple(wire.enum.values()))
    if not type_.is_number:
        return Room(length=wire.length)
    if wire.type.is_integer:
        low, high = map(float, INTEGER_RANGES[wire.type])
        if wire.width:
            low, high = 0.0, float((1 << wire.width) - 1)
    else:
        limit = _FLOAT_MAX.get(wire.type, sys.float_info.max)
        low, high = -limit, limit
    if address.scaled:
        low, high = sorted((low * address.scale + address.add, high * address.scale + address.add))
    if type_.is_integer:
        least, greatest = INTEGER_RANGES[type_]
        low, high = max(least, math.ceil(low)), min(greatest, math.floor(high))
    return Room(low, high, whole=wire.type.is_integer, scaled=address.scaled)


def _kind(cell: Cell) -> tuple[int, ...]:
    """The content formats that a resource with this property has, its own first."""
    address = cell.address
    if address.offset is not None:
        return (OCTETS,)
    if address.record is not None:
        first = payload.FORMATS[address.format] if address.format else SENML_CBOR
        return (first, SENML_JSON if first == SENML_CBOR else SENML_CBOR)
    if address.pointer is not None or address.format in ("json", "cbor"):
        return (CBOR, JSON) if address.format == "cbor" else (JSON, CBOR)
    if cell.prop.type == ValueType.BYTES and address.format is None:
        return (OCTETS,)
    return (TEXT,)


@dataclass(eq=False)
class Body:
    """One resource of one device."""

    path: tuple[str, ...]
    cells: list[Cell] = field(default_factory=list)
    formats: tuple[int, ...] = ()

    def add(self, cell: Cell) -> None:
        """Take a property in. Raises ValueError where the others make another body of it."""
        kind = _kind(cell)
        if self.formats and set(kind) != set(self.formats):
            mine, theirs = payload.name(self.formats[0]), payload.name(kind[0])
            raise ValueError(f"/{'/'.join(self.path)} can't be simulated as {mine} and as {theirs}")
        self.formats = self.formats or kind
        self.cells.append(cell)

    @property
    def period_s(self) -> float:
        return min(cell.period_s for cell in self.cells)

    def encoded(
        self, form: int | None, seconds: float, faults: Faults, rng: random.Random
    ) -> tuple[int, bytes]:
        """The body now, and its content format. Raises RefusedError(4.06)."""
        if form is not None and form not in self.formats:
            raise RefusedError(0x86)
        chosen = self.formats[0] if form is None else form
        values = [(cell, cell.now(seconds, faults, rng)) for cell in self.cells]
        return chosen, _bytes(chosen, values)

    def write(self, form: int | None, body: bytes) -> None:
        """What a client has sent. Raises RefusedError."""
        form = self.formats[0] if form is None else _ETCH.get(form, form)
        known = {*self.formats, payload.MERGE_PATCH} if JSON in self.formats else {*self.formats}
        if form not in known:
            raise RefusedError(0x8F)
        try:
            changes = self._changes(form, body)
        except (PayloadError, ValueError, IndexError):
            raise RefusedError(0x80) from None
        for cell, value in changes:
            if cell.prop.access == "ReadOnly" and value != cell.written:
                continue  # it stands in the same document; it stays as it is
            cell.written = value
        if all(cell.prop.access == "ReadOnly" for cell, _ in changes):
            raise RefusedError(0x85 if changes else 0x80)

    def _changes(self, form: int, body: bytes) -> list[tuple[Cell, Any]]:
        found: list[tuple[Cell, Any]] = []
        if form in (SENML_JSON, SENML_CBOR):
            held = {one.name: one.value for one in senml.records(body, form, 0)}
            named = [(cell, cell.address.record or "") for cell in self.cells]
            return [(c, convert.typed(held[n], c.prop.type, c.address)) for c, n in named if n in held]
        if form in (JSON, CBOR, payload.MERGE_PATCH):
            document = payload.from_cbor(body) if form == CBOR else payload.from_json(body)
            for cell in self.cells:
                try:
                    value = payload.at(document, cell.address.pointer or "")
                except PayloadError:
                    continue
                found.append((cell, convert.typed(value, cell.prop.type, cell.address)))
            return found
        for cell in self.cells:
            if cell.address.offset is not None:
                one = layout.Layout([cell.address.field(cell.prop.type)], [0]).decode(body, 0)[0]
                if one.error is not None:
                    raise one.error
                found.append((cell, one.value[0]))
            elif form == OCTETS:
                found.append((cell, body))
            else:
                found.append((cell, convert.from_text(payload.text(body), cell.prop.type, cell.address)))
        return found


def _bytes(form: int, values: list[tuple[Cell, Any]]) -> bytes:
    if form in (SENML_JSON, SENML_CBOR):
        return senml.encode(form, [(cell.address.record or "", cell.raw(value)) for cell, value in values])
    if form in (JSON, CBOR):
        document: Any = None
        for cell, value in values:
            document = payload.put(document, cell.address.pointer or "", cell.raw(value))
        return payload.to_cbor(document) if form == CBOR else payload.to_json(document)
    first, value = values[0]
    if first.address.offset is None:
        return bytes(value) if form == OCTETS else convert.to_text(first.raw(value))
    body = bytearray()
    for cell, held in values:
        where = cell.address.field(cell.prop.type)
        if where.bit is not None:
            _lay_bits(body, where, int(held))
            continue
        data = layout.encode(where, held)
        body.extend(bytes(max(0, where.offset + len(data) - len(body))))
        body[where.offset : where.offset + len(data)] = data
    return bytes(body)


def _lay_bits(body: bytearray, where: layout.Field, value: int) -> None:
    """A bit field into its integer, whose other bits stay."""
    size = where.size or 1
    body.extend(bytes(max(0, where.offset + size - len(body))))
    order = "little" if where.byte_order == "little" else "big"
    held = int.from_bytes(body[where.offset : where.offset + size], order)  # type: ignore[arg-type]
    mask = (1 << where.width) - 1 << (where.bit or 0)
    held = held & ~mask | value << (where.bit or 0) & mask
    body[where.offset : where.offset + size] = held.to_bytes(size, order)  # type: ignore[arg-type]


@dataclass(eq=False)
class Twin:
    """One simulated device."""

    name: str
    endpoint_name: str  # by which it pushes
    bodies: list[Body]
    rng: random.Random
    actions: frozenset[tuple[str, ...]] = frozenset()  # paths of the commands that are calls
    faults: Faults = field(default_factory=Faults)


def bodies(device: SimulatedDevice, endpoint: CoapEndpoint, seed: str) -> list[Body]:
    """The resources of a device. Raises ValueError for what can't be simulated."""
    found: dict[tuple[str, ...], Body] = {}
    for point in device.points:
        prop, address = device.properties[point.name], point.address
        try:
            holds = room(address, prop.type)
            rng = random.Random(f"{seed} {device.name} {prop.name}")
            if prop.type == ValueType.JSON:
                raise ValueError("a json is not simulated: declare its parts with `pointer`")
            shape = signal(prop, holds, device.folder, rng)
            period_s = max(duration_ns(prop.telemetry.sampling_interval) / 1e9, LEAST_TICK_S)
            path = (*endpoint.prefix, *segments(address.path.partition("?")[0]))
            found.setdefault(path, Body(path)).add(Cell(prop, address, holds, shape, period_s))
        except ValueError as error:
            raise ValueError(f"{device.name}: {prop.name}: {error}") from error
    return list(found.values())


def given_value(fault: str, arguments: Mapping[str, str]) -> str:
    """The value of a fault that takes one, or none. Raises ValueError."""
    given = next(iter(arguments.values()), None)
    if fault not in FAULTS:
        raise ValueError(f"`{fault}` is no fault of CoAP: {', '.join(FAULTS)}")
    if fault in PLAIN and given is not None:
        raise ValueError(f"`{fault}` takes no value")
    return given or VALUES.get(fault, "")
