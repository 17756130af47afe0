"""The same windows by what a user would pick instead; each is one call over the whole stream, on one thread.

They have no lateness, quality, time average, alarms or reports, and see all of the stream at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from inputs import SECOND, START, WINDOWS, Inputs


def numpy_bincount(inputs: Inputs) -> Callable[[], Any]:
    def call() -> Any:
        length = WINDOWS * inputs.series_count
        key = (inputs.times - START) // SECOND * inputs.series_count + inputs.series
        count = np.bincount(key, minlength=length)
        mean = np.bincount(key, inputs.values, length) / np.maximum(count, 1)
        off = inputs.values - mean[key]
        squares = np.bincount(key, off * off, length)
        low, high = np.full(length, np.inf), np.full(length, -np.inf)
        np.minimum.at(low, key, inputs.values)
        np.maximum.at(high, key, inputs.values)
        last = np.empty(length)
        last[key] = inputs.values
        return count, mean, low, high, np.sqrt(squares / np.maximum(count - 1, 1)), last

    return call


def _frame(inputs: Inputs) -> dict[str, Any]:
    return {"series": inputs.series, "time": inputs.times, "value": inputs.values}


def polars(inputs: Inputs) -> Callable[[], Any]:
    import polars as pl

    frame = pl.DataFrame(_frame(inputs))
    value = pl.col("value")
    statistics = [
        pl.len().alias("count"),
        value.mean().alias("mean"),
        value.min().alias("min"),
        value.max().alias("max"),
        value.std().alias("std"),
        value.last().alias("last"),
    ]
    window = ((pl.col("time") - START) // SECOND).alias("window")

    def call() -> Any:
        return frame.lazy().group_by([pl.col("series"), window]).agg(statistics).collect()

    return call


def duckdb(inputs: Inputs) -> Callable[[], Any]:
    import duckdb as duck
    import pandas as pd

    connection = duck.connect()
    connection.execute("set threads = 1")
    connection.register("frame", pd.DataFrame(_frame(inputs)))
    connection.execute("create table stream as select * from frame")
    connection.unregister("frame")
    query = (
        f"select series, (time - {START}) // {SECOND} as w, count(*) as n, avg(value) as mean,"
        " min(value) as low, max(value) as high, stddev_samp(value) as std, last(value) as last"
        " from stream group by all"
    )
    return lambda: connection.execute(query).fetchnumpy()


def pandas(inputs: Inputs) -> Callable[[], Any]:
    import pandas as pd

    frame = pd.DataFrame(
        {"series": inputs.series, "window": (inputs.times - START) // SECOND, "value": inputs.values}
    )

    def call() -> Any:
        groups = frame.groupby(["series", "window"], sort=False)["value"]
        return groups.agg(["count", "mean", "min", "max", "std", "last"])

    return call


def ddsketch(inputs: Inputs) -> Callable[[], Any]:
    """p50, p95, p99 of the first part of the stream: it takes a microsecond and more a sample."""
    from ddsketch import DDSketch

    part = slice(0, DDSKETCH_SAMPLES)
    columns = [column[part].tolist() for column in (inputs.series, inputs.times, inputs.values)]

    def call() -> Any:
        sketches: dict[tuple[int, int], Any] = {}
        for series, time, value in zip(*columns, strict=True):
            key = (series, time // SECOND)
            if key not in sketches:
                sketches[key] = DDSketch(0.01)
            sketches[key].add(value)
        return [[each.get_quantile_value(q) for q in (0.5, 0.95, 0.99)] for each in sketches.values()]

    return call


DDSKETCH_SAMPLES = 200_000
PEERS: dict[str, Callable[[Inputs], Callable[[], Any]]] = {
    "polars": polars,
    "numpy": numpy_bincount,
    "duckdb": duckdb,
    "pandas": pandas,
    "ddsketch": ddsketch,
}
