"""Rows without a value between others, row by row and in chunks: engine and twin agree."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from devicemesh.windows import STATISTICS, Alarm, Profile, Tumbling

SECOND = 10**9
LIGHT = STATISTICS[: STATISTICS.index("first")]  # nothing that needs more than a line and a cell
GOOD, BAD, NO_ROW = 0, 0x80, -1
CHUNK = 32  # rows that the engine takes at once, of which another series fills the rest
PROFILES = {
    "windows": Profile(statistics=LIGHT),
    "changes": Profile(statistics=LIGHT, deadband=1.0, heartbeat_ns=2 * SECOND, quantiles=(0.5,)),
    "rarely": Profile(statistics=LIGHT, deadband=1.0, min_interval_ns=SECOND // 2),
    "awaited": Profile(statistics=LIGHT, missing_ns=SECOND // 5),
    "alarms": Profile(
        statistics=LIGHT,
        alarms=(Alarm("high", 2.0, clear=1.0), Alarm("low", -2.0, above=False, delay_ns=SECOND // 4)),
    ),
}
STEPS = st.sampled_from([1, SECOND // 10, SECOND // 10, SECOND // 2, SECOND, -1, -SECOND // 10])
ROWS = st.tuples(
    STEPS, st.sampled_from([-3.5, 0.25, 1.5, 1.75, 3.0]), st.sampled_from([GOOD, GOOD, BAD, NO_ROW])
)


def play(both: Any, rows: list[tuple[int, float, int]], filler: int, batch: int) -> None:
    """Steps from row to row of series 0, which begin within a window; the clock follows each batch."""
    time = newest = 10 * SECOND + 3 * SECOND // 10
    waiting: list[tuple[int, int, float, int]] = []

    def send() -> None:
        behind = 3 * CHUNK if filler > CHUNK else 0  # the last rows of a batch are taken one by one
        both.ingest(
            waiting + [(1 + place % 3, newest + filler + place, 1.0, GOOD) for place in range(behind)]
        )
        both.advance(newest)
        both.check()
        waiting.clear()

    for at, (step, value, quality) in enumerate(rows):
        time += step
        newest = max(newest, time)
        waiting += [(1 + place % 3, newest + place, 1.0, GOOD) for place in range(filler)]
        if quality != NO_ROW:
            waiting.append((0, time, value, quality))
        if (at + 1) % batch == 0:
            send()
    send()
    both.flush()
    both.check()


@pytest.mark.parametrize("declared", [4, 5000])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("name", PROFILES)
@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(ROWS, min_size=1, max_size=9),
    filler=st.sampled_from([0, 5, CHUNK + 1]),
    batch=st.sampled_from([1, 3, 9]),
)
@example(  # a late value between two Bad rows
    rows=[(1, 1.5, GOOD), (1, 0.0, BAD), (SECOND // 10, 0.0, BAD), (-1, 1.5, GOOD), (2, 3.0, GOOD)],
    filler=CHUNK + 1,
    batch=9,
)
@example(  # the gap goes on in the next window
    rows=[(1, 3.0, GOOD), (1, 0.0, BAD), (SECOND, 0.0, BAD), (1, 1.5, GOOD), (SECOND // 10, 3.0, GOOD)],
    filler=0,
    batch=1,
)
@example(  # a change is held back when the gap begins
    rows=[(1, 0.25, GOOD), (1, 3.0, GOOD), (1, 0.0, BAD), (SECOND // 2, 0.0, BAD), (1, 1.5, GOOD)],
    filler=0,
    batch=1,
)
@example(  # a Bad row is a row, too, where data is missing
    rows=[(1, 0.25, GOOD), (1, 1.5, GOOD), (SECOND // 2, 0.0, NO_ROW), (1, 0.0, BAD), (1, 1.5, GOOD)],
    filler=CHUNK + 1,
    batch=1,
)
def test_gaps_agree(
    pair: Any,
    declared: int,
    name: str,
    before: bool,
    rows: list[tuple[int, float, int]],
    filler: int,
    batch: int,
) -> None:
    both = pair(Tumbling(SECOND), lateness_ns=SECOND // 10)
    both.define(range(declared), both.profile(PROFILES[name]))
    if before:
        both.ingest([(0, 9 * SECOND + SECOND // 2, 1.0, GOOD)])
    play(both, rows, filler, batch)
