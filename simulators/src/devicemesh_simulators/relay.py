"""A TCP relay whose line can be slow, cut or unplugged: faults below a server that is not ours."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Self

BLOCK = 65536


class Relay:
    """Forwards what reaches one listening socket to a server, as an async context manager."""

    def __init__(self, host: str, port: int) -> None:
        """Listen there; 0: on a free port."""
        self.delay_s = 0.0  # of everything that the server says
        self.unplugged = False  # nothing gets through, and nobody is told
        self.target: tuple[str, int] | None = None  # None: the server is not there, callers are sent away
        self.host = host
        self.port = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # an aborted connection is closed in the next round of the loop

    def cut(self) -> None:
        """Break every connection."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.target is None:
                raise ConnectionRefusedError
            far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        self._start(reader, far_writer, lambda: 0.0)
        self._start(far_reader, writer, lambda: self.delay_s)

    def _start(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: Callable[[], float]
    ) -> None:
        task = asyncio.create_task(self._pump(reader, writer, delay_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: Callable[[], float]
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(BLOCK):
                if late_s := delay_s():
                    await asyncio.sleep(late_s)
                if self.unplugged:
                    continue
                writer.write(data)
                await writer.drain()
        self._writers.discard(writer)
        writer.transport.abort() if self.unplugged else writer.close()
