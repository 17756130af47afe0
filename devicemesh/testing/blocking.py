"""Finds what keeps an event loop from running: a call that waits without `await`.

All links of a runtime share one loop, so such a call stalls every device. In tests the peer is often in the
loop as well: then the call waits for ever, and nothing else would say why.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

TICK_S = 0.1
STILL = 20
"""Ticks without a sign of life after which the loop stands still."""
_real_sleep = time.sleep
_state: dict[str, Any] = {}
"""`hook`: there is an audit hook, for good; `folder`: whose calls count; `thread`: that of the loop."""


class BlockedError(AssertionError):
    """The loop was kept from running."""


def _blame(call: str, frame: FrameType | None) -> BlockedError | None:
    """Say where in the watched folder the call was made, or None where it was made for somebody else."""
    while frame is not None and not Path(frame.f_code.co_filename).is_relative_to(_state["folder"]):
        frame = frame.f_back
    if frame is None:
        return None
    return BlockedError(
        f"{call} keeps the event loop, and with it every other link, from running: await something instead, "
        f"or asyncio.to_thread; {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
    )


def _check(call: str) -> None:
    """Raise where the call is made in the watched loop's thread, for the watched folder."""
    if _state.get("thread") == threading.get_ident() and (blocked := _blame(call, sys._getframe(1))):
        raise blocked


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        called: socket.socket = arguments[0]
        if called.gettimeout() != 0 and called.family != socket.AF_UNIX:  # that is a program on this machine
            _check(event)


def _sleep(seconds: Any) -> None:
    if seconds:
        _check("time.sleep")
    _real_sleep(seconds)


@contextlib.contextmanager
def blaming(folder: Path) -> Iterator[None]:
    """Let `unblocked` find calls that code of this folder makes; peers in the loop may do as they like."""
    if "hook" not in _state:
        _state["hook"] = True
        sys.addaudithook(_audit)
    _state["folder"] = folder
    try:
        yield
    finally:
        del _state["folder"]


@contextlib.contextmanager
def unblocked() -> Iterator[None]:
    """Raise `BlockedError` out of a call that blocks the loop that runs here, in the main thread."""
    if "folder" not in _state or threading.current_thread() is not threading.main_thread():
        yield
        return
    watch = _Watch(asyncio.get_running_loop())
    before = signal.signal(signal.SIGUSR2, watch.interrupt)
    _state["thread"] = threading.get_ident()
    time.sleep = _sleep
    try:
        watch.start()
        yield
    finally:
        del _state["thread"]
        time.sleep = _real_sleep
        watch.stop()
        signal.signal(signal.SIGUSR2, before)
    if watch.found is not None:
        raise watch.found  # it was swallowed where it was raised


class _Watch:
    """A thread that looks whether the loop lives, and interrupts the main one where that only waits."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.found: BlockedError | None = None
        self._loop = loop
        self._clock = time.pthread_getcpuclockid(threading.get_ident())
        self._still = 0
        self._worked_s = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._beat()
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        self._still, self._worked_s = 0, time.clock_gettime(self._clock)
        self._timer = self._loop.call_later(TICK_S, self._beat)

    def _look(self) -> None:
        while not self._ended.wait(TICK_S):
            self._still += 1
            if self._still % STILL == 0:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)

    def interrupt(self, _: int, frame: FrameType | None) -> None:
        """Called in the main thread, in whatever it was doing."""
        waited_s, worked_s = self._still * TICK_S, time.clock_gettime(self._clock) - self._worked_s
        if self._still < STILL or worked_s > waited_s / 2:  # it lives, or computes
            return
        self.found = _blame(f"a call that took {waited_s:g} s", frame)
        if self.found is not None:
            raise self.found
