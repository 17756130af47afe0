"""A live connection: the only file that knows pymodbus.

pymodbus brings the requests, the frames, the checksums, device identification and the serial port. Its
client is not used: it accepts wrong answers, forgets half a frame at each send, drops what exceeds one
frame, loses the reason of a failed connect, and cannot have two requests under way; it also costs more
than twice as much a poll.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
import ssl
import struct
import termios
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from pymodbus.framer import FramerRTU, FramerSocket
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
from devicemesh_modbus.exchange import Shared, exchange
from devicemesh_modbus.image import value_of
from devicemesh_modbus.link import Ask, Link, MbapLink, RtuAsk, RtuLink
from devicemesh_modbus.model import ModbusAddress, ModbusEndpoint, Serial, Table
from devicemesh_modbus.plan import ModbusPoint, cost_of, data_size, rejection
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
_PARITY = {"none": "N", "even": "E", "odd": "O"}


class ModbusRequests:
    """Requests of a link, framed; see `devicemesh_modbus.exchange.Requests`."""

    def __init__(self, endpoint: ModbusEndpoint) -> None:
        self._rtu = endpoint.kind in ("serial", "rtuovertcp")
        self._framer = (FramerRTU if self._rtu else FramerSocket)(DecodePDU(False))
        self._byte_s = cost_of(endpoint).byte if endpoint.kind == "serial" else 0.0

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
        if not self._rtu:
            return Ask(unit, frame[2:], timeout_s, pause_s)
        return RtuAsk(unit, frame, timeout_s + self._byte_s * (len(frame) + answer + 5), pause_s)


class RtuCodec:
    """Lengths and checksums of answers in RTU; see `devicemesh_modbus.link.Codec`."""

    def __init__(self) -> None:
        self._decoder = DecodePDU(False)

    def length(self, frame: bytes) -> int | None:
        kind = self._decoder.lookupPduClass(frame)
        return (kind.calculateRtuFrameSize(frame) or None) if kind else None

    def is_sound(self, frame: bytes) -> bool:
        return FramerRTU.check_CRC(frame[:-2], int.from_bytes(frame[-2:]))


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
) -> AsyncIterator[ModbusSession]:
    """Connect. Raises `LinkError`, `AuthError`, `ConfigError`. `clock` is the loop's by default."""
    loop = asyncio.get_running_loop()
    patience_s = max(CONNECT_S, endpoint.timeout_s)
    try:
        async with asyncio.timeout(patience_s):
            link = await _connect(endpoint, loop)
    except TimeoutError as error:
        raise LinkError(f"no answer from {endpoint.link()} to a connect within {patience_s:g} s") from error
    except OSError as error:
        raise _explained(endpoint, error) from error
    try:
        yield ModbusSession(link, endpoint, clock or loop.time, rng or random.Random())
    finally:
        link.close()
        if endpoint.kind != "serial":  # a serial port is closed at once and tells nobody
            await link.closed


async def _connect(endpoint: ModbusEndpoint, loop: asyncio.AbstractEventLoop) -> Link:
    name = endpoint.link()
    if endpoint.serial is not None:
        return await _open_serial(endpoint.serial, loop)
    if endpoint.kind == "udp":
        address = (endpoint.host or "", endpoint.tcp_port)
        _, datagrams = await loop.create_datagram_endpoint(
            lambda: MbapLink(name, datagrams=True), remote_addr=address
        )
        return datagrams

    def link() -> Link:
        return (
            RtuLink(name, RtuCodec(), 0.0)
            if endpoint.kind == "rtuovertcp"
            else MbapLink(name, datagrams=False)
        )

    context = _tls(endpoint) if endpoint.kind == "tls" else None
    server_name = (endpoint.tls and endpoint.tls.server_name) or endpoint.host
    transport, stream = await loop.create_connection(
        link,
        endpoint.host or "",
        endpoint.tcp_port,
        ssl=context,
        server_hostname=server_name if context else None,
    )
    _notice_death(transport.get_extra_info("socket"), endpoint)
    return stream


async def _open_serial(line: Serial, loop: asyncio.AbstractEventLoop) -> Link:
    bits = 9 + line.stop_bits + (line.parity != "none")
    # above 19200 baud the silence is fixed (Modbus over Serial Line V1.02, 2.5.1.1)
    silence_s = 3.5 * bits / line.baudrate if line.baudrate <= 19200 else 0.00175
    try:
        _, protocol = await create_serial_connection(
            loop, lambda: RtuLink(line.port, RtuCodec(), silence_s), line.port, baudrate=line.baudrate,
            bytesize=line.data_bits, parity=_PARITY[line.parity], stopbits=line.stop_bits, timeout=0,
        )  # fmt: skip
    except ValueError as error:
        raise ConfigError(f"{line.port}: {error}") from error
    except termios.error as error:  # the driver can't do what is declared, or the port is going away
        raise LinkError(f"{line.port} does not take its settings: {error.args[-1]}") from error
    assert isinstance(protocol, RtuLink)
    await protocol.made
    return protocol


def _notice_death(sock: socket.socket, endpoint: ModbusEndpoint) -> None:
    """Have the kernel end a connection whose peer is gone without a word; it would keep it for minutes."""
    patience_ms = int(max(10.0, 3 * endpoint.timeout_s) * 1000)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience_ms)


def _tls(endpoint: ModbusEndpoint) -> ssl.SSLContext:
    """Verify the server, show our certificate if there is one.

    The frames inside are those of Modbus/TCP, unchanged (MODBUS/TCP Security V3.6, "mbap ADU encapsulated
    in TLS"), and may be split over records: pymodbus's own TLS framer takes a record for a frame.
    """
    tls = endpoint.tls
    try:
        context = ssl.create_default_context(cafile=tls.ca_file if tls else None)
        if tls and tls.cert_file:
            context.load_cert_chain(tls.cert_file, tls.key_file)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(f for f in (tls.ca_file, tls.cert_file, tls.key_file) if f) if tls else ""
        raise ConfigError(f"{endpoint.link()}: can't use the certificates {files}: {error}") from error
    return context


def _explained(endpoint: ModbusEndpoint, error: OSError) -> LinkError:
    """Why a connect failed, in words."""
    name = endpoint.link()
    if isinstance(error, ssl.SSLCertVerificationError):
        return LinkError(
            f"{name}: its certificate is not trusted: {error.verify_message}", reason="Untrusted"
        )
    if isinstance(error, socket.gaierror):
        return LinkError(f"no such host: {endpoint.host}", reason="UnknownHost")
    # asyncio folds the errors of a name with several addresses into one text
    if isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return LinkError(f"{name} refused the connection", reason="ConnectionRefused")
    if error.errno == errno.ENOENT:
        return LinkError(f"no serial port {name}: is it plugged in?", reason="NoSuchPort")
    if error.errno == errno.EACCES:
        return LinkError(f"no right to use {name}: add this user to the port's group", reason="NotPermitted")
    if error.errno in (errno.EAGAIN, errno.EBUSY):
        return LinkError(f"{name} is used by another program", reason="PortInUse")
    return LinkError(f"{name}: {os.strerror(error.errno) if error.errno else error}")
