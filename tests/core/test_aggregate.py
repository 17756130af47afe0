"""What leaves of a series, what is dropped under which policy, and when windows close."""

from __future__ import annotations

import json
import math
import statistics
from array import array

import pytest

from devicemesh.aggregate import (
    POLICIES,
    Aggregator,
    Kind,
    Limit,
    Report,
    Series,
    encode_json,
)
from devicemesh.layout import Field, Layout
from devicemesh.mapper import QUALITY_WORDS, Batch, Quality
from devicemesh.spec.values import ValueType

SECOND = 10**9
HOUR = 3600 * SECOND
NOW = 1_795_235_280 * SECOND  # a multiple of ten seconds
NAN = math.nan


def rows(*triples, quality=0):
    """A batch of (slot, time, value)."""
    slots, times, values = zip(*triples, strict=True)
    code = "d" if all(isinstance(value, float) for value in values) else "q"
    return Batch(array("I", slots), array("q", times), array(code, values), quality)


def objects(*triples, quality=0):
    slots, times, values = zip(*triples, strict=True)
    return Batch(array("I", slots), array("q", times), list(values), quality)


def bad(slot, time, quality=Quality.NO_ANSWER):
    return rows((slot, time, NAN), quality=quality)


def dropped(core):
    return {policy: count for policy, count in core.dropped.items() if count}


def taken(core):
    """The payloads that wait; on the way, conservation is checked."""
    records = core.take()
    assert core.read == core.taken + sum(core.dropped.values()) + core.pending
    return [json.loads(encode_json(record.body, core.names(record.stream))) for record in records]


def readings(core):
    """All readings that wait, as (name, value, quality)."""
    return [
        (name, value, row.get("quality", {}).get(name, "Good"))
        for payload in taken(core)
        for row in payload.get("rows", ())
        for name, value in row["values"].items()
    ]


def windows(core):
    return [window for payload in taken(core) for window in payload.get("windows", ())]


def one(report, **options):
    """An aggregator with slot 0, `x`."""
    core = Aggregator(3)
    core.define(Series(0, 0, "x", report=report, **options))
    core.advance(NOW)
    return core


def windowed(**options):
    return one(Report.WINDOW, window_ns=10 * SECOND, **options)


# ---- readings ----


def test_a_payload_groups_rows_by_time_and_counts_on():
    core = Aggregator(3)
    core.define(Series(0, 5, "speed"))
    core.define(Series(1, 5, "running", Kind.BOOLEAN))
    core.define(Series(2, 6, "count", Kind.INTEGER))
    time = NOW + 123_456_000
    core.push(Batch(array("I", [0, 1]), time, array("d", [1198.5, 1.0])))
    core.push(Batch(array("I", [2]), time, array("q", [-(1 << 63)])))
    core.push(Batch(array("I", [0]), time + 1, array("d", [NAN]), Quality.NO_ANSWER))
    first, second = core.take()
    assert (first.stream, first.seq, first.samples) == (5, 0, 3)
    assert encode_json(first.body, ["speed", "running"]).decode() == (
        '{"epoch":3,"seq":0,"rows":['
        '{"time":"2026-11-21T04:28:00.123456Z","values":{"speed":1198.5,"running":true}},'
        '{"time":"2026-11-21T04:28:00.123456001Z","values":{"speed":null},"quality":{"speed":"Bad.NoAnswer"}}]}'
    )
    assert (second.stream, second.seq, second.samples) == (6, 0, 1)
    assert b'{"count":-9223372036854775808}' in encode_json(second.body, ["count"])
    core.push(rows((0, time, 1.0)))
    assert [payload["seq"] for payload in taken(core)] == [1]
    assert taken(core) == []


def test_a_property_comes_once_in_a_row():
    core = one(Report.EVERY)
    core.push(rows((0, NOW, 1.0), (0, NOW, 2.0)))
    core.define(Series(0, 0, "x"))
    core.push(rows((0, NOW, 3.0)))
    assert [value for _, value, _ in readings(core)] == [1.0, 2.0, 3.0]


def test_a_row_after_a_window_is_a_row_of_its_own():
    core = windowed()
    core.define(Series(1, 0, "y"))
    core.define(Series(2, 0, "z"))
    core.push(rows((0, NOW, 1.0), (1, NOW, 2.0)))
    core.flush()
    core.push(rows((2, NOW, 3.0)))
    (payload,) = taken(core)
    assert [row["values"] for row in payload["rows"]] == [{"y": 2.0}, {"z": 3.0}]
    assert len(payload["windows"]) == 1


def test_a_large_backlog_is_several_records():
    core = one(Report.EVERY)
    for n in range(5000):
        core.push(rows((0, NOW + n, n + 0.1)))
    records = core.take()
    assert len(records) > 5
    assert [record.seq for record in records] == list(range(len(records)))
    assert sum(record.samples for record in records) == 5000
    assert max(len(record.body) for record in records) < 10_000
    assert core.pending_bytes == 0


def test_a_record_that_starts_inside_a_row_repeats_its_time():
    core = Aggregator(0)
    for slot in range(4):
        core.define(Series(slot, 0, str(slot), Kind.OBJECT))
    core.push(objects(*((slot, NOW, "x" * 5000) for slot in range(4))))
    payloads = taken(core)
    assert [list(payload["rows"][0]["values"]) for payload in payloads] == [["0", "1"], ["2", "3"]]
    assert len({payload["rows"][0]["time"] for payload in payloads}) == 1


def test_kinds_decide_how_a_value_is_printed():
    core = Aggregator(0)
    for kind in Kind:
        core.define(Series(kind, 0, kind.name, kind))
    values = array("d", [5.0] * 5)
    core.push(Batch(array("I", Kind), NOW, values))
    text = core.take()[0].body
    encoded = encode_json(text, core.names(0)).decode()
    assert '{"FLOAT":5.0,"INTEGER":5,"BOOLEAN":true,"OBJECT":5.0,"FLOAT32":5.0}' in encoded


def test_nothing_is_cut_off_an_integer_that_is_none():
    core = one(Report.EVERY, kind=Kind.INTEGER)
    core.push(rows((0, NOW, 119.8), (0, NOW, 120.0)))
    core.push(rows((0, NOW, (1 << 63) - 1)))
    assert [value for _, value, _ in readings(core)] == [119.8, 120, (1 << 63) - 1]


def test_none_feeds_the_twin_only():
    core = one(Report.NONE)
    core.push(rows((0, NOW, 1.0)))
    core.push(bad(0, NOW + 1))
    assert taken(core) == []
    assert dropped(core) == {"none": 2}
    assert core.latest(0).quality == Quality.NO_ANSWER


@pytest.mark.parametrize("report", [Report.EVERY, Report.CHANGE])
def test_bad_rows_are_news_once(report):
    core = one(report)
    core.push(rows((0, NOW, 1.0)))
    for _ in range(3):
        core.push(bad(0, NOW))
    core.push(bad(0, NOW, Quality.NO_LINK))
    core.push(bad(0, NOW, Quality.NO_LINK))
    core.push(rows((0, NOW, 1.0)))
    core.push(rows((0, NOW, 1.0), quality=Quality.UNCERTAIN))
    assert readings(core) == [
        ("x", 1.0, "Good"),
        ("x", None, "Bad.NoAnswer"),
        ("x", None, "Bad.NoLink"),
        ("x", 1.0, "Good"),
        ("x", 1.0, "Uncertain"),
    ]
    assert dropped(core) == {"bad": 3}
    assert sum(core.bad.values()) == 6


def test_nan_and_infinities_are_bad_and_counted_apart():
    core = one(Report.CHANGE)
    core.push(rows((0, NOW, NAN), (0, NOW, math.inf), (0, NOW, -math.inf), (0, NOW, 1.0)))
    assert readings(core) == [("x", None, "Bad"), ("x", 1.0, "Good")]
    assert dropped(core) == {"nonfinite": 2}


def test_an_undefined_slot_is_counted():
    core = one(Report.EVERY)
    core.push(rows((1, NOW, 1.0), (4_000_000_000, NOW, 1.0), (0, NOW, 1.0)))
    assert dropped(core) == {"undefined": 2}
    with pytest.raises(KeyError):
        core.latest(1)


# ---- change ----


def reported(core, *values):
    core.push(rows(*((0, NOW, value) for value in values)))
    return [value for _, value, _ in readings(core)]


def test_the_larger_deadband_holds():
    assert reported(one(Report.CHANGE), 1.0, 1.0, 1.5) == [1.0, 1.5]
    assert reported(one(Report.CHANGE, deadband=0.5), 1.0, 1.5, 0.5, 1.75) == [1.0, 1.75]
    assert reported(one(Report.CHANGE, deadband_percent=10.0), 100.0, 110.0, 90.0, 111.0) == [100.0, 111.0]
    both = {"deadband": 5.0, "deadband_percent": 10.0}
    assert reported(one(Report.CHANGE, **both), 10.0, 15.0, 15.5) == [10.0, 15.5]
    assert reported(one(Report.CHANGE, **both), 100.0, 106.0, 110.5) == [100.0, 110.5]


def test_the_deadband_is_about_the_value_reported_last():
    assert reported(one(Report.CHANGE, deadband=1.0), *(n * 0.5 for n in range(7))) == [0.0, 1.5, 3.0]


def test_integers_are_compared_exactly():
    core = one(Report.CHANGE, kind=Kind.INTEGER)
    assert reported(core, 1 << 53, (1 << 53) + 1, (1 << 53) + 1) == [1 << 53, (1 << 53) + 1]
    core = one(Report.CHANGE, kind=Kind.INTEGER, deadband=1e18)
    assert reported(core, -(1 << 63), (1 << 63) - 1) == [-(1 << 63), (1 << 63) - 1]


def test_a_boolean_has_no_deadband():
    core = one(Report.CHANGE, kind=Kind.BOOLEAN, deadband=5.0)
    assert reported(core, 0.0, 1.0, 1.0, 0.0) == [False, True, False]


# ---- windows ----


def test_a_window_has_its_statistics():
    core = windowed()
    values = [3.0, 1.0, 4.0, 1.0, 5.0]
    core.push(rows(*((0, NOW + n * SECOND, value) for n, value in enumerate(values))))
    assert windows(core) == []
    assert core.pending == 5
    core.push(rows((0, NOW + 10 * SECOND, 9.0)))
    assert windows(core) == [
        {
            "name": "x",
            "start": "2026-11-21T04:28:00Z",
            "end": "2026-11-21T04:28:10Z",
            "count": 5,
            "bad": 0,
            "mean": statistics.fmean(values),
            "min": 1.0,
            "max": 5.0,
            "first": 3.0,
            "last": 5.0,
            "stddev": pytest.approx(statistics.stdev(values)),
        }
    ]
    assert (core.taken, core.pending) == (5, 1)


def test_only_the_declared_statistics_leave():
    core = windowed(statistics=["max", "mean"], kind=Kind.INTEGER)
    core.push(rows((0, NOW, 1), (0, NOW, 2)))
    core.flush()
    (window,) = windows(core)
    assert list(window) == ["name", "start", "end", "count", "bad", "mean", "max"]
    assert (window["mean"], window["max"], type(window["max"])) == (1.5, 2, int)


def test_the_deviation_survives_large_values():
    core = windowed()
    values = [1e12 + (-1) ** n * 0.1 for n in range(100)]
    core.push(rows(*((0, NOW, value) for value in values)))
    core.flush()
    (window,) = windows(core)
    assert window["stddev"] == pytest.approx(statistics.stdev(values), rel=1e-6)


def test_one_value_has_no_deviation_and_extremes_overflow_to_null():
    core = windowed()
    core.push(rows((0, NOW, 7.0)))
    core.push(rows((0, NOW + 10 * SECOND, 1e308), (0, NOW + 10 * SECOND, -1e308)))
    core.flush()
    single, extreme = windows(core)
    assert (single["mean"], single["stddev"]) == (7.0, None)
    assert (extreme["mean"], extreme["stddev"], extreme["min"], extreme["max"]) == (None, None, -1e308, 1e308)


def test_first_and_last_go_by_time():
    core = windowed()
    times = [5, 3, 8, 8, 3]
    core.push(rows(*((0, NOW + time, float(n)) for n, time in enumerate(times))))
    core.flush()
    (window,) = windows(core)
    assert (window["first"], window["last"]) == (1.0, 3.0)


def test_windows_before_the_epoch():
    core = Aggregator(0)
    core.define(Series(0, 0, "x", report=Report.WINDOW, window_ns=10 * SECOND))
    core.push(rows((0, -1, 1.0)))
    core.push(rows((0, 0, 2.0)))
    core.flush()
    assert [window["start"] for window in windows(core)] == ["1969-12-31T23:59:50Z", "1970-01-01T00:00:00Z"]


def test_bad_rows_count_in_their_window_and_are_dropped():
    core = windowed()
    core.push(bad(0, NOW))
    core.push(rows((0, NOW, NAN), (0, NOW, 2.0)))
    core.push(rows((0, NOW, (1 << 53) + 1), (0, NOW, 1 << 53)))
    core.define(Series(1, 0, "y", Kind.INTEGER, Report.WINDOW, window_ns=10 * SECOND))
    core.push(rows((1, NOW, (1 << 53) + 1), (1, NOW, 1 << 53), (1, NOW, -(1 << 53) - 1)))
    core.push(objects((0, NOW, "on")))
    core.push(bad(0, NOW + 10 * SECOND))
    core.flush()
    first, second, whole = windows(core)
    assert (first["count"], first["bad"]) == (3, 3)
    assert (second["count"], second["bad"], second["mean"], second["last"]) == (0, 1, None, None)
    assert (whole["count"], whole["bad"], whole["last"]) == (1, 2, 1 << 53)
    assert dropped(core) == {"bad": 2, "nonfinite": 1, "inexact": 3}


def test_a_late_row_enters_an_open_window_and_is_dropped_from_a_closed_one():
    core = windowed(lateness_ns=5 * SECOND)
    core.push(rows((0, NOW + 1, 1.0)))
    core.push(rows((0, NOW + 12 * SECOND, 2.0)))
    core.push(rows((0, NOW + 2, 3.0)))  # late, but still open
    core.push(rows((0, NOW + 15 * SECOND, 4.0)))  # closes the first
    core.push(rows((0, NOW + 3, 5.0)))
    (window,) = windows(core)
    assert (window["count"], window["last"]) == (2, 3.0)
    assert dropped(core) == {"late": 1}


def test_rows_of_one_batch_never_make_each_other_late():
    core = Aggregator(0)
    for slot in (0, 1):
        core.define(Series(slot, 0, f"x{slot}", report=Report.WINDOW, window_ns=SECOND))
    core.push(rows(*((slot, NOW + n * SECOND, 1.0) for slot in (0, 1) for n in range(4))))
    core.push(objects((0, NOW + 9 * SECOND, 1.0), (1, NOW + 4 * SECOND, 1)))
    assert dropped(core) == {}
    core.flush()
    assert sum(window["count"] for window in windows(core)) == 10


def test_a_stream_has_its_own_time():
    core = windowed()
    core.define(Series(1, 1, "y", report=Report.WINDOW, window_ns=10 * SECOND))
    core.push(rows((1, NOW, 1.0), (0, NOW + 60 * SECOND, 1.0)))
    assert windows(core) == []
    core.push(rows((1, NOW + 1, 1.0)))
    assert dropped(core) == {}


def test_the_clock_closes_the_windows_of_a_silent_stream():
    core = windowed(lateness_ns=2 * SECOND)
    core.push(rows((0, NOW + 1, 1.0)))
    core.advance(NOW + 12 * SECOND - 1)
    assert windows(core) == []
    core.advance(NOW + 12 * SECOND)
    assert len(windows(core)) == 1
    core.push(rows((0, NOW + 2, 1.0)))
    assert dropped(core) == {"late": 1}


def test_a_device_whose_clock_is_behind_is_judged_by_its_own():
    core = windowed()
    behind = NOW - HOUR
    for second in range(0, 30):
        core.advance(NOW + second * SECOND)
        core.push(rows((0, behind + second * SECOND, 1.0)))
    assert dropped(core) == {}
    assert len(windows(core)) == 2
    core.advance(NOW + 30 * SECOND)
    core.advance(NOW + 42 * SECOND)
    assert len(windows(core)) == 1  # silent: its clock is taken to go on


@pytest.mark.parametrize("back", [5 * SECOND, 600 * SECOND, 2 * HOUR, 24 * 365 * HOUR])
def test_a_clock_that_is_set_back_stops_nothing(back):
    core = windowed()
    core.define(Series(1, 0, "y", limits=[Limit("hot", True, 50.0, 40.0, "critical")]))
    for second in range(0, 30):
        core.advance(NOW + second * SECOND)
        core.push(rows((0, NOW + second * SECOND, 1.0), (1, NOW + second * SECOND, 1.0)))
    then = NOW + 30 * SECOND - back // SECOND * SECOND
    core.advance(then)
    before = windows(core)
    assert [window["count"] for window in before] == [10, 10, 10]
    core.push(rows((0, then, 2.0), (1, then, 60.0)))
    assert [core.latest(slot).value for slot in (0, 1)] == [2.0, 60.0]
    assert [event.active for event in core.alarms()] == [True]
    for second in range(1, 61):
        core.advance(then + second * SECOND)
        core.push(rows((0, then + second * SECOND, 2.0)))
    after = [window["start"] for window in windows(core)]
    assert len(after) >= 3
    assert not {window["start"] for window in before} & set(after)
    assert core.read == core.taken + core.pending + sum(core.dropped.values())


def test_a_clock_that_is_set_back_by_less_than_a_second_is_none():
    core = windowed()
    core.push(rows((0, NOW + SECOND, 1.0)))
    core.advance(NOW + SECOND)
    core.advance(NOW + 1)
    core.push(rows((0, NOW, 2.0)))
    assert core.latest(0).value == 1.0
    assert windows(core) == []


def test_windows_before_the_first_contact_are_not_published_again():
    core = windowed()
    for second in range(0, 21, 10):
        core.push(bad(0, NOW + second * SECOND))
        core.advance(NOW + (second + 10) * SECOND)
    assert [(window["count"], window["bad"]) for window in windows(core)] == [(0, 1)] * 3
    core.push(rows((0, NOW - HOUR, 1.0)))  # there it is, an hour behind
    core.push(rows((0, NOW - 5, 2.0)))
    core.push(rows((0, NOW, 2.5)))  # in the first of the windows that are out,
    core.push(rows((0, NOW + 29 * SECOND, 3.0)))  # and in the last
    core.push(rows((0, NOW + 30 * SECOND, 4.0)))
    core.flush()
    assert [window["mean"] for window in windows(core)] == [1.0, 2.0, 4.0]
    assert dropped(core) == {"bad": 3, "late": 2}


def test_a_bad_row_does_not_move_the_clock_of_its_stream():
    core = windowed()
    core.push(rows((0, NOW - HOUR, 1.0)))
    core.push(bad(0, NOW))
    core.push(rows((0, NOW - HOUR + 1, 1.0)))
    assert dropped(core) == {"bad": 1}


def test_a_timestamp_from_the_future_moves_no_clock():
    core = windowed()
    core.define(Series(1, 0, "y"))
    ahead = NOW + HOUR + 1
    core.push(rows((0, ahead, 1.0), (1, ahead, 1.0), (0, NOW, 2.0)))
    core.push(rows((0, NOW + 1, 3.0)))
    assert dropped(core) == {"future": 1}
    assert [name for name, _, _ in readings(core)] == ["y"]
    core.push(rows((1, NOW + 2, 5.0)))
    assert core.latest(1).value == 5.0  # nor does it stay the latest
    core.flush()
    assert [window["count"] for window in windows(core)] == [2]


def test_times_beyond_all_windows_are_counted():
    core = Aggregator(0)
    core.define(Series(0, 0, "x", report=Report.WINDOW, window_ns=SECOND))
    core.push(rows((0, (1 << 63) - 1, 1.0), (0, -(1 << 63), 1.0)))
    assert dropped(core) == {"future": 1, "late": 1}


def test_a_window_is_published_once_whatever_happens_to_its_series():
    core = windowed()
    core.push(rows((0, NOW, 1.0)))
    core.flush()
    core.push(rows((0, NOW, 2.0)))
    core.define(Series(0, 0, "x", report=Report.WINDOW, window_ns=10 * SECOND))
    core.push(rows((0, NOW, 3.0)))
    core.remove(0)
    core.define(Series(7, 0, "x", report=Report.WINDOW, window_ns=10 * SECOND))
    core.push(rows((7, NOW, 4.0), (7, NOW + 10 * SECOND, 5.0)))
    core.remove(7)
    assert [window["mean"] for window in windows(core)] == [1.0, 5.0]
    assert dropped(core) == {"late": 3}


def test_changed_rules_close_the_open_windows():
    core = windowed()
    core.push(rows((0, NOW, 1.0)))
    core.define(Series(0, 0, "x", report=Report.EVERY))
    core.push(rows((0, NOW, 2.0)))
    (payload,) = taken(core)
    assert [window["count"] for window in payload["windows"]] == [1]
    assert [row["values"] for row in payload["rows"]] == [{"x": 2.0}]


# ---- alarms ----


def alarms(core):
    return [(event.alarm, event.active, event.value) for event in core.alarms()]


def test_alarms_have_hysteresis_and_tell_once():
    core = one(
        Report.NONE,
        limits=[Limit("hot", True, 30.0, 28.0, "critical"), Limit("cold", False, 5.0, 5.0, "info")],
    )
    for value in (30.0, 31.0, 32.0, 29.0, 28.0, 27.9, 31.0, 4.0, 5.0, NAN, 5.1):
        core.push(rows((0, NOW, value)))
    assert alarms(core) == [
        ("hot", True, 31.0),
        ("hot", False, 27.9),
        ("hot", True, 31.0),
        ("hot", False, 4.0),
        ("cold", True, 4.0),
        ("cold", False, 5.1),
    ]
    assert alarms(core) == []


def test_an_older_row_raises_no_alarm():
    core = one(Report.NONE, limits=[Limit("hot", True, 30.0, 28.0, "critical")])
    core.push(rows((0, NOW, 1.0)))
    core.push(rows((0, NOW - 1, 99.0)))
    assert core.alarms() == []


def test_an_alarm_goes_on_under_its_name_and_ends_with_its_definition():
    hot = Limit("hot", True, 30.0, 28.0, "critical")
    core = one(Report.NONE, limits=[hot])
    core.push(rows((0, NOW, 31.0)))
    warm = Limit("warm", True, 20.0, 20.0, "info")
    core.define(Series(0, 0, "x", report=Report.NONE, limits=[warm, hot]))
    core.push(rows((0, NOW, 31.0)))
    core.define(Series(0, 0, "x", report=Report.NONE, limits=[hot]))
    core.remove(0)
    events = core.alarms()
    assert [(event.alarm, event.active) for event in events] == [
        ("hot", True),
        ("warm", True),
        ("warm", False),
        ("hot", False),
    ]
    assert (events[0].severity, events[0].slot, events[0].time_ns) == ("critical", 0, NOW)


def test_an_unsigned_integer_beyond_int64_raises_an_alarm():
    core = one(Report.CHANGE, kind=Kind.INTEGER, limits=[Limit("much", True, 1e18, 1e18, "info")])
    for batch in Layout([Field(0, ValueType.UINT64)], [0]).decode(b"\xff" * 8, NOW):
        core.push(batch)
    assert alarms(core) == [("much", True, 2.0**64)]
    assert core.latest(0).value == (1 << 64) - 1
    assert readings(core) == [("x", (1 << 64) - 1, "Good")]


# ---- the latest ----


def test_the_latest_goes_by_time_between_values():
    core = one(Report.EVERY)
    assert (core.latest(0).value, core.latest(0).quality) == (None, Quality.PENDING)
    core.push(rows((0, NOW, 1.0), (0, NOW - 1, 2.0)))
    assert (core.latest(0).value, core.latest(0).time_ns) == (1.0, NOW)
    core.push(bad(0, NOW - 2))
    assert (core.latest(0).value, core.latest(0).quality) == (None, Quality.NO_ANSWER)
    core.push(rows((0, NOW - 3, 3.0)))
    assert core.latest(0).value == 3.0


def test_the_latest_survives_a_change_of_rules_but_not_of_the_property():
    core = one(Report.EVERY)
    core.push(rows((0, NOW, 1.0)))
    core.define(Series(0, 0, "x", report=Report.CHANGE))
    assert core.latest(0).value == 1.0
    core.define(Series(0, 0, "y"))
    assert core.latest(0).quality == Quality.PENDING


def test_unknown_quality_codes_are_values_not_crashes():
    core = one(Report.EVERY)
    for code in range(256):
        core.push(rows((0, NOW, 1.0), quality=code))
        quality = core.latest(0).quality
        assert quality >> 6 == min(code >> 6, 2)
    words = [word for _, _, word in readings(core)]
    for code in range(256):
        assert words[code] == QUALITY_WORDS.get(code, words[code])
        assert words[code].startswith(("Good", "Uncertain", "Bad")[min(code >> 6, 2)])
    assert len(set(words)) == 256


def test_a_snapshot_is_the_latest_of_many_as_json():
    core = Aggregator(0)
    for slot, kind in enumerate([Kind.FLOAT32, Kind.INTEGER, Kind.OBJECT, Kind.OBJECT, Kind.FLOAT]):
        core.define(Series(slot, 0, str(slot), kind, Report.NONE))
    core.push(rows((0, NOW + 1_999_999, 0.10000000149011612), (1, NOW, 7.0)))
    core.push(objects((2, NOW + 50_999_999, {"a": NAN, "\ud800": 1}), (3, NOW, b"\xff")))
    core.push(bad(1, NOW + SECOND))
    snapshot = core.snapshot(array("I", [1, 0, 2, 3, 4, 99]))
    assert [json.loads(reading, parse_constant=pytest.fail) for reading in snapshot.readings] == [
        {"value": None, "time": "2026-11-21T04:28:01Z", "quality": "Bad.NoAnswer"},
        {"value": 0.1, "time": "2026-11-21T04:28:00.001Z", "quality": "Good"},
        {"value": {"a": None, "?": 1}, "time": "2026-11-21T04:28:00.05Z", "quality": "Good"},
        {"value": "/w==", "time": "2026-11-21T04:28:00Z", "quality": "Good"},
        {"value": None, "time": None, "quality": "Bad.Pending"},
        {"value": None, "time": None, "quality": "Bad.Pending"},
    ]
    assert list(snapshot.qualities) == [Quality.NO_ANSWER, 0, 0, 0, Quality.PENDING, Quality.PENDING]
    assert snapshot.newest_ns == NOW + 50_999_999
    assert [core.count(slot) for slot in (0, 1, 4, 99)] == [1, 2, 0, 0]


# ---- objects ----


def test_objects_leave_as_json():
    core = one(Report.EVERY, kind=Kind.OBJECT)
    values = ['a "µ"\n\0\x7f', b"\xff\x00", {"a": [1, NAN, {"b": None}]}, 1 << 70, True, -5, 1.5, [], "", b""]
    core.push(objects(*((0, NOW, value) for value in values)))
    got = [value for _, value, _ in readings(core)]
    assert got == [values[0], "/wA=", {"a": [1, None, {"b": None}]}, 1 << 70, True, -5, 1.5, [], "", ""]
    assert core.latest(0).value == b""


@pytest.mark.parametrize(
    "value",
    [{1, 2}, None, "x" * (5 << 20), 10**5000, {"a": object()}],
    ids=["set", "none", "too long", "too many digits", "object"],
)
def test_what_json_cannot_say_is_bad_and_harms_nobody(value):
    core = one(Report.EVERY, kind=Kind.OBJECT)
    core.push(objects((0, NOW, "before"), (0, NOW, value), (0, NOW, "after")))
    (_, first, _), (_, second, quality), (_, third, _) = readings(core)
    assert (first, second, third) == ("before", None, "after")
    assert quality.startswith("Bad")


def test_a_nesting_without_end_is_bad():
    endless = []
    endless.append(endless)
    deep = json.loads("[" * 600 + "]" * 600)
    core = one(Report.EVERY, kind=Kind.OBJECT)
    core.push(objects((0, NOW, endless), (0, NOW, "x"), (0, NOW, deep)))
    assert [quality for _, _, quality in readings(core)] == ["Bad.Undecodable", "Good", "Bad.Undecodable"]


def test_objects_change_when_they_differ():
    core = one(Report.CHANGE, kind=Kind.OBJECT)
    values = ["on", "on", b"on", b"on", {"a": 1}, {"a": 1}, {"a": 2}, "on", 1, 1.0, ""]
    core.push(objects(*((0, NOW, value) for value in values)))
    assert [value for _, value, _ in readings(core)] == ["on", "b24=", {"a": 1}, {"a": 2}, "on", 1, ""]


def test_a_lone_surrogate_does_not_break_a_payload():
    core = one(Report.EVERY, kind=Kind.OBJECT)
    core.push(objects((0, NOW, "\ud800"), (0, NOW, ["\ud800"])))
    assert [value for _, value, _ in readings(core)] == ["?", ["?"]]


# ---- memory ----


def test_beyond_the_cap_rows_are_counted_and_a_change_comes_later():
    core = Aggregator(0, max_pending_bytes=400)
    core.define(Series(0, 0, "x", report=Report.CHANGE))
    core.define(Series(1, 1, "y", report=Report.WINDOW, window_ns=SECOND))
    core.push(rows(*((0, NOW + n, n + 0.5) for n in range(100))))
    core.push(rows((1, NOW, 1.0)))
    assert core.pending_bytes <= 400
    before = readings(core)
    assert 5 < len(before) < 40
    assert dropped(core) == {"overflow": 101 - len(before)}
    core.push(rows((0, NOW, 99.5)))
    assert readings(core) == [("x", 99.5, "Good")]


# ---- definitions ----


def test_names_are_only_ever_appended_to():
    core = Aggregator(0)
    assert list(core.names(4)) == []
    core.define(Series(0, 4, "a"))
    core.define(Series(1, 4, "b"))
    before = core.names(4)
    core.remove(0)
    core.define(Series(0, 4, "c"))
    core.define(Series(2, 4, "a"))
    assert (list(before), list(core.names(4))) == (["a", "b"], ["a", "b", "c"])
    core.push(rows((0, NOW, 1.0), (2, NOW, 2.0)))
    assert readings(core) == [("c", 1.0, "Good"), ("a", 2.0, "Good")]


def test_a_forgotten_stream_has_no_names():
    core = Aggregator(0)
    core.define(Series(0, 4, "a"))
    core.remove(0)
    core.forget(4)
    core.forget(5)  # never was
    assert [list(core.names(stream)) for stream in (-1, 3, 4, 5)] == [[], [], [], []]


def test_a_text_is_reported_when_it_changes():
    core = one(Report.CHANGE, kind=Kind.OBJECT)
    texts = ["on", "on", "a longer one" * 40, "", "", "on", b"on", b"on", [1], [1], 1.5, 1.5, "on"]
    for second, text in enumerate(texts):
        core.push(objects((0, NOW + second, text)))
    core.push(bad(0, NOW + 20))
    core.push(objects((0, NOW + 21, "on")))
    assert [value for _, value, _ in readings(core)] == [
        *("on", "a longer one" * 40, "", "on", "b24=", [1], 1.5, "on", None, "on")
    ]
    assert dropped(core) == {"deadband": 5}


def test_a_property_has_one_slot_at_a_time():
    core = Aggregator(0)
    core.define(Series(0, 0, "a"))
    core.define(Series(1, 0, "b"))
    with pytest.raises(ValueError, match="'a' of stream 0 already has slot 0"):
        core.define(Series(1, 0, "a"))
    core.define(Series(0, 1, "a"))  # its slot goes to another device
    core.define(Series(2, 0, "a"))
    core.remove(1)
    core.define(Series(3, 0, "b"))
    core.push(rows((0, NOW, 1.0), (1, NOW, 2.0), (2, NOW, 3.0), (3, NOW, 4.0)))
    records = {record.stream: encode_json(record.body, core.names(record.stream)) for record in core.take()}
    assert {stream: json.loads(body)["rows"][0]["values"] for stream, body in records.items()} == {
        0: {"a": 3.0, "b": 4.0},
        1: {"a": 1.0},
    }


def test_a_series_defined_anew_leaves_its_neighbours_in_place():
    core = Aggregator(0)
    for slot, name in enumerate("abc"):
        core.define(Series(slot, 0, name))
    for slot in (1, 2, 0):
        core.define(Series(slot, 0, "abc"[slot], report=Report.CHANGE))
    for name in "abc":
        with pytest.raises(ValueError, match="already has slot"):
            core.define(Series(3, 0, name))
    for slot in (0, 1, 2):
        core.remove(slot)
        core.define(Series(3, 0, "abc"[slot]))
        core.remove(3)


def test_every_series_keeps_its_own_rules():
    core = Aggregator(0)
    deadbands = {slot: float(slot % 50) for slot in range(100)}  # 50 rules, two series each
    for slot, deadband in deadbands.items():
        core.define(Series(slot, 0, f"p{slot}", report=Report.CHANGE, deadband=deadband))
    for slot in range(0, 100, 3):
        core.remove(slot)
        del deadbands[slot]
    slots = array("I", deadbands)
    core.push(Batch(slots, NOW, array("d", [0.0] * len(slots)), 0))
    core.push(Batch(slots, NOW, array("d", deadbands.values()), 0))
    assert [name for name, _, _ in readings(core)] == [f"p{slot}" for slot in slots]
    core.push(Batch(slots, NOW, array("d", [deadband + 1 for deadband in deadbands.values()]), 0))
    assert [name for name, _, _ in readings(core)] == [f"p{slot}" for slot in slots]


def test_series_of_the_same_rules_stay_apart():
    core = Aggregator(0)
    limits = [Limit("hot", True, 90.0, 85.0, "critical")]
    for slot in range(40):  # 20 rules, two series each
        core.define(Series(slot, 0, f"p{slot}", report=Report.CHANGE, deadband=slot % 20, limits=limits))
    core.push(rows((0, NOW, 95.0), (20, NOW, 50.0)))
    assert [(event.slot, event.active) for event in core.alarms()] == [(0, True)]
    core.define(Series(0, 0, "p0", report=Report.CHANGE, deadband=5.0, limits=limits))  # 5's, too
    core.remove(25)
    core.push(rows((20, NOW, 91.0), (5, NOW, 1.0), (5, NOW, 5.0), (0, NOW, 1.0), (0, NOW, 6.5)))
    assert [(event.slot, event.active) for event in core.alarms()] == [(20, True), (0, False)]
    assert dropped(core) == {"deadband": 1}


def test_a_series_that_becomes_windowed_late_knows_its_devices_clock():
    core = one(Report.EVERY)
    core.push(rows((0, NOW + 30 * SECOND, 1.0)))
    core.define(Series(1, 0, "y", report=Report.WINDOW, window_ns=10 * SECOND))
    core.push(rows((1, NOW, 2.0), (1, NOW + 30 * SECOND, 3.0)))
    assert dropped(core) == {"late": 1}
    core.flush()
    assert [window["count"] for window in windows(core)] == [1]


@pytest.mark.parametrize(
    "series",
    [
        Series(1, 0, "x"),
        Series(-1, 0, "y"),
        Series(1 << 24, 0, "y"),
        Series(1, -1, "y"),
        Series(1, 1 << 24, "y"),
        Series(1, 0, "y", deadband=-1.0),
        Series(1, 0, "y", deadband=NAN),
        Series(1, 0, "y", heartbeat_ns=-1),
        Series(1, 0, "y", lateness_ns=-1),
        Series(1, 0, "y", lateness_ns=367 * 24 * HOUR),
        Series(1, 0, "y", report=Report.WINDOW),
        Series(1, 0, "y", report=Report.WINDOW, window_ns=367 * 24 * HOUR),
        Series(1, 0, "y", statistics=["median"]),
        Series(1, 0, "y", limits=[Limit("a", True, 1.0, 1.0, "info")] * 256),
    ],
)
def test_a_series_that_makes_no_sense_is_refused(series):
    core = one(Report.EVERY)
    with pytest.raises(ValueError, match=r"."):
        core.define(series)
    core.define(Series(1, 0, "y"))
    core.push(rows((0, NOW, 1.0), (1, NOW, 2.0)))
    assert readings(core) == [("x", 1.0, "Good"), ("y", 2.0, "Good")]


def test_removing_what_is_not_there_is_nothing():
    core = one(Report.EVERY)
    core.remove(5)
    core.remove(0)
    core.remove(0)
    core.push(rows((0, NOW, 1.0)))
    assert dropped(core) == {"undefined": 1}


def test_every_policy_is_listed():
    assert tuple(Aggregator(0).dropped) == POLICIES
    with pytest.raises(ValueError, match="epoch"):
        Aggregator(1 << 32)
    with pytest.raises(ValueError, match="negative"):
        Aggregator(0, max_pending_bytes=-1)


# ---- buffers ----


@pytest.mark.parametrize(
    ("batch", "error"),
    [
        (Batch(array("I", [0]), NOW, array("d", [1.0, 2.0])), ValueError),
        (Batch(array("I", [0]), array("q", [1, 2]), array("d", [1.0])), ValueError),
        (Batch(array("I", [0]), NOW, array("d", [1.0]), array("B", [])), ValueError),
        (Batch(array("I", [0]), NOW, [1.0, 2.0]), ValueError),
        (Batch(array("I", [0]), array("q", [1, 2]), [1.0]), ValueError),
        (Batch(array("I", [0]), NOW, array("d", [1.0]), 256), ValueError),
        (Batch(array("I", [0]), NOW, array("d", [1.0]), -1), ValueError),
        (Batch(array("I", [0]), 1 << 63, array("d", [1.0])), OverflowError),
        (Batch(array("I", [0]), NOW, array("f", [1.0])), TypeError),
        (Batch(array("I", [0]), NOW, array("i", [1])), TypeError),
        (Batch(array("Q", [0]), NOW, array("d", [1.0])), TypeError),
        (Batch(array("I", [0]), array("d", [1.0]), array("d", [1.0])), TypeError),
        (Batch(array("I", [0]), NOW, {1.0}), TypeError),
        (Batch(array("I", [0, 0]), NOW, memoryview(array("d", [1, 2, 3]))[::2]), BufferError),
    ],
)
def test_columns_that_do_not_fit_are_refused_whole(batch, error):
    core = one(Report.EVERY)
    with pytest.raises(error):
        core.push(batch)
    assert core.read == 0


def test_buffers_are_free_again_after_a_push():
    core = one(Report.EVERY)
    batch = Batch(array("I", [0]), array("q", [NOW]), array("d", [1.0]), array("B", [0]))
    core.push(batch)
    refused = array("B")
    with pytest.raises(ValueError, match="rows"):
        core.push(Batch(batch.slot, batch.time_ns, batch.value, refused))
    for column in (batch.slot, batch.time_ns, batch.value, batch.quality, refused):
        column.append(0)  # a held buffer could not grow
    assert core.read == 1


def test_columns_of_any_buffer_and_alignment():
    core = one(Report.EVERY)
    raw = bytearray(1) + bytearray(array("d", [1.5]).tobytes())
    odd = memoryview(raw)[1:].cast("d")
    core.push(Batch(memoryview(array("I", [0])), memoryview(array("q", [NOW])), odd, memoryview(b"\x40")))
    core.push(Batch(array("I"), NOW, array("d")))
    core.push(Batch(array("I"), NOW, []))
    assert readings(core) == [("x", 1.5, "Uncertain")]


# ---- encode_json ----


def test_names_are_escaped():
    core = Aggregator(0)
    name = 'a"b\\c\n\x1fµ😀'
    core.define(Series(0, 0, name))
    core.push(rows((0, NOW, 1.0)))
    assert readings(core) == [(name, 1.0, "Good")]


def test_a_record_without_its_names_is_a_value_error():
    core = one(Report.EVERY)
    core.push(rows((0, NOW, 1.0)))
    (record,) = core.take()
    with pytest.raises(ValueError, match="no name"):
        encode_json(record.body, [])
    with pytest.raises(ValueError, match="surrogates"):
        encode_json(record.body, ["\ud800"])
    with pytest.raises(TypeError):
        encode_json(record.body, [1])
    assert json.loads(encode_json(memoryview(record.body), ("x",)))["rows"]


@pytest.mark.parametrize(
    "body", [b"", b"\x01", b"\x02" + bytes(12), b"\x01" + bytes(12) + b"\x01" + bytes(8)]
)
def test_what_is_no_record_is_a_value_error(body):
    with pytest.raises(ValueError, match="not a record"):
        encode_json(body, ["x"])


def test_an_empty_record_is_an_empty_payload():
    assert encode_json(b"\x01" + bytes(12), []) == b'{"epoch":0,"seq":0}'


def test_a_new_epoch_is_that_of_the_streams_to_come() -> None:
    aggregator = Aggregator(5)
    aggregator.advance(NOW)
    aggregator.define(Series(0, 0, "a"))
    aggregator.begin(9)
    aggregator.define(Series(1, 1, "a"))
    aggregator.push(rows((0, NOW, 1.0), (1, NOW, 1.0)))
    heads = [json.loads(encode_json(r.body, ["a"])) for r in aggregator.take()]
    assert [(head["epoch"], head["seq"]) for head in heads] == [(5, 0), (9, 0)]
    with pytest.raises(ValueError, match="epoch"):
        aggregator.begin(1 << 32)
