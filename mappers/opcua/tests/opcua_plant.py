"""asyncua's server in a process of its own, told over a pipe what to be; forked with its standard nodes loaded.

Loading those nodes takes seconds. This module is preloaded by multiprocessing's fork server, so that each
test has a fresh server, that it may kill, in a tenth of one.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from asyncua import Server, ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.address_space import AddressSpace, NodeManagementService
from asyncua.server.internal_server import InternalServer
from asyncua.server.internal_session import InternalSession
from asyncua.server.standard_address_space import standard_address_space
from opcua_plant_types import PLANT, Types

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


def keep_to(most: int) -> None:
    """Refuse more operations in one request, and do not tell so before."""

    def kept(plain: Any, listed: Callable[[Any], Any]) -> Any:
        async def work(session: Any, asked: Any, *more: Any) -> Any:
            if len(listed(asked)) > most:
                raise ua.UaStatusCodeError(ua.StatusCodes.BadTooManyOperations)
            return await plain(session, asked, *more)

        return work

    for name, listed in {
        "read": lambda asked: asked.NodesToRead,
        "create_monitored_items": lambda asked: asked.ItemsToCreate,
        "translate_browsepaths_to_nodeids": lambda asked: asked,
    }.items():
        setattr(InternalSession, name, kept(getattr(InternalSession, name), listed))


class PlantServer(Types):
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
        if most := options.get("most"):
            keep_to(most)
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
    logging.disable(logging.CRITICAL)  # here, and not where a test imports this module
    asyncio.run(_serve(pipe, options))
