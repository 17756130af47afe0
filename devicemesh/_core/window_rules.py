"""How windows and series are described, and what the C core makes of the descriptions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

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
"""What a window can tell of a series, times and durations in ns; from `first` on they cost more memory."""

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

    Reports by exception are made when a deadband or a heartbeat is given: of the first value, of a value
    further than the wider deadband from the one reported last, and of the next value once `heartbeat_ns` went
    by; never more often than every `min_interval_ns`.

    A quantile q is the value of rank floor(q * (count - 1)) in order: exact up to 15 values, else within
    `relative_error` (1e-4 to 0.5); its column is named like `p99.9`.
    """

    statistics: Sequence[str] = BASIC
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
    length, offset = _whole("length", windows.length), _whole("offset", windows.offset)
    hop = _whole("hop", windows.hop) if isinstance(windows, Hopping) else length
    return False, length, hop, offset % hop if hop > 0 else 0, 0


def profile_arguments(profile: Profile) -> tuple[Any, ...]:
    """A profile as the core takes it. Raises ValueError or TypeError naming the argument."""
    _check(profile)
    return (
        sum(1 << STATISTICS.index(name) for name in {*profile.statistics}),
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
    if profile.interpolation not in ("stepped", "sloped"):
        raise ValueError(f"interpolation: {profile.interpolation!r} is neither stepped nor sloped")
    for quantile in profile.quantiles:
        if not 0 <= quantile <= 1:
            raise ValueError(f"quantiles: {quantile!r} is not within 0 and 1")
    _check_numbers(profile)
    for alarm in profile.alarms:
        _check_alarm(alarm)


def _check_numbers(profile: Profile) -> None:
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


def _check_alarm(alarm: Alarm) -> None:
    clear = alarm.limit if alarm.clear is None else alarm.clear
    if not (math.isfinite(alarm.limit) and math.isfinite(clear)):
        raise ValueError(f"alarms: the limits of {alarm.name!r} are not finite")
    if clear > alarm.limit if alarm.above else clear < alarm.limit:
        raise ValueError(f"alarms: {alarm.name!r} clears beyond its limit")
    if _whole("alarms: delay_ns", alarm.delay_ns) < 0:
        raise ValueError("alarms: delay_ns is negative")
