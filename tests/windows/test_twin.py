"""The engine against its readable twin over adversarial streams; conservation and emit-once always hold."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from devicemesh.windows import STATISTICS, Alarm, Hopping, Profile, Session, Tumbling, WindowAggregator

SECOND = 10**9
VALUES = st.one_of(
    st.integers(-3, 3).map(float),
    st.floats(-100, 100),
    st.sampled_from([0.0, -0.0, 1e12 + 0.1, 1e12 - 0.1, 2.0**53, 1e-300, math.nan, math.inf, -math.inf]),
)
QUALITIES = st.sampled_from([0, 0, 0, 0, 0, 1, 0x40, 0x80, 0xC0])
STEPS = st.sampled_from(
    [0, 1, 2, 250_000_000, 999_999_999, SECOND, SECOND + 1, 3 * SECOND, -1, -250_000_000, -3 * SECOND]
)


@st.composite
def streams(draw: Any, series: int = 3) -> list[Any]:
    """Batches of rows with equal times, borders, disorder, jumps; and advances of the clock."""
    time, actions = draw(st.integers(0, 5)) * SECOND + draw(st.integers(0, 2)), []
    for _ in range(draw(st.integers(1, 6))):
        rows = []
        for _ in range(draw(st.integers(0, 12))):
            time = max(0, time + draw(STEPS))
            rows.append((draw(st.integers(0, series - 1)), time, draw(VALUES), draw(QUALITIES)))
        actions.append(rows)
        if draw(st.booleans()):
            actions.append(time + draw(STEPS))
    return actions


LIGHT = STATISTICS[: STATISTICS.index("first")]  # of a line and a cell: the short way
CELLS = STATISTICS[: STATISTICS.index("time_average")]  # of a cell alone: a shorter one
BARE = Profile(statistics=CELLS)
WATCHED = st.builds(
    Profile,
    statistics=st.sampled_from([STATISTICS, LIGHT]),
    quantiles=st.sampled_from([(), (0.0, 0.5, 0.999)]),
    max_bins=st.just(1 << 16),  # for values of 1e-300 beside 1e12
    interpolation=st.sampled_from(["stepped", "sloped"]),
    deadband=st.sampled_from([None, 0.0, 1.0, 50.0]),
    deadband_percent=st.sampled_from([None, 0.0, 10.0]),
    min_interval_ns=st.sampled_from([0, 0, 1, SECOND]),
    heartbeat_ns=st.sampled_from([0, 1, 2 * SECOND]),
    missing_ns=st.sampled_from([0, 1, SECOND]),
    alarms=st.lists(
        st.sampled_from(
            [
                Alarm("high", 2.0),
                Alarm("higher", 50.0, clear=1.0, delay_ns=SECOND),
                Alarm("low", -2.0, above=False, clear=-1.0),
                Alarm("lower", 0.0, above=False, delay_ns=1),
            ]
        ),
        max_size=3,
        unique=True,
    ),
    percent_good=st.sampled_from([100.0, 50.0]),
    percent_bad=st.sampled_from([100.0, 50.0, 0.0]),
    uncertain_as_bad=st.booleans(),
)
PROFILES = st.one_of(WATCHED, WATCHED, st.just(BARE))


def play(both: Any, actions: list[Any]) -> None:
    for action in actions:
        if isinstance(action, list):
            both.ingest(action)
        elif action >= 0:
            both.advance(action)
        both.check()
    both.flush()
    both.check()


@settings(max_examples=400, deadline=None)
@given(
    profiles=st.lists(PROFILES, min_size=1, max_size=2),
    actions=streams(),
    offset=st.sampled_from([0, 1, SECOND // 3]),
    lateness=st.sampled_from([0, 1, SECOND // 2, 2 * SECOND]),
    max_future=st.sampled_from([None, 0, SECOND]),
    idle=st.sampled_from([0, SECOND]),
    sources=st.sampled_from([(0, 0, 0), (0, 1, 1), (2, 0, 1)]),
)
def test_engine_and_twin_agree(
    pair: Any,
    profiles: list[Profile],
    actions: list[Any],
    offset: int,
    lateness: int,
    max_future: int | None,
    idle: int,
    sources: tuple[int, ...],
) -> None:
    both = pair(Tumbling(SECOND, offset), lateness_ns=lateness, max_future_ns=max_future, idle_ns=idle)
    numbers = [both.profile(profile) for profile in profiles]
    for series in range(3):
        both.define(range(series, series + 1), numbers[series % len(numbers)], sources[series])
    play(both, actions)


def long_batches(noise: Random, series: int, pace: int) -> Iterator[list[tuple[int, int, float, int]]]:
    """Batches that are several of the engine's chunks of 32 rows, a few rows of which are not as the others."""
    time = 10 * SECOND
    for count in noise.choices([31, 32, 33, 64, 65, 200, 300], k=5):
        rows = []
        for _ in range(count):
            time += noise.randrange(2 * pace)
            late = noise.choice([0, 1, pace, SECOND // 2, 2 * SECOND]) if noise.random() < 0.05 else 0
            value = noise.choice([math.nan, math.inf, 1e12]) if noise.random() < 0.02 else noise.gauss(0, 3)
            quality = noise.choice([1, 0x40, 0x80, 0xC0]) if noise.random() < 0.05 else 0
            rows.append((noise.randrange(series), max(0, time - late), value, quality))
        yield rows


@settings(max_examples=150, deadline=None)
@given(
    profiles=st.lists(st.one_of(PROFILES, st.just(BARE)), min_size=1, max_size=2),
    seed=st.integers(0, 2**32),
    pace=st.sampled_from([1, SECOND // 500, SECOND // 20]),
    lateness=st.sampled_from([0, SECOND // 2, 12 * SECOND]),
    declared=st.sampled_from([4, 5000]),
    max_future=st.sampled_from([None, SECOND]),
)
def test_long_batches_agree(
    pair: Any,
    profiles: list[Profile],
    seed: int,
    pace: int,
    lateness: int,
    declared: int,
    max_future: int | None,
) -> None:
    both = pair(Tumbling(SECOND), lateness_ns=lateness, max_future_ns=max_future)
    numbers = [both.profile(profile) for profile in profiles]
    both.define(range(2), numbers[0])
    both.define(range(2, declared), numbers[-1])
    if max_future is not None:
        both.advance(10 * SECOND)
    play(both, list(long_batches(Random(seed), 4, pace)))


@pytest.mark.parametrize(
    ("low", "rare"), [(-40.0, 0.0), (20.0, 0.0), (20.0, 1e5), (2.3e-308, 0.0), (2.3e-308, 2e-308)]
)
@pytest.mark.parametrize("errors", [(0.01,), (0.01, 0.01), (0.01, 0.010001)])
def test_quantiles_of_long_batches_agree(
    pair: Any, low: float, rare: float, errors: tuple[float, ...]
) -> None:
    """Keys of many values are worked out at once where all series have one rule."""
    both = pair(Tumbling(SECOND))
    asked = (0.01, 0.1, 0.5, 0.99)
    profiles = [Profile(statistics=LIGHT, quantiles=asked, relative_error=each) for each in errors]
    numbers = [both.profile(profile) for profile in profiles]
    both.define(range(2), numbers[0])
    both.define(range(2, 4), numbers[-1])
    noise = Random(1)
    for batch in range(6):
        start, sign = 10 * SECOND + batch * SECOND // 2, -1 if batch == 3 else 1
        values = [sign * low * noise.uniform(1, 1.7) if noise.random() < 0.98 else rare for _ in range(320)]
        both.ingest([(noise.randrange(4), start + place, value, 0) for place, value in enumerate(values)])
    both.check()
    both.flush()
    both.check()


def test_a_late_duplicate_adds_nothing_to_the_quantiles(pair: Any) -> None:
    both = pair(Tumbling(SECOND), lateness_ns=SECOND)
    both.define(range(1), both.profile(Profile(statistics=LIGHT, quantiles=(0.0, 1.0))))
    both.ingest([(0, 5, 1.0, 0), (0, 7, 0.0, 0x80), (0, 5, 9.0, 0), (0, 4, 2.0, 0)])
    both.flush()
    both.check()


@pytest.mark.parametrize("run", [1, 2, 3])
def test_rows_of_series_that_ascend_are_judged_one_after_the_other(pair: Any, run: int) -> None:
    """Whoever reads in turn sends such rows; two of a series in one chunk are judged by what was said of the first."""
    both = pair(Tumbling(SECOND))
    both.define(range(5000), both.profile(Profile(statistics=LIGHT, deadband=2.0, heartbeat_ns=SECOND // 2)))
    noise = Random(run)
    for batch in range(20):
        start = 10 * SECOND + batch * SECOND // 5
        both.ingest([(at // run, start + at, noise.gauss(0, 3), 0) for at in range(64)])
        both.check()


def scattered_rows(noise: Random, series: int, bad: float) -> Iterator[list[tuple[int, int, float, int]]]:
    """All series, then some of them; in odd seconds the odd ones have only rows that are older than their newest."""
    for second in range(10, 16):
        rows = [
            (each, second * SECOND + each, noise.gauss(0, 3), 0x80 if noise.random() < bad else 0)
            for each in range(series)
            if second == 10 or (noise.random() < 0.7 and each % 7)
        ]
        ahead = [(each, (second + 1) * SECOND + each, 1.0, 0) for each in range(1, series, 2) if second % 2]
        yield [*(row for row in rows if not row[0] % 2), *ahead, *(row for row in rows if row[0] % 2)]


@settings(max_examples=40, deadline=None)
@given(
    profiles=st.lists(PROFILES, min_size=1, max_size=2),
    seed=st.integers(0, 2**32),
    series=st.sampled_from([127, 129, 700]),
    bad=st.sampled_from([0.0, 0.02]),
)
@example(profiles=[Profile(statistics=LIGHT)], seed=1, series=700, bad=0.0)  # no window has an extra
def test_windows_that_leave_in_several_blocks_agree(
    pair: Any, profiles: list[Profile], seed: int, series: int, bad: float
) -> None:
    both = pair(Tumbling(SECOND), lateness_ns=2 * SECOND)
    numbers = [both.profile(profile) for profile in profiles]
    both.define(range(series // 2), numbers[0])
    both.define(range(series // 2, series), numbers[-1])
    play(both, list(scattered_rows(Random(seed), series, bad)))


def test_windows_that_go_past_the_caches_are_all_there() -> None:
    series = array("I", range(0, 110_000, 3))
    aggregator = WindowAggregator(Tumbling(SECOND))
    number = aggregator.profile(Profile(statistics=("count", "mean", "last", "last_time", "status")))
    aggregator.define(range(110_000), profile=number)
    for second in range(2):
        aggregator.ingest(series, array("q", (second * SECOND + each for each in series)), array("d", series))
        aggregator.flush()
        windows = aggregator.windows()
        assert (
            windows["series"].tolist()
            == windows["last"].tolist()
            == windows["mean"].tolist()
            == series.tolist()
        )
        assert set(windows["count"].tolist()) == {1}
        assert set(windows["status"].tolist()) == {0}
        assert windows["last_time"].tolist() == [second * SECOND + each for each in series]


def test_no_row_is_plain_before_there_is_a_pane(pair: Any) -> None:
    """Also where missing data is counted from before 1970."""
    both = pair(Tumbling(SECOND), lateness_ns=12 * SECOND)
    both.define(range(1), both.profile(Profile(statistics=LIGHT, missing_ns=SECOND)))
    both.advance(10 * SECOND)
    both.ingest([(0, 10 * SECOND + place, 1.0, 0x80 if place % 2 else 0) for place in range(64)])
    both.check()
    both.flush()
    both.check()


def test_each_window_is_judged_by_its_own_profile(pair: Any) -> None:
    """Without a Bad row, too: at 0 percent all windows are Bad."""
    both = pair(Tumbling(SECOND))
    usual = both.profile(Profile(statistics=LIGHT))
    strict = both.profile(Profile(statistics=LIGHT, percent_bad=0.0))
    for series, number in enumerate([usual, strict, strict, usual]):
        both.define(range(series, series + 1), number)
    both.ingest([(series, 1, 1.0, 0) for series in range(4)])
    both.flush()
    assert [row["status"] for row in both.check()] == [0, 0x80, 0x80, 0]


def test_a_bad_row_moves_the_watermark(pair: Any) -> None:
    both = pair(Tumbling(SECOND), idle_ns=SECOND)
    both.define(range(2), both.profile(Profile(statistics=LIGHT, missing_ns=5)))
    both.ingest([(1, 11, 1.0, 0), (0, 10, 1.0, 0), (0, 11, 1.0, 0x80), (0, 12, 1.0, 0), (0, 19, 1.0, 0x80)])
    both.advance(19)
    both.check()


@pytest.mark.parametrize("statistics", [CELLS, LIGHT])
def test_the_count_goes_on_past_16_bits(statistics: tuple[str, ...]) -> None:
    count = 3 * 2**16 + 1
    aggregator = WindowAggregator(Tumbling(SECOND))
    aggregator.define(range(1), profile=aggregator.profile(Profile(statistics=statistics)))
    for start in range(0, count, 2**14):
        places = range(start, min(start + 2**14, count))
        values = array("d", [float(place) for place in places])
        aggregator.ingest(array("I", [0] * len(places)), array("q", places), values)
    aggregator.flush()
    windows = aggregator.windows()
    found = [windows[name].tolist()[0] for name in ("count", "sum", "min", "max", "last", "last_time")]
    assert found == [count, count * (count - 1) / 2, 0, count - 1, count - 1, count - 1]


def test_a_group_that_begins_to_watch_knows_its_newest_values(pair: Any) -> None:
    """Lines of a group that needs none are not kept, until a profile comes that does."""
    both = pair(Tumbling(SECOND), lateness_ns=SECOND)
    both.define(range(2), both.profile(BARE))
    both.ingest([(0, 5, 1.0, 0), (1, 6, 2.0, 0), (0, SECOND + 1, 3.0, 0), (1, 7, 4.0, 0)])
    both.define(range(2, 3), both.profile(Profile(statistics=LIGHT, deadband=0.5)))
    both.ingest([(0, SECOND, 2.5, 0), (1, 7, 5.0, 0), (0, SECOND + 1, 4.0, 0), (2, SECOND + 2, 1.0, 0)])
    both.check()
    both.flush()
    both.check()


@settings(max_examples=200, deadline=None)
@given(
    deadband=st.sampled_from([0.0, 0.5, 2.0]),
    heartbeat=st.sampled_from([0, 3 * SECOND]),
    values=st.lists(st.integers(-8, 8).map(lambda half: half / 2), max_size=30),
)
def test_reports_beside_alarms_agree(pair: Any, deadband: float, heartbeat: int, values: list[float]) -> None:
    """A report by deadband has a short way of its own; alarms must go on being looked at."""
    alarms = [Alarm("high", 2.0), Alarm("low", -2.0, above=False, clear=-1.0)]
    both = pair(Tumbling(SECOND))
    both.define(range(1), both.profile(Profile(deadband=deadband, heartbeat_ns=heartbeat, alarms=alarms)))
    play(both, [[(0, n * SECOND // 2, value, 0)] for n, value in enumerate(values)])


@settings(max_examples=200, deadline=None)
@given(
    profile=PROFILES,
    actions=streams(),
    offset=st.sampled_from([0, 1]),
    hops=st.sampled_from([2, 3, 4]),
    lateness=st.sampled_from([0, SECOND // 2, 2 * SECOND]),
)
def test_hopping_windows_agree(
    pair: Any, profile: Profile, actions: list[Any], offset: int, hops: int, lateness: int
) -> None:
    both = pair(Hopping(SECOND * hops, SECOND, offset), lateness_ns=lateness)
    number = both.profile(replace(profile, interpolation="stepped"))
    both.define(range(3), number)
    play(both, actions)


@settings(max_examples=200, deadline=None)
@given(
    profile=PROFILES,
    actions=streams(),
    gap=st.sampled_from([1, 2, SECOND // 4, SECOND]),
    lateness=st.sampled_from([0, SECOND // 2, 4 * SECOND]),
    sources=st.sampled_from([(0, 0, 0), (0, 1, 1)]),
)
def test_sessions_agree(
    pair: Any, profile: Profile, actions: list[Any], gap: int, lateness: int, sources: tuple[int, ...]
) -> None:
    both = pair(Session(gap), lateness_ns=lateness)
    number = both.profile(replace(profile, interpolation="stepped"))
    for series in range(3):
        both.define(range(series, series + 1), number, sources[series])
    play(both, actions)


ARRAYS = st.lists(
    st.one_of(
        streams().map(lambda actions: actions[0]),
        st.tuples(
            st.integers(0, 2),
            st.integers(0, 4 * SECOND),
            st.sampled_from([1, 99_999_999, SECOND // 4, SECOND]),
            st.lists(st.one_of(VALUES, st.integers(-3, 3).map(float)), max_size=40),
        ),
    ),
    max_size=5,
)


@settings(max_examples=200, deadline=None)
@given(
    profile=PROFILES,
    actions=ARRAYS,
    statistics=st.sampled_from(
        [STATISTICS, ("mean", "std", "time_average", "last", "first", "min_time", "max_time")]
    ),
    lateness=st.sampled_from([0, SECOND // 2, 4 * SECOND]),
)
def test_an_array_is_its_rows(
    pair: Any, profile: Profile, actions: list[Any], statistics: tuple[str, ...], lateness: int
) -> None:
    both = pair(Tumbling(SECOND), lateness_ns=lateness)
    both.define(range(3), both.profile(replace(profile, statistics=statistics)))
    for action in actions:
        if isinstance(action, tuple):
            both.ingest_array(*action)
        else:
            both.ingest(action)
        both.check()
    both.flush()
    both.check()
