"""The process that codecs run in, from outside: it is started, spoken to, and ended when it hangs.

The engine's own limits can be escaped (a sparse array that is joined never asks whether its time is up), and
a thread can't be stopped: so it is a process, and our clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import importlib.util
import mmap
import os
import signal
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

HANG_S = 1.0
"""Ten times what a call may take by the engine's clock: it has escaped, and the process ends."""
STARVED_S = 20.0
"""So long it may take if it hardly had a processor: then the machine is to blame."""
LOOK_S = 0.25
START_S = 20.0
MOST_ANSWER = 16 << 20
"""Bytes of one trip's answers."""
TICKS = os.sysconf("SC_CLK_TCK")
ENGINE = "quickjs-ng"
INSTALL = "JavaScript codecs need quickjs-ng: pip install devicemesh-lora[codecs]"
TWICE = (
    "quickjs and quickjs-ng are both installed, and are the same module: pip uninstall quickjs quickjs-ng, "
    "then pip install devicemesh-lora[codecs]"
)


class HelperMissingError(Exception):
    """There is no engine; says what to install."""


class HelperDiedError(Exception):
    """The process is gone. `call` is the number of the call that it was in, from 1; 0: in none."""

    def __init__(self, why: str, call: int) -> None:
        super().__init__(why)
        self.call = call


@cache
def _engine() -> Path | str:
    """Where the engine's module is, or what to do to have it."""
    try:
        importlib.metadata.distribution(ENGINE)
    except importlib.metadata.PackageNotFoundError:
        return INSTALL
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        importlib.metadata.distribution("quickjs")
        return TWICE
    found = importlib.util.find_spec("quickjs")
    return Path(found.origin).parent.parent if found is not None and found.origin is not None else INSTALL


def engine_folder() -> Path:
    """Where the engine's module is. Raises HelperMissingError."""
    found = _engine()
    if isinstance(found, str):
        raise HelperMissingError(found)
    return found


def _environment() -> dict[str, str]:
    """What Python needs to start, and nothing that a codec could be after."""
    return {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}


class Helper:
    """One process. After HelperDiedError it is of no more use."""

    def __init__(self, process: asyncio.subprocess.Process, progress: mmap.mmap) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._process, self._progress = process, progress
        self._into, self._out = process.stdin, process.stdout
        self._numbers = memoryview(progress).cast("I")
        self._seen = (0, 0.0, 0.0)  # call, when it was first seen there, CPU seconds then
        self._hung = False

    @classmethod
    async def started(cls) -> Helper:
        """A process that is ready. Raises HelperMissingError and HelperDiedError."""
        site, folder = engine_folder(), Path(__file__).parent
        shared = os.memfd_create("codecs")  # no file: the disk may be read-only
        try:
            os.ftruncate(shared, mmap.PAGESIZE)
            progress = mmap.mmap(shared, mmap.PAGESIZE)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", str(folder / "codec_worker.py"), str(folder), str(site),
                str(shared), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL, pass_fds=(shared,), env=_environment(), limit=MOST_ANSWER,
            )  # fmt: skip
        finally:
            os.close(shared)
        made = cls(process, progress)
        try:
            async with asyncio.timeout(START_S):
                await made._answer()
        except TimeoutError:
            await made.close()
            raise HelperDiedError(f"it was not ready within {START_S:g} s", 0) from None
        except BaseException:
            await made.close()
            raise
        return made

    @property
    def pid(self) -> int:
        return self._process.pid

    async def trip(self, lines: Sequence[bytes]) -> list[bytes]:
        """Send calls, and what they need; return a line for each call. Raises HelperDiedError."""
        loop = asyncio.get_running_loop()
        self._seen = (-1, 0.0, 0.0)  # the first look notes where it is
        watch = loop.call_later(LOOK_S, self._look, loop)
        self._watch = watch
        try:
            self._into.write(b"".join(lines) + b"\n")
            await self._into.drain()
            return await self._answer()
        except (ConnectionError, asyncio.IncompleteReadError):
            raise await self._dead() from None
        except asyncio.LimitOverrunError:
            raise HelperDiedError("it answers without end", self._numbers[0]) from None
        finally:
            self._watch.cancel()

    async def _answer(self) -> list[bytes]:
        try:
            block = await self._out.readuntil(b"\n\n")
        except asyncio.IncompleteReadError:
            raise await self._dead() from None
        return block[:-2].split(b"\n")

    async def _dead(self) -> HelperDiedError:
        code = await self._process.wait()
        if self._hung:
            why = f"it did not end within {HANG_S:g} s"
        elif code < 0:
            with contextlib.suppress(ValueError):
                return HelperDiedError(
                    f"it ended its process: {signal.Signals(-code).name}", self._numbers[0]
                )
            why = f"it ended its process: signal {-code}"
        else:
            why = f"it ended its process: code {code}"
        return HelperDiedError(why, self._numbers[0])

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Whether the process is still at the call that it was at."""
        call, now, used = self._numbers[0], loop.time(), self._cpu_s()
        seen, since, before = self._seen
        if call != seen:
            self._seen = (call, now, used)
        elif now - since >= (HANG_S if used - before >= HANG_S / 4 else STARVED_S):
            self._hung = True
            self.kill()
            return
        self._watch = loop.call_later(LOOK_S, self._look, loop)

    def _cpu_s(self) -> float:
        """CPU time of the process in its own code (proc(5), stat)."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
            return int(fields[11]) / TICKS
        return time.monotonic()  # not Linux: as if it had a processor all the time

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def close(self) -> None:
        """End it."""
        self.kill()
        self._into.close()
        await self._process.wait()
        with contextlib.suppress(ConnectionError, BrokenPipeError):
            await self._into.wait_closed()
        self._numbers.release()
        self._progress.close()
