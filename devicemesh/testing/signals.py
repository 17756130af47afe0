"""Signals: what a simulated property does over time. Pure but for the CSV of `replay`; seeded."""

from __future__ import annotations

import csv
import math
import random
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devicemesh.spec.device import Property
from devicemesh.spec.telemetry import Simulation
from devicemesh.spec.values import ValueType, duration_ns

MAX_STEPS = 10_000
"""Steps of a walk that are taken at once; after a longer silence the rest of the way is left out."""


@dataclass(frozen=True, slots=True)
class Room:
    """What the address of a property can hold of it."""

    low: float = -math.inf
    high: float = math.inf
    whole: bool = False  # an integer on the wire
    scaled: bool = False  # that is multiplied, so that a fraction fits too
    length: int | None = None  # bytes of a text
    words: tuple[str, ...] = ()  # of an enum


class Signal(ABC):
    """A value at every moment."""

    @abstractmethod
    def at(self, seconds: float) -> Any:
        """The value this long after the start; moments are asked for in rising order."""


class Constant(Signal):
    """Always the same value."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def at(self, seconds: float) -> Any:
        return self._value


class Wave(Signal):
    """sine, ramp or square between two values; `phase` is a part of a turn."""

    def __init__(self, shape: str, low: float, high: float, period_s: float, phase: float) -> None:
        self._shape, self._low, self._high = shape, low, high
        self._period_s, self._phase = period_s, phase

    def at(self, seconds: float) -> float:
        turn = (seconds / self._period_s + self._phase) % 1.0
        if self._shape == "square":
            return self._high if turn >= 0.5 else self._low
        height = 0.5 - 0.5 * math.cos(2 * math.pi * turn) if self._shape == "sine" else turn
        return self._low + (self._high - self._low) * height


class Counter(Signal):
    """Rises by `step` every period. After `high` comes `low`, as in a register; integers stay exact."""

    def __init__(self, low: float, high: float, step: float, period_s: float) -> None:
        self._low, self._step, self._period_s = low, step, period_s
        whole = all(isinstance(number, int) for number in (low, high, step))
        self._turn = high - low + (1 if whole else 0)

    def at(self, seconds: float) -> float:
        risen = math.floor(seconds / self._period_s) * self._step
        return self._low + risen % self._turn if self._turn else self._low


class Walk(Signal):
    """A random walk that turns back at its bounds."""

    def __init__(self, low: float, high: float, step: float, period_s: float, rng: random.Random) -> None:
        self._low, self._high, self._step, self._period_s, self._rng = low, high, step, period_s, rng
        self._index, self._value = 0, low + (high - low) / 2

    def at(self, seconds: float) -> float:
        index = int(seconds / self._period_s)
        for _ in range(min(index - self._index, MAX_STEPS)):
            self._value = self._reflected(self._value + self._rng.uniform(-self._step, self._step))
        self._index = max(index, self._index)
        return self._value

    def _reflected(self, value: float) -> float:
        if value > self._high:
            value = 2 * self._high - value
        elif value < self._low:
            value = 2 * self._low - value
        return min(self._high, max(self._low, value))  # a step may be wider than the range


class Replay(Signal):
    """A recording, over and over: each value holds until the next row's time."""

    def __init__(self, rows: Sequence[tuple[float, float]]) -> None:
        """`rows` are (seconds, value) in order of time, at least one."""
        first = rows[0][0]
        self._times = [seconds - first for seconds, _ in rows]
        self._values = [value for _, value in rows]
        mean_gap = self._times[-1] / max(len(rows) - 1, 1)
        self._length = self._times[-1] + (mean_gap or 1.0)  # the last row holds as long as the others

    def at(self, seconds: float) -> float:
        return self._values[bisect_right(self._times, seconds % self._length) - 1]


class Noisy(Signal):
    """A signal with Gaussian noise over it."""

    def __init__(self, signal: Signal, sigma: float, rng: random.Random) -> None:
        self._signal, self._sigma, self._rng = signal, sigma, rng

    def at(self, seconds: float) -> float:
        return float(self._signal.at(seconds)) + self._rng.gauss(0.0, self._sigma)


def read_csv(path: Path) -> list[tuple[float, float]]:
    """(seconds, value) rows in order of time; a header line is passed over. Raises ValueError."""
    rows: list[tuple[float, float]] = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            for row in reader:
                try:
                    rows.append((_number(row[0]), _number(row[1])))
                except (ValueError, IndexError):
                    if row and reader.line_num > 1:
                        text = ",".join(row)
                        raise ValueError(
                            f"{path}:{reader.line_num}: {text!r} is not `seconds,value`"
                        ) from None
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from error
    if not rows:
        raise ValueError(f"{path} has no rows of `seconds,value`")
    return sorted(rows, key=lambda row: row[0])


def _number(text: str) -> float:
    """An int where it is written as one, so that no digit is lost. Raises ValueError."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(text) from None
        return number


def signal(prop: Property, room: Room, folder: Path, rng: random.Random) -> Signal:
    """The signal of a property: as declared, else one that suits its type and range. Raises ValueError."""
    spec = prop.simulation
    if prop.type in (ValueType.STRING, ValueType.BYTES):
        return Constant(_text(spec, prop, room))
    made = _shape(spec, prop, room, folder, rng)
    return Noisy(made, spec.noise, rng) if spec.noise and prop.type.is_number else made


def _text(spec: Simulation, prop: Property, room: Room) -> str | bytes:
    """The declared text, else the first word of an enum, else the property's name."""
    if room.words:
        text = room.words[0] if spec.value is None else str(spec.value)
        if text not in room.words:
            raise ValueError(f"value {text!r} is none of {', '.join(room.words)}")
        return text
    text = prop.name[: room.length] if spec.value is None else str(spec.value)
    size = len(text.encode())
    if room.length is not None and size > room.length:
        raise ValueError(f"value {text!r} has {size} bytes, its address {room.length}")
    return text.encode().ljust(room.length or 0, b"\0") if prop.type == ValueType.BYTES else text


def _shape(spec: Simulation, prop: Property, room: Room, folder: Path, rng: random.Random) -> Signal:
    shape = spec.signal
    if shape is None:
        if spec.value is not None or prop.access != "ReadOnly":
            shape = "constant"
        else:
            shape = "square" if prop.type == ValueType.BOOL else "sine"
    if shape == "constant":
        return Constant(_constant(spec, prop, room))
    if shape == "replay":
        return Replay(_recording(spec, room, folder))
    low, high = _range(spec, prop, room)
    period_s = duration_ns(spec.period) / 1e9
    if shape == "counter":
        return Counter(low, high, _exact(spec.step, prop), period_s)
    if shape == "walk":
        return Walk(low, high, spec.step, period_s, rng)
    return Wave(shape, low, high, period_s, rng.random())


def _constant(spec: Simulation, prop: Property, room: Room) -> float:
    """The declared value, else the middle of a declared range, else 0."""
    if spec.value is None:
        if prop.type == ValueType.BOOL:
            return False
        ends = (spec.low, spec.high, prop.minimum, prop.maximum)
        low, high = _range(spec, prop, room)
        middle = 0 if all(end is None for end in ends) else low + (high - low) / 2
        return min(room.high, max(room.low, middle))
    assert not isinstance(spec.value, str)  # the model's own check: see Simulation.refusal
    return _fitting("value", _exact(spec.value, prop), room)


def _recording(spec: Simulation, room: Room, folder: Path) -> list[tuple[float, float]]:
    assert spec.file is not None  # the model's own check
    rows = read_csv(folder / spec.file)
    for _, value in rows:
        _fitting(spec.file, value, room)
    return rows


def _range(spec: Simulation, prop: Property, room: Room) -> tuple[float, float]:
    """Where the signal moves: as declared, else the property's range, else 0 to 100 (a counter: its end)."""
    if prop.type == ValueType.BOOL:
        return 0, 1
    for name, given in (("low", spec.low), ("high", spec.high)):
        if given is not None:
            _fitting(name, given, room)
    low = spec.low if spec.low is not None else prop.minimum
    high = spec.high if spec.high is not None else prop.maximum
    if low is None:
        low = 0 if high is None or high > 0 else high - 100
    if high is None:
        high = room.high if spec.signal == "counter" and room.whole else 100 if low < 100 else low + 100
    if low > high:
        raise ValueError(f"low {low:g} is above high {high:g}")
    low, high = (min(room.high, max(room.low, end)) for end in (low, high))
    return _exact(low, prop), _exact(high, prop)


def _fitting(name: str, value: float, room: Room) -> float:
    if not room.low <= value <= room.high:
        raise ValueError(
            f"{name} {value:g} does not fit its address, which holds {room.low:g} to {room.high:g}"
        )
    return value


def _exact(number: float, prop: Property) -> float:
    """An int where the property is one, so that wide counters lose no digit."""
    return int(number) if prop.type.is_integer and number == int(number) else number


def coerced(value: float, type_: ValueType, room: Room) -> float:
    """A number as the property's type and its address hold it; what is beyond them stops at their end."""
    if type_ == ValueType.BOOL:
        return value >= 0.5
    kept = min(room.high, max(room.low, value))
    if type_.is_integer or (room.whole and not room.scaled):
        kept = round(kept)
    return kept if type_.is_integer else float(kept)
