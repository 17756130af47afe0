"""Structures as JSON, enumerations as words."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary
from devicemesh_opcua import binary, convert, datatypes, learn, poll, subscribe
from devicemesh_opcua.binary import DecodeError, Structure, Typed
from devicemesh_opcua.nodeid import NodeName
from devicemesh_opcua.session import open_session

from devicemesh.mapper import Batch, PointError, Quality, Write
from devicemesh.testing import contract
from devicemesh.testing.contract import once, rows

PART = {"Amount": 1.5, "Kind": 2, "Note": "x"}
RECIPE = {
    "Name": "tea", "Big": 2**60, "Main": PART, "Parts": [PART, {"Amount": 2.5, "Kind": 0}], "Raw": "AP8=",
}  # fmt: skip


def test_structures_and_enumerations_of_a_server(serve_plant: Any, point: Any, run: Any) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add_types()
            endpoint = plant.endpoint()
            wanted = [
                ("json", "recipe", RECIPE), ("json", "choice", {"Text": "either"}), ("string", "mode", "Auto"),
                ("int32", "mode", 2), ("string", "valve", "open"), ("uint16", "valve", 1),
            ]  # fmt: skip
            points = [point(i, endpoint, type_, name) for i, (type_, name, _) in enumerate(wanted)]
            expected = {i: value for i, (_, _, value) in enumerate(wanted)}
            async with open_session(endpoint) as session:
                polled = await contract.poll(session, points)
                assert {slot: row.value for slot, row in polled.items()} == expected
                seen: dict[int, Any] = {}
                async with contextlib.aclosing(session.subscribe(points)) as batches:
                    while len(seen) < len(points):
                        batch = await anext(batches)
                        assert isinstance(batch, Batch)
                        seen |= {row.slot: row.value for row in rows(batch)}
                assert seen == expected
                assert [(await session.trace(one)).value for one in points] == list(expected.values())
                told = await session.write([Write(points[2], "Manual"), Write(points[2], "Fast")])
                assert (told[0].value, told[0].error) == ("Manual", None)
                assert str(told[1].error) == "'Fast' is none of its words: Off, Manual, Auto"
                await plant.set("mode", 7, "Int32")
                row = (await contract.poll(session, [points[2]]))[2]
                assert (row.value, row.quality) == ("7", Quality.UNKNOWN_CODE)

    run(work())


def test_what_a_server_did_not_tell_of_types_is_asked_again(
    serve_plant: Any, point: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (subscribe, poll, learn):
        monkeypatch.setattr(module, "RETRY_S", 0.2)

    async def silence(items: Any) -> Any:
        raise PointError("no answer within 5 s", reason="NoAnswer")

    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add_types()
            endpoint = plant.endpoint()
            wanted = [("string", "mode", "Auto"), ("string", "valve", "open"), ("json", "recipe", RECIPE)]
            points = [point(i, endpoint, type_, name) for i, (type_, name, _) in enumerate(wanted)]
            async with open_session(endpoint) as session:
                reader, tell = session.reader(points), session.server.read
                pushes = session.subscribe(points[:2])
                monkeypatch.setattr(session.server, "read", silence)
                polled = await once(reader, points)
                assert [polled[slot].quality for slot in (0, 1)] == [Quality.NO_ANSWER] * 2
                assert list(polled[2].value) == ["typeId", "body"]
                async with contextlib.aclosing(pushes):
                    for _ in range(2):
                        assert [row.quality for row in rows(await anext(pushes))] == [Quality.NO_ANSWER]
                    monkeypatch.setattr(session.server, "read", tell)
                    seen = [row.value async for row in flat(pushes, 2)]
                    assert sorted(seen) == ["Auto", "open"]
                expected = {slot: value for slot, (_, _, value) in enumerate(wanted)}
                while {slot: row.value for slot, row in (await once(reader, points)).items()} != expected:
                    pass

    run(work())


def test_structures_are_learnt_by_two_at_once(
    serve_plant: Any, point: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each holds the other's inner type, or a type that is half learnt."""

    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add_types()
            endpoint = plant.endpoint()
            names = ["recipe", "parts", "recipe"]
            points = [point(i, endpoint, "json", name) for i, name in enumerate(names)]
            async with open_session(endpoint) as session:
                readers = [(session.reader([one]), [one]) for one in points]
                found = await asyncio.gather(*(once(reader, some) for reader, some in readers))
                again = [await once(reader, some) for reader, some in readers]
                parts = RECIPE["Parts"]
                for told in (found, again):
                    values = [row.value for one in told for row in one.values()]
                    assert values == [RECIPE, parts, RECIPE]

    run(work())


async def flat(batches: Any, count: int) -> Any:
    """So many rows."""
    while count > 0:
        for row in rows(await anext(batches)):
            count -= 1
            yield row


def field(name: str, kind: int, rank: int = -1, inner: Any = None, optional: bool = False) -> datatypes.Field:
    return datatypes.Field(name, NodeName(0, kind), rank, optional, kind, inner)


def decoded(definition: datatypes.Definition, body: bytes) -> Any:
    types = datatypes.DataTypes()
    types.known["i=1"] = definition
    return types.decoded(Structure("i=1", body), convert.plain)


@pytest.mark.parametrize(
    "body",
    [
        "ffffff7f",  # two thousand million elements
        "0200000002000000ffffff7f",  # dimensions whose product is too large
        "",
        "00" * 40,  # more than it has
    ],
)
def test_a_body_that_does_not_fit_stays_bytes(body: str) -> None:
    raw = bytes.fromhex(body)
    matrix = datatypes.Definition(datatypes.PLAIN, [field("m", 6, rank=2)])
    nothings = datatypes.Definition(datatypes.PLAIN, [field("n", binary.NULL, rank=1)])
    for definition in (matrix, nothings):
        assert decoded(definition, raw) is None
        types = datatypes.DataTypes()
        types.known["i=1"] = definition
        shown = convert.plain(binary.EXTENSION_OBJECT, Structure("i=1", raw), types)
        assert set(shown) == {"typeId", "body"}, "lossless all the same"


def test_dimensions_options_and_unions() -> None:
    matrix = datatypes.Definition(datatypes.PLAIN, [field("m", 3, rank=2)])
    assert decoded(matrix, bytes.fromhex("020000000200000003000000010203040506")) == {
        "m": [[1, 2, 3], [4, 5, 6]]
    }
    optional = datatypes.Definition(
        datatypes.OPTIONAL, [field("a", 3), field("b", 3, optional=True), field("c", 3, optional=True)]
    )
    assert decoded(optional, bytes.fromhex("020000000107")) == {"a": 1, "c": 7}
    union = datatypes.Definition(datatypes.UNION, [field("a", 3), field("b", 3)])
    assert decoded(union, bytes.fromhex("0200000009")) == {"b": 9}
    assert decoded(union, bytes.fromhex("00000000")) == {}
    deep = datatypes.Definition(datatypes.PLAIN, [])
    deep.fields.append(field("again", 22, inner=deep))
    assert decoded(deep, b"") is None, "it holds itself"


def test_definitions_are_read_and_checked() -> None:
    made = ua.StructureDefinition(StructureType=ua.StructureType.StructureWithOptionalFields)
    made.Fields = [
        ua.StructureField(Name="a", DataType=ua.NodeId(11), ValueRank=-1, IsOptional=False),
        ua.StructureField(
            Name="b", DataType=ua.NodeId("x", 2), ValueRank=1, IsOptional=True, ArrayDimensions=[0]
        ),
    ]
    found = datatypes.structure_definition(struct_to_binary(made))
    assert found.form == datatypes.OPTIONAL
    told = [(one.name, one.data_type.text, one.rank, one.optional) for one in found.fields]
    assert told == [("a", "i=11", -1, False), ("b", "ns=2;s=x", 1, True)]
    words = ua.EnumDefinition(Fields=[ua.EnumField(Name="Off"), ua.EnumField(Name="On", Value=5)])
    assert datatypes.enum_definition(struct_to_binary(words)) == {0: "Off", 5: "On"}
    raw = struct_to_binary(made)
    for end in range(len(raw)):
        with pytest.raises(DecodeError):
            datatypes.structure_definition(raw[:end])


def test_a_word_is_only_for_texts() -> None:
    held = Typed(6, 1)
    from devicemesh.spec.values import ValueType

    assert convert.converted(held, convert.Want(ValueType.STRING, words={1: "On"})) == "On"
    with pytest.raises(ValueError, match="the server sends an Int32, the property is a string"):
        convert.converted(held, convert.Want(ValueType.STRING))
