"""Waiting for what somebody else does, and no longer than it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(
    condition: Callable[[], object], timeout_s: float = 60.0, why: Callable[[], object] = lambda: ""
) -> None:
    """Wait until it is true; an AssertionError with `why` says that it did not come."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, why()
        await asyncio.sleep(0.005)
