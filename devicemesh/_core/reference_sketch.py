"""The readable twin of windows/sketch.c: what a quantile sketch answers, as plainly as it can be said.

DDSketch (Masson, Rim, Lee, VLDB 2019) with cubically interpolated keys. The twin keeps every key it has
seen and collapses when it is asked; C collapses as it goes. The answers are the same bits.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterator

RAW = 15  # so many values are kept as they are
DBL_MAX = math.ldexp(1 - 2**-53, 1024)


def cubic(s: float) -> float:
    """Nearly log2(1 + s) for 0 <= s <= 1, exact at both ends."""
    return ((6.0 / 35 * s - 21.0 / 35) * s + 50.0 / 35) * s


def inverse(part: float) -> float:
    """The s whose cubic is `part`, by Newton's method from a cubic near it."""
    s = ((0.046 * part + 0.254) * part + 0.7) * part
    for _ in range(3):
        s -= (cubic(s) - part) / ((18.0 / 35 * s - 42.0 / 35) * s + 50.0 / 35)
    return s


class Rule:
    """What all sketches of a profile share."""

    def __init__(self, relative_error: float, max_bins: int) -> None:
        log_gamma = math.log((1 + relative_error) / (1 - relative_error))
        self.multiplier = 0.7 / log_gamma * (1 + 2**-20)
        self.offset = math.ceil(52 * self.multiplier)
        self.max_bins = max_bins

    def key(self, magnitude: float) -> int:
        """The key of a number above zero; exponents carry their bias, as C reads them off the bits."""
        mantissa, exponent = math.frexp(magnitude)  # 0.5 <= mantissa < 1
        log = cubic(mantissa * 2 - 1) + (exponent - 1 + 1023)
        return math.floor(log * self.multiplier + self.offset)

    def value(self, key: int) -> float:
        """The number within the relative error of all with the key: 2 lo hi / (lo + hi) of its bounds."""
        low_log, high_log = (key - self.offset) / self.multiplier, (key - self.offset + 1) / self.multiplier
        exponent = math.floor(low_log)
        low = 1 + inverse(low_log - exponent)
        high = math.ldexp(1 + inverse(high_log - math.floor(high_log)), math.floor(high_log) - exponent)
        try:
            return min(math.ldexp(2 * low / (1 + low / high), exponent - 1023), DBL_MAX)
        except OverflowError:
            return DBL_MAX


class Sketch:
    """A sketch: `signs` counts keys above and below zero, as if there were no limit."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.raw: list[float] = []
        self.zeros = 0
        self.signs: tuple[Counter[int], Counter[int]] = (Counter(), Counter())

    @property
    def count(self) -> int:
        return len(self.raw) + self.zeros + self.signs[0].total() + self.signs[1].total()

    def add(self, value: float) -> None:
        """Take a finite value; the one that no longer fits turns all into keys."""
        if self.count < RAW:
            self.raw.append(value + 0.0)
            return
        for each in [*self.raw, value]:
            self._count(each)
        self.raw = []

    def _count(self, value: float) -> None:
        if value == 0:
            self.zeros += 1
        else:
            self.signs[value < 0][self.rule.key(abs(value))] += 1

    def merge(self, other: Sketch) -> None:
        """Take all that another holds."""
        if self.count + other.count <= RAW:
            self.raw += other.raw
            return
        for each in [*self.raw, *other.raw]:
            self._count(each)
        self.raw = []
        self.zeros += other.zeros
        for mine, theirs in zip(self.signs, other.signs, strict=True):
            mine.update(theirs)

    def bins(self, sign: int) -> tuple[list[tuple[int, int]], int]:
        """(keys and their counts in order, how many values are counted under a higher key than their own)."""
        keys = self.signs[sign]
        floor = max(keys, default=0) - self.rule.max_bins + 1
        collapsed = sum(count for key, count in keys.items() if key < floor)
        kept = Counter({key: count for key, count in keys.items() if key >= floor})
        if collapsed:
            kept[floor] += collapsed
        return sorted(kept.items()), collapsed

    @property
    def collapsed(self) -> int:
        return self.bins(0)[1] + self.bins(1)[1]

    def in_order(self) -> Iterator[tuple[float, int]]:
        """Values from the lowest up, and how often."""
        for value in sorted(self.raw):
            yield value, 1
        for key, count in reversed(self.bins(1)[0]):
            yield -self.rule.value(key), count
        yield 0.0, self.zeros
        for key, count in self.bins(0)[0]:
            yield self.rule.value(key), count

    def quantile(self, q: float) -> float:
        """The value of rank floor(q (count - 1)), counted from 0."""
        if not self.count or not 0 <= q <= 1:
            return math.nan
        rank = math.floor(q * (self.count - 1))
        for value, count in self.in_order():
            if rank < count:
                return value
            rank -= count
        raise AssertionError("there are more values than the rank")

    def to_bytes(self) -> bytes:
        """What is written, equal for equal content: see windows/sketch.c."""
        if self.count <= RAW:
            return b"\0" + varint(len(self.raw)) + struct.pack(f"<{len(self.raw)}d", *sorted(self.raw))
        return b"\1" + varint(self.zeros) + self._run(0) + self._run(1)

    def _run(self, sign: int) -> bytes:
        bins, collapsed = self.bins(sign)
        if not bins:
            return varint(0)
        counts, low, high = dict(bins), bins[0][0], bins[-1][0]
        head = varint(high - low + 1) + varint(low) + varint(collapsed)
        return head + b"".join(varint(counts.get(key, 0)) for key in range(low, high + 1))


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the top bit says that more follow."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])
