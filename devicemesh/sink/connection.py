"""One MQTT connection on the event loop; with `client`, all that knows the MQTT client.

There is no thread of the client's: its socket belongs to the event loop, and only connecting (name lookup,
TCP, TLS), which blocks, is done in a thread. A client serves one connection and keeps nothing beyond it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import struct
import termios
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from devicemesh.sink.broker_url import BROKE, CONNECT_S, ENDED, in_words
from devicemesh.sink.client import Client, ConnectError, Opening, connect, in_thread, tune
from devicemesh.sink.packets import PINGREQ, publish_once_packet, publish_packet, topic_field

_CONGESTED_BYTES = 1 << 20
_TOPICS = 50_000  # kept as they are sent
_CODE_TAKEN_OVER, _CODE_WITH_WILL = 0x8E, 0x04
_FIRST_IDENTIFIER = 64  # of our publishes; those below are the client's, for its subscriptions


@dataclass(frozen=True, slots=True)
class Events:
    """Whom a connection tells; never called from within a call to it."""

    acknowledged: Callable[[int, int], None]  # identifier, reason code
    message: Callable[[str, bytes, bool, bytes | None], None]  # topic, payload, retained, correlation data
    readable: Callable[[], None]  # the network was served: there may be room again


class Connection:
    """From CONNACK to the end. `closed` is done when it is over, with the reason in words."""

    def __init__(self, client: Client, events: Events, *, v5: bool) -> None:
        loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[str] = loop.create_future()
        self.window = 65535  # publishes that the broker lets be under way
        self.max_packet_bytes = 1 << 28
        self.deaf: str | None = None  # why we are told nothing, in words
        self._client, self._events, self._loop = client, events, loop
        self._descriptor = client.wire.fileno()
        self._connack: asyncio.Future[None] = loop.create_future()
        self.v5 = v5
        self._topics: dict[str, bytes] = {}
        self._identifier = _FIRST_IDENTIFIER
        self._owed: set[int] = set()  # identifiers that the broker is to acknowledge
        self._pings: deque[tuple[int, Callable[[], None]]] = deque()  # (its number, whom its answer concerns)
        self._messages: list[paho.MQTTMessage] = []
        self._flushing = self._writing = False
        self._ended: str | None = None  # why, once the client gave the connection up
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_message, client.on_subscribe = self._on_message, self._on_subscribe
        client.on_socket_close = self._on_socket_close

    @classmethod
    async def open(cls, opening: Opening, events: Events) -> Connection:
        """Connect and wait for the broker's answer. Raises ConnectError."""
        try:
            client = await in_thread(lambda: connect(opening), lambda late: late.wire.close())
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: no thread can be started
            raise ConnectError(in_words(error, opening.url)) from error
        client.wire.fence = opening.fence
        connection = cls(client, events, v5=opening.settings.version == "5")
        try:
            tune(connection._descriptor, opening.settings.keepalive_s)
            connection._loop.add_reader(connection._descriptor, connection._on_readable)
            connection._flush()
            async with asyncio.timeout(CONNECT_S):
                await connection._connack
        except TimeoutError:
            connection.abort("")
            raise ConnectError(f"{opening.url} takes connections but does not answer as a broker") from None
        except OSError as error:  # nothing is left to watch a socket with
            connection.abort("")
            raise ConnectError(in_words(error, opening.url)) from error
        except BaseException:
            connection.abort("")
            raise
        return connection

    # -- speaking

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> int | None:
        """Hand over a message of QoS 1; return its identifier, None when none can be taken now."""
        identifier = self._identifier
        if self.closed.done() or identifier in self._owed:
            return None
        self._identifier = identifier + 1 if identifier < 0xFFFF else _FIRST_IDENTIFIER
        field = topic_field(topic) if retain else self._field(topic)  # retained: seldom
        self._client.wire.send(publish_packet(field, payload, identifier, retain=retain, v5=self.v5))
        self._owed.add(identifier)
        self._flush_soon()
        return identifier

    def _field(self, topic: str) -> bytes:
        """The topic as it is sent."""
        if (known := self._topics.get(topic)) is not None:
            return known
        if len(self._topics) >= _TOPICS:
            self._topics.clear()
        field = self._topics[topic] = topic_field(topic)
        return field

    def publish_once(self, topic: str, payload: bytes) -> None:
        """Hand over a message of QoS 0: nothing tells whether it arrived, but for `ping`."""
        if not self.closed.done():
            self._client.wire.send(publish_once_packet(self._field(topic), payload, v5=self.v5))
            self._flush_soon()

    def ping(self, answered: Callable[[], None]) -> None:
        """Ask for an answer; when it comes, the broker has had all that was sent before."""
        self._client.wire.send(PINGREQ)
        self._pings.append((self._client.wire.pings, answered))
        self._flush_soon()

    def subscribe(self, filters: Sequence[str]) -> None:
        self._client.subscribe([(each, 1) for each in filters])
        self._flush_soon()

    @property
    def congested(self) -> bool:
        return self._client.wire.unsent > _CONGESTED_BYTES

    def progress(self) -> tuple[int, ...]:
        """Changes while bytes leave for the network."""
        queued = 0
        with contextlib.suppress(OSError, ValueError):  # ValueError: it is over
            queued = struct.unpack("i", fcntl.ioctl(self._descriptor, termios.TIOCOUTQ, bytes(4)))[0]
        return self._client.wire.unsent, queued

    def tend(self) -> None:
        """Send and expect pings; to be called about once a second."""
        self._guarded(self._client.loop_misc)
        self._flush_soon()

    def close(self, reason: str = "closed by us", *, with_will: bool = False) -> None:
        """Say goodbye, so that the broker does not publish the will, and hang up.

        `with_will`: it is to publish it all the same, which MQTT 3.1.1 can't ask for.
        """
        code = None
        if with_will and self.v5:
            code = ReasonCode(PacketTypes.DISCONNECT, identifier=_CODE_WITH_WILL)
        if not self.closed.done():
            self._guarded(lambda: self._client.disconnect(code))
            self._guarded(self._client.loop_write)
        self.abort(reason)

    def abort(self, reason: str) -> None:
        """Hang up without a word."""
        if not self.closed.done():
            self.closed.set_result(reason)
        if not self._connack.done():
            self._connack.cancel()
        self._forget_socket()
        self._client.wire.close()

    # -- the socket

    def _on_readable(self) -> None:
        error = self._serve()
        if error is not None:
            self._lost(in_words(error, None))
            return
        self._events.readable()
        self._flush_soon()

    def _serve(self) -> OSError | None:
        """Take in what the network has; a connection's last words count, whatever ended it."""
        wire, problem = self._client.wire, None
        try:
            wire.fill()
            while wire.pending:
                wire.fill()
        except OSError as error:
            problem = error
        acknowledged, wire.acknowledged = wire.acknowledged, []
        for identifier, code in acknowledged:
            if identifier in self._owed:
                self._owed.remove(identifier)
                self._events.acknowledged(identifier, code)
        while self._pings and self._pings[0][0] <= wire.pongs:
            self._pings.popleft()[1]()
        while wire.unread and not self.closed.done():
            self._guarded(self._client.loop_read)
        messages, self._messages = self._messages, []
        for message in messages:
            self._events.message(*_unpacked(message))
        return problem

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self.closed.done():
            return
        self._guarded(self._client.loop_write)  # into the wire's buffer: all of it
        try:
            done = self._client.wire.flush()
        except OSError as error:
            self._serve()
            self._lost(in_words(error, None))
            return
        if done == self._writing:
            self._writing = not done
            if not done:
                self._loop.add_writer(self._descriptor, self._on_writable)
            else:
                self._loop.remove_writer(self._descriptor)

    def _on_writable(self) -> None:
        self._flush()
        self._events.readable()

    def _guarded(self, serve: Callable[[], object]) -> None:
        """Let the client serve the network; whatever a hostile broker makes it raise ends the connection."""
        if self.closed.done():
            return
        try:
            serve()
        except Exception as error:  # the client's decoders raise what they like
            self._ended = f"the broker sent what is no MQTT ({type(error).__name__}: {error})"
        if self._ended is not None:
            self._lost(self._ended)

    def _lost(self, reason: str) -> None:
        if not self._connack.done():
            self._connack.set_exception(ConnectError(reason))
        self.abort(reason)

    def _forget_socket(self) -> None:
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            self._loop.remove_writer(self._descriptor)
            self._descriptor = -1

    # -- what the client tells, from within its own calls: noted here, acted on afterwards

    def _on_connect(
        self, _: object, __: object, flags: object, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if self._connack.done():
            return
        refusal = str(reason) if reason.is_failure else None
        if getattr(properties, "MaximumQoS", 1) < 1:
            refusal = "it takes no QoS 1, without which nothing is certain"
        if refusal is not None:
            self._connack.set_exception(ConnectError(f"the broker refused us: {refusal}"))
            return
        self.window = getattr(properties, "ReceiveMaximum", self.window)
        self.max_packet_bytes = getattr(properties, "MaximumPacketSize", self.max_packet_bytes)
        self._connack.set_result(None)

    def _on_disconnect(
        self, _: object, __: object, flags: paho.DisconnectFlags, reason: ReasonCode, properties: object
    ) -> None:
        if reason.value == _CODE_TAKEN_OVER:
            words = "another client connected with our client id: every runtime needs its own `instance`"
        elif flags.is_disconnect_packet_from_server:
            words = f"{ENDED}: {reason}"
        elif reason.getName() == "Keep alive timeout":
            words = "the broker does not answer pings"
        elif reason.getName() == "Protocol error":
            words = "the broker sent what is no MQTT"
        else:
            words = BROKE
        self._ended = words

    def _on_subscribe(self, _: object, __: object, ___: int, codes: list[ReasonCode], ____: object) -> None:
        for code in codes:
            if code.is_failure:
                self.deaf = f"the broker does not let us subscribe, so no command arrives: {code}"

    def _on_message(self, _: object, __: object, message: paho.MQTTMessage) -> None:
        self._messages.append(message)

    def _on_socket_close(self, *_: object) -> None:
        self._forget_socket()


def _unpacked(message: paho.MQTTMessage) -> tuple[str, bytes, bool, bytes | None]:
    try:
        topic = message.topic
    except UnicodeDecodeError:
        topic = ""
    correlation = getattr(message.properties, "CorrelationData", None)
    return topic, bytes(message.payload), message.retain, correlation
