"""Looking into an outbox from outside, running or not: nothing is changed, locked or synced."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from devicemesh.sink import segment as fmt
from devicemesh.sink.clock import SystemClock
from devicemesh.sink.folder import Readable
from devicemesh.sink.replay import Reader, Segment, frames, recover
from devicemesh.sink.settled import Range, Settled


class View:
    """A folder to look at, without a lock."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> Sequence[str]:
        return [each.name for each in self._path.iterdir()]

    def size(self, name: str) -> int:
        return (self._path / name).stat().st_size

    def read(self, name: str, offset: int, length: int) -> bytes:
        with (self._path / name).open("rb") as file:
            return os.pread(file.fileno(), length, offset)


@dataclass(frozen=True, slots=True)
class FileReport:
    """What one file holds."""

    name: str
    bytes: int
    intact_bytes: int  # the rest is torn or damaged
    records: int
    samples: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a folder holds; `waiting` and `missing` count beyond what is acknowledged on disk."""

    files: Sequence[FileReport]
    next: int  # position of the next record
    acked: int
    waiting: int  # records
    waiting_samples: int
    missing: int  # records that are damaged or whose file is gone
    dropped_ever: dict[str, int]


def verify(fs: Readable) -> Report:
    """Read every byte of an outbox and check it. Raises OSError when the folder can't be listed."""
    found = recover(fs, SystemClock())
    files = [_file(fs, each) for each in found.segments]
    records = samples = 0
    missing: list[Range] = []
    for item in _waiting(fs, missing):
        records, samples = records + 1, samples + item.samples
    return Report(
        files,
        found.position,
        found.acked,
        records,
        samples,
        sum(end - start for start, end, _, _ in missing),
        dict(zip(fmt.POLICIES, [*found.dropped, *[0] * len(fmt.POLICIES)], strict=False)),
    )


def dump(fs: Readable) -> Iterator[fmt.Item]:
    """Yield the records that wait, in order, as the next start will see them."""
    return _waiting(fs, [])


def _waiting(fs: Readable, missing: list[Range]) -> Iterator[fmt.Item]:
    found = recover(fs, SystemClock())
    settled = Settled(found.acked, found.acked_sample)
    for each in found.ranges:
        settled.add(*each)
    reader, position = Reader(fs), found.acked
    while position < found.position:
        items, gaps, position = reader.read(
            found.segments, (found.position, found.sample), position, max_bytes=1 << 20
        )
        missing += [gap for gap in gaps if gap[0] not in settled]
        yield from (each for each in items if each.position not in settled)


def _file(fs: Readable, segment: Segment) -> FileReport:
    intact = records = samples = 0
    for frame in frames(fs, segment):
        intact += frame.end - frame.offset
        if frame.kind == fmt.DATA:
            records += frame.records
            samples += sum(each[1] for each in fmt.unpack_records(frame.body, frame.records) or ())
    return FileReport(segment.name, segment.size, intact, records, samples)
