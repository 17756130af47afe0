"""A bad line between us and aiocoap's server: datagrams get lost, come twice, or out of order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from devicemesh_coap.session import open_session

from devicemesh.mapper import Write
from devicemesh.testing.contract import once, rows


@pytest.mark.parametrize("seed", [1, 2])
def test_every_request_is_answered_and_every_write_done_once(
    seed: int, serve_plant: Any, point: Any, run: Callable[[Any], None], lossy_line: Any
) -> None:
    async def work() -> None:
        async with serve_plant() as plant, lossy_line(plant.port, seed) as line:
            await plant.add("/a", b"1")
            await plant.add("/big", b"b" * 600)
            fields = {"uri": f"coap://127.0.0.1:{line.port}", "timeout": "30s", "ackTimeout": "30ms",
                      "retransmissions": 9, "blockSize": 64}  # fmt: skip
            endpoint = plant.endpoint().model_validate(fields)
            a, big = point(0, endpoint, "float64", "/a"), point(1, endpoint, "string", "/big")
            async with open_session(endpoint) as session:
                line.drop, line.repeat, line.reorder = 0.1, 0.15, 0.1
                reader = session.reader([a, big])
                for number in range(8):
                    seen = await once(reader, [a, big])
                    assert (seen[0].value, seen[0].error) == (max(1, number), None)
                    assert (seen[1].value, seen[1].error) == ("b" * 600, None)
                    (outcome,) = await session.write([Write(a, float(number + 1))])
                    assert (outcome.value, outcome.error) == (number + 1, None)
                (outcome,) = await session.write([Write(big, "c" * 500)])
                assert (outcome.value, outcome.error) == ("c" * 500, None)
                line.drop = line.repeat = line.reorder = 0.0
            written = [body for method, _, body in await plant.log("/a") if method == 3]
            assert written == [f"{float(n)}".encode() for n in range(1, 9)], "retransmissions are no writes"
            assert line.dropped and line.repeated and line.reordered

    run(work())


def test_notifications_of_a_bad_line_never_go_backwards(
    serve_plant: Any, point: Any, run: Callable[[Any], None], lossy_line: Any
) -> None:
    """The last value arrives although its notification may be lost: Max-Age sees to it."""

    async def work() -> None:
        async with serve_plant() as plant, lossy_line(plant.port, 3) as line:
            await plant.add("/a", b"0", max_age=1)
            fields = {"uri": f"coap://127.0.0.1:{line.port}", "timeout": "20s", "ackTimeout": "50ms",
                      "retransmissions": 8}  # fmt: skip
            endpoint = plant.endpoint().model_validate(fields)
            a = point(0, endpoint, "float64", "/a")
            seen: list[float] = []

            async def churn() -> None:
                for number in range(1, 61):
                    await plant.set("/a", str(number).encode())

            async with open_session(endpoint) as session:
                line.drop, line.repeat, line.reorder = 0.1, 0.2, 0.2
                working: asyncio.Task[None] | None = None
                async with asyncio.timeout(25), contextlib.aclosing(session.subscribe([a])) as batches:
                    async for batch in batches:
                        working = working or asyncio.create_task(churn())
                        seen += [row.value for row in rows(batch) if row.error is None]
                        if seen and seen[-1] == 60:
                            break
                assert working is not None
                await working
                line.drop = 0.0
            assert seen == sorted(seen), "a late notification is left out"

    run(work())
