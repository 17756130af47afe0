"""The readable twin of windows/dense.c: one pass over an array, its additions in the same order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LANES, BLOCK = 4, 512


@dataclass
class Dense:
    """All of the finite values; places are indices. With `count` 0 the rest means nothing."""

    count: int = 0
    nonfinite: int = 0
    shift: float = 0.0  # the first finite value
    sum: float = 0.0  # of (x - shift)
    squares: float = 0.0  # of (x - shift)^2
    power: float = 0.0  # of x^2
    min: float = 0.0
    max: float = 0.0
    first: float = 0.0
    last: float = 0.0
    min_at: int = 0  # where it comes first
    max_at: int = 0
    first_at: int = 0
    last_at: int = 0


def fold(values: Sequence[float]) -> Dense:
    """Fold an array."""
    finite = [(place, value) for place, value in enumerate(values) if math.isfinite(value)]
    if not finite:
        return Dense(nonfinite=len(values))
    found = Dense(count=len(finite), nonfinite=len(values) - len(finite))
    found.first_at, found.first = finite[0]
    found.last_at, found.last = finite[-1]
    found.shift = found.first
    found.min_at, found.min = min(finite, key=lambda each: each[1])
    found.max_at, found.max = max(finite, key=lambda each: each[1])
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK]
        whole = len(block) - len(block) % LANES
        rest = block if not _add_lanes(found, block[:whole]) else block[whole:]
        for value in rest:
            if math.isfinite(value):
                _add(found, value)
    return found


def _add(found: Dense, value: float) -> None:
    difference = value - found.shift
    found.sum += difference
    found.squares += difference * difference
    found.power += value * value


def _add_lanes(found: Dense, block: Sequence[float]) -> bool:
    """Add the sums of a block, by lanes of differences to its first value; not if one is not finite."""
    if not block:
        return False
    sums, squares = [0.0] * LANES, [0.0] * LANES
    for place, value in enumerate(block):
        difference = value - block[0]
        sums[place % LANES] += difference
        squares[place % LANES] += difference * difference
    total, square, apart = _sum_of(sums), _sum_of(squares), block[0] - found.shift
    about_shift = square + apart * (2 * total + len(block) * apart)
    power = square + block[0] * (2 * total + len(block) * block[0])
    if not (math.isfinite(square) and math.isfinite(about_shift) and math.isfinite(power)):
        return False
    found.sum += total + len(block) * apart
    found.squares += about_shift
    found.power += power
    return True


def _sum_of(lanes: list[float]) -> float:
    return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])
