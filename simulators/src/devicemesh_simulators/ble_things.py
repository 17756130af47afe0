"""Simulated BLE devices, without I/O: what they advertise, what characteristics hold, what writes change."""

from __future__ import annotations

import hashlib
import math
import random
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from devicemesh_ble import beacons, bthome
from devicemesh_ble.decode import BlePoint, Record
from devicemesh_ble.model import BleAddress, BleEndpoint
from devicemesh_ble.sig import SIZES, uuid
from devicemesh_ble.vendors import PARSERS

from devicemesh import layout
from devicemesh.spec.device import Property
from devicemesh.spec.values import INTEGER_RANGES, Scalar, ValueType, duration_ns
from devicemesh.testing.signals import Room, Signal, coerced, signal
from devicemesh.testing.simulator import SimulatedDevice

SERVICE = "0000fff0-0000-1000-8000-00805f9b34fb"
"""Of characteristics whose service is not declared."""
MAX_ADVERT = 229
"""Bytes of one extended advertising PDU (Core Specification, volume 6, part B, 2.3.4.9)."""
VALUES = {"att": "14", "delay": "500ms", "slots": "0", "noise": "5"}
PLAIN = ("drop", "mtu23", "rotate", "silence", "heal")
FAULTS = (*VALUES, *PLAIN)
_FLOAT_MAX = {ValueType.FLOAT16: 65504.0, ValueType.FLOAT32: 3.4028234663852886e38}
_TELEMETRY = {"voltage", "temperature", "advertisements", "uptime"}


@dataclass(frozen=True, slots=True)
class Faults:
    """Of one device; `drop` and `rotate` just happen."""

    att: int = 0  # the ATT error that everything is answered with
    delay_s: float = 0.0  # before each answer to a read
    slots: int | None = None  # connections that it takes
    noise: float = 0.0  # relative
    mtu23: bool = False
    silence: bool = False  # it does not advertise

    def switched(self, fault: str, arguments: Mapping[str, str]) -> Faults:
        """These faults and one more. Raises ValueError."""
        given = next(iter(arguments.values()), None)
        if fault not in FAULTS:
            raise ValueError(f"`{fault}` is no fault of BLE: {', '.join(FAULTS)}")
        if fault in PLAIN and given is not None:
            raise ValueError(f"`{fault}` takes no value")
        text = given or VALUES.get(fault, "")
        if fault == "delay":
            return replace(self, delay_s=duration_ns(text) / 1e9)
        if fault == "noise":
            return replace(self, noise=_number(text, 100) / 100)
        if fault in ("att", "slots"):
            whole = int(_number(text, 255))
            return replace(self, att=whole) if fault == "att" else replace(self, slots=whole)
        if fault in ("mtu23", "silence"):
            return replace(
                self, mtu23=fault == "mtu23" or self.mtu23, silence=fault == "silence" or self.silence
            )
        return Faults() if fault == "heal" else self

    def words(self) -> str:
        """What is wrong now, for people."""
        parts = [
            f"ATT error 0x{self.att:02x}" if self.att else "",
            f"reads {self.delay_s * 1e3:g} ms late" if self.delay_s else "",
            f"takes {self.slots} connections" if self.slots is not None else "",
            f"numbers off by up to {self.noise * 100:g} %" if self.noise else "",
            "MTU 23" if self.mtu23 else "",
            "silent" if self.silence else "",
        ]
        return ", ".join(part for part in parts if part) or "healthy"


def _number(text: str, most: float) -> float:
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = -1.0
    if not 0 <= number <= most:
        raise ValueError(f"{text!r} is no number from 0 to {most:g}")
    return number


@dataclass(slots=True, eq=False)
class Cell:
    """A property in its bytes."""

    point: BlePoint
    prop: Property
    room: Room
    signal: Signal
    written: Any = None  # by a client: the signal is over

    def now(self, seconds: float, faults: Faults, rng: random.Random) -> Any:
        """The value, as the bytes hold it."""
        value = self.signal.at(seconds) if self.written is None else self.written
        if isinstance(value, str | bytes):
            return value
        if faults.noise and self.prop.type.is_number:
            value *= 1 + rng.uniform(-faults.noise, faults.noise)
        value = coerced(value, self.prop.type, self.room)
        if self.prop.type == ValueType.BOOL:
            return bool(value)
        return int(value) if self.prop.type.is_integer else value


def room(address: BleAddress, type_: ValueType) -> Room:
    """What an address holds of a property of this type."""
    if type_ == ValueType.BOOL:
        return Room(0, 1, whole=True)
    if address.beacon is not None:
        low, high = INTEGER_RANGES.get(type_, (-sys.float_info.max, sys.float_info.max))
        return Room(float(low), float(high), whole=type_.is_integer)
    wire = address.field(type_)
    if wire.enum is not None:
        return Room(words=tuple(wire.enum.values()))
    if not type_.is_number:
        return Room(length=wire.length)
    scale = address.where[1]
    low, high = _raw_limits(address, wire)
    low, high = sorted((low * scale + address.add, high * scale + address.add))
    if type_.is_integer:
        least, greatest = INTEGER_RANGES[type_]
        low, high = max(least, math.ceil(low)), min(greatest, math.floor(high))
    scaled = scale != 1.0 or address.add != 0.0
    return Room(low, high, whole=wire.type.is_integer and not scaled, scaled=scaled)


def _raw_limits(address: BleAddress, wire: layout.Field) -> tuple[float, float]:
    special = address.special
    if special in ("sfloat", "medfloat"):
        return (-2e7, 2e7) if special == "sfloat" else (-1e30, 1e30)
    if special is not None:
        bits = SIZES[special] * 8
        return (0.0, 2.0**bits - 1) if special[0] == "u" else (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1)
    if wire.width:
        return 0.0, float((1 << wire.width) - 1)
    if wire.type.is_integer:
        low, high = INTEGER_RANGES[wire.type]
        return float(low), float(high)
    limit = _FLOAT_MAX.get(wire.type, sys.float_info.max)
    return -limit, limit


@dataclass(eq=False)
class Block:
    """Bytes that hold one property or more: a characteristic, or data of an advertisement."""

    cells: list[Cell] = field(default_factory=list)

    def data(self, seconds: float, faults: Faults, rng: random.Random) -> bytes:
        """The bytes now."""
        body = bytearray()
        for cell in self.cells:
            address, value = cell.point.address, cell.now(seconds, faults, rng)
            where = address.field(cell.prop.type)
            if where.bit is not None:
                _lay_bits(body, where, int(value))
                continue
            data = address.encode(cell.prop.type, value)
            body.extend(bytes(max(0, where.offset + len(data) - len(body))))
            body[where.offset : where.offset + len(data)] = data
        return bytes(body)

    @property
    def writable(self) -> bool:
        return any(cell.prop.access != "ReadOnly" for cell in self.cells)

    @property
    def notifies(self) -> bool:
        return any(cell.point.address.mode == "notify" for cell in self.cells)

    def write(self, data: bytes) -> bool:
        """Take what a client has written; False: it does not fit."""
        for cell in self.cells:
            if cell.prop.access == "ReadOnly":
                continue
            (batch,) = Record("", [cell.point]).batches(data, 0)
            if batch.error is not None:
                return False
            cell.written = batch.value[0]
        return True


def _lay_bits(body: bytearray, where: layout.Field, value: int) -> None:
    """A bit field into its integer, whose other bits stay."""
    size = where.size or 1
    body.extend(bytes(max(0, where.offset + size - len(body))))
    order = where.byte_order
    held = int.from_bytes(body[where.offset : where.offset + size], order)
    mask = (1 << where.width) - 1 << (where.bit or 0)
    held = held & ~mask | value << (where.bit or 0) & mask
    body[where.offset : where.offset + size] = held.to_bytes(size, order)


class Twin:
    """One simulated device."""

    def __init__(self, device: SimulatedDevice, seed: str) -> None:
        """Raises ValueError for what can't be simulated."""
        assert isinstance(device.endpoint, BleEndpoint)
        self.name = device.name
        self.endpoint = device.endpoint
        self.faults = Faults()
        self.rng = random.Random(f"{seed} {device.name} noise")
        self.turns = 0  # how often its address has changed
        self.characteristics: dict[tuple[str, str], Block] = {}
        self._manufacturer: dict[int, Block] = {}
        self._service_data: dict[str, Block] = {}
        self._beacons: dict[str, list[tuple[str, Cell]]] = {}
        for point in device.points:
            prop = device.properties[point.name]
            try:
                self._add(device, point, prop, seed)
            except ValueError as error:
                raise ValueError(f"{device.name}: {prop.name}: {error}") from error
        self.advertisement(0.0)  # raises now for what does not fit

    def _add(self, device: SimulatedDevice, point: BlePoint, prop: Property, seed: str) -> None:
        address = point.address
        if address.signal is not None:
            return
        holds = room(address, prop.type)
        rng = random.Random(f"{seed} {device.name} {prop.name}")
        cell = Cell(point, prop, holds, signal(prop, holds, device.folder, rng))
        if address.beacon is not None:
            format_, _, name = address.beacon.partition("/")
            self._beacons.setdefault(format_, []).append((name, cell))
        elif address.manufacturer is not None:
            self._manufacturer.setdefault(address.manufacturer, Block()).cells.append(cell)
        elif address.service_data is not None:
            self._service_data.setdefault(uuid(address.service_data), Block()).cells.append(cell)
        else:
            place = uuid(address.service or SERVICE), uuid(address.characteristic or "")
            self.characteristics.setdefault(place, Block()).cells.append(cell)

    @property
    def address(self) -> str:
        """Its address now: as declared, or a static random one out of its name; another after `rotate`."""
        if self.endpoint.address is not None and not self.turns:
            return self.endpoint.address
        digest = bytearray(hashlib.blake2s(f"{self.name} {self.turns}".encode(), digest_size=6).digest())
        digest[0] |= 0xC0
        return bytes(digest).hex(":").upper()

    @property
    def local_name(self) -> str:
        return self.endpoint.name or self.name.rpartition("/")[2][:29]

    def advertisement(self, seconds: float) -> bytes:
        """AD structures (Core Specification Supplement, part A). Raises ValueError for what does not fit."""
        made = _structure(0x01, b"\x06") + _structure(0x09, self.local_name.encode())
        for company, block in self._manufacturer.items():
            made += _structure(0xFF, company.to_bytes(2, "little") + self._data(block, seconds))
        for service, block in self._service_data.items():
            made += _service_data(service, self._data(block, seconds))
        for format_, named in self._beacons.items():
            if format_ in PARSERS:
                continue  # we only know how to read these
            values = {name: cell.now(seconds, self.faults, self.rng) for name, cell in named}
            made += self._beacon(format_, values)
        if len(made) > MAX_ADVERT:
            raise ValueError(f"{self.name} would advertise {len(made)} bytes, {MAX_ADVERT} fit")
        return made

    def _data(self, block: Block, seconds: float) -> bytes:
        return block.data(seconds, self.faults, self.rng)

    def _beacon(self, format_: str, values: dict[str, Scalar | None]) -> bytes:
        if format_ == "bthome":
            objects = b"".join(bthome.encode(name.partition("#")[0], v or 0) for name, v in values.items())
            return _service_data(uuid(bthome.SERVICE), b"\x40" + objects)
        if format_ == "ruuvi":
            mac = bytes.fromhex(self.address.replace(":", ""))
            data = beacons.encode_ruuvi(values, mac)
            return _structure(0xFF, beacons.RUUVI.to_bytes(2, "little") + data)
        if format_ == "ibeacon":
            data = beacons.encode_ibeacon(values)
            return _structure(0xFF, beacons.APPLE.to_bytes(2, "little") + data)
        if other := values.keys() - _TELEMETRY:
            raise ValueError(f"of Eddystone only telemetry is simulated, not {min(other)}")
        return _service_data(uuid(beacons.EDDYSTONE), beacons.encode_telemetry(values))


def _structure(kind: int, data: bytes) -> bytes:
    return bytes([len(data) + 1, kind]) + data


def _service_data(service: str, data: bytes) -> bytes:
    if service.endswith("-0000-1000-8000-00805f9b34fb") and service.startswith("0000"):
        return _structure(0x16, bytes.fromhex(service[4:8])[::-1] + data)
    return _structure(0x21, bytes.fromhex(service.replace("-", ""))[::-1] + data)
