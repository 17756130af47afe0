"""Telemetry as ThingsBoard's converter reads it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicemesh.sink.entry import TooLargeError
from devicemesh.sink.thingsboard.entries import (
    Bounds,
    entries,
    judged,
    members,
    packed,
    quick,
    telemetry,
    unpacked,
    written,
)
from devicemesh.sink.told import Told
from devicemesh.sink.told import telemetry as told_telemetry
from devicemesh.testing.thingsboard import TextNumber, read, values

WIDE = Bounds(65536, 1000)


def there(value: Any, *, cast: bool = True) -> Any:
    """What ThingsBoard makes of a value."""
    return values(read(members(None, {"key": value})), cast, 0)["key"]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_a_double_there_whatever_its_size(value: float) -> None:
    for cast in (True, False):
        found = there(value, cast=cast)
        assert type(found) is float
        assert found == value if abs(value) >= 1 else math.isclose(found, value, rel_tol=0, abs_tol=1e-16)


@pytest.mark.parametrize("value", [0.1 + 0.2, 1e16, 1.5e300, -2.5e22, 1e-5, 1234.5678901234567, 1e-17, -0.0])
def test_floats_that_json_writes_oddly(value: float) -> None:
    assert there(value) == pytest.approx(value, abs=1e-16)
    assert not isinstance(there(value), TextNumber)


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_an_integer_is_a_long_there(value: int) -> None:
    assert there(value) == value
    assert type(there(value)) is int


@pytest.mark.parametrize("value", [1 << 63, (1 << 64) - 1])
def test_an_integer_that_no_long_holds_is_a_text_and_whole(value: int) -> None:
    assert str(there(value)) == str(value)
    assert there(value, cast=False) == str(value)


@pytest.mark.parametrize("value", [True, False, "on", "", "ä\n\"'", {"a": [1, 2.5]}, [1, "x"]])
def test_other_values_stay_what_they_are(value: Any) -> None:
    assert json.loads(written(value)) == value
    if not isinstance(value, dict | list):
        assert there(value) == value


def test_values_of_one_time_go_together_and_others_never() -> None:
    found = entries([Told("a", 1, 5), Told("b", 2, 5), Told("a", 3, 6), Told("a", 4, 6)], WIDE)
    assert [json.loads(one.body) for one in found] == [
        {"ts": 5, "values": {"a": 1, "b": 2}},
        {"ts": 6, "values": {"a": 3}},
        {"ts": 6, "values": {"a": 4}},
    ]
    assert [one.values for one in found] == [2, 1, 1]


def test_a_bad_value_is_left_out_and_its_quality_told_until_it_is_good() -> None:
    doubted: set[str] = set()
    told = [
        Told("speed", 1.0, 1),
        Told("speed", None, 2, "Bad.NoAnswer"),
        Told("speed", 7.0, 3, "Uncertain"),
        Told("speed", 8.0, 4),
        Told("speed", 9.0, 5, "Good.FromHistory"),
        Told("power", None, 6),
        Told("speed/mean", None, 7),
    ]
    assert [tuple(one)[:3] for one in judged(told, doubted)] == [
        ("speed", 1.0, 1),
        ("speed/quality", "Bad.NoAnswer", 2),
        ("speed", 7.0, 3),
        ("speed/quality", "Uncertain", 3),
        ("speed", 8.0, 4),
        ("speed/quality", "Good", 4),
        ("speed", 9.0, 5),
        ("power/quality", "NoValue", 6),
    ]
    assert doubted == {"power"}


def test_a_bad_reading_that_has_a_value_is_bad_all_the_same() -> None:
    assert [one.name for one in judged([Told("speed", 5.0, 1, "Bad.Refused")], set())] == ["speed/quality"]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3), st.text(max_size=30)), max_size=30))
def test_what_is_split_is_still_all_there(told: list[tuple[str, int, str]]) -> None:
    bounds = Bounds(260, 2)
    found = entries([Told(name, value, time) for name, time, value in told], bounds)
    seen = [(k, e["ts"], v) for e in (json.loads(one.body) for one in found) for k, v in e["values"].items()]
    assert seen == told
    assert all(len(one.body) <= bounds.bytes and one.values <= 2 for one in found)
    assert unpacked(packed(found)) == found


def test_one_value_that_is_too_much_is_said() -> None:
    with pytest.raises(TooLargeError, match="speed, "):
        entries([Told("speed", "x" * 300, 1)], Bounds(260, 5))


def test_messages_of_a_device_and_of_the_gateway() -> None:
    found = entries([Told("a", 1, 5)], WIDE)
    assert telemetry('p"1', found) == b'{"p\\"1":[{"ts":5,"values":{"a":1}}]}'
    assert telemetry(None, found) == b'[{"ts":5,"values":{"a":1}}]'
    assert members("p", {"a": 1, "b": "x"}) == b'{"p":{"a":1,"b":"x"}}'


def test_a_lone_surrogate_is_still_utf8() -> None:
    assert telemetry("p", entries([Told("a", "\ud800", 5)], WIDE)).decode()


SOME = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 1 << 64), st.booleans(),
                 st.text(max_size=9), st.none(), st.lists(st.integers(), max_size=2))  # fmt: skip


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from("abc"), SOME, min_size=1), st.sampled_from(["", "", "Uncertain"])
        ),
        max_size=4,
    )
)
def test_the_quick_way_says_what_the_slow_one_says(rows: list[tuple[dict[str, Any], str]]) -> None:
    payload = {"rows": [
        {"time": f"2026-11-29T12:00:0{at}Z", "values": values, **({"quality": {"a": word}} if word else {})}
        for at, (values, word) in enumerate(rows)
    ]}  # fmt: skip
    found = quick(payload, WIDE)
    usual = not any(word or None in row.values() for row, word in rows)
    assert (found is not None) == usual
    if found is not None:
        assert found == entries(judged(told_telemetry(payload), set()), WIDE)


def test_what_is_not_usual_is_not_quick() -> None:
    row = {"time": "2026-11-29T12:00:00Z", "values": {"a": "x" * 50, "b": 1}}
    assert quick({"rows": [row], "windows": []}, WIDE) is None
    assert quick({"rows": [row]}, Bounds(60, 9)) is None
    assert quick({"rows": [row]}, Bounds(600, 1)) is None
