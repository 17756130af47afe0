"""Looking into an outbox from outside, running or not: nothing is changed, locked or synced."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from devicemesh.sink import segment as fmt
from devicemesh.sink.clock import SystemClock
from devicemesh.sink.folder import Readable
from devicemesh.sink.replay import Reader, frames, recover
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


def verify(folder: Path) -> dict[str, object]:
    """Read every byte of an outbox and check it; `corrupt` counts records that are damaged or missing.

    Raises OSError when the folder can't be listed.
    """
    fs = View(folder)
    found = recover(fs, SystemClock())
    missing: list[Range] = []
    items = records = samples = 0
    for item in waiting(fs, missing):
        items, records, samples = items + len(item.body), records + 1, samples + item.samples
    intact = sum(frame.end - frame.offset for each in found.segments for frame in frames(fs, each))
    dropped = zip(fmt.POLICIES, found.dropped, strict=False)
    return {
        "files": len(found.segments),
        "bytes": sum(each.size for each in found.segments),
        "intact bytes": intact,
        "records ever": found.position,
        "acknowledged": found.acked,
        "waiting": records,
        "waiting samples": samples,
        "waiting bytes": items,
        "corrupt": sum(end - start for start, end, _, _ in missing),
        **{f"dropped {policy}": count for policy, count in dropped if count},
    }


def dump(folder: Path) -> Iterator[str]:
    """Print the records that wait, one a line, in the order in which they will be sent."""
    for item in waiting(View(folder), []):
        context = item.context.decode("utf-8", "replace")
        yield f"{item.position} {item.samples} samples {len(item.body)} bytes {context}"


def waiting(fs: Readable, missing: list[Range]) -> Iterator[fmt.Item]:
    """Yield the records that wait, as the next start will see them; `missing` collects what is damaged."""
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
