"""Simulated LoRaWAN devices, without I/O: what they send, and what a downlink does to them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from devicemesh_lora import cayenne, document, mac
from devicemesh_lora.endpoint import stand_in_key
from devicemesh_lora.mac import DataFrame, FrameError, MType
from devicemesh_lora.model import LoraAddress

from devicemesh import layout
from devicemesh.spec.device import Property
from devicemesh.spec.values import INTEGER_RANGES, ValueType, duration_ns
from devicemesh.testing.signals import Room, Signal, coerced, signal
from devicemesh.testing.simulator import SimulatedDevice

LEAST_PERIOD_S = 0.1
"""Devices send at most this often: a radio would be slower by far."""
MOST_DOWNLINKS = 16
"""That wait for their codec."""
SHARES = ("loss", "duplicate", "late", "badMic", "crc", "tooLate")
PLAIN = ("replay", "reboot", "wrap", "unplug", "heal")
FAULTS = (*SHARES, *PLAIN)
_LPP_LIMITS: Mapping[str, tuple[float, float]] = {
    "digitalIn": (0, 255), "digitalOut": (0, 255), "presence": (0, 255), "illuminance": (0, 65535),
    "temperature": (-3276.8, 3276.7), "humidity": (0, 127.5), "pressure": (0, 6553.5),
    "latitude": (-90, 90), "longitude": (-180, 180), "altitude": (-83886, 83886),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Faults:
    """Of one device: each a share of its frames."""

    loss: float = 0.0
    duplicate: float = 0.0
    late: float = 0.0
    bad_mic: float = 0.0
    crc: float = 0.0
    too_late: float = 0.0
    unplugged: bool = False

    def switched(self, fault: str, given: str | None) -> Faults:
        """These faults and one more. Raises ValueError."""
        if fault in PLAIN:
            if given is not None:
                raise ValueError(f"`{fault}` takes no value")
            return (
                Faults() if fault == "heal" else replace(self, unplugged=self.unplugged or fault == "unplug")
            )
        if fault not in SHARES:
            raise ValueError(f"`{fault}` is no fault of LoRa: {', '.join(FAULTS)}")
        try:
            share = float((given or "30").removesuffix("%")) / 100
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise ValueError(f"{given!r} is not a percentage: 0 to 100")
        names = {"badMic": "bad_mic", "tooLate": "too_late"}
        changed: dict[str, Any] = {names.get(fault, fault): share}
        return replace(self, **changed)

    def words(self) -> str:
        """What is wrong now, for people."""
        parts = [
            (self.loss, "lost"), (self.duplicate, "twice"), (self.late, "heard again later"),
            (self.bad_mic, "with a wrong MIC"), (self.crc, "with a wrong CRC"),
            (self.too_late, "of the downlinks refused as TOO_LATE"),
        ]  # fmt: skip
        said = [f"{share * 100:g} % {what}" for share, what in parts if share]
        return ", ".join((["silent"] if self.unplugged else []) + said) or "healthy"


@dataclass(eq=False)
class Cell:
    """A property in a payload."""

    prop: Property
    address: LoraAddress
    room: Room
    signal: Signal
    written: Any = None

    def now(self, seconds: float) -> Any:
        value = self.signal.at(seconds) if self.written is None else self.written
        if isinstance(value, str | bytes):
            return value
        value = coerced(value, self.prop.type, self.room)
        return bool(value) if self.prop.type == ValueType.BOOL else value

    def take(self, data: Any) -> None:
        """Hold from now on what a decoded downlink has of it."""
        value = document.at(data, self.address.steps)
        if value is document.MISSING or self.prop.access == "ReadOnly":
            return
        with contextlib.suppress(document.DocumentError):
            self.written = document.typed(value, self.prop.type, self.address.scale, self.address.add)

    def raw(self, seconds: float) -> Any:
        """As a decoded payload has it, before `scale` and `add`."""
        value, address = self.now(seconds), self.address
        if (address.scale, address.add) == (1.0, 0.0) or not isinstance(value, int | float):
            return value
        return (value - address.add) / address.scale


def _plain_room(type_: ValueType) -> Room:
    if type_ == ValueType.BOOL:
        return Room(0, 1, whole=True)
    if type_.is_integer:
        low, high = map(float, INTEGER_RANGES[type_])
        return Room(low, high, whole=True)
    return Room()


def room(address: LoraAddress, type_: ValueType) -> Room:
    """What a payload holds of a property of this type."""
    if address.pointer is not None:
        return _plain_room(type_)
    if address.offset is None:
        low, high = _LPP_LIMITS.get(address.quantity or "temperature", (-30.0, 30.0))
        return Room(low, high)
    wire = address.field(type_)
    if wire.enum is not None:
        return Room(words=tuple(wire.enum.values()))
    if type_ == ValueType.BOOL:
        return Room(0, 1, whole=True)
    if not type_.is_number:
        return Room(length=wire.length)
    if not wire.type.is_integer:
        return Room()
    low, high = map(float, INTEGER_RANGES[wire.type])
    if wire.width:
        low, high = 0.0, float((1 << wire.width) - 1)
    if address.scale != 1.0 or address.add != 0.0:
        low, high = sorted((low * address.scale + address.add, high * address.scale + address.add))
        return Room(low, high, whole=True, scaled=True)
    return Room(low, high, whole=True)


def laid(cells: list[Cell], seconds: float) -> bytes:
    """The payload that these properties make up."""
    body = bytearray()
    for cell in cells:
        where, value = cell.address.field(cell.prop.type), cell.now(seconds)
        if where.bit is not None:
            size = where.size or 1
            body.extend(bytes(max(0, where.offset + size - len(body))))
            held = int.from_bytes(body[where.offset : where.offset + size], where.byte_order)
            data = (held | int(value) << where.bit).to_bytes(size, where.byte_order)
        else:
            data = layout.encode(replace(where, offset=0), value)
        body.extend(bytes(max(0, where.offset + len(data) - len(body))))
        body[where.offset : where.offset + len(data)] = data
    return bytes(body)


def listed(cells: list[Cell], seconds: float) -> bytes:
    """The Cayenne LPP that these properties make up; what is not declared of a type is 0."""
    found: dict[tuple[int, tuple[str, ...]], dict[str, float]] = {}
    for cell in cells:
        quantity = cell.address.quantity or "temperature"
        names = next(kind.names for kind in cayenne.KINDS.values() if quantity in kind.names)
        values = found.setdefault((cell.address.channel or 0, names), dict.fromkeys(names, 0.0))
        values[quantity] = float(cell.now(seconds))
    return b"".join(cayenne.encode(channel, values) for (channel, _), values in found.items())


@dataclass(eq=False)
class Node:
    """One simulated device. It joins with the key of stand-ins."""

    name: str
    eui: str
    join_eui: str
    ports: dict[int, list[Cell]]
    period_s: float
    nonce: int
    faults: Faults = field(default_factory=Faults)
    keys: tuple[bytes, bytes] | None = None
    dev_addr: int = 0
    counter: int = 0
    previous: list[bytes] = field(default_factory=list)
    acknowledge: bool = False
    answers: bytes = b""
    heard_down: int = -1
    joined: asyncio.Event = field(default_factory=asyncio.Event)
    decoded: dict[int, list[Cell]] = field(default_factory=dict)  # what a codec finds, by FPort
    downlinks: list[tuple[int, bytes]] = field(default_factory=list)  # that the codec is to read

    @property
    def pointed(self) -> list[Cell]:
        """The properties that a codec finds, of all ports."""
        return [cell for cells in self.decoded.values() for cell in cells]

    def join(self) -> bytes:
        """The next join request."""
        self.nonce = (self.nonce + 1) & 0xFFFF
        return mac.join_request(
            stand_in_key(self.eui), bytes.fromhex(self.join_eui), bytes.fromhex(self.eui), self.nonce
        )

    def uplinks(self, seconds: float) -> list[bytes]:
        """A frame for each port that has properties, or an empty one."""
        frames = []
        nothing: dict[int, list[Cell]] = {} if self.pointed else {1: []}
        for port, cells in (self.ports or nothing).items():
            is_lpp = bool(cells) and cells[0].address.channel is not None
            data = listed(cells, seconds) if is_lpp else laid(cells, seconds)
            frames.append(self.frame(port, data))
        return frames

    def document(self, seconds: float) -> dict[str, Any]:
        """The decoded payload that the properties with `pointer` make up."""
        made: dict[str, Any] = {}
        for cell in self.pointed:
            if not cell.address.normalized:
                made = document.holding(cell.address.steps, cell.raw(seconds), made)
        return made

    def obey_document(self, data: Any) -> None:
        """Take over what a decoded downlink has."""
        for cell in self.pointed:
            cell.take(data)

    def frame(self, port: int, data: bytes) -> bytes:
        """An uplink with this payload."""
        assert self.keys is not None
        control = 0x20 if self.acknowledge else 0
        phy = mac.data_frame(
            MType.UNCONFIRMED_UP, self.keys, self.dev_addr, self.counter, port, data,
            options=self.answers, control=control,
        )  # fmt: skip
        self.acknowledge, self.answers = False, b""
        self.counter += 1
        self.previous = [*self.previous[-7:], phy]
        return phy

    def reboot(self) -> None:
        """Forget the counter, as a device by ABP does that does not keep it."""
        self.counter = 0

    def hear(self, phy: bytes) -> bool:
        """A downlink; False: it is for another device."""
        if phy[:1] == b"\x20":
            if self.keys is not None:
                return False
            try:
                accept = mac.open_join_accept(stand_in_key(self.eui), phy)
            except FrameError:
                return False
            self.keys = mac.session_keys(stand_in_key(self.eui), accept.join_nonce, accept.net_id, self.nonce)
            self.dev_addr, self.counter, self.heard_down = accept.dev_addr, 0, -1
            self.joined.set()
            return True
        try:
            frame = mac.decode(phy)
        except FrameError:
            return False
        if self.keys is None or not isinstance(frame, DataFrame) or frame.dev_addr != self.dev_addr:
            return False
        counter, _ = mac.candidates(self.heard_down, frame.counter16)
        if not frame.is_signed(self.keys[0], counter):
            return False
        self.heard_down = counter
        self._obey(frame, frame.opened(self.keys[1], counter))
        return True

    def _obey(self, frame: DataFrame, data: bytes) -> None:
        self.acknowledge = frame.confirmed
        if bytes((mac.DEV_STATUS,)) in frame.options:
            self.answers = bytes((mac.DEV_STATUS, 200, 10))
        if self.pointed and frame.port and len(self.downlinks) < MOST_DOWNLINKS:
            self.downlinks.append((frame.port, data))
        for cells in self.ports.values():
            for cell in cells:
                prefix = bytes.fromhex(cell.address.prefix)
                if cell.address.offset is None or cell.prop.access == "ReadOnly":
                    continue
                if (cell.address.port or 1) != frame.port or not data.startswith(prefix):
                    continue
                where = replace(cell.address.field(cell.prop.type), offset=len(prefix))
                found = layout.Layout([where], [0]).decode(data, 0)[0]
                if found.error is None:
                    cell.written = found.value[0]


def node(device: SimulatedDevice, join_eui: str, seed: str, nonce: int) -> Node:
    """A device out of its declaration. Raises ValueError for what can't be simulated."""
    ports: dict[int, list[Cell]] = {}
    decoded: dict[int, list[Cell]] = {}
    endpoint: Any = device.endpoint
    period_s = 86400.0
    for point in device.points:
        prop, address = device.properties[point.name], point.address
        period_s = min(period_s, duration_ns(prop.telemetry.sampling_interval) / 1e9)
        if address.stat is not None:
            continue
        holds = room(address, prop.type)
        try:
            shape = signal(prop, holds, device.folder, random.Random(f"{seed} {device.name} {prop.name}"))
        except ValueError as error:
            raise ValueError(f"{device.name}: {prop.name}: {error}") from error
        if address.pointer is not None:
            decoded.setdefault(address.port or 1, []).append(Cell(prop, address, holds, shape))
            if endpoint.server is not None:  # whose codec it is: the payload itself does not matter
                ports.setdefault(address.port or 1, [])
            continue
        cells = ports.setdefault(address.port or 1, [])
        if cells and (cells[0].address.channel is None) != (address.channel is None):
            raise ValueError(f"{device.name}: bytes and Cayenne LPP can't be simulated on one port")
        cells.append(Cell(prop, address, holds, shape))
    period_s = max(period_s, LEAST_PERIOD_S)
    return Node(device.name, endpoint.eui, join_eui, ports, period_s, nonce, decoded=decoded)
