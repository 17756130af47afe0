"""A TCP proxy that misbehaves on demand: what networks do to a connection."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Self

from devicemesh.testing.server import StreamServer, reset


class Proxy:
    """Forwards to a server, as an async context manager; takes TLS off where it is given some."""

    def __init__(
        self,
        target_port: int | None = None,
        tls: ssl.SSLContext | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """Listen on `host`:`port` (0: a free one) for a server on a port of 127.0.0.1.

        Without `target_port` callers are sent away until `target` is set.
        """
        self.connections = 0  # accepted so far
        self.delay_s = 0.0  # of everything that the server says
        self.target: tuple[str, int] | None = None if target_port is None else ("127.0.0.1", target_port)
        self._passable = asyncio.Event()
        self._passable.set()
        self._server = StreamServer(self._forward, port, host=host, tls=tls)
        self._far: set[asyncio.StreamWriter] = set()

    @property
    def host(self) -> str:
        return self._server.host

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self._server.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._server.__aexit__(*exc)

    def cut(self) -> None:
        """Reset every connection."""
        self._server.cut()
        for writer in self._far:
            reset(writer)

    @property
    def hole(self) -> bool:
        """Half-open: nothing passes any more, in either direction, and nobody is told."""
        return not self._passable.is_set()

    @hole.setter
    def hole(self, hole: bool) -> None:
        if hole:
            self._passable.clear()
        else:
            self._passable.set()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if self.target is None:
                raise ConnectionRefusedError
            far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:
            reset(writer)
            return
        self._far.add(far_writer)
        pumps = [
            asyncio.create_task(self._pump(reader, far_writer, lambda: 0.0)),
            asyncio.create_task(self._pump(far_reader, writer, lambda: self.delay_s)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._far.discard(far_writer)
            far_writer.close()  # before anything is waited for, as that may be cancelled
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, delay_s: Callable[[], float]
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if late_s := delay_s():
                    await asyncio.sleep(late_s)
                await self._passable.wait()
                sink.write(data)
                await sink.drain()
