"""CoAP over UDP, as a server: requests in, answers out (RFC 7252, 4.5 and 5.2), blocks put together.

Every table is bounded: a stranger can cost time, but no memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import Any

from devicemesh.mapper import LinkError
from devicemesh_coap.message import (
    ACK,
    BAD_OPTION,
    CON,
    CONTINUE,
    INCOMPLETE,
    NON,
    TOO_LARGE,
    Block,
    Message,
    MessageError,
    Option,
    decode,
    encode,
    ordered,
    uint,
)
from devicemesh_coap.model import CoapEndpoint
from devicemesh_coap.udp import BURST, MAX_DATAGRAM

LIFETIME_S = 247.0
"""For how long a message id is not used again (EXCHANGE_LIFETIME, RFC 7252, 4.8.2)."""
MOST_REMEMBERED = 16384
MOST_TRANSFERS = 64
Handler = Callable[[Message, str], Message]
"""Answers a request with a whole body; the text is the sender's host."""


class UdpServer:
    """Takes requests on one socket."""

    def __init__(self, bound: socket.socket, handler: Handler, most: int) -> None:
        """`most`: bytes of a body."""
        self.malformed = 0  # datagrams that were no request
        self._socket = bound
        self._handler = handler
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._mid = random.getrandbits(16)
        self._replies: OrderedDict[tuple[Any, int], tuple[float, bytes]] = OrderedDict()
        self._transfers: OrderedDict[Any, bytearray] = OrderedDict()
        self._loop.add_reader(bound, self._readable)

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _readable(self) -> None:
        for _ in range(BURST):
            try:
                data, source = self._socket.recvfrom(MAX_DATAGRAM)
            except OSError:  # nothing left, or a sender who does not listen to our answer
                return
            self._received(data, source)

    def _received(self, data: bytes, source: Any) -> None:
        try:
            message = decode(data)
        except MessageError:
            self.malformed += 1
            if len(data) >= 4 and data[0] >> 4 == 4:
                self._send(bytes((0x70, 0, data[2], data[3])), source)
            return
        if message.type >= ACK:
            return
        if not 0 < message.code < 32:  # a ping, or a response that nobody waits for
            if message.type == CON:
                self._send(bytes((0x70, 0, message.mid >> 8, message.mid & 0xFF)), source)
            return
        key, now = (source, message.mid), self._loop.time()
        before = self._replies.get(key)
        if before is not None and now - before[0] < LIFETIME_S:
            if message.type == CON:
                self._send(before[1], source)  # a repeated request is answered, and not done, again
            return
        reply = self._answer(message, source)
        kind = ACK if message.type == CON else NON
        mid = message.mid if message.type == CON else self._next_mid()
        sent = encode(Message(reply.code, reply.options, reply.payload, message.token, mid, kind))
        self._replies[key] = (now, sent)
        if len(self._replies) > MOST_REMEMBERED:
            self._replies.popitem(last=False)
        self._send(sent, source)

    def _answer(self, message: Message, source: Any) -> Message:
        if message.flaw:
            return Message(BAD_OPTION, (), message.flaw.encode())
        block = message.block(Option.BLOCK1)
        if block is None:
            if len(message.payload) > self._most:
                return self._too_large()
            return self._handler(message, source[0])
        whole = self._assembled(message, block, source)
        if whole.code >= 64:  # an answer to a part
            return whole
        reply = self._handler(whole, source[0])
        echo = Block(block.number, False, block.exponent)
        return Message(reply.code, reply.having((Option.BLOCK1, echo.encoded())), reply.payload)

    def _assembled(self, message: Message, block: Block, source: Any) -> Message:
        """The request with its whole body; or the answer to this part of it (RFC 7959, 2.5)."""
        key = (source, message.code, message.without(Option.BLOCK1, Option.SIZE1))
        body = self._transfers.pop(key, bytearray())
        if block.number == 0:
            body = bytearray()
        at = block.number * block.size
        if block.exponent == 7 or at != len(body) or (block.more and len(message.payload) != block.size):
            return Message(INCOMPLETE, (), b"a block is missing, or of another size")
        if max(at + len(message.payload), message.integer(Option.SIZE1) or 0) > self._most:
            return self._too_large()
        body += message.payload
        if not block.more:
            return Message(message.code, message.without(Option.BLOCK1, Option.SIZE1), bytes(body))
        self._transfers[key] = body
        if len(self._transfers) > MOST_TRANSFERS:
            self._transfers.popitem(last=False)
        return Message(CONTINUE, ordered([(Option.BLOCK1, block.encoded())]))

    def _too_large(self) -> Message:
        return Message(TOO_LARGE, ordered([(Option.SIZE1, uint(self._most))]))

    def _next_mid(self) -> int:
        self._mid = self._mid + 1 & 0xFFFF
        return self._mid

    def _send(self, data: bytes, source: Any) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendto(data, source)


@contextlib.asynccontextmanager
async def listening(endpoint: CoapEndpoint, handler: Handler) -> AsyncIterator[UdpServer]:
    """A server on the endpoint's `listen`. Raises LinkError."""
    host, port = endpoint.address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_DGRAM)
    try:
        bound.setblocking(False)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise LinkError(f"can't {endpoint.link()}: {error.strerror or error}", reason="CantListen") from error
    server = UdpServer(bound, handler, endpoint.max_payload)
    try:
        yield server
    finally:
        server.close()
