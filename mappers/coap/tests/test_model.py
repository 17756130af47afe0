"""Endpoints and addresses: what a person may write, and what is said about the rest."""

from __future__ import annotations

from typing import Any

import pytest
from devicemesh_coap.model import CoapAddress, CoapEndpoint
from devicemesh_coap.uri import format_endpoint, parse_address, parse_endpoint
from pydantic import ValidationError

from devicemesh.mapper import ConfigError
from devicemesh.spec.values import ValueType

OSCORE = {"senderId": "01", "recipientId": "02", "secret": {"name": "k"}}


@pytest.mark.parametrize(
    "uri, link, text",
    [
        ("coap://10.0.0.5", "coap://10.0.0.5:5683", "coap://10.0.0.5:5683"),
        ("coap+tcp://10.0.0.5:99/a/b", "coap+tcp://10.0.0.5:99", "coap+tcp://10.0.0.5:99/a/b"),
        ("coaps://[fd00::5]", "coaps://[fd00::5]:5684", "coaps://[fd00::5]:5684"),
        ("coap://node.local/x%20y", "coap://node.local:5683", "coap://node.local:5683/x y"),
    ],
)
def test_links_of_uris(uri: str, link: str, text: str) -> None:
    endpoint = parse_endpoint(uri)
    assert (endpoint.link(), endpoint.text()) == (link, text)
    assert parse_endpoint(format_endpoint(endpoint)) == endpoint
    assert endpoint.redirect("127.0.0.1:7").prefix == endpoint.prefix


@pytest.mark.parametrize(
    "fields, why",
    [
        ({}, "give either `uri`"),
        ({"uri": "coap://a", "listen": "0.0.0.0:1", "name": "x"}, "give either `uri`"),
        ({"listen": "0.0.0.0:5683"}, "`listen` and `name` go together"),
        ({"listen": "all", "name": "x"}, "write it like 0.0.0.0:PORT"),
        ({"listen": "example.org:5683", "name": "x"}, "write it like 0.0.0.0:PORT"),
        ({"listen": "0.0.0.0:5683", "name": "a/b"}, "no endpoint name"),
        ({"listen": "0.0.0.0:5683", "name": "x", "oscore": OSCORE}, "not protected by it"),
        ({"listen": "0.0.0.0:5683", "name": "x", "sender": "10.0.0.300"}, "10.0.0.300"),
        ({"uri": "http://a"}, "not the URI of a device"),
        ({"uri": "coap://a?x=1"}, "not the URI of a device"),
        ({"uri": "coap://me:pw@a"}, "credentials do not belong"),
        ({"uri": "coap://a", "lifetime": "1m"}, "belong to `listen`"),
        ({"uri": "coap://a", "dtls": {"identity": "x", "key": {"name": "k"}}}, "goes with a coaps:// URI"),
        ({"uri": "coap://a", "oscore": {**OSCORE, "recipientId": "01"}}, "must differ"),
        ({"uri": "coap://a", "oscore": {**OSCORE, "senderId": "0"}}, "pattern"),
        ({"uri": "coap://a", "blockSize": 100}, "blockSize"),
    ],
)
def test_endpoints_that_are_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError) as caught:
        CoapEndpoint.model_validate(fields)
    assert why in str(caught.value)


def test_conflicts_of_a_link() -> None:
    one = CoapEndpoint(uri="coap://a/x", mode="poll", cache=False)
    assert one.conflict(CoapEndpoint(uri="coap://a/y")) is None
    assert one.conflict(CoapEndpoint(uri="coap://a", timeout="1s")) == "timeout 10s and 1s"
    secured = CoapEndpoint.model_validate({"uri": "coap://a", "oscore": OSCORE})
    assert secured.conflict(one) == "oscore differs"
    pushing = [CoapEndpoint(listen="0.0.0.0:5683", name=n, lifetime=t) for n, t in (("a", "1m"), ("b", "2m"))]
    assert pushing[0].conflict(pushing[1]) is None
    assert (pushing[0].link(), pushing[0].text()) == ("listen 0.0.0.0:5683", "listen 0.0.0.0:5683 a")
    assert pushing[0].redirect("127.0.0.1:7").name == "a"
    assert secured.redirect("127.0.0.1:7").oscore is None


@pytest.mark.parametrize(
    "text, fields",
    [
        ("/a/b?x=1", {"path": "/a/b?x=1"}),
        ("/a#/b/c", {"path": "/a", "pointer": "/b/c"}),
        ("/a!urn:x;t", {"path": "/a", "record": "urn:x;t"}),
        ("/3303/0!/3303/0/5700", {"path": "/3303/0", "record": "/3303/0/5700"}),
        ("/a@4", {"path": "/a", "offset": 4}),
    ],
)
def test_short_forms_of_addresses(text: str, fields: dict[str, Any]) -> None:
    address = parse_address(text)
    assert address.model_dump(exclude_unset=True) == fields
    assert address.text == text


@pytest.mark.parametrize("text", ["", "a", "/a@x", "/a#b", "/" + "x" * 300, "/a@-1"])
def test_short_forms_that_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_address(text)


@pytest.mark.parametrize(
    "fields, why",
    [
        ({"pointer": "/a", "record": "b"}, "give one of `pointer`, `record`"),
        ({"pointer": "/a", "format": "text"}, "a `pointer` goes with the format json or cbor"),
        ({"record": "a", "format": "json"}, "goes with the format senml+json or senml+cbor"),
        ({"format": "senml+json"}, "say which `record` of it"),
        ({"format": "binary"}, "binary needs an `offset`"),
        ({"read": "FETCH"}, "it needs `record`"),
        ({"write": "iPATCH"}, "it needs `pointer` or `record`"),
        ({"write": "iPATCH", "pointer": "/a", "format": "cbor"}, "no format for parts of cbor"),
        ({"bit": 1}, "`bit` goes with `offset`"),
        ({"scale": 0}, "must not be 0"),
    ],
)
def test_addresses_that_are_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError) as caught:
        CoapAddress.model_validate({"path": "/a", **fields})
    assert why in str(caught.value)


@pytest.mark.parametrize(
    "fields, type_, access, why",
    [
        ({}, "float64", "ReadWrite", None),
        ({"scale": 0.1}, "uint8", "ReadOnly", "scale and add make a float of it"),
        ({"format": "text"}, "bytes", "ReadOnly", "text has no bytes"),
        ({"type": "float32"}, "float64", "ReadWrite", None),
        ({"type": "float32"}, "uint8", "ReadOnly", "a float32 does not fit a uint8"),
        ({"type": "string"}, "float64", "ReadOnly", "a string is not a float64"),
        ({"offset": 0}, "json", "ReadOnly", "json has no place in a binary body"),
        ({"offset": 0, "type": "json"}, "bytes", "ReadWrite", "json has no place in a binary body"),
        ({"offset": 0, "type": "string"}, "bytes", "ReadOnly", "a string is not a bytes"),
        ({"offset": 0, "type": "bytes"}, "bytes", "ReadWrite", None),
        ({"offset": 0, "type": "string"}, "uint8", "ReadOnly", "a string is not a uint8"),
        ({"offset": 0, "type": "uint16"}, "float64", "ReadWrite", None),
        ({"offset": 0, "type": "float32"}, "uint8", "ReadOnly", "does not fit"),
        ({"offset": 0, "type": "uint16", "bit": 3}, "uint8", "ReadWrite", "can only be read"),
        ({"offset": 0, "bit": 9}, "bool", "ReadOnly", "reach out of 8 bits"),
        ({"offset": 0, "enum": {0: "off"}}, "string", "ReadWrite", None),
        ({"offset": 0, "type": "uint8"}, "string", "ReadOnly", "a uint8 is not a string"),
        ({"offset": 0}, "string", "ReadOnly", None),
        ({"offset": 0, "type": "uint8"}, "bool", "ReadOnly", "leave `type` away"),
    ],
)
def test_what_can_not_live_where(fields: dict[str, Any], type_: str, access: str, why: str | None) -> None:
    found = CoapAddress.model_validate({"path": "/a", **fields}).refusal(ValueType(type_), access)
    assert found is None if why is None else why in (found or "")


def test_nearest_is_what_reads_back() -> None:
    def nearest(type_: str, value: Any, **fields: Any) -> Any:
        return CoapAddress.model_validate({"path": "/a", **fields}).nearest(ValueType(type_), value)

    assert nearest("float64", 0.1) == 0.1
    assert nearest("float64", 0.1, type="float32") == 0.10000000149011612
    assert nearest("float64", 2.54, scale=0.1, type="int32") == 2.5
    assert nearest("float64", 2.6, offset=0, type="uint16", scale=0.5) == 2.5
    assert nearest("string", "x") == "x"
    with pytest.raises(ValueError, match="inf is not an integer"):
        CoapAddress(path="/a", type=ValueType.INT32, scale=0.1).nearest(ValueType.FLOAT64, 1e308)
    with pytest.raises(ValueError, match="does not fit"):
        nearest("float64", 1e9, type="uint16", scale=0.5)
