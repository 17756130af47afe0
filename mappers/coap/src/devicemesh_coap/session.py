"""A live session with a device, and all that its users share."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from devicemesh.mapper import (
    Batch,
    Invocable,
    Invocation,
    Outcome,
    PointError,
    Quality,
    Readable,
    Reader,
    Secrets,
    Subscribable,
    Trace,
    Traceable,
    Writable,
    no_secrets,
)
from devicemesh_coap import status, trace
from devicemesh_coap.call import invoked
from devicemesh_coap.channel import Channel
from devicemesh_coap.message import encode, encode_options, succeeded
from devicemesh_coap.model import CoapAddress, CoapEndpoint
from devicemesh_coap.plan import CoapPoint, resources
from devicemesh_coap.poll import Poller, Source
from devicemesh_coap.subscribe import Subscriber
from devicemesh_coap.udp import open_udp
from devicemesh_coap.write import CoapWrite, Writer


class CoapSession(
    Readable[CoapEndpoint, CoapAddress],
    Subscribable[CoapEndpoint, CoapAddress],
    Writable[CoapEndpoint, CoapAddress],
    Invocable[CoapEndpoint, CoapAddress],
    Traceable[CoapEndpoint, CoapAddress],
):
    """A point is observed unless its address or its endpoint says `mode: poll`."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._writer = Writer(channel)
        self._lost: Counter[str] = Counter()

    def lost(self) -> Mapping[str, int]:
        """See `Session`: superseded (notifications that came, or were whole, after a newer one)."""
        return self._lost

    def reader(self, points: Sequence[CoapPoint]) -> Reader:
        """See `Readable`. Points of one resource share a request."""
        return Poller(self.channel, points)

    def pushes(self, point: CoapPoint) -> bool:
        return (point.address.mode or point.endpoint.mode) == "observe"

    def subscribe(self, points: Sequence[CoapPoint]) -> AsyncGenerator[Batch]:
        """See `Subscribable`. What the device does not let us observe is polled here."""
        return Subscriber(self.channel, points, self._lost).batches()

    async def write(self, writes: Sequence[CoapWrite]) -> Sequence[Outcome]:
        return [await self._writer.write(write) for write in writes]

    async def invoke(self, invocation: Invocation[CoapEndpoint]) -> Mapping[str, Any]:
        return await invoked(self.channel, invocation)

    async def trace(self, point: CoapPoint) -> Trace:
        (resource,) = resources([point])
        source = Source(self.channel, resource)
        response = await source.ask()
        if not succeeded(response.code):
            raise status.error(resource.where, response)
        batch = source.taken(response)[0]
        if batch.error is not None:
            raise PointError(str(batch.error), reason=batch.error.reason)
        body = response.payload or encode_options(response.options)
        return Trace(
            encode(source.request()),
            body,
            trace.part(response.payload, point.address, point),
            list(trace.steps(point, response)),
            batch.value[0],
            Quality(batch.quality if isinstance(batch.quality, int) else batch.quality[0]),
        )


@asynccontextmanager
async def open_channel(endpoint: CoapEndpoint, secrets: Secrets) -> AsyncIterator[Channel]:
    """The channel that the endpoint's URI and credentials ask for. Raises as `open_session` does."""
    async with AsyncExitStack() as stack:
        channel: Channel
        if endpoint.scheme == "coap":
            channel = await stack.enter_async_context(open_udp(endpoint))
        else:
            from devicemesh_coap.aiocoap_channel import open_aiocoap

            channel = await stack.enter_async_context(open_aiocoap(endpoint, secrets))
        if endpoint.oscore is not None:
            from devicemesh_coap.oscore import protected

            channel = await stack.enter_async_context(protected(channel, endpoint, endpoint.oscore, secrets))
        yield channel


@asynccontextmanager
async def open_session(endpoint: CoapEndpoint, secrets: Secrets = no_secrets) -> AsyncIterator[CoapSession]:
    """Connect. Raises `LinkError`, `AuthError`, `ConfigError`."""
    async with open_channel(endpoint, secrets) as channel:
        yield CoapSession(channel)
