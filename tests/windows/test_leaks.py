"""What is made and dropped over and over leaves no memory behind. LEAK_ROUNDS=100000 for the long run."""

from __future__ import annotations

import gc
import os
from array import array
from pathlib import Path

import pytest

from devicemesh._core import _native
from devicemesh.encode import encode
from devicemesh.windows import Alarm, Profile, Session, Tumbling, WindowAggregator

ROUNDS = int(os.environ.get("LEAK_ROUNDS", "3000"))
SECOND = 10**9
PROFILE = Profile(
    statistics=("count", "mean", "first", "time_average"),
    alarms=(Alarm("high", 5.0, delay_ns=SECOND),),
    deadband=1.0,
    quantiles=(0.5,),
    missing_ns=SECOND,
)


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def a_life(windows):
    """One aggregator from its making to its end, some windows open, some results taken, and some mistakes."""
    aggregator = WindowAggregator(windows, lateness_ns=SECOND)
    aggregator.define(range(3), profile=aggregator.profile(PROFILE))
    series = array("I", [0, 1, 2] * 8)
    times = array("q", [place * SECOND // 4 for place in range(24)])
    values = array("d", [place * 1.7**place for place in range(24)])
    aggregator.ingest(series, times, values)
    for wrong in (lambda: aggregator.ingest(series, times, values[:3]), lambda: aggregator.add(9, 0, 1.0)):
        with pytest.raises((ValueError, TypeError)):
            wrong()
    aggregator.advance(8 * SECOND)
    encode(aggregator.windows(), ("a", "b", "c"), "json")
    aggregator.reports()
    aggregator.flush()


def a_sketch():
    sketch, other = _native.Sketch(), _native.Sketch()
    sketch.update(array("d", [1.5**place for place in range(-60, 60)]))
    other.read(sketch.to_bytes())
    sketch.merge(other)
    with pytest.raises(ValueError, match="not a sketch"):
        other.read(b"\1\2")


def once():
    a_life(Tumbling(SECOND))
    a_life(Session(SECOND))
    a_sketch()
    with pytest.raises(TypeError):
        _native.encode_json_objects([("x", 4, array("d", [1])), ("y", 6, (5,))], 1)


@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="a sanitizer keeps freed memory")
@pytest.mark.timeout(600)
def test_memory_stays_where_it_is():
    for _ in range(ROUNDS // 4):
        once()
    gc.collect()
    before = resident()
    for _ in range(ROUNDS):
        once()
    gc.collect()
    assert resident() - before < max(1 << 18, ROUNDS * 4), "bytes that nobody gave back"
