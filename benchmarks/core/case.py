"""One stream through all contenders, in turn, on one core: `case.py COUNT SHAPE ORDER [--samples N]`.

Prints one line of JSON: nanoseconds a sample by contender (medians), and what was checked.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

os.environ.update(POLARS_MAX_THREADS="1", OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import numpy as np
from bound import bound
from engine import BASIC, PROFILES, Stream
from inputs import SECOND, START, Case, Inputs, make
from peers import DDSKETCH_SAMPLES, PEERS

SLOW = {"duckdb", "pandas", "ddsketch"}  # shown beside; once each


def timed(call: Callable[[], Any]) -> float:
    """Seconds of a call; what it returns is given back within them."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def streams(inputs: Inputs) -> dict[str, Stream]:
    """Ours, warmed up: memory that a long-running service has, it has."""
    found = {name: Stream(replace(inputs, times=inputs.times.copy()), name) for name in PROFILES}
    for stream in found.values():
        stream()
        stream.later()
    return found


def measure(inputs: Inputs, repeats: int) -> dict[str, float]:
    """Nanoseconds a sample, the contenders in turn so that the machine's moods fall on all alike."""
    ours = streams(inputs)
    calls: dict[str, Callable[[], Any]] = {"bound": bound(inputs), **ours}
    calls |= {name: peer(inputs) for name, peer in PEERS.items() if name not in SLOW}
    calls["bound"]()
    seconds: dict[str, list[float]] = {name: [] for name in [*calls, *SLOW]}
    for _ in range(repeats):
        for name, call in calls.items():
            seconds[name].append(timed(call))
            if name in ours:
                ours[name].later()
    del ours, calls
    for name in SLOW:
        seconds[name].append(timed(PEERS[name](inputs)))
    counts = dict.fromkeys(seconds, len(inputs.times)) | {
        "ddsketch": min(DDSKETCH_SAMPLES, len(inputs.times))
    }
    return {name: statistics.median(each) / counts[name] * 1e9 for name, each in seconds.items()}


def emitted(stream: Stream) -> dict[str, Any]:
    """All windows of one pass as numpy columns, ordered by series and start."""
    parts = list(stream.closed())
    stream.aggregator.flush()
    parts.append(stream.aggregator.windows())
    columns = {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in parts[-1]}
    order = np.lexsort((columns["start"], columns["series"]))
    return {name: column[order] for name, column in columns.items()}


def check(inputs: Inputs, ordered: bool) -> None:
    """Every sample is counted once, every window leaves once; in order they are what polars says."""
    stream = Stream(inputs, "basic")
    found = emitted(stream)
    counts = stream.aggregator.counts
    pairs = found["series"].astype(np.int64) << 32 | (found["start"] - START) // SECOND
    assert len(np.unique(pairs)) == len(pairs), "a window left twice"
    assert sum(counts) == len(inputs.times), f"{counts} of {len(inputs.times)}"
    assert found["count"].sum() == counts.counted, "windows do not hold what was counted"
    if not ordered:
        return
    assert counts.counted == len(inputs.times), counts
    wanted = PEERS["polars"](inputs)().sort(["series", "window"])
    assert (found["series"] == wanted["series"].to_numpy()).all()
    assert ((found["start"] - START) // SECOND == wanted["window"].to_numpy()).all()
    for name in BASIC:
        theirs = wanted[name].fill_null(float("nan")).to_numpy() if name == "std" else wanted[name].to_numpy()
        np.testing.assert_allclose(found[name], theirs, rtol=1e-9, atol=0, err_msg=name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count")
    parser.add_argument("shape")
    parser.add_argument("order")
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    case = Case(arguments.count, arguments.shape, arguments.order)
    inputs = make(case, arguments.samples)
    check(inputs, case.order == "ordered")
    print(json.dumps(measure(inputs, arguments.repeats)))


if __name__ == "__main__":
    main()
