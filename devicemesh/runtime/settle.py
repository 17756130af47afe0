"""Edits that come together are taken together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from devicemesh.store.base import Event

SETTLE_S = 0.02
PATIENCE_S = 0.2
"""Who edits all the time does not hold up the others' edits for longer."""


async def settled(events: AsyncIterator[Event]) -> AsyncGenerator[Event | None, None]:
    """Events, and None whenever none has come for a moment (at first: once all that exists was listed)."""
    queue: asyncio.Queue[Event | BaseException] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    async def feed() -> None:
        try:
            async for event in events:
                queue.put_nowait(event)
        except Exception as error:  # handed on to the reader
            queue.put_nowait(error)

    task = asyncio.create_task(feed())
    try:
        event = await queue.get()
        while not isinstance(event, BaseException) and event.type != "synced":
            yield event
            event = await queue.get()
        due_s = loop.time()
        while True:
            if isinstance(event, BaseException):
                raise event
            if event.object is not None:
                yield event
            if queue.empty():
                await asyncio.sleep(SETTLE_S)
            told = queue.empty() or loop.time() >= due_s
            if told:
                yield None
            event = await queue.get()
            if told:
                due_s = loop.time() + PATIENCE_S
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
