"""Making an MQTT connection: what blocks (name lookup, TCP, TLS) is done in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, cast

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from devicemesh.settings import MqttSettings
from devicemesh.sink.broker_url import CONNECT_S, BrokerUrl, tls_context
from devicemesh.sink.wire import PacketSocket, Stream
from devicemesh.system import limit_unacknowledged

_RECEIVE_MAXIMUM = 64  # messages to us that the broker may have under way


class ConnectError(Exception):
    """A connection could not be made; the message says why, in words."""


class Will(NamedTuple):
    """What the broker is to publish, with QoS 1, when the connection is lost."""

    topic: str
    payload: bytes
    retain: bool


@dataclass(frozen=True, slots=True)
class Opening:
    """All that a connection needs to be made."""

    url: BrokerUrl
    settings: MqttSettings
    client_id: str
    username: str | None
    password: str | None
    will: Will
    fence: Callable[[], bool] | None = None  # asked before each write to the network; None: always open

    @property
    def max_packet_bytes(self) -> int:
        """Of packets to us. Commands above `max_payload_bytes` are refused, those far above it never read."""
        return 4 * self.settings.max_payload_bytes


class Client(paho.Client):
    """The client, on a socket that reads ahead and writes together."""

    wire: PacketSocket
    max_packet_bytes = 1 << 28

    def _create_socket(self) -> PacketSocket:
        self.wire = PacketSocket(cast(Stream, super()._create_socket()), self.max_packet_bytes)
        return self.wire

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        assert self._ssl_context is not None
        tls = self._ssl_context.wrap_socket(
            tcp_sock, server_hostname=self.host, do_handshake_on_connect=False
        )
        try:
            tls.settimeout(CONNECT_S)
            tls.do_handshake()
        except BaseException:  # the library's own leaves the socket open
            tls.close()
            raise
        return tls


def connect(opening: Opening) -> Client:
    """Blocks: name lookup, TCP, TLS. CONNECT is queued, not sent."""
    settings, url = opening.settings, opening.url
    v5 = settings.version == "5"
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=opening.client_id,
        clean_session=None if v5 else True,
        protocol=MQTTProtocolVersion.MQTTv5 if v5 else MQTTProtocolVersion.MQTTv311,
        transport=url.transport,
        reconnect_on_failure=False,
    )
    client.max_packet_bytes = opening.max_packet_bytes
    client.connect_timeout = CONNECT_S
    client.on_socket_register_write = lambda *_: None  # we flush ourselves: nothing may write at once
    client.will_set(opening.will.topic, opening.will.payload, qos=1, retain=opening.will.retain)
    if opening.username is not None or opening.password is not None:
        client.username_pw_set(opening.username or "", opening.password)
    if url.transport == "websockets":
        client.ws_set_options(path=url.path)
    if url.tls:
        client.tls_set_context(tls_context(settings))
    if not v5:
        client.connect(url.host, url.port, settings.keepalive_s)
        return client
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.ReceiveMaximum = _RECEIVE_MAXIMUM
    properties.MaximumPacketSize = opening.max_packet_bytes
    client.connect(url.host, url.port, settings.keepalive_s, clean_start=True, properties=properties)
    return client


async def in_thread(work: Callable[[], Client], discard: Callable[[Client], None]) -> Client:
    """Run in a thread that nobody waits for at exit: a name lookup can't be stopped. Drops late results."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Client] = loop.create_future()

    def deliver(result: Client | None, error: BaseException | None) -> None:
        if not future.done():
            if result is not None:
                future.set_result(result)
            elif error is not None:
                future.set_exception(error)
        elif result is not None:
            discard(result)

    def run() -> None:
        result: Client | None = None
        problem: BaseException | None = None
        try:
            result = work()
        except BaseException as error:
            problem = error
        try:
            loop.call_soon_threadsafe(deliver, result, problem)
        except RuntimeError:  # the loop is closed
            if result is not None:
                discard(result)

    threading.Thread(target=run, name="mqtt connect", daemon=True).start()
    return await future


def tune(descriptor: int, timeout_s: int) -> None:
    """No delay for small packets; a peer that acknowledges no bytes any more is noticed."""
    with contextlib.suppress(OSError), socket.socket(fileno=socket.dup(descriptor)) as tcp:
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        limit_unacknowledged(tcp, timeout_s)
