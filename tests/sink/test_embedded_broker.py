"""The broker of our own: both kinds, its end, its restart, and its death with us."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from devicemesh.sink import broker as module
from devicemesh.sink.broker import BrokerError, embedded_broker
from devicemesh.testing.broker import RealBroker, free_port

pytestmark = pytest.mark.skipif(not RealBroker.available(), reason="no MQTT broker is installed")


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(") ", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def sockets() -> list[list[str]]:
    tables = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    return [line.split() for line in tables.splitlines()]


def descendants(pid: int) -> list[int]:
    return [each for child in children(pid) for each in (child, *descendants(child))]


@pytest.fixture(params=RealBroker.available())
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "iotcore":
        monkeypatch.setattr(module, "find_mosquitto", lambda: None)
    return str(request.param)


def test_a_start_that_is_called_off_at_any_moment_ends_and_leaves_nobody(kind: str, tmp_path: Path) -> None:
    async def held(folder: Path) -> None:
        async with embedded_broker(folder, free_port()):
            await asyncio.sleep(60)

    async def main() -> None:
        others = set(descendants(os.getpid()))
        for turns in (1, 2, 3, 4, 6, 8, 12):
            starting = asyncio.create_task(held(tmp_path / f"{turns}"))
            for _ in range(turns):
                await asyncio.sleep(0)
            starting.cancel()
            await asyncio.wait({starting}, timeout=20)
            assert starting.cancelled(), turns
        assert set(descendants(os.getpid())) <= others

    asyncio.run(main())


def test_messages_pass_and_it_ends_with_the_block(kind: str, rig: Any, tmp_path: Path) -> None:
    async def scenario() -> int:
        async with embedded_broker(tmp_path / "broker", free_port()) as url:
            async with rig.sink(url) as sink:
                await rig.up()
                rig.put(10, size=100_000)
                assert await sink.drain(10)
            return int(url.rsplit(":", 1)[1])

    port = asyncio.run(scenario())
    assert not answers(port)
    assert (tmp_path / "broker").stat().st_mode & 0o777 == 0o700


def test_it_listens_on_loopback_only(kind: str, tmp_path: Path) -> None:
    async def scenario() -> list[str]:
        async with embedded_broker(tmp_path, free_port()) as url:
            port = f"{int(url.rsplit(':', 1)[1]):04X}"
            return [row[1] for row in sockets() if row[1].endswith(":" + port) and row[3] == "0A"]

    assert [each.rsplit(":", 1)[0] for each in asyncio.run(scenario())] == ["0100007F"]


def test_it_is_started_again_when_it_ends(kind: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        port = free_port()
        async with embedded_broker(tmp_path, port):
            before = descendants(os.getpid())
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            deadline = time.monotonic() + 10
            while set(descendants(os.getpid())) & set(before) or not answers(port):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)

    asyncio.run(scenario())


def test_it_dies_with_us(tmp_path: Path) -> None:
    port = free_port()
    code = (
        "import asyncio, sys, pathlib\n"
        "from devicemesh.sink.broker import embedded_broker\n"
        "async def main():\n"
        f"    async with embedded_broker(pathlib.Path({str(tmp_path)!r}), {port}):\n"
        "        print('up', flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        assert answers(port)
        parent.kill()
    deadline = time.monotonic() + 5
    while answers(port):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_without_any_broker_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_mosquitto", lambda: None)
    monkeypatch.setattr(module, "find_spec", lambda name: None)

    async def scenario() -> None:
        async with embedded_broker(tmp_path):
            pass

    with pytest.raises(BrokerError, match="apt install mosquitto"):
        asyncio.run(scenario())


def test_a_broker_that_does_not_start_is_an_error(tmp_path: Path) -> None:
    async def scenario(port: int) -> None:
        async with embedded_broker(tmp_path, port):
            pass

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listening: nobody can be mistaken for the broker
        with pytest.raises(BrokerError, match=r"see .*broker\.log"):
            asyncio.run(scenario(taken.getsockname()[1]))
