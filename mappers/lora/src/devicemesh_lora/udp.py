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
MOST_AT_ONCE = 256
"""Datagrams that are taken before others have their turn."""
MOST_BYTES = 65_535
Source = tuple[Any, ...]


class Socket:
    """Gives each datagram to `receive`.

    asyncio's own transport takes one datagram in a turn of the loop; while uplinks are worked off, a hundred
    a turn, the buffer would overflow. Here a turn takes all that has come.
    """

    def __init__(self, sock: socket.socket, receive: Callable[[bytes, Source], None]) -> None:
        self._socket = sock
        self._receive = receive

    def readable(self) -> None:
        for _ in range(MOST_AT_ONCE):
            try:
                data, source = self._socket.recvfrom(MOST_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # a gateway that is not there any more: nothing to do about it
                continue
            self._receive(data, source)

    def send(self, data: bytes, to: Source) -> None:
        """Send, or lose it as any datagram may be lost."""
        with contextlib.suppress(OSError):
            self._socket.sendto(data, to)


def _opened(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST | socket.AI_PASSIVE
    )[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setblocking(False)
        with contextlib.suppress(OSError):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        made.bind(address)
    except BaseException:
        made.close()
        raise
    return made


@contextlib.asynccontextmanager
async def listening(
    address: tuple[str, int], receive: Callable[[bytes, Source], None]
) -> AsyncIterator[Socket]:
    """Listen. Raises `LinkError` where the address can't be had."""
    host, port = address
    loop = asyncio.get_running_loop()
    try:
        sock = _opened(host, port)
    except OSError as error:
        why = error.strerror or str(error)
        raise LinkError(f"can't open listen {bracketed(host)}:{port}: {why}") from error
    made = Socket(sock, receive)
    loop.add_reader(sock, made.readable)
    try:
        yield made
    finally:
        loop.remove_reader(sock)
        sock.close()
