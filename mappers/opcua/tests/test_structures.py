"""Structures there and back: written, given to methods, and told of only by a dictionary."""

from __future__ import annotations

from typing import Any

import pytest
from devicemesh_opcua import binary, compose, convert, datatypes, dictionary
from devicemesh_opcua.binary import Structure
from devicemesh_opcua.datatypes import Definition, Field
from devicemesh_opcua.dictionary import DictionaryError, TypeName
from devicemesh_opcua.model import OpcUaMethod
from devicemesh_opcua.nodeid import NodeName
from devicemesh_opcua.session import open_session

from devicemesh.mapper import Invocation, PointError, Write
from devicemesh.testing.contract import poll

PART = {"Amount": 2.25, "Kind": 1, "Note": "new"}
BARE = {"Amount": 0.5, "Kind": 0}
RECIPE = {"Name": None, "Big": -(2**60), "Main": BARE, "Parts": [PART, BARE, PART], "Raw": "AAE="}
WAY = {
    "Name": "way",
    "Spots": [{"X": 1.5, "Tags": []}, {"X": 2.5, "Tags": ["ä", ""]}],
    "Last": {"X": 0.0, "Tags": ["z"]},
}
OLD = {
    "Name": "w",
    "Spots": [{"X": 1.0, "Tags": ["a"]}, {"X": 2.0, "Tags": []}],
    "Last": {"X": 3.0, "Tags": ["b", "c"]},
}


def test_structures_and_enumerations_are_written(serve_plant: Any, point: Any, run: Any) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add_types()
            await plant.add("matrix", [[1, 2, 3], [4, 5, 6]], "Int32", [2, 3])
            endpoint = plant.endpoint()
            wanted = [
                ("recipe", RECIPE), ("choice", {"Number": 7}), ("choice", {"Text": "or"}), ("choice", {}),
                ("parts", [PART]), ("parts", [BARE, PART]), ("empty", [PART, BARE]),
                ("mode", 1), ("modes", [1, 1, 0]), ("matrix", [[9, 8], [7, 6], [5, 4]]),
            ]  # fmt: skip
            async with open_session(endpoint) as session:
                for i, (name, value) in enumerate(wanted):
                    one = point(i, endpoint, "json", name)
                    (told,) = await session.write([Write(one, value)])
                    assert (told.value, told.error) == (value, None), name
                    assert (await poll(session, [one]))[i].value == value
            async with open_session(endpoint) as session:  # that has read nothing before
                one = point(0, endpoint, "json", "recipe")
                assert (await session.write([Write(one, RECIPE)]))[0].value == RECIPE

    run(work())


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("recipe", {**RECIPE, "Main": {"Amount": 1}}, "`Main.Kind` is missing: a structure is written whole, Amount, Kind, Note"),
        ("recipe", {"Name": "x"}, "`Big` is missing: a structure is written whole, Name, Big, Main, Parts, Raw"),
        ("recipe", {**RECIPE, "Colour": 1}, "`Colour` is no field of it; they are Name, Big, Main, Parts, Raw"),
        ("recipe", {**RECIPE, "Parts": [PART, {**PART, "Amount": "much"}]}, "`Parts[1].Amount`: 'much' is not a Double"),
        ("recipe", {**RECIPE, "Parts": PART}, "is no array"),
        ("recipe", {**RECIPE, "Big": 2**63}, "`Big`: 9223372036854775808 does not fit an Int64"),
        ("recipe", {**RECIPE, "Main": {**PART, "Kind": "Auto"}}, "of an enumeration, write its number"),
        ("recipe", 5, "5 is no object with the fields Name, Big, Main, Parts, Raw"),
        ("recipe", [RECIPE], "the node holds one value of ExtensionObject"),
        ("parts", PART, "the node holds an array of ExtensionObject"),
        ("choice", {"Text": "a", "Number": 1}, "of a union there is one field at a time"),
        ("modes", ["Auto"], "'Auto' is not an Int32"),
        ("matrix", [[1, 2], [3]], "the rows of an array of several dimensions differ in length"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_not_sent(
    serve_plant: Any, point: Any, run: Any, name: str, value: Any, why: str
) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add_types()
            await plant.add("matrix", [[1, 2, 3], [4, 5, 6]], "Int32", [2, 3])
            endpoint = plant.endpoint()
            async with open_session(endpoint) as session:
                one = point(0, endpoint, "json", name)
                before = (await poll(session, [one]))[0].value
                (told,) = await session.write([Write(one, value)])
                assert isinstance(told.error, PointError)
                assert told.error.reason == "WrongType"
                assert why in str(told.error)
                assert (await poll(session, [one]))[0].value == before

    run(work())


def test_methods_take_and_give_structures(serve_plant: Any, run: Any) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add_types()
            endpoint = plant.endpoint()
            where = OpcUaMethod.model_validate({"browsePath": "Mix", "namespace": "urn:plant"})
            async with open_session(endpoint) as session:
                given = {"recipe": {**RECIPE, "Main": PART}, "times": 2}
                told = await session.invoke(Invocation("default/plc", "mix", endpoint, where, given))
                assert told == {"mixed": given["recipe"], "parts": [PART, PART], "kind": 1}
                wrong = {"recipe": {**RECIPE, "Main": 3}, "times": 2}
                with pytest.raises(
                    PointError, match="argument `recipe`: `Main`: 3 is no object with the fields"
                ):
                    await session.invoke(Invocation("default/plc", "mix", endpoint, where, wrong))

    run(work())


def test_structures_that_are_only_in_a_dictionary(serve_plant: Any, point: Any, run: Any) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add_dictionary()
            endpoint = plant.endpoint()
            points = [point(0, endpoint, "json", "old"), point(1, endpoint, "json", "olds")]
            async with open_session(endpoint) as session:
                read = await poll(session, points)
                assert [read[0].value, read[1].value] == [OLD, OLD["Spots"]]
                told = await session.write([Write(points[0], WAY), Write(points[1], WAY["Spots"])])
                assert [(one.value, one.error) for one in told] == [(WAY, None), (WAY["Spots"], None)]
                where = OpcUaMethod.model_validate({"browsePath": "Old", "namespace": "urn:plant"})
                back = await session.invoke(Invocation("default/plc", "o", endpoint, where, {"way": WAY}))
                assert back == {"way": WAY}

    run(work())


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]>' + "<a>&c;</a>"


@pytest.mark.parametrize("text", ["", "no xml", BOMB, "<a/>", "<a>" * 100_000, "é" * 10_000_000])
def test_a_dictionary_that_is_none_leaves_bytes(serve_plant: Any, point: Any, run: Any, text: str) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add_dictionary(text)
            endpoint = plant.endpoint()
            one = point(0, endpoint, "json", "old")
            async with open_session(endpoint) as session:
                assert set((await poll(session, [one]))[0].value) == {"typeId", "body"}, (
                    "lossless all the same"
                )
                (told,) = await session.write([Write(one, WAY)])
                assert "does not say which fields a structure of the encoding" in str(told.error)

    run(work())


HEAD = (
    '<opc:TypeDictionary xmlns:opc="http://opcfoundation.org/BinarySchema/" xmlns:tns="urn:a" xmlns:b="urn:b"'
    ' xmlns:ua="http://opcfoundation.org/UA/" TargetNamespace="urn:a" DefaultByteOrder="LittleEndian">'
)


def parsed(inside: str) -> dictionary.Dictionary:
    return dictionary.parse(f"{HEAD}{inside}</opc:TypeDictionary>".encode())


def structure_of(fields: str, more: str = "") -> Definition | None:
    found = parsed(
        f'<opc:StructuredType Name="T" BaseType="ua:ExtensionObject">{fields}</opc:StructuredType>{more}'
    )
    return dictionary.definition(TypeName("urn:a", "T"), {"urn:a": found}.get)


OPTIONAL = (
    '<opc:Field Name="aSpecified" TypeName="opc:Bit"/><opc:Field Name="cSpecified" TypeName="opc:Bit"/>'
    '<opc:Field Name="Reserved1" TypeName="opc:Bit" Length="30"/>'
    '<opc:Field Name="a" TypeName="opc:Byte" SwitchField="aSpecified"/><opc:Field Name="b" TypeName="opc:Byte"/>'
    '<opc:Field Name="NoOfC" TypeName="opc:Int32" SwitchField="cSpecified"/>'
    '<opc:Field Name="c" TypeName="opc:Byte" LengthField="NoOfC" SwitchField="cSpecified"/>'
)
UNION = (
    '<opc:Field Name="SwitchField" TypeName="opc:UInt32"/>'
    '<opc:Field Name="a" TypeName="opc:Byte" SwitchField="SwitchField" SwitchValue="1"/>'
    '<opc:Field Name="b" TypeName="opc:CharArray" SwitchField="SwitchField" SwitchValue="2"/>'
)
ENUM = '<opc:EnumeratedType Name="E" LengthInBits="32"><opc:EnumeratedValue Name="x" Value="0"/></opc:EnumeratedType>'


@pytest.mark.parametrize(
    ("definition", "body", "value"),
    [
        (structure_of(OPTIONAL), "02000000" + "05" + "02000000" + "0708", {"b": 5, "c": [7, 8]}),
        (structure_of(OPTIONAL), "01000000" + "0305", {"a": 3, "b": 5}),
        (structure_of(UNION), "02000000" + "0100000078", {"b": "x"}),
        (structure_of(UNION), "00000000", {}),
        (structure_of('<opc:Field Name="e" TypeName="tns:E"/>', ENUM), "07000000", {"e": 7}),
        (structure_of('<opc:Field Name="t" TypeName="ua:LocalizedText"/>'), "020100000068", {"t": "h"}),
        (structure_of('<opc:Field Name="v" TypeName="ua:Variant"/>'), "0805" + "00" * 7, {"v": 5}),
        (structure_of(""), "", {}),
    ],
)
def test_what_a_dictionary_may_say(definition: Definition | None, body: str, value: Any) -> None:
    assert definition is not None
    types = datatypes.DataTypes()
    types.known["i=1"] = definition
    assert types.decoded(Structure("i=1", bytes.fromhex(body)), convert.plain) == value
    assert compose.structure(definition, value) == bytes.fromhex(body)


@pytest.mark.parametrize(
    "fields",
    [
        '<opc:Field Name="a" TypeName="opc:Bit"/>',  # not 32 of them
        '<opc:Field Name="a" TypeName="opc:Bit" Length="33"/>',
        '<opc:Field Name="a" TypeName="opc:Bit" Length="x"/>',
        '<opc:Field Name="a" TypeName="opc:Byte" Length="4"/>',  # no length on the wire
        '<opc:Field Name="a" TypeName="opc:Byte" LengthField="gone"/>',
        '<opc:Field Name="n" TypeName="opc:Byte"/><opc:Field Name="a" TypeName="opc:Byte" LengthField="n"/>',
        '<opc:Field Name="n" TypeName="opc:Int32"/><opc:Field Name="x" TypeName="opc:Byte"/>'
        '<opc:Field Name="a" TypeName="opc:Byte" LengthField="n"/>',
        '<opc:Field Name="a" TypeName="opc:Char" Terminator="00"/>',
        '<opc:Field Name="a" TypeName="opc:Byte" SwitchField="b" SwitchOperand="NotEqual"/>',
        '<opc:Field Name="a" TypeName="tns:T"/>',  # itself
        '<opc:Field Name="a" TypeName="tns:Gone"/>',
        '<opc:Field Name="a" TypeName="b:Gone"/>',
        '<opc:Field Name="a" TypeName="what:ever"/>',
        '<opc:Field Name="a"/>',
        '<opc:Field Name="a" TypeName="opc:Null"/>',
        '<opc:Field Name="a" TypeName="opc:Byte"/>' * 3000,
        OPTIONAL.replace('SwitchField="aSpecified"', 'SwitchField="cSpecified"'),
        UNION.replace('SwitchValue="2"', 'SwitchValue="3"'),
    ],
)
def test_what_is_not_opc_uas_encoding_stays_unknown(fields: str) -> None:
    assert structure_of(fields) is None


def test_a_dictionary_is_bounded() -> None:
    with pytest.raises(DictionaryError, match="document type"):
        dictionary.parse(BOMB.encode())
    with pytest.raises(DictionaryError, match="more than 50000 elements"):
        parsed("<x/>" * 50_001)
    with pytest.raises(DictionaryError, match="deep in each other"):
        parsed("<x>" * 20 + "</x>" * 20)
    with pytest.raises(DictionaryError, match="more than 256 characters"):
        parsed(f'<opc:StructuredType Name="{"x" * 300}"/>')
    with pytest.raises(DictionaryError, match="at most"):
        dictionary.parse(b" " * (5 << 20))
    deep = "".join(
        f'<opc:StructuredType Name="T{i}"><opc:Field Name="a" TypeName="tns:T{i + 1}"/></opc:StructuredType>'
        for i in range(40)
    )
    found = parsed(deep + '<opc:StructuredType Name="T40"/>')
    assert dictionary.definition(TypeName("urn:a", "T0"), {"urn:a": found}.get) is None


def test_dictionaries_may_use_each_other() -> None:
    ours = parsed('<opc:StructuredType Name="T"><opc:Field Name="a" TypeName="b:U"/></opc:StructuredType>')
    assert dictionary.missing(TypeName("urn:a", "T"), {"urn:a": ours}.get) == {"urn:b"}
    theirs = parsed(
        '<opc:StructuredType Name="U"><opc:Field Name="x" TypeName="opc:Byte"/></opc:StructuredType>'
    )
    both = {"urn:a": ours, "urn:b": theirs}
    found = dictionary.definition(TypeName("urn:a", "T"), both.get)
    assert found is not None
    assert compose.structure(found, {"a": {"x": 4}}) == b"\x04"


def test_a_structure_of_nothings_is_bounded() -> None:
    """Its fields take no bytes: there could be any number of them."""
    inner = Definition(datatypes.PLAIN, [])
    for _ in range(15):
        again = [
            Field(f"f{i}", NodeName(0, 22), -1, False, binary.EXTENSION_OBJECT, inner) for i in range(100)
        ]
        inner = Definition(datatypes.PLAIN, again)
    types = datatypes.DataTypes()
    types.known["i=1"] = inner
    assert types.decoded(Structure("i=1", b""), convert.plain) is None


def test_a_server_with_ever_new_types_is_bounded() -> None:
    types = datatypes.DataTypes()
    for i in range(3000):
        assert types.decoded(Structure(f"i={i}", b""), convert.plain) is None
    assert len(types.missing) == datatypes.MAX_TYPES


def test_fields_of_many_types_say_their_own() -> None:
    """StructureWithSubtypedValues (Part 3, 8.51): only an `optional` field is an ExtensionObject."""
    inner = Definition(datatypes.PLAIN, [Field("x", NodeName(0, 3), -1, False, 3)])
    plain = Field("a", NodeName(0, 22), -1, False, binary.EXTENSION_OBJECT, inner)
    open_ = Field("b", NodeName(0, 22), -1, True, binary.EXTENSION_OBJECT)
    whole = Definition(datatypes.SUBTYPED, [plain, open_])
    assert whole.many_types(open_)
    assert not whole.many_types(plain)
    types = datatypes.DataTypes()
    types.known |= {"i=1": whole, "i=2": inner}
    body = bytes.fromhex("05" + "0002" + "01" + "01000000" + "07")
    shown = convert.plain(binary.EXTENSION_OBJECT, Structure("i=1", body), types)
    assert shown["a"] == {"x": 5}
    with pytest.raises(
        ValueError, match="`b` may be a structure of several types, and JSON does not say which"
    ):
        compose.structure(whole, {"a": {"x": 5}, "b": {"x": 7}})


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (binary.VARIANT, None), (binary.VARIANT, True), (binary.VARIANT, 5), (binary.VARIANT, [1.5, 2.0]),
        (binary.VARIANT, "x"), (binary.STRING, None), (binary.DATE_TIME, "2026-01-02T03:04:05Z"),
        (binary.GUID, "09087e75-8e5e-499b-954f-f2a9603db28a"), (binary.BYTE_STRING, "AAE="),
        (binary.LOCALIZED_TEXT, "t"), (binary.LOCALIZED_TEXT, None), (binary.STATUS_CODE, "Good"),
        (binary.STATUS_CODE, "BadSensorFailure"), (binary.STATUS_CODE, "status 0x80990000"),
        (binary.NODE_ID, "i=85"), (binary.BOOLEAN, False), (binary.FLOAT, 1.5),
    ],
)  # fmt: skip
def test_fields_of_every_kind_go_there_and_back(kind: int, value: Any) -> None:
    definition = Definition(datatypes.PLAIN, [Field("f", NodeName(0, kind), -1, False, kind)])
    types = datatypes.DataTypes()
    types.known["i=1"] = definition
    body = compose.structure(definition, {"f": value})
    assert types.decoded(Structure("i=1", body), convert.plain) == {"f": value}


def test_dimensions_of_a_field() -> None:
    definition = Definition(datatypes.PLAIN, [Field("m", NodeName(0, 3), 2, False, 3)])
    body = compose.structure(definition, {"m": [[1, 2, 3], [4, 5, 6]]})
    assert body == bytes.fromhex("020000000200000003000000010203040506")
    for wrong in ([1, 2], [[1], [2, 3]], None, 4, [[[1]]]):
        with pytest.raises(ValueError, match="`m`: "):
            compose.structure(definition, {"m": wrong})
