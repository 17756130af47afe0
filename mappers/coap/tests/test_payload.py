"""Bodies: text, JSON, CBOR, SenML; the examples of the specifications; and garbage."""

from __future__ import annotations

import base64
import json
import time
import tracemalloc
from array import array
from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from devicemesh_coap import payload, senml
from devicemesh_coap.model import CoapEndpoint
from devicemesh_coap.payload import CBOR, JSON, OCTETS, SENML_CBOR, SENML_JSON, TEXT, PayloadError
from devicemesh_coap.plan import resources
from hypothesis import given, settings
from hypothesis import strategies as st

from devicemesh.mapper import Quality

NOW = 1_700_000_000_000_000_000
ENDPOINT = CoapEndpoint(uri="coap://127.0.0.1")
RFC6901 = {"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, 'k"l': 6, " ": 7,
           "m~n": 8}  # fmt: skip


def read(point: Callable[..., Any], body: bytes, form: int | None, type_: str, **address: Any) -> Any:
    """One value out of a body, or why there is none."""
    place = {"path": "/a", **address}
    (resource,) = resources([point(0, ENDPOINT, type_, place)])
    (batch,) = resource.decoder.batches(body, form, NOW, False)
    return str(batch.error) if batch.error is not None else batch.value[0]


@pytest.mark.parametrize(
    "pointer, value",
    [("", RFC6901), ("/foo", ["bar", "baz"]), ("/foo/0", "bar"), ("/", 0), ("/a~1b", 1), ("/c%d", 2),
     ("/e^f", 3), ("/g|h", 4), ("/i\\j", 5), ('/k"l', 6), ("/ ", 7), ("/m~0n", 8)],
)  # fmt: skip
def test_pointers_as_in_rfc_6901_5(pointer: str, value: Any) -> None:
    assert payload.at(RFC6901, pointer) == value


@pytest.mark.parametrize("pointer", ["/foo/2", "/foo/-1", "/foo/x", "/bar", "/foo/0/x", "/foo/٣"])
def test_pointers_that_lead_nowhere_say_how_far_they_came(pointer: str) -> None:
    with pytest.raises(PayloadError, match="the document has no /"):
        payload.at(RFC6901, pointer)


def test_a_value_is_put_where_the_pointer_points() -> None:
    document = {"a": {"b": [1, 2]}, 5: 1}
    assert payload.put(document, "/a/b/1", 9) == {"a": {"b": [1, 9]}, 5: 1}
    assert payload.put(document, "/5", 9)[5] == 9, "a number as a key, as CBOR has them"
    assert payload.put(None, "/x/y", 1) == {"x": {"y": 1}}
    assert document == {"a": {"b": [1, 2]}, 5: 1}, "the old one stays as it is"
    with pytest.raises(PayloadError, match="no element 2"):
        payload.put(document, "/a/b/2", 9)


@pytest.mark.parametrize(
    "body, form, type_, value",
    [
        (b"21.5", TEXT, "float32", 21.5),
        (b" 7\n", TEXT, "uint8", 7),
        (b"-7", None, "int64", -7),
        (b"true", TEXT, "bool", True),
        (b"OFF", TEXT, "bool", False),
        (b"7", JSON, "uint8", 7),
        (b"7.0", JSON, "uint8", 7),
        (b"true", JSON, "bool", True),
        (b'"a"', JSON, "string", "a"),
        (b'"AP8"', JSON, "bytes", b"\x00\xff"),
        (b"\x00\xff", OCTETS, "bytes", b"\x00\xff"),
        (b"AP8=", TEXT, "bytes", b"\x00\xff"),
        (cbor2.dumps(b"\x00"), CBOR, "bytes", b"\x00"),
        (cbor2.dumps(2**64 - 1), CBOR, "uint64", 2**64 - 1),
        (b'{"a":[1]}', JSON, "json", {"a": [1]}),
        (cbor2.dumps({1: b"\xff"}), CBOR, "json", {"1": "_w"}),
        (b"21.5", TEXT, "json", 21.5),
        (b"hot", TEXT, "json", "hot"),
        (b'[{"n":"a","v":7}]', SENML_JSON, "int8", 7),
    ],
)
def test_values_by_format_and_type(
    point: Callable[..., Any], body: bytes, form: int | None, type_: str, value: Any
) -> None:
    found = read(point, body, form, type_)
    assert (found == value and type(found) is not str) or isinstance(value, str)


@pytest.mark.parametrize(
    "body, form, type_, why",
    [
        (b"300", TEXT, "uint8", "the device sends 300, which is no uint8: 0 to 255"),
        (b"7.5", JSON, "uint8", "which is no uint8"),
        (b"true", JSON, "float64", "the device sends True, the property is a float64"),
        (b"2", JSON, "bool", "the device sends 2, the property is a bool"),
        (b"maybe", TEXT, "bool", "the property is a bool"),
        (b"7", JSON, "string", "the property is a string"),
        (b"null", JSON, "float64", "the device sends null"),
        (b"[1]", JSON, "float64", "an array of 1: point at an element with `pointer`"),
        (b'{"a":1}', JSON, "float64", "a map of 1: point at a value with `pointer`"),
        (b"\x01", OCTETS, "uint8", "it is octet-stream: give the value's `offset`"),
        (cbor2.dumps(float("nan")), CBOR, "float64", "nan: no number"),
        (cbor2.dumps(2**70000), CBOR, "float64", "inf: no number"),
        (cbor2.dumps(2**70000), CBOR, "uint8", "a number of 70001 bits"),
        (b'[{"n":"a","v":1},{"n":"b","v":1}]', SENML_JSON, "float64", "say which `record`, of a, b"),
        (b"!", TEXT, "bytes", "is no base64"),
    ],
)
def test_what_does_not_fit_says_why(
    point: Callable[..., Any], body: bytes, form: int, type_: str, why: str
) -> None:
    assert why in read(point, body, form, type_)


def test_scale_and_layouts(point: Callable[..., Any]) -> None:
    assert read(point, b"215", TEXT, "float64", scale=0.1, add=1) == 22.5
    body = bytes.fromhex("ff 0102 03020100 c8 6162")
    assert read(point, body, OCTETS, "uint16", offset=1) == 0x0102
    assert read(point, body, OCTETS, "uint32", offset=3, byteOrder="little") == 0x010203
    assert read(point, body, OCTETS, "bool", offset=7, bit=3) == 1
    assert read(point, body, OCTETS, "string", offset=8) == "ab"
    assert read(point, body, OCTETS, "string", offset=0, type="uint8", enum={255: "on"}) == "on"
    assert (
        read(point, cbor2.dumps(2**5000), CBOR, "float64", scale=0.5)
        == "coap://127.0.0.1:5683/a: the device sends inf: no number"
    )


def test_senml_as_in_rfc_8428_5_1_2() -> None:
    pack = [
        {"bn": "urn:dev:ow:10e2073a0108006:", "bt": 1.276020076001e9, "bu": "A", "bver": 5, "n": "voltage",
         "u": "V", "v": 120.1},
        {"n": "current", "t": -5, "v": 1.2}, {"n": "current", "t": -4, "v": 1.3}, {"n": "current", "v": 1.7},
    ]  # fmt: skip
    found = senml.records(json.dumps(pack).encode(), SENML_JSON, NOW)
    assert [(r.name.rpartition(":")[2], r.value, r.unit) for r in found] == [
        ("voltage", 120.1, "V"), ("current", 1.2, "A"), ("current", 1.3, "A"), ("current", 1.7, "A"),
    ]  # fmt: skip
    assert [round(r.time_ns / 1e6) for r in found] == [
        1276020076001,
        1276020071001,
        1276020072001,
        1276020076001,
    ]


def test_senml_in_cbor_as_in_rfc_8428_6() -> None:
    body = bytes.fromhex(
        "87a721781b75726e3a6465763a6f773a3130653230373361303130383030363a22fb41d303a15b00106223614120"
        "050067766f6c74616765016156 02fb405e066666666666"
        "a3006763757272656e7406240 2fb3ff3333333333333".replace(" ", "")
        + "a3006763757272656e74062302fb3ff4cccccccccccd"
        + "a3006763757272656e74062202fb3ff6666666666666"
        + "a3006763757272656e74062102f93e00"
        + "a3006763757272656e74062002fb3ff999999999999a"
        + "a3006763757272656e74060002fb3ffb333333333333"
    )
    found = senml.records(body, SENML_CBOR, NOW)
    assert [r.value for r in found] == [120.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7]
    assert {r.name for r in found} == {
        "urn:dev:ow:10e2073a0108006:voltage", "urn:dev:ow:10e2073a0108006:current",
    }  # fmt: skip


@pytest.mark.parametrize("form", [SENML_JSON, SENML_CBOR])
def test_senml_is_written_as_it_is_read(form: int) -> None:
    values = [("a", 1.5), ("b", True), ("c", "x"), ("d", b"\x00\xff"), ("e", 7)]
    found = senml.records(senml.encode(form, values), form, NOW)
    assert [(r.name, r.value) for r in found] == values
    asked = senml.encode(form, [("a", None)])
    held = json.loads(asked) if form == SENML_JSON else cbor2.loads(asked)
    assert held == ([{"n": "a"}] if form == SENML_JSON else [{0: "a"}])


def test_times_of_senml_reach_the_rows(point: Callable[..., Any]) -> None:
    """All samples of a name when they are pushed, the latest alone when they are polled."""
    pack = b'[{"bn":"x","bt":1700000000,"v":1},{"t":2,"v":3},{"t":1,"v":2}]'
    (resource,) = resources([point(0, ENDPOINT, "float64", {"path": "/a", "record": "x"})])
    (batch,) = resource.decoder.batches(pack, SENML_JSON, NOW, True)
    assert list(batch.value) == [1, 3, 2]
    assert isinstance(batch.time_ns, array)
    assert [t // 10**9 for t in batch.time_ns] == [1700000000, 1700000002, 1700000001]
    (batch,) = resource.decoder.batches(pack, SENML_JSON, NOW, False)
    assert list(batch.value) == [3]


def test_one_request_serves_all_points_of_a_resource(point: Callable[..., Any]) -> None:
    places = [{"path": "/a", "pointer": "/t"}, {"path": "/a", "pointer": "/u"}, {"path": "/b"},
              {"path": "/a", "pointer": "/t", "format": "cbor"}, {"path": "/a?x=1", "pointer": "/t"}]  # fmt: skip
    found = resources([point(i, ENDPOINT, "float64", place) for i, place in enumerate(places)])
    assert [r.slots for r in found] == [[0, 1], [2], [3], [4]]


SHARED, REFERENCE = b"\xd8\x1c", b"\xd8\x1d\x00"


@pytest.mark.parametrize("part", [[1] * 20_000, "x" * 20_000, b"x" * 20_000, 1 << 160_000], ids=type)
def test_a_document_that_refers_to_its_parts_again_and_again_is_refused(part: Any) -> None:
    """A body of 50 kB that would be 200 million values, or characters."""
    body = b"\x82" + SHARED + cbor2.dumps(part) + b"\x99\x27\x10" + REFERENCE * 10_000
    tracemalloc.start()
    try:
        with pytest.raises(PayloadError, match="too large"):
            payload.from_cbor(body)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_references_that_save_some_bytes_are_followed() -> None:
    document = [{"name": "a", "value": 1.5}] * 3
    assert payload.from_cbor(cbor2.dumps(document, value_sharing=True)) == document
    assert payload.from_cbor(cbor2.dumps(document, string_referencing=True)) == document


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2) | st.integers(-8, 8), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
BODIES = st.binary(max_size=60) | documents.map(cbor2.dumps) | documents.map(
    lambda d: json.dumps(payload.plain(d)).encode()
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(body=BODIES, form=st.sampled_from([None, TEXT, JSON, CBOR, OCTETS, SENML_JSON, SENML_CBOR, 40, 11542]))
def test_whatever_comes_every_point_says_something(body: bytes, form: int | None) -> None:
    """No exception leaves the decoder, and each point of a poll has exactly one row."""
    from devicemesh_coap.model import CoapAddress

    from devicemesh.mapper import Point
    from devicemesh.spec.values import ValueType

    places: list[dict[str, Any]] = [{}, {"pointer": ""}, {"pointer": "/a"}, {"record": "a"}, {"offset": 1}]
    points = [
        Point(i * 10 + j, "d", "p", ValueType(type_), ENDPOINT, CoapAddress(path="/a", **place))
        for i, place in enumerate(places)
        for j, type_ in enumerate(["float64", "uint8", "int64", "bool", "string", "bytes", "json"])
        if not ("offset" in place and type_ == "json")
    ]
    for resource in resources(points):
        rows: list[int] = []
        for batch in resource.decoder.batches(body, form, time.time_ns(), False):
            rows += batch.slot
            quality = batch.quality if isinstance(batch.quality, int) else max(batch.quality)
            assert (batch.error is None) == (quality < Quality.BAD)
            json.dumps([base64.b64encode(v).decode() if isinstance(v, bytes) else v for v in batch.value])
        assert sorted(rows) == sorted(resource.slots)
