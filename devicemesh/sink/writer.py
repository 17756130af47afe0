"""Composing what goes into the outbox's active file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from devicemesh.sink import segment as fmt
from devicemesh.sink.clock import Clock
from devicemesh.sink.durability import Record
from devicemesh.sink.files import Files
from devicemesh.sink.replay import Segment

Place = tuple[int, int]
"""Position and sample of the next record."""

_CONTEXT_EVERY = 256 * 1024  # contexts are repeated: damage to one must not cost a whole file


class Appended(NamedTuple):
    """Where records went: positions from `position` on, of which the first `stored` are on disk.

    The others exist only in the caller's hands, who must settle them (`ack` or `drop`).
    """

    position: int
    sample: int
    stored: int


class Writer:
    """Writes frames at the place given. Every method may raise OSError, `TornError` among them."""

    def __init__(self, files: Files, clock: Clock, checkpoint: Callable[[], fmt.Checkpoint]) -> None:
        """`checkpoint` is asked for what an S or A frame is to say."""
        self.stale = False  # more is settled than the last checkpoint says
        self._files, self._clock, self._checkpoint = files, clock, checkpoint

    def wall_ns(self) -> int:
        """Unix nanoseconds; whatever the clock was set to, they fit a header."""
        return min(max(0, self._clock.wall_ns()), 1 << 63)

    def start(self, place: Place) -> None:
        """Begin a new file, which says where all stands."""
        segment = self._files.open(*place)
        self._files.write(segment, self._pack(fmt.START, self._checkpoint().pack(), place, self.wall_ns()))
        self.stale = False

    def checkpoint(self, place: Place) -> None:
        """Write down what is settled, if that is news and there is a file for it."""
        active = self._files.active
        if self.stale and active is not None and active.size:
            self._files.write(active, self._pack(fmt.ACK, self._checkpoint().pack(), place, self.wall_ns()))
            self.stale = False

    def records(
        self, records: Sequence[Record], body: bytes, contexts: Mapping[int, bytes], place: Place
    ) -> tuple[Segment, int]:
        """Write a frame of records and, in the same write, what must precede it; return its file and time."""
        segment = self._files.room(*place, len(body))
        offset, time_ns, parts = segment.size, self.wall_ns(), []
        if offset == 0 or self.stale:
            kind = fmt.ACK if offset else fmt.START
            parts.append(self._pack(kind, self._checkpoint().pack(), place, time_ns))
        due = offset - _CONTEXT_EVERY
        fresh = [key for key in {each[0] for each in records} if segment.contexts.get(key, due) <= due]
        for key in fresh:
            parts.append(self._pack(fmt.CONTEXT, fmt.pack_context(key, contexts[key]), place, time_ns))
        parts.append(self._pack(fmt.DATA, body, place, time_ns, len(records)))
        self._files.write(segment, b"".join(parts))
        self.stale = False
        segment.contexts.update(dict.fromkeys(fresh, offset))
        return segment, time_ns

    def _pack(self, kind: int, body: bytes, place: Place, time_ns: int, count: int = 0) -> bytes:
        return fmt.pack(kind, body, count=count, position=place[0], sample=place[1], time_ns=time_ns)


def batches(records: Sequence[Record], limit: int) -> Iterator[Sequence[Record]]:
    """Split what would make a frame of more than `limit` bytes."""
    start = size = 0
    for index, (_, _, body) in enumerate(records):
        if size and size + len(body) > limit:
            yield records[start:index]
            start, size = index, 0
        size += len(body)
    if start < len(records):
        yield records[start:] if start else records
