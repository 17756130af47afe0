"""A live connection: the only file that knows pymodbus.

pymodbus brings the requests, the frames, the checksums, device identification and the serial port. Its
client is not used: it accepts wrong answers, forgets half a frame at each send, drops what exceeds one
frame, loses the reason of a failed connect, and cannot have two requests under way; it also costs more
than twice as much a poll.
"""

from __future__ import annotations

import asyncio
import random
import struct
import termios
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from pymodbus.framer import FramerAscii, FramerRTU, FramerSocket
from pymodbus.framer.base import FramerBase
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.bit_message import (
    ReadCoilsRequest,
    ReadDiscreteInputsRequest,
    WriteMultipleCoilsRequest,
    WriteSingleCoilRequest,
)
from pymodbus.pdu.mei_message import ReadDeviceInformationRequest, ReadDeviceInformationResponse
from pymodbus.pdu.register_message import (
    MaskWriteRegisterRequest,
    ReadHoldingRegistersRequest,
    ReadInputRegistersRequest,
    WriteMultipleRegistersRequest,
    WriteSingleRegisterRequest,
)
from pymodbus.transport.serialtransport import create_serial_connection

from devicemesh.mapper import (
    ConfigError,
    LinkError,
    Outcome,
    PointError,
    Readable,
    Reader,
    Trace,
    Traceable,
    Writable,
)
from devicemesh_modbus.dial import dial, dial_datagrams, explained
from devicemesh_modbus.dialled import DialledSession, awaited, listening
from devicemesh_modbus.endpoint import Frames, ModbusEndpoint
from devicemesh_modbus.exchange import Shared, exchange
from devicemesh_modbus.image import value_of
from devicemesh_modbus.line import AsciiAsk, AsciiLink, LineLink, RtuAsk, RtuLink
from devicemesh_modbus.link import Ask, Link
from devicemesh_modbus.mbap import DialledMbapLink, MbapLink
from devicemesh_modbus.model import ModbusAddress, Table
from devicemesh_modbus.plan import ModbusPoint, data_size, rejection
from devicemesh_modbus.poll import Poller
from devicemesh_modbus.trace import steps
from devicemesh_modbus.write import ModbusWrite, Writer

CONNECT_S = 5.0
_READS: dict[Table, type[ModbusPDU]] = {
    "coil": ReadCoilsRequest,
    "discrete": ReadDiscreteInputsRequest,
    "holding": ReadHoldingRegistersRequest,
    "input": ReadInputRegistersRequest,
}
_WRITES: dict[int, Callable[[int, Sequence[int]], ModbusPDU]] = {
    5: lambda start, data: WriteSingleCoilRequest(address=start, bits=[bool(data[0])]),
    6: lambda start, data: WriteSingleRegisterRequest(address=start, registers=data),
    15: lambda start, data: WriteMultipleCoilsRequest(address=start, bits=[bool(bit) for bit in data]),
    16: lambda start, data: WriteMultipleRegistersRequest(address=start, registers=data),
    22: lambda start, data: MaskWriteRegisterRequest(start, data[0], data[1]),
}
_FRAMERS: dict[Frames, type[FramerBase]] = {"mbap": FramerSocket, "rtu": FramerRTU, "ascii": FramerAscii}
_PARITY = {"none": "N", "even": "E", "odd": "O"}


class ModbusRequests:
    """Requests of a link, framed; see `devicemesh_modbus.exchange.Requests`."""

    def __init__(self, endpoint: ModbusEndpoint) -> None:
        self._frames = endpoint.frames
        self._framer = _FRAMERS[self._frames](DecodePDU(False))
        self._byte_s = endpoint.serial.byte_s if endpoint.serial else 0.0

    def read(
        self, unit: int, table: Table, start: int, count: int, *, timeout_s: float, pause_s: float
    ) -> Ask:
        request = _READS[table](address=start, count=count)
        return self._ask(unit, request, data_size(table, count), timeout_s, pause_s)

    def write(
        self, unit: int, function: int, start: int, data: Sequence[int], *, timeout_s: float, pause_s: float
    ) -> Ask:
        return self._ask(unit, _WRITES[function](start, data), 6, timeout_s, pause_s)

    def identify(self, unit: int, code: int, first: int, *, timeout_s: float) -> Ask:
        return self._ask(unit, ReadDeviceInformationRequest(code, first), 253, timeout_s, 0.0)

    def identity(self, answer: bytes) -> tuple[dict[int, bytes], int | None]:
        response = ReadDeviceInformationResponse()
        try:
            response.decode(answer[1:])
        except (struct.error, IndexError) as error:
            raise ValueError("the identification is cut short") from error
        objects = {k: v for k, v in response.information.items() if isinstance(v, bytes)}
        return objects, response.next_object_id if response.more_follows == 0xFF else None

    def _ask(self, unit: int, request: ModbusPDU, answer: int, timeout_s: float, pause_s: float) -> Ask:
        pdu = bytes((request.function_code,)) + request.encode()
        frame = self._framer.encode(pdu, unit, 0)
        if self._frames == "mbap":
            return Ask(unit, frame[2:], timeout_s, pause_s)
        wrap = RtuAsk if self._frames == "rtu" else AsciiAsk
        return wrap(unit, frame, timeout_s + self._byte_s * (len(pdu) + answer + 8), pause_s)


class RtuFrames:
    """Lengths and checksums of answers in RTU; see `devicemesh_modbus.line.RtuCodec`."""

    def __init__(self) -> None:
        self._decoder = DecodePDU(False)

    def length(self, frame: bytes) -> int | None:
        kind = self._decoder.lookupPduClass(frame)
        return (kind.calculateRtuFrameSize(frame) or None) if kind else None

    def is_sound(self, frame: bytes) -> bool:
        return FramerRTU.check_CRC(frame[:-2], int.from_bytes(frame[-2:]))


class AsciiFrames:
    """Checksums of answers in ASCII; see `devicemesh_modbus.line.AsciiCodec`."""

    def is_sound(self, frame: bytes) -> bool:
        return FramerAscii.check_LRC(frame[:-1], frame[-1])


class ModbusSession(
    Readable[ModbusEndpoint, ModbusAddress],
    Writable[ModbusEndpoint, ModbusAddress],
    Traceable[ModbusEndpoint, ModbusAddress],
):
    """A connection to a device, a gateway or a line, and all that its users share."""

    def __init__(
        self, link: Link, endpoint: ModbusEndpoint, clock: Callable[[], float], rng: random.Random
    ) -> None:
        self.shared = Shared(link, endpoint, ModbusRequests(endpoint), clock, rng)
        self._writer = Writer(self.shared)

    def reader(self, points: Sequence[ModbusPoint]) -> Reader:
        """See `Readable`. A point that can't be read as declared yields bad rows with a `ConfigError`."""
        return Poller(points, self.shared)

    async def write(self, writes: Sequence[ModbusWrite]) -> Sequence[Outcome]:
        return await self._writer.write(writes)

    async def trace(self, point: ModbusPoint) -> Trace:
        if wrong := rejection(point, self.shared.opened):
            raise PointError(wrong, reason=ConfigError.default_reason)
        ask = self._writer.ask(point)
        (response, data), _ = await exchange(
            self.shared, ask, point.endpoint.tries, lambda answer: (answer, self._writer.judge(point, answer))
        )
        value, quality = value_of(point.address, point.type, data)
        return Trace(ask.pdu, response, bytes(data), list(steps(point, data)), value, quality)


@asynccontextmanager
async def open_session(
    endpoint: ModbusEndpoint, clock: Callable[[], float] | None = None, rng: random.Random | None = None
) -> AsyncIterator[ModbusSession | DialledSession]:
    """Connect, or listen. Raises `LinkError`, `AuthError`, `ConfigError`; `clock`: by default the loop's."""
    clock, rng = clock or asyncio.get_running_loop().time, rng or random.Random()
    if endpoint.listen is not None:
        over = partial(ModbusSession, endpoint=endpoint, clock=clock, rng=rng)
        async with listening(endpoint, _framed, ModbusRequests(endpoint), over) as dialled:
            yield dialled
        return
    async with open_line(endpoint, clock, rng) as session:
        yield session


@asynccontextmanager
async def open_line(
    endpoint: ModbusEndpoint, clock: Callable[[], float] | None = None, rng: random.Random | None = None
) -> AsyncIterator[ModbusSession]:
    """One connection: ours or, with `listen`, the one that the device or its modem makes. Raises as above."""
    clock, rng = clock or asyncio.get_running_loop().time, rng or random.Random()
    over = partial(ModbusSession, endpoint=endpoint, clock=clock, rng=rng)
    if endpoint.listen is not None:
        async with awaited(endpoint, _framed, ModbusRequests(endpoint)) as link:
            yield over(link)
        return
    link = await _connect(endpoint)
    try:
        yield over(link)
    finally:
        link.close()
        if endpoint.kind != "serial":  # a serial port is closed at once and tells nobody
            await link.closed


async def _connect(endpoint: ModbusEndpoint) -> Link:
    patience_s = max(CONNECT_S, endpoint.timeout_s)
    name = endpoint.link()
    try:
        async with asyncio.timeout(patience_s):
            if endpoint.serial is not None:
                return await _open_serial(endpoint)
            if endpoint.kind == "udp":
                return await dial_datagrams(endpoint, lambda: MbapLink(name, datagrams=True))
            return await dial(endpoint, lambda: _framed(endpoint, name))
    except TimeoutError as error:
        raise LinkError(f"no answer from {name} to a connect within {patience_s:g} s") from error
    except OSError as error:
        raise explained(endpoint, error) from error


def _framed(endpoint: ModbusEndpoint, name: str, silence_s: float = 0.0) -> Link:
    """A link that speaks the endpoint's frames over a stream of bytes."""
    if endpoint.frames == "rtu":
        return RtuLink(name, RtuFrames(), silence_s)
    if endpoint.frames == "ascii":
        return AsciiLink(name, AsciiFrames())
    return DialledMbapLink(name) if endpoint.listen is not None else MbapLink(name, datagrams=False)


async def _open_serial(endpoint: ModbusEndpoint) -> Link:
    line = endpoint.serial
    assert line is not None
    # above 19200 baud the silence is fixed (Modbus over Serial Line V1.02, 2.5.1.1)
    silence_s = 3.5 * line.byte_s if line.baudrate <= 19200 else 0.00175
    try:
        _, protocol = await create_serial_connection(
            asyncio.get_running_loop(), lambda: _framed(endpoint, line.port, silence_s), line.port,
            baudrate=line.baudrate, bytesize=line.character_bits, parity=_PARITY[line.parity],
            stopbits=line.stop_bits, timeout=0,
        )  # fmt: skip
    except ValueError as error:
        raise ConfigError(f"{line.port}: {error}") from error
    except termios.error as error:  # the driver can't do what is declared, or the port is going away
        raise LinkError(f"{line.port} does not take its settings: {error.args[-1]}") from error
    assert isinstance(protocol, LineLink)
    await protocol.made
    return protocol
