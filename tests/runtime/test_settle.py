"""Edits that come together are one; an endless stream of them does not hold up the rest."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

from devicemesh.runtime.settle import PATIENCE_S, SETTLE_S, settled
from devicemesh.store.base import NOTHING, Event, Key, Object, pack
from devicemesh.testing.clock import run_virtual


def edit(number: int) -> Event:
    key = Key("Device", "default", f"d{number}")
    return Event("modified", Object(key, "", 1, number, "", pack({}), NOTHING))


async def stream(gaps: list[float]) -> AsyncIterator[Event]:
    yield Event("synced", None)
    for number, gap in enumerate(gaps):
        await asyncio.sleep(gap)
        yield edit(number)
    await asyncio.sleep(3600)


async def pauses(gaps: list[float]) -> list[tuple[float, int]]:
    """When a None came, and how many edits before it."""
    loop = asyncio.get_running_loop()
    start, found, seen = loop.time(), [], 0
    async for event in settled(stream(gaps)):
        if event is None:
            found.append((loop.time() - start, seen))
        else:
            seen += 1
        if event is None and seen == len(gaps):
            return found
    raise AssertionError("the stream has ended")


def test_edits_that_come_together_are_taken_together() -> None:
    found = run_virtual(pauses([1.0, *[0.0] * 99]))
    assert found[0][1] == 0 and [seen for _, seen in found[1:]] == [100]


def test_an_endless_stream_of_edits_does_not_hold_up_the_rest() -> None:
    found = run_virtual(pauses([SETTLE_S / 4] * 2000))
    times = [at for at, _ in found]
    assert len(times) > 40
    assert max(later - at for at, later in pairwise(times)) < PATIENCE_S + 2 * SETTLE_S
