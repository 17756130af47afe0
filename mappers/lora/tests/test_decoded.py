"""Decoded payloads to columns: pointers, types, normalised payloads, and what is not as declared."""

from __future__ import annotations

import math
from typing import Any

import pytest
from devicemesh_lora import document
from devicemesh_lora.model import LoraAddress
from devicemesh_lora.plan import Plan
from devicemesh_lora.uri import parse_address
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from devicemesh.mapper import ConfigError, Quality
from devicemesh.spec.values import ValueType
from devicemesh.testing.contract import rows

NOW = 1_700_000_000_000_000_000


def plan(kit: Any, *points: tuple[str, dict[str, Any]]) -> Plan:
    node = kit.node(1700)
    return Plan([kit.point(slot, node, type_, **address) for slot, (type_, address) in enumerate(points)])


def values(batches: list[Any]) -> dict[int, Any]:
    return {row.slot: row.value for batch in batches for row in rows(batch) if row.error is None}


def whys(batches: list[Any]) -> dict[int, str]:
    return {row.slot: str(row.error) for batch in batches for row in rows(batch) if row.error is not None}


def test_values_of_all_types(kit: Any) -> None:
    made = plan(
        kit,
        ("float64", {"pointer": "/temp", "scale": 0.5, "add": 1}),
        ("uint8", {"pointer": "/ext/battery/1"}),
        ("bool", {"pointer": "/door"}),
        ("string", {"pointer": "/a~1b/~0"}),
        ("json", {"pointer": "/ext"}),
        ("uint64", {"pointer": "/big"}),
        ("int64", {"pointer": "/count", "port": 7}),
        ("float32", {"pointer": "/other", "port": 3}),
    )
    data = {
        "temp": 20,
        "ext": {"battery": [1, 2]},
        "door": 1,
        "a/b": {"~": "x"},
        "big": 1 << 63,
        "count": 5.0,
    }
    batches = made.decoded(7, data, None, NOW)
    assert values(batches) == {0: 11.0, 1: 2, 2: 1, 3: "x", 4: data["ext"], 5: 1 << 63, 6: 5}
    assert not whys(batches) and {batch.time_ns for batch in batches} == {NOW}
    assert made.decoded(8, {}, None, NOW) == []  # what was there once need not be in each payload


@pytest.mark.parametrize(
    ("type_", "value", "why"),
    [
        ("float64", "21", "'21' is no float64"),
        ("float64", None, "null is no float64"),
        ("float64", math.inf, "inf is no number"),
        ("float64", 10**400, "bits is no number"),
        ("float64", True, "True is no float64"),
        ("int8", 200, "200 is no int8: -128 to 127"),
        ("uint8", 1.5, "1.5 is no uint8"),
        ("uint8", math.nan, "nan is no uint8"),
        ("bool", 2, "2 is no bool"),
        ("string", {"a": 1}, "an object of 1 is no string"),
        ("json", None, "null is no json"),
    ],
)
def test_a_value_of_another_type_is_bad_and_no_other(kit: Any, type_: str, value: Any, why: str) -> None:
    made = plan(kit, (type_, {"pointer": "/v"}), ("float64", {"pointer": "/good"}))
    batches = made.decoded(1, {"v": value, "good": 1}, None, NOW)
    assert values(batches) == {1: 1} and set(whys(batches)) == {0}
    assert why in whys(batches)[0] and "/v" in whys(batches)[0]
    assert [batch.quality for batch in batches if batch.error] == [Quality.UNDECODABLE]


@pytest.mark.parametrize("data", [{"hum": 5}, {}, None, [], 5, "text"])
def test_what_was_never_there_says_what_is(kit: Any, data: Any) -> None:
    made = plan(kit, ("float64", {"pointer": "/temp"}))
    said = whys(made.decoded(1, data, None, NOW))[0]
    assert "the decoded payload has no /temp, " in said
    assert not isinstance(data, dict) or not data or "only /hum" in said


def test_normalised_payloads(kit: Any) -> None:
    made = plan(
        kit, ("float64", {"pointer": "/air/temperature", "normalized": True}), ("float64", {"pointer": "/t"})
    )
    assert values(made.decoded(1, {"t": 5}, {"air": {"temperature": 6}}, NOW)) == {0: 6, 1: 5}
    listed = [
        {"time": "2026-01-31T12:00:00Z", "air": {"temperature": 7}},
        {"time": "2026-01-31T12:01:00", "air": {"temperature": 8}},
        {"time": "yesterday", "air": {"temperature": 9}},
        {"time": "0001-01-01T00:00:00Z", "air": {"temperature": 10}},
        {"soil": {}}, 5,
    ]  # fmt: skip
    batches = made.decoded(1, {}, listed, NOW)
    assert [(b.time_ns, b.value[0]) for b in batches] == [
        (1_769_860_800_000_000_000, 7), (1_769_860_860_000_000_000, 8), (NOW, 9), (NOW, 10),
    ]  # fmt: skip
    for none in (None, []):
        fresh = plan(kit, ("float64", {"pointer": "/air/temperature", "normalized": True}))
        assert "the normalised payload has no /air/temperature" in whys(fresh.decoded(1, {}, none, NOW))[0]


def test_a_payload_of_which_nothing_is_made_marks_its_own_points(kit: Any) -> None:
    made = plan(
        kit, ("float64", {"pointer": "/a"}), ("float64", {"pointer": "/b", "port": 9}),
        ("int8", {"offset": 0}), ("float64", {"stat": "rssi"}),
    )  # fmt: skip
    (batch,) = made.undecoded(1, "too short", "CodecError", NOW)
    assert list(batch.slot) == [0] and batch.quality == Quality.UNDECODABLE
    assert batch.error is not None and batch.error.reason == "CodecError" and "too short" in str(batch.error)
    assert plan(kit, ("int8", {"offset": 0})).undecoded(1, "x", "CodecError", NOW) == []


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"pointer": "temp"}, "begins with `/`"),
        ({"pointer": "/t", "offset": 1}, "give one of"),
        ({"pointer": "/t" * 33}, "at most 32"),
        ({"pointer": "/t", "scale": 0}, "must not be 0"),
        ({"pointer": "/t", "byteOrder": "big"}, "`byteOrder` goes with `offset`"),
        ({"offset": 1, "normalized": True}, "`normalized` goes with `pointer`"),
        ({"stat": "rssi", "scale": 2}, "`scale` goes with `offset` and `pointer`"),
        ({"channel": 1, "data": {}}, "`data` goes with `pointer`"),
    ],
)
def test_addresses_that_make_no_sense(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        LoraAddress.model_validate(fields)


@pytest.mark.parametrize(
    ("fields", "type_", "access", "why"),
    [
        ({"pointer": "/t"}, "bytes", "ReadOnly", "no bytes"),
        ({"pointer": "/t", "scale": 2}, "int8", "ReadOnly", "make a float"),
        ({"pointer": "/t", "normalized": True}, "int8", "ReadWrite", "can only be read"),
        ({"pointer": "/t/0"}, "int8", "ReadWrite", "no places in lists"),
        ({"pointer": "/t/a", "scale": 2}, "float64", "ReadWrite", None),
    ],
)
def test_what_can_not_live_there(fields: dict[str, Any], type_: str, access: str, why: str | None) -> None:
    said = LoraAddress.model_validate(fields).refusal(ValueType(type_), access)
    assert (said is None) if why is None else why in str(said)


def test_what_an_encoder_is_given() -> None:
    where = LoraAddress(pointer="/config/interval", data={"type": "set", "config": {"mode": 2}})
    assert where.object(60) == {"type": "set", "config": {"mode": 2, "interval": 60}}
    assert where.data == {"type": "set", "config": {"mode": 2}}
    assert LoraAddress(pointer="/t", scale=0.5, add=1.0).object(11.0) == {"t": 20.0}
    assert LoraAddress(pointer="/on", scale=0.5).object(True) == {"on": True}


@pytest.mark.parametrize("text", ["#/temp", "2#/a~1b/0", "~/air/temperature", "9~/x", "#/", "#/a@1:b"])
def test_the_short_form(text: str) -> None:
    assert parse_address(text).text == text


def test_no_short_form() -> None:
    with pytest.raises(ConfigError, match="#/json/pointer"):
        parse_address("x#/temp")


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "0", ""]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
TYPES = [type_ for type_ in ValueType if type_ != ValueType.BYTES]


@given(
    data=JSONS,
    normalized=JSONS,
    type_=st.sampled_from(TYPES),
    pointer=st.sampled_from(["/a", "/a/0", "/b/a/", "/"]),
)
def test_whatever_a_codec_makes_is_a_value_or_bad(
    data: Any, normalized: Any, type_: ValueType, pointer: str
) -> None:
    from devicemesh_lora.model import LoraEndpoint

    from devicemesh.mapper import Point

    keys = {"name": "k", "key": "k"}
    node = LoraEndpoint.model_validate(
        {"listen": "127.0.0.1:1", "devEui": "0" * 16, "otaa": {"appKey": keys}}
    )
    points = [Point(slot, "default/d", "p", type_, node, LoraAddress(pointer=pointer, normalized=bool(slot)))
              for slot in (0, 1)]  # fmt: skip
    batches = Plan(points).decoded(1, data, normalized, NOW)
    seen = [row for batch in batches for row in rows(batch)]
    assert {row.slot for row in seen} == {0, 1} or (
        isinstance(normalized, list) and {0} <= {row.slot for row in seen}
    )
    for row in seen:
        if row.error is None and type_.is_number:
            assert math.isfinite(row.value)
    assert document.at(data, ()) is data
