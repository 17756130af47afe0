"""The engine against its readable twin over adversarial streams; conservation and emit-once always hold."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from devicemesh.windows import STATISTICS, Alarm, Hopping, Profile, Session, Tumbling

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


LIGHT = STATISTICS[: STATISTICS.index("first")]  # those that need no more than a cell: the engine's short way
PROFILES = st.builds(
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
    percent_bad=st.sampled_from([100.0, 50.0]),
    uncertain_as_bad=st.booleans(),
)


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
