"""The pace of reports: nothing is silent for longer than its heartbeat, or told sooner than its interval."""

import json
import math
from array import array

import pytest

from devicemesh.aggregate import Aggregator, Kind, Report, Series, encode_json
from devicemesh.mapper import Batch, Quality

SECOND = 10**9
HOUR = 3600 * SECOND
NOW = 1_795_235_280 * SECOND  # a multiple of ten seconds


def one(report, **options):
    """An aggregator with slot 0, `x`."""
    core = Aggregator(3)
    core.define(Series(0, 0, "x", report=report, **options))
    core.advance(NOW)
    return core


def rows(*triples, quality=0):
    """A batch of (slot, time, value)."""
    slots, times, values = zip(*triples, strict=True)
    return Batch(array("I", slots), array("q", times), array("d", values), quality)


def bad(slot, time):
    return rows((slot, time, math.nan), quality=Quality.NO_ANSWER)


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


def test_the_heartbeat_bounds_the_silence():
    core = one(Report.CHANGE, heartbeat_ns=SECOND, deadband=9.0)
    for step in range(5):
        core.push(rows((0, NOW + step * SECOND // 2, 1.0)))
    assert len(readings(core)) == 3
    core.push(bad(0, NOW + 3 * SECOND))
    core.push(bad(0, NOW + 3 * SECOND + 1))
    core.push(bad(0, NOW + 4 * SECOND))
    assert len(readings(core)) == 2
    core.push(rows((0, NOW + 9 * HOUR, 1.0)))
    core.push(rows((0, NOW + 5 * SECOND, 1.0)))  # a clock set back does not silence the series
    assert len(readings(core)) == 2


@pytest.mark.parametrize("value", [1.0, 7, "auto", True])
def test_what_rests_is_said_again_by_the_clock(value):
    """A device that tells changes only says nothing of what does not change."""
    core = one(Report.CHANGE, kind=Kind.OBJECT, heartbeat_ns=10 * SECOND)
    core.push(Batch(array("I", [0]), NOW - HOUR // 2, [value]))
    assert readings(core) == [("x", value, "Good")]
    for second in range(11):
        core.advance(NOW + second * SECOND)
    assert taken(core) == [], "a poll could still bring a fresh one"
    core.advance(NOW + 11 * SECOND)
    (row,) = taken(core)[0]["rows"]
    assert row == {"time": "2026-11-21T03:58:00Z", "values": {"x": value}}, "as it was read, with its time"
    core.advance(NOW + 21 * SECOND)
    assert taken(core) == []
    core.advance(NOW + 22 * SECOND)
    core.push(Batch(array("I", [0]), NOW + 22 * SECOND, [value]))
    assert readings(core) == [("x", value, "Good")]
    core.push(bad(0, NOW + 23 * SECOND))
    core.advance(NOW + 40 * SECOND)
    assert readings(core) == [("x", None, "Bad.NoAnswer")] * 2
    assert core.read == core.taken + sum(core.dropped.values()) == 6


def test_the_newest_value_within_the_deadband_is_said_again():
    core = one(Report.CHANGE, deadband=5.0, heartbeat_ns=10 * SECOND)
    core.push(rows((0, NOW, 1.0), (0, NOW + SECOND, 2.0)))
    core.advance(NOW + 12 * SECOND)
    assert readings(core) == [("x", 1.0, "Good"), ("x", 2.0, "Good")]


def test_polls_of_a_value_whose_time_stands_still_have_a_heartbeat():
    """An OPC UA server may give the time of the last change with each Read."""
    core = one(Report.CHANGE, heartbeat_ns=10 * SECOND)
    for second in range(31):
        core.advance(NOW + second * SECOND)
        core.push(rows((0, NOW - HOUR // 2, 1.0)))
    assert len(readings(core)) == 4


@pytest.mark.parametrize("report", [Report.EVERY, Report.NONE, Report.WINDOW])
def test_only_changes_are_said_again(report):
    core = one(report, heartbeat_ns=SECOND, window_ns=SECOND)
    core.push(rows((0, NOW, 1.0)))
    core.advance(NOW + 2 * SECOND)
    taken(core)
    core.advance(NOW + 60 * SECOND)
    assert taken(core) == []


def test_without_a_clock_the_times_of_the_rows_count():
    core = Aggregator(3)
    core.define(Series(0, 0, "x", report=Report.CHANGE, heartbeat_ns=10 * SECOND))
    core.push(rows((0, NOW, 1.0), (0, NOW + 9 * SECOND, 1.0), (0, NOW + 10 * SECOND, 1.0)))
    assert len(readings(core)) == 2


@pytest.mark.parametrize(("time", "again"), [((1 << 63) - 1, 0), (-(1 << 63), 1)])
def test_a_time_beyond_all_clocks_does_no_harm(time, again):
    core = Aggregator(3)
    core.define(Series(0, 0, "x", report=Report.CHANGE, heartbeat_ns=10 * SECOND))
    core.push(rows((0, time, 2.0)))
    assert len(readings(core)) == 1
    core.advance(NOW)
    assert readings(core) == [("x", 2.0, "Good")] * again


def test_series_keep_their_own_heartbeats():
    core = Aggregator(3)
    for slot, seconds in enumerate((30, 10, 20)):
        core.define(Series(slot, 0, "abc"[slot], report=Report.CHANGE, heartbeat_ns=seconds * SECOND))
    core.advance(NOW)
    core.push(rows(*((slot, NOW, float(slot)) for slot in range(3))))
    assert len(readings(core)) == 3
    for second in range(1, 65):
        core.advance(NOW + second * SECOND)
    assert sorted(name for name, _, _ in readings(core)) == ["a"] * 2 + ["b"] * 5 + ["c"] * 3


def test_a_text_that_found_no_room_is_not_mistaken_for_the_one_before():
    core = Aggregator(3, max_pending_bytes=300)
    core.define(Series(0, 0, "x", Kind.OBJECT, report=Report.CHANGE, heartbeat_ns=10 * SECOND))
    core.advance(NOW)
    core.push(rows((0, NOW, 1.0)))
    core.push(Batch(array("I", [0]), NOW + SECOND, ["long " * 100]))
    assert core.dropped["overflow"] == 1
    assert readings(core) == [("x", 1.0, "Good")]
    core.advance(NOW + 20 * SECOND)
    assert readings(core) == [], "a text is not kept, and the number is over"
    core.push(Batch(array("I", [0]), NOW + 21 * SECOND, ["short"]))
    assert readings(core) == [("x", "short", "Good")]


def test_a_value_that_chatters_is_reported_once_an_interval_and_never_lost():
    core = one(Report.CHANGE, min_interval_ns=10 * SECOND)
    for second in range(25):
        core.advance(NOW + second * SECOND)
        core.push(rows((0, NOW + second * SECOND, float(second))))
    core.advance(NOW + 25 * SECOND)
    assert [value for _, value, _ in readings(core)] == [0.0, 9.0, 19.0], "what it was as the interval ended"
    core.advance(NOW + 30 * SECOND)
    assert readings(core) == [("x", 24.0, "Good")], "where it rests"
    core.advance(NOW + 90 * SECOND)
    assert readings(core) == []
    assert core.dropped["rate"] == 24 and core.read == 25 + 3


@pytest.mark.parametrize("clock", [True, False])
def test_intervals_shorter_than_a_tick_go_by_the_times_of_the_rows(clock):
    core = Aggregator(3)
    core.define(Series(0, 0, "x", report=Report.CHANGE, min_interval_ns=SECOND // 10))
    if clock:
        core.advance(NOW)
    for step in range(7):
        core.push(rows((0, NOW + step * SECOND // 20, float(step))))
    assert [value for _, value, _ in readings(core)] == [0.0, 2.0, 4.0, 6.0]


def test_what_is_back_where_it_was_is_no_change():
    core = one(Report.CHANGE, deadband=1.0, min_interval_ns=10 * SECOND)
    core.push(rows((0, NOW, 1.0), (0, NOW + SECOND, 5.0), (0, NOW + 2 * SECOND, 1.5)))
    core.advance(NOW + 60 * SECOND)
    assert readings(core) == [("x", 1.0, "Good")]
    core.push(rows((0, NOW + 60 * SECOND, 5.0)))
    assert readings(core) == [("x", 5.0, "Good")], "the first change after a calm is told at once"


def test_a_quality_and_a_text_wait_for_no_interval():
    core = one(Report.CHANGE, kind=Kind.OBJECT, min_interval_ns=10 * SECOND)
    core.push(Batch(array("I", [0]), NOW, ["on"]))
    core.push(Batch(array("I", [0]), NOW + 1, ["off"]))
    core.push(bad(0, NOW + 2))
    core.push(Batch(array("I", [0]), NOW + 3, ["on"]))
    assert [value for _, value, _ in readings(core)] == ["on", "off", None, "on"]


def test_a_bad_row_lets_nothing_of_before_come_after_it():
    core = one(Report.CHANGE, min_interval_ns=10 * SECOND)
    core.push(rows((0, NOW, 1.0), (0, NOW + SECOND, 2.0)))
    core.push(bad(0, NOW + 2 * SECOND))
    core.advance(NOW + 60 * SECOND)
    assert [value for _, value, _ in readings(core)] == [1.0, None]


def test_an_interval_goes_with_a_heartbeat():
    core = one(Report.CHANGE, min_interval_ns=2 * SECOND, heartbeat_ns=10 * SECOND)
    core.push(rows((0, NOW, 1.0), (0, NOW + SECOND, 2.0)))
    for second in range(1, 15):
        core.advance(NOW + second * SECOND)
    assert [value for _, value, _ in readings(core)] == [1.0, 2.0, 2.0]
