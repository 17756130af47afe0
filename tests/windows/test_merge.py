"""Emitted windows merged into a coarser grid equal the windows of that grid."""

from __future__ import annotations

import math
from array import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devicemesh.windows import STATISTICS, Columns, Profile, Tumbling, WindowAggregator, merge

SECOND = 10**9
VALUES = st.floats(-100, 100).map(lambda x: x if abs(x) > 1e-100 else 0.0)  # squares of less have no digits


def closed(length: int, rows: list[tuple[int, int, float, int]], statistics: Any = STATISTICS) -> Columns:
    aggregator = WindowAggregator(Tumbling(length))
    aggregator.define(range(2), aggregator.profile(Profile(statistics=statistics)))
    series, times, values, qualities = zip(*rows, strict=True)
    aggregator.ingest(array("I", series), array("q", times), array("d", values), array("B", qualities))
    aggregator.flush()
    return aggregator.windows()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), VALUES, st.sampled_from([0, 0, 0, 0x80])),
        min_size=16,
        max_size=16,
    ),
    st.sampled_from([0.0, 1e12]),
)
def test_merged_windows_are_the_coarser_grid(samples: list[tuple[int, float, int]], far: float) -> None:
    """Every series has a row at the start of every second, so that no fine window is missing."""
    rows = []
    for at, (series, value, quality) in enumerate(samples):
        second = 8 * SECOND + at // 2 * SECOND
        if at % 2 == 0:
            rows += [(0, second, far + value, 0), (1, second, far - value, quality)]
        else:
            rows.append((series, second + SECOND // 3, far + value, quality))
    fine, coarse = closed(SECOND, rows), closed(4 * SECOND, rows)
    thin = merge(fine, Tumbling(4 * SECOND))
    order = sorted(range(coarse.rows), key=lambda row: (coarse["start"][row], coarse["series"][row]))
    assert thin.rows == coarse.rows
    for name in coarse.keys() - {"status", "time_status"}:
        for row, at in enumerate(order):
            got, want = thin[name][row], coarse[name][at]
            room = 0.05 if far else 1e-6  # a variance near 1e12 from results, which are doubles
            alike = math.isclose(
                got, want, rel_tol=1e-9, abs_tol=room * (1e12 if name in ("sum", "total") else 1)
            )
            assert alike or (math.isnan(got) and math.isnan(want)), (name, got, want)


def test_what_cannot_be_merged_is_refused() -> None:
    rows = [(0, SECOND, 1.0, 0), (0, 2 * SECOND, 2.0, 0)]
    with pytest.raises(ValueError, match="std cannot be merged without mean"):
        merge(closed(SECOND, rows, ("count", "std")), Tumbling(4 * SECOND))
    with pytest.raises(ValueError, match="lies in more than one"):
        merge(closed(4 * SECOND, rows), Tumbling(3 * SECOND))
