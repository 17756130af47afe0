"""Shared by the sink's tests."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from devicemesh.aggregate import Record
from devicemesh.settings import MqttSettings, OutboxSettings
from devicemesh.sink.base import Command
from devicemesh.sink.mqtt import MqttSink
from devicemesh.sink.outbox import Outbox
from devicemesh.testing.server import StreamServer
from devicemesh.testing.waiting import until


@dataclass
class ManualClock:
    """A clock that stands still until it is moved."""

    boot: float = 1000.0
    wall: int = 0
    boot_id: bytes = b"thisboot"

    def boottime(self) -> float:
        return self.boot

    def wall_ns(self) -> int:
        return self.wall

    def advance(self, seconds: float) -> None:
        self.boot += seconds
        self.wall += int(seconds * 1e9)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def _drain(outbox: Outbox) -> list[bytes]:
    """Read and acknowledge all that waits."""
    bodies, position = [], outbox.acked
    while position < outbox.next:
        chunk = outbox.read(position)
        for item in chunk.items:
            assert item.position >= position
            position = item.position
            bodies.append(item.body)
            outbox.ack(item.position, item.sample, item.samples)
        position = chunk.end
    return bodies


@pytest.fixture
def drain() -> Callable[[Outbox], list[bytes]]:
    return _drain


def _conserved(outbox: Outbox) -> None:
    stats = outbox.stats()
    assert stats.taken == stats.published + sum(stats.dropped.values()) + stats.spooled
    for book in (stats, stats.recovered):
        assert min(book.spooled, book.published, *book.dropped.values()) >= 0


@pytest.fixture
def conserved() -> Callable[[Outbox], None]:
    """Check that every sample is accounted for."""
    return _conserved


class Packet(NamedTuple):
    """One MQTT packet as a scripted broker gets it."""

    kind: int  # the packet type, 1 to 15
    flags: int
    body: bytes

    @property
    def identifier(self) -> int:
        """Of a PUBLISH of QoS 1."""
        at = 2 + int.from_bytes(self.body[:2], "big")
        return int.from_bytes(self.body[at : at + 2], "big")

    @property
    def topic(self) -> str:
        """Of a PUBLISH."""
        return self.body[2 : 2 + int.from_bytes(self.body[:2], "big")].decode()


CONNACK_5 = bytes((0x20, 3, 0, 0, 0))


def puback(identifier: int, code: int | None = None) -> bytes:
    tail = b"" if code is None else bytes((code,))
    return bytes((0x40, 2 + len(tail))) + identifier.to_bytes(2, "big") + tail


class ScriptedBroker:
    """Speaks only as much MQTT as a test wants it to: `script` is run for each connection."""

    def __init__(self, script: Callable[[Wire], Awaitable[None]]) -> None:
        self.connections = 0
        self._script = script
        self._server = StreamServer(self._serve)

    async def __aenter__(self) -> ScriptedBroker:
        await self._server.__aenter__()
        self.url = f"mqtt://127.0.0.1:{self._server.port}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._server.__aexit__(*exc)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await self._script(Wire(reader, writer))


class Wire:
    """A connection as the scripted broker sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def packet(self) -> Packet:
        first = (await self.reader.readexactly(1))[0]
        length = shift = 0
        while True:
            byte = (await self.reader.readexactly(1))[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        return Packet(first >> 4, first & 15, await self.reader.readexactly(length))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def accept(self, connack: bytes = CONNACK_5) -> None:
        """Take the CONNECT and answer it."""
        while (await self.packet()).kind != 1:
            pass
        self.send(connack)

    async def publishes(self) -> AsyncIterator[Packet]:
        """Yield every PUBLISH; answer subscriptions and pings."""
        while True:
            packet = await self.packet()
            if packet.kind == 3:
                yield packet
            elif packet.kind == 8:
                self.send(bytes((0x90, 5)) + packet.body[:2] + bytes((0, 1, 1)))
            elif packet.kind == 12:
                self.send(bytes((0xD0, 0)))


@pytest.fixture
def scripted() -> type[ScriptedBroker]:
    return ScriptedBroker


def encode(body: bytes, names: Sequence[str]) -> bytes:
    """Stands in for the C encoder: shows what it was given."""
    return json.dumps({"body": body.decode("latin-1"), "names": list(names)}).encode()


class Rig:
    """A sink on a home of its own, and what tests ask of it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.sent = 0
        self.commands: list[Command] = []

    def sink(self, url: str, **options: Any) -> MqttSink:
        outbox = options.pop("outbox", OutboxSettings())
        stall_s, encoder = options.pop("stall_s", None), options.pop("encode", encode)
        fence = options.pop("fence", None)
        settings = MqttSettings(url=url, **options)
        self.it = MqttSink(settings, outbox, self.home, "test", encode=encoder, stall_s=stall_s, fence=fence)
        return self.it

    def put(self, count: int = 1, streams: int = 1, samples: int = 1, size: int = 10) -> None:
        """Publish `count` records to each of `streams` devices; their bodies count from 0."""
        for _ in range(count):
            records = [
                Record(stream, self.sent, samples, b"%d" % self.sent + b" " * size)
                for stream in range(streams)
            ]
            self.it.publish(records, lambda stream: (f"default/pump-{stream}", ["speed", "power"]))
            self.sent += 1

    async def up(self, timeout_s: float = 10) -> None:
        await until(lambda: self.it.stats().up, timeout_s, lambda: self.it.stats().last_error)

    async def on_command(self, command: Command) -> None:
        self.commands.append(command)

    def conserved(self) -> None:
        stats = self.it.stats()
        dropped = sum(stats.samples_dropped.values())
        assert stats.samples_taken == stats.samples_published + dropped + stats.samples_spooled


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


class Consumer:
    """A client of the broker that keeps what it gets."""

    def __init__(self, port: int, *filters: str) -> None:
        self.messages: list[paho.MQTTMessage] = []
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=f"consumer-{port}", protocol=MQTTProtocolVersion.MQTTv5
        )
        self._ready = threading.Event()
        self._client.on_message = lambda client, data, message: self.messages.append(message)
        self._client.on_connect = lambda client, *_: client.subscribe([(each, 1) for each in filters])
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.reconnect_delay_set(1, 1)
        self._port = port

    def __enter__(self) -> Consumer:
        self._client.connect("127.0.0.1", self._port, 60)
        self._client.loop_start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes, **options: Any) -> None:
        properties = None
        if "correlation" in options:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.CorrelationData = options.pop("correlation")
        self._client.publish(topic, payload, 1, properties=properties, **options).wait_for_publish(10)

    def on(self, suffix: str) -> list[bytes]:
        """Payloads on topics with this ending, in the order of their arrival."""
        return [bytes(each.payload) for each in self.messages if each.topic.endswith(suffix)]

    def bodies(self, device: str = "pump-0") -> list[int]:
        """What `Rig.put` numbered, as it arrived."""
        return [int(json.loads(each)["body"]) for each in self.on(f"/{device}/telemetry")]


@pytest.fixture
def consumer() -> type[Consumer]:
    return Consumer
