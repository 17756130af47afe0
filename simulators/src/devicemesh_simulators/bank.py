"""One simulated unit, without I/O: four tables, signals behind them, request PDU in, answer PDU out.

Modbus Application Protocol V1.1b3: functions 1 to 6, 15, 16, 22, 23 and 43/14.
"""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass

from devicemesh_modbus.model import ModbusAddress, ModbusEndpoint

from devicemesh.layout import Field, encode
from devicemesh.mapper import Point
from devicemesh.spec.device import Property
from devicemesh.testing.simulator import SimulatedDevice
from devicemesh_simulators.faults import Faults
from devicemesh_simulators.signals import Constant, Signal, coerced, signal

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, DEVICE_FAILURE = 1, 2, 3, 4
TABLE = {
    1: "coil",
    2: "discrete",
    3: "holding",
    4: "input",
    5: "coil",
    6: "holding",
    15: "coil",
    16: "holding",
}


class _Refused(Exception):  # noqa: N818 - an answer, not an error of ours
    def __init__(self, code: int) -> None:
        self.code = code


@dataclass(slots=True)
class _Cell:
    """A property in the tables: its bytes are made when somebody looks."""

    prop: Property
    field: Field  # within the cell
    table: str
    first: int  # register or bit
    count: int
    signal: Signal
    written: bool = False  # a client has written it: the signal is over


class Bank:
    """The tables of one unit; all devices that declare this unit share it."""

    def __init__(self, rng: random.Random, clock: Callable[[], float]) -> None:
        self._rng = rng
        self._clock = clock  # seconds since the start
        self._cells: dict[str, list[_Cell]] = {"coil": [], "discrete": [], "input": [], "holding": []}
        self._memory = {table: bytearray(2 * 65536) for table in ("input", "holding")}
        self._memory |= {table: bytearray(65536) for table in ("coil", "discrete")}
        self.identity: dict[int, bytes] = {}
        self.faults = Faults()

    def add(self, device: SimulatedDevice) -> None:
        """Make a device's properties live here. Raises ValueError."""
        for point in device.points:
            self._add(point, device.properties[point.name], device)
        product = device.name.rpartition("/")[2]
        self.identity = {0: b"DeviceMesh", 1: product.encode(), 2: b"simulated"}

    def _add(
        self, point: Point[ModbusEndpoint, ModbusAddress], prop: Property, device: SimulatedDevice
    ) -> None:
        address = point.address
        shape = signal(prop, device.folder, self._rng)
        field = address.field(point.type, address.offset)
        cell = _Cell(prop, field, address.table, address.offset, address.span(point.type), shape)
        self._cells[address.table].append(cell)

    def answer(self, request: bytes) -> bytes:
        """The answer's PDU to a request's PDU."""
        function = request[0]
        if self.faults.exception:
            return bytes((function | 0x80, self.faults.exception))
        try:
            return self._answer(function, request)
        except _Refused as refused:
            return bytes((function | 0x80, refused.code))
        except (struct.error, IndexError):
            return bytes((function | 0x80, ILLEGAL_VALUE))

    def _answer(self, function: int, request: bytes) -> bytes:
        if function in (1, 2):
            return self._read_bits(function, request)
        if function in (3, 4):
            return self._read_registers(function, request)
        if function == 5:
            address, value = struct.unpack_from(">HH", request, 1)
            if value not in (0, 0xFF00):
                raise _Refused(ILLEGAL_VALUE)
            self._write_bits(address, [value != 0])
            return request[:5]
        if function == 6:
            self._write_registers(struct.unpack_from(">H", request, 1)[0], request[3:5])
            return request[:5]
        if function == 15:
            address, count, size = struct.unpack_from(">HHB", request, 1)
            if size != (count + 7) // 8 or len(request) != 6 + size or not 1 <= count <= 1968:
                raise _Refused(ILLEGAL_VALUE)
            self._write_bits(address, [bool(request[6 + i // 8] >> i % 8 & 1) for i in range(count)])
            return request[:5]
        if function == 16:
            address, count, size = struct.unpack_from(">HHB", request, 1)
            if size != 2 * count or len(request) != 6 + size or not 1 <= count <= 123:
                raise _Refused(ILLEGAL_VALUE)
            self._write_registers(address, request[6:])
            return request[:5]
        if function == 22:
            address, and_mask, or_mask = struct.unpack_from(">HHH", request, 1)
            (now,) = struct.unpack(">H", self._registers("holding", address, 1))
            mixed = (now & and_mask) | (or_mask & ~and_mask & 0xFFFF)
            self._write_registers(address, struct.pack(">H", mixed))
            return request[:7]
        if function == 43 and request[1] == 14:
            return self._identify(request)
        raise _Refused(ILLEGAL_FUNCTION)

    def _read_bits(self, function: int, request: bytes) -> bytes:
        address, count = struct.unpack_from(">HH", request, 1)
        if not 1 <= count <= 2000:
            raise _Refused(ILLEGAL_VALUE)
        table = TABLE[function]
        self._refresh(table, address, count)
        out = bytearray((count + 7) // 8)
        for i, bit in enumerate(self._memory[table][address : address + count]):
            out[i // 8] |= bit << i % 8
        return bytes((function, len(out))) + bytes(out)

    def _read_registers(self, function: int, request: bytes) -> bytes:
        address, count = struct.unpack_from(">HH", request, 1)
        if not 1 <= count <= 125:
            raise _Refused(ILLEGAL_VALUE)
        return bytes((function, 2 * count)) + self._registers(TABLE[function], address, count)

    def _registers(self, table: str, address: int, count: int) -> bytes:
        self._refresh(table, address, count)
        return bytes(self._memory[table][2 * address : 2 * (address + count)])

    def _refresh(self, table: str, first: int, count: int) -> None:
        """Bring the properties in a range up to date. Raises _Refused past the last declared one."""
        cells = self._cells[table]
        end = max((cell.first + cell.count for cell in cells), default=0)
        start = min((cell.first for cell in cells), default=0)
        if first < start or first + count > end:  # holes between properties read as zero, as in most devices
            raise _Refused(ILLEGAL_ADDRESS)
        now = self._clock()
        for cell in cells:
            touched = cell.first < first + count and first < cell.first + cell.count
            if touched and (self.faults.noise or not cell.written):
                self._store(cell, self._value(cell, now))

    def _value(self, cell: _Cell, now: float) -> object:
        value = cell.signal.at(now)
        if self.faults.noise and cell.prop.type.is_number and math.isfinite(value):
            value *= 1 + self._rng.uniform(-self.faults.noise, self.faults.noise)
        return coerced(value, cell.prop.type)

    def _store(self, cell: _Cell, value: object) -> None:
        memory = self._memory[cell.table]
        if cell.table in ("coil", "discrete"):
            memory[cell.first] = bool(value)
            return
        if cell.field.bit is not None:
            self._store_bits(cell, int(value))  # type: ignore[call-overload]
            return
        try:
            data = encode(cell.field, value)  # type: ignore[arg-type]
        except ValueError:  # the declared range does not fit the declared register
            raise _Refused(DEVICE_FAILURE) from None
        start = 2 * cell.first + cell.field.offset
        memory[start : start + len(data)] = data

    def _store_bits(self, cell: _Cell, value: int) -> None:
        """A bit field within a register of big-endian bytes."""
        memory, bits = self._memory[cell.table], cell.field.bits or 1
        start, stop = 2 * cell.first, 2 * (cell.first + cell.count)
        order = "big" if cell.field.byte_order == "big" else "little"
        whole = int.from_bytes(memory[start:stop], order)  # type: ignore[arg-type]
        mask = ((1 << bits) - 1) << (cell.field.bit or 0)
        whole = (whole & ~mask) | ((value << (cell.field.bit or 0)) & mask)
        memory[start:stop] = whole.to_bytes(stop - start, order)  # type: ignore[arg-type]

    def _write_registers(self, address: int, data: bytes) -> None:
        count = len(data) // 2
        touched = self._touched("holding", address, count)
        self._refresh("holding", address, count)
        self._memory["holding"][2 * address : 2 * address + len(data)] = data
        self._own(touched)

    def _write_bits(self, address: int, bits: list[bool]) -> None:
        touched = self._touched("coil", address, len(bits))
        self._refresh("coil", address, len(bits))
        self._memory["coil"][address : address + len(bits)] = bytes(bits)
        self._own(touched)

    def _touched(self, table: str, first: int, count: int) -> list[_Cell]:
        touched = [c for c in self._cells[table] if c.first < first + count and first < c.first + c.count]
        if any(cell.prop.access == "ReadOnly" for cell in touched):
            raise _Refused(ILLEGAL_ADDRESS)
        return touched

    def _own(self, cells: list[_Cell]) -> None:
        for cell in cells:
            cell.written = True
            if cell.prop.type.is_number and cell.field.bit is None:
                cell.signal = Constant(self._decoded(cell))

    def _decoded(self, cell: _Cell) -> float:
        from devicemesh.layout import Layout

        if cell.table == "coil":
            return float(self._memory["coil"][cell.first])
        record = bytes(self._memory["holding"][2 * cell.first : 2 * (cell.first + cell.count)])
        for batch in Layout([cell.field], [0]).decode(record, 0):
            return float(batch.value[0])
        return 0.0

    def _identify(self, request: bytes) -> bytes:
        """Read Device Identification (6.21): the basic objects."""
        objects = b"".join(bytes((number, len(text))) + text for number, text in self.identity.items())
        return bytes((43, 14, request[2], 0x81, 0, 0, len(self.identity))) + objects
