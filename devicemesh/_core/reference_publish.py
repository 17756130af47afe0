"""The readable twin of the C core: streams, and what waits in them to be taken."""

from __future__ import annotations

from dataclasses import dataclass, field

from devicemesh._core import reference_record as record
from devicemesh._core.reference_record import Value
from devicemesh._core.reference_series import Series

DEADBAND, UNREPORTED, NO_VALUE, LATE, FUTURE, NONFINITE, INEXACT, OVERFLOW, UNDEFINED, RATE = range(10)
TIME_LIMIT = 4_500_000_000_000_000_000
RECORD_SOFT_MAX = 8192


@dataclass
class Stream:
    newest: int = -TIME_LIMIT
    watermark: int = -TIME_LIMIT
    lag: int = 0
    own_clock: bool = False
    pushed: bool = False
    seq: int = 0
    epoch: int = 0
    records: list[tuple[int, int, bytearray]] = field(default_factory=list)  # seq, samples, body
    row: int | None = None  # time of the row that the last record ends with
    in_row: set[int] = field(default_factory=set)  # properties in it
    members: list[int] = field(default_factory=list)  # slots of windowed series
    contact: bool = False  # a value came
    closed: dict[int, int] = field(default_factory=dict)  # property -> windows that end by it are closed,
    early: dict[int, tuple[int, int]] = field(default_factory=dict)  # and those of before a turn back
    recent: dict[int, tuple[int, int]] = field(default_factory=dict)  # those published since

    def turn_back(self) -> None:
        """Only windows that were published stay closed; of two stretches apart, the later ones."""
        for index, (first, last) in self.recent.items():
            low, high = self.early.get(index, (0, 0))
            touch = low < high and first <= high and last >= low
            self.early[index] = (min(first, low), max(last, high)) if touch else (first, last)
        self.watermark, self.closed, self.recent = -TIME_LIMIT, {}, {}


class Publisher:
    """Records out, and the account of what they hold."""

    def __init__(self, max_pending_bytes: int) -> None:
        self.max_pending_bytes = max_pending_bytes
        self.pending_bytes = 0
        self.streams: dict[int, Stream] = {}
        self.ready: list[int] = []
        self.taken = self.pending = 0
        self.dropped = [0] * 10

    def _has_room(self, more: int) -> bool:
        return self.pending_bytes + more <= self.max_pending_bytes

    def _publish(self, series: Series, time: int, quality: int, value: Value) -> bool:
        text = len(value.plain) if value.is_text else 0
        if not self._has_room(record.HEADER_BYTES + record.ROW_BYTES + record.READING_BYTES + text):
            self.dropped[OVERFLOW] += 1
            return False
        body = self._open_record(series.stream, 1)
        stream = self.streams[series.stream]
        if stream.row != time or series.property in stream.in_row:
            self._append(body, record.row(time))
            stream.row = time
            stream.in_row = set()
        stream.in_row.add(series.property)
        self._append(body, record.reading(series.property, quality, value))
        self.pending += 1
        return True

    def _open_record(self, stream_id: int, samples: int) -> bytearray:
        """The body of the stream's record under construction, after counting `samples` into it."""
        stream = self.streams[stream_id]
        if stream_id not in self.ready:
            self.ready.append(stream_id)
        if not stream.records or len(stream.records[-1][2]) >= RECORD_SOFT_MAX:
            stream.records.append((stream.seq, 0, bytearray()))
            self._append(stream.records[-1][2], record.header(stream.epoch, stream.seq))
            stream.seq += 1
            stream.row = None
        seq, before, body = stream.records[-1]
        stream.records[-1] = (seq, before + samples, body)
        return body

    def _append(self, body: bytearray, data: bytes) -> None:
        body += data
        self.pending_bytes += len(data)

    def take(self) -> list[tuple[int, int, int, bytes]]:
        records = [
            (stream_id, seq, samples, bytes(body))
            for stream_id in self.ready
            for seq, samples, body in self.streams[stream_id].records
        ]
        for stream_id in self.ready:
            self.streams[stream_id].records = []
        samples = sum(each[2] for each in records)
        self.taken += samples
        self.pending -= samples
        self.pending_bytes -= sum(len(each[3]) for each in records)
        self.ready = []
        return records
