"""A TCP server that leaves nobody behind: what the stand-ins for peers are built on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import Self

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]]


class StreamServer:
    """Runs `talk` for each caller, as an async context manager; at its end every caller is gone.

    Also one that had only just knocked: `asyncio.Server` drops a socket that it has accepted and not yet
    announced, and the garbage collector reports it in whatever test comes next. So this one accepts by
    itself.
    """

    def __init__(
        self, talk: Talk, port: int = 0, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        """Port 0: a free one, to be read from `port` once entered."""
        self.host, self.port = host, port
        self._talk, self._tls = talk, tls
        self._callers: dict[asyncio.Task[None], socket.socket] = {}
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._listening = socket.create_server((self.host, self.port), family=family)
        self._listening.setblocking(False)
        self.port = self._listening.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._listening, self._accept)
        return self

    async def __aexit__(self, *exc: object) -> None:
        asyncio.get_running_loop().remove_reader(self._listening)
        self._listening.close()
        callers = dict(self._callers)
        for task in callers:
            task.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        self.cut()
        await asyncio.sleep(0)  # an aborted connection is closed in the next round of the loop
        for caller in callers.values():
            caller.close()  # of a task that was cancelled before it began

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            reset(writer)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # who has left again before we looked
            caller, _ = self._listening.accept()
            caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as asyncio does for its own
            task = asyncio.get_running_loop().create_task(self._serve(caller))
            self._callers[task] = caller
            task.add_done_callback(self._callers.pop)

    async def _serve(self, caller: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, caller, ssl=self._tls)
        except OSError:  # a failed handshake
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self._talk(reader, writer)
        self._writers.discard(writer)
        writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection at once, with a reset where the socket is TCP."""
    with contextlib.suppress(OSError, AttributeError):  # closed, or its TLS is gone already
        handle = writer.get_extra_info("socket")
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
