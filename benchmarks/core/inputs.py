"""The streams that are measured: ten seconds of event time, so that ten windows close."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

SECOND = 10**9
START = 1_700_000_000 * SECOND
WINDOWS = 10
LATENESS = SECOND // 2
COUNTS = {"1k": 1_000, "100k": 100_000, "1m": 1_000_000}
SHAPES = ("round-robin", "zipf")
ORDERS = ("ordered", "late")


@dataclass(frozen=True)
class Case:
    """Which stream: `late` delays one sample in a hundred by up to 0.6 s, some of them past the lateness."""

    count: str
    shape: str
    order: str

    def __str__(self) -> str:
        return f"{self.count} {self.shape} {self.order}"


@dataclass
class Inputs:
    """Columns of numpy arrays; one sample in a hundred has a Bad quality."""

    series_count: int
    series: Any  # uint32
    times: Any  # int64
    values: Any  # float64
    qualities: Any  # uint8


def cases(counts: list[str]) -> Iterator[Case]:
    for count, shape, order in itertools.product(counts, SHAPES, ORDERS):
        yield Case(count, shape, order)


def _series(case: Case, samples: int, noise: np.random.Generator) -> Any:
    count = COUNTS[case.count]
    if case.shape == "round-robin":
        return (np.arange(samples) % count).astype(np.uint32)
    weights = np.cumsum(1 / np.arange(1, count + 1) ** 1.1)
    ranks = np.searchsorted(weights / weights[-1], noise.random(samples))
    return noise.permutation(count)[np.minimum(ranks, count - 1)].astype(np.uint32)


def make(case: Case, samples: int) -> Inputs:
    """The same numbers every time."""
    noise = np.random.default_rng(1)
    places = np.arange(samples, dtype=np.int64)
    times = START + places * (WINDOWS * SECOND // samples)
    values = 20 + 5 * np.sin(places * 1e-5) + noise.normal(0, 1, samples)
    qualities = np.where(noise.random(samples) < 0.01, 0x80, 0).astype(np.uint8)
    series = _series(case, samples, noise)
    if case.order == "late":
        delayed = noise.random(samples) < 0.01
        times[delayed] -= noise.integers(0, 6 * SECOND // 10, delayed.sum())
        times = np.maximum(times, START)
    return Inputs(COUNTS[case.count], series, times, values, qualities)
