"""The OPC UA simulator: a server for every declared one, with a node for every declared property.

The server is asyncua's; nodes, signals and faults are ours. A relay in front of it brings the line's faults.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from devicemesh_opcua.model import OpcUaAddress, OpcUaEndpoint
from devicemesh_opcua.nodeid import BrowseName, NodeName, Space, parse_node

from devicemesh.spec.values import ValueType, duration_ns
from devicemesh.testing.proxy import Proxy
from devicemesh.testing.simulator import SimulatedDevice, Simulation, Simulator
from devicemesh_simulators.modbus import is_loopback
from devicemesh_simulators.nodes import FAULTS, LEAST_TICK_S, STATUSES, Cell, Faults, room, switched
from devicemesh_simulators.signals import coerced, signal


@dataclass(slots=True, eq=False)
class Plant:
    """One simulated server: what is declared of it, and its life."""

    endpoint: OpcUaEndpoint
    relay: Proxy
    clock: Any
    rng: random.Random
    cells: list[Cell] = field(default_factory=list)
    meanings: dict[str, dict[int, str]] = field(default_factory=dict)  # by device
    roots: dict[str, str] = field(default_factory=dict)
    faults: dict[str, Faults] = field(default_factory=dict)
    shifts: int = 0
    server: Any = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def add(self, device: SimulatedDevice, seed: str) -> None:
        """Take a device's properties in. Raises ValueError where a signal does not fit its address."""
        endpoint = _endpoint(device)
        self.meanings[device.name], self.roots[device.name] = endpoint.namespaces, endpoint.root
        self.faults[device.name] = Faults()
        for point in device.points:
            prop, address = device.properties[point.name], point.address
            if address.attribute != "Value" or self._is_standard(address):
                continue
            try:
                if address.index_range is not None or prop.type == ValueType.JSON:
                    raise ValueError("arrays and structures are not simulated")
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
        await server.start()
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


def _spaces(place: NodeName | tuple[BrowseName, ...]) -> list[Space]:
    return [place.space] if isinstance(place, NodeName) else [step.space for step in place]


class OpcUaSimulation(Simulation):
    """Running servers."""

    def __init__(self) -> None:
        self._addresses: dict[str, str] = {}
        self._plants: dict[str, Plant] = {}  # by device
        self._restarts: set[asyncio.Task[None]] = set()

    @property
    def addresses(self) -> Mapping[str, str]:
        return self._addresses

    def served(self, link: str, plant: Plant) -> None:
        host = f"[{plant.relay.host}]" if ":" in plant.relay.host else plant.relay.host
        self._addresses[link] = f"{host}:{plant.relay.port}"
        self._plants |= dict.fromkeys(plant.faults, plant)

    def fault(self, device: str, fault: str, arguments: Mapping[str, str]) -> str:
        plant = self._plants.get(device)
        if plant is None:
            raise ValueError(f"no simulated device {device}")
        given = next(iter(arguments.values()), None)
        if fault not in FAULTS:
            raise ValueError(f"`{fault}` is no fault of OPC UA: {', '.join(FAULTS)}")
        if given is not None and fault not in ("bad", "delay", "noise"):
            raise ValueError(f"`{fault}` takes no value")
        if fault in ("bad", "noise"):
            plant.faults[device] = switched(plant.faults[device], fault, given)
        elif fault == "delay":
            plant.relay.delay_s = duration_ns(given or "500ms") / 1e9
        elif fault == "unplug":
            plant.relay.hole = True
        elif fault == "heal":
            plant.relay.delay_s, plant.relay.hole = 0.0, False
            plant.faults[device] = Faults()
        else:
            self._break(plant, fault)
        return self._words(plant, device, fault)

    def _break(self, plant: Plant, fault: str) -> None:
        plant.relay.cut()
        if fault == "disconnect":
            return
        plant.shifts += 1

        async def restart() -> None:
            await plant.stop()
            await plant.start()

        task = asyncio.create_task(restart())
        self._restarts.add(task)
        task.add_done_callback(self._restarts.discard)

    async def settled(self) -> None:
        """Until no server is being restarted."""
        while self._restarts:
            await asyncio.gather(*self._restarts, return_exceptions=True)

    def _words(self, plant: Plant, device: str, fault: str) -> str:
        faults = plant.faults[device]
        status = next((name for name, code in STATUSES.items() if code == faults.status), "")
        once = {"shift": "restarts with other namespace indices", "disconnect": "disconnected"}
        parts = [
            once.get(fault, ""),
            f"values are bad: {status}" if status else "",
            f"numbers off by up to {faults.noise * 100:g} %" if faults.noise else "",
            f"everything {plant.relay.delay_s * 1e3:g} ms late" if plant.relay.delay_s else "",
            "silent" if plant.relay.hole else "",
        ]
        return ", ".join(part for part in parts if part) or "healthy"


class OpcUaSimulator(Simulator):
    """Serves OPC UA."""

    protocol = "opcua"

    @contextlib.asynccontextmanager
    async def serve(
        self, devices: Sequence[SimulatedDevice], *, seed: int, host: str
    ) -> AsyncIterator[Simulation]:
        """See `Simulator`. Raises ValueError for what can't be simulated, OSError where it can't listen."""
        simulation = OpcUaSimulation()
        links: dict[str, list[SimulatedDevice]] = {}
        for device in sorted(devices, key=lambda d: d.name):
            links.setdefault(device.endpoint.link(), []).append(device)
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with contextlib.AsyncExitStack() as stack:
            for link, sharing in links.items():
                endpoint = _endpoint(sharing[0])
                at, port = _place(endpoint, host)
                relay = Proxy(host=at, port=port)
                rng = random.Random(f"{seed} {link}")
                plant = Plant(endpoint, relay, lambda: loop.time() - start, rng)
                for device in sharing:
                    plant.add(device, f"{seed}")
                try:
                    await stack.enter_async_context(relay)
                except OSError as error:
                    why = error.strerror or error
                    raise OSError(f"can't listen on {relay.host}:{relay.port}: {why}") from error
                stack.push_async_callback(plant.stop)
                await plant.start()
                simulation.served(link, plant)
            stack.push_async_callback(simulation.settled)
            yield simulation


def _endpoint(device: SimulatedDevice) -> OpcUaEndpoint:
    assert isinstance(device.endpoint, OpcUaEndpoint)
    return device.endpoint


def _place(endpoint: OpcUaEndpoint, host: str) -> tuple[str, int]:
    """Where to listen: a server that is declared on this machine keeps its port, the others get free ones."""
    declared, port = endpoint.address
    if declared.lower() == host:
        return host, port
    if not is_loopback(declared.lower()):
        return host, 0
    return ("127.0.0.1" if declared.lower() == "localhost" else declared) if is_loopback(host) else host, port
