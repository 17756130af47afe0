import itertools

from hypothesis import given
from hypothesis import strategies as st

from devicemesh.runtime.schedule import Schedule, first_due, phase


def test_polls_do_not_drift() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add("a", 0.1, 5.0)
    for turn in range(1000):
        entry = schedule.peek()
        assert entry is not None
        assert abs(entry.due - (5.0 + turn * 0.1)) < 1e-9
        assert schedule.done(entry.due + 0.03) == 0


def test_an_overrun_is_skipped_and_counted_and_keeps_its_phase() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add("a", 1.0, 10.25)
    assert schedule.done(13.5) == 3
    entry = schedule.peek()
    assert entry is not None
    assert (entry.due, entry.overruns) == (14.25, 3)


@given(
    st.lists(st.floats(0.01, 5), min_size=1, max_size=5), st.lists(st.floats(0, 3), min_size=1, max_size=60)
)
def test_no_class_is_starved_and_no_turn_goes_missing(intervals: list[float], costs: list[float]) -> None:
    schedule: Schedule[int] = Schedule()
    for index, interval in enumerate(intervals):
        schedule.add(index, interval, 0.0)
    now = 0.0
    polled = [0] * len(intervals)
    skipped = [0] * len(intervals)
    for cost in costs:
        entry = schedule.peek()
        assert entry is not None
        now = max(now, entry.due) + cost
        due, what = entry.due, entry.what
        polled[what] += 1
        skipped[what] += schedule.done(now)
        assert entry.due > now
        assert abs((entry.due - due) / entry.interval - round((entry.due - due) / entry.interval)) < 1e-6
    for entry in schedule._heap:
        turns = polled[entry.what] + skipped[entry.what]
        assert abs(entry.due - turns * entry.interval) < 1e-6 * max(1.0, entry.due)


def test_links_of_one_interval_are_spread() -> None:
    phases = sorted(phase(f"('modbus', '10.0.0.{n}:502')", 1.0) for n in range(100))
    assert max(b - a for a, b in itertools.pairwise(phases)) < 0.08
    assert 0 <= phases[0] < phases[-1] < 1.0


@given(st.floats(0.001, 3600), st.floats(0, 1e6))
def test_the_first_poll_is_soon_and_on_the_shared_grid(interval: float, now: float) -> None:
    grid = min(0.005, interval / 10)
    due = first_due("('modbus', 'x')", interval, now)
    assert now <= due + 1e-6
    assert due <= now + min(interval, 1.0) + grid + 1e-6
    assert abs(due / grid - round(due / grid)) < 1e-3
