"""Virtual time for asyncio: a loop whose clock jumps to the next timer when nothing else is to be done."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
SOCKETS_S = 0.002
"""Patience that suits sockets: the kernel hands on within the system call, unless it is very busy."""


class _Jumping(selectors.SelectSelector):
    """Instead of waiting, it moves the clock."""

    def __init__(self, patience_s: float) -> None:
        super().__init__()
        self.now = 0.0
        self._patience_s = patience_s

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and self._patience_s and timeout != 0:
            ready = super().select(self._patience_s)
        if not ready and timeout is not None:
            self.now += timeout
        elif not ready:
            ready = super().select(None)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time is its timers'. For code that talks to fakes, or over sockets to peers in the same loop.

    `patience_s` (real seconds): how long nothing must come over any socket before the clock jumps, where the
    kernel may be late to bring what the loop itself has sent. Neither threads nor processes are waited for.
    """

    def __init__(self, patience_s: float = 0.0) -> None:
        self._jumping = _Jumping(patience_s)
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def run_virtual(main: Coroutine[Any, Any, T], *, patience_s: float = 0.0) -> T:
    """As `asyncio.run`, in virtual time; `patience_s` as `VirtualLoop` has it."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(patience_s)) as runner:
        return runner.run(main)
