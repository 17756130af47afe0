"""What a device's windows say beyond the common statistics: weights by time, steps, quantiles."""

from __future__ import annotations

import json
import math
import random
from array import array
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devicemesh._core import _native, reference, reference_record
from devicemesh.aggregate import Aggregator, Kind, Report, Series, encode_json
from devicemesh.mapper import Batch, Quality
from devicemesh.spec.statistics import STATISTICS

SECOND = 10**9
NOW = 1_795_235_280 * SECOND  # a multiple of ten seconds
FIXED = ("name", "start", "end", "count", "bad")


def core_of(*statistics, **options):
    core = Aggregator(3)
    options = {"lateness_ns": 0, **options}
    core.define(
        Series(0, 0, "x", report=Report.WINDOW, window_ns=10 * SECOND, statistics=statistics, **options)
    )
    core.advance(NOW)
    return core


def push(core, *rows):
    """Rows of (seconds after NOW, value); None is a Bad one. Each a batch of its own."""
    for seconds, value in rows:
        time_ns, quality = NOW + round(seconds * SECOND), 0 if value is not None else Quality.NO_ANSWER
        code = "q" if isinstance(value, int) else "d"
        core.push(
            Batch(array("I", [0]), time_ns, array(code, [math.nan if value is None else value]), quality)
        )


def closed(core):
    """The statistics of the windows that closed, and of those that are open."""
    core.flush()
    bodies = [encode_json(record.body, core.names(record.stream)) for record in core.take()]
    windows = [window for body in bodies for window in json.loads(body)["windows"]]
    return [{name: value for name, value in window.items() if name not in FIXED} for window in windows]


def test_sums_of_the_values():
    core = core_of("sum", "range", "delta", "rms")
    push(core, (0, 3.0), (1, -1.0), (2, 5.0))
    assert closed(core) == [{"sum": 7.0, "range": 6.0, "delta": 2.0, "rms": pytest.approx(math.sqrt(35 / 3))}]


def test_integers_stay_integers_and_booleans_are_counted():
    core = core_of("max", "sum", "range", "p50", kind=Kind.INTEGER)
    push(core, (0, 3), (1, 4), (2, 9))
    (window,) = closed(core)
    assert window == {"max": 9, "sum": 16, "range": 6, "p50": 4}
    assert {type(value) for value in window.values()} == {int}
    core = core_of("sum", "last", "transitions", kind=Kind.BOOLEAN)
    push(core, (0, 1), (1, 0), (2, 1))
    assert closed(core) == [{"sum": 2, "last": True, "transitions": 2}]


def test_a_value_holds_until_the_next_and_into_the_next_window():
    core = core_of("timeAverage", "percentGood")
    push(core, (2, 10.0), (7, 20.0), (24, 30.0))
    assert closed(core) == [
        {"timeAverage": (10 * 5 + 20 * 3) / 8, "percentGood": 80.0},  # from its first value on
        {"timeAverage": 20.0, "percentGood": 100.0},  # no row came
        {"timeAverage": (20 * 4 + 30 * 6) / 10, "percentGood": 100.0},
    ]


def starts(core):
    """Of the windows that closed, in seconds after NOW, and how many rows each has."""
    bodies = [encode_json(record.body, core.names(record.stream)) for record in core.take()]
    windows = [window for body in bodies for window in json.loads(body)["windows"]]
    return [
        (datetime.fromisoformat(each["start"]).timestamp() - NOW / SECOND, each["count"]) for each in windows
    ]


def test_a_value_that_rests_has_a_window_in_every_span():
    core = core_of("timeAverage")
    push(core, (2, 10.0))
    for seconds in range(3, 35):
        core.advance(NOW + seconds * SECOND)
    assert starts(core) == [(0, 1), (10, 0), (20, 0)]
    push(core, (36, None))
    core.advance(NOW + 60 * SECOND)
    core.flush()
    assert starts(core) == [(30, 0)]
    assert core.pending_bytes == 0


def test_only_what_weighs_by_time_has_windows_without_rows():
    core = core_of("mean", "p95", "increase")
    push(core, (2, 10.0), (34, 10.0))
    core.advance(NOW + 60 * SECOND)
    assert starts(core) == [(0, 1), (30, 1)]


def test_a_clock_that_jumps_opens_no_windows_without_end():
    core = core_of("timeAverage")
    push(core, (2, 10.0))
    core.advance(NOW + 100_000 * SECOND)
    assert starts(core) == [(0, 1)]
    core.advance(NOW + 100_010 * SECOND)
    assert starts(core) == [(100_000, 0)]
    push(core, (103_003, 5.0))
    core.advance(NOW + 103_010 * SECOND)
    spans = range(102_400, 103_000, 10)
    assert starts(core) == [(100_010, 0), *((start, 0) for start in spans), (103_000, 1)]


def test_windows_are_where_they_always_are_after_a_clock_that_was_set_back():
    core = core_of("timeAverage")
    push(core, (2, 10.0))
    core.advance(NOW - 3600 * SECOND + 4 * SECOND)
    push(core, (-3600 + 23, 20.0))
    core.advance(NOW - 3600 * SECOND + 40 * SECOND)
    assert starts(core) == [(0, 1), (-3600, 0), (-3590, 0), (-3580, 1), (-3570, 0)]


def test_after_a_clock_that_was_set_back_a_value_that_rests_goes_on_and_no_window_comes_twice():
    core = core_of("timeAverage")
    push(core, (2, 10.0))
    for seconds in range(3, 36):
        core.advance(NOW + seconds * SECOND)
    assert starts(core) == [(0, 1), (10, 0), (20, 0)]
    for seconds in range(-25, 56):
        core.advance(NOW + seconds * SECOND)
    assert starts(core) == [(-30, 0), (-20, 0), (-10, 0), (30, 0), (40, 0)]


def test_without_room_there_is_no_window_until_the_next_row():
    core = Aggregator(3, max_pending_bytes=380)
    core.define(Series(0, 0, "x", report=Report.WINDOW, window_ns=10 * SECOND, statistics=["timeAverage"]))
    core.advance(NOW)
    push(core, (2, 10.0))
    core.advance(NOW + 11 * SECOND)  # the record of the first leaves too little
    core.advance(NOW + 31 * SECOND)
    assert starts(core) == [(0, 1)]
    push(core, (32, 20.0))
    core.advance(NOW + 41 * SECOND)
    assert starts(core)[-1] == (30, 1)


def test_nothing_is_known_from_a_row_without_a_value_on():
    core = core_of("timeAverage", "percentGood", "durationNonzero")
    push(core, (0, 10.0), (2, None), (3, None), (6, 20.0), (13, None), (25, None))
    assert closed(core) == [
        {"timeAverage": (10 * 2 + 20 * 4) / 6, "percentGood": 60.0, "durationNonzero": 6.0},
        {"timeAverage": 20.0, "percentGood": 30.0, "durationNonzero": 3.0},
        {"timeAverage": None, "percentGood": 0.0, "durationNonzero": 0.0},
    ]


def test_a_row_out_of_order_has_no_weight_in_time_and_is_no_step():
    core = core_of("count", "mean", "timeAverage", "transitions", "increase", lateness_ns=30 * SECOND)
    push(core, (1, 1.0), (12, 2.0), (5, 0.0), (11, 100.0))
    assert closed(core) == [
        {"mean": 0.5, "timeAverage": 1.0, "transitions": 0, "increase": 0.0},
        {"mean": 51.0, "timeAverage": (1 * 2 + 2 * 8) / 10, "transitions": 0, "increase": 1.0},
    ]


def test_a_window_that_is_open_gets_the_rest_of_its_time_with_the_next_ones_first_row():
    core = core_of("percentGood", lateness_ns=30 * SECOND)
    push(core, (4, 1.0), (15, 1.0))
    assert closed(core) == [{"percentGood": 60.0}, {"percentGood": 100.0}]


def test_a_counter_grows_over_windows_and_starts_anew_after_a_reset():
    core = core_of("increase", "rate", "resets", kind=Kind.INTEGER)
    push(core, (0, 100), (5, 130), (11, 150), (12, 20), (13, None), (14, 25))
    assert closed(core) == [
        {"increase": 30, "rate": 3.0, "resets": 0},
        {"increase": 45, "rate": 4.5, "resets": 1},  # 20 to 150, 20 after the reset, 5 over the gap
    ]


def test_a_state_has_its_time_and_its_changes():
    core = core_of("durationNonzero", "transitions", kind=Kind.BOOLEAN)
    push(core, (0, 0), (3, 1), (5, 0), (9, 1), (12, 0))
    assert closed(core) == [
        {"durationNonzero": 3.0, "transitions": 3},
        {"durationNonzero": 2.0, "transitions": 1},
    ]


def test_the_average_by_time_survives_large_values():
    core = core_of("timeAverage")
    push(core, *((n / 10, 1e12 + n % 2 * 0.1) for n in range(100)))
    assert closed(core) == [{"timeAverage": pytest.approx(1e12 + 0.05, rel=1e-15)}]


def test_windows_without_values_have_no_statistics():
    core = core_of(*STATISTICS, "p50")
    push(core, (0, None))
    (window,) = closed(core)
    zeros = {"percentGood": 0.0, "durationNonzero": 0.0, "transitions": 0, "resets": 0}
    assert window == {**dict.fromkeys([*STATISTICS[1:], "p50"]), **zeros}


def test_what_is_beyond_floats_is_null():
    core = core_of(*STATISTICS, "p50")
    push(core, (0, 1e308), (1, -1e308), (2, 1e308))
    (window,) = closed(core)
    assert [name for name, value in window.items() if value is None] == [
        "mean", "stddev", "sum", "range", "rms", "timeAverage", "increase", "rate",
    ]  # fmt: skip


# ---- quantiles ----


def test_quantiles_of_few_values_are_exact():
    core = core_of("p0", "p50", "p95", "p99.9", "p50.0")
    push(core, *((n / 2, float(value)) for n, value in enumerate([5, 1, 4, 2, 3])))
    assert closed(core) == [{"p0": 1.0, "p50": 3.0, "p95": 4.0, "p99.9": 4.0}]


@pytest.mark.parametrize("spread", ["near", "wide", "signs"])
def test_quantiles_of_many_values_are_within_one_percent(spread):
    noise = random.Random(7)
    draw = {
        "near": lambda: noise.gauss(100, 5),
        "wide": lambda: 10 ** noise.uniform(-6, 6),
        "signs": lambda: noise.gauss(0, 50),
    }[spread]
    values = [draw() for _ in range(5000)]
    core = core_of("p5", "p50", "p99.9")
    empty = core.pending_bytes
    push(core, *((n / 1000, value) for n, value in enumerate(values)))
    assert empty < core.pending_bytes < 64 << 10
    ordered = sorted(values)
    (window,) = closed(core)
    for name, fraction in (("p5", 0.05), ("p50", 0.5), ("p99.9", 0.999)):
        exact = ordered[math.floor(fraction * (len(values) - 1))]
        assert window[name] == pytest.approx(exact, rel=0.01)
    assert core.pending_bytes == 0


def test_no_quantile_is_beyond_the_extremes():
    core = core_of("min", "max", "p0", "p99.9")
    push(core, *((n / 100, 100.0 if n else 20.0) for n in range(100)))
    (window,) = closed(core)
    assert 20.0 == window["min"] <= window["p0"] <= window["p99.9"] == window["max"] == 100.0


def test_what_is_no_statistic_is_refused_and_changes_nothing():
    core = core_of("mean")
    for wrong in ("p100", "p-1", "p1.2345", "median", "p"):
        with pytest.raises(ValueError, match="is not a statistic"):
            core.define(Series(1, 0, "y", report=Report.WINDOW, window_ns=SECOND, statistics=["p95", wrong]))
    with pytest.raises(ValueError, match="9 where 8 are the most"):
        many = [f"p{n}" for n in range(9)]
        core.define(Series(1, 0, "y", report=Report.WINDOW, window_ns=SECOND, statistics=many))
    assert core.names(0) == ("x",)


# ---- against the twin, and against what time says ----

ALL = (1 << len(reference_record.STATISTICS)) - 1
values = st.floats(-1e6, 1e6) | st.integers(-2, 2).map(float) | st.sampled_from([0.0, -0.0, 1e-300, 1e300])
streams = st.lists(
    st.tuples(st.integers(-20, 40), values, st.sampled_from([0, 0, 0, 0x80])), min_size=1, max_size=120
)


@settings(derandomize=True, deadline=None, max_examples=400)
@given(streams, st.sampled_from([0, SECOND, 5 * SECOND]), st.integers(0, ALL))
def test_the_core_and_its_twin_agree(rows, lateness, mask):
    both = [core.Aggregator(7, 1 << 20) for core in (_native, reference)]
    for core in both:
        core.define(0, 0, 0, 0, 3, mask, [0, 50_000, 99_500], 0.0, 0.0, 0, 0, SECOND, lateness, [])
    time = NOW
    for step, value, quality in rows:
        time += step * SECOND // 100
        for core in both:
            core.push(array("I", [0]), time, array("d", [value]), quality)
    for core in both:
        core.flush()
    native, twin = [core.take() for core in both]
    assert native == twin
    for *_, body in native:
        assert _native.encode_json(body, ["x"]) == reference_record.encode_json(body, ["x"])
    assert both[0].pending_bytes == 0


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(1, 90), st.integers(-3, 3) | st.none()), min_size=1, max_size=40))
def test_time_is_weighed_as_a_clock_would(rows):
    """In steps of a tenth of a second: what was known, and for how long."""
    core = core_of("timeAverage", "percentGood", "durationNonzero")
    known, tenth = [], 0
    for step, value in rows:
        push(core, (tenth / 10, None if value is None else float(value)))
        known += [value] * step
        tenth += step
    starts = sorted({at // 100 for at in _row_tenths(rows)})
    known += [known[-1]] * (100 - len(known) % 100)  # the last row's holds to its window's end
    for start, window in zip(starts, closed(core), strict=True):
        span = [value for value in known[start * 100 : start * 100 + 100] if value is not None]
        assert window["percentGood"] == pytest.approx(len(span))
        assert window["durationNonzero"] == pytest.approx(sum(value != 0 for value in span) / 10)
        if span:
            assert window["timeAverage"] == pytest.approx(sum(span) / len(span), abs=1e-9)
        else:
            assert window["timeAverage"] is None


def _row_tenths(rows):
    tenth = 0
    for step, _ in rows:
        yield tenth
        tenth += step


@pytest.mark.parametrize(
    ("which", "fits"),
    [([30_000], True), ([], False), ([100_000] * 8, True), ([100_001], False), ([30_000] * 9, False)],
)
def test_quantiles_of_a_record_are_looked_at(which, fits):
    found = [(each, 0.0) for each in which]
    body = reference_record.header(7, 0) + reference_record.window((0, 0, 1 << 17), (0, 1), (1, 0), [], found)
    if not which:
        body += bytes(1)
    if fits:
        (window,) = json.loads(encode_json(body, ["x"]))["windows"]
        assert list(window)[-1] == f"p{which[0] // 1000}"
        return
    for encode in (encode_json, reference_record.encode_json):
        with pytest.raises(ValueError):
            encode(body, ["x"])


def test_windows_that_an_earlier_version_spooled_are_read():
    body = bytes.fromhex(
        "01070000000000000000000000"  # epoch 7, seq 0
        "020000230000000000000000" "80c8afa025" "0300"  # property 0, mean, max and stddev of 10 s, three values
        "0000000000000040" "0000000000000840" "000000000000f03f"
    )  # fmt: skip
    (window,) = json.loads(encode_json(body, ["x"]))["windows"]
    assert [window[name] for name in ("count", "mean", "min", "stddev")] == [3, 2.0, 3.0, 1.0]
