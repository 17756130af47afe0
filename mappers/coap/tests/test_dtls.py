"""coaps against libcoap's example server on OpenSSL: an implementation by others, with a pre-shared key."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from devicemesh_coap.model import CoapEndpoint
from devicemesh_coap.session import open_session

from devicemesh.mapper import LinkError, MapperError, Write
from devicemesh.testing.contract import poll

SERVER = shutil.which("coap-server-openssl")
KEY = "secret123"
pytestmark = [
    pytest.mark.skipif(SERVER is None, reason="coap-server-openssl is missing: apt install libcoap3-bin"),
    pytest.mark.skipif(
        importlib.util.find_spec("DTLSSocket") is None,
        reason="DTLS is missing: apt install autoconf automake, pip install 'devicemesh-coap[dtls]'",
    ),
]


def _free_pair() -> int:
    """A port whose next one is free, too: there the server speaks DTLS."""
    while True:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
            contextlib.suppress(OSError, OverflowError),
        ):
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.bind(("127.0.0.1", port + 1))
                return port


@pytest.fixture
def endpoint() -> Iterator[CoapEndpoint]:
    """Of a server of this test alone."""
    port = _free_pair()
    command = [SERVER or "", "-A", "127.0.0.1", "-p", str(port), "-k", KEY, "-d", "10"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    dtls = {"identity": "CoAP", "key": {"name": "plc", "key": "key"}}
    yield CoapEndpoint.model_validate({"uri": f"coaps://127.0.0.1:{port + 1}", "dtls": dtls, "timeout": "3s"})
    process.kill()
    process.wait()


def hexadecimal(key: str) -> Callable[[Any], str]:
    """The secrets of a home that holds this key."""
    return lambda _: key.encode().hex()


async def seen(endpoint: CoapEndpoint, point: Any, key: str) -> Any:
    """The point's row, read over a session of its own."""
    async with open_session(endpoint, hexadecimal(key)) as session:
        return (await poll(session, [point]))[point.slot]


async def up(endpoint: CoapEndpoint, point: Any) -> Any:
    """The same, as soon as the server is there."""
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(LinkError):
                row = await seen(endpoint, point, KEY)
                if row.error is None:
                    return row
            await asyncio.sleep(0.05)


def test_reads_and_writes_under_dtls(endpoint: CoapEndpoint, point: Any, run: Callable[[Any], None]) -> None:
    time, data = point(0, endpoint, "string", "/time"), point(1, endpoint, "string", "/example_data")

    async def work() -> None:
        assert ":" in (await up(endpoint, time)).value
        async with open_session(endpoint, hexadecimal(KEY)) as session:
            (outcome,) = await session.write([Write(data, "new")])
            assert (outcome.value, outcome.error) == ("new", None)

    run(work())


def test_a_wrong_key_is_refused_in_words(
    endpoint: CoapEndpoint, point: Any, run: Callable[[Any], None]
) -> None:
    time = point(0, endpoint, "string", "/time")

    async def work() -> None:
        await up(endpoint, time)
        with pytest.raises(MapperError) as caught:
            row = await seen(endpoint, time, "another")
            assert row.error is not None
            raise row.error
        assert str(endpoint.link()) in str(caught.value)
        assert (await seen(endpoint, time, KEY)).error is None

    run(work())
