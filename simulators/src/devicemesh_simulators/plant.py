"""One simulated OPC UA server: a node for every declared property, the methods, alarms and past declared."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from devicemesh_opcua.model import OpcUaAddress, OpcUaEndpoint, OpcUaMethod
from devicemesh_opcua.nodeid import BrowseName, NodeName, Space, identifier_text, parse_node

from devicemesh.spec.values import ValueType, duration_ns
from devicemesh.testing.proxy import Proxy
from devicemesh.testing.signals import coerced, signal
from devicemesh.testing.simulator import SimulatedDevice
from devicemesh_simulators.nodes import LEAST_TICK_S, Cell, Faults, room
from devicemesh_simulators.offers import (
    Offers,
    arguments,
    keep_past,
    method,
    prepare_alarm,
    result,
)


@dataclass(slots=True, eq=False)
class Plant:
    """One simulated server: what is declared of it, and its life."""

    endpoint: OpcUaEndpoint
    relay: Proxy
    clock: Any
    rng: random.Random
    cells: list[Cell] = field(default_factory=list)
    offers: dict[str, Offers] = field(default_factory=dict)  # by device
    publish_delay_s: float = 0.0
    meanings: dict[str, dict[int, str]] = field(default_factory=dict)  # by device
    roots: dict[str, str] = field(default_factory=dict)
    faults: dict[str, Faults] = field(default_factory=dict)
    shifts: int = 0
    server: Any = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def add(self, device: SimulatedDevice, seed: str) -> None:
        """Take a device's properties in. Raises ValueError where a signal does not fit its address."""
        endpoint = endpoint_of(device)
        self.meanings[device.name], self.roots[device.name] = endpoint.namespaces, endpoint.root
        self.faults[device.name] = Faults()
        self.offers[device.name] = Offers(device)
        for point in device.points:
            prop, address = device.properties[point.name], point.address
            if address.attribute != "Value" or self._is_standard(address):
                continue
            try:
                if address.index_range is not None:
                    raise ValueError("arrays and structures are not simulated")
                if prop.type == ValueType.JSON:
                    prop = prop.model_copy(update={"type": _any_type(prop.simulation.value)})
                for space in _spaces(address.place()):
                    self._uri(device.name, space)
                holds = room(address, prop.type)
                rng = random.Random(f"{seed} {device.name} {prop.name}")
                shape = signal(prop, holds, device.folder, rng)
            except ValueError as error:
                raise ValueError(f"{device.name}: {prop.name}: {error}") from error
            period_s = max(duration_ns(prop.telemetry.sampling_interval) / 1e9, LEAST_TICK_S)
            self.cells.append(Cell(device.name, prop, address, holds, shape, period_s))

    @staticmethod
    def _is_standard(address: OpcUaAddress) -> bool:
        """Whether the node is one that every server has."""
        place = address.place()
        return isinstance(place, NodeName) and place.space == 0

    def _uri(self, device: str, space: Space) -> str | None:
        """The namespace that is meant; None: the standard's. Raises ValueError."""
        if isinstance(space, str):
            return space
        if space == 0:
            return None
        uri = self.meanings[device].get(space)
        if uri is None:
            raise ValueError(f"ns={space} has no meaning: say which in the endpoint's `namespaces`")
        return uri

    async def start(self) -> None:
        """Build the server anew and let callers through."""
        import asyncua
        from asyncua.common.callback import CallbackType

        ua = _ua()

        logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)
        server: Any = asyncua.Server()  # type: ignore[attr-defined]
        self.server = server
        server.iserver.bind_condition_methods = True
        await server.init()
        server.set_endpoint(self._url())
        server.socket_address = ("127.0.0.1", 0)
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        server.set_server_name("DeviceMesh simulator")
        for number in range(self.shifts):
            await server.register_namespace(f"urn:devicemesh:shift:{number}")
        for cell in self.cells:
            await self._build(cell)
        await self._put(self.cells)
        for offers in self.offers.values():
            await self._offer(offers)
        self._slow_publishing()
        await server.start()
        await keep_past(server, self.cells)
        server.subscribe_server_callback(CallbackType.PostWrite, self._on_write)
        self.relay.target = server.bserver._server.sockets[0].getsockname()[:2]
        periods: dict[float, list[Cell]] = {}
        for cell in self.cells:
            periods.setdefault(cell.period_s, []).append(cell)
        self._tasks = [asyncio.create_task(self._move(p, cells)) for p, cells in periods.items()]

    def _url(self) -> str:
        host = f"[{self.relay.host}]" if ":" in self.relay.host else self.relay.host
        path = "/" + self.endpoint.full_url.partition("://")[2].partition("/")[2]
        return f"opc.tcp://{host}:{self.relay.port}{path}"

    async def stop(self) -> None:
        """End the server; callers are sent away."""
        self.relay.target = None
        self.relay.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.server is not None:
            with contextlib.suppress(Exception):
                await self.server.stop()

    async def _build(self, cell: Cell) -> None:
        """The node of a property, and the objects on the way to it."""
        ua = _ua()

        place = cell.address.place()
        held = ua.Variant(cell.now(self.clock()), getattr(ua.VariantType, cell.kind))
        if isinstance(place, NodeName):
            node_id = await self._node_id(cell.device, place)
            name = str(place.identifier)
            parent, browse_name = self.server.nodes.objects, f"{node_id.NamespaceIndex}:{name}"
            existing = self.server.get_node(node_id)
            if await _exists(existing):
                cell.node = existing
                return
        else:
            parent = await self._root(cell.device)
            for step in place[:-1]:
                parent = await self._object(parent, cell.device, step)
            index = await self._index(cell.device, place[-1].space)
            node_id, browse_name = ua.NodeId(0, index), f"{index}:{place[-1].name}"
        cell.node = await parent.add_variable(node_id, browse_name, held)
        if cell.prop.access != "ReadOnly":
            await cell.node.set_writable()

    async def _offer(self, offers: Offers) -> None:
        """The methods and the alarm of a device."""
        ua = _ua()
        device = offers.device.name
        offers.alarms.clear()
        for command, address in offers.device.calls.values():
            place = address.place()
            parent = await self._owner(device, address)
            if isinstance(place, NodeName):
                node_id = await self._node_id(device, place)
                name = f"{node_id.NamespaceIndex}:{identifier_text(place.identifier)}"
            else:
                index = await self._index(device, place[-1].space)
                node_id, name = ua.NodeId(0, index), f"{index}:{place[-1].name}"
            work = method(ua, offers, command, functools.partial(self._called, device))
            await parent.add_method(node_id, name, work, arguments(ua, command), result(ua))
        for address in offers.device.events.values():
            notifier = await self._base(device, address.place())
            await prepare_alarm(ua, self.server, offers, notifier, address)

    async def _called(self, device: str, name: str, value: Any) -> None:
        """A method was given a value for this property."""
        for cell in self.cells:
            if (cell.device, cell.prop.name) == (device, name):
                cell.written = value
                await self._put([cell])

    async def _owner(self, device: str, address: OpcUaMethod) -> Any:
        """The object of a method, made where it is not there."""
        base, owner = address.base(), address.owner()
        parent = await (self._root(device) if base is None else self._base(device, base))
        for step in owner if isinstance(owner, tuple) else ():
            parent = await self._object(parent, device, step)
        return parent

    async def _base(self, device: str, name: NodeName) -> Any:
        """An object by its NodeId; it is made where it is not there."""
        node = self.server.get_node(await self._node_id(device, name))
        if await _exists(node):
            return node
        label = f"{node.nodeid.NamespaceIndex}:{identifier_text(name.identifier)}"
        return await self.server.nodes.objects.add_object(node.nodeid, label)

    def _slow_publishing(self) -> None:
        """Let every message of a subscription be as late as `publish_delay_s` says at its time."""
        service = self.server.iserver.subscription_service
        create = service.create_subscription

        async def created(parameters: Any, callback: Any, *more: Any, **named: Any) -> Any:
            async def late(*result: Any) -> None:
                await asyncio.sleep(self.publish_delay_s)
                await callback(*result)

            return await create(parameters, late, *more, **named)

        service.create_subscription = created

    async def drop_sessions(self) -> None:
        """End every session; the connections stay."""
        for protocol in list(self.server.bserver.clients):
            session = protocol.processor.session
            if session is not None:
                await session.close_session(True)

    async def _index(self, device: str, space: Space) -> int:
        uri = self._uri(device, space)
        return 0 if uri is None else int(await self.server.register_namespace(uri))

    async def _node_id(self, device: str, name: NodeName) -> Any:
        ua = _ua()

        return ua.NodeId(name.identifier, await self._index(device, name.space))

    async def _root(self, device: str) -> Any:
        """The object that the device's paths begin at; it is made where it is not there."""
        node_id = await self._node_id(device, parse_node(self.roots[device]))
        node = self.server.get_node(node_id)
        if await _exists(node):
            return node
        label = device.partition("/")[2]
        return await self.server.nodes.objects.add_object(node_id, f"{node_id.NamespaceIndex}:{label}")

    async def _object(self, parent: Any, device: str, step: BrowseName) -> Any:
        index = await self._index(device, step.space)
        for child in await parent.get_children():
            found = await child.read_browse_name()
            if (found.NamespaceIndex, found.Name) == (index, step.name):
                return child
        return await parent.add_object(index, step.name)

    def _on_write(self, event: Any, _: Any) -> None:
        """A client has written: the signal of that property is over."""
        ua = _ua()

        if not event.is_external:
            return
        for wanted, status in zip(event.request_params.NodesToWrite, event.response_params, strict=False):
            if wanted.AttributeId == ua.AttributeIds.Value and status.is_good():
                for cell in self.cells:
                    if cell.node is not None and cell.node.nodeid == wanted.NodeId:
                        cell.written = wanted.Value.Value.Value

    async def _move(self, period_s: float, cells: Sequence[Cell]) -> None:
        while True:
            await asyncio.sleep(period_s)
            await self._put(cells)

    async def _put(self, cells: Sequence[Cell]) -> None:
        """Give nodes their values of now."""
        ua = _ua()
        seconds, moment = self.clock(), datetime.now(UTC)
        for cell in cells:
            faults = self.faults[cell.device]
            value = cell.written if cell.written is not None else cell.now(seconds)
            if faults.noise and cell.prop.type.is_number and isinstance(value, int | float):
                noisy = value * (1 + self.rng.uniform(-faults.noise, faults.noise))
                value = coerced(noisy, cell.address.type or cell.prop.type, cell.room)
            held = ua.Variant(value, getattr(ua.VariantType, cell.kind))
            shown = ua.DataValue(held, ua.StatusCode(faults.status), moment)
            await self.server.write_attribute_value(cell.node.nodeid, shown)


def _ua() -> Any:
    """asyncua's types; loaded when something is simulated."""
    from asyncua import ua

    return ua


async def _exists(node: Any) -> bool:
    ua = _ua()

    try:
        await node.read_node_class()
    except ua.UaStatusCodeError:
        return False
    return True


def _any_type(value: object) -> ValueType:
    """Of a node of which nothing is declared but, perhaps, a value: else a number will do."""
    if isinstance(value, bool):
        return ValueType.BOOL
    return ValueType.STRING if isinstance(value, str) else ValueType.FLOAT64


def _spaces(place: NodeName | tuple[BrowseName, ...]) -> list[Space]:
    return [place.space] if isinstance(place, NodeName) else [step.space for step in place]


def endpoint_of(device: SimulatedDevice) -> OpcUaEndpoint:
    assert isinstance(device.endpoint, OpcUaEndpoint)
    return device.endpoint
