"""The C core; `reference` is its readable twin."""

from array import array
from collections.abc import Sequence
from typing import final

from typing_extensions import Buffer

@final
class Plan:
    """A compiled decode plan.

    An op is (offset, size, type, order, shift, width, scaled, scale, add, has_null, null); see decode.h.
    """

    def __new__(
        cls,
        ops: Sequence[tuple[int, int, int, int, int, int, bool, float, float, bool, int]],
        integers: bool = False,
    ) -> Plan: ...
    def decode(self, record: Buffer, /) -> tuple[array[float] | array[int], int | array[int]]:
        """Return (values, quality): quality is 0, or a column where not every value is there."""

    @property
    def reach(self) -> int:
        """Bytes that a record needs to hold every value."""

@final
class Aggregator:
    """All series of one runtime; see aggregate.h. A stream is a device, a property an index in its names."""

    def __new__(cls, epoch: int, max_pending_bytes: int) -> Aggregator: ...
    def begin(self, epoch: int, /) -> None:
        """Streams that come from now on have this epoch."""

    def define(
        self,
        slot: int,
        stream: int,
        property_index: int,
        kind: int,
        report: int,
        mask: int,
        quantiles: Sequence[int],
        absolute: float,
        fraction: float,
        silence_ns: int,
        pause_ns: int,
        window_ns: int,
        lateness_ns: int,
        limits: Sequence[tuple[bool, float, float, int, int]],
        /,
    ) -> None:
        """Define a slot, or change its rules.

        A quantile is in thousandths of a percent. A limit is (above, limit, clear, delay_ns,
        index of the old limit that it carries on, or -1). Raises ValueError.
        """

    def slot_at(self, stream: int, property_index: int, /) -> int | None:
        """The slot of a stream's property, or None."""

    def remove(self, slot: int, /) -> bool:
        """Close a slot's windows and forget it; False if there is none."""

    def push(
        self, slot: Buffer, time_ns: int | Buffer, value: Buffer | Sequence[object], quality: int | Buffer, /
    ) -> None:
        """Take a batch of numbers. Raises TypeError or ValueError for columns that do not fit: then none."""

    def row(
        self, slot: int, time_ns: int, quality: int, tag: int, value: float | Buffer | None, number: float, /
    ) -> bool:
        """Take one row of a batch (tags: value.h); True if it is the slot's latest now."""

    def settle(self) -> None:
        """Close what the rows since the last settle ended."""

    def advance(self, now_ns: int, /) -> None:
        """Close the windows that the clock ends."""

    def flush(self) -> None:
        """Close every open window."""

    def take(self) -> list[tuple[int, int, int, bytes]]:
        """The records that wait, as (stream, seq, samples, body)."""

    def snapshot(self, slots: Buffer, /) -> tuple[bytes, int, list[bytes | None]]:
        """(a byte of quality each, newest good time or 0, JSON of each or None of a text)."""

    def rows(self, slot: int, /) -> int:
        """Rows pushed for a slot since it was defined; 0 for an undefined one."""

    def latest(self, slot: int, /) -> tuple[int, float | None, int, bool] | None:
        """(time_ns, value, quality, is_text) of a slot, or None before its first row. Raises KeyError."""

    def alarms(self) -> list[tuple[int, int, bool, int, float]]:
        """Events since the last call, as (slot, limit, active, time_ns, number)."""

    def counts(self) -> tuple[int, int, int, tuple[int, ...], dict[int, int]]:
        """(read, taken, pending, dropped by policy, {quality: rows})."""

    @property
    def pending_bytes(self) -> int:
        """Bytes of records and open windows."""

@final
class Column:
    """A column of results, in the buffer protocol: formats B, I, q, d."""

    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class WindowEngine:
    """The window engine; see windows/engine.h."""

    def __new__(
        cls,
        sessions: bool,
        length: int,
        hop: int,
        offset: int,
        gap: int,
        lateness_ns: int,
        max_future_ns: int,
        idle_ns: int,
        max_bytes: int,
        /,
    ) -> WindowEngine: ...
    def profile(
        self,
        statistics: int,
        sloped: bool,
        uncertain_as_bad: bool,
        reports: bool,
        deadband: float,
        fraction: float,
        min_interval_ns: int,
        heartbeat_ns: int,
        missing_ns: int,
        percent_good: float,
        percent_bad: float,
        alarms: tuple[tuple[bool, float, float, int], ...],
        quantiles: tuple[float, ...],
        relative_error: float,
        max_bins: int,
        /,
    ) -> int:
        """Add a profile, whose ranges were checked; returns its number."""

    def define(self, first: int, count: int, profile: int, source: int, /) -> None:
        """Define series. Raises ValueError or MemoryError: then none."""

    def ingest(
        self, series: Buffer, time_ns: Buffer, value: Buffer, quality: Buffer | None = None, /
    ) -> tuple[int, ...]:
        """Take rows; returns how many were counted as what. Raises TypeError or ValueError: then none."""

    def ingest_array(self, series: int, t0_ns: int, dt_ns: int, values: Buffer, /) -> tuple[int, ...]:
        """Take samples at equal distances; as `ingest`."""

    def add(self, series: int, time_ns: int, value: float, quality: int = 0, /) -> None:
        """Take one row. Raises ValueError."""

    def advance(self, now_ns: int, /) -> None:
        """Tell the time."""

    def flush(self) -> None:
        """Close every window."""

    def state(self) -> bytes:
        """All but the definitions."""

    def restore(self, state: Buffer, /) -> None:
        """Go on from the state of an engine that was defined alike. Raises ValueError: it is then unusable."""

    def take(self, output: int, /) -> list[tuple[str, Column]]:
        """What came out since the last call: 0 windows, 1 reports, 2 events."""

    def counts(self) -> tuple[int, ...]:
        """Rows by what became of them."""

    @property
    def memory_bytes(self) -> int:
        """Bytes in use of max_bytes."""

    @property
    def unsketched(self) -> int:
        """Values that found no memory in their window's quantiles."""

def encode_sparkplug(
    body: Buffer,
    metrics: Buffer,
    names: tuple[bytes, ...] | None,
    first_alias: int,
    late: bool,
    now_ms: int,
    /,
) -> bytes | None:
    """A record's body as a Sparkplug payload without a sequence number; see sparkplug.h for `metrics`.

    None where a metric is missing, a value is of another type, or the bytes are no record.
    """

def encode_json(body: Buffer, names: Sequence[str], /) -> bytes:
    """A record's body as a JSON payload. Raises ValueError."""

@final
class Sketch:
    """A quantile sketch with a relative error; see windows/sketch.h.

    Raises ValueError for a relative_error outside 0.0001 to 0.5, or max_bins outside 64 to 1048576.
    """

    def __new__(cls, relative_error: float = 0.01, max_bins: int = 2048) -> Sketch: ...
    def add(self, value: float, /) -> None:
        """Take a finite value. Raises ValueError for others."""

    def update(self, values: Buffer, /) -> None:
        """Take a column of float64; NaN and infinities in it are skipped."""

    def merge(self, other: Sketch, /) -> None:
        """Take all that another sketch of the same rule holds. Raises ValueError for another rule."""

    def quantile(self, q: float, /) -> float:
        """The value of rank floor(q * (count - 1)), counted from 0; NaN if the sketch is empty."""

    def to_bytes(self) -> bytes:
        """What it holds; equal bytes for equal content."""

    def read(self, data: Buffer, /) -> None:
        """Hold what was written under the same rule instead. Raises ValueError: then it is as it was."""

    @property
    def count(self) -> int:
        """Values taken."""

    @property
    def collapsed(self) -> int:
        """Values nearest zero for which the relative error is not kept."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""

def fold_dense(
    values: Buffer, /
) -> tuple[int, int, float, float, float, float, float, float, float, float, int, int, int, int]:
    """One pass over float64, float32 or int16: the fields of `struct dense`, in order; see windows/dense.h."""

_Columns = Sequence[tuple[str, int, Buffer | tuple[str, ...] | tuple[Buffer, tuple[str, ...]]]]

def encode_json_objects(columns: _Columns, rows: int, /) -> bytes:
    """One JSON object a line; a column is (name, type, values), see glue_rows.c. Raises TypeError, ValueError."""

def encode_json_arrays(columns: _Columns, rows: int, /) -> bytes:
    """One JSON object of arrays: the columns' names, and the rows. Raises TypeError, ValueError."""

def encode_line(columns: _Columns, rows: int, measurement: str, stamp: int, /) -> bytes:
    """InfluxDB line protocol; `stamp` is the number of a column of times. Raises TypeError, ValueError."""
