"""The quantile sketch: held against its readable twin, against exact quantiles, and against its own promises."""

from __future__ import annotations

import itertools
import math
import random
import struct
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devicemesh._core import reference_sketch as reference
from devicemesh._core._native import Sketch

DBL_MAX, TINY = 1.7976931348623157e308, 5e-324
QUANTILES = [0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1]

finite = st.floats(allow_nan=False, allow_infinity=False)
near = st.floats(min_value=90, max_value=110)
few = st.sampled_from([0.0, -0.0, 1.0, -1.0, TINY, -TINY, DBL_MAX, -DBL_MAX, 2.2250738585072014e-308, 0.1])
streams = st.one_of(
    st.lists(near, max_size=80),
    st.lists(near.map(lambda value: -value) | st.just(0.0), max_size=80),
    st.lists(finite, max_size=60),
    st.lists(few | near, max_size=60),
    st.lists(st.floats(min_value=1e-3, max_value=1e3), max_size=150),
)
rules = st.sampled_from([(0.01, 2048), (0.01, 64), (0.0001, 4096), (0.5, 64), (0.05, 100)])


def both(rule, values):
    sketch, twin = Sketch(*rule), reference.Sketch(reference.Rule(*rule))
    for value in values:
        sketch.add(value)
        twin.add(value)
    return sketch, twin


def assert_same(sketch, twin):
    assert sketch.count == twin.count
    assert sketch.collapsed == twin.collapsed
    for q in QUANTILES if twin.count else []:
        assert struct.pack("d", sketch.quantile(q)) == struct.pack("d", twin.quantile(q)), q
    assert sketch.to_bytes() == twin.to_bytes()


@settings(derandomize=True, deadline=None, max_examples=400)
@given(rules, streams)
def test_c_and_twin_answer_alike(rule, values):
    sketch, twin = both(rule, values)
    assert_same(sketch, twin)
    again = Sketch(*rule)
    again.read(sketch.to_bytes())
    assert_same(again, twin)
    again.add(3.5)
    twin.add(3.5)
    assert_same(again, twin)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(rules, st.lists(streams, min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_however_it_is_split_and_merged_it_is_the_same(rule, parts, order):
    whole, _ = both(rule, itertools.chain(*parts))
    sketches = [both(rule, part)[0] for part in parts]
    order.shuffle(sketches)
    while len(sketches) > 1:
        at = order.randrange(len(sketches) - 1)
        other = sketches.pop(at + 1)
        sketches[at].merge(other)
    assert sketches[0].to_bytes() == whole.to_bytes()


@settings(derandomize=True, deadline=None, max_examples=120)
@given(st.sampled_from([0.001, 0.01, 0.1, 0.5]), streams)
def test_the_relative_error_is_kept(error, values):
    sketch, _ = both((error, 1 << 20), values)
    ordered = sorted(values)
    for q in QUANTILES if values else []:
        exact = ordered[math.floor(q * (len(values) - 1))]
        step = 5e-324 if abs(exact) < 2.3e-308 else 0
        assert abs(sketch.quantile(q) - exact) <= error * abs(exact) * (1 + 1e-15) + step
    assert sketch.collapsed == 0


@pytest.mark.parametrize("error", [0.0001, 0.001, 0.01, 0.1, 0.5])
def test_the_relative_error_is_kept_at_every_bin_edge(error):
    """Both sides of the edges of bins, found by halving, over one doubling and at both ends of the range."""
    rule = reference.Rule(error, 64)
    bound = error * (1 + 1e-15)
    for exponent in (-1022, -1, 0, 1, 1022):
        low, high = rule.key(math.ldexp(1, exponent)), rule.key(math.ldexp(1.9999999999999998, exponent))
        for key in range(low, high, max(1, (high - low) // 200)):
            below, above = math.ldexp(1, exponent), math.ldexp(1.9999999999999998, exponent)
            while math.nextafter(below, math.inf) < above:
                middle = below + (above - below) / 2
                below, above = (middle, above) if rule.key(middle) <= key else (below, middle)
            for value in (below, above):
                assert abs(rule.value(rule.key(value)) - value) <= bound * value, (exponent, key)


def test_a_key_grows_with_the_number():
    rule = reference.Rule(0.0001, 64)
    numbers = sorted(random.Random(1).uniform(1, 2) * 2.0**e for e in range(-1074, 1024) for _ in range(5))
    keys = [rule.key(number) for number in [TINY, *filter(None, numbers), DBL_MAX]]
    assert keys == sorted(keys)
    assert keys[0] > 0


def test_up_to_fifteen_values_are_exact():
    values = [0.1, -5e-324, 1e300, 3.0, -7.25, 0.0, 1 / 3, 2.0, 2.0, -1e-9, 1e12, 5.5, 6.5, 1e-300, 8.0]
    for count in range(1, 16):
        sketch, _ = both((0.5, 64), values[:count])
        ordered = sorted(values[:count])
        assert [
            sketch.quantile(i / max(count - 1, 1) * (1 + 1e-12) if i < count - 1 else 1) for i in range(count)
        ] == ordered


def test_every_order_of_few_values_is_put_in_order():
    """The network sorts if it sorts every sequence of zeros and ones (Knuth, 5.3.4, theorem Z)."""
    qs = [i / 14 + 1e-9 for i in range(14)] + [1]
    for pattern in range(1 << 15):
        sketch = Sketch()
        sketch.update(array("d", [float(pattern >> i & 1) for i in range(15)]))
        ones = pattern.bit_count()
        assert [sketch.quantile(q) for q in qs] == [0.0] * (15 - ones) + [1.0] * ones


def test_nothing_has_no_quantile():
    assert math.isnan(Sketch().quantile(0.5))
    assert Sketch().count == 0


def test_memory_is_bounded_and_what_falls_below_is_counted():
    sketch = Sketch(0.01, 64)
    values = [10.0 ** (i / 50) * sign for i in range(-1000, 1000) for sign in (1, -1)]
    random.Random(5).shuffle(values)
    for value in values:
        sketch.add(value)
    assert sketch.nbytes <= 128 + 2 * 64 * 4
    assert 0 < sketch.collapsed < len(values)
    kept = sorted(values)[-int(0.01 * len(values)) :]
    assert abs(sketch.quantile(1) - kept[-1]) <= 0.01 * kept[-1]
    assert abs(sketch.quantile(0) + kept[-1]) <= 0.01 * kept[-1]
    fresh = Sketch(0.01, 64)
    fresh.update(array("d", sorted(values, key=abs)))
    assert fresh.to_bytes() == sketch.to_bytes()


def test_small_windows_of_one_signal_need_no_heap():
    sketch = Sketch()
    sketch.update(array("d", [20 + math.sin(i) for i in range(10_000)]))
    assert sketch.nbytes == 128


@pytest.mark.parametrize("value", [5.0, -5.0, 0.0])
def test_a_count_beyond_16_bits_is_kept(value):
    sketch, twin = Sketch(), reference.Sketch(reference.Rule(0.01, 2048))
    sketch.update(array("d", [value]) * 70_000)
    twin._count(value)
    assert sketch.count == 70_000
    assert sketch.quantile(0.5) == next(v for v, n in twin.in_order() if n)


def test_a_count_beyond_32_bits_is_kept():
    sketch = Sketch()
    sketch.update(array("d", [5.0]) * 1000 + array("d", [7.0]) * 100)
    for _ in range(24):  # 1,100 * 2^24 values
        other = Sketch()
        other.read(sketch.to_bytes())
        sketch.merge(other)
    assert sketch.count == 1100 << 24
    assert abs(sketch.quantile(0.9) - 5.0) <= 0.05
    assert abs(sketch.quantile(0.92) - 7.0) <= 0.07
    sketch.add(5.0)
    assert sketch.count == (1100 << 24) + 1


def test_columns_skip_what_is_not_finite():
    sketch = Sketch()
    sketch.update(array("d", [1.0, math.nan, math.inf, -math.inf, 2.0]))
    assert sketch.count == 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_single_values_must_be_finite(value):
    with pytest.raises(ValueError, match="value is not finite"):
        Sketch().add(value)


@pytest.mark.parametrize(
    "rule", [(0.0, 2048), (0.6, 2048), (math.nan, 2048), (0.01, 63), (0.01, (1 << 20) + 1)]
)
def test_rules_have_a_range(rule):
    with pytest.raises(ValueError, match="relative_error is from"):
        Sketch(*rule)


def test_only_like_is_merged():
    sketch = Sketch(0.01)
    with pytest.raises(ValueError, match="another relative_error"):
        sketch.merge(Sketch(0.02))
    with pytest.raises(ValueError, match="another relative_error"):
        sketch.merge(Sketch(0.01, 64))
    with pytest.raises(ValueError, match="into itself"):
        sketch.merge(sketch)
    with pytest.raises(TypeError, match="not a Sketch"):
        sketch.merge(5)
    with pytest.raises(ValueError, match="q is not in"):
        sketch.quantile(1.5)


def written(*numbers):
    return b"".join(reference.varint(number) for number in numbers)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        written(2),
        written(0, 16) + bytes(128),
        written(0, 1),
        written(0, 1) + struct.pack("<d", math.nan),
        written(0, 2) + struct.pack("<2d", 2, 1),
        written(0, 0, 0),
        written(1, 15, 0, 0),  # so few are raw
        written(1, 0, 1, 5, 0, 0, 0),  # a bin at an end holds something
        written(1, 0, 2, 5, 0, 20, 0, 0),
        written(1, 0, 1, 5, 3, 20, 0),  # nothing collapses while there is room
        written(1, 0, 1, 1 << 30, 0, 20, 0),
        written(1, 0, 65, 5, 0, *[1] * 65, 0),
        written(1, 0, 1 << 40, 5, 0, 1),
        written(1, 0, 1, 5, 0, (1 << 64) - 1, 0),
        written(1, 1 << 63, 0, 0),
        written(1, 20, 0),
    ],
)
def test_bytes_that_are_no_sketch_are_refused(data):
    sketch = Sketch(0.01, 64)
    sketch.add(1)
    with pytest.raises(ValueError, match="not a sketch"):
        sketch.read(data)
    assert sketch.count == 1


@settings(derandomize=True, deadline=None, max_examples=300)
@given(streams, st.integers(0, 300), st.integers(0, 255))
def test_damaged_bytes_never_harm(values, at, byte):
    data = bytearray(both((0.01, 64), values)[0].to_bytes())
    data[at % len(data)] = byte
    sketch = Sketch(0.01, 64)
    try:
        sketch.read(bytes(data))
    except ValueError:
        return
    assert sketch.to_bytes()
    assert sketch.count == 0 or math.isfinite(sketch.quantile(0.5))


def test_it_agrees_with_ddsketch():
    ddsketch = pytest.importorskip("ddsketch")
    noise = random.Random(3)
    values = [noise.lognormvariate(0, 2) for _ in range(5000)]
    ours, theirs = Sketch(0.01), ddsketch.DDSketch(0.01)
    for value in values:
        ours.add(value)
        theirs.add(value)
    for q in QUANTILES:
        assert abs(ours.quantile(q) - theirs.get_quantile_value(q)) <= 0.0203 * ours.quantile(q)
