"""One connection to a network server's broker, on the event loop; only this file knows the MQTT client.

Connecting (name lookup, TCP, TLS) blocks and is done in a thread; after that the socket is the loop's. A
client serves one connection: the runtime opens another one when it breaks.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from devicemesh.mapper import AuthError, ConfigError, LinkError
from devicemesh_lora.endpoint import BrokerTls

CONNECT_S = 10.0
"""Patience for TCP, for TLS, and for the broker's answers, each."""
KEEPALIVE_S = 30
MOST_BYTES = 256 << 10
"""Of a message; a larger one is counted and dropped."""
MOST_PACKET_BYTES = 32 << 20
"""Of a packet: it costs memory until it is there, so a broker that sends more is hung up on."""
_AT_ONCE = 100
_REFUSED = ("Bad user name or password", "Not authorized")
Receive = Callable[[str, bytes | None, bool], None]
"""Topic, payload (None: more than `MOST_BYTES`), whether it was retained."""


@dataclass(frozen=True, slots=True)
class Account:
    """Where a broker is, and who we are to it."""

    host: str
    port: int
    secure: bool
    tls: BrokerTls | None
    user: str | None
    password: str | None
    mend: str  # what to look at when it refuses us
    name: str  # of the link, for people

    def __str__(self) -> str:
        return self.name


class _Client(paho.Client):
    """The client; its own TLS leaves the socket open when the handshake fails."""

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        assert self._ssl_context is not None
        tls = self._ssl_context.wrap_socket(
            tcp_sock, server_hostname=self.host, do_handshake_on_connect=False
        )
        try:
            tls.settimeout(CONNECT_S)
            tls.do_handshake()
        except BaseException:
            tls.close()
            raise
        return tls


class Broker:
    """From CONNACK to the end. `closed` is done when it is over, with the reason in words."""

    def __init__(self, client: _Client, account: Account, receive: Receive) -> None:
        self._client, self._account, self._receive = client, account, receive
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[str] = self._loop.create_future()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._subscribed: dict[int | None, asyncio.Future[list[ReasonCode]]] = {}
        sock = client.socket()
        assert sock is not None
        self._socket: Any = sock
        self._descriptor = sock.fileno()
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_message, client.on_subscribe = self._on_message, self._on_subscribe
        client.on_socket_register_write = self._on_want_write
        client.on_socket_unregister_write = self._on_written
        client.on_socket_close = self._on_socket_close
        self._loop.add_reader(self._descriptor, self._on_readable)
        if client.want_write():
            self._loop.add_writer(self._descriptor, self._on_writable)
        self._ending: str | None = None

    # Speaking

    def publish(self, topic: str, body: bytes, qos: int, *, retained: bool = False) -> None:
        self._guarded(lambda: self._client.publish(topic, body, qos, retained))

    async def subscribe(self, topics: Sequence[str], qos: int) -> None:
        """Raises AuthError for topics that the broker does not let us read, LinkError when it is silent."""
        for topic in topics:
            answer: asyncio.Future[list[ReasonCode]] = self._loop.create_future()
            _, number = self._client.subscribe(topic, qos)
            self._subscribed[number] = answer
            try:
                async with asyncio.timeout(CONNECT_S):
                    either: set[asyncio.Future[Any]] = {answer, self.closed}
                    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            except TimeoutError:
                raise LinkError(f"{self._account} does not answer a subscription") from None
            if self.closed.done():
                raise LinkError(f"{self._account}: {self.closed.result()}")
            if any(code.is_failure for code in answer.result()):
                why = f"{self._account} does not let us read {topic}: {self._account.mend}"
                raise AuthError(why, reason="NotAllowed")

    def unsubscribe(self, topics: Sequence[str]) -> None:
        for topic in topics:
            self._guarded(partial(self._client.unsubscribe, topic))

    def tend(self) -> None:
        """Send and expect pings; to be called about once a second. Raises LinkError when it is over."""
        self._guarded(self._client.loop_misc)
        if self.closed.done():
            raise LinkError(f"{self._account}: {self.closed.result()}")

    async def accepted(self) -> None:
        """The broker's answer. Raises AuthError or LinkError."""
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._ready
        except TimeoutError:
            raise LinkError(f"{self._account} takes connections but does not answer as a broker") from None

    def close(self) -> None:
        """Say goodbye and hang up."""
        if not self.closed.done():
            self._guarded(self._client.disconnect)
            self._guarded(self._client.loop_write)
        self._end("closed by us")
        if self._ready.done() and not self._ready.cancelled():
            self._ready.exception()

    # The socket

    def _on_readable(self) -> None:
        for _ in range(_AT_ONCE):
            self._guarded(self._client.loop_read)
            size = self._client._in_packet["remaining_length"]  # there is no public way to know it
            if size > MOST_PACKET_BYTES:
                self._end(f"the broker sends a message of {size >> 20} MB")
            pending = getattr(self._socket, "pending", None)
            if self.closed.done() or pending is None or not pending():
                return

    def _on_writable(self) -> None:
        self._guarded(self._client.loop_write)

    def _guarded(self, serve: Callable[[], object]) -> None:
        """Let the client serve the network; whatever a hostile broker makes it raise ends the connection."""
        if self.closed.done():
            return
        try:
            done = serve()
        except Exception as error:  # the client's decoders raise what they like
            self._ending = f"the broker sent what is no MQTT ({type(error).__name__}: {error})"
        else:
            if isinstance(done, MQTTErrorCode) and done not in (
                MQTTErrorCode.MQTT_ERR_SUCCESS,
                MQTTErrorCode.MQTT_ERR_AGAIN,
            ):
                self._ending = self._ending or f"the connection broke ({paho.error_string(done)})"
        if self._ending is not None:
            self._end(self._ending)

    def _end(self, reason: str) -> None:
        if not self.closed.done():
            self.closed.set_result(reason)
        if not self._ready.done():
            self._ready.set_exception(LinkError(f"{self._account}: {reason}"))
        self._forget_socket()
        with contextlib.suppress(OSError):
            self._socket.close()

    def _forget_socket(self) -> None:
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            self._loop.remove_writer(self._descriptor)
            self._descriptor = -1

    # What the client tells, from within its own calls

    def _on_want_write(self, *_: object) -> None:
        if self._descriptor >= 0:
            self._loop.add_writer(self._descriptor, self._on_writable)

    def _on_written(self, *_: object) -> None:
        if self._descriptor >= 0:
            self._loop.remove_writer(self._descriptor)

    def _on_socket_close(self, *_: object) -> None:
        self._forget_socket()

    def _on_connect(self, _: object, __: object, ___: object, reason: ReasonCode, *____: object) -> None:
        if self._ready.done():
            return
        if not reason.is_failure:
            self._ready.set_result(None)
            return
        word = str(reason)
        why = f"{self._account} refused us, {word}"
        refused = any(one.lower() in word.lower() for one in _REFUSED)
        self._ready.set_exception(AuthError(f"{why}: {self._account.mend}") if refused else LinkError(why))

    def _on_disconnect(self, _: object, __: object, ___: object, reason: ReasonCode, *____: object) -> None:
        self._ending = self._ending or f"the connection broke ({reason})"

    def _on_subscribe(
        self, _: object, __: object, number: int, codes: list[ReasonCode], *___: object
    ) -> None:
        answer = self._subscribed.pop(number, None)
        if answer is not None and not answer.done():
            answer.set_result(codes)

    def _on_message(self, _: object, __: object, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        if len(message.payload) > MOST_BYTES:
            self._receive(topic, None, message.retain)
            return
        self._receive(topic, bytes(message.payload), message.retain)


def _connected(account: Account) -> _Client:
    """Blocks: name lookup, TCP, TLS. CONNECT is queued, not sent. Raises OSError or ValueError."""
    client = _Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
    client.connect_timeout = CONNECT_S
    client.on_socket_register_write = lambda *_: None  # not before the loop has the socket
    if account.user is not None or account.password is not None:
        client.username_pw_set(account.user or "", account.password)
    if account.secure:
        tls = account.tls or BrokerTls()
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file is not None:
            context.load_cert_chain(tls.cert_file, tls.key_file)
        client.tls_set_context(context)
    client.connect(account.host, account.port, KEEPALIVE_S)
    return client


def _in_words(error: Exception, account: Account) -> Exception:
    if isinstance(error, ssl.SSLCertVerificationError):
        return LinkError(
            f"the certificate of {account} is not trusted: {error.verify_message}", reason="NotTrusted"
        )
    if isinstance(error, ssl.SSLError):
        return LinkError(f"no TLS with {account}: {error.reason or error}")
    if isinstance(error, FileNotFoundError | PermissionError):
        return ConfigError(f"the `tls` of {account}: {error}")
    if isinstance(error, TimeoutError):
        return LinkError(f"no answer from {account} within {CONNECT_S:g} s")
    return LinkError(f"{account}: {getattr(error, 'strerror', None) or error}")


@contextlib.asynccontextmanager
async def connected(account: Account, receive: Receive) -> AsyncIterator[Broker]:
    """Connect, and be let in. Raises LinkError, AuthError or ConfigError."""
    connecting = asyncio.ensure_future(asyncio.to_thread(_connected, account))
    try:
        client = await asyncio.shield(connecting)
    except asyncio.CancelledError:
        connecting.add_done_callback(_hang_up)
        raise
    except (OSError, ValueError) as error:
        raise _in_words(error, account) from error
    broker = Broker(client, account, receive)
    try:
        await broker.accepted()
        yield broker
    finally:
        broker.close()


def _hang_up(connecting: asyncio.Future[_Client]) -> None:
    """Nobody waits for this connection any more."""
    if not connecting.cancelled() and connecting.exception() is None:
        sock = connecting.result().socket()
        if sock is not None:
            sock.close()
