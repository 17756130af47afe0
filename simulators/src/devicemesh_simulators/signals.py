"""Signals: what a simulated property does over time. Pure but for the CSV of `replay`; seeded."""

from __future__ import annotations

import csv
import math
import random
from abc import ABC, abstractmethod
from bisect import bisect_right
from pathlib import Path
from typing import Any

from devicemesh.spec.device import Property, Simulation
from devicemesh.spec.values import INTEGER_RANGES, ValueType, duration_ns


class Signal(ABC):
    """A value at every moment."""

    @abstractmethod
    def at(self, seconds: float) -> Any:
        """The value this long after the start; moments are asked for in rising order."""


class Constant(Signal):
    def __init__(self, value: Any) -> None:
        self.value = value

    def at(self, seconds: float) -> Any:
        return self.value


class Wave(Signal):
    """sine, ramp or square between two values."""

    def __init__(self, shape: str, low: float, high: float, period_s: float, phase: float) -> None:
        self._shape, self._low, self._span = shape, low, high - low
        self._period_s, self._phase = period_s, phase

    def at(self, seconds: float) -> float:
        turn = (seconds / self._period_s + self._phase) % 1.0
        if self._shape == "sine":
            height = 0.5 - 0.5 * math.cos(2 * math.pi * turn)
        else:
            height = turn if self._shape == "ramp" else float(turn >= 0.5)
        return self._low + self._span * height


class Counter(Signal):
    """Rises by `step` every period and wraps from `high` to `low`."""

    def __init__(self, low: float, high: float, step: float, period_s: float) -> None:
        self._low, self._span, self._step, self._period_s = low, high - low, step, period_s

    def at(self, seconds: float) -> float:
        risen = math.floor(seconds / self._period_s) * self._step
        return self._low + (risen % self._span if self._span > 0 else 0.0)


class Walk(Signal):
    """A random walk that turns back at its bounds."""

    def __init__(self, low: float, high: float, step: float, period_s: float, rng: random.Random) -> None:
        self._low, self._high, self._step, self._period_s, self._rng = low, high, step, period_s, rng
        self._index, self._value = 0, (low + high) / 2

    def at(self, seconds: float) -> float:
        index = int(seconds / self._period_s)
        for _ in range(min(index - self._index, 10_000)):  # after a long silence the way is forgotten
            value = self._value + self._rng.uniform(-self._step, self._step)
            self._value = min(self._high, max(self._low, value))
        self._index = max(index, self._index)
        return self._value


class Replay(Signal):
    """A recording, over and over: CSV rows of (seconds, value)."""

    def __init__(self, rows: list[tuple[float, float]]) -> None:
        if not rows:
            raise ValueError("the recording is empty")
        first = rows[0][0]
        self._times = [t - first for t, _ in rows]
        self._values = [v for _, v in rows]
        gap = (self._times[-1] / (len(rows) - 1)) if len(rows) > 1 else 1.0
        self._length = self._times[-1] + gap

    def at(self, seconds: float) -> float:
        return self._values[bisect_right(self._times, seconds % self._length) - 1]


def read_csv(path: Path) -> list[tuple[float, float]]:
    """(seconds, value) rows in order of time; a header line is passed over. Raises ValueError."""
    rows: list[tuple[float, float]] = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.reader(file), 1):
                try:
                    rows.append((float(row[0]), float(row[1])))
                except (ValueError, IndexError):
                    if number > 1 and row:
                        raise ValueError(
                            f"{path}:{number}: {','.join(row)!r} is not `seconds,value`"
                        ) from None
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error}") from error
    return sorted(rows)


class Noisy(Signal):
    """A signal with Gaussian noise over it."""

    def __init__(self, signal: Signal, sigma: float, rng: random.Random) -> None:
        self._signal, self._sigma, self._rng = signal, sigma, rng

    def at(self, seconds: float) -> float:
        return float(self._signal.at(seconds)) + self._rng.gauss(0.0, self._sigma)


def signal(prop: Property, folder: Path, rng: random.Random) -> Signal:
    """The signal of a property: as declared, else one that suits its type and range. Raises ValueError."""
    spec = prop.simulation
    if prop.type in (ValueType.STRING, ValueType.BYTES, ValueType.JSON):
        text = str(spec.value) if spec.value is not None else prop.name
        return Constant(text.encode() if prop.type == ValueType.BYTES else text)
    made = _shape(spec, prop, folder, rng)
    return Noisy(made, spec.noise, rng) if spec.noise and prop.type.is_number else made


def _shape(spec: Simulation, prop: Property, folder: Path, rng: random.Random) -> Signal:
    low, high = _range(spec, prop)
    shape = spec.signal
    if shape is None:
        if spec.value is not None or prop.access != "ReadOnly":
            shape = "constant"
        else:
            shape = "square" if prop.type == ValueType.BOOL else "sine"
    period_s = duration_ns(spec.period) / 1e9
    if shape == "constant":
        middle: float | bool = False if prop.type == ValueType.BOOL else (low + high) / 2
        return Constant(spec.value if spec.value is not None else middle)
    if shape == "counter":
        return Counter(low, high, spec.step, period_s)
    if shape == "walk":
        return Walk(low, high, spec.step, period_s, rng)
    if shape == "replay":
        if spec.file is None:
            raise ValueError(f"{prop.name}: signal replay needs `file`")
        return Replay(read_csv(folder / spec.file))
    return Wave(shape, low, high, period_s, rng.random())


def _range(spec: Simulation, prop: Property) -> tuple[float, float]:
    """Where the signal moves: as declared, else the property's range, else 0 to 100 (a counter: its end)."""
    if prop.type == ValueType.BOOL:
        return 0.0, 1.0
    least, greatest = INTEGER_RANGES.get(prop.type, (-math.inf, math.inf))
    default = greatest if spec.signal == "counter" and math.isfinite(greatest) else 100.0
    low = spec.low if spec.low is not None else prop.minimum if prop.minimum is not None else 0.0
    high = spec.high if spec.high is not None else prop.maximum if prop.maximum is not None else default
    return max(low, least), min(max(high, low), greatest)


def coerced(value: Any, type_: ValueType) -> Any:
    """A signal's value as the property's type holds it."""
    if type_ == ValueType.BOOL:
        return value >= 0.5 if isinstance(value, float) else bool(value)
    if type_.is_integer:
        low, high = INTEGER_RANGES[type_]
        return min(high, max(low, round(value)))
    return float(value) if type_.is_float else value
