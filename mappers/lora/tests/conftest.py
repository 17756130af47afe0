"""A gateway and devices without a radio, and points on them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import ipaddress
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from devicemesh_lora import mac
from devicemesh_lora.mapper import LoraMapper
from devicemesh_lora.model import LoraAddress, LoraEndpoint
from websockets.asyncio.client import connect

from devicemesh.mapper import Point, SecretRef
from devicemesh.spec.values import ValueType
from devicemesh.testing import contract
from devicemesh.testing.contract import rows
from devicemesh.testing.waiting import until

GATEWAY = "0102030405060708"
EUI = "70b3d57ed0000001"
KEYS = bytes(range(16)), bytes(range(16, 32))
APP_KEY = bytes(range(32, 48))
ADDRESS = 0x01ABCDEF
SECRETS = {"nwkSKey": KEYS[0].hex(), "appSKey": KEYS[1].hex(), "appKey": APP_KEY.hex()}


def free_port() -> int:
    """One that is free by UDP, for packet forwarders, and by TCP, for stations."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind(("127.0.0.1", 0))
            port: int = udp.getsockname()[1]
            with contextlib.suppress(OSError):
                tcp.bind(("127.0.0.1", port))
                return port


def read_secret(ref: SecretRef) -> str:
    return SECRETS[ref.key]


class Forwarder(asyncio.DatagramProtocol):
    """A gateway's packet forwarder: sends what a test hands it, keeps what comes."""

    def __init__(self, eui: str = GATEWAY) -> None:
        self.eui = bytes.fromhex(eui)
        self.heard: list[bytes] = []
        self.sent: list[dict[str, Any]] = []  # txpk of each PULL_RESP
        self.refuse: list[str] = []  # errors of the next TX_ACKs
        self.tmst = 1_000_000

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.heard.append(data)
        if data[3] == 3:
            self.sent.append(json.loads(data[4:])["txpk"])
            error = self.refuse.pop(0) if self.refuse else "NONE"
            body = json.dumps({"txpk_ack": {"error": error}}).encode()
            self.send(b"\x02" + data[1:3] + b"\x05" + self.eui + body)

    def send(self, data: bytes) -> None:
        self.transport.sendto(data)

    def pull(self) -> None:
        self.send(b"\x02ab\x02" + self.eui)

    def push(self, body: Any, token: bytes = b"xy") -> None:
        self.send(
            b"\x02"
            + token
            + b"\x00"
            + self.eui
            + (body if isinstance(body, bytes) else json.dumps(body).encode())
        )

    def uplink(self, phy: bytes, **more: Any) -> None:
        packet = {
            "tmst": self.tmst, "freq": 868.1, "datr": "SF7BW125", "modu": "LORA", "stat": 1, "rssi": -60,
            "lsnr": 5.5, "size": len(phy), "data": base64.b64encode(phy).decode(), **more,
        }  # fmt: skip
        self.push({"rxpk": [packet]})


@asynccontextmanager
async def running_forwarder(port: int, eui: str = GATEWAY) -> AsyncIterator[Forwarder]:
    loop = asyncio.get_running_loop()
    transport, made = await loop.create_datagram_endpoint(
        lambda: Forwarder(eui), remote_addr=("127.0.0.1", port)
    )
    try:
        made.pull()
        await until(lambda: made.heard)
        yield made
    finally:
        transport.close()
        await asyncio.sleep(0)


class Box:
    """A gateway with Basics Station: sends what a test hands it, keeps what comes."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.sent: list[dict[str, Any]] = []  # what we were told, router_config first
        self.silent = False  # does not say that it has sent a downlink
        self.xtime = 0x1234_5678_9ABC_DEF0

    def downlinks(self) -> list[dict[str, Any]]:
        return [one for one in self.sent if one["msgtype"] == "dnmsg"]

    async def listen(self) -> None:
        async for message in self.connection:
            told = json.loads(message)
            self.sent.append(told)
            if told["msgtype"] == "dnmsg" and not self.silent:
                await self.say({"msgtype": "dntxed", "diid": told["diid"], "DevEui": told["DevEui"]})

    async def say(self, body: Any) -> None:
        await self.connection.send(body if isinstance(body, str | bytes) else json.dumps(body))

    async def uplink(self, phy: bytes, **more: Any) -> None:
        await self.say(taken_apart(phy, self.xtime, **more))


def taken_apart(phy: bytes, xtime: int = 5, **more: Any) -> dict[str, Any]:
    """A frame as a station writes it: numbers of 32 bits are signed."""

    def signed(data: bytes) -> int:
        return int.from_bytes(data, "little", signed=True)

    body: dict[str, Any] = {
        "DR": 5, "Freq": 868_100_000, "MHdr": phy[0], "MIC": signed(phy[-4:]),
        "upinfo": {"rctx": 3, "xtime": xtime, "gpstime": 0, "rssi": -60, "snr": 5.5},
    }  # fmt: skip
    if phy[0] >> 5 == 0:
        euis = [phy[at : at + 8][::-1].hex("-").upper() for at in (1, 9)]
        body |= {"msgtype": "jreq", "JoinEui": euis[0], "DevEui": euis[1],
                 "DevNonce": int.from_bytes(phy[17:19], "little")}  # fmt: skip
    else:
        end = 8 + (phy[5] & 15)
        rest = phy[end:-4]
        body |= {"msgtype": "updf", "DevAddr": signed(phy[1:5]), "FCtrl": phy[5],
                 "FCnt": int.from_bytes(phy[6:8], "little"), "FOpts": phy[8:end].hex(),
                 "FPort": rest[0] if rest else -1, "FRMPayload": rest[1:].hex()}  # fmt: skip
    return {**body, **more}


@asynccontextmanager
async def running_box(port: int, eui: str = GATEWAY, **options: Any) -> AsyncIterator[Box]:
    """Discovery, connection, version: as a station begins."""
    scheme = "wss" if "ssl" in options else "ws"
    async with connect(f"{scheme}://127.0.0.1:{port}/router-info", **options) as asking:
        await asking.send(json.dumps({"router": eui}))
        told = json.loads(await asking.recv())
    async with connect(told["uri"], **options) as connection:
        box = Box(connection)
        listening = asyncio.create_task(box.listen())
        try:
            await box.say({"msgtype": "version", "station": "2.0.6", "model": "test", "protocol": 2})
            await until(lambda: box.sent)
            yield box
        finally:
            listening.cancel()
            await asyncio.wait({listening})


@pytest.fixture
def forwarder() -> Callable[..., Any]:
    return running_forwarder


def node_endpoint(port: int, **more: Any) -> LoraEndpoint:
    keys = {key: {"name": "node", "key": key} for key in ("nwkSKey", "appSKey")}
    how = {} if "otaa" in more else {"abp": {"devAddr": f"{ADDRESS:08x}", **keys}}
    fields = {"listen": f"127.0.0.1:{port}", "devEui": EUI, "deduplication": "20ms", **how, **more}
    return LoraEndpoint.model_validate(fields)


def gateway_endpoint(port: int, eui: str = GATEWAY, **more: Any) -> LoraEndpoint:
    return LoraEndpoint.model_validate(
        {"listen": f"127.0.0.1:{port}", "gateway": eui, "deduplication": "20ms", **more}
    )


def make_point(slot: int, endpoint: LoraEndpoint, type_: str, **address: Any) -> Any:
    where = LoraAddress.model_validate(address)
    return Point(slot, f"default/{endpoint.eui}", f"p{slot}", ValueType(type_), endpoint, where)


def frame(counter: int, payload: bytes = b"\x00\xd7", port: int | None = 2, **more: Any) -> bytes:
    kind = more.pop("kind", mac.MType.UNCONFIRMED_UP)
    keys = more.pop("keys", KEYS)
    address = more.pop("address", ADDRESS)
    return mac.data_frame(kind, keys, address, counter, port, payload, **more)


class Heard:
    """What a session delivers, collected."""

    def __init__(self) -> None:
        self.values: list[tuple[int, Any]] = []
        self.errors: list[Any] = []
        self.bad: list[tuple[int, Any]] = []

    def of(self, slot: int) -> list[Any]:
        return [value for one, value in self.values if one == slot]

    async def collect(self, session: Any, points: list[Any]) -> None:
        async with contextlib.aclosing(session.subscribe(points)) as batches:
            async for batch in batches:
                for row in rows(batch):
                    if row.error is None:
                        self.values.append((row.slot, row.value))
                    else:
                        self.errors.append(row.error)
                        self.bad.append((row.slot, row.error))


@asynccontextmanager
async def running_session(points: list[Any], secrets: Any = read_secret) -> AsyncIterator[Any]:
    heard = Heard()
    async with LoraMapper().open(points[0].endpoint, secrets) as session:
        task = asyncio.create_task(heard.collect(session, points))
        await asyncio.sleep(0)
        try:
            yield session, heard
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.result()


def down(packet: dict[str, Any]) -> tuple[int | None, bytes]:
    """FPort and payload of what was sent to the device."""
    frame = mac.decode(base64.b64decode(packet["data"]))
    assert isinstance(frame, mac.DataFrame) and frame.is_signed(KEYS[0], frame.counter16)
    return frame.port, frame.opened(KEYS[1], frame.counter16)


class Authority:
    """Makes certificates."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.file = self._signed("ca", self._name, self._key, is_authority=True)

    def _signed(self, name: str, subject: x509.Name, key: Any, *, is_authority: bool) -> Path:
        now = datetime.datetime.now(datetime.UTC)
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        made = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(1))
            .not_valid_after(now + datetime.timedelta(1)).add_extension(names, critical=False)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )  # fmt: skip
        file = self.folder / f"{name}.pem"
        file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        return file

    def certificate(self, name: str) -> tuple[Path, Path]:
        """(certificate, key), as files."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        file, at = self._signed(name, subject, key, is_authority=False), self.folder / f"{name}.key"
        plain = serialization.NoEncryption()
        kind = serialization.PrivateFormat.PKCS8
        at.write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, plain))
        return file, at


class Kit:
    """What tests are made of."""

    session = staticmethod(running_session)
    open = staticmethod(lambda endpoint: LoraMapper().open(endpoint, read_secret))
    forwarder = staticmethod(running_forwarder)
    box = staticmethod(running_box)
    taken_apart = staticmethod(taken_apart)
    authority = Authority
    radio = Forwarder
    node = staticmethod(node_endpoint)
    gateway = staticmethod(gateway_endpoint)
    point = staticmethod(make_point)
    frame = staticmethod(frame)
    until = staticmethod(until)
    free_port = staticmethod(free_port)
    read_secret = staticmethod(read_secret)
    down = staticmethod(down)
    app_key, keys, eui, address, gateway_eui = APP_KEY, KEYS, EUI, ADDRESS, GATEWAY


@pytest.fixture
def kit() -> type[Kit]:
    return Kit


@pytest.fixture
def run() -> Callable[[Any], None]:
    """Run a test's coroutine; it must end in time and leave no task behind."""
    return contract.run


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Counters of one test are not those of another."""
    monkeypatch.setenv("DEVICEMESH_HOME", str(tmp_path))
    return tmp_path
