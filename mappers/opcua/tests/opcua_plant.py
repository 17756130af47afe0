"""asyncua's server in a process of its own, told over a pipe what to be; forked with its standard nodes loaded.

Loading those nodes takes seconds. This module is preloaded by multiprocessing's fork server, so that each
test has a fresh server, that it may kill, in a tenth of one.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import struct
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from asyncua import Server, ua
from asyncua.common.structures104 import new_enum, new_struct, new_struct_field
from asyncua.common.type_dictionary_builder import DataTypeDictionaryBuilder
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.address_space import AddressSpace, NodeManagementService
from asyncua.server.internal_server import InternalServer
from asyncua.server.standard_address_space import standard_address_space

PLANT = "urn:plant"
logging.disable(logging.CRITICAL)
_STANDARD = AddressSpace()
standard_address_space.fill_address_space(NodeManagementService(_STANDARD))
gc.freeze()


class _Preloaded(InternalServer):
    async def load_standard_address_space(self, shelf_file: Path | None = None) -> None:
        self.aspace._nodes = _STANDARD._nodes


class _Users:
    def get_user(
        self, iserver: Any, username: Any = None, password: Any = None, certificate: Any = None
    ) -> User | None:
        if certificate is not None and username is None and password is None:
            return User(role=UserRole.User)
        return User(role=UserRole.User) if (username, password) == ("anna", "s3cret") else None


class PlantServer:
    """What a test can ask of the server."""

    def __init__(self, options: dict[str, Any]) -> None:
        users = _Users() if options.get("users") else None
        self.server = Server(_Preloaded(user_manager=users))  # type: ignore[arg-type]
        self.options = options
        self.index = 0
        self.called: list[str] = []
        self.alarms: dict[str, Any] = {}
        self.churn: asyncio.Task[None] | None = None
        self.written = 0

    async def start(self) -> int:
        server, options = self.server, self.options
        server.iserver.bind_condition_methods = options.get("refresh", True)
        await server.init()
        server.set_endpoint(f"opc.tcp://127.0.0.1:{options.get('port', 0)}/")
        policies = options.get("policies") or ["NoSecurity"]
        server.set_security_policy([getattr(ua.SecurityPolicyType, name) for name in policies])
        if options.get("certificate"):
            await server.set_application_uri(options["application_uri"])
            await server.load_certificate(options["certificate"])
            await server.load_private_key(options["private_key"])
        if options.get("tokens"):
            server.set_identity_tokens([getattr(ua, name) for name in options["tokens"]])
        for uri in options.get("namespaces", (PLANT,)):
            await server.register_namespace(uri)
        self.index = await server.get_namespace_index(PLANT)
        for number, value in options.get("limits", {}).items():
            node = server.get_node(ua.NodeId(number))
            await node.write_value(ua.DataValue(ua.Variant(value, ua.VariantType.UInt32)))
        server.iserver.history_manager.storage.max_history_data_response_size = options.get(
            "history_page", 1000
        )  # type: ignore[attr-defined]
        await server.start()
        return server.bserver._server.sockets[0].getsockname()[1]  # type: ignore[union-attr,no-any-return]

    def node(self, name: str) -> Any:
        return self.server.get_node(ua.NodeId(name, self.index))

    async def add(self, name: str, value: Any, kind: str | None, dimensions: Any = None) -> None:
        """A writable variable `s=<name>` without a time of its own; `a/b` lies in the object `a`."""
        parent = self.server.nodes.objects
        *folders, leaf = name.split("/")
        for depth, folder in enumerate(folders):
            node_id = ua.NodeId("/".join(folders[: depth + 1]), self.index)
            if node_id not in self.server.iserver.aspace._nodes:
                await parent.add_object(node_id, f"{self.index}:{folder}")
            parent = self.server.get_node(node_id)
        held = self.variant(value, kind, dimensions)
        node = await parent.add_variable(ua.NodeId(name, self.index), f"{self.index}:{leaf}", held)
        await node.set_writable()
        await self.set(name, value, kind, dimensions=dimensions)

    async def add_many(self, names: list[str], value: Any, kind: str) -> None:
        for name in names:
            await self.add(name, value, kind)

    @staticmethod
    def variant(value: Any, kind: str | None, dimensions: Any = None) -> Any:
        return ua.Variant(value, getattr(ua.VariantType, kind) if kind else None, dimensions)

    async def set(
        self,
        name: str,
        value: Any,
        kind: str | None = None,
        status: int = 0,
        time: Any = None,
        dimensions: Any = None,
    ) -> None:
        """Write as the plant does: any status, any time."""
        shown = ua.DataValue(self.variant(value, kind, dimensions), ua.StatusCode(status), time)
        await self.server.write_attribute_value(ua.NodeId(name, self.index), shown)

    async def set_many(self, names: list[str], value: Any, kind: str) -> None:
        for name in names:
            await self.set(name, value, kind)

    async def get(self, name: str) -> Any:
        return await self.node(name).read_value()

    async def read_only(self, name: str) -> None:
        await self.node(name).set_read_only()

    async def delete(self, name: str) -> None:
        await self.server.delete_nodes([self.node(name)])

    async def engineering(self, name: str, unit: str, low: float, high: float) -> None:
        """The properties of an AnalogItem (Part 8, 5.3.2)."""
        about = ua.EUInformation(DisplayName=ua.LocalizedText(unit))
        await self.node(name).add_property(0, "EngineeringUnits", about)
        await self.node(name).add_property(0, "EURange", ua.Range(low, high))

    async def add_methods(self) -> None:
        """On the object `Motor`: Scale(level, factors[]) -> total, words; Stop() -> nothing; Never() hangs."""
        motor = await self.server.nodes.objects.add_object(
            ua.NodeId("Motor", self.index), f"{self.index}:Motor"
        )

        def scale(_: Any, level: Any, factors: Any) -> Any:
            if level.Value > 100:
                return ua.StatusCode(ua.StatusCodes.BadOutOfRange)
            self.called.append(f"{level.VariantType.name} {level.Value}")
            total = level.Value * sum(factors.Value)
            return [ua.Variant(total, ua.VariantType.Double), ua.Variant(["a", "b"], ua.VariantType.String)]

        async def stop(_: Any) -> Any:
            self.called.append("stop")

        async def never(_: Any) -> Any:
            self.called.append("never")
            await asyncio.Event().wait()

        level = ua.Argument(Name="level", DataType=ua.NodeId(ua.ObjectIds.Int16))
        factors = ua.Argument(Name="factors", DataType=ua.NodeId(ua.ObjectIds.Double), ValueRank=1)
        outs = [ua.Argument(Name="total", DataType=ua.NodeId(11)), ua.Argument(Name="words", ValueRank=1)]
        for name, work, takes, gives in (
            ("Scale", scale, [level, factors], outs),
            ("Stop", stop, [], []),
            ("Never", never, [], []),
        ):
            node_id = ua.NodeId(f"Motor.{name}", self.index)
            await motor.add_method(node_id, f"{self.index}:{name}", work, takes, gives)

    async def calls(self) -> list[str]:
        return self.called

    async def add_alarm(self, name: str, on: str | None = None) -> None:
        """An alarm condition `name`, told of by the object `on`, else by the server."""
        emitter: Any = self.server.nodes.server
        if on is not None:
            emitter = self.server.get_node(ua.NodeId(on, self.index))
        made = await self.server.get_event_generator(ua.ObjectIds.AlarmConditionType, emitter)
        made.event.NodeId = ua.NodeId(f"alarm {name}", self.index)
        made.event.ConditionName, made.event.SourceName = name, on or "Motor"
        self.alarms[name] = made

    async def alarm(
        self, name: str, active: bool, message: str, severity: int = 900, acked: bool = False
    ) -> None:
        made = self.alarms[name]
        setattr(made.event, "ActiveState/Id", active)
        setattr(made.event, "AckedState/Id", acked)
        made.event.Retain, made.event.Severity = active, severity
        await made.trigger(message=message)

    async def happen(self, message: str, severity: int) -> None:
        """A plain event of the server."""
        made = await self.server.get_event_generator(ua.ObjectIds.SystemEventType)
        made.event.Severity = severity
        await made.trigger(message=message)

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

    async def historize(self, name: str, rows: list[tuple[float, Any, int]]) -> None:
        """Have a past of a node: (value, time, status)."""
        node = self.node(name)
        for attribute in (ua.AttributeIds.AccessLevel, ua.AttributeIds.UserAccessLevel):
            await node.set_attr_bit(attribute, ua.AccessLevel.HistoryRead)
        storage: Any = self.server.iserver.history_manager.storage
        await storage.new_historized_node(node.nodeid, None)
        for value, moment, status in rows:
            held = ua.Variant(value, ua.VariantType.Double)
            await storage.save_node_value(node.nodeid, ua.DataValue(held, ua.StatusCode(status), moment))

    async def remember(self, name: str, moments: list[Any]) -> None:
        """Have a past of a node in which it was what it is."""
        held = (await self.node(name).read_data_value()).Value
        await self.historize(name, [])
        storage: Any = self.server.iserver.history_manager.storage
        for moment in moments:
            await storage.save_node_value(
                self.node(name).nodeid, ua.DataValue(held, ua.StatusCode(0), moment)
            )

    async def count_up(self, names: list[str], to: int, rest_s: float) -> None:
        """Write 1, 2, ... into each of these, in the background."""

        async def work() -> None:
            for number in range(1, to + 1):
                for name in names:
                    await self.set(name, float(number), "Double")
                self.written = number
                await asyncio.sleep(rest_s)

        self.churn = asyncio.create_task(work())

    async def progress(self) -> int:
        return self.written

    async def sessions(self) -> int:
        return len(self.server.iserver.subscription_service.subscriptions)

    async def drop(self) -> None:
        """Close every connection."""
        for protocol in list(self.server.bserver.clients):  # type: ignore[union-attr]
            protocol.transport.abort()

    async def forget(self) -> None:
        """Delete every subscription, as after a timeout."""
        service = self.server.iserver.subscription_service
        await service.delete_subscriptions(list(service.subscriptions))


async def _serve(pipe: Connection, options: dict[str, Any]) -> None:
    plant = PlantServer(options)
    pipe.send((True, (await plant.start(), plant.index)))
    asked: asyncio.Queue[Any] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        with contextlib.suppress(EOFError, OSError):
            asked.put_nowait(pipe.recv())
            return
        loop.remove_reader(pipe.fileno())
        asked.put_nowait(None)

    loop.add_reader(pipe.fileno(), read)
    while (one := await asked.get()) is not None:
        name, args, kwargs = one
        try:
            pipe.send((True, await getattr(plant, name)(*args, **kwargs)))
        except Exception:
            pipe.send((False, traceback.format_exc()))


def main(pipe: Connection, options: dict[str, Any]) -> None:
    asyncio.run(_serve(pipe, options))
