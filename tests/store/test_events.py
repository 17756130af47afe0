"""Events for transitions: which are told, how often, and that they are in nobody's way. In virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from devicemesh.store.base import Key, StoreUnavailableError
from devicemesh.testing.clock import run_virtual

pytest.importorskip("kubernetes.aio", reason="no Kubernetes client. Try: pip install devicemesh[kubernetes]")

KEY = Key("Device", "default", "pump-1")


def status(kind: str = "Connected", value: str = "True", reason: str = "Answering", why: str = "") -> Any:
    found = {"type": kind, "status": value, "reason": reason, "message": why}
    return {"conditions": [found], "shard": "a"}


SILENT = status(value="False", reason="NoAnswer", why="no answer from 10.0.0.5:502")


class Server:
    def __init__(self) -> None:
        self.asked: list[tuple[float, str, str, Any]] = []
        self.error: Exception | None = None

    async def ask(self, verb: str, path: str, body: Any) -> None:
        await asyncio.sleep(0.01)
        if self.error:
            raise self.error
        self.asked.append((asyncio.get_running_loop().time(), verb, path, body))


def play(scene: Callable[[Server, Any], Awaitable[None]]) -> None:
    from devicemesh.store.events import EventWriter

    async def main() -> None:
        server = Server()
        writer = EventWriter(server.ask, asyncio.get_running_loop().time)
        task = asyncio.create_task(writer.run())
        try:
            await scene(server, writer)
        finally:
            task.cancel()
            await asyncio.wait({task})

    run_virtual(main())


def test_a_transition_is_told_with_the_device_that_it_is_about() -> None:
    async def scene(server: Server, writer: Any) -> None:
        writer.put(KEY, "uid-1", status(value="False", reason="Connecting"))
        writer.put(KEY, "uid-1", status())
        await asyncio.sleep(5)
        assert server.asked == [], "well from the start is no news"
        writer.put(KEY, "uid-1", SILENT)
        writer.put(KEY, "uid-1", SILENT)
        writer.put(KEY, "uid-1", status())
        await asyncio.sleep(5)
        first, second = (body for *_, body in server.asked)
        assert (first["type"], first["reason"], first["action"]) == ("Warning", "NoAnswer", "Connected")
        assert first["note"] == "Connected is False: no answer from 10.0.0.5:502"
        assert first["regarding"]["uid"] == "uid-1" and first["reportingInstance"] == "a"
        assert (second["type"], second["reason"]) == ("Normal", "Answering")

    play(scene)


def test_what_goes_on_and_off_is_counted_in_a_series() -> None:
    async def scene(server: Server, writer: Any) -> None:
        for _ in range(20):
            writer.put(KEY, "u", SILENT)
            await asyncio.sleep(5)
            writer.put(KEY, "u", status())
            await asyncio.sleep(5)
        await asyncio.sleep(1000)
        assert [verb for _, verb, *_ in server.asked].count("POST") == 2
        counts = [body["series"]["count"] for _, verb, _, body in server.asked if verb == "PATCH"]
        assert max(counts) == 20
        assert len(counts) <= 2 * (200 / 60 + 2)
        writer.put(KEY, "u", SILENT)
        await asyncio.sleep(5)
        assert server.asked[-1][1] == "POST", "the series is over"

    play(scene)


def test_thousands_at_once_are_no_flood_and_nobody_waits() -> None:
    async def scene(server: Server, writer: Any) -> None:
        for number in range(5000):
            writer.put(Key("Device", "default", f"pump-{number}"), "u", SILENT)
        await asyncio.sleep(60)
        assert len(server.asked) <= 25 + 62
        assert writer.dropped > 4000

    play(scene)


def test_a_server_that_is_away_costs_events_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "devicemesh.store")

    async def scene(server: Server, writer: Any) -> None:
        server.error = StoreUnavailableError("away")
        for number in range(20):
            writer.put(Key("Device", "default", f"pump-{number}"), "u", SILENT)
        await asyncio.sleep(60)
        assert writer.dropped == 20
        server.error = None
        writer.put(Key("Device", "default", "other"), "u", SILENT)
        await asyncio.sleep(60)
        assert len(server.asked) == 1

    play(scene)
    assert caplog.text.count("an Event is not written") == 1
