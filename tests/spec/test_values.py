import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from devicemesh.spec.telemetry import Telemetry
from devicemesh.spec.units import TABLE, canonical, symbol
from devicemesh.spec.values import INTEGER_RANGES, ValueType, duration_ns, mismatch


@pytest.mark.parametrize(
    ("text", "ns"),
    [("100ms", 10**8), ("1m30s", 90 * 10**9), ("2h", 7200 * 10**9), ("1.5s", 15 * 10**8), ("7us", 7000)],
)
def test_durations(text: str, ns: int) -> None:
    assert duration_ns(text) == ns


@pytest.mark.parametrize("text", ["", "5", "ms", "100 ms", "1x", "-1s", "1s2", "1e3s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        duration_ns(text)


@pytest.mark.parametrize("value", [5, 0, 0.5])
@pytest.mark.parametrize("field", ["samplingInterval", "heartbeat"])
def test_a_duration_without_a_unit_is_taken_for_seconds_by_people(field: str, value: float) -> None:
    with pytest.raises(ValidationError, match=f"{value} has no unit: did you mean {value}s"):
        Telemetry.model_validate({field: value})


def test_what_is_neither_text_nor_number_is_no_duration() -> None:
    with pytest.raises(ValidationError, match="valid string"):
        Telemetry.model_validate({"heartbeat": True})


@given(st.sampled_from(sorted(INTEGER_RANGES)), st.integers(-(2**65), 2**65))
def test_integers_fit_exactly_in_their_range(type_: ValueType, value: int) -> None:
    low, high = INTEGER_RANGES[type_]
    assert (mismatch(value, type_) is None) == (low <= value <= high)


@pytest.mark.parametrize(
    ("value", "type_"),
    [("1", ValueType.INT16), (True, ValueType.INT16), (1.0, ValueType.INT16), (1, ValueType.BOOL), (1, ValueType.STRING),
     (1e39, ValueType.FLOAT32), (float("nan"), ValueType.FLOAT64), ("1", ValueType.FLOAT64),
     (10**400, ValueType.FLOAT64), (-(10**400), ValueType.FLOAT32), (float("-inf"), ValueType.FLOAT64),
     ("\ud800", ValueType.STRING), (["\udcff"], ValueType.JSON), ({"a": [float("nan")]}, ValueType.JSON),
     (b"\0", ValueType.JSON)],
)  # fmt: skip
def test_nothing_is_coerced(value: object, type_: ValueType) -> None:
    assert mismatch(value, type_) is not None


@pytest.mark.parametrize(
    ("typed", "ucum"),
    [("rpm", "/min"), ("degC", "Cel"), ("°C", "Cel"), ("kWh", "kW.h"), ("psi", "[psi]"), ("bar", "bar")],
)
def test_units_as_people_type_them(typed: str, ucum: str) -> None:
    assert canonical(typed) == ucum


def test_ambiguous_and_unknown_units_are_refused_with_a_suggestion() -> None:
    with pytest.raises(ValueError, match="write degC"):
        canonical("C")
    with pytest.raises(ValueError, match="did you mean"):
        canonical("degc")


def test_the_unit_table_is_sound() -> None:
    codes = [unit.ucum for unit in TABLE]
    assert len(codes) == len(set(codes))
    claimed: dict[str, str] = {}
    for unit in TABLE:
        assert canonical(unit.ucum) == unit.ucum
        assert symbol(unit.ucum) == unit.symbol
        for name in {unit.symbol, *unit.spellings} - {""}:
            assert claimed.setdefault(name, unit.ucum) == unit.ucum, f"{name} names two units"
