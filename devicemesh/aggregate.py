"""The face of the C core: series in, records and the last values out.

Every row pushed is *read*; each ends in exactly one of: a record taken (then published, or dropped by the
sink under a policy), or `dropped` under one of the policies below, or it is still pending in a window.
`read == taken + sum(dropped.values()) + pending` holds at every moment.
"""

from __future__ import annotations

import base64
import enum
import functools
import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from devicemesh._core import _native
from devicemesh._core.tagged import NO_VALUE, Tag, finite, tagged
from devicemesh.mapper import Batch, Quality
from devicemesh.spec.statistics import COMMON, STATISTICS, percent_of
from devicemesh.spec.values import ValueType

POLICIES = (
    "deadband",  # change: within the deadband of the value reported last
    "none",  # report: none
    "bad",  # no value, and no news: the same quality as reported last, or a window's row
    "late",  # window: it is closed
    "future",  # window: more than an hour ahead of the newest `advance`
    "nonfinite",  # as bad, for NaN and infinities
    "inexact",  # window: an integer beyond 2^53, or a text
    "overflow",  # more than max_pending_bytes wait to be taken
    "undefined",  # no such series
    "rate",  # change: too soon after another; the newest is reported once the interval is over
)
MASK = STATISTICS[1:]  # bits of a window's statistics; count is always there


class Report(enum.IntEnum):
    """What leaves of a series."""

    NONE = 0  # the twin only; every row is dropped{policy="none"}
    EVERY = 1
    CHANGE = 2
    WINDOW = 3


class Kind(enum.IntEnum):
    """How a series' values are printed."""

    FLOAT = 0  # 5.0
    INTEGER = 1  # 5
    BOOLEAN = 2  # true
    OBJECT = 3  # text, bytes (base64), structures
    FLOAT32 = (
        4  # a float64 that came from a float32: as short as a float32 allows, 0.1 and not 0.10000000149011612
    )


def kind(type_: ValueType) -> Kind:
    """How values of a type are printed."""
    if type_ == ValueType.BOOL:
        return Kind.BOOLEAN
    if type_.is_integer:
        return Kind.INTEGER
    if type_ in (ValueType.FLOAT16, ValueType.FLOAT32):
        return Kind.FLOAT32
    return Kind.FLOAT if type_.is_float else Kind.OBJECT


@dataclass(frozen=True, slots=True)
class Limit:
    """An alarm: raised beyond `limit`, cleared beyond `clear` on the other side."""

    name: str
    above: bool
    limit: float
    clear: float
    severity: str
    delay_ns: int = 0  # raised once the value was beyond for so long


@dataclass(frozen=True, slots=True)
class Series:
    """How the rows of one slot are treated."""

    slot: int
    stream: int  # dense id of the device
    name: str  # the property
    kind: Kind = Kind.FLOAT
    report: Report = Report.EVERY
    deadband: float = 0.0
    deadband_percent: float = 0.0
    heartbeat_ns: int = 0  # change: by rows, and with `advance` where none come; counted as read again
    min_interval_ns: int = 0  # change: of numbers and booleans; what changes in it is reported by `advance`
    window_ns: int = 0
    lateness_ns: int = 0
    statistics: Sequence[str] = COMMON
    limits: Sequence[Limit] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """What one stream has to publish: readings and closed windows, in the core's own form."""

    stream: int
    seq: int  # gapless per stream, from 0 at each epoch
    samples: int  # rows that it stands for
    body: bytes  # self-contained but for the property names: see `encode_json`


@dataclass(frozen=True, slots=True)
class Reading:
    """The last value of a series."""

    time_ns: int
    value: Any
    quality: Quality


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The last rows of some slots, as equal-length columns."""

    qualities: bytes  # one of each; PENDING before the first row
    newest_ns: int  # of the rows that are not bad; 0 when there is none
    readings: list[bytes]  # JSON: {"value":1.5,"time":"2026-11-21T04:28:05.123Z","quality":"Good"}


@dataclass(frozen=True, slots=True)
class AlarmEvent:
    slot: int
    alarm: str
    active: bool
    severity: str
    time_ns: int
    value: float


encode_json = _native.encode_json
"""One telemetry payload of a record's body and its stream's names: see docs/mqtt.md.

Floats are shortest round-trip, NaN and Inf are null. Raises ValueError for bytes that are no record, and for
a property that has no name."""

encode_sparkplug = _native.encode_sparkplug
"""A record's body as the data of a Sparkplug payload, or None: see `devicemesh.sink.sparkplug.table`."""


@functools.lru_cache(4096)
def _appended(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    """One more; the streams of one model share the tuple."""
    return (*names, name)


class Aggregator:
    """All series of one runtime.

    Event time is judged per stream. A window closes when the newest value of its stream, or for a silent
    stream the clock (`advance`), is past its end by the series' lateness; rows of one batch never make
    each other late. Each (series, window) is published at most once. A timestamp more than an hour ahead
    of the newest `advance` moves no clock. The values of a device whose own clock is behind ours by more
    than a second are judged by that clock. Call `advance` before the first `push`, and then often: where it
    goes back by more than a second our clock was set, open windows close as they are, and rows count as new
    again; only those for windows that are published are late.
    """

    def __init__(self, epoch: int, *, max_pending_bytes: int = 64 << 20) -> None:
        """`epoch` is that of the sink (32 bits).

        When `max_pending_bytes` of records and open windows wait for `take`, further rows are
        dropped{policy="overflow"}: a change is then reported as soon as there is room.
        """
        self._core = _native.Aggregator(epoch, max_pending_bytes)
        self._names: list[tuple[str, ...]] = []  # by stream
        self._limits: dict[int, Sequence[Limit]] = {}  # by slot, of those that have any
        self._objects: dict[int, Any] = {}  # by slot, of those whose last value is one
        self._events: list[AlarmEvent] = []

    def begin(self, epoch: int) -> None:
        """Streams that come from now on have this epoch (32 bits); those that exist keep theirs."""
        self._core.begin(epoch)

    def define(self, series: Series) -> None:
        """Add a series, or change how it is treated (its open windows close first).

        An alarm goes on under its name; one that is gone is cleared, its value NaN. Raises ValueError.
        """
        names = self.names(series.stream)
        index = names.index(series.name) if series.name in names else len(names)
        known = index < len(names)
        taken = self._core.slot_at(series.stream, index) if known else None
        if taken not in (None, series.slot):
            raise ValueError(f"{series.name!r} of stream {series.stream} already has slot {taken}")
        quantiles = {int(1000 * percent_of(name)) for name in series.statistics if name not in STATISTICS}
        carried = {limit.name: at for at, limit in enumerate(self._limits.get(series.slot, ()))}
        self._drain()
        self._core.define(
            series.slot,
            series.stream,
            index,
            series.kind,
            series.report,
            sum(1 << bit for bit, name in enumerate(MASK) if name in series.statistics),
            sorted(quantiles),
            series.deadband,
            series.deadband_percent / 100,
            series.heartbeat_ns,
            series.min_interval_ns,
            series.window_ns,
            series.lateness_ns,
            [
                (limit.above, limit.limit, limit.clear, limit.delay_ns, carried.get(limit.name, -1))
                for limit in series.limits
            ],
        )
        self._drain()
        if not known:
            self._names.extend([()] * (series.stream + 1 - len(self._names)))
            self._names[series.stream] = _appended(names, series.name)
        self._limits.pop(series.slot, None)
        if series.limits:
            self._limits[series.slot] = series.limits

    def remove(self, slot: int) -> None:
        """Close the series' windows into its stream's record and forget it; its active alarms are cleared."""
        self._drain()
        if self._core.remove(slot):
            self._drain()
            self._limits.pop(slot, None)
            self._objects.pop(slot, None)

    def forget(self, stream: int) -> None:
        """The stream is gone: its series are removed, its records taken. Its number is not used again."""
        if self.names(stream):
            self._names[stream] = ()

    def names(self, stream: int) -> tuple[str, ...]:
        """The property names that the stream's record bodies refer to by index. A later one begins so."""
        return self._names[stream] if 0 <= stream < len(self._names) else ()

    def push(self, batch: Batch) -> None:
        """Take rows. A row of an undefined slot is dropped{policy="undefined"}.

        Raises ValueError or TypeError, and then takes nothing, where the columns do not fit each other.
        """
        if not isinstance(batch.value, list | tuple):
            self._core.push(batch.slot, batch.time_ns, batch.value, batch.quality)
            return
        rows = len(batch.slot)
        if len(batch.value) != rows:
            raise ValueError(f"value: {len(batch.value)} rows where there are {rows} slots")
        times, qualities = _column(batch.time_ns, rows), _column(batch.quality, rows)
        for slot, time_ns, quality, value in zip(batch.slot, times, qualities, batch.value, strict=True):
            row = NO_VALUE if quality >= Quality.BAD else tagged(value)
            if row is None:
                self._core.row(slot, time_ns, Quality.UNDECODABLE, *NO_VALUE)
            elif self._core.row(slot, time_ns, quality, *row) and row[0] >= Tag.STRING:
                self._objects[slot] = bytes(value) if row[0] == Tag.BYTES else value
        self._core.settle()

    def advance(self, now_ns: int) -> None:
        """Close the windows that the clock says are over (plus their lateness), for silent sources."""
        self._core.advance(now_ns)

    def take(self) -> list[Record]:
        """Records of every stream that has something to publish, in the order it became ready."""
        return [Record(*record) for record in self._core.take()]

    def flush(self) -> None:
        """Close every open window, partial as it is (before a stop)."""
        self._core.flush()

    def latest(self, slot: int) -> Reading:
        """The last row of the slot, good or bad; PENDING before the first. Raises KeyError.

        Values go by their time. A bad row counts on arrival, and so does the value after it: the clocks of
        a device and of its link may differ.
        """
        row = self._core.latest(slot)
        if row is None:
            return Reading(0, None, Quality.PENDING)
        time_ns, value, quality, is_text = row
        return Reading(time_ns, self._objects[slot] if is_text else value, _quality(quality))

    def count(self, slot: int) -> int:
        """Rows pushed for the slot since it was defined."""
        return self._core.rows(slot)

    def snapshot(self, slots: array[int]) -> Snapshot:
        """The last rows of many slots ('I'), ready for a twin: no Python per value but for texts."""
        qualities, newest_ns, readings = self._core.snapshot(slots)
        filled = [text or self._text(slot) for slot, text in zip(slots, readings, strict=True)]
        return Snapshot(qualities, newest_ns, filled)

    def _text(self, slot: int) -> bytes:
        time_ns, _, quality, _ = self._core.latest(slot) or (0, None, Quality.PENDING, True)
        value = self._objects[slot]
        shown = base64.b64encode(value).decode() if isinstance(value, bytes) else finite(value)
        reading = {"value": shown, "time": _milliseconds(time_ns), "quality": _quality(quality).word}
        return json.dumps(reading, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")

    def alarms(self) -> list[AlarmEvent]:
        """Alarms raised or cleared since the last call."""
        self._drain()
        events, self._events = self._events, []
        return events

    def _drain(self) -> None:
        for slot, limit, active, time_ns, number in self._core.alarms():
            alarm = self._limits[slot][limit]
            self._events.append(AlarmEvent(slot, alarm.name, active, alarm.severity, time_ns, number))

    @property
    def read(self) -> int:
        """Rows pushed."""
        return self._core.counts()[0]

    @property
    def taken(self) -> int:
        """Rows that left in a record."""
        return self._core.counts()[1]

    @property
    def pending(self) -> int:
        """Rows in open windows, or in records not taken yet."""
        return self._core.counts()[2]

    @property
    def dropped(self) -> Mapping[str, int]:
        """Rows by policy: see POLICIES."""
        return dict(zip(POLICIES, self._core.counts()[3], strict=True))

    @property
    def bad(self) -> Mapping[Quality, int]:
        """Rows pushed with a quality below Good, by quality."""
        found: dict[Quality, int] = {}
        for code, count in self._core.counts()[4].items():
            if code >= Quality.UNCERTAIN:
                quality = _quality(code)
                found[quality] = found.get(quality, 0) + count
        return found

    @property
    def pending_bytes(self) -> int:
        """Bytes of open windows, and of records not taken yet."""
        return self._core.pending_bytes


def _column(column: int | Sequence[int], rows: int) -> Sequence[int]:
    if isinstance(column, int):
        return [column] * rows
    if len(column) != rows:
        raise ValueError(f"a column of {len(column)} rows where there are {rows} slots")
    return column


def _milliseconds(time_ns: int) -> str:
    """RFC 3339 to the millisecond, as the core writes it: without trailing zeros."""
    second, rest = divmod(time_ns, 10**9)
    fraction = f".{rest // 10**6:03}".rstrip("0.")
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"


def _quality(code: int) -> Quality:
    """The quality of a code; of one that we have no word for, its severity."""
    try:
        return Quality(code)
    except ValueError:
        return (Quality.GOOD, Quality.UNCERTAIN, Quality.BAD, Quality.BAD)[code >> 6]
