"""Polling: one request for all points of a resource, ETag and Max-Age honoured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from devicemesh.mapper import Batch, PointError, Quality
from devicemesh_coap import status, transfer
from devicemesh_coap.channel import Channel
from devicemesh_coap.message import (
    NOT_ACCEPTABLE,
    UNSUPPORTED_FORMAT,
    VALID,
    Message,
    Option,
    ordered,
    succeeded,
)
from devicemesh_coap.plan import CoapPoint, Resource, resources

_QUALITIES = {
    "NoAnswer": Quality.NO_ANSWER, "Undecodable": Quality.UNDECODABLE, "BadTransfer": Quality.UNDECODABLE,
    "TooLarge": Quality.UNDECODABLE, "Unstable": Quality.UNDECODABLE,
}  # fmt: skip
LONGEST_AGE_S = 86400.0
"""A Max-Age beyond a day is taken as one."""


def quality_of(error: PointError) -> Quality:
    """What an error makes of the points that it concerns."""
    return _QUALITIES.get(error.reason, Quality.REFUSED)


def max_age_s(response: Message, default: float) -> float:
    """For how long a response may be used, in seconds (RFC 7252, 5.10.5)."""
    stated = response.integer(Option.MAX_AGE)
    return default if stated is None else min(float(stated), LONGEST_AGE_S)


@dataclass(slots=True)
class _Held:
    """The latest answer."""

    response: Message
    time_ns: int
    fresh_until: float  # loop time
    etag: bytes | None
    writes: int  # that had been made by then


class Source:
    """One resource of one device, read by requests."""

    def __init__(self, channel: Channel, resource: Resource) -> None:
        self.resource = resource
        self._channel = channel
        self._limits = transfer.Limits.of(resource.endpoint)
        self._cache = resource.endpoint.cache
        self._held: _Held | None = None
        self._quiet_until = 0.0
        self._pause: PointError | None = None
        options, self._body = resource.body()
        self._options = options

    def request(self) -> Message:
        """What to ask now."""
        held = self._held
        if held is None or held.etag is None:
            return Message(self.resource.method, self._options, self._body)
        options = ordered((*self._options, (Option.ETAG, held.etag)))
        return Message(self.resource.method, options, self._body)

    async def read(self) -> list[Batch]:
        """Rows for every point, once. Raises LinkError."""
        now = asyncio.get_running_loop().time()
        held = self._held
        if held is not None and now < held.fresh_until and held.writes == self._channel.writes:
            return self.rows(held.response, held.time_ns)
        if self._pause is not None and now < self._quiet_until:
            return [self.resource.bad(time.time_ns(), Quality.REFUSED, self._pause)]
        try:
            response = await self.ask()
        except PointError as error:
            return [self.resource.bad(time.time_ns(), quality_of(error), error)]
        return self.taken(response)

    async def ask(self) -> Message:
        """The response, whole; in another format where the device does not have the first one.

        Raises PointError, LinkError.
        """
        while True:
            request = self.request()
            response = await transfer.exchanged(self._channel, request, self._limits)
            if not self.other_format(response):
                return response

    def other_format(self, response: Message) -> bool:
        """Whether the device does not have the format, and another one is to be tried."""
        if response.code not in (NOT_ACCEPTABLE, UNSUPPORTED_FORMAT) or not self.resource.next_format():
            return False
        self._options, self._body = self.resource.body()
        return True

    def taken(self, response: Message, *, every: bool = False) -> list[Batch]:
        """The rows of a response; what it says about its age and its like is kept."""
        now, now_ns = asyncio.get_running_loop().time(), time.time_ns()
        held = self._held
        self._pause = None
        if response.code == VALID and held is not None:
            body, etag = held.response, held.etag
        elif succeeded(response.code) and response.code != VALID:
            body, etag = response, response.option(Option.ETAG)
        else:
            return [self._refused(response, now, now_ns)]
        fresh_s = max_age_s(response, 0.0) if self._cache else 0.0
        if fresh_s or etag is not None:
            self._held = _Held(body, now_ns, now + fresh_s, etag, self._channel.writes)
        else:
            self._held = None
        return self.rows(body, now_ns, every=every)

    def rows(self, response: Message, time_ns: int, *, every: bool = False) -> list[Batch]:
        """The rows of a body that came at `time_ns`."""
        form = response.integer(Option.CONTENT_FORMAT)
        if form is None:
            form = self.resource.accept
        return self.resource.decoder.batches(response.payload, form, time_ns, every)

    def _refused(self, response: Message, now: float, now_ns: int) -> Batch:
        self._held = None
        error = status.error(self.resource.where, response)
        if pause_s := status.pause_s(response):
            self._quiet_until, self._pause = now + pause_s, error
        return self.resource.bad(now_ns, status.quality(response.code), error)


class Poller:
    """A reader: each call asks every resource once."""

    def __init__(self, channel: Channel, points: Sequence[CoapPoint]) -> None:
        self._sources = [Source(channel, resource) for resource in resources(points)]

    def __call__(self) -> AsyncIterator[Batch]:
        return self._poll()

    async def _poll(self) -> AsyncIterator[Batch]:
        for source in self._sources:
            for batch in await source.read():
                yield batch
