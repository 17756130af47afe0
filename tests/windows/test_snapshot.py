"""A snapshot is the aggregator: what comes after it is the same with and without a restart in between."""

from __future__ import annotations

import random
import zlib
from array import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devicemesh.windows import STATISTICS, Alarm, Hopping, Profile, Session, Tumbling, WindowAggregator

SECOND = 10**9
PROFILE = Profile(
    statistics=STATISTICS,
    deadband=1.0,
    min_interval_ns=SECOND // 2,
    heartbeat_ns=SECOND,
    alarms=[Alarm("high", 5.0, clear=4.0, delay_ns=SECOND // 3), Alarm("low", -5.0, above=False)],
    missing_ns=SECOND,
    quantiles=(0.5, 0.9),
)


def make(windows: Any, seed: int) -> WindowAggregator:
    aggregator = WindowAggregator(windows, lateness_ns=SECOND // 2, max_bytes=1 << 26)
    rich, plain = (
        aggregator.profile(PROFILE),
        aggregator.profile(Profile(statistics=("count", "mean", "last"))),
    )
    aggregator.define(range(2), plain if seed % 3 == 0 else rich)
    aggregator.define(range(2, 5), plain, source=seed % 2)
    return aggregator


def push(aggregator: WindowAggregator, random_: random.Random, start: int, rows: int) -> None:
    times = array(
        "q", (start + random_.randrange(-SECOND // 2, SECOND // 2) + i * 10_000_000 for i in range(rows))
    )
    aggregator.ingest(
        array("I", (random_.randrange(5) for _ in range(rows))),
        times,
        array("d", (random_.choice([random_.gauss(0, 5), float("nan"), 1e12]) for _ in range(rows))),
        array("B", (random_.choice([0, 0, 0, 0x80]) for _ in range(rows))),
    )
    aggregator.advance(max(times))


def out(aggregator: WindowAggregator) -> list[str]:
    taken = (aggregator.windows(), aggregator.reports(), aggregator.events())
    return [repr({name: columns[name].tolist() for name in columns}) for columns in taken]


@settings(max_examples=60, deadline=None)
@given(
    windows=st.sampled_from([Tumbling(SECOND, 7), Hopping(3 * SECOND, SECOND), Session(SECOND // 20)]),
    seed=st.integers(0, 1000),
    taken_before=st.booleans(),
)
def test_a_restart_changes_nothing(windows: Any, seed: int, taken_before: bool) -> None:
    random_, aggregator = random.Random(seed), make(windows, seed)
    push(aggregator, random_, 10 * SECOND, 200)
    if taken_before:
        out(aggregator)
    other = WindowAggregator.restore(aggregator.snapshot())
    for each in (aggregator, other):
        push(each, random.Random(seed + 1), 12 * SECOND, 200)
        each.flush()
    assert out(other) == out(aggregator)
    assert other.counts == aggregator.counts


def test_what_is_no_snapshot_is_refused() -> None:
    snapshot = make(Tumbling(SECOND), 0).snapshot()
    for damaged in (
        b"",
        snapshot[:-1],
        b"x" + snapshot[1:],
        snapshot[:40] + b"?" + snapshot[41:],
        snapshot[:13],
    ):
        with pytest.raises(ValueError, match="snapshot"):
            WindowAggregator.restore(damaged)


@pytest.mark.parametrize("windows", [Tumbling(SECOND), Hopping(2 * SECOND, SECOND), Session(SECOND)])
def test_made_up_state_does_no_harm(windows: Any) -> None:
    """The checksum fits, the content does not: it is refused, or gives numbers."""
    random_, aggregator = random.Random(1), make(windows, 1)
    push(aggregator, random_, 10 * SECOND, 100)
    snapshot, refused = aggregator.snapshot(), 0
    start = 16 + int.from_bytes(snapshot[12:16], "little")
    for turn in range(600):
        body = bytearray(snapshot)
        for _ in range(1 + turn % 3):
            body[random_.randrange(start, len(body))] = random_.choice([0, 1, 0x7F, 0x80, 0xFF])
        body[8:12] = zlib.crc32(body[12:]).to_bytes(4, "little")
        try:
            other = WindowAggregator.restore(bytes(body))
        except (ValueError, MemoryError):
            refused += 1
            continue
        push(other, random_, 12 * SECOND, 30)
        other.flush()
        out(other)
    assert 0 < refused < 600
