"""Reading an outbox's files: what a folder holds at the start, and records in order."""

from __future__ import annotations

import errno
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import NamedTuple

from devicemesh.sink import segment as fmt
from devicemesh.sink.clock import Clock
from devicemesh.sink.folder import Readable
from devicemesh.sink.settled import Range

_PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # of the moment, not of the file


@dataclass(slots=True, eq=False)
class Segment:
    """One file. Records of [position, position of the next segment) are in it, or were lost."""

    position: int
    sample: int
    generation: int
    name: str
    size: int = 0
    time_ns: int = 0  # Unix time of its start
    started: float = 0.0  # boottime of its start
    newest: float = 0.0  # and of its last record
    end: int = 0  # position after the last record written to it by us
    descriptor: int | None = None  # while it is ours and not yet proven
    dirty: bool = False  # has bytes that no sync covered
    failed: bool = False  # a sync of it failed: never synced again, what it says now proves nothing
    contexts: dict[int, int] = field(default_factory=dict)  # key -> offset where it was last written


@dataclass(slots=True)
class Recovered:
    """What a folder holds."""

    segments: list[Segment]
    position: int = 0  # of the next record
    sample: int = 0
    acked: int = 0
    acked_sample: int = 0
    ranges: Sequence[Range] = ()
    dropped: Sequence[int] = ()
    generation: int = 0  # the highest seen


def frames(fs: Readable, segment: Segment, start: int = 0, chunk: int = 1 << 16) -> Iterator[fmt.Frame]:
    """Yield the intact frames of a file; what can't be read is as damaged as what makes no sense.

    Raises OSError where it could be read at another moment.
    """

    def read(offset: int, length: int) -> bytes:
        try:
            return fs.read(segment.name, offset, length)
        except OSError as error:
            if error.errno in _PASSING:
                raise
            return bytes(length)

    return fmt.scan(read, segment.size, start, chunk)


def recover(fs: Readable, clock: Clock) -> Recovered:
    """Look at every file's start and at the last one whole. Content never makes it fail; OSError may pass."""
    segments = []
    for name in fs.names():
        parsed = fmt.parse_name(name)
        if parsed is not None:
            position, generation = parsed
            segments.append(Segment(position, 0, generation, name, size=fs.size(name)))
    segments.sort(key=lambda each: (each.position, each.generation))
    found = Recovered(segments, generation=max((each.generation for each in segments), default=0))
    starts = [next(frames(fs, each, chunk=4096), None) for each in segments]
    for each, first in zip(segments, starts, strict=True):
        found.position = max(found.position, each.position)
        _learn(found, first)
    _samples(fs, segments, starts)
    last_ns = _tail(fs, found)
    if segments and segments[0].position > found.acked:  # a missing head is what acknowledging leaves behind
        found.acked, found.acked_sample = segments[0].position, segments[0].sample
    _ages(segments, starts, last_ns, clock)
    return found


def _learn(found: Recovered, frame: fmt.Frame | None) -> None:
    """Take over what an S or A frame knows."""
    if frame is None or frame.kind not in (fmt.START, fmt.ACK):
        return
    checkpoint = fmt.Checkpoint.unpack(frame.body)
    if checkpoint is None:
        return
    found.dropped = [max(both) for both in zip_longest(found.dropped, checkpoint.dropped, fillvalue=0)]
    if checkpoint.acked >= found.acked:
        found.acked, found.acked_sample = checkpoint.acked, checkpoint.acked_sample
        found.ranges = checkpoint.ranges


def _samples(fs: Readable, segments: Sequence[Segment], starts: Sequence[fmt.Frame | None]) -> None:
    """Say how many samples lie before each file; the end of the file before makes up for a damaged start."""
    for index, (each, first) in enumerate(zip(segments, starts, strict=True)):
        before = segments[index - 1] if index else None
        if first is not None and (first.position == each.position or before is None):
            each.sample = first.sample
        elif before is not None:
            position, each.sample = before.position, before.sample
            for frame in frames(fs, before):
                if frame.kind == fmt.DATA and frame.position >= position:
                    position, each.sample = frame.position + frame.records, frame.sample + _count(frame)
            each.sample += max(0, each.position - position)  # unknown: a record counts as one


def _tail(fs: Readable, found: Recovered) -> int:
    """Find where numbering goes on: read files from the last one back until one has an intact frame."""
    for each in reversed(found.segments):
        found.sample = max(found.sample, each.sample)
        intact, last_ns = False, 0
        for frame in frames(fs, each):
            intact, last_ns = True, frame.time_ns
            end = frame.position + (frame.records if frame.kind == fmt.DATA else 0)
            if end >= found.position:
                found.position = end
                found.sample = max(found.sample, frame.sample + _count(frame))
            _learn(found, frame)
        if intact:
            return last_ns
    return 0


def _count(frame: fmt.Frame) -> int:
    """Samples of a D frame; 0 for the others."""
    records = fmt.unpack_records(frame.body, frame.records) if frame.kind == fmt.DATA else None
    return sum(samples for _, samples, _ in records) if records else 0


def _ages(
    segments: Sequence[Segment], starts: Sequence[fmt.Frame | None], last_ns: int, clock: Clock
) -> None:
    """Say when each file got its last record, in boottime: by that clock within a boot, else by the wall."""
    now, wall = clock.boottime(), clock.wall_ns()
    for index, (each, first) in enumerate(zip(segments, starts, strict=True)):
        each.time_ns = first.time_ns if first is not None else 0
        ended = starts[index + 1] if index + 1 < len(segments) else None
        checkpoint = None
        if ended is not None and ended.kind == fmt.START:
            checkpoint = fmt.Checkpoint.unpack(ended.body)
        if checkpoint is not None and checkpoint.boot_id == clock.boot_id != bytes(8):
            each.newest = min(now, checkpoint.boottime)
        else:
            end_ns = ended.time_ns if ended is not None else last_ns or each.time_ns
            each.newest = now - max(0, wall - end_ns) / 1e9 if end_ns else now


class Chunk(NamedTuple):
    """Records read, and the position to go on from."""

    items: list[fmt.Item]
    end: int


class Reader:
    """Reads records in order, remembering where it stopped."""

    def __init__(self, fs: Readable) -> None:
        self._fs = fs
        self._segment: Segment | None = None
        self._offset = 0
        self._position = 0  # what was passed so far
        self._sample = 0
        self._contexts: dict[int, bytes] = {}
        self._searched = False

    def read(
        self, segments: Sequence[Segment], end: tuple[int, int], position: int, max_bytes: int
    ) -> tuple[list[fmt.Item], list[Range], int]:
        """Return records from `position` on, whole frames until `max_bytes` are reached.

        With them: the ranges that are damaged or missing, and the position to go on from. `end` is the
        (position, sample) of the next record to be appended. Raises OSError, as `frames`.
        """
        items: list[fmt.Item] = []
        gaps: list[Range] = []
        size = 0
        position = max(position, segments[0].position) if segments else end[0]
        while position < end[0] and size < max_bytes:
            index = bisect_right(segments, position, key=lambda each: each.position) - 1
            self._seek(segments[index], position)
            for frame in frames(self._fs, segments[index], self._offset):
                self._offset = frame.end
                got = self._frame(frame, position, gaps)
                items += got
                size += sum(len(item.body) for item in got)
                position = max(position, self._position)
                if size >= max_bytes:
                    return items, gaps, position
            after = segments[index + 1] if index + 1 < len(segments) else None
            limit, sample = (after.position, after.sample) if after else end
            if limit > position:
                gaps.append(self._gap(position, limit, sample))
            position = limit
        return items, gaps, position

    def _seek(self, segment: Segment, position: int) -> None:
        if segment is self._segment and self._position <= position:
            return
        self._segment, self._offset = segment, 0
        self._position, self._sample = segment.position, segment.sample
        self._contexts, self._searched = {}, False

    def _frame(self, frame: fmt.Frame, position: int, gaps: list[Range]) -> list[fmt.Item]:
        """The records of a frame from `position` on; notes what is missing before it."""
        if frame.kind == fmt.CONTEXT:
            found = fmt.unpack_context(frame.body)
            if found is not None:
                self._contexts[found[0]] = found[1]
        if frame.kind != fmt.DATA or frame.position + frame.records <= self._position:
            return []
        records = fmt.unpack_records(frame.body, frame.records)
        if records is None:
            return []
        if frame.position > max(self._position, position):
            gaps.append(self._gap(max(self._position, position), frame.position, frame.sample))
        items = []
        at, sample = frame.position, frame.sample
        for key, samples, body in records:
            context = self._context(key)
            if at >= max(position, self._position):
                if context is None:
                    gaps.append((at, at + 1, sample, sample + samples))
                else:
                    items.append(fmt.Item(at, sample, samples, context, body))
            at, sample = at + 1, sample + samples
        self._position, self._sample = at, sample
        return items

    def _gap(self, start: int, end: int, sample: int) -> Range:
        """Missing positions; where it is unknown what lies before `start`, a record counts as one sample."""
        known = self._sample if start == self._position else max(self._sample, sample - (end - start))
        return start, end, min(known, sample), sample

    def _context(self, key: int) -> bytes | None:
        if key not in self._contexts and not self._searched and self._segment is not None:
            self._searched = True  # the copy before this record is damaged: another one may not be
            for frame in frames(self._fs, self._segment):
                found = fmt.unpack_context(frame.body) if frame.kind == fmt.CONTEXT else None
                if found is not None:
                    self._contexts.setdefault(*found)
        return self._contexts.get(key)
