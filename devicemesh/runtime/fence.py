"""The fence: whether this replica may act, asked at the moment of each write and each publish."""

from __future__ import annotations

from collections.abc import Callable

from devicemesh.system import boottime


class Fence:
    """Open until a time that only a renewed Lease moves."""

    def __init__(self, clock: Callable[[], float] = boottime) -> None:
        self.clock = clock
        self.until_s = float("-inf")

    def holds(self) -> bool:
        return self.clock() < self.until_s

    def extend(self, until_s: float) -> None:
        self.until_s = until_s

    def shut(self) -> None:
        self.until_s = float("-inf")
