"""Windows over high-rate streams: rows in as columns, closed windows, reports and events out as columns.

Every row is counted once, under one name of `Counts`. Rows are judged one by one in their order, so it does not
matter how they are cut into batches. Event time rules: a window closes when the newest row of its source, or
the clock (`advance`), is past its end by the lateness. Each (series, window) leaves once. What each statistic
means, and every limit of its exactness, is in docs/aggregation.md; `_core.reference_windows` states it in code.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from devicemesh._core import _native

STATISTICS = (
    "count",
    "sum",
    "mean",
    "min",
    "max",
    "range",
    "last",
    "last_time",
    "variance",
    "std",
    "variance_population",
    "std_population",
    "rms",
    "peak",
    "crest",
    "time_average",
    "total",
    "duration_good",
    "duration_bad",
    "percent_good",
    "percent_bad",
    "bad",
    "uncertain",
    "disordered",
    "status",
    "time_status",
    "first",
    "first_time",
    "min_time",
    "max_time",
    "delta",
    "duration_nonzero",
    "duration_zero",
    "transitions",
    "increase",
    "rate",
    "resets",
)
"""All that a window can tell of a series; those from `first` on cost more memory. Durations and times are in ns."""

PART_13: Mapping[str, str] = {
    "Average": "mean",
    "TimeAverage2": "time_average",
    "Total2": "total",
    "Minimum2": "min",
    "Maximum2": "max",
    "MinimumActualTime2": "min_time",
    "MaximumActualTime2": "max_time",
    "Range2": "range",
    "Count": "count",
    "DurationInStateZero": "duration_zero",
    "DurationInStateNonZero": "duration_nonzero",
    "NumberOfTransitions": "transitions",
    "Start": "first",
    "End": "last",
    "Delta": "delta",
    "DurationGood": "duration_good",
    "DurationBad": "duration_bad",
    "PercentGood": "percent_good",
    "PercentBad": "percent_bad",
    "StandardDeviationSample": "std",
    "VarianceSample": "variance",
    "StandardDeviationPopulation": "std_population",
    "VariancePopulation": "variance_population",
}
"""OPC UA Part 13 aggregate names and the statistic that is computed like them."""

BASIC = ("count", "mean", "min", "max", "std", "last")
REASONS = ("first", "change", "heartbeat", "held")
KINDS = ("gauge", "counter", "state")
_LONGEST = 1 << 60


@dataclass(frozen=True, slots=True)
class Tumbling:
    """Windows [offset + n * length, offset + (n + 1) * length), in ns since the epoch."""

    length: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Hopping:
    """A window of `length` starts every `hop` ns; the length is a multiple of the hop."""

    length: int
    hop: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Session:
    """A window of a series lasts while its rows are less than `gap` ns apart: [first row, last row + gap).

    It weighs by time from its first row to its last. A late row may join two.
    """

    gap: int


@dataclass(frozen=True, slots=True)
class Alarm:
    """Raised beyond `limit` for `delay_ns`, cleared beyond `clear` on the other side (default: the limit)."""

    name: str
    limit: float
    above: bool = True
    clear: float | None = None
    delay_ns: int = 0


@dataclass(frozen=True, slots=True)
class Profile:
    """How some series are treated.

    Reports by exception are made when a deadband or a heartbeat is given: of the first value, of a value further
    than the wider deadband from the one reported last, and of the next value once `heartbeat_ns` went by; never
    more often than every `min_interval_ns`.

    A quantile q is the value of rank floor(q * (count - 1)) in order: exact up to 15 values, else within
    `relative_error` (1e-4 to 0.5); its column is named like `p99.9`.
    """

    statistics: Sequence[str] = BASIC
    kind: Literal["gauge", "counter", "state"] = "gauge"
    interpolation: Literal["stepped", "sloped"] = "stepped"
    deadband: float | None = None
    deadband_percent: float | None = None
    min_interval_ns: int = 0
    heartbeat_ns: int = 0
    alarms: Sequence[Alarm] = ()
    missing_ns: int = 0
    quantiles: Sequence[float] = ()
    relative_error: float = 0.01
    max_bins: int = 2048
    percent_good: float = 100.0
    percent_bad: float = 100.0
    uncertain_as_bad: bool = True


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
    """Equal-length named columns, each a memoryview (formats I, q, d, B); numpy.asarray() takes them uncopied."""

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

        A row later than the newest `advance` by more than `max_future_ns` is refused. `advance` closes the windows
        of sources from which nothing came for `idle_ns` of its clock. Raises ValueError naming the argument.
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
        self._profiles: list[Profile] = []
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
            self._core.define(series.start, len(series), profile, source)
        else:
            self._core.define(series, 1, profile, source)

    def ingest(self, series: Any, time_ns: Any, value: Any, quality: Any = None) -> Counts:
        """Take rows: equal-length buffers of uint32, int64, float64 or int64, and uint8 (None: all Good).

        Raises TypeError or ValueError naming the argument, and has then taken nothing.
        """
        return Counts(*self._core.ingest(series, time_ns, value, quality))

    def ingest_array(self, series: int, t0_ns: int, dt_ns: int, values: Any) -> Counts:
        """Take samples of one series, Good all, at t0_ns, t0_ns + dt_ns, ...: a buffer of float64, float32 or int16.

        It is what ingesting them as rows would do, but for the rounding of sums. Raises TypeError or ValueError
        naming the argument, and has then taken nothing.
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

        A series whose profile did not ask for a statistic has NaN there, or -1. A window without a row does
        not appear.
        """
        return Columns(self._core.take(0))

    def reports(self) -> Columns:
        """Reports by exception since the last call: series, time_ns, value, reason (index in REASONS)."""
        return Columns(self._core.take(1))

    def events(self) -> Columns:
        """Alarms and missing data since the last call: series, time_ns, kind (0 alarm, 1 missing data), alarm
        (index in the profile's), active, value (NaN for missing data)."""
        return Columns(self._core.take(2))

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


def engine_arguments(
    windows: Tumbling | Hopping | Session,
    *,
    lateness_ns: int = 0,
    max_future_ns: int | None = None,
    idle_ns: int = 0,
    max_bytes: int = 1 << 30,
) -> tuple[Any, ...]:
    """What the core is made from. Raises ValueError or TypeError naming the argument."""
    if max_future_ns is not None and max_future_ns < 0:
        raise ValueError("max_future_ns is negative")
    return (
        *_grid(windows),
        _whole("lateness_ns", lateness_ns),
        -1 if max_future_ns is None else _whole("max_future_ns", max_future_ns),
        _whole("idle_ns", idle_ns),
        max_bytes,
    )


def _grid(windows: Tumbling | Hopping | Session) -> tuple[bool, int, int, int, int]:
    """Whether they are sessions, length, hop, offset, gap."""
    if isinstance(windows, Session):
        return True, 0, 0, 0, _whole("gap", windows.gap)
    hop = _whole("hop", windows.hop if isinstance(windows, Hopping) else windows.length)
    offset = _whole("offset", windows.offset)
    return False, _whole("length", windows.length), hop, offset % hop if hop > 0 else 0, 0


def profile_arguments(profile: Profile) -> tuple[Any, ...]:
    """A profile as the core takes it. Raises ValueError or TypeError naming the argument."""
    _check(profile)
    return (
        sum(1 << STATISTICS.index(name) for name in {*profile.statistics}),
        KINDS.index(profile.kind),
        profile.interpolation == "sloped",
        profile.uncertain_as_bad,
        _reports(profile),
        math.inf if _heartbeat_only(profile) else float(profile.deadband or 0.0),
        (profile.deadband_percent or 0.0) / 100,
        profile.min_interval_ns,
        profile.heartbeat_ns,
        profile.missing_ns,
        float(profile.percent_good),
        float(profile.percent_bad),
        tuple(
            (alarm.above, alarm.limit, alarm.limit if alarm.clear is None else alarm.clear, alarm.delay_ns)
            for alarm in profile.alarms
        ),
        tuple(float(quantile) for quantile in profile.quantiles),
        float(profile.relative_error),
        profile.max_bins,
    )


def _whole(name: str, value: int) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{name}: {value!r} is not an int")
    if not -_LONGEST <= value <= _LONGEST:
        raise ValueError(f"{name} is out of range")
    return value


def _heartbeat_only(profile: Profile) -> bool:
    return profile.deadband is None and profile.deadband_percent is None


def _reports(profile: Profile) -> bool:
    return not _heartbeat_only(profile) or profile.heartbeat_ns > 0


def _check(profile: Profile) -> None:
    for name in profile.statistics:
        if name not in STATISTICS:
            raise ValueError(f"statistics: {name!r} is unknown")
    for name in ("min_interval_ns", "heartbeat_ns", "missing_ns"):
        if _whole(name, getattr(profile, name)) < 0:
            raise ValueError(f"{name} is negative")
    for name in ("deadband", "deadband_percent"):
        number = getattr(profile, name)
        if number is not None and not (math.isfinite(number) and number >= 0):
            raise ValueError(f"{name} is not a finite number from 0")
    for name in ("percent_good", "percent_bad"):
        if not 0 <= getattr(profile, name) <= 100:
            raise ValueError(f"{name} is not within 0 and 100")
    for quantile in profile.quantiles:
        if not 0 <= quantile <= 1:
            raise ValueError(f"quantiles: {quantile!r} is not within 0 and 1")
    if profile.kind not in KINDS:
        raise ValueError(f"kind: {profile.kind!r} is none of {', '.join(KINDS)}")
    if profile.interpolation not in ("stepped", "sloped"):
        raise ValueError(f"interpolation: {profile.interpolation!r} is neither stepped nor sloped")
    for alarm in profile.alarms:
        clear = alarm.limit if alarm.clear is None else alarm.clear
        if not (math.isfinite(alarm.limit) and math.isfinite(clear)):
            raise ValueError(f"alarms: the limits of {alarm.name!r} are not finite")
        if clear > alarm.limit if alarm.above else clear < alarm.limit:
            raise ValueError(f"alarms: {alarm.name!r} clears beyond its limit")
        if _whole("alarms: delay_ns", alarm.delay_ns) < 0:
            raise ValueError("alarms: delay_ns is negative")
