"""Against libcoap's example server: an implementation by others, with separate answers, blocks and Observe."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from devicemesh_coap.discover import discover
from devicemesh_coap.model import CoapEndpoint
from devicemesh_coap.session import open_session

from devicemesh.mapper import LinkError, Write
from devicemesh.testing.contract import poll

SERVER = shutil.which("coap-server-notls")
pytestmark = pytest.mark.skipif(
    SERVER is None, reason="coap-server-notls is missing: apt install libcoap3-bin"
)


@pytest.fixture
def port() -> Iterator[int]:
    """Where a server of this test alone listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        free: int = probe.getsockname()[1]
    command = [SERVER or "", "-A", "127.0.0.1", "-p", str(free), "-d", "10"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield free
    finally:
        process.kill()
        process.wait()


async def opened(stack: contextlib.AsyncExitStack, endpoint: CoapEndpoint) -> Any:
    """A session, once the server is up."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await stack.enter_async_context(open_session(endpoint))
            except LinkError:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("scheme", ["coap", "coap+tcp"])
def test_reads_observes_and_writes(scheme: str, port: int, point: Any, run: Callable[[Any], None]) -> None:
    endpoint = CoapEndpoint(uri=f"{scheme}://127.0.0.1:{port}", timeout="8s")
    time, big = point(0, endpoint, "string", "/time"), point(1, endpoint, "string", "/example_data")
    slow, gone = point(2, endpoint, "string", "/async?1"), point(3, endpoint, "string", "/gone")
    ticks = point(5, endpoint, "float64", {"path": "/time?ticks"})

    async def work() -> None:
        async with contextlib.AsyncExitStack() as stack:
            session = await opened(stack, endpoint)
            seen = await poll(session, [time, big, slow, gone, ticks])
            assert ":" in seen[0].value and len(seen[1].value) > 1024 and seen[2].value == "done"
            assert "4.04" in str(seen[3].error)
            assert seen[5].value >= 0
            told = set[str]()
            async with contextlib.aclosing(session.subscribe([time])) as batches:
                while len(told) < 2:  # it tells the time each second, and at first whenever it is asked
                    told.add((await anext(batches)).value[0])
            (outcome,) = await session.write([Write(big, "x" * 3000)])
            assert (outcome.value, outcome.error) == ("x" * 3000, None)
            made = point(4, endpoint, "string", "/made-here")
            (outcome,) = await session.write([Write(made, "new")])
            assert (outcome.value, outcome.error) == ("new", None), "a dynamic resource, created"

    run(work())


def test_it_is_discovered(port: int, run: Callable[[Any], None]) -> None:
    async def work() -> None:
        async with contextlib.AsyncExitStack() as stack:
            await opened(stack, CoapEndpoint(uri=f"coap://127.0.0.1:{port}"))
        (found,) = [one async for one in discover(f"coap://127.0.0.1:{port}?timeout=1s")]
        assert {"/", "/time", "/async", "/example_data"} <= {address for address, _ in found.points}
        assert "path: /time" in found.manifest or '"/time"' in found.manifest

    run(work())
