"""Windows over high-rate streams: rows in as columns; closed windows, reports and events out as columns.

Every row is counted once, under one name of `Counts`. Rows are judged one by one in their order, so it does
not matter how they are cut into batches. Event time rules: a window closes when the newest row of its source,
or the clock (`advance`), is past its end by the lateness. Each (series, window) leaves once. What each
statistic means, and every limit of its exactness, is in docs/aggregation.md; `_core.reference_windows` states
it in code.
"""

from __future__ import annotations

import json
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, Self

from devicemesh._core import _native
from devicemesh._core.merging import NEEDS, merged
from devicemesh._core.window_rules import (
    BASIC,
    PART_13,
    STATISTICS,
    Alarm,
    Hopping,
    Profile,
    Session,
    Tumbling,
    engine_arguments,
    profile_arguments,
)

__all__ = [
    "BASIC",
    "PART_13",
    "REASONS",
    "STATISTICS",
    "Alarm",
    "Columns",
    "Counts",
    "Hopping",
    "Profile",
    "Session",
    "Tumbling",
    "WindowAggregator",
    "merge",
]
REASONS = ("first", "change", "heartbeat", "held")
"""Why a report was made: `held` is a change that waited for `min_interval_ns`."""


def merge(columns: Mapping[str, Any], windows: Tumbling) -> Columns:
    """Emitted windows as those of a coarser grid: to thin a backlog.

    Statuses become the worst of them, quantiles NaN, and a percentage that of the windows there are. Raises
    ValueError where a window does not lie in one of the coarser, or what a statistic needs is not there
    (`std` needs `mean` and `count`: see `merging.NEEDS`).
    """
    for name in columns:
        for needed in NEEDS.get(name, ()):
            if needed not in columns:
                raise ValueError(f"columns: {name} cannot be merged without {needed}")
    groups: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for values in zip(*(memoryview(column).tolist() for column in columns.values()), strict=True):
        row = dict(zip(columns, values, strict=True))
        start = row["start"] - (row["start"] - windows.offset) % windows.length
        if row["end"] > start + windows.length:
            raise ValueError(f"windows: one from {row['start']} to {row['end']} ns lies in more than one")
        groups.setdefault((start, row["series"]), []).append(row)
    out: dict[str, array[Any]] = {name: array(memoryview(column).format) for name, column in columns.items()}
    for (start, series), rows in sorted(groups.items()):
        rows.sort(key=lambda row: int(row["start"]))
        keys = {"series": series, "start": start, "end": start + windows.length}
        for name, column in out.items():
            column.append(keys[name] if name in keys else merged(name, rows, windows.length))
    return Columns(list(out.items()))


_GRIDS: Mapping[str, Callable[..., Tumbling | Hopping | Session]] = {
    "Tumbling": Tumbling,
    "Hopping": Hopping,
    "Session": Session,
}
_MAGIC = b"DMwindo1"


class Counts(NamedTuple):
    """Rows by what became of them: each is in exactly one."""

    counted: int
    late: int  # all windows that it belongs to are closed
    duplicate: int  # of the same time as its series' newest: its value is the last, nothing else
    future: int  # later than the clock by more than max_future_ns: it moves nothing
    bad: int  # no value, by its quality
    nonfinite: int  # no value: NaN or an infinity
    inexact: int  # no value: an integer beyond 2^53
    overflow: int  # no memory for its window within max_bytes
    evicted: int  # its window found no memory to leave within max_bytes
    undeclared: int  # its buffer was changed while it was read


class Columns(Mapping[str, memoryview]):
    """Equal-length named columns, each a memoryview (formats I, q, d, B) that numpy takes uncopied."""

    def __init__(self, columns: Sequence[tuple[str, Any]]) -> None:
        self._columns = {name: memoryview(column) for name, column in columns}

    def __getitem__(self, name: str) -> memoryview:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    @property
    def rows(self) -> int:
        """Rows of each column."""
        return len(next(iter(self._columns.values()), ()))

    def __repr__(self) -> str:
        return f"Columns({self.rows} rows: {', '.join(self)})"


class WindowAggregator:
    """Aggregates series, numbered densely from 0, on one grid of windows."""

    def __init__(
        self,
        windows: Tumbling | Hopping | Session,
        *,
        lateness_ns: int = 0,
        max_future_ns: int | None = None,
        idle_ns: int = 0,
        max_bytes: int = 1 << 30,
    ) -> None:
        """Rows may come `lateness_ns` after a newer one of their source.

        A row later than the newest `advance` by more than `max_future_ns` is refused. `advance` closes the
        windows of sources from which nothing came for `idle_ns` of its clock. Raises ValueError naming the
        argument.
        """
        self._windows = windows
        self._core = _native.WindowEngine(
            *engine_arguments(
                windows,
                lateness_ns=lateness_ns,
                max_future_ns=max_future_ns,
                idle_ns=idle_ns,
                max_bytes=max_bytes,
            )
        )
        self._options = {
            "lateness_ns": lateness_ns,
            "max_future_ns": max_future_ns,
            "idle_ns": idle_ns,
            "max_bytes": max_bytes,
        }
        self._profiles: list[Profile] = []
        self._defined: list[tuple[int, int, int, int]] = []
        self.add = self._core.add
        """add(series, time_ns, value, quality=0): take one row; as `ingest`, without the counts."""

    def profile(self, profile: Profile) -> int:
        """Add a profile; returns its number for `define`. Raises ValueError naming the argument."""
        if profile.interpolation == "sloped" and not isinstance(self._windows, Tumbling):
            raise ValueError("interpolation: sloped is for tumbling windows only")
        number = self._core.profile(*profile_arguments(profile))
        self._profiles.append(profile)
        return number

    def define(self, series: int | range, profile: int, source: int = 0) -> None:
        """Declare one series or a range of them; series of a source share a watermark.

        Raises ValueError for one that is defined already, MemoryError beyond max_bytes; then none is defined.
        """
        if isinstance(series, range):
            if series.step != 1:
                raise ValueError("series: the range's step is not 1")
            first, count = series.start, len(series)
        else:
            first, count = series, 1
        self._core.define(first, count, profile, source)
        self._defined.append((first, count, profile, source))

    def ingest(self, series: Any, time_ns: Any, value: Any, quality: Any = None) -> Counts:
        """Take rows: equal-length buffers of uint32, int64, float64 or int64, and uint8 (None: all Good).

        Raises TypeError or ValueError naming the argument, and has then taken nothing.
        """
        return Counts(*self._core.ingest(series, time_ns, value, quality))

    def ingest_array(self, series: int, t0_ns: int, dt_ns: int, values: Any) -> Counts:
        """Take samples of one series, all Good, at t0_ns, t0_ns + dt_ns, ...: float64, float32 or int16.

        It is what ingesting them as rows would do, but for the rounding of sums. Raises TypeError or
        ValueError naming the argument, and has then taken nothing.
        """
        return Counts(*self._core.ingest_array(series, t0_ns, dt_ns, values))

    def advance(self, now_ns: int) -> None:
        """Tell the time; it never goes back. What no row has closed closes at `now_ns` - lateness_ns."""
        self._core.advance(now_ns)

    def flush(self) -> None:
        """Close every window, partial as it is; rows that belong there are late from now on."""
        self._core.flush()

    def windows(self) -> Columns:
        """The windows closed since the last call: series, start, end, and the statistics asked for.

        A series whose profile did not ask for a statistic has NaN there, or -1 (255 in columns of bytes).
        A window without a row does not appear.
        """
        return Columns(self._core.take(0))

    def reports(self) -> Columns:
        """Reports by exception since the last call: series, time_ns, value, reason (index in REASONS)."""
        return Columns(self._core.take(1))

    def events(self) -> Columns:
        """Alarms and missing data since the last call: series, time_ns, kind (0 alarm, 1 missing data), alarm
        (index in the profile's), active, value (NaN for missing data)."""
        return Columns(self._core.take(2))

    def snapshot(self) -> bytes:
        """All of it: open windows, what was not taken yet, the last values, the counts.

        For `restore` by the same release on the same kind of machine.
        """
        definitions = {
            "windows": [type(self._windows).__name__, asdict(self._windows)],
            "options": self._options,
            "profiles": [asdict(profile) for profile in self._profiles],
            "defined": self._defined,
        }
        head = json.dumps(definitions, separators=(",", ":")).encode()
        body = len(head).to_bytes(4, "little") + head + self._core.state()
        return _MAGIC + zlib.crc32(body).to_bytes(4, "little") + body

    @classmethod
    def restore(cls, snapshot: bytes) -> Self:
        """An aggregator that goes on where another's snapshot was taken.

        Raises ValueError for bytes that are no snapshot, are damaged, or of another release or machine.
        """
        body = snapshot[12:]
        if snapshot[:8] != _MAGIC:
            raise ValueError("snapshot: not one, or of another version")
        if len(body) < 4 or zlib.crc32(body) != int.from_bytes(snapshot[8:12], "little"):
            raise ValueError("snapshot: damaged")
        end = 4 + int.from_bytes(body[:4], "little")
        definitions = json.loads(body[4:end])
        kind, fields = definitions["windows"]
        made = cls(_GRIDS[kind](**fields), **definitions["options"])
        for profile in definitions["profiles"]:
            alarms = [Alarm(**alarm) for alarm in profile.pop("alarms")]
            made.profile(Profile(**profile, alarms=alarms))
        for first, count, profile, source in definitions["defined"]:
            made.define(range(first, first + count), profile, source)
        made._core.restore(body[end:])
        return made

    @property
    def counts(self) -> Counts:
        """All rows so far."""
        return Counts(*self._core.counts())

    @property
    def unsketched(self) -> int:
        """Values that are counted but found no memory, within max_bytes, in their window's quantiles."""
        return self._core.unsketched

    @property
    def memory_bytes(self) -> int:
        """Bytes in use, of max_bytes."""
        return self._core.memory_bytes
