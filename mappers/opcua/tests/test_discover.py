"""Discovery: what a server has, and the YAML that follows from it, which must be sound."""

from __future__ import annotations

import dataclasses
import math
import struct
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from asyncua import ua
from devicemesh_opcua.binary import Typed
from devicemesh_opcua.describe import Variable, model_yaml, names, range_of, unit_of
from devicemesh_opcua.discover import browse, discover
from devicemesh_opcua.mapper import OpcUaMapper
from devicemesh_opcua.model import OpcUaAddress, OpcUaEndpoint
from devicemesh_opcua.nodeid import NodeName
from devicemesh_opcua.server import Limits, Node
from devicemesh_opcua.session import open_session

from devicemesh.mapper import ConfigError, Point
from devicemesh.spec.base import Protocol
from devicemesh.spec.manifest import load
from devicemesh.spec.values import ValueType
from devicemesh.testing.contract import poll


def test_a_server_becomes_yaml_that_runs_as_it_is(serve_plant: Any, run: Any) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("Pump/Speed", 1500.5, "Double")
            await plant.add("Pump/Motor/Speed", 7, "Int16")
            await plant.add("Pump/On", True, "Boolean")
            await plant.add('Odd "name": {x}', "text", "String")
            await plant.add("List", [1, 2], "UInt32")
            await plant.add("Fixed", 3, "Byte")
            await plant.read_only("Fixed")
            await plant.engineering("Pump/Speed", "°C", 0.0, 120.0)
            (found,) = [one async for one in discover(f"opcua://127.0.0.1:{plant.port}")]
            assert found.identity["security"] == "None/None"
            points = dict(found.points)
            assert points["nsu=urn:plant;s=Pump/Speed"] == "Pump/Speed  Double 1500.5 °C  writable"
            assert points["nsu=urn:plant;s=Fixed"] == "Fixed  Byte 3"
            assert not [node for node in points if "nsu=urn:plant" not in node]
            mapper = OpcUaMapper()
            endpoint = mapper.parse_endpoint(found.uri)
            async with open_session(endpoint) as session:
                text = model_yaml(endpoint, await browse(session.server, endpoint), "plant")
                manifest = load(
                    {"plant.yaml": text}, {"opcua": Protocol(OpcUaEndpoint, OpcUaAddress)}, lambda *_: None
                )
                assert manifest.problems == [], (manifest.problems, text)
                model, device = (resource.body["spec"] for resource in manifest.resources)
                by_name = {p["name"]: p for p in model["properties"]}
                assert by_name.keys() == {"Speed", "Motor.Speed", "On", "Odd_name_x", "List", "Fixed"}
                assert by_name["Speed"]["unit"] == "Cel" and by_name["Speed"]["maximum"] == 120
                assert "access" not in by_name["Fixed"] and by_name["On"]["access"] == "ReadWrite"
                reached = OpcUaEndpoint.model_validate(device["endpoint"]["opcua"])
                declared = [
                    Point(i, "default/plant-1", p["name"], ValueType(p["type"]), reached,
                          OpcUaAddress.model_validate(p["address"]["opcua"]))
                    for i, p in enumerate(model["properties"])
                ]  # fmt: skip
                seen = await poll(session, declared)
                values = {p.name: seen[p.slot].value for p in declared}
                assert values == {
                    "Speed": 1500.5, "Motor.Speed": 7, "On": True, "Odd_name_x": "text", "List": [1, 2], "Fixed": 3,
                }  # fmt: skip

    run(work())


def test_browsing_begins_at_the_root(serve_plant: Any, run: Any) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("Pump/Speed", 1, "Int32")
            await plant.add("Other", 2, "Int32")
            uri = f"opcua://127.0.0.1:{plant.port}?root=nsu%3Durn%3Aplant%3Bs%3DPump"
            (found,) = [one async for one in discover(uri)]
            assert [node for node, _ in found.points] == ["nsu=urn:plant;s=Pump/Speed"]

    run(work())


def variable(*path: str, kind: int = 6) -> Variable:
    from devicemesh_opcua.binary import Typed

    return Variable(NodeName("urn:a", "/".join(path)), path, Typed(kind, 1), kind)


def test_names_are_short_apart_and_allowed() -> None:
    given = names(
        [
            variable("A", "Speed"),
            variable("B", "Speed"),
            variable("B", "Speed"),
            variable("3 phase"),
            variable("Ä"),
            variable("x" * 80),
            variable("y", "x" * 80),
        ]
    )
    assert given[:4] == ["Speed", "B.Speed", "B.Speed_2", "_3_phase"]
    assert len(set(given)) == len(given) and all(1 <= len(name) <= 63 for name in given)


def test_odd_units_and_ranges_are_left_out() -> None:
    assert unit_of(b"") is None and unit_of(b"\xff\xff\xff\x7f") is None
    assert range_of(b"123") is None and range_of(struct.pack("<dd", 0.0, math.inf)) is None


def test_only_what_lies_below_a_path(serve_plant: Any, run: Any) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("Pump/Speed", 1.5, "Double")
            await plant.add("Pump/Motor/Speed", 7, "Int16")
            await plant.add("Pumps", 3, "Byte")
            place = f"opc.tcp://127.0.0.1:{plant.port}?timeout=3s"

            async def below(path: str) -> list[str]:
                (found,) = [one async for one in discover(f"{place}&path={path}")]
                return [shown.split("  ")[0] for _, shown in found.points]

            assert await below("Pump") == ["Pump/Speed", "Pump/Motor/Speed"]
            assert await below("Pump/Motor") == ["Pump/Motor/Speed"]
            assert await below("Pumps") == ["Pumps"]
            with pytest.raises(ConfigError, match=r"has no `Gone`; there is .*Pump, Pumps"):
                await below("Gone")
            with pytest.raises(ConfigError, match="has no `Pump/Gone`; below `Pump` is Motor, Speed"):
                await below("Pump/Gone")

    run(work())


class Odd:
    """A server whose answers make no sense; each browsing promises more without end."""

    link = "plc:4840"
    namespaces: ClassVar = ["http://opcfoundation.org/UA/", "urn:plant"]
    limits = Limits()

    def __init__(self, rest: list[Any]) -> None:
        self.rest = rest

    def node(self, name: NodeName, meaning: Any) -> Node:
        return Node(0, 85)

    def reference(self, place: int) -> Any:
        return ua.ReferenceDescription(
            NodeId=ua.ExpandedNodeId("x", place), BrowseName=ua.QualifiedName("x", place),
            NodeClass=ua.NodeClass.Variable,
        )  # fmt: skip

    async def call(self, request: Any) -> Any:
        if isinstance(request, ua.BrowseNextRequest):
            return SimpleNamespace(Parameters=SimpleNamespace(Results=self.rest))
        found = [self.reference(1), self.reference(7)]
        more = ua.BrowseResult(ContinuationPoint=b"more", References=found)
        return SimpleNamespace(Results=[more for _ in request.Parameters.NodesToBrowse])

    async def read(self, items: Any) -> Any:
        return [(Typed(17, NodeName(1, "odd")), 0, 0) for _ in items]


@pytest.mark.parametrize("rest", [[], [ua.BrowseResult(ContinuationPoint=b"more")]])
def test_a_server_that_makes_no_sense_is_looked_into_all_the_same(run: Any, rest: list[Any]) -> None:
    async def work() -> None:
        server: Any = Odd(rest)
        endpoint = OpcUaEndpoint(url="opc.tcp://plc")
        (one,) = await browse(server, endpoint)
        assert (one.node, one.description) == (NodeName("urn:plant", "x"), None)
        assert "ns=1;s=odd" in one.sample and "description" not in model_yaml(endpoint, [one], "plant")

    run(work())


def test_a_range_is_written_with_all_its_digits() -> None:
    endpoint = OpcUaEndpoint(url="opc.tcp://plc")
    one = Variable(NodeName("urn:plant", "x"), ("x",), Typed(11, 1.0), 11, low=-0.25, high=1234567.5)
    whole = dataclasses.replace(one, low=0.0, high=16777215.0)
    assert "minimum: -0.25\n    maximum: 1234567.5\n" in model_yaml(endpoint, [one], "plant")
    assert "minimum: 0\n    maximum: 16777215\n" in model_yaml(endpoint, [whole], "plant")
