"""How a status reaches an API server: bounded, newest first in line, nothing forgotten. In virtual time."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from devicemesh.store.base import ConflictError, Key, NotFoundError, RefusedError, StoreUnavailableError
from devicemesh.store.pace import BURST, FIRST_S, SETTLE_S, VALUES_S, Bucket, Turn
from devicemesh.store.status import SlowDownError, StatusWriter
from devicemesh.testing.clock import run_virtual

KEY = Key("Device", "default", "pump-1")


def status(value: float = 0.0, ready: str = "True") -> dict[str, Any]:
    return {
        "conditions": [{"type": "Ready", "status": ready}],
        "properties": [{"name": "speed", "value": value}],
    }


class Server:
    """Remembers (seconds, device, part); `errors` are raised first."""

    def __init__(self) -> None:
        self.values: list[tuple[float, str, Any]] = []
        self.health: list[tuple[float, str, Any]] = []
        self.errors: list[Exception] = []
        self.slow_s = 0.01

    def taking(self, into: list[tuple[float, str, Any]]) -> Callable[[Key, bytes], Awaitable[None]]:
        async def send(key: Key, part: bytes) -> None:
            await asyncio.sleep(self.slow_s)
            if self.errors:
                raise self.errors.pop(0)
            into.append((round(asyncio.get_running_loop().time(), 1), key.name, json.loads(part)))

        return send


def play(scene: Callable[[Server, StatusWriter], Awaitable[None]]) -> None:
    async def main() -> None:
        server = Server()
        writer = StatusWriter(
            server.taking(server.values), server.taking(server.health), asyncio.get_running_loop().time
        )
        task = asyncio.create_task(writer.run())
        try:
            await scene(server, writer)
        finally:
            task.cancel()
            await asyncio.wait({task})

    run_virtual(main())


def test_a_hundredfold_of_samples_costs_no_request_more() -> None:
    counts = []
    for step_s in (1.0, 0.01):

        async def scene(server: Server, writer: StatusWriter, step_s: float = step_s) -> None:
            for number in range(round(100 / step_s)):
                writer.put({KEY: status(number)})
                await asyncio.sleep(step_s)
            await asyncio.sleep(VALUES_S + 1)
            counts.append((len(server.values), len(server.health)))
            last = server.values[-1][2]["properties"][0]["value"]
            assert last == round(100 / step_s) - 1, "the last value wins"
            times = [at for at, *_ in server.values]
            assert all(b - a >= VALUES_S - 0.1 for a, b in itertools.pairwise(times))

        play(scene)
    assert counts == [(5, 1), (5, 1)]


def test_health_goes_out_at_once_within_a_burst() -> None:
    async def scene(server: Server, writer: StatusWriter) -> None:
        for number in range(10):
            writer.put({KEY: status(ready="True" if number % 2 else "False")})
            await asyncio.sleep(1)
        assert [at for at, *_ in server.health] == pytest.approx([0.25, 1.25, 2.25], abs=0.1)
        await asyncio.sleep(60)
        assert len(server.health) == BURST + 1, "the newest, once; not what was in between"
        assert server.health[-1][2]["conditions"][0]["status"] == "True"

    play(scene)


def test_the_first_values_are_those_that_were_read() -> None:
    """What is written before the first answer would stand on the server for half a minute."""

    async def scene(server: Server, writer: StatusWriter) -> None:
        writer.put({KEY: status(-1.0)})
        await asyncio.sleep(1)
        writer.put({KEY: status(1450.0)})
        await asyncio.sleep(VALUES_S - 1)
        assert [part["properties"][0]["value"] for *_, part in server.values] == [1450.0]
        assert server.values[0][0] == pytest.approx(FIRST_S, abs=0.2)

    play(scene)


def test_changes_that_come_together_are_one() -> None:
    async def scene(server: Server, writer: StatusWriter) -> None:
        for ready in ("False", "Unknown", "True"):
            writer.put({KEY: status(ready=ready)})
            await asyncio.sleep(0.05)
        await asyncio.sleep(60)
        assert [part["conditions"][0]["status"] for *_, part in server.health] == ["True"]

    play(scene)


def test_two_of_one_device_never_overtake_each_other() -> None:
    """A slow server: the second is sent when the first has arrived, else the older could stay."""

    async def scene(server: Server, writer: StatusWriter) -> None:
        server.slow_s = 3.0
        writer.put({KEY: status(ready="False")})
        await asyncio.sleep(1)
        server.slow_s = 0.01
        writer.put({KEY: status(ready="True")})
        await asyncio.sleep(20)
        assert [part["conditions"][0]["status"] for *_, part in server.health] == ["False", "True"]

    play(scene)


def test_what_changed_back_is_not_written() -> None:
    async def scene(server: Server, writer: StatusWriter) -> None:
        writer.put({KEY: status(1)})
        await asyncio.sleep(1)
        writer.put({KEY: status(2)})
        writer.put({KEY: status(1)})
        await asyncio.sleep(100)
        assert len(server.values) == 1

    play(scene)


@pytest.mark.parametrize(
    ("error", "again_s"),
    [(SlowDownError(7), 7), (StoreUnavailableError("away"), 5), (RefusedError("no"), 60)],
)
def test_what_was_not_taken_is_tried_again(error: Exception, again_s: float) -> None:
    async def scene(server: Server, writer: StatusWriter) -> None:
        server.errors.append(error)
        writer.put({KEY: {"conditions": []}})
        await asyncio.sleep(100)
        assert [at for at, *_ in server.health] == [pytest.approx(again_s + SETTLE_S, abs=0.3)]

    play(scene)


def test_a_device_that_is_gone_is_forgotten_and_one_of_its_name_is_new() -> None:
    async def scene(server: Server, writer: StatusWriter) -> None:
        server.errors.append(NotFoundError("gone"))
        writer.put({KEY: {"conditions": []}})
        await asyncio.sleep(60)
        assert server.health == []
        writer.put({KEY: {"conditions": []}})
        await asyncio.sleep(1)
        writer.forget(KEY)
        writer.put({KEY: {"conditions": []}})
        await asyncio.sleep(1)
        assert len(server.health) == 2

    play(scene)


@pytest.mark.parametrize("error", [None, NotFoundError("gone"), StoreUnavailableError("away")])
def test_what_becomes_of_the_old_one_does_not_touch_a_new_one_of_its_name(error: Exception | None) -> None:
    """Deleted and declared again while its status was under way: the new one's is written, and the old one's not."""

    async def scene(server: Server, writer: StatusWriter) -> None:
        server.slow_s = 3.0
        server.errors += [error] if error is not None else []
        writer.put({KEY: {"conditions": [{"type": "Ready", "status": "False"}]}})
        await asyncio.sleep(1)
        writer.forget(KEY)
        writer.put({KEY: {"conditions": [{"type": "Ready", "status": "True"}]}})
        await asyncio.sleep(100)
        assert [part["conditions"][0]["status"] for *_, part in server.health][-1] == "True"
        assert len(server.health) == (2 if error is None else 1)
        writer.put({KEY: {"conditions": [{"type": "Ready", "status": "True"}]}})
        await asyncio.sleep(100)
        assert len(server.health) == (2 if error is None else 1), "it is known to be there"

    play(scene)


def test_a_failed_write_of_one_that_is_gone_is_not_tried_on_a_new_one() -> None:
    async def scene(server: Server, writer: StatusWriter) -> None:
        server.slow_s = 3.0
        server.errors.append(StoreUnavailableError("away"))
        writer.put({KEY: {"conditions": [{"type": "Ready", "status": "False"}]}})
        await asyncio.sleep(1)
        writer.forget(KEY)
        writer.put({KEY: {}})
        await asyncio.sleep(100)
        assert server.health == []

    play(scene)


def test_a_conflict_is_tried_again_at_once_and_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(server: Server, writer: StatusWriter) -> None:
        server.errors.append(ConflictError("the object has been modified"))
        writer.put({KEY: {"conditions": []}})
        await asyncio.sleep(10)
        assert [at for at, *_ in server.health] == [pytest.approx(0.5, abs=0.2)]

    play(scene)
    assert caplog.text == ""


def test_thousands_of_devices_are_written_at_the_buckets_rate() -> None:
    async def scene(server: Server, writer: StatusWriter) -> None:
        writer.put({Key("Device", "default", f"d{n}"): status() for n in range(2000)})
        await asyncio.sleep(11 + FIRST_S)
        assert len(server.health) == 2000
        assert len(server.values) == pytest.approx(20 + 5 * 11, abs=2)

    play(scene)


def test_a_bucket_is_halved_and_comes_back() -> None:
    bucket = Bucket(rate=100, burst=10)
    bucket.too_much()
    bucket.too_much()
    assert bucket.rate == 25
    assert bucket.wait_s(0.0) == pytest.approx(1 / 25)
    assert bucket.wait_s(1000.0) == 0 and bucket.rate == 100
    for _ in range(20):
        bucket.too_much()
    assert bucket.rate > 1, "it never stands still"


def test_a_turn_earns_its_burst_back() -> None:
    turn = Turn()
    for _ in range(BURST):
        assert turn.health_due_s(100.0) == 100.0 + SETTLE_S
        turn.spend_health(100.0)
    assert turn.health_due_s(100.0) == pytest.approx(100.0 + VALUES_S)
    assert turn.health_due_s(100.0 + VALUES_S) == 100.0 + VALUES_S + SETTLE_S
