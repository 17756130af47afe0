"""Which records of the outbox are done with, in positions and in samples. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

Range = tuple[int, int, int, int]
"""Positions [start, end) and the samples [first, last) that they stand for."""


class Settled:
    """Everything below `position`, and disjoint ranges beyond it.

    Acknowledgements nearly always come in order, so there are few ranges; whoever settles out of order
    bounds how many (the window of publishes under way, the records that the broker refuses).
    """

    def __init__(self, position: int = 0, sample: int = 0) -> None:
        self.position = position
        self.sample = sample
        self._ranges: list[Range] = []

    @property
    def ranges(self) -> Sequence[Range]:
        """Beyond `position`, ascending, never touching each other."""
        return self._ranges

    @property
    def samples(self) -> int:
        """All samples settled since the first record ever."""
        return self.sample + sum(last - first for _, _, first, last in self._ranges)

    def __contains__(self, position: int) -> bool:
        if position < self.position:
            return True
        if not self._ranges:
            return False
        index = bisect_right(self._ranges, position, key=lambda each: each[0]) - 1
        return index >= 0 and position < self._ranges[index][1]

    def add(self, start: int, end: int, first: int, last: int) -> int:
        """Settle a range; return how many of its samples were not settled before."""
        if start == self.position and not self._ranges:  # in order, the usual case
            fresh = max(0, last - self.sample)
            self.position, self.sample = end, self.sample + fresh
            return fresh
        if start < self.position:
            start, first = self.position, self.sample
        if end <= start:
            return 0
        before = self.samples
        self._merge(start, end, first, max(first, last))
        self._advance()
        return max(0, self.samples - before)

    def advance(self, position: int, sample: int) -> int:
        """Settle everything below `position`; return how many samples were not settled before."""
        return self.add(self.position, position, self.sample, sample) if position > self.position else 0

    def _merge(self, start: int, end: int, first: int, last: int) -> None:
        """Insert a range, swallowing those that it touches."""
        low = bisect_right(self._ranges, start, key=lambda each: each[0])
        if low and self._ranges[low - 1][1] >= start:
            low -= 1
            start, first = self._ranges[low][0], self._ranges[low][2]
        high = low
        while high < len(self._ranges) and self._ranges[high][0] <= end:
            if self._ranges[high][1] > end:
                end, last = self._ranges[high][1], self._ranges[high][3]
            high += 1
        self._ranges[low:high] = [(start, end, first, last)]

    def _advance(self) -> None:
        if self._ranges and self._ranges[0][0] <= self.position:
            _, end, _, last = self._ranges.pop(0)
            if end > self.position:
                self.position, self.sample = end, max(self.sample, last)
