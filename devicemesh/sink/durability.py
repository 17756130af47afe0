"""What of the outbox survives a power cut, and what must be written again to do so."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from devicemesh.sink.replay import Segment

Record = tuple[int, int, bytes]
"""Context key, samples, body."""


@dataclass(slots=True)
class Unsynced:
    """Records that no sync covers yet, kept to be written again should the sync of their file fail."""

    segment: Segment
    position: int
    sample: int
    samples: int
    records: Sequence[Record]
    contexts: Mapping[int, bytes]
    since: float  # boottime
    bytes: int
    origin: tuple[int, int] | None = None  # of a copy: position and sample of the first writing

    @property
    def end(self) -> int:
        return self.position + len(self.records)


class Durability:
    """The watermark, and the records beyond it. No I/O."""

    def __init__(self) -> None:
        self.durable = 0  # every position below was on the medium, or never promised to be
        self.keep_from: tuple[int, int] | None = None  # originals of unproven copies: still needed on disk
        self.bytes = 0
        self._unsynced: deque[Unsynced] = deque()
        self._disclaimed: tuple[int, int] | None = None

    def note(self, entry: Unsynced) -> None:
        self._unsynced.append(entry)
        self.bytes += entry.bytes

    def settle(self, position: int) -> None:
        """Forget what is settled: it needs no durability."""
        while self._unsynced and self._unsynced[0].end <= position:
            self.bytes -= self._unsynced.popleft().bytes
        if self._disclaimed is not None and self._disclaimed[1] <= position:
            self._disclaimed = None

    def disclaim(self, start: int, end: int) -> None:
        """Promise nothing about these positions, ever: the watermark stays below until they are settled."""
        if start < end:
            low, high = self._disclaimed or (start, end)
            self._disclaimed = min(low, start), max(high, end)

    def oldest(self) -> float | None:
        """Boottime of the oldest record that waits to be durable."""
        return self._unsynced[0].since if self._unsynced else None

    def shed(self, limit: int) -> None:
        """Keep no more than `limit` bytes to write again: promise nothing about the oldest beyond it."""
        while self.bytes > limit:
            entry = self._unsynced.popleft()
            self.bytes -= entry.bytes
            self.disclaim(entry.position, entry.end)

    def take_lost(self) -> deque[Unsynced]:
        """Take out the records whose file failed to sync and that deserve a copy, oldest first."""
        kept, lost = deque[Unsynced](), deque[Unsynced]()
        for entry in self._unsynced:
            if not entry.segment.failed:
                kept.append(entry)
            elif entry.origin is None:
                lost.append(entry)
            else:  # the copy failed too: the medium is dying, and copying on would only eat the backlog
                self.disclaim(entry.position, entry.end)
        self._unsynced = kept
        self.bytes = sum(each.bytes for each in kept)
        return lost

    def put_back(self, lost: deque[Unsynced]) -> None:
        """Keep for a later try what could not be copied now."""
        self._unsynced.extendleft(reversed(lost))
        self.bytes += sum(each.bytes for each in lost)

    def prove(self, target: int) -> None:
        """Note that every file with records below `target` is on the medium, but for the failed ones."""
        self._unsynced = deque(each for each in self._unsynced if each.end > target or each.segment.failed)
        self.bytes = sum(each.bytes for each in self._unsynced)
        limits = [each.position for each in self._unsynced if each.segment.failed]
        if self._disclaimed is not None:
            limits.append(self._disclaimed[0])
        self.durable = max(self.durable, min([target, *limits]))

    def update_keep(self) -> None:
        """Recompute from which position on files must be kept for the sake of unproven copies."""
        origins = [each.origin for each in self._unsynced if each.origin is not None]
        self.keep_from = min(origins, default=None)
