"""Records as Sparkplug payloads: C against its readable twin, byte for byte."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devicemesh._core import _native
from devicemesh._core import reference_record as record
from devicemesh._core.reference_record import Value
from devicemesh._core.tagged import Tag
from devicemesh.sink.base import Declaration
from devicemesh.sink.sparkplug.metrics import metrics_of
from devicemesh.sink.sparkplug.table import Table
from devicemesh.sink.sparkplug.told import metric
from devicemesh.sink.sparkplug.wire import encode
from devicemesh.sink.told import telemetry
from devicemesh.spec.device import Property
from devicemesh.spec.statistics import STATISTICS
from devicemesh.spec.values import ValueType

NOW_MS = 1_800_000_000_123
QUANTILES = ("p99.9", "p50")


def prop(type_):
    report = "window" if type_.is_number or type_ == ValueType.BOOL else "every"
    telemetry = {
        "report": report,
        "statistics": [*STATISTICS, *QUANTILES] if report == "window" else ["mean"],
    }
    return Property.model_validate({"name": type_.value, "type": type_.value, "telemetry": telemetry})


PROPERTIES = {one.name: one for one in map(prop, ValueType)}
METRICS = metrics_of(Declaration(PROPERTIES, {}, {}))
TABLE = Table(METRICS, list(PROPERTIES.values()))
NAMES = (*PROPERTIES, "unknown")
KINDS = [0, 1, 2, 4]


def by_the_twin(body, first_alias, late):
    found = list(telemetry(json.loads(record.encode_json(body, NAMES))))
    return encode([metric(one, METRICS, first_alias, late) for one in found], NOW_MS)


numbers = st.floats() | st.sampled_from([0.0, -0.0, 0.1, 1e300, 2.0**53, 2.0**53 + 2, 16777217.0, math.nan])
whole = st.integers(-(2**63), 2**63 - 1) | st.sampled_from(
    [0, -1, 255, 256, 65535, 65536, 2**31, -(2**31) - 1]
)
values = st.one_of(
    numbers.map(lambda one: Value(Tag.FLOAT, one)).filter(lambda one: math.isfinite(one.plain)),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(lambda one: Value(Tag.FLOAT32, one)),
    whole.map(lambda one: Value(Tag.INTEGER, one)),
    st.booleans().map(lambda one: Value(Tag.BOOLEAN, one)),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=200).map(
        lambda one: Value(Tag.STRING, one.encode())
    ),
    st.binary(max_size=200).map(lambda one: Value(Tag.BYTES, one)),
    st.sampled_from([b"5", b"[1,2]", b'{"a":null}', b"18446744073709551615"]).map(
        lambda one: Value(Tag.JSON, one)
    ),
    st.just(Value(Tag.NULL)),
)
qualities = st.sampled_from([0, 0, 0, 1, 5, 0x40, 0x41, 0x42, 0x80, 0x82, 0xC5, 0xFF])
times = st.integers(-(2**62), 2**62)


@st.composite
def bodies(draw):
    parts = [record.header(draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, 2**63)))]
    for _ in range(draw(st.integers(0, 3))):
        if draw(st.booleans()):
            parts.append(record.row(draw(times)))
            for index in draw(st.lists(st.integers(0, len(NAMES) - 1), min_size=1, max_size=5, unique=True)):
                parts.append(record.reading(index, draw(qualities), draw(values)))
        else:
            index = draw(st.integers(0, len(NAMES) - 1))
            kind = draw(st.sampled_from(KINDS))
            statistics = draw(st.lists(numbers, min_size=17, max_size=17))
            quantiles = draw(st.sampled_from([[], [50_000], [50_000, 99_900], [1_000]]))
            found = [(which, draw(numbers)) for which in quantiles]
            mask = draw(st.integers(0, 2**17 - 1))
            span = (draw(times), draw(st.integers(0, 10**12)))
            counts = (draw(st.integers(0, 2**40)), draw(st.integers(0, 2**40)))
            parts.append(record.window((index, kind, mask), span, counts, statistics, found))
    return b"".join(parts)


@settings(derandomize=True, deadline=None, max_examples=1500)
@given(bodies(), st.sampled_from([None, 1 << 20, 5, 2**40]), st.booleans())
def test_what_is_written_is_what_the_twin_writes(body, first_alias, late):
    found = TABLE.encode(body, NAMES, first_alias, late, NOW_MS)
    if found is not None:
        assert found == by_the_twin(body, first_alias, late)


FITTING = {
    ValueType.BOOL: Value(Tag.BOOLEAN, True),
    ValueType.INT8: Value(Tag.INTEGER, -128),
    ValueType.INT16: Value(Tag.INTEGER, -32768),
    ValueType.INT32: Value(Tag.INTEGER, -(2**31)),
    ValueType.INT64: Value(Tag.INTEGER, -(2**63)),
    ValueType.UINT8: Value(Tag.INTEGER, 255),
    ValueType.UINT16: Value(Tag.INTEGER, 65535),
    ValueType.UINT32: Value(Tag.INTEGER, 2**32 - 1),
    ValueType.UINT64: Value(Tag.INTEGER, 2**63 - 1),
    ValueType.FLOAT16: Value(Tag.FLOAT32, 1.5),
    ValueType.FLOAT32: Value(Tag.FLOAT32, 0.10000000149011612),
    ValueType.FLOAT64: Value(Tag.FLOAT, 0.1),
    ValueType.STRING: Value(Tag.STRING, ("°C" * 70).encode()),
    ValueType.BYTES: Value(Tag.BYTES, bytes(300)),
}


@pytest.mark.parametrize("type_", FITTING)
@pytest.mark.parametrize("first_alias", [None, 1 << 20])
def test_what_is_usual_takes_no_twin(type_, first_alias):
    index = NAMES.index(type_.value)
    body = record.header(1, 2) + record.row(1_700_000_000_000_000_000)
    for quality, value in ((0, FITTING[type_]), (1, FITTING[type_]), (0x82, Value(Tag.NULL))):
        body += record.reading(index, quality, value)
    found = TABLE.encode(body, NAMES, first_alias, False, NOW_MS)
    assert found is not None
    kind = TABLE._row(type_.value)[0]
    if kind != 3:
        body += record.window(
            (index, kind, 2**17 - 1), (0, 10**9), (3, 1), [5.0] * 17, [(50_000, 5.0), (99_900, 5.0)]
        )
        found = TABLE.encode(body, NAMES, first_alias, True, NOW_MS)
        assert found is not None
    assert found == TABLE.encode(body, list(NAMES), first_alias, kind != 3, NOW_MS)


@settings(derandomize=True, deadline=None, max_examples=500)
@given(bodies() | st.binary(max_size=60), st.data())
def test_bytes_that_are_no_record_are_left_to_the_twin(body, data):
    damaged = bytearray(body)
    if damaged:
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    found = TABLE.encode(cut, NAMES, 1 << 20, False, NOW_MS)
    if found is not None:
        assert found == by_the_twin(cut, 1 << 20, False)


def test_wrong_arguments_are_refused():
    body = record.header(1, 2)
    with pytest.raises(ValueError, match="metrics"):
        _native.encode_sparkplug(body, bytes(259), None, 0, False, 0)
    for names in (["x"], ("x",), (b"x", None)):
        with pytest.raises((TypeError, SystemError)):
            _native.encode_sparkplug(body, b"", names, 0, False, 0)
    assert _native.encode_sparkplug(body, b"", None, 0, False, 0) == b"\x08\x00"
    assert _native.encode_sparkplug(body, b"", (b"x",), 2**64 - 1, True, -1)[:1] == b"\x08"
    with pytest.raises((TypeError, OverflowError)):
        _native.encode_sparkplug(body, b"", None, 0, False, 2**63)


def test_a_name_that_is_not_there_writes_nothing_of_ours():
    table = Table(METRICS, list(PROPERTIES.values()))
    body = record.header(1, 2) + record.row(0) + record.reading(0, 0, Value(Tag.BOOLEAN, True))
    assert table.encode(body, ("nobody",), 1 << 20, False, NOW_MS) is None
    assert table.encode(body, (), 1 << 20, False, NOW_MS) is None
