"""CoAP over UDP, as a client of one device: exchanges, retransmission, observations (RFC 7252, 4).

The socket is connected, so the kernel drops what comes from elsewhere. A datagram takes one call from the
socket to its receiver: no task, no transport, and no object but the message lie in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import struct
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from devicemesh.mapper import ConfigError, LinkError, PointError
from devicemesh_coap.channel import Channel, Notify, usable
from devicemesh_coap.message import (
    ACK,
    CON,
    EMPTY,
    GET,
    NON,
    RST,
    Message,
    MessageError,
    Option,
    decode,
    dotted,
    encode,
)
from devicemesh_coap.model import CoapEndpoint

RANDOM_FACTOR = 1.5
"""By which the first waiting time varies (RFC 7252, 4.8)."""
MAX_DATAGRAM = 65536
BURST = 64
"""Datagrams that are taken in one turn of the loop."""
_REMEMBERED = 64
"""Message ids of the device that are remembered, so that a repeated message is answered as before."""
WELL_KNOWN: tuple[tuple[int, bytes], ...] = (
    (Option.URI_PATH, b".well-known"), (Option.URI_PATH, b"core"),
)  # fmt: skip


@dataclass(eq=False, slots=True)
class _Exchange:
    """A message that waits for its answer."""

    future: asyncio.Future[Message]
    data: bytes
    mid: int
    token: bytes
    reliable: bool
    started: float
    deadline: float
    wait_s: float
    left: int  # retransmissions
    holds_slot: bool = True
    acknowledged: bool = False
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)


class UdpChannel(Channel):
    """One device."""

    def __init__(self, endpoint: CoapEndpoint, connected: socket.socket) -> None:
        self.link = endpoint.link()
        self.malformed = 0  # messages of the device that were none
        self._socket = connected
        self._loop = asyncio.get_running_loop()
        self._timeout_s = endpoint.timeout_s
        self._ack_timeout_s = endpoint.ack_timeout_s
        self._retransmissions = endpoint.retransmissions
        self._reliable = endpoint.confirmable
        self._mid = random.getrandbits(16)
        self._slot = asyncio.Semaphore(1)  # NSTART (RFC 7252, 4.7)
        self._by_mid: dict[int, _Exchange] = {}
        self._by_token: dict[bytes, _Exchange] = {}
        self._observers: dict[bytes, Notify] = {}
        self._answered: OrderedDict[int, bytes] = OrderedDict()
        self._complaint = ""
        self._loop.add_reader(connected, self._readable)

    def close(self) -> None:
        """Leave the device; whoever waits is told."""
        self._loop.remove_reader(self._socket)
        self._die(LinkError(f"the link to {self.link} is closed"))
        self._socket.close()

    async def request(self, message: Message) -> Message:
        token = message.token or self._new_token()
        try:
            return usable(self.link, await self._exchange(message, token, self._reliable))
        except PointError:
            if not self._reliable:
                await self.ping()  # a lost datagram, or a lost device?
            raise

    async def observe(self, message: Message, notify: Notify, token: bytes = b"") -> tuple[Message, bytes]:
        token = token or self._new_token()
        self._observers[token] = notify
        try:
            first = usable(self.link, await self._exchange(message, token, self._reliable))
        except BaseException:
            self._observers.pop(token, None)
            raise
        if first.option(Option.OBSERVE) is None:
            self._observers.pop(token, None)
        return first, token

    def forget(self, token: bytes, message: Message) -> None:
        if self._observers.pop(token, None) is None or self.lost is not None:
            return
        options = message.having((Option.OBSERVE, b"\x01"))
        farewell = Message(message.code, options, message.payload, token, self._next_mid(), NON)
        self._send(encode(farewell))  # where it is lost, the next notification is answered with a reset

    async def ping(self) -> None:
        """An empty message, which is answered with a reset (RFC 7252, 4.3)."""
        started = self._loop.time()
        try:
            await self._exchange(Message(EMPTY), b"", True)
        except PointError:
            if self.last_heard < started:
                raise LinkError(self._silence(), reason="NoAnswer") from None

    async def probe(self) -> None:
        """Find out whether the device is there. Raises LinkError.

        A device that does not know pings may know the one resource that they all have.
        """
        pinging = self._loop.create_task(self.ping())
        try:
            await asyncio.wait({pinging}, timeout=self._ack_timeout_s)
            if not pinging.done():
                self._send(encode(Message(GET, WELL_KNOWN, b"", self._new_token(), self._next_mid(), NON)))
            await pinging
        finally:
            pinging.cancel()
            await asyncio.wait({pinging})

    async def _exchange(self, message: Message, token: bytes, reliable: bool) -> Message:
        if self.lost is not None:
            raise self.lost
        await self._slot.acquire()
        if self.lost is not None:
            self._slot.release()
            raise self.lost
        exchange = self._start(message, token, reliable)
        try:
            return await exchange.future
        finally:
            self._end(exchange)

    def _start(self, message: Message, token: bytes, reliable: bool) -> _Exchange:
        mid, now = self._next_mid(), self._loop.time()
        kind = CON if reliable else NON
        data = encode(Message(message.code, message.options, message.payload, token, mid, kind))
        wait_s = self._ack_timeout_s * random.uniform(1, RANDOM_FACTOR)
        left = self._retransmissions if reliable else 0
        future: asyncio.Future[Message] = self._loop.create_future()
        exchange = _Exchange(future, data, mid, token, reliable, now, now + self._timeout_s, wait_s, left)
        self._by_mid[mid] = exchange
        if message.code != EMPTY:
            self._by_token[token] = exchange
        first = wait_s if reliable else self._timeout_s
        exchange.timer = self._loop.call_at(min(now + first, exchange.deadline), self._late, exchange)
        self._send(data)
        return exchange

    def _end(self, exchange: _Exchange) -> None:
        if exchange.timer is not None:
            exchange.timer.cancel()
        self._by_mid.pop(exchange.mid, None)
        if self._by_token.get(exchange.token) is exchange:
            del self._by_token[exchange.token]
        self._free(exchange)

    def _free(self, exchange: _Exchange) -> None:
        """Let the next exchange begin."""
        if exchange.holds_slot:
            exchange.holds_slot = False
            self._slot.release()

    def _late(self, exchange: _Exchange) -> None:
        """Send again, or give up."""
        now = self._loop.time()
        if now < exchange.deadline and not exchange.acknowledged and exchange.left:
            exchange.left -= 1
            exchange.wait_s *= 2
            self._send(exchange.data)
            self._send(struct.pack(">BBH", 0x40, EMPTY, self._next_mid()))  # a ping: who hears it is not gone
            at = min(now + exchange.wait_s, exchange.deadline)
            exchange.timer = self._loop.call_at(at, self._late, exchange)
        elif exchange.future.done():
            return
        elif exchange.reliable and self.last_heard < exchange.started:
            self._die(LinkError(self._silence(now - exchange.started), reason="NoAnswer"))
        else:
            why = self._silence(now - exchange.started)
            exchange.future.set_exception(PointError(why, reason="NoAnswer"))

    def _silence(self, seconds: float | None = None) -> str:
        within = f" within {seconds:.3g} s" if seconds is not None else ""
        heard = f"; it sent what is no CoAP message: {self._complaint}" if self._complaint else ""
        return f"no answer from {self.link}{within}{heard}"

    def _die(self, error: LinkError) -> None:
        self.lost = self.lost or error
        for exchange in [*self._by_mid.values()]:
            if not exchange.future.done():
                exchange.future.set_exception(error)
                exchange.future.exception()  # whoever waits sees it; who was cancelled does not

    def _new_token(self) -> bytes:
        """One that nobody else can guess (RFC 7252, 5.3.1), and that is not in use."""
        while (token := os.urandom(4)) in self._by_token or token in self._observers:
            pass
        return token

    def _next_mid(self) -> int:
        self._mid = self._mid + 1 & 0xFFFF
        return self._mid

    def _send(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            pass  # a full buffer loses a datagram, as the network does
        except OSError as error:
            self._die(self._refused(error))

    def _refused(self, error: OSError) -> LinkError:
        if isinstance(error, ConnectionRefusedError):
            return LinkError(f"nobody listens on {self.link}")
        return LinkError(f"{self.link} can't be reached: {error.strerror or error}")

    def _readable(self) -> None:
        for _ in range(BURST):
            try:
                data = self._socket.recv(MAX_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._die(self._refused(error))
                return
            self._received(data)

    def _received(self, data: bytes) -> None:
        self.last_heard = self._loop.time()
        try:
            message = decode(data)
        except MessageError as error:
            self.malformed += 1
            self._complaint = str(error)
            if len(data) >= 4 and data[0] >> 4 == 4:  # version 1, confirmable (RFC 7252, 4.2)
                self._send(bytes((0x70, 0, data[2], data[3])))
            return
        is_response = message.code >> 5 in (2, 4, 5)
        if message.type >= ACK and (is_response or message.code == EMPTY):
            self._acknowledged(message)
        elif message.type >= ACK:
            self._complaint = f"an acknowledgement with code {dotted(message.code)}"
        elif is_response:
            self._arrived(message)
        else:  # a request or a ping: we are no server
            self._send(bytes((0x70, 0, message.mid >> 8, message.mid & 0xFF)))

    def _acknowledged(self, message: Message) -> None:
        """An acknowledgement or a reset: it belongs to a message id of ours."""
        exchange = self._by_mid.get(message.mid)
        if exchange is None or exchange.future.done():
            return
        if message.type == RST:
            if exchange.token:
                why = f"{self.link} rejects the request (reset)"
                exchange.future.set_exception(PointError(why, reason="Refused"))
            else:
                exchange.future.set_result(message)  # to a ping
        elif message.code == EMPTY:
            exchange.acknowledged = True  # the answer comes by itself (RFC 7252, 5.2.2)
            if exchange.timer is not None:
                exchange.timer.cancel()
            exchange.timer = self._loop.call_at(exchange.deadline, self._late, exchange)
            if not exchange.token:
                exchange.future.set_result(message)
            self._free(exchange)
        elif message.token == exchange.token:
            self._answer(exchange, message)

    def _answer(self, exchange: _Exchange, message: Message) -> None:
        exchange.future.set_result(message)
        notify = self._observers.get(exchange.token)
        if notify is not None and not message.flaw and message.option(Option.OBSERVE) is not None:
            notify(message)  # now: who waits for the future runs after the notifications that follow it

    def _arrived(self, message: Message) -> None:
        """A response of its own: a separate one, or a notification. It belongs to a token of ours."""
        token = message.token
        exchange = self._by_token.get(token)
        notify = self._observers.get(token)
        before = self._answered.get(message.mid) if message.type == CON else None
        if before is not None and notify is None and exchange is None:
            self._send(before)
            return
        wanted = exchange is not None or notify is not None
        if message.type == CON or not wanted:
            head = 0x60 if wanted else 0x70
            reply = bytes((head, 0, message.mid >> 8, message.mid & 0xFF))
            self._send(reply)
            if message.type == CON:
                self._answered[message.mid] = reply
                if len(self._answered) > _REMEMBERED:
                    self._answered.popitem(last=False)
        if exchange is not None and not exchange.future.done():
            self._answer(exchange, message)
        elif notify is not None:
            notify(message)


def connect(endpoint: CoapEndpoint, address: tuple[object, ...], family: int) -> socket.socket:
    """A connected, non-blocking socket. Raises OSError, ConfigError."""
    made = socket.socket(family, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        with contextlib.suppress(OSError):  # bursts of notifications
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        if endpoint.interface:
            bind_interface(made, endpoint.interface)
        made.connect(address)
    except BaseException:
        made.close()
        raise
    return made


def bind_interface(made: socket.socket, interface: str) -> None:
    """Use one network interface only. Raises ConfigError."""
    if not hasattr(socket, "SO_BINDTODEVICE"):
        raise ConfigError(f"can't use the interface {interface} alone: that needs Linux")
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
    except OSError as error:
        raise ConfigError(f"can't use the interface {interface}: {error.strerror or error}") from error


async def resolve(endpoint: CoapEndpoint) -> tuple[int, tuple[object, ...]]:
    """Family and address of a device. Raises LinkError."""
    host, port = endpoint.address
    if endpoint.interface and "%" not in host and host.lower().startswith(("fe80:", "ff")):
        host = f"{host}%{endpoint.interface}"
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise LinkError(f"{endpoint.link()}: the name {host} can't be resolved: {error.strerror}") from error
    family, _, _, _, address = found[0]
    return family, address


@contextlib.asynccontextmanager
async def open_udp(endpoint: CoapEndpoint) -> AsyncIterator[UdpChannel]:
    """A channel to a device that is there. Raises LinkError, ConfigError."""
    family, address = await resolve(endpoint)
    try:
        channel = UdpChannel(endpoint, connect(endpoint, address, family))
    except OSError as error:
        why = error.strerror or error
        raise LinkError(f"{endpoint.link()} can't be reached: {why}") from error
    try:
        await channel.probe()
        yield channel
    finally:
        channel.close()
