"""Signals stay where they are declared, repeat with their seed, and lose no digit."""

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicemesh.spec.device import Property
from devicemesh.spec.values import INTEGER_RANGES, ValueType
from devicemesh.testing.signals import (
    MAX_STEPS,
    Constant,
    Counter,
    Noisy,
    Replay,
    Room,
    Walk,
    Wave,
    coerced,
    read_csv,
    signal,
)

NUMBERS = st.floats(-1e6, 1e6)
RANGES = st.tuples(NUMBERS, NUMBERS).map(sorted)
MOMENTS = st.lists(st.floats(0, 1e5), min_size=1, max_size=20).map(sorted)
WIDE = Room(-1e9, 1e9)


def prop(type_: str = "float64", access: str = "ReadOnly", **more: Any) -> Property:
    simulation = {k: more.pop(k) for k in list(more) if k not in ("minimum", "maximum")}
    return Property.model_validate(
        {"name": "p", "type": type_, "access": access, "simulation": simulation, **more}
    )


def made(one: Property, room: Room = WIDE, folder: Path = Path(), seed: int = 1) -> Any:
    return signal(one, room, folder, random.Random(seed))


@given(st.sampled_from(["sine", "ramp", "square", "walk", "counter"]), RANGES, MOMENTS, st.floats(0, 1e4))
def test_a_signal_stays_in_its_range(
    shape: str, ends: list[float], moments: list[float], step: float
) -> None:
    low, high = ends
    one = made(prop(signal=shape, low=low, high=high, step=step, period="100ms"))
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    for value in [one.at(moment) for moment in moments]:
        assert low - slack <= value <= high + slack


@given(st.sampled_from(["sine", "ramp", "square", "walk", "counter"]), MOMENTS, st.integers(0, 99))
def test_the_same_seed_gives_the_same_values(shape: str, moments: list[float], seed: int) -> None:
    one = prop(signal=shape, noise=3, period="1s")
    first, second = (made(one, seed=seed) for _ in range(2))
    assert [first.at(m) for m in moments] == [second.at(m) for m in moments]


def test_another_seed_gives_others() -> None:
    one = prop(signal="walk", period="1s")
    assert made(one, seed=1).at(10) != made(one, seed=2).at(10)


def test_waves_have_their_shapes() -> None:
    sine, ramp, square = (Wave(shape, 10, 20, 8, 0) for shape in ("sine", "ramp", "square"))
    assert [round(sine.at(t), 9) for t in (0, 2, 4, 6)] == [10, 15, 20, 15]
    assert [ramp.at(t) for t in (0, 2, 4, 8)] == [10, 12.5, 15, 10]
    assert [square.at(t) for t in (0, 3.9, 4, 7.9, 8)] == [10, 10, 20, 20, 10]


@given(st.integers(-5, 5), st.integers(0, 20), st.integers(-30, 30), st.integers(0, 500))
def test_an_integer_counter_wraps_as_a_register_does(low: int, span: int, step: int, periods: int) -> None:
    expected = low
    for _ in range(periods):
        expected += step
        while expected > low + span:
            expected -= span + 1
        while expected < low:
            expected += span + 1
    value = Counter(low, low + span, step, 1.0).at(periods + 0.5)
    assert value == expected
    assert isinstance(value, int)


def test_a_counter_of_64_bits_is_exact_up_to_its_end() -> None:
    low, high = INTEGER_RANGES[ValueType.UINT64]
    one = made(prop("uint64", signal="counter", step=2**52 + 1, period="1s"), Room(low, high, whole=True))
    value = one.at(1000)
    assert value == 1000 * (2**52 + 1)
    assert isinstance(value, int)
    assert coerced(value, ValueType.UINT64, Room(low, high, whole=True)) == value
    assert one.at(4096) == 4096 * (2**52 + 1) - 2**64


def test_a_walk_turns_back_and_takes_no_wider_step() -> None:
    walk = Walk(0, 3, 1, 1.0, random.Random(5))
    values = [walk.at(t) for t in range(3000)]
    assert max(abs(b - a) for a, b in pairwise(values)) <= 1
    assert sum(v in (0, 3) for v in values) == 0  # turned back, not stuck at the bound
    assert min(values) < 0.3
    assert max(values) > 2.7


def test_a_walk_is_the_same_whoever_asks_how_often() -> None:
    often, rarely = (Walk(0, 100, 1, 1.0, random.Random(5)) for _ in range(2))
    for t in range(500):
        often.at(t)
    assert often.at(500) == rarely.at(500)


def test_a_walk_after_a_long_silence_is_prompt_and_in_range() -> None:
    walk = Walk(0, 100, 1, 0.001, random.Random(5))
    assert 0 <= walk.at(366 * 86400.0) <= 100
    rng = random.Random(5)
    for _ in range(MAX_STEPS):
        rng.uniform(-1, 1)
    assert walk._rng.random() == rng.random()  # no more steps than that were taken


@given(
    st.lists(st.tuples(st.floats(0.1, 10), NUMBERS), min_size=1, max_size=10),
    st.floats(0, 100),
    st.integers(0, 3),
)
def test_a_replay_loops(gaps: list[tuple[float, float]], moment: float, turns: int) -> None:
    seconds, rows = 0.0, []
    for gap, value in gaps:
        rows.append((seconds, value))
        seconds += gap
    replay = Replay(rows)
    assert [replay.at(t) for t, _ in rows] == [v for _, v in rows]
    assert replay.at(moment) in {v for _, v in rows}
    for t, value in rows:
        assert replay.at(t + turns * replay._length + 1e-6) == value


def test_a_replay_of_one_moment_does_not_divide_by_zero() -> None:
    assert Replay([(3.0, 1.0), (3.0, 2.0)]).at(77.7) == 2.0


def test_noise_spreads_as_declared() -> None:
    noisy = Noisy(Constant(10.0), 0.5, random.Random(1))
    values = [noisy.at(0) for _ in range(4000)]
    mean = sum(values) / len(values)
    assert abs(mean - 10) < 0.05
    assert abs((sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5 - 0.5) < 0.05


@pytest.mark.parametrize(
    ("one", "at", "expected"),
    [
        (prop("bool"), 0, None),  # a square wave
        (prop("bool", "ReadWrite"), 0, False),
        (prop("bool", value=True), 0, True),
        (prop("uint16", "ReadWrite"), 0, 0),  # no range: a fault code, say
        (prop("float32", "ReadWrite", minimum=20, maximum=30), 0, 25),
        (prop("float32", value=7), 5, 7),
        (prop("int32", value=7), 5, 7),
        (prop("string"), 0, "p"),
        (prop("string", value="abc"), 0, "abc"),
    ],
)
def test_what_is_not_declared_suits_the_type(one: Property, at: float, expected: Any) -> None:
    value = made(one).at(at)
    assert value in (0, 1) if expected is None else value == expected


def test_a_range_with_one_end_gets_another() -> None:
    for simulation in ({"low": 200}, {"high": -5}, {"high": 50}):
        one = made(prop(signal="ramp", period="1s", **simulation))
        values = [one.at(t / 10) for t in range(10)]
        assert max(values) - min(values) > 40


@pytest.mark.parametrize(
    ("one", "room", "words"),
    [
        (
            prop(signal="sine", high=400),
            Room(-327, 327),
            "high 400 does not fit its address, which holds -327 to 327",
        ),
        (prop(value=400), Room(0, 327), "value 400 does not fit"),
        (prop(signal="replay", file="none.csv"), WIDE, "none.csv can't be read: No such file"),
        (
            prop("string", value="hot"),
            Room(words=("manual", "automatic")),
            "'hot' is none of manual, automatic",
        ),
        (prop("string", value="too long"), Room(length=4), "has 8 bytes, its address 4"),
    ],
)
def test_what_can_not_be_is_said(one: Property, room: Room, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        made(one, room)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seconds,kW\n0,1\n1,two\n", r"power.csv:3: '1,two' is not `seconds,value`"),
        ('seconds,kW\n0,1\n"2\n",3\n5\n', r"power.csv:5: '5' is not"),  # lines are counted, not rows
        ("0,1\n1,nan\n", r"power.csv:2: '1,nan' is not"),
        ("seconds,kW\n", r"power.csv has no rows"),
        ("", r"power.csv has no rows"),
        (b"0,1\n\xff\xfe,2\n", r"power.csv is not a CSV file in UTF-8"),
    ],
)
def test_a_wrong_recording_is_named_with_its_line(tmp_path: Path, text: str | bytes, words: str) -> None:
    file = tmp_path / "power.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=words):
        read_csv(file)


def test_a_recording_is_sorted_by_time_and_keeps_integers(tmp_path: Path) -> None:
    file = tmp_path / "power.csv"
    file.write_text("seconds,Wh\n2,5\n\n0,9007199254740993\n0,1.5\n")
    assert read_csv(file) == [(0, 9007199254740993), (0, 1.5), (2, 5)]


def test_a_recording_beyond_the_register_is_refused(tmp_path: Path) -> None:
    (tmp_path / "power.csv").write_text("0,1\n1,70000\n")
    with pytest.raises(ValueError, match=r"power\.csv 70000 does not fit"):
        made(prop(signal="replay", file="power.csv"), Room(0, 65535), tmp_path)
