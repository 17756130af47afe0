"""Alarms that are raised once the value was beyond the limit for so long."""

from __future__ import annotations

import math
from array import array

import pytest

from devicemesh.aggregate import Aggregator, Limit, Report, Series
from devicemesh.mapper import Batch, Quality

SECOND = 10**9
NOW = 1_795_235_280 * SECOND
HOT = Limit("hot", True, 30.0, 28.0, "critical", delay_ns=5 * SECOND)


def one(*limits):
    core = Aggregator(3)
    core.define(Series(0, 0, "x", report=Report.NONE, limits=limits or [HOT]))
    core.advance(NOW)
    return core


def push(core, seconds, value):
    quality = Quality.GOOD if not math.isnan(value) else Quality.NO_ANSWER
    core.push(Batch(array("I", [0]), NOW + round(seconds * SECOND), array("d", [value]), quality))


def events(core):
    """(alarm, active, seconds, value)"""
    return [(each.alarm, each.active, (each.time_ns - NOW) / SECOND, each.value) for each in core.alarms()]


def test_a_short_peak_raises_nothing():
    core = one()
    for seconds, value in ((0, 31.0), (4, 35.0), (4.5, 30.0), (6, 31.0), (10.9, 29.0), (20, 29.0)):
        push(core, seconds, value)
    assert events(core) == []


def test_the_next_value_tells_that_the_delay_is_over_and_clears_at_once():
    core = one()
    push(core, 0, 31.0)
    push(core, 3, 32.0)
    assert events(core) == []
    push(core, 9, 20.0)
    assert events(core) == [("hot", True, 5.0, 32.0), ("hot", False, 9.0, 20.0)]


def test_of_a_silent_series_the_clock_tells_it_once():
    core = one()
    push(core, 1, 31.0)
    core.advance(NOW + 6 * SECOND - 1)
    assert events(core) == []
    core.advance(NOW + 6 * SECOND)
    assert events(core) == [("hot", True, 6.0, 31.0)]
    core.advance(NOW + 60 * SECOND)
    push(core, 61, 33.0)
    assert events(core) == []


def test_a_row_without_a_value_changes_nothing():
    core = one()
    push(core, 0, 31.0)
    push(core, 2, math.nan)
    core.advance(NOW + 5 * SECOND)
    assert events(core) == [("hot", True, 5.0, 31.0)]


def test_each_alarm_has_its_own_delay():
    core = one(HOT, Limit("warm", True, 20.0, 20.0, "info"), Limit("cold", False, 5.0, 6.0, "info", SECOND))
    push(core, 0, 31.0)
    push(core, 1, 4.0)
    push(core, 2, 4.5)
    assert events(core) == [("warm", True, 0.0, 31.0), ("warm", False, 1.0, 4.0), ("cold", True, 2.0, 4.0)]


def test_a_device_whose_clock_is_behind_is_judged_by_that_clock():
    core = Aggregator(3)
    core.define(Series(0, 0, "x", report=Report.NONE, limits=[HOT]))
    core.advance(NOW + 3600 * SECOND)
    push(core, 0, 31.0)
    core.advance(NOW + 3600 * SECOND)
    core.advance(NOW + 3604 * SECOND)
    assert events(core) == []
    core.advance(NOW + 3605 * SECOND)
    assert events(core) == [("hot", True, 5.0, 31.0)]


def test_what_is_pending_goes_on_under_its_name_with_another_delay():
    core = one()
    push(core, 0, 31.0)
    core.define(
        Series(0, 0, "x", report=Report.NONE, limits=[Limit("hot", True, 30.0, 28.0, "critical", SECOND)])
    )
    core.advance(NOW + 2 * SECOND)
    assert events(core) == [("hot", True, 1.0, 31.0)]
    core.remove(0)
    assert [active for _, active, *_ in events(core)] == [False]


def test_what_is_pending_and_removed_was_never_raised():
    core = one()
    push(core, 0, 31.0)
    core.remove(0)
    core.advance(NOW + 60 * SECOND)
    assert events(core) == []


@pytest.mark.parametrize("delay_ns", [-1, 367 * 86400 * SECOND])
def test_a_delay_is_from_none_to_a_year(delay_ns):
    with pytest.raises(ValueError, match="out of range"):
        one(Limit("hot", True, 30.0, 28.0, "critical", delay_ns=delay_ns))


def test_times_at_the_end_of_their_range():
    core = one(Limit("hot", True, 30.0, 28.0, "critical", delay_ns=86400 * SECOND))
    for time_ns in (2**63 - 1, 2**63 - 1, -(2**63), 2**63 - 1):
        core.push(Batch(array("I", [0]), time_ns, array("d", [31.0]), 0))
    assert core.read == 4
