"""When to poll, pure: rate classes on a heap, spread in phase, drift-free; overruns are skipped, counted."""

from __future__ import annotations

import heapq
import math
import zlib
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(order=True, slots=True)
class Entry(Generic[T]):
    """One rate class. Times are seconds of one monotonic clock."""

    due: float
    interval: float = field(compare=False)
    what: T = field(compare=False)
    first: float = field(compare=False)
    turn: int = field(default=0, compare=False)
    overruns: int = field(default=0, compare=False)  # polls skipped because the one before had not ended


def phase(name: str, interval: float) -> float:
    """Seconds into the interval at which this link polls: links of one interval are spread evenly."""
    return zlib.crc32(name.encode()) * 0.6180339887498949 % 1.0 * interval


def first_due(name: str, interval: float, now: float) -> float:
    """When a link polls first: soon, whatever the interval, and spread.

    It falls on a grid that all links share (5 ms, or a tenth of the interval), so that polls come in small
    bursts: one wake-up of the loop, and of the peer, serves several.
    """
    grid = min(0.005, interval / 10)
    return math.ceil((now + phase(name, min(interval, 1.0))) / grid) * grid


class Schedule(Generic[T]):
    """The next poll of one link."""

    def __init__(self) -> None:
        self._heap: list[Entry[T]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, what: T, interval: float, first: float) -> None:
        heapq.heappush(self._heap, Entry(first, interval, what, first))

    def peek(self) -> Entry[T] | None:
        """The entry that is due first."""
        return self._heap[0] if self._heap else None

    def done(self, now: float) -> int:
        """Move the first entry to its next turn after `now`; returns how many turns had to be skipped."""
        entry = self._heap[0]
        entry.turn += 1
        skipped = max(0, math.floor((now - entry.first) / entry.interval) + 1 - entry.turn)
        entry.turn += skipped
        entry.due = entry.first + entry.turn * entry.interval  # from the start: sums would drift
        if entry.due <= now:  # rounded down to now itself
            entry.turn, skipped = entry.turn + 1, skipped + 1
            entry.due = entry.first + entry.turn * entry.interval
        entry.overruns += skipped
        heapq.heapreplace(self._heap, entry)
        return skipped
