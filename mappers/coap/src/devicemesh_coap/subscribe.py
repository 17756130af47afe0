"""Observations: the device sends what changes (RFC 7641).

A resource is registered by a GET that also reads it. A device that does not take the registration is thereby
polled, and is asked again with each poll. An observation that is silent for longer than its Max-Age is
registered anew; where that is not answered, its points turn bad.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Sequence

from devicemesh.mapper import Batch, PointError
from devicemesh.spec.values import duration_ns
from devicemesh_coap import status, transfer
from devicemesh_coap.channel import Channel
from devicemesh_coap.message import LATEST_DEFAULT_S, VALID, Message, Option, succeeded
from devicemesh_coap.plan import CoapPoint, Resource, resources
from devicemesh_coap.poll import Source, max_age_s, quality_of

REORDER_S = 128.0
"""A notification that comes this long after another one is newer, whatever its number (RFC 7641, 3.4)."""
HALF = 1 << 23
GRACE_S = (5.0, 15.0)
"""How much later than its Max-Age a notification may come (RFC 7641, 3.3.1)."""
RETRY_S = 30.0
"""After which a resource that the device refused is asked for again."""


def is_newer(last: int, number: int, seconds: float) -> bool:
    """Whether a notification is newer than the last one, which came `seconds` ago (RFC 7641, 3.4)."""
    ahead = number - last
    return 0 < ahead < HALF or ahead < -HALF or seconds > REORDER_S


class Watch:
    """One resource, observed or polled."""

    def __init__(
        self,
        channel: Channel,
        resource: Resource,
        out: deque[Batch],
        wake: asyncio.Event,
        lost: Counter[str],
    ) -> None:
        """`lost` counts, by reason, the rows of notifications that were left out."""
        self.due = 0.0  # loop time of the next registration
        self._channel = channel
        self._resource = resource
        self._source = Source(channel, resource)
        self._limits = transfer.Limits.of(resource.endpoint)
        self._longest_s = duration_ns(resource.endpoint.reregister) / 1e9
        self._out = out
        self._wake = wake
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._token = b""
        self._request = Message(0)
        self._number = 0
        self._heard = -REORDER_S * 2
        self._registering = False  # the next answer is the newest, whatever its number
        self._part: Message | None = None  # the first block of a notification
        self._taken_in = 0  # notifications

    async def refresh(self) -> None:
        """Register, or register anew; or fetch what a notification has begun. Raises LinkError."""
        part, self._part = self._part, None
        try:
            if part is not None:
                await self._fetch(part)
            else:
                await self._register()
        except PointError as error:
            now = self._loop.time()
            silent_s = now - self._heard
            if self._token and error.reason == "NoAnswer":
                why = f"{self._resource.where} has sent nothing for {silent_s:.0f} s, and now: {error}"
                error = PointError(why, reason="NoAnswer")
            self._out.append(self._resource.bad(time.time_ns(), quality_of(error), error))
            self.due = now + max(RETRY_S if error.reason == "Refused" else 0.0, self._resource.interval_s)
        self._wake.set()

    async def _fetch(self, part: Message) -> None:
        """The rest of a notification. Raises PointError, LinkError.

        Where the next one has come meanwhile it is left out: it would come after a newer one, or what was
        fetched may be of the newer one, as only an ETag tells.
        """
        turn = self._taken_in
        try:
            whole = await transfer.completed(self._channel, self._request, part, self._limits)
        except PointError:
            if turn == self._taken_in:
                raise
            self._superseded()
            return
        if turn != self._taken_in and (self._part is None or whole.option(Option.ETAG) is None):
            self._superseded()
            return
        self._take(whole)
        if self._part is not None:
            self.due = 0.0

    def _superseded(self) -> None:
        self._lost["superseded"] += len(self._resource.points)

    async def _register(self) -> None:
        while True:
            request = self._source.request()
            self._request = Message(request.code, request.having((Option.OBSERVE, b"")), request.payload)
            self._registering = True
            try:
                first, token = await self._channel.observe(self._request, self._notified, self._token)
            finally:
                self._registering = False
            if first.option(Option.OBSERVE) is not None:  # and so it has been taken already
                self._token = token
                return
            self._token = b""
            response = await transfer.completed(self._channel, self._request, first, self._limits)
            if not self._source.other_format(response):
                self._take(response, observed=False)
                return

    def _notified(self, message: Message) -> None:
        """A notification; this is the hot path: it becomes columns at once."""
        now = self._loop.time()
        number = message.integer(Option.OBSERVE)
        if self._registering:
            self._registering = False
        elif number is not None and not is_newer(self._number, number, now - self._heard):
            if number != self._number:  # else it is a copy
                self._superseded()
            return
        self._heard = now
        self._taken_in += 1
        if number is not None:
            self._number = number
        if message.flaw:
            error = PointError(f"{self._resource.where} sends {message.flaw}", reason="Undecodable")
            self._out.append(self._resource.bad(time.time_ns(), quality_of(error), error))
        elif message.option(Option.BLOCK2) is not None and message.block(Option.BLOCK2).more:  # type: ignore[union-attr]
            self._part, self.due = message, 0.0
        else:
            self._take(message, observed=number is not None)
        self._wake.set()

    def _take(self, response: Message, *, observed: bool = True) -> None:
        """The rows of an answer, and when to ask again."""
        self._out.extend(self._source.taken(response, every=True))
        now = self._loop.time()
        if succeeded(response.code) and observed:
            age_s = min(max_age_s(response, LATEST_DEFAULT_S), self._longest_s)
            self.due = now + age_s + min(random.uniform(*GRACE_S), max(age_s, 0.1))
            return
        self.end()
        wait_s = self._resource.interval_s
        if succeeded(response.code) or response.code == VALID:
            wait_s = max(wait_s, max_age_s(response, 0.0) if self._resource.endpoint.cache else 0.0)
        else:
            wait_s = max(wait_s, status.pause_s(response) or RETRY_S)
        self.due = now + wait_s

    def end(self) -> None:
        """The device has ended the observation, or we do."""
        if self._token:
            self._channel.forget(self._token, self._request)
            self._token = b""


class Subscriber:
    """All that one set of points observes."""

    def __init__(self, channel: Channel, points: Sequence[CoapPoint], lost: Counter[str]) -> None:
        self._channel = channel
        self._keep_alive_s = duration_ns(points[0].endpoint.keep_alive) / 1e9 if points else 60.0
        self._out: deque[Batch] = deque()
        self._wake = asyncio.Event()
        self._again = asyncio.Event()
        self.watches = [Watch(channel, one, self._out, self._wake, lost) for one in resources(points)]

    async def batches(self) -> AsyncGenerator[Batch]:
        """Register, then yield what comes. Raises LinkError."""
        keeper = asyncio.create_task(self._keep(), name=f"observe {self._channel.link}")
        keeper.add_done_callback(lambda _: self._wake.set())
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                if any(not watch.due for watch in self.watches):
                    self._again.set()
                while self._out:
                    yield self._out.popleft()
                if keeper.done():
                    keeper.result()
        finally:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({keeper})
            for watch in self.watches:
                watch.end()

    async def _keep(self) -> None:
        """Ask each resource when it is due, and see that the device is there. Raises LinkError."""
        loop = asyncio.get_running_loop()
        while True:
            due = min((watch.due for watch in self.watches), default=loop.time() + self._keep_alive_s)
            alive = self._channel.last_heard + self._keep_alive_s
            wait_s = min(due, alive) - loop.time()
            if wait_s > 0:
                self._again.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._again.wait()
            elif alive < due:
                await self._channel.ping()
            else:
                await min(self.watches, key=lambda watch: watch.due).refresh()
            if self._channel.lost is not None:
                raise self._channel.lost
