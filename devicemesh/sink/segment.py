"""The format of the outbox's files: frames with checksums, readable after any damage. Pure, no I/O.

A file `<position:016x>-<generation:08x>.seg` is a sequence of frames; all integers are little-endian::

    header  "DM" | kind u8 | version u8 | body length u32 | body CRC-32 u32 | count u32 | position u64
            | sample u64 | time u64 (Unix ns) | header CRC-32 u32                             (44 bytes)
    S, A    the start of a file, an acknowledgement: both carry a `Checkpoint`
    C       context key u32 | bytes: what records refer to by key, repeated in every file that needs it
    D       count x (length u32 | context key u32 | samples u32), then the bodies

`position` numbers records and `sample` numbers the samples that they stand for: both count from the first
record ever appended, so a damaged stretch between two intact frames is counted exactly.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

MAGIC = b"DM"
VERSION = 1
START, DATA, ACK, CONTEXT = b"SDAC"

_HEADER = struct.Struct("<2sBBIIIQQQI")
HEADER_BYTES = _HEADER.size
_CRC_OFFSET = HEADER_BYTES - 4
_RECORD = struct.Struct("<III")
_KEY = struct.Struct("<I")
_CHECKPOINT = struct.Struct("<8sdQQHH")
_RANGE = struct.Struct("<QQQQ")
_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{8})\.seg")
_MAX_POSITION = 1 << 62  # beyond it, a name or a header is no work of ours
LATEST_EPOCH = 0xFFFF_0000
"""A clock beyond it (the year 2106) is not believed; nor is a file name."""

POLICIES = ("outbox_bytes", "outbox_age", "disk_full", "corrupt", "too_large", "refused")
"""Why samples were dropped; the order is part of the format and only ever appended to."""


class Frame(NamedTuple):
    """One intact frame; `offset` and `end` are its place in the file."""

    kind: int
    records: int
    position: int  # of its first record, or of the next one
    sample: int  # likewise
    time_ns: int
    body: bytes
    offset: int
    end: int


class Item(NamedTuple):
    """A record as it lies in the outbox."""

    position: int
    sample: int  # samples before it
    samples: int
    context: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a process knew when it wrote an S or A frame."""

    boot_id: bytes  # 8 bytes
    boottime: float
    acked: int  # every position below is done with
    acked_sample: int
    dropped: Sequence[int]  # samples, in the order of POLICIES
    ranges: Sequence[tuple[int, int, int, int]] = ()  # done with beyond `acked`: `settled.Range`s

    def pack(self) -> bytes:
        head = _CHECKPOINT.pack(
            self.boot_id, self.boottime, self.acked, self.acked_sample, len(self.dropped), len(self.ranges)
        )
        ranges = b"".join(_RANGE.pack(*each) for each in self.ranges)
        return head + struct.pack(f"<{len(self.dropped)}Q", *self.dropped) + ranges

    @classmethod
    def unpack(cls, body: bytes) -> Checkpoint | None:
        """Read a checkpoint; None when the body is too short for what it says."""
        if len(body) < _CHECKPOINT.size:
            return None
        boot_id, boottime, acked, acked_sample, policies, ranges = _CHECKPOINT.unpack_from(body)
        offset = _CHECKPOINT.size
        if len(body) < offset + 8 * policies + _RANGE.size * ranges:
            return None
        dropped = struct.unpack_from(f"<{policies}Q", body, offset)
        offset += 8 * policies
        done = tuple(_RANGE.unpack_from(body, offset + _RANGE.size * i) for i in range(ranges))
        return cls(boot_id, boottime, acked, acked_sample, dropped, done)


def file_name(position: int, generation: int) -> str:
    """Name the file whose first record has this position."""
    return f"{position:016x}-{generation:08x}.seg"


def parse_name(name: str) -> tuple[int, int] | None:
    """Read (position, generation) off a file's name; None for files that are not ours."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    position, generation = int(match[1], 16), int(match[2], 16)
    return (position, generation) if position < _MAX_POSITION and generation < LATEST_EPOCH else None


def pack(kind: int, body: bytes, *, count: int, position: int, sample: int, time_ns: int) -> bytes:
    """Build a frame."""
    crc = zlib.crc32(body)
    header = _HEADER.pack(MAGIC, kind, VERSION, len(body), crc, count, position, sample, time_ns, 0)
    return header[:_CRC_OFFSET] + _KEY.pack(zlib.crc32(header[:_CRC_OFFSET])) + body


def pack_records(records: Sequence[tuple[int, int, bytes]]) -> bytes:
    """Build the body of a D frame from (context key, samples, bytes)."""
    heads = [_RECORD.pack(len(body), key, samples) for key, samples, body in records]
    return b"".join(heads) + b"".join([body for _, _, body in records])


def unpack_records(body: bytes, count: int) -> list[tuple[int, int, bytes]] | None:
    """Read the body of a D frame; None when lengths and count do not fit each other."""
    offset = _RECORD.size * count
    if offset > len(body):
        return None
    records = []
    for length, key, samples in _RECORD.iter_unpack(body[:offset]):
        records.append((key, samples, body[offset : offset + length]))
        offset += length
    return records if offset == len(body) else None


def pack_context(key: int, value: bytes) -> bytes:
    """Build the body of a C frame."""
    return _KEY.pack(key) + value


def unpack_context(body: bytes) -> tuple[int, bytes] | None:
    """Read the body of a C frame."""
    return (_KEY.unpack_from(body)[0], body[4:]) if len(body) >= 4 else None


def scan(
    read: Callable[[int, int], bytes], size: int, start: int = 0, chunk: int = 1 << 16
) -> Iterator[Frame]:
    """Yield every intact frame of a file of `size` bytes; `read(offset, length)` may return less at its end.

    After a damaged header the next magic is looked for. A damaged body costs its own frame only: the header
    has a checksum of its own, so its length can be trusted, and nothing inside a body is taken for a frame.
    """
    base, buffer, offset = start, b"", start
    while offset + HEADER_BYTES <= size:
        if offset + HEADER_BYTES > base + len(buffer):
            base, buffer = offset, read(offset, min(chunk, size - offset))
            if len(buffer) < HEADER_BYTES:
                return
        header = _header(buffer, offset - base)
        if header is None:
            found = buffer.find(MAGIC, offset - base + 1)
            # the last byte of the buffer may be the first of a magic
            offset = base + (found if found >= 0 else max(len(buffer) - 1, offset - base + 1))
            continue
        end = offset + HEADER_BYTES + header[1]
        if end > size:
            return  # a torn tail
        if end > base + len(buffer):
            base, buffer = offset, read(offset, max(end - offset, min(chunk, size - offset)))
            if end > base + len(buffer):
                return
        kind, _, crc, count, position, sample, time_ns = header
        body = buffer[offset + HEADER_BYTES - base : end - base]
        if zlib.crc32(body) == crc:
            yield Frame(kind, count, position, sample, time_ns, body, offset, end)
        offset = end


def _header(buffer: bytes, offset: int) -> tuple[int, int, int, int, int, int, int] | None:
    """Read (kind, length, crc, count, position, sample, time) at `offset`, or None if no header is there."""
    magic, kind, version, length, crc, count, position, sample, time_ns, check = _HEADER.unpack_from(
        buffer, offset
    )
    if magic != MAGIC or check != zlib.crc32(buffer[offset : offset + _CRC_OFFSET]):
        return None
    if version != VERSION or position >= _MAX_POSITION or sample >= _MAX_POSITION:
        return None
    return kind, length, crc, count, position, sample, time_ns
