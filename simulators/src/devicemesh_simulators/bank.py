"""One simulated unit, without I/O: four tables, signals behind them, request PDU in, answer PDU out.

Modbus Application Protocol V1.1b3, section 6: functions 1 to 6, 15, 16, 22, 23 and 43/14.
"""

from __future__ import annotations

import math
import random
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from devicemesh_modbus.image import image, merged, value_of
from devicemesh_modbus.model import MAX_BITS, MAX_REGISTERS, ModbusAddress, Table

from devicemesh.layout import Field
from devicemesh.spec.device import Property
from devicemesh.spec.values import INTEGER_RANGES, ValueType
from devicemesh.testing.signals import Room, Signal, coerced, signal
from devicemesh.testing.simulator import SimulatedDevice
from devicemesh_simulators.faults import Faults

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3
WRITES = frozenset((5, 6, 15, 16, 22, 23))
_READS: dict[int, Table] = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}
_LENGTHS = {1: 5, 2: 5, 3: 5, 4: 5, 5: 5, 6: 5, 22: 7}  # of the requests that have a fixed one
_FLOAT_MAX = {ValueType.FLOAT16: 65504.0, ValueType.FLOAT32: 3.4028234663852886e38}


class RefusedError(Exception):
    """The unit answers with an exception code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(slots=True, eq=False)
class Cell:
    """A property in a table. Positions count bytes: two for a register, one for a bit."""

    prop: Property
    address: ModbusAddress
    room: Room
    signal: Signal
    start: int
    mask: bytes  # the bits that are the property's, from `start` on
    written: bool = False  # by a client: the signal is over

    @property
    def stop(self) -> int:
        return self.start + len(self.mask)

    def put(self, memory: bytearray, value: object) -> None:
        """Lay a value into the memory of its table; what else is in its registers stays."""
        data = _image(self.address, self.prop.type, value)[0]
        memory[self.start : self.stop] = merged(bytes(memory[self.start : self.stop]), data, self.mask)

    def now(self, seconds: float) -> object:
        """What the signal gives, as the property holds it."""
        value = self.signal.at(seconds)
        return value if isinstance(value, str | bytes) else coerced(value, self.prop.type, self.room)


def _image(address: ModbusAddress, type_: ValueType, value: object) -> tuple[bytes, bytes]:
    """Bytes and mask of a value; a bit of a table is a byte here."""
    if address.is_bit:
        return bytes((bool(value),)), b"\x01"
    return image(address, type_, value)  # type: ignore[arg-type]


def room(address: ModbusAddress, type_: ValueType) -> Room:
    """What an address holds of a property of this type."""
    field = address.field(type_, address.offset)
    if field.enum is not None:
        return Room(words=tuple(word for code, word in field.enum.items() if code != field.null))
    if type_ in (ValueType.STRING, ValueType.BYTES):
        return Room(length=field.length)
    if type_ == ValueType.BOOL:
        return Room(0, 1, whole=True)
    low, high = _raw_range(field)
    if field.scaled:
        low, high = sorted((low * field.scale + field.add, high * field.scale + field.add))
    if type_.is_integer:
        least, greatest = INTEGER_RANGES[type_]
        low, high = max(least, math.ceil(low)), min(greatest, math.floor(high))
    return Room(low, high, whole=field.type.is_integer, scaled=field.scaled)


def _raw_range(field: Field) -> tuple[float, float]:
    if field.type.is_float:
        limit = _FLOAT_MAX.get(field.type, sys.float_info.max)
        return -limit, limit
    width = field.width or 8 * (field.size or 0)
    low, high = 0, (1 << width) - 1
    if field.type.startswith("int") and width > 1:
        low, high = -(1 << width - 1), (1 << width - 1) - 1
    if field.null is not None:  # it is at an end of the range, mostly
        low += (field.null - low) % (1 << width) == 0
        high -= (field.null - high) % (1 << width) == 0
    return low, high


class Bank:
    """The tables of one unit; all devices that declare this unit share it, and its faults."""

    def __init__(self, seed: str, clock: Callable[[], float]) -> None:
        """`clock` gives the seconds since the start. The same seed, the same values."""
        self._seed = seed
        self._noise = random.Random(f"{seed} noise")
        self._clock = clock
        tables: tuple[Table, ...] = ("coil", "discrete", "input", "holding")
        self._cells: dict[Table, list[Cell]] = {table: [] for table in tables}
        self._memory = {table: bytearray() for table in tables}
        self.devices: list[str] = []
        self.faults = Faults()

    def add(self, device: SimulatedDevice) -> None:
        """Make a device's properties live here. Raises ValueError where a signal does not fit its address."""
        for point in device.points:
            prop = device.properties[point.name]
            try:
                self._add(prop, point.address, device)
            except ValueError as error:
                raise ValueError(f"{device.name}: {prop.name}: {error}") from error
        self.devices.append(device.name)

    def _add(self, prop: Property, declared: ModbusAddress, device: SimulatedDevice) -> None:
        address = declared.model_copy(update={"no_value": None})  # a device may say that it has none
        cells = self._cells[address.table]
        if any(cell.address == address and cell.prop.type == prop.type for cell in cells):
            return  # a second device of this unit: what it shares is there already
        holds = room(declared, prop.type)
        # each has chance of its own: what else is read, and when, is no matter
        rng = random.Random(f"{self._seed} {device.name} {prop.name}")
        shape = signal(prop, holds, device.folder, rng)
        start = address.offset * (1 if address.is_bit else 2)
        cell = Cell(prop, address, holds, shape, start, b"")
        cell.mask = _image(address, prop.type, cell.now(0.0))[1]
        cells.append(cell)
        memory = self._memory[address.table]
        memory.extend(bytes(max(0, cell.stop - len(memory))))

    def answer(self, request: bytes) -> bytes:
        """The answer's PDU to a request's PDU."""
        function = request[0]
        if self.faults.exception:
            return bytes((function | 0x80, self.faults.exception))
        try:
            return self._answer(function, request)
        except RefusedError as refused:
            return bytes((function | 0x80, refused.code))
        except (struct.error, IndexError):  # a request that is cut short
            return bytes((function | 0x80, ILLEGAL_VALUE))

    def _answer(self, function: int, request: bytes) -> bytes:
        if len(request) != _LENGTHS.get(function, len(request)):
            raise RefusedError(ILLEGAL_VALUE)
        if function in (1, 2):
            return self._read_bits(function, request)
        if function in (3, 4):
            address, count = struct.unpack_from(">HH", request, 1)
            return self._read_registers(function, _READS[function], address, count)
        if function in (5, 15):
            return self._write_coils(function, request)
        if function in (6, 16):
            return self._write_holding(function, request)
        if function == 22:
            return self._mask_write(request)
        if function == 23:
            return self._read_write(request)
        if function == 43 and request[1] == 14:
            return self._identify(request[2], request[3])
        raise RefusedError(ILLEGAL_FUNCTION)

    def _read_bits(self, function: int, request: bytes) -> bytes:
        address, count = struct.unpack_from(">HH", request, 1)
        if not 1 <= count <= MAX_BITS:
            raise RefusedError(ILLEGAL_VALUE)
        out = bytearray((count + 7) // 8)
        for i, bit in enumerate(self._view(_READS[function], address, address + count)):
            out[i // 8] |= bit << i % 8
        return bytes((function, len(out))) + out

    def _read_registers(self, function: int, table: Table, address: int, count: int) -> bytes:
        if not 1 <= count <= MAX_REGISTERS:
            raise RefusedError(ILLEGAL_VALUE)
        return bytes((function, 2 * count)) + self._view(table, 2 * address, 2 * (address + count))

    def _write_coils(self, function: int, request: bytes) -> bytes:
        address, count = struct.unpack_from(">HH", request, 1)
        if function == 5:
            if count not in (0, 0xFF00):
                raise RefusedError(ILLEGAL_VALUE)
            bits = bytes((count != 0,))
        else:
            size = (count + 7) // 8
            if not 1 <= count <= 1968 or request[5] != size or len(request) != 6 + size:
                raise RefusedError(ILLEGAL_VALUE)
            bits = bytes(request[6 + i // 8] >> i % 8 & 1 for i in range(count))
        self._write("coil", address, bits, b"\xff" * len(bits))
        return request[:5]

    def _write_holding(self, function: int, request: bytes) -> bytes:
        (address,) = struct.unpack_from(">H", request, 1)
        if function == 6:
            data = request[3:]
        else:
            count, size = struct.unpack_from(">HB", request, 3)
            data = request[6:]
            if not 1 <= count <= 123 or size != 2 * count or len(data) != size:
                raise RefusedError(ILLEGAL_VALUE)
        self._write("holding", 2 * address, data, b"\xff" * len(data))
        return request[:5]

    def _mask_write(self, request: bytes) -> bytes:
        address, keep, new = struct.unpack_from(">HHH", request, 1)
        self._write("holding", 2 * address, new.to_bytes(2), (~keep & 0xFFFF).to_bytes(2))
        return request

    def _read_write(self, request: bytes) -> bytes:
        """Read/Write Multiple Registers (6.17): the write comes first."""
        read, read_count, address, count, size = struct.unpack_from(">HHHHB", request, 1)
        data = request[10:]
        if not 1 <= count <= 121 or size != 2 * count or len(data) != size:
            raise RefusedError(ILLEGAL_VALUE)
        if not 1 <= read_count <= MAX_REGISTERS:
            raise RefusedError(ILLEGAL_VALUE)
        self._check("holding", 2 * read, 2 * (read + read_count))
        self._write("holding", 2 * address, data, b"\xff" * size)
        return self._read_registers(23, "holding", read, read_count)

    def _touched(self, table: Table, start: int, stop: int) -> Iterator[Cell]:
        return (cell for cell in self._cells[table] if cell.start < stop and start < cell.stop)

    def _check(self, table: Table, start: int, stop: int) -> None:
        """Refuse what is outside; holes between properties are as good as registers, as in most devices."""
        first = min((cell.start for cell in self._cells[table]), default=0)
        if start < first or stop > len(self._memory[table]):
            raise RefusedError(ILLEGAL_ADDRESS)

    def _refresh(self, table: Table, start: int, stop: int) -> None:
        """Bring the properties in a range up to date."""
        self._check(table, start, stop)
        seconds = self._clock()
        for cell in self._touched(table, start, stop):
            if not cell.written:
                cell.put(self._memory[table], cell.now(seconds))

    def _view(self, table: Table, start: int, stop: int) -> bytes:
        """What a client sees: the memory, through the noise if there is any."""
        self._refresh(table, start, stop)
        memory = self._memory[table]
        if self.faults.noise:
            memory = bytearray(memory)
            for cell in self._touched(table, start, stop):
                self._blur(cell, memory)
        return bytes(memory[start:stop])

    def _blur(self, cell: Cell, memory: bytearray) -> None:
        if not cell.prop.type.is_number:
            return
        value, _ = value_of(cell.address, cell.prop.type, bytes(memory[cell.start : cell.stop]))
        if isinstance(value, int | float) and math.isfinite(value):
            noisy = value * (1 + self._noise.uniform(-self.faults.noise, self.faults.noise))
            cell.put(memory, coerced(noisy, cell.prop.type, cell.room))

    def _write(self, table: Table, start: int, data: bytes, mask: bytes) -> None:
        """Write the masked bits. Refused where a read-only property would change.

        A read-only part of a register that also has writable ones is no reason: a device leaves it as it is.
        """
        stop = start + len(data)
        self._refresh(table, start, stop)
        hit = [cell for cell in self._touched(table, start, stop) if _hits(cell, start, mask)]
        writable = [cell for cell in hit if cell.prop.access != "ReadOnly"]
        for cell in hit:
            shared = any(other.start < cell.stop and cell.start < other.stop for other in writable)
            if not shared:
                raise RefusedError(ILLEGAL_ADDRESS)
        memory = self._memory[table]
        memory[start:stop] = merged(bytes(memory[start:stop]), data, mask)
        for cell in writable:
            cell.written = True

    def _identify(self, code: int, first: int) -> bytes:
        """Read Device Identification (6.21): the basic objects, as a stream or one by one."""
        product = self.devices[0].partition("/")[2]
        objects = dict(enumerate((b"DeviceMesh", product.encode(), b"simulated")))
        if code == 4:
            if first not in objects:
                raise RefusedError(ILLEGAL_ADDRESS)
            objects = {first: objects[first]}
        elif code not in (1, 2, 3):
            raise RefusedError(ILLEGAL_VALUE)
        elif first in objects:
            objects = {number: text for number, text in objects.items() if number >= first}
        listed = b"".join(bytes((number, len(text))) + text for number, text in objects.items())
        return bytes((43, 14, code, 0x81, 0, 0, len(objects))) + listed


def _hits(cell: Cell, start: int, mask: bytes) -> bool:
    """Whether masked bits, from `start` on, are the property's."""
    both = range(max(cell.start, start), min(cell.stop, start + len(mask)))
    return any(cell.mask[at - cell.start] & mask[at - start] for at in both)
