"""The LoRa simulator: declared gateways that forward what declared devices send, over real sockets.

The air between them is a function call. A downlink is given to the devices at once, if the gateway would
still have been in time for it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from devicemesh_lora import semtech
from devicemesh_lora.codec import Codecs
from devicemesh_lora.declared_codec import Codec
from devicemesh_lora.endpoint import LoraEndpoint, bracketed
from devicemesh_lora.regions import REGIONS

from devicemesh.sink.broker import embedded_broker, find_mosquitto
from devicemesh.testing.simulator import SimulatedDevice, Simulation, Simulator, by_link, place
from devicemesh_simulators.lora_codec import CodedNode
from devicemesh_simulators.lora_nodes import Faults, Node, node
from devicemesh_simulators.lora_server import ServerGateway, StandIn
from devicemesh_simulators.lora_station import StationGateway

KEEP_ALIVE_S = 0.5
"""Between two PULL_DATA of a gateway; with each goes its report."""
JOIN_AGAIN_S = 1.0
LATE_S = 1.0
"""By so much a late copy is late."""
REPLAYED = 4
"""Frames back that a replay takes its frame from."""
ALL_TMST = semtech.TMST_TURN


class Gateway(asyncio.DatagramProtocol):
    """A packet forwarder."""

    def __init__(self, name: str, eui: str, air: Air, rng: random.Random) -> None:
        self.name, self.eui, self._air, self._rng = name, bytes.fromhex(eui), air, rng
        self.faults = Faults()
        self._skew_us = rng.randrange(ALL_TMST)
        self._counts = dict.fromkeys(("rxnb", "rxok", "rxfw", "dwnb", "txnb"), 0)
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    @property
    def tmst(self) -> int:
        return (time.monotonic_ns() // 1000 + self._skew_us) % ALL_TMST

    def wrap(self) -> None:
        """Let the counter wrap half a second from now, while downlinks wait."""
        self._skew_us += ALL_TMST - 500_000 - self.tmst

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if len(data) < 5 or data[3] != semtech.PULL_RESP or self.faults.unplugged:
            return
        packet = json.loads(data[4:])["txpk"]
        self._counts["dwnb"] += 1
        ahead = (packet["tmst"] - self.tmst) % ALL_TMST
        refused = ahead > ALL_TMST // 2 or self._rng.random() < self._air.share_too_late()
        if not refused:
            self._counts["txnb"] += 1
            self._air.down(base64.b64decode(packet["data"]))
        error = "TOO_LATE" if refused else "NONE"
        self._send(semtech.TX_ACK, {"txpk_ack": {"error": error}}, data[1:3])

    def error_received(self, exc: Exception) -> None:
        """Nobody listens yet."""

    def _send(self, kind: int, body: Any = None, token: bytes | None = None) -> None:
        if self.faults.unplugged or self._transport is None:
            return
        head = b"\x02" + (token or self._rng.randbytes(2)) + bytes((kind,)) + self.eui
        self._transport.sendto(head + (json.dumps(body).encode() if body is not None else b""))

    def keep_alive(self) -> None:
        self._send(semtech.PULL_DATA)
        self._send(semtech.PUSH_DATA, {"stat": {**self._counts, "ackr": 100.0, "lati": 0.0, "long": 0.0}})

    def forward(self, phy: bytes, frequency: int, data_rate: str, stat: int = 1) -> None:
        """Hear a device."""
        self._counts["rxnb"] += 1
        self._counts["rxok"] += stat == 1
        self._counts["rxfw"] += 1
        packet = {
            "tmst": self.tmst, "freq": frequency / 1e6, "datr": data_rate, "modu": "LORA", "codr": "4/5",
            "stat": stat, "rssi": self._rng.randint(-115, -60), "lsnr": round(self._rng.uniform(-5, 10), 1),
            "size": len(phy), "data": base64.b64encode(phy).decode(),
        }  # fmt: skip
        self._send(semtech.PUSH_DATA, {"rxpk": [packet]})


AnyGateway: TypeAlias = Gateway | StationGateway | ServerGateway


class Air:
    """What is between the devices and the gateways of one link."""

    def __init__(self, endpoint: LoraEndpoint, rng: random.Random) -> None:
        self._first = REGIONS[endpoint.region].first
        self._rng = rng
        self.region = REGIONS[endpoint.region]
        self.gateways: list[AnyGateway] = []
        self.server: StandIn | None = None
        self.nodes: list[Node] = []
        self._later: set[asyncio.TimerHandle] = set()
        self.codecs = Codecs()

    def share_too_late(self) -> float:
        shares = [one.faults.too_late for one in self.nodes]
        return max([*shares, *(one.faults.too_late for one in self.gateways)], default=0.0)

    def too_late(self) -> bool:
        return self._happens(self.share_too_late())

    def down(self, phy: bytes) -> None:
        for one in self.nodes:
            if not one.faults.unplugged and one.hear(phy):
                return

    def up(self, phy: bytes, faults: Faults) -> None:
        """A frame of a device, with what its faults make of it."""
        if faults.unplugged or self._happens(faults.loss):
            return
        if self._happens(faults.bad_mic):
            phy = phy[:-1] + bytes((phy[-1] ^ 1,))
        stat = -1 if self._happens(faults.crc) else 1
        self._heard(phy, stat)
        if self._happens(faults.duplicate):
            self._heard(phy, stat)
        if self._happens(faults.late):
            loop = asyncio.get_running_loop()
            self._later = {handle for handle in self._later if handle.when() > loop.time()}
            self._later.add(loop.call_later(LATE_S, self._heard, phy, stat))

    def _happens(self, share: float) -> bool:
        return share > 0 and self._rng.random() < share

    def _heard(self, phy: bytes, stat: int) -> None:
        for gateway in self.gateways:
            gateway.forward(phy, self._first.frequency, self._first.data_rate, stat)
        if self.server is not None:
            self.server.collect()

    def close(self) -> None:
        for handle in self._later:
            handle.cancel()


class LoraSimulation(Simulation):
    """Running gateways and devices."""

    def __init__(self) -> None:
        self._addresses: dict[str, str] = {}
        self.members: dict[str, tuple[Node | AnyGateway, Air]] = {}

    @property
    def addresses(self) -> Mapping[str, str]:
        return self._addresses

    def served(self, link: str, host: str, port: int) -> None:
        self._addresses[link] = f"{bracketed(host)}:{port}"

    def fault(self, device: str, fault: str, arguments: Mapping[str, str]) -> str:
        if device not in self.members:
            raise ValueError(f"no simulated device {device}")
        member, air = self.members[device]
        member.faults = member.faults.switched(fault, next(iter(arguments.values()), None))
        done = ""
        if fault == "wrap":
            for gateway in air.gateways:
                gateway.wrap()
            done = "the gateways' counters wrap now; "
        elif fault in ("replay", "reboot"):
            if not isinstance(member, Node):
                raise ValueError(f"`{fault}` is a fault of devices, not of gateways")
            if fault == "reboot":
                member.reboot()
                done = "its counter is 0 again; "
            elif member.previous:
                air.up(member.previous[-REPLAYED:][0], Faults())
                done = "an old frame was sent again; "
        return done + member.faults.words()


class LoraSimulator(Simulator):
    """Serves LoRaWAN: the runtime listens, we send."""

    protocol = "lora"

    @contextlib.asynccontextmanager
    async def serve(
        self, devices: Sequence[SimulatedDevice], *, seed: int, host: str
    ) -> AsyncIterator[Simulation]:
        """See `Simulator`. Raises ValueError for what can't be simulated."""
        simulation = LoraSimulation()
        async with contextlib.AsyncExitStack() as stack:
            for link, sharing in by_link(devices).items():
                air = Air(_endpoint(sharing[0]), random.Random(f"{seed} {link}"))
                way = _sending if _endpoint(sharing[0]).server is None else _serving
                at, port = await stack.enter_async_context(way(air, sharing, seed, host))
                simulation.served(link, at, port)
                members: list[Node | AnyGateway] = [*air.nodes, *air.gateways]
                simulation.members |= {member.name: (member, air) for member in members}
            yield simulation


def _endpoint(device: SimulatedDevice) -> LoraEndpoint:
    assert isinstance(device.endpoint, LoraEndpoint)
    return device.endpoint


def _place(endpoint: LoraEndpoint, host: str) -> tuple[str, int]:
    """Where the runtime is to listen."""
    at, port = place(endpoint.address, host)
    if port:
        return at, port
    family = socket.AF_INET6 if ":" in at else socket.AF_INET
    while True:  # one that is free by UDP, for packet forwarders, and by TCP, for stations
        with socket.socket(family, socket.SOCK_DGRAM) as udp, socket.socket(family) as tcp:
            udp.bind((at, 0))
            port = udp.getsockname()[1]
            with contextlib.suppress(OSError):
                tcp.bind((at, port))
                return at, port


def _itself(gateway: Gateway) -> Gateway:
    return gateway


@contextlib.asynccontextmanager
async def _sending(
    air: Air, sharing: Sequence[SimulatedDevice], seed: int, host: str
) -> AsyncIterator[tuple[str, int]]:
    at, port = _place(_endpoint(sharing[0]), host)
    loop = asyncio.get_running_loop()
    codecs: dict[str, Codec] = {}
    for device in sharing:
        endpoint, rng = _endpoint(device), random.Random(f"{seed} {device.name}")
        if endpoint.station is not None:
            air.gateways.append(
                StationGateway(device.name, endpoint.eui, air.region, air.down, air.share_too_late, rng)
            )
            continue
        if endpoint.gateway is not None:
            air.gateways.append(Gateway(device.name, endpoint.eui, air, rng))
            continue
        join_eui = (endpoint.otaa.join_eui if endpoint.otaa is not None else None) or "0" * 16
        made = node(device, join_eui, f"{seed}", int(time.time()) & 0xFFFF)
        air.nodes.append(made)
        if endpoint.codec is not None:
            codecs[made.eui] = endpoint.codec
    if not air.gateways:
        raise ValueError(
            f"{_endpoint(sharing[0]).link()} has no gateway: declare a Device with `gateway: EUI`"
        )
    air.codecs.declare(codecs)
    tasks = [asyncio.create_task(air.codecs.running())]
    try:
        coded = [await _coded(one, air, codecs) for one in air.nodes]
    except ValueError:
        await _ended(tasks)
        raise
    tasks += [asyncio.create_task(_live(*one, air)) for one in zip(air.nodes, coded, strict=True)]
    transports = []
    for gateway in air.gateways:
        if isinstance(gateway, StationGateway):
            tasks.append(asyncio.create_task(gateway.run(at, port)))
        if not isinstance(gateway, Gateway):
            continue
        transport, _ = await loop.create_datagram_endpoint(partial(_itself, gateway), remote_addr=(at, port))
        transports.append(transport)
    tasks.append(asyncio.create_task(_keep_alive(air)))
    try:
        yield at, port
    finally:
        await _ended(tasks)
        air.close()
        for transport in transports:
            transport.close()
        await asyncio.sleep(0)


async def _coded(one: Node, air: Air, codecs: Mapping[str, Codec]) -> CodedNode | None:
    """Raises ValueError where the codec can't make its uplinks."""
    if not one.pointed:
        return None
    made = CodedNode(one, codecs.get(one.eui), air.codecs)
    await made.check()
    return made


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@contextlib.asynccontextmanager
async def _serving(
    air: Air, sharing: Sequence[SimulatedDevice], seed: int, host: str
) -> AsyncIterator[tuple[str, int]]:
    """A network server and, unless one is there already, its broker."""
    for device in sharing:
        endpoint, rng = _endpoint(device), random.Random(f"{seed} {device.name}")
        if endpoint.gateway is not None:
            air.gateways.append(ServerGateway(device.name, endpoint.eui, rng))
        else:
            air.nodes.append(node(device, "0" * 16, f"{seed}", int(time.time()) & 0xFFFF))
    if not air.gateways:
        air.gateways.append(ServerGateway("", "fffe" * 4, random.Random(seed)))
    air.server = StandIn(_endpoint(sharing[0]), air)
    async with contextlib.AsyncExitStack() as stack:
        at, port = _place(_endpoint(sharing[0]), host)
        if not await _answers(at, port):
            if find_mosquitto() is None:
                raise ValueError("a network server's broker is simulated by mosquitto: apt install mosquitto")
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="devicemesh-lora-")))
            at = "127.0.0.1"
            await stack.enter_async_context(embedded_broker(folder, port))
        await stack.enter_async_context(air.server.serving(at, port, [_endpoint(one) for one in sharing]))
        tasks = [asyncio.create_task(_live(one, None, air)) for one in air.nodes]
        tasks.append(asyncio.create_task(air.server.live()))
        try:
            yield at, port
        finally:
            await _ended(tasks)
            air.close()


async def _answers(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True


async def _keep_alive(air: Air) -> None:
    while True:
        for gateway in air.gateways:
            gateway.keep_alive()
        await asyncio.sleep(KEEP_ALIVE_S)


async def _live(one: Node, coded: CodedNode | None, air: Air) -> None:
    """A device: it joins, and sends at its pace."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    while True:
        if one.keys is None:
            air.up(one.join(), one.faults)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(JOIN_AGAIN_S):
                    await one.joined.wait()
            continue
        for phy in one.uplinks(loop.time() - start):
            air.up(phy, one.faults)
        if coded is not None and (made := await coded.uplink(loop.time() - start)) is not None:
            air.up(made, one.faults)
        await asyncio.sleep(one.period_s)
