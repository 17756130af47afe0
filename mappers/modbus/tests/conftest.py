"""Peers to test against: a device that can be made to misbehave, and the servers of other people."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import os
import ssl
import tty
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from devicemesh_modbus.endpoint import ModbusEndpoint
from devicemesh_modbus.model import ModbusAddress
from devicemesh_modbus.uri import parse_address
from pymodbus.framer import FramerRTU

from devicemesh.mapper import Point
from devicemesh.spec.values import ValueType
from devicemesh.testing.server import StreamServer

TABLES = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}
WRITES = {5: "coil", 6: "holding", 15: "coil", 16: "holding", 22: "holding"}


def crc(frame: bytes) -> bytes:
    return frame + FramerRTU.compute_CRC(frame).to_bytes(2)


def lrc(frame: bytes) -> bytes:
    """A frame as ASCII has it."""
    return b":" + (frame + bytes((-sum(frame) & 0xFF,))).hex().upper().encode() + b"\r\n"


def lie(answer: bytes) -> bytes:
    """The same answer with other values."""
    return answer[:2] + bytes(b ^ 0x55 for b in answer[2:])


@dataclass
class Fault:
    """What to do instead of the honest answer, for the requests that match."""

    unit: int | None = None
    function: int | None = None
    start: int | None = None
    times: int = 1_000_000  # how often, then honest again
    exception: int | None = None
    pdu: str | None = None  # hex, instead of the honest PDU
    registers: int = 0  # so many more (or fewer) than asked for
    byte_count: int | None = None  # what the answer says of its length
    tid: int | None = None
    tid_plus: int = 0
    unit_plus: int = 0
    protocol: int = 0
    length: int | None = None  # in the header
    silent: bool = False  # done, but not answered
    deaf: bool = False  # neither done nor answered
    delay_s: float = 0.0
    drip_s: float = 0.0  # between two bytes
    before: str = ""  # hex, sent before the answer
    after: str = ""  # hex, sent after it
    twice: bool = False  # a second answer with other values
    spoil: bool = False  # the checksum
    echo: bool = False  # the line gives back what was sent
    cut: int | None = None  # close after so many bytes
    close: bool = False  # close at once

    def shows(self, function: int) -> bool:
        """Whether the answer can be seen to be a wrong one; then its values are wrong too."""
        header = self.tid is not None or self.tid_plus or self.unit_plus or self.protocol
        length = self.byte_count is not None or (self.registers and function in (3, 4))
        return bool(header or length or self.spoil)

    def matches(self, unit: int, pdu: bytes) -> bool:
        asked = {"unit": unit, "function": pdu[0], "start": int.from_bytes(pdu[1:3])}
        return self.times > 0 and all(getattr(self, k) in (None, v) for k, v in asked.items())


@dataclass
class Hostile:
    """A device whose every register has a value of its own, and that misbehaves on demand."""

    transport: str = "tcp"
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[int, int, int, int]] = field(default_factory=list)  # unit, function, start, count
    memory: dict[tuple[int, str, int], int] = field(default_factory=dict)
    missing: set[tuple[int, str, int]] = field(default_factory=set)
    max_registers: int = 125
    port: int = 0
    connections: set[asyncio.StreamWriter] = field(default_factory=set)
    under_way: int = 0
    most_under_way: int = 0

    @property
    def frames(self) -> str:
        return {"rtuovertcp": "rtu", "serial": "rtu", "asciiovertcp": "ascii"}.get(self.transport, "mbap")

    @property
    def seal(self) -> Callable[[bytes], bytes]:
        """What makes a frame of unit and PDU on a line."""
        return crc if self.frames == "rtu" else lrc

    def value(self, unit: int, table: str, address: int) -> int:
        """The honest value of a register or bit."""
        salt = unit * 10007 + len(table) * 1009
        default = (address * 31 + salt) % 65521
        word = self.memory.get((unit, table, address), default)
        return word if table in ("holding", "input") else word & 1

    def honest(self, unit: int, pdu: bytes, more: int = 0) -> bytes:
        function, start, second = pdu[0], int.from_bytes(pdu[1:3]), int.from_bytes(pdu[3:5])
        if function in TABLES:
            return self._read(unit, function, start, second, more)
        if function == 43:
            return bytes((43, 14, 1, 1, 0, 0, 1, 0, 4)) + b"Mesh"
        table = WRITES[function]
        if (unit, table, start) in self.missing:
            return bytes((function | 0x80, 2))
        if function == 22:
            mask, bits = second, int.from_bytes(pdu[5:7])
            words = [self.value(unit, table, start) & mask | bits & ~mask & 0xFFFF]
        elif function == 16:
            words = [int.from_bytes(pdu[at : at + 2]) for at in range(6, len(pdu), 2)]
        elif function == 15:
            words = [pdu[6 + i // 8] >> i % 8 & 1 for i in range(second)]
        else:
            words = [second if function == 6 else int(second == 0xFF00)]
        self.memory |= {(unit, table, start + i): word for i, word in enumerate(words)}
        return pdu[:5] if function in (15, 16) else pdu

    def _read(self, unit: int, function: int, start: int, count: int, more: int) -> bytes:
        table = TABLES[function]
        limit = self.max_registers if function in (3, 4) else 2000
        if not 1 <= count <= limit:
            return bytes((function | 0x80, 3))
        if any((unit, table, start + i) in self.missing for i in range(count)):
            return bytes((function | 0x80, 2))
        values = [self.value(unit, table, start + i) for i in range(count + more)]
        if function in (3, 4):
            return bytes((function, 2 * len(values))) + b"".join(v.to_bytes(2) for v in values)
        packed = bytearray((len(values) + 7) // 8)
        for i, bit in enumerate(values):
            packed[i // 8] |= bit << i % 8
        return bytes((function, len(packed))) + packed

    def answer(self, tid: int, unit: int, pdu: bytes) -> tuple[bytes, Fault]:
        """The bytes to send and the fault that made them so."""
        self.requests.append((unit, pdu[0], int.from_bytes(pdu[1:3]), int.from_bytes(pdu[3:5])))
        fault = next((f for f in self.faults if f.matches(unit, pdu)), Fault())
        fault.times -= 1
        if fault.deaf:
            return b"", fault
        answer = self.honest(unit, pdu, fault.registers)
        if fault.shows(pdu[0]):
            answer = lie(answer)
        if fault.byte_count is not None:
            answer = answer[:1] + bytes((fault.byte_count,)) + answer[2:]
        if fault.exception is not None:
            answer = bytes((pdu[0] | 0x80, fault.exception))
        if fault.pdu is not None:
            answer = bytes.fromhex(fault.pdu)
        sent = self.frame(tid, unit, answer, fault)
        if fault.twice:
            sent += self.frame(tid, unit, lie(answer), fault)
        if fault.echo:
            sent = self.seal(bytes((unit,)) + pdu) + sent
        return bytes.fromhex(fault.before) + sent + bytes.fromhex(fault.after), fault

    def frame(self, tid: int, unit: int, pdu: bytes, fault: Fault) -> bytes:
        unit = (unit + fault.unit_plus) & 0xFF
        if self.frames != "mbap":
            frame = self.seal(bytes((unit,)) + pdu)
            at = len(frame) - (1 if self.frames == "rtu" else 3)  # in the checksum
            spoiled = b"0" if frame[at] != ord("0") else b"1"
            return frame[:at] + spoiled + frame[at + 1 :] if fault.spoil else frame
        tid = (tid + fault.tid_plus) & 0xFFFF if fault.tid is None else fault.tid
        length = len(pdu) + 1 if fault.length is None else fault.length
        return b"".join(n.to_bytes(2) for n in (tid, fault.protocol, length)) + bytes((unit,)) + pdu

    async def serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(writer)
        late: set[asyncio.Task[None]] = set()
        try:
            while True:
                tid, unit, pdu = await self._request(reader)
                sent, fault = self.answer(tid, unit, pdu)
                if fault.close:
                    return
                if fault.delay_s and not fault.silent:
                    late.add(asyncio.ensure_future(self._later(writer, sent, fault)))
                elif not await self._send(writer, sent, fault):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
            self.connections.discard(writer)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> tuple[int, int, bytes]:
        if self.frames == "ascii":
            line = (await reader.readuntil(b"\r\n")).strip()
            frame = bytes.fromhex(line.removeprefix(b":").decode())
            assert lrc(frame[:-1]).strip() == line, "our own checksum is wrong"
            return 0, frame[0], frame[1:-1]
        if self.frames == "mbap":
            header = await reader.readexactly(7)
            pdu = await reader.readexactly(int.from_bytes(header[4:6]) - 1)
            return int.from_bytes(header[:2]), header[6], pdu
        head = await reader.readexactly(7)
        size = {15: 9 + head[6], 16: 9 + head[6], 22: 10, 43: 7}.get(head[1], 8)
        frame = head + await reader.readexactly(size - 7)
        assert crc(frame[:-2]) == frame, "our own checksum is wrong"
        return 0, frame[0], frame[1:-2]

    async def _later(self, writer: asyncio.StreamWriter, sent: bytes, fault: Fault) -> None:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(fault.delay_s)
        self.under_way -= 1
        await self._send(writer, sent, fault)

    async def _send(self, writer: asyncio.StreamWriter, sent: bytes, fault: Fault) -> bool:
        """False: the connection is to be closed."""
        if fault.silent:
            return True
        if fault.cut is not None:
            writer.write(sent[: fault.cut])
            await writer.drain()
            return False
        for piece in [sent] if not fault.drip_s else [bytes((b,)) for b in sent]:
            writer.write(piece)
            await writer.drain()
            if fault.drip_s:
                await asyncio.sleep(fault.drip_s)
        return True


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, device: Hostile) -> None:
        self.device = device

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        sent, fault = self.device.answer(int.from_bytes(data[:2]), data[6], data[7:])
        if sent and not fault.silent:
            asyncio.get_running_loop().call_later(fault.delay_s, self.transport.sendto, sent, addr)


@asynccontextmanager
async def _serve(device: Hostile, context: ssl.SSLContext | None = None) -> AsyncIterator[Hostile]:
    """Serve a device on a free port of 127.0.0.1."""
    if device.transport == "udp":
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(device), ("127.0.0.1", 0))
        device.port = transport.get_extra_info("sockname")[1]
        try:
            yield device
        finally:
            transport.close()
        return
    async with StreamServer(device.serve_stream, device.port, tls=context) as server:
        device.port = server.port
        yield device


class Modem:
    """Dials in for a device, says who it is, and dials again whenever it is cut off."""

    def __init__(self, device: Hostile, port: int, says: bytes = b"") -> None:
        self.device, self.port, self.says = device, port, says
        self.prefix = False  # what it says goes before every answer, too
        self.dialled = 0
        self.again_s = 0.02
        self.writer: asyncio.StreamWriter | None = None  # of its newest connection
        self._task: asyncio.Task[None]

    async def __aenter__(self) -> Modem:
        self._task = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self.writer is not None:
            self.writer.transport.abort()
        await asyncio.sleep(0)

    async def _keep(self) -> None:
        while True:
            with suppress(OSError):
                reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
                self.dialled += 1
                self.writer.write(self.says)
                await self.device.serve_stream(reader, self.writer)
            await asyncio.sleep(self.again_s)

    def say(self, data: bytes) -> None:
        """Something unasked, as a heartbeat."""
        assert self.writer is not None
        self.writer.write(data)

    def hang_up(self) -> None:
        assert self.writer is not None
        self.writer.transport.abort()


@pytest.fixture
def modem() -> type[Modem]:
    """`async with modem(device, port, b"IMEI")`."""
    return Modem


@pytest.fixture
def hostile() -> type[Hostile]:
    return Hostile


@pytest.fixture
def fault() -> type[Fault]:
    return Fault


@pytest.fixture
def serving() -> Callable[..., Any]:
    """`async with serving(Hostile()) as device`."""
    return _serve


@pytest.fixture
def points() -> Callable[..., list[Point[ModbusEndpoint, ModbusAddress]]]:
    """Points of one endpoint from short forms: `3/holding:100:float32` is of unit 3."""

    def make(endpoint: ModbusEndpoint, *texts: str) -> list[Point[ModbusEndpoint, ModbusAddress]]:
        made = []
        for slot, text in enumerate(texts):
            unit, _, where = text.rpartition("/")
            one = endpoint.model_copy(update={"unit": int(unit)}) if unit else endpoint
            address = parse_address(where)
            bit = address.is_bit or (address.bit is not None and address.type is None)
            type_ = ValueType.BOOL if bit else address.type or ValueType.UINT16
            made.append(Point(slot, f"default/unit-{one.unit}", text, type_, one, address))
        return made

    return make


@pytest.fixture
def collect() -> Callable[..., Any]:
    """Poll once: slot -> (value, quality, error)."""

    async def once(reader: Any) -> dict[int, tuple[Any, int, Exception | None]]:
        seen: dict[int, tuple[Any, int, Exception | None]] = {}
        async for batch in reader():
            for i, slot in enumerate(batch.slot):
                assert slot not in seen, f"slot {slot} came twice"
                quality = batch.quality if isinstance(batch.quality, int) else batch.quality[i]
                seen[slot] = (batch.value[i], quality, batch.error)
        return seen

    return once


@dataclass(frozen=True)
class Certificates:
    """A small authority: a server for localhost and 127.0.0.1, and a client."""

    ca: str
    server: str
    client: str
    stranger: str  # signed by nobody

    def server_context(self, *, demand: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server)
        if demand:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.ca)
        return context


def _certificate(name: str, folder: Path, issuer: Any = None) -> tuple[Any, Any, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    signer, signer_name = (issuer[1], issuer[0].subject) if issuer else (key, subject)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    certificate = builder.sign(signer, hashes.SHA256())
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / f"{name}.pem"
    file.write_bytes(pem)
    return certificate, key, str(file)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    authority = _certificate("authority", folder)
    return Certificates(
        authority[2],
        _certificate("server", folder, authority)[2],
        _certificate("client", folder, authority)[2],
        _certificate("stranger", folder)[2],
    )


@pytest.fixture
def wire() -> Iterator[tuple[str, str]]:
    """Two pseudo-terminals joined back to back: what goes into one comes out of the other."""
    import threading

    (one, one_end), (two, two_end) = os.openpty(), os.openpty()
    for end in (one_end, two_end):
        tty.setraw(end)
    stop_read, stop_write = os.pipe()

    def shovel() -> None:
        import select

        while True:
            ready, _, _ = select.select([one, two, stop_read], [], [])
            if stop_read in ready:
                return
            for source, target in ((one, two), (two, one)):
                if source in ready:
                    with suppress(OSError):
                        os.write(target, os.read(source, 4096))

    thread = threading.Thread(target=shovel, daemon=True)
    thread.start()
    yield os.ttyname(one_end), os.ttyname(two_end)
    os.write(stop_write, b".")
    thread.join(5)
    for fd in (one, one_end, two, two_end, stop_read, stop_write):
        os.close(fd)
