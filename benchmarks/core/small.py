"""What one value, one call, one row and one series cost: `small.py`. Prints one line of JSON.

array_ns: a value of a waveform, from cache. add_ns: one sample by a call, the loop around it subtracted.
json_row_ns: a window of five statistics, its series' name and two stamps. bytes_per_series: memory of the
aggregator with `open_windows` of them open, and of the process (resident_per_series).
"""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine import FULL
from inputs import LATENESS, SECOND, START

from devicemesh.encode import encode
from devicemesh.windows import Profile, Tumbling, WindowAggregator

REPEATS = 15
ROWS = 10_000
SAMPLES = 1_000_000
SERIES = 1_000_000


def best(call: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Seconds of the fastest of several calls: all else is somebody else's work."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def aggregator(series: int, **profile: Any) -> WindowAggregator:
    found = WindowAggregator(Tumbling(SECOND), lateness_ns=LATENESS, max_bytes=1 << 34)
    found.define(range(series), profile=found.profile(Profile(**profile)))
    return found


def array_ns() -> float:
    """16 calls of 4,096 values (32 kB, a first-level cache) to a window."""
    values = array("d", [20 + math.sin(i / 10) for i in range(4096)])
    found = aggregator(1, statistics=("count", "mean", "min", "max", "std", "rms", "crest"))
    step = SECOND // 65_536
    state = {"start": START}

    def call() -> None:
        start = state["start"]
        for _ in range(256):
            found.ingest_array(0, start, step, values)
            start += 4096 * step
        state["start"] = start
        found.windows()

    return best(call) / 256 / 4096 * 1e9


def add_ns() -> float:
    count = 200_000
    found = aggregator(1000, **FULL)
    names = [place % 1000 for place in range(count)]
    values = [20 + math.sin(place) for place in range(count)]
    state = {"start": START}
    spent, empty = [], []
    for _ in range(REPEATS):
        start = state["start"]
        times = [start + place * 5000 for place in range(count)]
        state["start"] = times[-1] + 5000
        add = found.add
        began = time.perf_counter()
        for series, stamp, value in zip(names, times, values, strict=True):
            add(series, stamp, value)
        between = time.perf_counter()
        for _series, _stamp, _value in zip(names, times, values, strict=True):
            pass
        empty.append(time.perf_counter() - between)
        spent.append(between - began)
        found.windows()
        found.reports()
        found.events()
    return (statistics.median(spent) - statistics.median(empty)) / count * 1e9


def json_row_ns() -> float:
    names = tuple(f"plant/line-{place % 7}/pump-{place}/speed" for place in range(ROWS))
    found = aggregator(ROWS, statistics=("mean", "min", "max", "last", "std"))
    series = array("I", [place % ROWS for place in range(10 * ROWS)])
    times = array("q", [START + place * 5000 for place in range(10 * ROWS)])
    found.ingest(series, times, array("d", [20 + 5 * math.sin(place * 1.1) for place in range(10 * ROWS)]))
    found.flush()
    columns = dict(found.windows())
    rows = len(columns["series"])
    return best(lambda: encode(columns, names, "json")) / rows * 1e9


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def memory() -> dict[str, float]:
    """Two windows open, the older one within the lateness."""
    before = resident()
    found = aggregator(SERIES, **FULL)
    batch = 100_000
    for start in (START, START + SECOND):
        for first in range(0, SERIES, batch):
            series = array("I", range(first, first + batch))
            found.ingest(series, array("q", [start]) * batch, array("d", [20.0]) * batch)
            found.reports()
    return {
        "bytes_per_series": round(found.memory_bytes / SERIES, 1),
        "resident_per_series": round((resident() - before) / SERIES, 1),
        "open_windows": 2,
    }


def main() -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    found = memory()
    for measure in (array_ns, add_ns, json_row_ns):
        found[measure.__name__] = round(measure(), 3)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
