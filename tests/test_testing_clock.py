"""Virtual time: timers fire at once and in order, and what comes over a socket comes before them."""

import asyncio
import socket
import threading
import time

from devicemesh.testing.clock import SOCKETS_S, run_virtual
from devicemesh.testing.server import StreamServer


def test_an_hour_with_a_peer_in_the_same_loop_is_over_at_once() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while word := await reader.readline():
            await asyncio.sleep(1800)
            writer.write(word)

    async def main() -> float:
        async with StreamServer(slow) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            for word in (b"one\n", b"two\n"):
                writer.write(word)
                async with asyncio.timeout(1801):
                    assert await reader.readline() == word
            writer.close()
            return asyncio.get_running_loop().time()

    began = time.monotonic()
    assert 3600 <= run_virtual(main(), patience_s=SOCKETS_S) < 3602
    assert time.monotonic() - began < 60


def test_with_patience_a_socket_is_heard_before_the_clock_jumps() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    async def main() -> bytes:
        sender = threading.Timer(0.05, theirs.send, [b"late"])
        sender.start()
        async with asyncio.timeout(1):
            heard = await asyncio.get_running_loop().sock_recv(ours, 4)
        sender.join()
        return heard

    with ours, theirs:
        assert run_virtual(main(), patience_s=30) == b"late"
