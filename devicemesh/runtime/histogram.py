"""Durations, counted."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

BOUNDS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)


class Histogram:
    """How often a duration fell below each bound."""

    __slots__ = ("_counts", "sum_s")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        self.sum_s += seconds
        self._counts[bisect_left(BOUNDS_S, seconds)] += 1

    def cumulated(self) -> Iterator[tuple[str, float]]:
        """(upper bound in seconds, durations up to it), as Prometheus has it."""
        total = 0
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), self._counts, strict=True):
            total += count
            yield bound, total

    @property
    def count(self) -> int:
        """All of them."""
        return sum(self._counts)

    def quantile(self, share: float) -> float | None:
        """The bound in seconds below which this share (0 to 1) of them was; None: there is none."""
        wanted, total = share * self.count, 0
        for bound, count in zip(BOUNDS_S, self._counts, strict=False):
            total += count
            if total and total >= wanted:
                return bound
        return None
