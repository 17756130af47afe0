"""The figures of an outbox: every sample is accounted for."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from devicemesh.sink.segment import POLICIES

_MARKS = 4096
_MARK_NS = 10**9


@dataclass(slots=True)
class Book:
    """Where samples went: `taken == published + sum(dropped) + spooled`, always."""

    taken: int = 0
    published: int = 0
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(POLICIES, 0))

    @property
    def spooled(self) -> int:
        return self.taken - self.published - sum(self.dropped.values())

    def publish(self, samples: int) -> int:
        """Count samples as published; no more than there are."""
        samples = min(samples, self.spooled)
        self.published += samples
        return samples

    def drop(self, samples: int, policy: str) -> int:
        """Count samples as dropped; no more than there are."""
        samples = min(samples, self.spooled)
        self.dropped[policy] += samples
        return samples


@dataclass(frozen=True, slots=True)
class OutboxStats:
    """In samples since the open; what earlier processes left has a book of its own."""

    taken: int
    published: int
    dropped: Mapping[str, int]
    spooled: int
    recovered: Book
    dropped_ever: Mapping[str, int]  # also by the processes before
    messages: int  # records that wait
    bytes: int
    capacity_bytes: int
    oldest_s: float  # Unix time of the oldest record that waits; 0 when none does
    write_failures: int
    sync_failures: int


class Tally:
    """Counts samples, and remembers when waiting records were written."""

    def __init__(self, first_own: int, recovered: int, dropped_before: Sequence[int]) -> None:
        """Records from position `first_own` on are this process's; `recovered` samples wait before it."""
        self.own, self.recovered = Book(), Book(recovered)
        self._first_own = first_own
        self._before = [sum(each) for each in zip_longest(dropped_before, [0] * len(POLICIES), fillvalue=0)]
        self._marks: deque[tuple[int, int]] = deque()

    def book(self, position: int) -> Book:
        return self.own if position >= self._first_own else self.recovered

    def close_books(self, settled: int, end: int) -> None:
        """What damage hid of samples whose positions are all settled is corrupt."""
        if settled >= self._first_own:
            self.recovered.drop(self.recovered.spooled, "corrupt")
        if settled >= end:
            self.own.drop(self.own.spooled, "corrupt")

    def dropped_ever(self) -> list[int]:
        """Samples dropped by this process and those before it, in the order of POLICIES."""
        books = zip(self._before, self.own.dropped.values(), self.recovered.dropped.values(), strict=False)
        return [sum(each) for each in books]

    def mark(self, position: int, time_ns: int) -> None:
        """Remember when a position was written: about once a second, the more thinly the more wait."""
        if self._marks and time_ns - self._marks[-1][1] < _MARK_NS:
            return
        self._marks.append((position, time_ns))
        if len(self._marks) > _MARKS:
            self._marks = deque(list(self._marks)[::2])

    def forget_marks(self) -> None:
        """Nothing waits: the next record will be the oldest."""
        self._marks.clear()

    def oldest_s(self, position: int) -> float:
        """Unix time, within a second or so, at which the record at `position` was written."""
        while len(self._marks) > 1 and self._marks[1][0] <= position:
            self._marks.popleft()
        return self._marks[0][1] / 1e9 if self._marks else 0.0
