"""The figures of an outbox: every sample is accounted for."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from devicemesh.sink.segment import POLICIES

_MARKS = 4096
_MARK_NS = 10**9


@dataclass(frozen=True, slots=True)
class OutboxStats:
    """In samples since the open; `recovered + taken == published + sum(dropped) + spooled`."""

    recovered: int
    taken: int
    published: int
    dropped: Mapping[str, int]
    dropped_ever: Mapping[str, int]  # also by the processes before
    spooled: int
    messages: int  # records that wait
    bytes: int
    capacity_bytes: int
    oldest_s: float  # Unix time of the oldest record that waits; 0 when none does
    write_failures: int
    sync_failures: int


class Tally:
    """Counts samples, and remembers when waiting records were written."""

    def __init__(self, dropped_before: Sequence[int]) -> None:
        self.recovered = self.taken = self.published = 0
        self.dropped = dict.fromkeys(POLICIES, 0)
        self._before = [sum(each) for each in zip_longest(dropped_before, [0] * len(POLICIES), fillvalue=0)]
        self._marks: deque[tuple[int, int]] = deque()

    def dropped_ever(self) -> list[int]:
        """Samples dropped by this process and those before it, in the order of POLICIES."""
        return [before + now for before, now in zip(self._before, self.dropped.values(), strict=False)]

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
