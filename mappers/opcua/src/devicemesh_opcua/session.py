"""A live session with a server, and all that its users share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from devicemesh.mapper import (
    Batch,
    Historical,
    Invocable,
    Notification,
    Notifying,
    Outcome,
    PointError,
    Readable,
    Reader,
    Secrets,
    Trace,
    Traceable,
    Writable,
    no_secrets,
)
from devicemesh_opcua import binary, convert, rows, services
from devicemesh_opcua import status as codes
from devicemesh_opcua.connect import connected
from devicemesh_opcua.learn import Learner
from devicemesh_opcua.left import Leavings
from devicemesh_opcua.listen import OpcUaNotifier
from devicemesh_opcua.methods import Call, Caller
from devicemesh_opcua.model import OpcUaAddress, OpcUaEndpoint, OpcUaPoint
from devicemesh_opcua.past import Historian, OpcUaGap
from devicemesh_opcua.poll import Poller
from devicemesh_opcua.publish import Publisher
from devicemesh_opcua.server import ATTRIBUTES, Server
from devicemesh_opcua.services import ServiceFaultError
from devicemesh_opcua.subscribe import Subscriber
from devicemesh_opcua.trace import steps
from devicemesh_opcua.write import OpcUaWrite, Writer


class OpcUaSession(
    Readable[OpcUaEndpoint, OpcUaAddress],
    Notifying[OpcUaEndpoint, OpcUaAddress],
    Historical[OpcUaEndpoint, OpcUaAddress],
    Writable[OpcUaEndpoint, OpcUaAddress],
    Invocable[OpcUaEndpoint, OpcUaAddress],
    Traceable[OpcUaEndpoint, OpcUaAddress],
):
    """An activated session. A point is subscribed unless its endpoint says `mode: poll`."""

    def __init__(self, server: Server, leavings: Leavings | None = None) -> None:
        self.server = server
        self._leavings = leavings
        self._publisher = Publisher(server)
        self._learner = Learner(server)
        self._writer = Writer(server, self._learner)
        self._caller = Caller(server, self._learner)

    def lost(self) -> Mapping[str, int]:
        """See `Session`: server_queue, event_queue (overflows), history (cut off), unknown_item."""
        return self.server.lost

    def reader(self, points: Sequence[OpcUaPoint]) -> Reader:
        """See `Readable`. The nodes are looked up at the first call, with I/O of the reader's own."""
        return Poller(points, self.server, self._learner)

    def pushes(self, point: OpcUaPoint) -> bool:
        return point.endpoint.mode == "subscribe"

    def subscribe(
        self, points: Sequence[OpcUaPoint], notifiers: Sequence[OpcUaNotifier] = ()
    ) -> AsyncGenerator[Batch | Notification]:
        """See `Notifying`. What the server refuses is offered to it again every minute."""
        return Subscriber(
            self.server, self._publisher, self._learner, points, notifiers, self._leavings
        ).batches()

    def history(self, gaps: Sequence[OpcUaGap]) -> AsyncIterator[Batch]:
        """See `Historical`. Nodes whose AccessLevel has no HistoryRead yield nothing."""
        return Historian(self.server, self._learner).read(gaps)

    async def invoke(self, invocation: Call) -> Mapping[str, Any]:
        return await self._caller.invoke(invocation)

    async def write(self, writes: Sequence[OpcUaWrite]) -> Sequence[Outcome]:
        return [await self._writer.write(write) for write in writes]

    async def trace(self, point: OpcUaPoint) -> Trace:
        found = (await self.server.resolve([point]))[point.slot]
        if isinstance(found, PointError):
            raise found
        item = services.item(found.encoded, ATTRIBUTES[point.address.attribute], point.address.index_range)
        request = services.read_request([item], services.SOURCE_TIMESTAMPS)
        try:
            body = await self.server.ask(services.READ_REQUEST, request)
            at = services.read_response(body, 1)
            held, status, ticks, end = binary.data_value(body, at)
        except ServiceFaultError as fault:
            self.server.check(fault)
            raise codes.error(self.server.link, fault.status) from fault
        except binary.DecodeError as error:
            raise self.server.senseless(error) from error
        words, _ = await self._learner.words([(point, found)])
        want = convert.Want(point.type, point.address.single, words.get(point.slot))
        value, quality = rows.single(self.server.link, held, status, want, self.server.types)
        if self.server.types.missing:
            await self._learner.structures()
            value, quality = rows.single(self.server.link, held, status, want, self.server.types)
        told = list(steps(found, point.address, held, status, ticks))
        return Trace(request, body, body[at:end], told, value, quality)


@asynccontextmanager
async def open_session(
    endpoint: OpcUaEndpoint, secrets: Secrets = no_secrets, leavings: Leavings | None = None
) -> AsyncIterator[OpcUaSession]:
    """Connect. `leavings` is where a session that gets lost leaves its subscriptions to the next one.

    Raises `LinkError`, `AuthError`, `ConfigError`.
    """
    async with connected(endpoint, secrets) as connection:
        server = Server(connection, endpoint)
        await server.learn()
        watch = asyncio.create_task(server.watch(), name=f"watch {endpoint.link()}")
        try:
            yield OpcUaSession(server, leavings)
        finally:
            watch.cancel()
            await asyncio.wait({watch})
