"""What a person writes: endpoints, addresses, their short forms, and what is wrong with them."""

from __future__ import annotations

import subprocess
import sys
import uuid
from typing import Any

import pytest
from devicemesh_opcua.mapper import OpcUaMapper
from devicemesh_opcua.model import OpcUaAddress, OpcUaEndpoint
from devicemesh_opcua.nodeid import BrowseName, NodeName, is_index_range, parse_node, parse_path
from devicemesh_opcua.uri import format_endpoint
from hypothesis import given
from hypothesis import strategies as st

from devicemesh.mapper import ConfigError
from devicemesh.spec.values import ValueType

MAPPER = OpcUaMapper()


@pytest.mark.parametrize(
    "text, name",
    [
        ("i=85", NodeName(0, 85)),
        ("ns=2;s=Pump.Speed", NodeName(2, "Pump.Speed")),
        ("nsu=urn:plant;s=a;b=c", NodeName("urn:plant", "a;b=c")),
        ("nsu=http://x/%3By;i=7", NodeName("http://x/;y", 7)),
        ('ns=3;s="Data"."list"[3]', NodeName(3, '"Data"."list"[3]')),
        (
            "ns=1;g=09087e75-8e5e-499b-954f-f2a9603db28a",
            NodeName(1, uuid.UUID("09087e75-8e5e-499b-954f-f2a9603db28a")),
        ),
        ("ns=1;b=AAE=", NodeName(1, b"\0\1")),
    ],
)
def test_node_ids(text: str, name: NodeName) -> None:
    assert parse_node(text) == name
    assert parse_node(name.text) == name


@given(st.text(min_size=1), st.text(min_size=1))
def test_any_name_in_any_namespace_reads_back(space: str, name: str) -> None:
    node = NodeName(space, name)
    assert parse_node(node.text) == node


def test_browse_paths() -> None:
    assert parse_path("/2:Pump/Speed", "urn:a") == (BrowseName(2, "Pump"), BrowseName("urn:a", "Speed"))
    assert parse_path("A&/B/C&:D") == (BrowseName(0, "A/B"), BrowseName(0, "C:D"))
    for wrong in ("a//b", "a&", "70000:x"):
        with pytest.raises(ValueError):
            parse_path(wrong)


def test_index_ranges() -> None:
    assert all(is_index_range(text) for text in ("0", "0:9", "1,2:3"))
    assert not any(is_index_range(text) for text in ("", "3:3", "9:1", "a", "1:", "-1"))


@pytest.mark.parametrize(
    "fields, why",
    [
        ({"url": "http://x"}, "not the URL of a server"),
        ({"url": "opc.tcp://"}, "not the URL of a server"),
        ({"url": "opc.tcp://a:b@x"}, "credentials do not belong into a URL"),
        ({"url": "opc.tcp://x:99999"}, "a port is a number up to 65535"),
        ({"security_mode": "Sign"}, "securityPolicy None does not go with securityMode Sign"),
        ({"security_policy": "Basic256Sha256", "security_mode": "None"}, "does not go with"),
        ({"certificate": "a.der"}, "go together"),
        ({"identity": {}}, "either a `userName` or a `certificate`"),
        (
            {"identity": {"certificate": "a", "privateKey": "b", "password": {"name": "x"}}},
            "belongs to a `userName`",
        ),
        ({"namespaces": {0: "urn:a"}}, "can't be given a meaning"),
        ({"root": "Pump"}, "not a NodeId"),
    ],
)
def test_wrong_endpoints_say_why(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        OpcUaEndpoint.model_validate({"url": "opc.tcp://plc", **fields})


@pytest.mark.parametrize(
    "fields, why",
    [
        ({}, "either `node` or `browsePath`"),
        ({"node": "i=1", "browsePath": "a"}, "either `node` or `browsePath`"),
        ({"node": "ns=2;s=a", "namespace": "urn:a"}, "leave `namespace` out"),
        ({"node": "i=99999999999"}, "a number up to"),
        ({"node": "i=1", "indexRange": "9:1"}, "not an index range"),
        ({"node": "i=1", "attribute": "DisplayName", "indexRange": "1"}, "has no `indexRange`"),
    ],
)
def test_wrong_addresses_say_why(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        OpcUaAddress.model_validate(fields)


def test_links_and_conflicts() -> None:
    one = OpcUaEndpoint(url="opc.tcp://PLC/a/", timeout="5s")
    other = OpcUaEndpoint(url="opc.tcp://plc:4840/a", root="nsu=urn:a;s=Pump", mode="poll", timeout="1s")
    assert one.link() == other.link() == "plc:4840/a"
    assert other.text() == "plc:4840/a nsu=urn:a;s=Pump"
    assert one.conflict(other) == "timeout 5s and 1s"
    assert one.conflict(other.model_copy(update={"timeout": "5s"})) is None
    secure = OpcUaEndpoint(url="opc.tcp://plc/a", security_policy="Basic256Sha256")
    assert one.conflict(secure) == "securityPolicy None and Basic256Sha256"
    assert secure.redirect("127.0.0.1:7").full_url == "opc.tcp://127.0.0.1:7/a"
    assert secure.redirect("127.0.0.1:7").security == "None"


def test_uris() -> None:
    endpoint = MAPPER.parse_endpoint("opcua://[::1]:4841/x?timeout=2s&userName=anna&secret=plc&mode=poll")
    assert (endpoint.link(), endpoint.timeout, endpoint.mode) == ("[::1]:4841/x", "2s", "poll")
    assert endpoint.identity is not None and endpoint.identity.password is not None
    assert MAPPER.parse_endpoint("opc.tcp://plc") == OpcUaEndpoint(url="opc.tcp://plc")
    plain = OpcUaEndpoint(url="opc.tcp://plc:4840", timeout="3s", root="nsu=urn:a;s=b c")
    assert MAPPER.parse_endpoint(format_endpoint(plain)) == plain
    for wrong in ("opcua://plc?baudrate=1", "opcua://plc?timeout=x", "modbus://plc", "opcua:/x"):
        with pytest.raises(ConfigError):
            MAPPER.parse_endpoint(wrong)


def test_what_does_not_fit_an_address_is_refused() -> None:
    address = OpcUaAddress(node="i=1", type=ValueType.FLOAT32)
    assert address.refusal(ValueType.FLOAT64, "ReadWrite") is None
    assert address.refusal(ValueType.INT32, "ReadOnly") == "a float32 does not fit an int32"
    assert address.refusal(ValueType.STRING, "ReadOnly") == "a float32 is not a string"
    name = OpcUaAddress(node="i=1", attribute="DisplayName")
    assert name.refusal(ValueType.STRING, "ReadWrite") == "the attribute DisplayName can only be read"
    assert OpcUaAddress(node="i=1", deadband_percent=1).refusal(ValueType.STRING, "ReadOnly") is not None


def test_nearest_is_what_the_node_holds() -> None:
    assert OpcUaAddress(node="i=1").nearest(ValueType.FLOAT32, 2.3) == 2.299999952316284
    assert (
        OpcUaAddress(node="i=1", type=ValueType.FLOAT32).nearest(ValueType.FLOAT64, 0.1)
        == 0.10000000149011612
    )
    assert OpcUaAddress(node="i=1").nearest(ValueType.UINT64, 2**64 - 1) == 2**64 - 1
    held = OpcUaAddress(node="i=1", type=ValueType.INT16).nearest(ValueType.FLOAT64, 5.0)
    assert held == 5.0 and isinstance(held, float)
    with pytest.raises(ValueError):
        OpcUaAddress(node="i=1", type=ValueType.INT16).nearest(ValueType.FLOAT64, 5.5)
    assert OpcUaAddress(node="i=1").nearest(ValueType.STRING, "x") == "x"


def test_registering_does_not_load_what_speaks_the_protocol() -> None:
    code = (
        "import sys, devicemesh_opcua; (m,) = devicemesh_opcua.devicemesh_mappers();"
        "m.parse_endpoint('opcua://plc'); m.parse_address('nsu=urn:a;s=b');"
        "print([n for n in ('asyncua', 'cryptography', 'asyncio') if n in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
