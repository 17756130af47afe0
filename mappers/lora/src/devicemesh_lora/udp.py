"""The socket that gateways send to."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

from devicemesh.mapper import LinkError
from devicemesh_lora.endpoint import bracketed

RECEIVE_BUFFER = 4 << 20
"""Bytes: a burst of uplinks waits in it. With the system's default some are lost (Linux: see rmem_max)."""
Source = tuple[Any, ...]


class Socket(asyncio.DatagramProtocol):
    """Gives each datagram to `receive`."""

    def __init__(self, receive: Callable[[bytes, Source], None]) -> None:
        self._receive = receive
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        with contextlib.suppress(OSError):
            sock: socket.socket = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)

    def datagram_received(self, data: bytes, addr: Source) -> None:
        self._receive(data, addr)

    def error_received(self, exc: Exception) -> None:
        """A gateway that is not there any more: nothing to do about it."""

    def send(self, data: bytes, to: Source) -> None:
        if self._transport is not None:
            self._transport.sendto(data, to)


@contextlib.asynccontextmanager
async def listening(
    address: tuple[str, int], receive: Callable[[bytes, Source], None]
) -> AsyncIterator[Socket]:
    """Listen. Raises `LinkError` where the address can't be had."""
    host, port = address
    loop = asyncio.get_running_loop()
    try:
        transport, protocol = await loop.create_datagram_endpoint(
            lambda: Socket(receive), local_addr=(host, port)
        )
    except OSError as error:
        why = error.strerror or str(error)
        raise LinkError(f"can't open listen {bracketed(host)}:{port}: {why}") from error
    try:
        yield protocol
    finally:
        transport.close()
        await asyncio.sleep(0)
