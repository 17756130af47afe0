"""The face: what is refused and how, budgets, samples one by one, and what the semantics say in small."""

from __future__ import annotations

import json
import math
import re
import threading
from array import array
from pathlib import Path
from typing import Any

import pytest

from devicemesh.encode import encode
from devicemesh.windows import (
    PART_13,
    STATISTICS,
    Alarm,
    Columns,
    Counts,
    Hopping,
    Profile,
    Session,
    Tumbling,
    WindowAggregator,
)

SECOND = 10**9


SECONDS = Tumbling(SECOND)


def make(
    windows: Any = SECONDS, series: int = 4, profile: Profile | None = None, **options: Any
) -> WindowAggregator:
    aggregator = WindowAggregator(windows, **options)
    aggregator.define(range(series), aggregator.profile(profile or Profile()))
    return aggregator


def rows(*rows: tuple[int, int, float]) -> tuple[array[int], array[int], array[float]]:
    series, times, values = zip(*rows, strict=True)
    return array("I", series), array("q", times), array("d", values)


def table(columns: Columns) -> list[dict[str, Any]]:
    return [
        dict(zip(columns, row, strict=True))
        for row in zip(*(columns[name].tolist() for name in columns), strict=True)
    ]


@pytest.mark.parametrize(
    ("columns", "error", "match"),
    [
        ((array("i", [0]), array("q", [0]), array("d", [0])), TypeError, "series"),
        ((array("I", [0]), array("d", [0]), array("d", [0])), TypeError, "time_ns"),
        ((array("I", [0]), array("q", [0]), array("f", [0])), TypeError, "value"),
        ((array("I", [0]), array("q", [0]), array("d", [0]), array("q", [0])), TypeError, "quality"),
        ((array("I", [0, 1]), array("q", [0]), array("d", [0, 0])), ValueError, "time_ns"),
        ((array("I", [0]), array("q", [0]), array("d", [0, 0])), ValueError, "value"),
        (
            (array("I", [0, 4]), array("q", [0, 0]), array("d", [0, 0])),
            ValueError,
            "series: row 1 is not defined",
        ),
        ((array("I", [0, 0]), array("q", [0, -1]), array("d", [0, 0])), ValueError, "time_ns: that of row 1"),
        (
            (array("I", [0, 0]), array("q", [0, 1 << 62]), array("d", [0, 0])),
            ValueError,
            "time_ns: that of row 1",
        ),
        (([0], [0], [0.0]), TypeError, "bytes-like"),
    ],
)
def test_a_batch_is_refused_whole(columns: Any, error: type[Exception], match: str) -> None:
    aggregator = make()
    with pytest.raises(error, match=match):
        aggregator.ingest(*columns)
    aggregator.flush()
    assert aggregator.counts == Counts(*[0] * 10)
    assert aggregator.windows().rows == 0


@pytest.mark.parametrize(
    ("windows", "options", "match"),
    [
        (Tumbling(0), {}, "^length "),
        (Tumbling(-1), {}, "^length "),
        (Hopping(3, 2), {}, "^length "),
        (Hopping(3, 0), {}, "^hop "),
        (Session(0), {}, "gap"),
        (Tumbling(SECOND), {"lateness_ns": -1}, "lateness_ns"),
        (Tumbling(1), {"lateness_ns": 1 << 40}, "lateness_ns"),
        (Tumbling(SECOND), {"max_future_ns": -1}, "max_future_ns"),
        (Tumbling(SECOND), {"idle_ns": -1}, "idle_ns"),
        (Tumbling(1 << 61), {}, "^length "),
        (Tumbling(SECOND), {"max_bytes": -1}, "max_bytes"),
    ],
)
def test_grids_that_are_none(windows: Any, options: dict[str, int], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        WindowAggregator(windows, **options)


@pytest.mark.parametrize(
    ("profile", "match"),
    [
        (Profile(statistics=("median",)), "statistics: 'median'"),
        (Profile(deadband=math.nan), "deadband"),
        (Profile(deadband_percent=-1), "deadband_percent"),
        (Profile(heartbeat_ns=-1), "heartbeat_ns"),
        (Profile(quantiles=(1.5,)), "quantiles"),
        (Profile(quantiles=(0.5,), relative_error=2.0), "relative_error"),
        (Profile(quantiles=[i / 20 for i in range(17)]), "quantiles"),
        (Profile(percent_bad=101), "percent_bad"),
        (Profile(alarms=[Alarm("a", 1.0, clear=2.0)]), "alarms: 'a'"),
        (Profile(alarms=[Alarm("a", 1.0)] * 9), "alarms"),
        (Profile(interpolation="cubic"), "interpolation"),  # type: ignore[arg-type]
    ],
)
def test_profiles_that_are_none(profile: Profile, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        WindowAggregator(Tumbling(SECOND)).profile(profile)


def test_definitions_that_clash() -> None:
    aggregator = make()
    for series, profile, match in (
        (3, 0, "series: defined already"),
        (9, 7, "profile"),
        (-1, 0, "series"),
        (1 << 32, 0, "series"),
    ):
        with pytest.raises(ValueError, match=match):
            aggregator.define(series, profile)
    aggregator.define(range(7, 7), 0)
    aggregator.define(6, 0)
    with pytest.raises(ValueError, match="series: row 0"):
        aggregator.ingest(*rows((5, 0, 1.0)))  # a hole
    assert aggregator.ingest(*rows((6, 0, 1.0))).counted == 1


def test_a_sample_is_a_batch_of_one() -> None:
    one, many = make(), make()
    samples = [(0, 1, 5.0), (1, 2, 6.0), (0, SECOND, 7.0), (0, SECOND - 1, 1.0)]
    for sample in samples:
        one.add(*sample)
    many.ingest(*rows(*samples))
    for each in (one, many):
        each.flush()
    assert one.counts == many.counts == Counts(3, 1, *[0] * 8)
    assert repr(table(one.windows())) == repr(table(many.windows()))
    with pytest.raises(ValueError, match="series 4 is not defined"):
        one.add(4, 0, 0.0)
    with pytest.raises(ValueError, match="time_ns"):
        one.add(0, -1, 0.0)


def test_integers_are_exact_or_refused() -> None:
    aggregator = make(profile=Profile(statistics=("sum",)))
    values = array("q", [1 << 53, (1 << 53) + 1, -(1 << 53), 1])
    assert aggregator.ingest(array("I", [0, 1, 2, 3]), array("q", [0] * 4), values) == Counts(
        3, 0, 0, 0, 0, 0, 1, 0, 0, 0
    )
    aggregator.flush()
    assert aggregator.windows()["sum"].tolist()[::2] == [2.0**53, -(2.0**53)]


def test_the_future_moves_nothing() -> None:
    aggregator = make(max_future_ns=SECOND)
    aggregator.advance(10 * SECOND)
    assert aggregator.ingest(
        *rows((0, 11 * SECOND + 1, 1.0), (0, 10 * SECOND, 1.0), (0, 11 * SECOND, 1.0))
    ) == Counts(2, 0, 0, 1, *[0] * 6)
    assert aggregator.windows()["start"].tolist() == [10 * SECOND]


def test_a_silent_source_stalls_nobody() -> None:
    aggregator = WindowAggregator(Tumbling(SECOND), idle_ns=2 * SECOND)
    profile = aggregator.profile(Profile())
    aggregator.define(0, profile, source=0)
    aggregator.define(1, profile, source=1)
    aggregator.ingest(*rows((0, 0, 1.0), (1, 0, 1.0), (0, SECOND, 1.0)))
    assert aggregator.windows()["series"].tolist() == [0]
    aggregator.advance(2 * SECOND)  # it was heard until now
    assert aggregator.windows().rows == 0
    aggregator.advance(4 * SECOND)
    assert sorted(aggregator.windows()["series"].tolist()) == [0, 1]


@pytest.mark.parametrize("far", [0.0, 1e12])
def test_variance_where_values_are_large_and_differ_little(far: float) -> None:
    aggregator = make(profile=Profile(statistics=("variance", "mean", "time_average")))
    values = [far + (0.1 if i % 2 else -0.1) for i in range(1000)]
    aggregator.ingest(
        array("I", [0] * 1000), array("q", range(0, SECOND, SECOND // 1000)), array("d", values)
    )
    aggregator.flush()
    (row,) = table(aggregator.windows())
    step = values[1] - values[0]
    assert math.isclose(row["variance"], step * step / 4 * 1000 / 999, rel_tol=1e-9)
    assert math.isclose(row["time_average"], far, abs_tol=1e-3)


def test_a_session_lasts_while_rows_come_and_late_rows_join_two() -> None:
    aggregator = make(Session(10), profile=Profile(statistics=("count", "sum", "last")), lateness_ns=100)
    aggregator.ingest(*rows((0, 100, 1.0), (0, 109, 2.0), (0, 125, 4.0), (0, 117, 8.0), (0, 140, 16.0)))
    aggregator.flush()
    got = [
        (row["start"], row["end"], row["count"], row["sum"], row["last"])
        for row in table(aggregator.windows())
    ]
    assert got == [(100, 135, 4, 15.0, 4.0), (140, 150, 1, 16.0, 16.0)]


def test_a_counter_counts_on_over_a_reset() -> None:
    aggregator = make(profile=Profile(statistics=("increase", "rate", "resets")))
    aggregator.ingest(*rows((0, 0, 100.0), (0, 1, 130.0), (0, 2, 10.0), (0, SECOND, 15.0)))
    aggregator.flush()
    got = [(row["increase"], row["rate"], row["resets"]) for row in table(aggregator.windows())]
    assert got == [(40.0, 40.0, 1), (5.0, 5.0, 0)]


@pytest.mark.parametrize("windows", [SECONDS, Hopping(SECOND, SECOND // 2), Session(SECOND)])
def test_no_quantile_is_beyond_the_extremes(windows: Any) -> None:
    statistics, quantiles = ("min", "max"), (0.001, 0.999)
    aggregator = make(
        windows, profile=Profile(statistics=statistics, quantiles=quantiles, relative_error=0.1)
    )
    aggregator.ingest(*rows(*((0, n, value) for n, value in enumerate([10.0] * 99 + [2.0]))))
    aggregator.flush()
    for window in table(aggregator.windows()):
        assert 2.0 == window["min"] <= window["p0.1"] <= window["p99.9"] == window["max"] == 10.0


def test_quantiles_are_within_their_error() -> None:
    values = [math.exp(i / 500) for i in range(5000)]
    aggregator = make(
        Hopping(2 * SECOND, SECOND), profile=Profile(quantiles=(0.0, 0.5, 0.99, 0.999), relative_error=0.01)
    )
    aggregator.ingest(
        array("I", [1] * 5000), array("q", range(0, 2 * SECOND, 2 * SECOND // 5000)), array("d", values)
    )
    aggregator.flush()
    row = next(row for row in table(aggregator.windows()) if row["start"] == 0)
    for name, q in (("p0", 0.0), ("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)):
        assert math.isclose(row[name], values[math.floor(q * 4999)], rel_tol=0.0101)
    assert aggregator.unsketched == 0


def test_a_budget_is_kept_and_what_it_costs_is_counted() -> None:
    with pytest.raises(MemoryError, match="max_bytes"):
        make(series=100_000, max_bytes=1 << 20)
    aggregator = make(series=1000, max_bytes=200_000)
    pushed = 0
    for second in range(200):
        for _ in range(2):
            aggregator.ingest(
                array("I", range(1000)), array("q", [second * SECOND] * 1000), array("d", [1.0] * 1000)
            )
            pushed += 1000
        assert aggregator.memory_bytes <= 200_000
        assert sum(aggregator.counts) == pushed
    emitted = sum(aggregator.windows()["count"])
    aggregator.flush()
    emitted += sum(aggregator.windows()["count"])
    counts = aggregator.counts
    assert counts.evicted > 0
    assert emitted == counts.counted
    assert sum(counts) == pushed


def test_columns_outlive_their_aggregator_and_are_read_only() -> None:
    aggregator = make()
    aggregator.add(0, 0, 1.5)
    aggregator.flush()
    windows = aggregator.windows()
    del aggregator
    assert windows["mean"].tolist() == [1.5]
    with pytest.raises(TypeError, match="read-only"):
        windows["mean"][0] = 2.0
    assert make().windows()["mean"].tolist() == []


def test_threads_share_an_aggregator() -> None:
    """Each row is counted once, whoever pushes, while others take what comes out."""
    aggregator = make(series=8, profile=Profile(deadband=0.5, quantiles=(0.5,)), lateness_ns=10 * SECOND)
    emitted: list[int] = []

    def push(series: int) -> None:
        for second in range(20):
            aggregator.ingest(
                array("I", [series] * 1000),
                array("q", range(second * SECOND, (second + 1) * SECOND, SECOND // 1000)),
                array("d", range(1000)),
            )
            aggregator.add(series, (second + 1) * SECOND - 1, 1.0)

    def take() -> None:
        for _ in range(100):
            emitted.append(sum(aggregator.windows()["count"]))
            aggregator.reports()
            aggregator.snapshot()

    threads = [threading.Thread(target=push, args=(series,)) for series in range(4)] + [
        threading.Thread(target=take)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    aggregator.flush()
    emitted.append(sum(aggregator.windows()["count"]))
    counts = aggregator.counts
    assert sum(counts) == 4 * 20 * 1001
    assert sum(emitted) == counts.counted


def test_the_docs_name_it_all_and_their_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[2] / "docs/aggregation.md").read_text()
    for name in (*STATISTICS, *Counts._fields):
        assert f"`{name}`" in text, name
    for name in PART_13:
        assert name in text, name
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code
    exec(code[1], {})
    assert capsys.readouterr().out == "[20.0, 81.5]\n[1]\n"


def test_what_comes_out_encodes_uncopied() -> None:
    aggregator = make(profile=Profile(statistics=("count", "mean", "std", "last_time")))
    aggregator.ingest(*rows((0, SECOND, 0.1), (1, SECOND, 1.0)))
    aggregator.flush()
    lines = [
        json.loads(line) for line in encode(aggregator.windows(), ["a/x", "b/y", "", ""], "json").splitlines()
    ]
    at, end = "1970-01-01T00:00:01Z", "1970-01-01T00:00:02Z"
    assert lines[0] == {
        "series": "a/x",
        "start": at,
        "end": end,
        "count": 1,
        "mean": 0.1,
        "last_time": at,
        "std": None,
    }
