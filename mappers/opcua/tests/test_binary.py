"""Values on the wire: as asyncua has them, and as a hostile server might."""

from __future__ import annotations

import math
import struct
import time
import tracemalloc
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import from_binary, struct_to_binary
from devicemesh_opcua import binary, channel, convert, rows, services
from devicemesh_opcua.binary import DecodeError, Structure, Typed
from devicemesh_opcua.nodeid import NodeName
from hypothesis import given, settings
from hypothesis import strategies as st

from devicemesh.mapper import Quality
from devicemesh.spec.values import ValueType
from devicemesh.testing.contract import rows as rows_of

assert channel.ua is ua  # it guards asyncua's decoder
TICKS = 132_000_000_000_000_000
KINDS: list[tuple[str, Any, Any]] = [
    ("Boolean", True, True),
    ("SByte", -1, -1),
    ("Byte", 255, 255),
    ("Int16", -2, -2),
    ("UInt16", 3, 3),
    ("Int32", -4, -4),
    ("UInt32", 5, 5),
    ("Int64", -6, -6),
    ("UInt64", 2**64 - 1, 2**64 - 1),
    ("Float", 0.5, 0.5),
    ("Double", 0.1, 0.1),
    ("String", "würfel", "würfel"),
    ("ByteString", b"\0\1", b"\0\1"),
    ("Guid", uuid.UUID(int=5), uuid.UUID(int=5)),
    ("NodeId", ua.NodeId("Pump", 2), NodeName(2, "Pump")),
    ("NodeId", ua.NodeId(85, 0), NodeName(0, 85)),
    ("NodeId", ua.NodeId(uuid.UUID(int=9), 3), NodeName(3, uuid.UUID(int=9))),
    ("NodeId", ua.NodeId(b"\1", 1), NodeName(1, b"\1")),
    ("StatusCode", ua.StatusCode(0x80340000), 0x80340000),
    ("QualifiedName", ua.QualifiedName("Speed", 2), "Speed"),
    ("LocalizedText", ua.LocalizedText("Drehzahl", "de"), "Drehzahl"),
    ("DateTime", datetime(2020, 1, 2, 3, 4, 5, 6, UTC), convert.date_ticks("2020-01-02T03:04:05.000006Z")),
]


@pytest.mark.parametrize("kind, given_, wanted", KINDS)
def test_a_value_is_what_asyncua_sent(kind: str, given_: Any, wanted: Any) -> None:
    type_ = getattr(ua.VariantType, kind)
    sent = struct_to_binary(ua.DataValue(ua.Variant(given_, type_), ua.StatusCode(0x40000000)))
    held, status, _, end = binary.data_value(sent, 0)
    assert (held, status, end) == (Typed(type_.value, wanted), 0x40000000, len(sent))
    sent = struct_to_binary(ua.DataValue(ua.Variant([given_, given_], type_)))
    held, _, _, end = binary.data_value(sent, 0)
    assert (held, end) == (Typed(type_.value, [wanted, wanted], True), len(sent))


def test_dimensions_and_structures() -> None:
    matrix = ua.Variant([[1, 2, 3], [4, 5, 6]], ua.VariantType.Int32, [2, 3])
    held, _, _, _ = binary.data_value(struct_to_binary(ua.DataValue(matrix)), 0)
    assert held.value == [[1, 2, 3], [4, 5, 6]]
    held, _, _, _ = binary.data_value(struct_to_binary(ua.DataValue(ua.Variant(ua.Range(1.0, 2.0)))), 0)
    assert isinstance(held.value, Structure) and held.value.type_id == "i=886" and len(held.value.body) == 16


HOSTILE = [
    "01800000012d60",  # an array of 755 million nothings: takes asyncua 3 GB
    "11800000012d60",
    "018bffffff7f",  # 2^31 - 1 doubles
    "018cfcffffff",  # -4 strings
    "010cffffff7f41",  # a text of 2 GB
    "010cfeffffff",  # a text of -2 bytes
    "01" + "18" * 200,  # variants in variants
    "01" + "1701" * 200,  # data values in data values
    "0119" + "40" * 200,  # diagnostics in diagnostics
    "01c60100000001000000ffffff7fffffff7fffffff7f",
    "01c6010000000100000003000000ffff0000ffff0000ffff0000",  # dimensions whose product overflows
    "0111ff",  # a NodeId of an unknown kind
    "0116",
    "01",
    "",
    "0f0b00",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_value_costs_nothing(text: str) -> None:
    data = bytes.fromhex(text)
    tracemalloc.start()
    started = time.perf_counter()
    try:
        with pytest.raises(DecodeError):
            binary.data_value(data, 0)
        assert time.perf_counter() - started < 0.5
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("text", ["11800000012d60", "01800000012d60"])
def test_asyncua_is_guarded_too(text: str) -> None:
    started = time.perf_counter()
    with pytest.raises(Exception):  # noqa: B017
        from_binary(ua.DataValue, Buffer(bytes.fromhex(text)))
    assert time.perf_counter() - started < 0.5
    with pytest.raises(Exception):  # noqa: B017
        from_binary(ua.Variant, Buffer(bytes.fromhex("8c00000010" + "fcffffff" * 8)))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_are_a_value_or_a_decode_error(data: bytes) -> None:
    for decode in (binary.data_value, binary.variant, binary.extension_object, binary.node_id):
        try:
            decode(data, 0)  # type: ignore[operator]
        except DecodeError:
            continue
    for take in (services.publish_response, lambda d: services.read_response(d, 1)):
        try:
            take(data)
        except (DecodeError, services.ServiceFaultError):
            continue


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=120), st.integers(0, 5))
def test_any_notification_is_rows_or_a_decode_error(data: bytes, count: int) -> None:
    decoder = rows.Decoder("plc", rows.Expected([(0, ValueType.FLOAT64, False), (1, ValueType.JSON, False)]))
    try:
        for batch in decoder.changes(count.to_bytes(4, "little") + data, 1):
            assert all(row.slot in (0, 1) for row in rows_of(batch))
    except DecodeError:
        pass


def notification(items: Sequence[tuple[int, Any]]) -> bytes:
    shown = [ua.MonitoredItemNotification(slot, value) for slot, value in items]
    return bytes(struct_to_binary(ua.DataChangeNotification(MonitoredItems=shown)))


def sent(value: Any, kind: str, status: int = 0, stamped: bool = True) -> Any:
    time_ = ua.win_epoch_to_datetime(TICKS) if stamped else None
    code = ua.StatusCode(status) if status else None
    return ua.DataValue(ua.Variant(value, getattr(ua.VariantType, kind)), code, time_)


MIXED = st.lists(
    st.one_of(
        st.tuples(
            st.just("Double"), st.floats(-1e9, 1e9), st.sampled_from([0, 0, 0, 0x40000000, 0x808C0000])
        ),
        st.tuples(st.just("Float"), st.integers(-1000, 1000).map(float), st.just(0)),
        st.tuples(st.just("Int64"), st.integers(-(2**62), 2**62), st.just(0)),
        st.tuples(st.just("UInt64"), st.integers(0, 2**64 - 1), st.just(0)),
        st.tuples(st.just("Boolean"), st.booleans(), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=50, deadline=None)
@given(MIXED, st.booleans(), st.integers(1, 6))
def test_runs_give_what_single_values_give(
    items: list[tuple[str, Any, int]], stamped: bool, times: int
) -> None:
    repeated = [one for one in items for _ in range(times)]
    kinds = {"Boolean": ValueType.BOOL, "Int64": ValueType.INT64, "UInt64": ValueType.UINT64}
    expected = rows.Expected(
        (i, kinds.get(k, ValueType.FLOAT64), False) for i, (k, _, _) in enumerate(repeated)
    )
    data = notification([(i, sent(v, k, s, stamped)) for i, (k, v, s) in enumerate(repeated)])
    decoder = rows.Decoder("plc", expected)
    seen = {row.slot: row for batch in decoder.changes(data, 77) for row in rows_of(batch)}
    assert sorted(seen) == list(range(len(repeated)))
    for slot, (_, value, status) in enumerate(repeated):
        row = seen[slot]
        if status >> 31:
            assert row.quality >= Quality.BAD and math.isnan(row.value) and row.error is not None
        else:
            assert (row.value, row.quality) == (value, Quality.UNCERTAIN if status else Quality.GOOD)
            assert row.time_ns == (convert.unix_ns(TICKS, 77) if stamped else 77)


@pytest.mark.parametrize("ticks", [0, -1, 2_650_467_743_990_000_000, 1 << 61, (1 << 63) - 1])
@pytest.mark.parametrize("count", [1, 8])  # by itself, and as a run
def test_a_time_that_can_not_be_told_is_that_of_arrival(ticks: int, count: int) -> None:
    expected = rows.Expected((slot, ValueType.FLOAT64, False) for slot in range(count))
    items = b"".join(struct.pack("<IBBdq", slot, 5, binary.DOUBLE, 0.5, ticks) for slot in range(count))
    batches = rows.Decoder("plc", expected).changes(struct.pack("<i", count) + items, 77)
    assert [(row.time_ns, row.value) for batch in batches for row in rows_of(batch)] == [(77, 0.5)] * count


def test_a_name_that_is_no_utf_8_goes_back_as_it_came() -> None:
    raw = bytes((3,)) + struct.pack("<Hi", 2, 4) + b"f\xfcr\xff"  # as of a server that writes Latin-1
    foreign = from_binary(ua.NodeId, Buffer(raw))
    assert binary.encode_node(foreign.NamespaceIndex, foreign.Identifier) == raw


def test_strangers_are_dropped_and_counted() -> None:
    decoder = rows.Decoder("plc", rows.Expected([(1, ValueType.FLOAT64, False)]))
    data = notification([(slot, sent(1.0, "Double")) for slot in (1, 9, 1, 9, 9, 9, 9, 1)])
    seen = [row.slot for batch in decoder.changes(data, 1) for row in rows_of(batch)]
    assert seen == [1, 1, 1] and decoder.strangers == 5


def test_lost_samples_are_counted() -> None:
    decoder = rows.Decoder("plc", rows.Expected([(1, ValueType.FLOAT64, False)]))
    (batch,) = decoder.changes(notification([(1, sent(1.0, "Double", 0x480))]), 1)
    assert decoder.overflows == 1 and list(batch.value) == [1.0]


@pytest.mark.parametrize(
    "kind", ["String", "Guid", "DateTime", "LocalizedText", "Int32", "Double", "Boolean"]
)
def test_what_is_written_is_what_asyncua_reads(kind: str) -> None:
    type_ = getattr(ua.VariantType, kind)
    value: Any = {
        "String": "ä", "Guid": str(uuid.UUID(int=3)), "DateTime": "2020-01-02T03:04:05Z",
        "LocalizedText": "x", "Int32": -7, "Double": 0.1, "Boolean": True,
    }[kind]  # fmt: skip
    raw = convert.raw(value, type_.value)
    held = from_binary(ua.Variant, Buffer(binary.encode_variant(type_.value, raw)))
    assert held.VariantType == type_
    assert (
        convert.plain(type_.value, binary.variant(binary.encode_variant(type_.value, raw), 0)[0].value)
        == value
    )
    many = from_binary(ua.Variant, Buffer(binary.encode_variant(type_.value, [raw, raw], True)))
    assert many.is_array and len(many.Value) == 2


def test_dates_beyond_the_calendar_stop_at_its_ends() -> None:
    assert convert.date_text(0).startswith("1601-01-01") and convert.date_text(2**63 - 1)[:4] == "9999"
    assert convert.date_text(-(2**63))[:4] == "0001"
    with pytest.raises(ValueError, match="no time zone"):
        convert.date_ticks("2020-01-02T03:04:05")


def test_a_faults_status_and_a_wrong_message_are_told_apart() -> None:
    fault = struct_to_binary(
        ua.ServiceFault(ResponseHeader=ua.ResponseHeader(ServiceResult=ua.StatusCode(0x80790000)))
    )
    with pytest.raises(services.ServiceFaultError) as caught:
        services.publish_response(fault)
    assert caught.value.status == 0x80790000
    with pytest.raises(DecodeError, match="i=634"):
        services.publish_response(struct_to_binary(ua.ReadResponse()))


def test_a_run_ends_where_another_type_of_the_same_size_begins() -> None:
    items = [(slot, "Double" if slot < 6 else "Int64") for slot in range(12)]
    decoder = rows.Decoder("plc", rows.Expected((slot, ValueType.FLOAT64, False) for slot, _ in items))
    data = notification([(slot, sent(slot, kind)) for slot, kind in items])
    seen = {row.slot: row.value for batch in decoder.changes(data, 1) for row in rows_of(batch)}
    assert seen == {slot: slot for slot in range(12)}
