"""Subscriptions: the server samples and sends what changes (Part 4, 5.12 and 5.13)."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from devicemesh.mapper import Batch, LinkError, PointError, Quality
from devicemesh.spec.values import duration_ns
from devicemesh_opcua import rows
from devicemesh_opcua import status as codes
from devicemesh_opcua.binary import DecodeError
from devicemesh_opcua.channel import ua
from devicemesh_opcua.publish import Publisher
from devicemesh_opcua.server import ATTRIBUTES, TIMESTAMPS, Node, OpcUaPoint, Server
from devicemesh_opcua.services import Published, ServiceFaultError

RETRY_S = 60.0
"""After which a point that the server refused is offered again."""
KEEP_ALIVE_S = 5.0
"""How often a subscription without changes says that it lives."""
LEAST_PUBLISHING_MS = 100.0
MAX_QUEUE = 1000
"""Samples of an item that wait at the server between two messages."""
MAX_MISSING = 100
"""Messages that are asked for again after a gap; after a longer one everything is."""
_LAST_SEQUENCE = 0xFFFFFFFF
_NO_FILTER = {0x80430000, 0x80440000, 0x80450000, 0x808E0000}
"""BadMonitoredItemFilterInvalid, ...Unsupported, BadFilterNotAllowed, BadDeadbandFilterInvalid."""


@dataclass(slots=True)
class Subscription:
    """One at the server."""

    number: int
    interval_ms: float
    timestamps: str
    silence_s: float  # the longest between two messages
    due: float = 0.0  # loop time of the next one at the latest
    sequence: int = 0  # of the last message
    items: int = 0


@dataclass(slots=True)
class Group:
    """Points that are published alike."""

    interval_ms: float
    timestamps: str
    points: list[OpcUaPoint] = field(default_factory=list)


def sampling_ms(point: OpcUaPoint) -> float:
    """How often the server is to look at the value."""
    return duration_ns(point.telemetry.sampling_interval) / 1e6


def groups(points: Iterable[OpcUaPoint]) -> list[Group]:
    """Points by publishing interval and timestamps. Pure."""
    found: dict[tuple[str | None, str], list[OpcUaPoint]] = {}
    for point in points:
        endpoint = point.endpoint
        found.setdefault((endpoint.publishing_interval, endpoint.timestamps), []).append(point)
    made = []
    for (interval, timestamps), members in found.items():
        shortest = max(min(map(sampling_ms, members)), LEAST_PUBLISHING_MS)
        made.append(Group(duration_ns(interval) / 1e6 if interval else shortest, timestamps, members))
    return made


def queue_size(point: OpcUaPoint, publishing_ms: float) -> int:
    """Room for every sample between two messages, and for one late message. Pure."""
    return min(MAX_QUEUE, 2 * math.ceil(publishing_ms / sampling_ms(point)) + 1)


def data_filter(point: OpcUaPoint) -> Any:
    """What need not be sent (Part 4, 7.22.2).

    Every sample is wanted where each is reported or goes into a window: then a new timestamp is a change
    too. A deadband is applied by the server only if nothing but changes beyond it is wanted.
    """
    if point.address.attribute != "Value":
        return None
    wish = point.telemetry
    if point.address.deadband_percent:
        return ua.DataChangeFilter(
            Trigger=ua.DataChangeTrigger.StatusValue,
            DeadbandType=int(ua.DeadbandType.Percent),
            DeadbandValue=point.address.deadband_percent,
        )
    if wish.report == "change" and wish.deadband and point.type.is_number:
        return ua.DataChangeFilter(
            Trigger=ua.DataChangeTrigger.StatusValue,
            DeadbandType=int(ua.DeadbandType.Absolute),
            DeadbandValue=wish.deadband,
        )
    if wish.report in ("every", "window"):
        return ua.DataChangeFilter(Trigger=ua.DataChangeTrigger.StatusValueTimestamp)
    return None


class Subscriber:
    """The subscriptions of one set of points."""

    def __init__(self, server: Server, publisher: Publisher, points: Sequence[OpcUaPoint]) -> None:
        self._server = server
        self._publisher = publisher
        self._points = points
        self._live: dict[int, Subscription] = {}
        self._refused: list[OpcUaPoint] = []
        self._retry_at = 0.0
        expected = rows.Expected((p.slot, p.type, p.address.single) for p in points)
        self.decoder = rows.Decoder(server.link, expected)

    async def batches(self) -> AsyncGenerator[Batch]:
        """Subscribe, then yield what comes. Raises LinkError."""
        self._publisher.begin()
        try:
            async for batch in self._subscribe(self._points):
                yield batch
            while True:
                async for batch in self._received():
                    yield batch
                if self._refused and asyncio.get_running_loop().time() >= self._retry_at:
                    again, self._refused = self._refused, []
                    async for batch in self._subscribe(again):
                        yield batch
        finally:
            await self._delete()

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
        keep_alive = max(1, math.ceil(KEEP_ALIVE_S * 1000 / group.interval_ms))
        request = ua.CreateSubscriptionRequest()
        request.Parameters = ua.CreateSubscriptionParameters(
            RequestedPublishingInterval=group.interval_ms,
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
        silence_s = made.RevisedPublishingInterval * max(made.RevisedMaxKeepAliveCount, 1) / 1000
        silence_s += 2 * self._server.endpoint.timeout_s
        one = Subscription(made.SubscriptionId, group.interval_ms, group.timestamps, silence_s)
        one.due = asyncio.get_running_loop().time() + silence_s
        self._live[one.number] = one
        self._publisher.fill()
        return one

    async def _create(
        self,
        subscription: Subscription,
        wanted: Sequence[tuple[OpcUaPoint, Node, Any]],
    ) -> list[int]:
        """CreateMonitoredItems (Part 4, 5.12.2); the status of each. The client handle is the slot."""
        request = ua.CreateMonitoredItemsRequest()
        request.Parameters.SubscriptionId = subscription.number
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn(TIMESTAMPS[subscription.timestamps])
        request.Parameters.ItemsToCreate = [
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
        try:
            results = (await self._server.call(request)).Results
        except ServiceFaultError as fault:
            return [fault.status] * len(wanted)
        except PointError as error:
            raise LinkError(f"{error}, asked to monitor {len(wanted)} items") from error
        if len(results) != len(wanted):
            raise LinkError(f"{self._server.link} answered {len(wanted)} items with {len(results)} results")
        return [result.StatusCode.value for result in results]

    async def _received(self) -> AsyncGenerator[Batch]:
        """The batches of the next message, or nothing where it is time to do something else."""
        due = min((one.due for one in self._live.values()), default=math.inf)
        until = min(due, self._retry_at if self._refused else math.inf)
        try:
            async with asyncio.timeout_at(until if until < math.inf else None):
                message = await self._publisher.next()
        except TimeoutError:
            self._check_silence()
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
        if not message.is_keep_alive:
            self._publisher.acknowledge(message.subscription, message.sequence)
        self._publisher.fill()
        if missing is None:
            return
        for number in missing:
            for batch in self._decoded(await self._again(subscription, number)):
                yield batch
        if message.status is not None and message.status >> 31:
            raise LinkError(f"{self._server.link} has ended the subscription ({codes.text(message.status)})")
        for batch in self._decoded(message.changes):
            yield batch

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
        expected = subscription.sequence % _LAST_SEQUENCE + 1
        gap = (message.sequence - expected) % _LAST_SEQUENCE
        if gap > _LAST_SEQUENCE // 2:
            return None
        if gap > MAX_MISSING:
            raise LinkError(f"{self._server.link} has lost {gap} messages of the subscription")
        subscription.sequence = message.sequence - message.is_keep_alive
        return range(expected, expected + gap)

    async def _again(self, subscription: Subscription, number: int) -> list[bytes]:
        """A message that did not come (Republish, Part 4, 5.13.6). Raises LinkError where it is gone."""
        request = ua.RepublishRequest()
        request.Parameters.SubscriptionId = subscription.number
        request.Parameters.RetransmitSequenceNumber = (number - 1) % _LAST_SEQUENCE + 1
        try:
            message = (await self._server.call(request)).NotificationMessage
        except (ServiceFaultError, PointError) as error:
            raise LinkError(
                f"{self._server.link} has lost message {number} of the subscription: all is read anew"
            ) from error
        return [
            ua.ua_binary.struct_to_binary(one)
            for one in message.NotificationData
            if isinstance(one, ua.DataChangeNotification)
        ]

    def _decoded(self, changes: Sequence[bytes]) -> list[Batch]:
        now_ns = time.time_ns()
        try:
            return [batch for change in changes for batch in self.decoder.changes(change, now_ns)]
        except DecodeError as error:
            raise LinkError(f"{self._server.link} sent a notification that can't be read: {error}") from error

    async def _delete(self) -> None:
        """End the subscriptions, so that the server need not wait for them to time out."""
        numbers = list(self._live)
        self._live.clear()
        if not numbers or self._server.connection.channel.lost is not None:
            return
        request = ua.DeleteSubscriptionsRequest()
        request.Parameters.SubscriptionIds = numbers
        with contextlib.suppress(LinkError, PointError, ServiceFaultError, ConnectionError):
            await self._server.call(request)
