"""Settled positions against a plain set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from devicemesh.sink.settled import Settled

SAMPLES = [1 + position % 4 for position in range(80)]
BEFORE = [sum(SAMPLES[:position]) for position in range(81)]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=60))
def test_like_a_set(spans: list[tuple[int, int]]) -> None:
    settled, model = Settled(), set[int]()
    for start, length in spans:
        end = start + length
        fresh = settled.add(start, end, BEFORE[start], BEFORE[end])
        new = set(range(start, end)) - model
        assert fresh == sum(SAMPLES[position] for position in new)
        model |= new
        assert settled.samples == sum(SAMPLES[position] for position in model)
        assert all((position in settled) == (position in model) for position in range(81))
        base = next(position for position in range(81) if position not in model)
        assert (settled.position, settled.sample) == (base, BEFORE[base])
        flat = [position for start, end, _, _ in settled.ranges for position in (start, end)]
        assert flat == sorted(set(flat)), "ranges touch"


def test_advance() -> None:
    settled = Settled(10, 100)
    settled.add(12, 14, 104, 108)
    assert settled.advance(13, 106) == 4
    assert (settled.position, settled.sample, settled.ranges) == (14, 108, [])
    assert settled.advance(5, 50) == 0
