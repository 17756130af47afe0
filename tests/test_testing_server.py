"""The server under the stand-ins for peers: nobody is left to the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings

import pytest

from devicemesh.testing.proxy import Proxy
from devicemesh.testing.server import StreamServer


@pytest.mark.parametrize("rounds", range(6))
def test_a_caller_who_had_only_just_knocked_is_sent_away(rounds: int) -> None:
    """However far the connection had come when the server went."""

    async def main() -> None:
        async with StreamServer(lambda reader, _: reader.read()) as server:
            for _ in range(3):
                callers.append(socket.create_connection(("127.0.0.1", server.port)))
            for _ in range(rounds):
                await asyncio.sleep(0)

    callers: list[socket.socket] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(main())
        gc.collect()  # what is left behind warns here, and the suite makes a failure of it
    for caller in callers:
        caller.close()


@pytest.mark.parametrize("rounds", range(8))
def test_a_proxy_that_ends_while_it_is_connecting(rounds: int) -> None:
    async def main() -> None:
        async with StreamServer(lambda reader, _: reader.read()) as far, Proxy(far.port) as proxy:
            caller = socket.create_connection(("127.0.0.1", proxy.port))
            for _ in range(rounds):
                await asyncio.sleep(0)
            caller.close()

    asyncio.run(main())
    gc.collect()


@pytest.mark.parametrize("rounds", range(14))
def test_a_proxy_that_ends_while_the_far_side_hangs_up(rounds: int) -> None:
    """However far it had come with it."""

    async def main() -> None:
        over = asyncio.Event()
        async with StreamServer(lambda *_: over.wait()) as far, Proxy(far.port) as proxy:
            caller = socket.create_connection(("127.0.0.1", proxy.port))
            while not proxy._far:  # noqa: ASYNC110
                await asyncio.sleep(0)
            over.set()
            for _ in range(rounds):
                await asyncio.sleep(0)
        caller.close()

    asyncio.run(main())
    gc.collect()
