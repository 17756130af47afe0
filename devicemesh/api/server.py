"""The HTTP server's door: it listens at once, and is built when somebody knocks.

A gateway that nobody scrapes pays nothing for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from devicemesh.api.loopback import loopback
from devicemesh.runtime.runtime import Runtime
from devicemesh.settings import ApiSettings


class ExposedError(Exception):
    """The server would be reachable from other machines without a token."""


@contextlib.asynccontextmanager
async def serve(runtime: Runtime, settings: ApiSettings, token: str | None) -> AsyncIterator[str]:
    """Serve until left; yields the URL. Raises OSError (port taken) and ExposedError."""
    if not token and not loopback(settings.host):
        raise ExposedError(
            f"the HTTP server on {settings.host} needs `api.token`: it would be open to the network"
        )
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
        except OSError as error:
            why = f"the HTTP server can't listen on {settings.host} port {settings.port}: {error.strerror}"
            raise OSError(error.errno, why) from error
        listener.listen(64)
        listener.setblocking(False)
        closing = asyncio.Event()
        task = asyncio.create_task(_serve(runtime, listener, token, closing), name="http")
        host = f"[{settings.host}]" if family == socket.AF_INET6 else settings.host
        try:
            yield f"http://{host}:{listener.getsockname()[1]}"
        finally:
            closing.set()
            await task


async def _serve(
    runtime: Runtime, listener: socket.socket, token: str | None, closing: asyncio.Event
) -> None:
    if not await _knock(listener, closing):
        return
    from devicemesh.api.application import server

    serving = server(runtime, token)
    running = asyncio.create_task(serving.serve([listener]), name="uvicorn")
    await closing.wait()
    serving.should_exit = True
    await running


async def _knock(listener: socket.socket, closing: asyncio.Event) -> bool:
    """Wait for the first connection, which is left waiting; False when we are closing first."""
    loop = asyncio.get_running_loop()
    knocked = asyncio.Event()
    loop.add_reader(listener, knocked.set)
    waits = {asyncio.create_task(knocked.wait()), asyncio.create_task(closing.wait())}
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return knocked.is_set()
    finally:
        loop.remove_reader(listener)
        for wait in waits:
            wait.cancel()
