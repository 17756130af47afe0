"""Listening to notifiers: their event items, and the refresh that tells what stands (Part 9, 5.5.7)."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeAlias

from devicemesh.mapper import Notification, Notifier, Occurrence, PointError
from devicemesh_opcua import binary, methods, services
from devicemesh_opcua import events as wire
from devicemesh_opcua import status as codes
from devicemesh_opcua.binary import DecodeError
from devicemesh_opcua.channel import ua
from devicemesh_opcua.events import Event
from devicemesh_opcua.model import OpcUaEndpoint
from devicemesh_opcua.nodeid import NodeName
from devicemesh_opcua.server import Node, Server, Wanted
from devicemesh_opcua.services import ServiceFaultError

OpcUaNotifier: TypeAlias = Notifier[OpcUaEndpoint]
FIRST_HANDLE = 0xF000_0000
MARKER = 0xFFFF_FFFE
"""The handle of an item on the Server object, which tells where a refresh begins and ends."""
PUBLISHING_MS = 500.0
QUEUE = 1000
"""Events of an item that wait at the server between two messages."""
REFRESH_S = 10.0
"""How long the end of a refresh is waited for."""
_SERVER = Node(0, 2253)
_CONDITION_TYPE, _CONDITION_REFRESH = Node(0, 2782), Node(0, 3875)
_EVENT_NOTIFIER, _BROWSE_NAME, _UINT32 = 12, 3, 7


def event_filter() -> Any:
    """Which fields of events are sent (Part 4, 7.22.3).

    The server is not asked to leave out what is not severe: a condition may end with another severity than
    it began with.
    """
    return ua.EventFilter(SelectClauses=[_operand(one) for one in wire.CLAUSES])


def _operand(one: wire.Clause) -> Any:
    return ua.SimpleAttributeOperand(
        TypeDefinitionId=ua.NodeId(one.type_id),
        BrowsePath=[ua.QualifiedName(name, 0) for name in one.path],
        AttributeId=ua.AttributeIds(one.attribute),
    )


def item(node: Node, handle: int) -> Any:
    """The request to monitor a notifier's events."""
    return ua.MonitoredItemCreateRequest(
        ItemToMonitor=ua.ReadValueId(NodeId=node.foreign, AttributeId=ua.AttributeIds(_EVENT_NOTIFIER)),
        MonitoringMode=ua.MonitoringMode.Reporting,
        RequestedParameters=ua.MonitoringParameters(
            ClientHandle=handle,
            SamplingInterval=0.0,
            Filter=event_filter(),
            QueueSize=QUEUE,
            DiscardOldest=True,
        ),
    )


class Listener:
    """The notifiers of one subscription."""

    def __init__(self, server: Server, notifiers: Sequence[OpcUaNotifier], lost: Counter[str]) -> None:
        self._server = server
        self._lost = lost
        self._by_handle = {FIRST_HANDLE + i: one for i, one in enumerate(notifiers)}
        self.heard: set[int] = set()  # handles that the server has taken
        self._standing: dict[int, list[Occurrence]] = {}  # what a refresh has told so far, while it lasts
        self._begun: set[int] = set()  # those that had a beginning of their own
        self._types: dict[NodeName, str] = {}
        self.subscription = 0
        self.due = math.inf  # loop time at which a refresh has failed

    async def resume(self, subscription: int, heard: frozenset[int]) -> list[Notification]:
        """Go on with the items of a session that was lost, and ask what stands. Raises LinkError."""
        self.subscription = subscription
        self.heard = set(heard)
        return await self._refresh() if heard else []

    @property
    def refused(self) -> bool:
        """Whether some notifier is not heard."""
        return len(self.heard) < len(self._by_handle)

    async def listen(self, subscription: int) -> list[Notification]:
        """Monitor those that are not heard yet, and ask what stands. Raises LinkError."""
        self.subscription = subscription
        todo = {handle: one for handle, one in self._by_handle.items() if handle not in self.heard}
        found = await self._server.find({h: Wanted(n.address.place(), n.endpoint) for h, n in todo.items()})
        said: list[Notification] = []
        located: dict[int, Node] = {}
        for handle, node in found.items():
            if isinstance(node, PointError):
                said.append(Notification(todo[handle], error=node))
            else:
                located[handle] = node
        said += await self._monitor(located)
        if located.keys() & self.heard:
            said += await self._refresh()
        return said

    async def _monitor(self, located: dict[int, Node]) -> list[Notification]:
        """Create the items; the marker comes last, so that its end is the end of all."""
        items = [item(node, handle) for handle, node in located.items()]
        if any(node != _SERVER for node in located.values()):
            items.append(item(_SERVER, MARKER))
        said = []
        statuses = await self._create(items)
        statuses.pop(MARKER, None)
        for handle, status in statuses.items():
            if status >> 31:
                error = codes.error(self._server.link, status)
                said.append(Notification(self._by_handle[handle], error=error))
            else:
                self.heard.add(handle)
        return said

    async def _create(self, items: Sequence[Any]) -> dict[int, int]:
        """CreateMonitoredItems; the status of each, by handle."""
        handles = [one.RequestedParameters.ClientHandle for one in items]
        statuses: list[int] = []
        step = self._server.limits.monitor
        for start in range(0, len(items), step):
            part = items[start : start + step]
            statuses += await self._server.monitor(self.subscription, services.SOURCE_TIMESTAMPS, part)
        return dict(zip(handles, statuses, strict=True))

    async def _refresh(self) -> list[Notification]:
        """Have everything told that stands; where the server can't, that nothing is known of it."""
        server = self._server
        self._standing = {handle: [] for handle in self.heard}
        self._begun.clear()
        self.due = asyncio.get_running_loop().time() + REFRESH_S
        number = binary.encode_variant(_UINT32, self.subscription)
        request = methods.call_request(_CONDITION_TYPE.encoded, _CONDITION_REFRESH.encoded, [number])
        try:
            status = methods.call_response(await server.ask(methods.CALL_REQUEST, request)).status
        except ServiceFaultError as fault:
            server.check(fault)
            status = fault.status
        except (PointError, DecodeError):
            status = codes.BAD_TIMEOUT
        return self.expire() if status >> 31 else []

    def expire(self) -> list[Notification]:
        """The refresh has not ended, and will not: what it has told is as good as any event."""
        told = [Notification(self._by_handle[handle], found) for handle, found in self._standing.items()]
        self._standing.clear()
        self.due = math.inf
        return told

    async def take(self, notifications: Sequence[bytes]) -> list[Notification]:
        """What a message of the subscription says. Raises LinkError, DecodeError.

        A refresh ends with the message that says so: servers order events by item, not by time.
        """
        said: list[Notification] = []
        over: list[int] = []
        again = False
        for event in (one for body in notifications for one in wire.events(body)):
            if event.is_a(wire.REFRESH_START):
                self._begun.add(event.handle)
            elif event.is_a(wire.REFRESH_END):
                over.append(event.handle)
            elif event.is_a(wire.REFRESH_REQUIRED) or event.is_a(wire.OVERFLOW):
                self._lost["event_queue"] += event.is_a(wire.OVERFLOW)
                again = True
            elif (notifier := self._by_handle.get(event.handle)) and _is_meant(event, notifier):
                told = wire.occurrence(event, await self._name(event.type))
                if event.is_condition and event.handle in self._standing:
                    self._standing[event.handle].append(told)
                else:
                    said.append(Notification(notifier, [told]))
        for handle in over:
            said += self._ended(handle)
        return said + (await self._refresh() if again else [])

    def _ended(self, handle: int) -> list[Notification]:
        """A refresh is through: for one item, or by the marker for all that had no beginning of their own."""
        over = [handle] if handle != MARKER else [one for one in self._standing if one not in self._begun]
        said = []
        for one in over:
            if one in self._standing:
                found = wire.collected(self._standing.pop(one))
                said.append(Notification(self._by_handle[one], found, standing=True))
        if not self._standing:
            self.due = math.inf
        return said

    async def _name(self, kind: NodeName | None) -> str:
        """What a type of events is called."""
        if kind is None:
            return "event"
        if kind not in self._types:
            node = Node(kind.space if isinstance(kind.space, int) else 0, kind.identifier)
            self._types[kind] = kind.text
            try:
                ((held, _, _),) = await self._server.read([services.item(node.encoded, _BROWSE_NAME, None)])
                self._types[kind] = held.value if isinstance(held.value, str) else kind.text
            except (PointError, ServiceFaultError):
                pass
        return self._types[kind]


def _is_meant(event: Event, notifier: OpcUaNotifier) -> bool:
    """Whether an event is one that the notifier's declaration asks for; the end of a condition always is."""
    where = notifier.address
    if event.is_branch or (where.source_name is not None and event.value("source") != where.source_name):
        return False
    level = event.value("severity")
    return not isinstance(level, int) or level >= where.least_severity or wire.state(event) == "cleared"
