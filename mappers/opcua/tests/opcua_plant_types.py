"""The plant's own data types: defined as today, and as before OPC UA 1.04."""

from __future__ import annotations

import struct
from typing import Any

from asyncua import Server, ua
from asyncua.common.structures104 import new_enum, new_struct, new_struct_field
from asyncua.common.type_dictionary_builder import DataTypeDictionaryBuilder

PLANT = "urn:plant"


class Types:
    """What a test can have the server define."""

    server: Server
    index: int

    async def add_types(self) -> None:
        """An enumeration and structures, and nodes that hold them: `mode`, `recipe`, `choice`, `valve`."""
        server, index = self.server, self.index
        objects = server.nodes.objects
        mode = await new_enum(server, index, "Mode", ["Off", "Manual", "Auto"])
        part, _ = await new_struct(
            server,
            index,
            "Part",
            [
                new_struct_field("Amount", ua.VariantType.Double),
                new_struct_field("Kind", mode),
                new_struct_field("Note", ua.VariantType.String, optional=True),
            ],
        )
        recipe, _ = await new_struct(
            server,
            index,
            "Recipe",
            [
                new_struct_field("Name", ua.VariantType.String),
                new_struct_field("Big", ua.VariantType.Int64),
                new_struct_field("Main", part),
                new_struct_field("Parts", part, array=True),
                new_struct_field("Raw", ua.VariantType.ByteString),
            ],
        )
        choice, _ = await new_struct(
            server,
            index,
            "Choice",
            [
                new_struct_field("Number", ua.VariantType.Int32),
                new_struct_field("Text", ua.VariantType.String),
            ],
            is_union=True,
        )
        made = await server.load_data_type_definitions()
        one = made["Part"](Amount=1.5, Kind=made["Mode"].Auto, Note="x")
        two = made["Part"](Amount=2.5, Kind=made["Mode"].Off, Note=None)
        whole = made["Recipe"](Name="tea", Big=2**60, Main=one, Parts=[one, two], Raw=b"\x00\xff")
        union = made["Choice"]()
        union.Text = "either"
        shown = [("recipe", whole, recipe), ("choice", union, choice), ("parts", [one, two], part)]
        for name, value, type_ in shown:
            node = await objects.add_variable(
                ua.NodeId(name, index), f"{index}:{name}", value, datatype=type_.nodeid
            )
            await node.set_writable()
        empty = ua.Variant([], ua.VariantType.ExtensionObject)
        node = await objects.add_variable(
            ua.NodeId("empty", index), f"{index}:empty", empty, datatype=part.nodeid
        )
        await node.write_attribute(
            ua.AttributeIds.ValueRank, ua.DataValue(ua.Variant(1, ua.VariantType.Int32))
        )
        await node.set_writable()
        held = ua.Variant(2, ua.VariantType.Int32)
        node = await objects.add_variable(
            ua.NodeId("mode", index), f"{index}:mode", held, datatype=mode.nodeid
        )
        await node.set_writable()
        valve = await objects.add_variable(
            ua.NodeId("valve", index), f"{index}:valve", ua.Variant(1, ua.VariantType.UInt16)
        )
        words = [ua.LocalizedText("closed"), ua.LocalizedText("open")]
        await valve.add_property(0, "EnumStrings", words)
        modes = ua.Variant([0, 2], ua.VariantType.Int32)
        node = await objects.add_variable(
            ua.NodeId("modes", index), f"{index}:modes", modes, datatype=mode.nodeid
        )
        await node.set_writable()

        def mix(_: Any, given: Any, times: Any) -> Any:
            got = given.Value
            made_ = [
                ua.Variant(value, ua.VariantType.ExtensionObject) for value in (got, [got.Main] * times.Value)
            ]
            return [*made_, ua.Variant(int(got.Main.Kind), ua.VariantType.Int32)]

        takes = [
            ua.Argument(Name="recipe", DataType=recipe.nodeid),
            ua.Argument(Name="times", DataType=ua.NodeId(6)),
        ]
        gives = [
            ua.Argument(Name="mixed", DataType=recipe.nodeid),
            ua.Argument(Name="parts", DataType=part.nodeid, ValueRank=1),
            ua.Argument(Name="kind", DataType=mode.nodeid),
        ]
        await objects.add_method(ua.NodeId("Mix", index), f"{index}:Mix", mix, takes, gives)

    async def add_dictionary(self, text: str | None = None) -> None:
        """Types that are only in a DataTypeDictionary: `old`, `olds`, and a method `Old` that gives back what it takes.

        `text` stands instead of the dictionary's XML.
        """
        server, index = self.server, self.index
        builder = DataTypeDictionaryBuilder(server, index, PLANT, "Plant")
        await builder.init()
        spot = await builder.create_data_type("Spot")
        spot.add_field("X", ua.VariantType.Double)
        spot.add_field("Tags", ua.VariantType.String, is_array=True)
        way = await builder.create_data_type("Way")
        way.add_field("Name", ua.VariantType.String)
        way.add_field("Spots", spot, is_array=True)
        way.add_field("Last", spot)
        await builder.set_dict_byte_string()
        if text is not None:
            raw = ua.Variant(text.encode(), ua.VariantType.ByteString)
            await server.write_attribute_value(builder.dict_id, ua.DataValue(raw))
        encodings = {}
        for name, type_ in (("Spot", spot), ("Way", way)):
            (encoding,) = await server.get_node(type_.data_type).get_referenced_nodes(
                ua.ObjectIds.HasEncoding
            )
            encodings[name] = encoding.nodeid

        def told(x: float, *tags: str) -> bytes:
            parts = b"".join(struct.pack("<i", len(tag)) + tag.encode() for tag in tags)
            return struct.pack("<di", x, len(tags)) + parts

        def raw_object(name: str, body: bytes) -> Any:
            return ua.ExtensionObject(TypeId=encodings[name], Body=body)

        whole = (
            struct.pack("<i", 1) + b"w" + struct.pack("<i", 2) + told(1, "a") + told(2) + told(3, "b", "c")
        )
        spots = [raw_object("Spot", told(1, "a")), raw_object("Spot", told(2))]
        for name, value, type_ in (("old", raw_object("Way", whole), way), ("olds", spots, spot)):
            node = await server.nodes.objects.add_variable(
                ua.NodeId(name, index),
                f"{index}:{name}",
                ua.Variant(value, ua.VariantType.ExtensionObject),
                datatype=type_.data_type,
            )
            await node.set_writable()

        def same(_: Any, given: Any) -> Any:
            return [given]

        ways = [ua.Argument(Name="way", DataType=way.data_type)]
        await server.nodes.objects.add_method(ua.NodeId("Old", index), f"{index}:Old", same, ways, ways)
