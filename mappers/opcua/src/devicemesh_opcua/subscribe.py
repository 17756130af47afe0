"""Subscriptions: the server samples and sends what changes (Part 4, 5.12 and 5.13)."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from devicemesh.mapper import Batch, LinkError, Notification, PointError, Quality
from devicemesh_opcua import rows, services
from devicemesh_opcua import status as codes
from devicemesh_opcua.binary import DecodeError
from devicemesh_opcua.channel import ua
from devicemesh_opcua.learn import Learner
from devicemesh_opcua.left import LIFETIME_S, Leavings, Left, Subscription
from devicemesh_opcua.listen import PUBLISHING_MS, Listener, OpcUaNotifier
from devicemesh_opcua.model import OpcUaPoint
from devicemesh_opcua.publish import Publisher
from devicemesh_opcua.resume import LAST_SEQUENCE, MAX_MISSING, following, transfer
from devicemesh_opcua.sampling import Group, data_filter, groups, queue_size, sampling_ms
from devicemesh_opcua.server import ATTRIBUTES, TIMESTAMPS, Node, Server
from devicemesh_opcua.services import Published, ServiceFaultError

RETRY_S = 60.0
"""After which a point that the server refused is offered again."""
KEEP_ALIVE_S = 5.0
"""How often a subscription without changes says that it lives."""
MAX_SILENCE_S = 600.0
EVENTS = "events"
"""In place of timestamps: the subscription of notifiers, which takes no points."""
_NO_FILTER = {0x80430000, 0x80440000, 0x80450000, 0x808E0000}
"""BadMonitoredItemFilterInvalid, ...Unsupported, BadFilterNotAllowed, BadDeadbandFilterInvalid."""


def _silence(revised_ms: float, keep_alive: int, wanted_ms: float) -> float:
    """Seconds between two messages at most, as the server says it; no server makes us wait for ever."""
    interval_ms = revised_ms if wanted_ms <= revised_ms < math.inf else wanted_ms
    return min(interval_ms * max(keep_alive, 1) / 1000, MAX_SILENCE_S)


class Subscriber:
    """The subscriptions of one set of points."""

    def __init__(
        self,
        server: Server,
        publisher: Publisher,
        learner: Learner,
        points: Sequence[OpcUaPoint],
        notifiers: Sequence[OpcUaNotifier] = (),
        leavings: Leavings | None = None,
    ) -> None:
        """`leavings` has what lost sessions of this mapper have left at their servers."""
        self._server = server
        self._publisher = publisher
        self._learner = learner
        self._points = points
        self._notifiers = notifiers
        self._leavings = Leavings() if leavings is None else leavings
        self._silent: set[int] = set()  # slots of which a subscription that was taken over has said nothing
        self._prove_at = math.inf  # loop time by which it must have
        self._live: dict[int, Subscription] = {}
        self._refused: list[OpcUaPoint] = []
        self._retry_at = 0.0
        self.decoder = rows.Decoder(server.link, rows.expected(points), server.types, server.lost)
        self._listener = Listener(server, notifiers, server.lost) if notifiers else None

    async def batches(self) -> AsyncGenerator[Batch | Notification]:
        """Subscribe, then yield what comes. Raises LinkError."""
        self._publisher.begin()
        try:
            async for push in self._resume():
                yield push
            if not self._live:
                async for push in self._begin():
                    yield push
            while True:
                async for push in self._received():
                    if self._silent and isinstance(push, Batch):
                        self._silent.difference_update(push.slot)
                    yield push
                async for push in self._mended():
                    yield push
        finally:
            if self._server.connection.channel.lost is not None and self._live:
                self._leave()
            await self._delete()

    async def _mended(self) -> AsyncGenerator[Batch | Notification]:
        """What the server has refused, where it is time to try again.

        Raises LinkError where subscriptions were taken over and do not tell every value: what they have kept
        back since is a gap like that of an outage.
        """
        now = asyncio.get_running_loop().time()
        if self._silent and now >= self._prove_at:
            await self._delete()
            self._leavings.unable.add(self._server.link)
            raise LinkError(
                f"{self._server.link} does not go on with the subscriptions of the session before",
                reason="SubscriptionEnded",
            )
        if self._incomplete and now >= self._retry_at:
            again, self._refused = self._refused, []
            async for batch in self._subscribe(again):
                yield batch
            for notification in await self._listen():
                yield notification

    async def _begin(self) -> AsyncGenerator[Batch | Notification]:
        """Subscribe everything."""
        async for batch in self._subscribe(self._points):
            yield batch
        for notification in await self._listen():
            yield notification

    def _leave(self) -> None:
        """The session is lost, its subscriptions are not: the next session may take them over."""
        server, listener = self._server, self._listener
        if server.link in self._leavings.unable:
            return
        words = {slot: want.words for slot, want in self.decoder.expected.wants.items() if want.words}
        heard = (listener.subscription, frozenset(listener.heard)) if listener else (0, frozenset[int]())
        until = asyncio.get_running_loop().time() + LIFETIME_S
        self._leavings.left[server.link] = Left(
            list(self._live.values()), self._points, self._notifiers, list(self._refused), heard,
            server.namespaces, words, server.types, until,
        )  # fmt: skip

    async def _resume(self) -> AsyncGenerator[Batch | Notification]:
        """Take over what a lost session has left, and have sent again what it has missed.

        Where the server does not let us, all is subscribed anew.
        """
        server = self._server
        left = self._leavings.left.pop(server.link, None)
        now = asyncio.get_running_loop().time()
        if left is None or not left.fits(now, server.namespaces, self._points, self._notifiers):
            return
        kept = await transfer(server, left)
        if kept is None:
            return
        server.types.known.update((k, v) for k, v in left.types.known.items() if v is not None)
        self.decoder.expected.read(left.words)
        self._refused = list(left.refused)
        self._retry_at = now + RETRY_S
        refused = {point.slot for point in left.refused}
        self._silent = {point.slot for point in self._points} - refused
        slowest_s = max(one.interval_ms for one in left.subscriptions) / 1000
        self._prove_at = now + 2 * slowest_s + server.endpoint.timeout_s
        for subscription, numbers in zip(left.subscriptions, kept, strict=True):
            subscription.due = now + subscription.silence_s
            self._live[subscription.number] = subscription
            for number in following(subscription.sequence, numbers):
                async for push in self._decoded(await self._again(subscription, number)):
                    yield push
                subscription.sequence = number
                self._publisher.acknowledge(subscription.number, number)
        self._publisher.fill()
        if self._listener is not None:
            for notification in await self._listener.resume(*left.listening):
                yield notification

    @property
    def _incomplete(self) -> bool:
        """Whether the server has refused something that it is to be offered again."""
        return bool(self._refused) or (self._listener is not None and self._listener.refused)

    async def _listen(self) -> list[Notification]:
        """Listen to the notifiers that are not heard yet."""
        if self._listener is None or not self._listener.refused:
            return []
        number = self._listener.subscription
        if number not in self._live:
            number = (await self._make(PUBLISHING_MS, EVENTS)).number
        return await self._listener.listen(number)

    async def _subscribe(self, points: Sequence[OpcUaPoint]) -> AsyncGenerator[Batch]:
        """Monitor points; yields those that the server does not take, as bad rows."""
        self._retry_at = asyncio.get_running_loop().time() + RETRY_S
        found = await self._server.resolve(points)
        for group in groups(points):
            located: list[tuple[OpcUaPoint, Node]] = []
            for point in group.points:
                node = found[point.slot]
                if isinstance(node, PointError):
                    yield self._refuse(point, Quality.BAD_ADDRESS, node)
                else:
                    located.append((point, node))
            words, silent = await self._learner.words(located)
            self.decoder.expected.read(words)
            for point, _ in [one for one in located if one[0].slot in silent]:
                yield self._refuse(point, Quality.NO_ANSWER, silent[point.slot])
            located = [one for one in located if one[0].slot not in silent]
            step = self._server.limits.monitor
            for start in range(0, len(located), step):
                for batch in await self._monitor(group, located[start : start + step]):
                    yield batch

    def _refuse(self, point: OpcUaPoint, quality: Quality, error: PointError) -> Batch:
        self._refused.append(point)
        return rows.bad([point.slot], time.time_ns(), quality, error)

    async def _monitor(self, group: Group, located: Sequence[tuple[OpcUaPoint, Node]]) -> list[Batch]:
        """Create monitored items; what one subscription has no room for goes into another."""
        bad: list[Batch] = []
        waiting = [(point, node, data_filter(point)) for point, node in located]
        while waiting:
            subscription = await self._room(group)
            results = await self._create(subscription, waiting)
            again: list[tuple[OpcUaPoint, Node, Any]] = []
            for (point, node, wanted), status in zip(waiting, results, strict=True):
                if not status >> 31:
                    subscription.items += 1
                elif status & 0xFFFF0000 in _NO_FILTER and wanted is not None:
                    again.append((point, node, None))
                elif status & 0xFFFF0000 == codes.BAD_TOO_MANY_MONITORED_ITEMS and subscription.items:
                    again.append((point, node, wanted))
                else:
                    error = codes.error(self._server.link, status)
                    bad.append(self._refuse(point, codes.quality(status), error))
            if any(s & 0xFFFF0000 == codes.BAD_TOO_MANY_MONITORED_ITEMS for s in results):
                self._live[subscription.number].items = -1  # full
            waiting = again
        return bad

    async def _room(self, group: Group) -> Subscription:
        """A subscription of this kind that is not full."""
        for one in self._live.values():
            if one.items >= 0 and (one.interval_ms, one.timestamps) == (group.interval_ms, group.timestamps):
                return one
        return await self._make(group.interval_ms, group.timestamps)

    async def _make(self, interval_ms: float, timestamps: str) -> Subscription:
        """CreateSubscription (Part 4, 5.13.2). Raises LinkError."""
        keep_alive = max(1, math.ceil(KEEP_ALIVE_S * 1000 / interval_ms))
        request = ua.CreateSubscriptionRequest()
        request.Parameters = ua.CreateSubscriptionParameters(
            RequestedPublishingInterval=interval_ms,
            RequestedLifetimeCount=keep_alive * 12,
            RequestedMaxKeepAliveCount=keep_alive,
            MaxNotificationsPerPublish=0,
            PublishingEnabled=True,
        )
        try:
            made = (await self._server.call(request)).Parameters
        except (ServiceFaultError, PointError) as error:
            said = codes.text(error.status) if isinstance(error, ServiceFaultError) else str(error)
            raise LinkError(
                f"{self._server.link} makes no subscription ({said}); try `mode: poll`"
            ) from error
        silence_s = _silence(made.RevisedPublishingInterval, made.RevisedMaxKeepAliveCount, interval_ms)
        silence_s += 2 * self._server.endpoint.timeout_s
        one = Subscription(made.SubscriptionId, interval_ms, timestamps, silence_s)
        one.due = asyncio.get_running_loop().time() + silence_s
        self._live[one.number] = one
        self._publisher.fill()
        return one

    async def _create(
        self,
        subscription: Subscription,
        wanted: Sequence[tuple[OpcUaPoint, Node, Any]],
    ) -> list[int]:
        """Monitor these; the status of each. The client handle is the slot."""
        items = [
            ua.MonitoredItemCreateRequest(
                ItemToMonitor=ua.ReadValueId(
                    NodeId=node.foreign,
                    AttributeId=ua.AttributeIds(ATTRIBUTES[point.address.attribute]),
                    IndexRange=point.address.index_range,
                ),
                MonitoringMode=ua.MonitoringMode.Reporting,
                RequestedParameters=ua.MonitoringParameters(
                    ClientHandle=point.slot,
                    SamplingInterval=sampling_ms(point),
                    Filter=wish,
                    QueueSize=queue_size(point, subscription.interval_ms),
                    DiscardOldest=True,
                ),
            )
            for point, node, wish in wanted
        ]
        return await self._server.monitor(subscription.number, TIMESTAMPS[subscription.timestamps], items)

    async def _received(self) -> AsyncGenerator[Batch | Notification]:
        """What the next message holds, or nothing where it is time to do something else."""
        due = min((one.due for one in self._live.values()), default=math.inf)
        refreshed = self._listener.due if self._listener is not None else math.inf
        until = min(due, refreshed, self._retry_at if self._incomplete else math.inf)
        until = min(until, self._prove_at if self._silent else math.inf)
        try:
            async with asyncio.timeout_at(until if until < math.inf else None):
                message = await self._publisher.next()
        except TimeoutError:
            self._check_silence()
            if self._listener is not None and self._listener.due <= asyncio.get_running_loop().time():
                for notification in self._listener.expire():
                    yield notification
            return
        if message is None:
            self._publisher.fill()
            return
        subscription = self._live.get(message.subscription)
        if subscription is None:  # of an earlier set of points
            self._publisher.fill()
            return
        subscription.due = asyncio.get_running_loop().time() + subscription.silence_s
        missing = self._missing(subscription, message)
        self._publisher.fill()
        for number in missing or ():
            async for push in self._decoded(await self._again(subscription, number)):
                yield push
            subscription.sequence = (number - 1) % LAST_SEQUENCE + 1
        if missing is not None:
            if message.status is not None and message.status >> 31:
                raise LinkError(
                    f"{self._server.link} has ended the subscription ({codes.text(message.status)})"
                )
            async for push in self._decoded(message):
                yield push
            subscription.sequence = message.sequence - message.is_keep_alive
        if not message.is_keep_alive:  # not before it was told: a session that takes over asks for the rest
            self._publisher.acknowledge(message.subscription, message.sequence)

    def _check_silence(self) -> None:
        now = asyncio.get_running_loop().time()
        for one in self._live.values():
            if one.due <= now:
                raise LinkError(
                    f"{self._server.link} has sent nothing for {one.silence_s:.0f} s, not even a keep-alive",
                    reason="NoAnswer",
                )

    def _missing(self, subscription: Subscription, message: Published) -> range | None:
        """Sequence numbers that did not come before this one; None where it has been here already.

        They begin at 1 again after 2^32 - 1 (Part 4, 7.26); a keep-alive bears that of the next message.
        """
        expected = subscription.sequence % LAST_SEQUENCE + 1
        gap = (message.sequence - expected) % LAST_SEQUENCE
        if gap > LAST_SEQUENCE // 2:
            return None
        if gap > MAX_MISSING:
            raise LinkError(f"{self._server.link} has lost {gap} messages of the subscription")
        return range(expected, expected + gap)

    async def _again(self, subscription: Subscription, number: int) -> Published:
        """A message that did not come (Republish, Part 4, 5.13.6). Raises LinkError where it is gone."""
        wanted = (number - 1) % LAST_SEQUENCE + 1
        try:
            body = await self._server.ask(
                services.REPUBLISH_REQUEST, services.republish_request(subscription.number, wanted)
            )
            told = services.republish_response(body, subscription.number)
            if told.sequence != wanted:  # some servers answer with an empty message
                raise DecodeError(f"message {told.sequence}")
            return told
        except (ServiceFaultError, PointError, DecodeError) as error:
            raise LinkError(
                f"{self._server.link} has lost message {number} of the subscription: all is read anew"
            ) from error

    async def _decoded(self, message: Published) -> AsyncGenerator[Batch | Notification]:
        """What a message holds; of structures that are new here the fields are asked for first."""
        now_ns, before = time.time_ns(), self.decoder.lost.copy()
        try:
            batches = [b for change in message.changes for b in self.decoder.changes(change, now_ns)]
            if self._server.types.missing:
                await self._learner.structures()
                self.decoder.lost.clear()
                self.decoder.lost.update(before)
                batches = [b for change in message.changes for b in self.decoder.changes(change, now_ns)]
            for batch in batches:
                yield batch
            if self._listener is not None and message.events:
                for notification in await self._listener.take(message.events):
                    yield notification
        except DecodeError as error:
            raise LinkError(f"{self._server.link} sent a notification that can't be read: {error}") from error

    async def _delete(self) -> None:
        """End the subscriptions, so that the server need not wait for them to time out."""
        numbers = list(self._live)
        self._live.clear()
        if not numbers or self._server.connection.channel.lost is not None:
            return
        with contextlib.suppress(LinkError):
            await self._server.unsubscribe(numbers)
