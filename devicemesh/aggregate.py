"""The face of the C core: series in, records and the last values out.

Every row pushed is *read*; each ends in exactly one of: a record taken (then published, or dropped by the
sink under a policy), or `dropped` under one of the policies below, or it is still pending in a window.
`read == taken + sum(dropped.values()) + pending` holds at every moment.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devicemesh.mapper import Batch, Quality
from devicemesh.spec.device import STATISTICS


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


@dataclass(frozen=True, slots=True)
class Limit:
    """An alarm: raised beyond `limit`, cleared beyond `clear` on the other side."""

    name: str
    above: bool
    limit: float
    clear: float
    severity: str


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
    heartbeat_ns: int = 0
    window_ns: int = 0
    lateness_ns: int = 0
    statistics: Sequence[str] = STATISTICS
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
class AlarmEvent:
    slot: int
    alarm: str
    active: bool
    severity: str
    time_ns: int
    value: float


class Aggregator:
    """All series of one runtime."""

    def __init__(self, epoch: int) -> None: ...

    def define(self, series: Series) -> None:
        """Add a series, or change how it is treated (its open windows close first)."""
        ...

    def remove(self, slot: int) -> None:
        """Close the series' windows into its stream's record, then forget it."""
        ...

    def forget(self, stream: int) -> None:
        """The stream is gone (its series are removed and its records taken); its number may return."""
        ...

    def names(self, stream: int) -> Sequence[str]:
        """The property names that the stream's record bodies refer to by index. Only ever appended to."""
        ...

    def push(self, batch: Batch) -> None:
        """Take rows. A row of an undefined slot is dropped{policy="undefined"}."""
        ...

    def advance(self, now_ns: int) -> None:
        """Close the windows that the clock says are over (plus their lateness), for silent sources."""
        ...

    def take(self) -> list[Record]:
        """Records of every stream that has something to publish, in the order it became ready."""
        ...

    def flush(self) -> None:
        """Close every open window, partial as it is (before a stop)."""
        ...

    def latest(self, slot: int) -> Reading:
        """The last row of the slot by time, good or bad; PENDING before the first."""
        ...

    def count(self, slot: int) -> int:
        """Rows pushed for the slot since it was defined."""
        ...

    def alarms(self) -> list[AlarmEvent]:
        """Alarms raised or cleared since the last call."""
        ...

    @property
    def read(self) -> int: ...

    @property
    def taken(self) -> int: ...

    @property
    def pending(self) -> int: ...

    @property
    def dropped(self) -> Mapping[str, int]:
        """Rows by policy: deadband, none, bad, late, nonfinite, inexact, undefined."""
        ...

    @property
    def bad(self) -> int:
        """Rows pushed with a quality below Good."""
        ...


def encode_json(body: bytes, names: Sequence[str]) -> bytes:
    """One telemetry payload: see docs/mqtt.md. Floats are shortest round-trip, NaN and Inf are null."""
    ...
