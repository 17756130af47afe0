"""Where a system has not what Linux has, as a Mac."""

from __future__ import annotations

import asyncio
import fcntl
import importlib
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from devicemesh import system
from devicemesh.settings import OutboxSettings
from devicemesh.sink.clock import SystemClock
from devicemesh.testing.broker import RealBroker


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A system that lacks it all; what its full flush was asked for."""
    flushed: list[int] = []
    monkeypatch.delattr(time, "CLOCK_BOOTTIME")
    for name in ("fdatasync", "posix_fadvise"):
        monkeypatch.delattr(os, name)
    monkeypatch.delattr(socket, "TCP_USER_TIMEOUT")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    whole = fcntl.fcntl

    def full(descriptor: int, command: int, *more: Any) -> Any:
        if command != 51:
            return whole(descriptor, command, *more)
        flushed.append(descriptor)
        return os.fsync(descriptor)

    monkeypatch.setattr(fcntl, "fcntl", full)
    importlib.reload(system)
    yield flushed
    monkeypatch.undo()
    importlib.reload(system)


@pytest.mark.skipif(not RealBroker.available(), reason="no MQTT broker is installed")
def test_the_outbox_reaches_the_disk_and_the_broker(rig: Any, elsewhere: list[int]) -> None:
    async def scenario() -> None:
        async with rig.sink("mqtt://127.0.0.1:1", outbox=strict):
            rig.put(10)
        assert elsewhere
        async with rig.sink(broker.url) as sink:
            assert await sink.drain(20)
            assert sink.stats().recovered_published == 10

    strict = OutboxSettings(sync="strict")
    with RealBroker() as broker:
        asyncio.run(scenario())


def test_clocks_go_on(elsewhere: list[int]) -> None:
    before = system.boottime()
    assert 0 <= system.boottime() - before < 60
    assert SystemClock().boottime() > 0
