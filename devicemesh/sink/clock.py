"""The clocks of the outbox: age is measured on one that no one can set."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

from devicemesh.system import boottime


class Clock(Protocol):
    """What the outbox needs to know about time."""

    @property
    def boot_id(self) -> bytes:
        """Eight bytes that differ from boot to boot: within one of them, `boottime` values compare."""
        ...

    def boottime(self) -> float:
        """Seconds since the boot, suspension included; never steps."""
        ...

    def wall_ns(self) -> int:
        """Unix nanoseconds; may step, and may be wrong."""
        ...


class SystemClock:
    """The machine's clocks."""

    def __init__(self) -> None:
        try:
            text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
            self.boot_id = bytes.fromhex(text.strip().replace("-", ""))[:8]
        except (OSError, ValueError):
            self.boot_id = bytes(8)  # unknown: ages across processes fall back on the wall clock

    def boottime(self) -> float:
        return boottime()

    def wall_ns(self) -> int:
        return time.time_ns()
