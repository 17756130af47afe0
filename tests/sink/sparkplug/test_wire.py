"""The payload against Google's protobuf, both ways, and against bytes that are none."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from devicemesh.sink.sparkplug.wire import Metric, Type, decode, encode, sequenced
from devicemesh.testing.sparkplug import Payload, parsed, value_of

U64 = st.integers(0, 2**64 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
OF = {
    Type.INT32: st.integers(-(2**31), 2**31 - 1),
    Type.INT64: st.integers(-(2**63), 2**63 - 1),
    Type.UINT8: st.integers(0, 255),
    Type.UINT16: st.integers(0, 65535),
    Type.UINT64: U64,
    Type.FLOAT: st.floats(width=32),
    Type.DOUBLE: st.floats(),
    Type.BOOLEAN: st.booleans(),
    Type.STRING: TEXT,
    Type.BYTES: st.binary(),
}
"""All that is emitted."""


@st.composite
def metrics(draw: Any) -> Metric:
    type_ = draw(st.sampled_from(list(OF)))
    name = draw(st.none() | TEXT)
    alias = draw(U64 if name is None else st.none() | U64)
    properties = draw(
        st.dictionaries(
            st.sampled_from(["Quality", "engUnit"]), st.just((Type.INT32, 500)) | st.just((Type.STRING, "°C"))
        )
    )
    value = draw(st.none() | OF[type_])
    time_ms = draw(st.integers(-(2**40), 2**42))
    return Metric(name, alias, type_, value, time_ms, draw(st.booleans()), properties)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    return bool(one == other) and type(one) is type(other)


@given(st.lists(metrics(), max_size=5), st.integers(0, 2**42), st.none() | st.integers(0, 255))
def test_google_reads_what_we_write_and_we_read_it_too(
    all_: list[Metric], time_ms: int, seq: int | None
) -> None:
    data = encode(all_, time_ms, seq)
    found = parsed(data)
    assert (found.timestamp, found.HasField("seq"), found.seq) == (time_ms, seq is not None, seq or 0)
    for metric, one, back in zip(all_, found.metrics, decode(data), strict=True):
        assert one.name == (metric.name or "") and one.alias == (metric.alias or 0)
        assert (one.datatype, one.is_historical) == (metric.type, metric.historical)
        assert one.timestamp == metric.time_ms % 2**64
        assert same(value_of(one), metric.value)
        assert list(one.properties.keys) == list(metric.properties)
        assert same(back.value, metric.value)
        assert (back.name, back.alias, back.type) == (metric.name, metric.alias, metric.type)


@given(U64)
def test_a_sequence_number_is_added_behind(seq: int) -> None:
    assert parsed(sequenced(encode([], 5), seq)).seq == seq


@pytest.mark.parametrize(
    ("type_", "fields", "value"),
    [
        (1, {"int_value": 251}, -5),  # Int8, masked
        (1, {"int_value": 0xFFFFFFFB}, -5),  # and with its sign extended
        (2, {"int_value": 65531}, -5),
        (2, {"int_value": 0xFFFFFFFB}, -5),
        (3, {"int_value": 0xFFFFFFFB}, -5),
        (4, {"long_value": 2**64 - 5}, -5),
        (7, {"int_value": 4_000_000_000}, 4_000_000_000),  # UInt32 by the text of the specification
        (7, {"long_value": 4_000_000_000}, 4_000_000_000),  # and by its test kit
        (13, {"long_value": 1_700_000_000_000}, 1_700_000_000_000),
        (0, {"int_value": 0xFFFFFFFB}, -5),  # DCMD without a datatype
        (0, {"long_value": 2**64 - 5}, -5),
        (0, {"double_value": 1.5}, 1.5),
        (11, {"boolean_value": True}, True),
        (14, {"string_value": "text"}, "text"),
        (22, {"bytes_value": b"12"}, None),  # an array
        (10, {"is_null": True}, None),
        (10, {}, None),
    ],
)
def test_what_hosts_write(type_: int, fields: dict[str, Any], value: Any) -> None:
    payload = Payload(timestamp=1)
    payload.metrics.add(name="x", **({"datatype": type_} if type_ else {}), **fields)
    (found,) = decode(payload.SerializeToString())
    assert same(found.value, value)


@given(st.binary())
@example(b"\x12\x02\x0a\xff")
@example(b"\x12\x03\x0a\x01\xff")
@example(b"\x12\x05\x65\x00\x00\x00")
@example(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
def test_bytes_that_are_no_payload_are_an_error_in_words(data: bytes) -> None:
    try:
        decode(data)
    except ValueError as error:
        assert str(error)


@given(st.lists(metrics(), min_size=1, max_size=3), st.data())
def test_a_payload_that_was_damaged(all_: list[Metric], data: Any) -> None:
    good = bytearray(encode(all_, 1))
    good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        decode(bytes(good))
