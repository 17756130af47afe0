"""Dense folding: held against its readable twin bit by bit, and against exact arithmetic."""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
from array import array
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from devicemesh._core import _native
from devicemesh._core.reference_dense import BLOCK, Dense, fold

FIELDS = [field.name for field in dataclasses.fields(Dense)]


def folded(values):
    return dict(zip(FIELDS, _native.fold_dense(values), strict=True))


def bits(found):
    return {name: value.hex() if isinstance(value, float) else value for name, value in found.items()}


def assert_like_twin(values):
    found, wanted = folded(values), dataclasses.asdict(fold([float(value) for value in values]))
    if not wanted["count"]:
        assert (found["count"], found["nonfinite"]) == (0, wanted["nonfinite"])
        return
    assert bits(found) == bits(wanted)


numbers = st.floats(width=64) | st.sampled_from(
    [0.0, -0.0, math.nan, math.inf, -math.inf, 1e200, -1e200, 1e308]
)
plain = st.floats(min_value=-100, max_value=100)
short = st.lists(numbers, max_size=40) | st.lists(plain, max_size=40)


@st.composite
def long(draw):
    """Several blocks of noise with some odd values."""
    count = draw(st.sampled_from([1, 3, 4, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5]))
    noise = random.Random(draw(st.integers(0, 99)))
    values = [noise.gauss(draw(st.sampled_from([0, 5, 1e6])), 1) for _ in range(count)]
    for place, value in draw(st.lists(st.tuples(st.integers(0, count - 1), numbers), max_size=4)):
        values[place] = value
    return values


@settings(derandomize=True, deadline=None, max_examples=150)
@given(short | long())
@example([])
@example([math.nan] * (BLOCK + 3))
@example([math.nan] * (BLOCK + 3) + [1.0, 2.0])
@example([0.0, -0.0, 5.0, -0.0, 0.0])
@example([1e200, -1e200, 1e200, 1.0])
def test_c_and_twin_agree_to_the_last_bit(values):
    assert_like_twin(array("d", values))


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.lists(st.floats(width=32), max_size=600))
def test_float32(values):
    assert_like_twin(array("f", values))


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.lists(st.integers(-32768, 32767), max_size=600))
def test_int16(values):
    assert_like_twin(array("h", values))


@pytest.mark.parametrize(("center", "width"), [(0, 1), (1e12, 0.1), (1e15, 1), (-3e7, 1e-3)])
def test_the_sums_are_right(center, width):
    """Mean, variance and RMS of large values that differ little, against exact fractions."""
    noise = random.Random(4)
    values = [center + noise.uniform(-width, width) for _ in range(5000)]
    found = folded(array("d", values))
    mean = found["shift"] + found["sum"] / found["count"]
    variance = (found["squares"] - found["sum"] ** 2 / found["count"]) / (found["count"] - 1)
    exact = [Fraction(value) for value in values]
    assert math.isclose(mean, sum(exact) / len(exact), rel_tol=1e-15, abs_tol=1e-15)
    assert math.isclose(variance, statistics.variance(exact), rel_tol=1e-12)
    assert math.isclose(found["power"], sum(value * value for value in exact), rel_tol=1e-13)


def test_a_first_value_far_off_spoils_neither_variance_nor_rms():
    noise = random.Random(6)
    values = [1e6] + [noise.gauss(0, 1) for _ in range(100_000)]
    found = folded(array("d", values))
    tail = found["power"] - 1e12
    assert math.isclose(tail, sum(value * value for value in values[1:]), rel_tol=1e-6)
    assert math.isclose(found["squares"], math.fsum((value - 1e6) ** 2 for value in values), rel_tol=1e-13)


@pytest.mark.parametrize("offset", range(1, 8))
def test_any_alignment_will_do(offset):
    values = array("d", [math.sin(i) for i in range(2000)])
    room = bytearray(offset + len(values) * 8)
    room[offset:] = values.tobytes()
    assert _native.fold_dense(memoryview(room)[offset:].cast("d")) == _native.fold_dense(values)


@pytest.mark.parametrize("place", [0, 1, 17, BLOCK - 1, BLOCK, 3 * BLOCK + 7, 4 * BLOCK + 2])
@pytest.mark.parametrize("value", [-9.0, 9.0])
def test_where_the_extremes_are(place, value):
    values = array("d", [math.sin(i) for i in range(4 * BLOCK + 3)])
    values[place] = value
    values[-1] = 0.5 if place != len(values) - 1 else value
    found = folded(values)
    assert (found["max_at"] if value > 0 else found["min_at"]) == place


@pytest.mark.parametrize(
    "values", [array("q", [1]), b"abc", array("I", [1]), memoryview(bytes(16)).cast("B", (2, 8))]
)
def test_other_types_are_refused(values):
    with pytest.raises(TypeError, match="values: an array of"):
        _native.fold_dense(values)


def test_what_is_no_array_is_refused():
    with pytest.raises(TypeError):
        _native.fold_dense([1.0])
    with pytest.raises(BufferError):
        _native.fold_dense(memoryview(array("d", range(10)))[::2])


def test_it_agrees_with_numpy():
    numpy = pytest.importorskip("numpy")
    values = numpy.random.default_rng(1).normal(20, 3, 100_001)
    found = folded(values)
    mean = found["shift"] + found["sum"] / found["count"]
    assert math.isclose(mean, values.mean(), rel_tol=1e-12)
    variance = found["squares"] / found["count"] - (found["sum"] / found["count"]) ** 2
    assert math.isclose(math.sqrt(variance), values.std(), rel_tol=1e-12)
    assert math.isclose(found["power"], (values * values).sum(), rel_tol=1e-12)
    assert (found["min_at"], found["max_at"]) == (values.argmin(), values.argmax())


def test_of_equal_extremes_the_first_is_told():
    values = array("d", [math.sin(i) for i in range(4 * BLOCK)])
    for place in (BLOCK + 7, BLOCK + 9, 3 * BLOCK + 1):
        values[place], values[place + 2] = 9.0, -9.0
    found = folded(values)
    assert (found["max_at"], found["min_at"]) == (BLOCK + 7, BLOCK + 11)
