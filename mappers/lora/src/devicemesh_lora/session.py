"""A listening address: gateways and devices behind it, their uplinks, writes and calls."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from devicemesh.mapper import (
    AuthError,
    Batch,
    Invocable,
    Invocation,
    Outcome,
    PointError,
    Quality,
    Secrets,
    Subscribable,
    Writable,
    Write,
    no_secrets,
)
from devicemesh.spec.values import duration_ns
from devicemesh_lora import queueing, secret
from devicemesh_lora.air import Flight, Flights, attempts
from devicemesh_lora.decoding import Decoding
from devicemesh_lora.delivery import TICK_S, Delivery
from devicemesh_lora.forwarders import Forwarders
from devicemesh_lora.gateways import Gateway, Gateways
from devicemesh_lora.model import LoraAddress, LoraEndpoint
from devicemesh_lora.network import Gathering, Network
from devicemesh_lora.node import Downlink, Joined, Node, Refused, Repeated, Uplink
from devicemesh_lora.packet import Order, Packet
from devicemesh_lora.plan import LoraPoint
from devicemesh_lora.regions import REGIONS
from devicemesh_lora.stations import Stations
from devicemesh_lora.store import Store, folder, opened
from devicemesh_lora.udp import listening

LoraWrite: TypeAlias = Write[LoraEndpoint, LoraAddress]
_UNREACHABLE = "it has sent no PULL_DATA, or has hung up: no downlink reaches it"
FLUSH_S = 1.0
"""How often uplink counters are kept: after a crash, frames of this last second could be replayed."""
AT_ONCE = 100
"""Frames that are worked off before others have their turn."""


class LoraSession(
    Subscribable[LoraEndpoint, LoraAddress],
    Writable[LoraEndpoint, LoraAddress],
    Invocable[LoraEndpoint, LoraAddress],
):
    """All that is sent to one address."""

    def __init__(self, endpoint: LoraEndpoint, secrets: Secrets, store: Store) -> None:
        self.out = Delivery(endpoint.link())
        self.gateways = Gateways()
        self.network = Network(store)
        self._region = REGIONS[endpoint.region]
        self.flights = Flights(self._region)
        self.forwarders = Forwarders(self)
        self.stations = Stations(self, endpoint, secrets)
        self.decoding = Decoding(self.out)
        self._secrets, self._store = secrets, store
        self._gathering = Gathering(duration_ns(endpoint.deduplication) / 1e9)
        self._pump_wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.tasks: list[asyncio.Task[None]] = []

    def lost(self) -> Mapping[str, int]:
        codecs = self.decoding.codecs.dropped
        return self.out.lost() | ({"codec_queue": codecs} if codecs else {})

    # What is declared

    def declare(self, points: Sequence[LoraPoint]) -> None:
        """Listen to the gateways and devices of these points, and to no others."""
        self.out.declare(points)
        endpoints = self.out.endpoints
        self.gateways.declare(e for e in endpoints.values() if e.gateway is not None)
        self.network.flush()
        before, nodes = self.network.by_eui, []
        for eui, endpoint in endpoints.items():
            if endpoint.gateway is not None:
                continue
            known = before.get(eui)
            if known is not None and known.endpoint == endpoint:
                nodes.append(known)
                continue
            try:
                nodes.append(secret.node(endpoint, self._secrets, self._store))
            except AuthError as error:
                self.out.silence(eui, str(error), error.reason, Quality.REFUSED)
        self.network.declare(nodes)
        self.decoding.declare([node.endpoint for node in nodes])
        self._pump_wake.set()

    async def subscribe(self, points: Sequence[LoraPoint]) -> AsyncGenerator[Batch]:
        """See `Subscribable`. Only the gateways and devices of these points are listened to from now on."""
        self.out.forget()
        self.declare(points)
        await self.stations.declare()
        async with contextlib.aclosing(self.out.batches(self.tasks)) as batches:
            async for batch in batches:
                yield batch

    def start(self) -> None:
        """Work off what comes in, and have it decoded."""
        self.tasks = [
            asyncio.create_task(self.pumping()),
            asyncio.create_task(self.decoding.codecs.running()),
        ]
        for task in self.tasks:
            task.add_done_callback(lambda _: self.out.wake())

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)

    # Gateways: see `House`

    def packets(self, packets: Sequence[Packet]) -> None:
        now = self._loop.time()
        for packet in packets:
            self._gathering.add(packet, now)
        if packets:
            self._pump_wake.set()

    def landed(self, number: int, gateway: str, error: str) -> None:
        self._launch(self.flights.landed(number, gateway, error, self._loop.time()))

    def report(self, gateway: Gateway) -> None:
        now_ns = time.time_ns()
        self.out.stats(gateway.endpoint.eui, {**gateway.stats(), "lastSeen": now_ns / 1e9}, now_ns)

    # Uplinks

    async def pumping(self) -> None:
        """Work off what comes in, each frame when the copies of other gateways have had their time."""
        flush = tick = self._loop.time()
        try:
            while True:
                now = self._loop.time()
                for count, copies in enumerate(self._gathering.ready(now), 1):
                    self._frame(copies, now)
                    if count % AT_ONCE == 0:
                        await asyncio.sleep(0)
                if now >= tick:
                    self.out.silences([*self.network.by_eui, *self.gateways.by_eui])
                    tick = now + TICK_S
                if now >= flush:
                    self.network.flush()
                    self.flights.expire(now)
                    flush = now + FLUSH_S
                self._pump_wake.clear()
                due = self._gathering.next_due
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(tick if due is None else min(due, tick)):
                        await (self._pump_wake.wait() if due is None else asyncio.Event().wait())
        finally:
            self.network.flush()

    def _frame(self, copies: list[Packet], now: float) -> None:
        if not self._region.hears(copies[0].frequency, copies[0].data_rate):
            best = copies[0]
            self.out.tell(best.gateway, f"hears what is not of {self._region.name}",
                       f"{best.frequency / 1e6:g} MHz {best.data_rate}")  # fmt: skip
            return
        event = self.network.heard(copies, now)
        if isinstance(event, Uplink):
            self._uplink(event)
        elif isinstance(event, Joined):
            self._send(event.node, event.accept, None, copies, join=True)
        elif isinstance(event, Repeated):
            self._reply(event.node, copies)
        elif event is not None:
            self._refused(event)

    def _uplink(self, uplink: Uplink) -> None:
        node, copies = uplink.node, uplink.copies
        eui, now_ns = node.endpoint.eui, copies[0].time_ns
        self.out.heard(eui)
        if (plan := self.out.plans.get(eui)) is not None:
            self.out.put(plan.payload(uplink.port, uplink.payload, now_ns))
            self.out.put(plan.stats(uplink.known(), now_ns))
            self.decoding.uplink(eui, uplink.port, uplink.payload, now_ns)
        self._reply(node, copies)  # last, as it may raise LinkError: the values are told all the same

    def _refused(self, event: Refused) -> None:
        node = event.node
        eui = node.endpoint.eui if node is not None else ""
        self.out.tell(eui, f"frame refused, {event.reason}", event.message)
        if node is None:
            return
        if event.harms:
            self.out.silence(eui, event.message, event.reason, Quality.REFUSED)
            return
        known: dict[str, float | str | None] = {
            "refused": float(node.refused), "refusedReason": node.refused_reason,
        }  # fmt: skip
        self.out.stats(eui, known, time.time_ns())

    # Downlinks

    def _reply(self, node: Node, copies: list[Packet]) -> None:
        first = self._region.rx1(copies[0].frequency, copies[0].data_rate)
        made = self.network.reply(node, first.data_rate)
        if made is not None:
            self._send(node, made[0], made[1], copies, join=False)

    def _send(
        self, node: Node, phy: bytes, queued: Downlink | None, copies: list[Packet], *, join: bool
    ) -> None:
        ways = attempts(self._region, copies, self.gateways.reachable, join=join)
        if not ways:
            self.out.tell(copies[0].gateway, "can't send", _UNREACHABLE)
        flight = Flight(node, phy, queued, node.next_down - 1, ways, confirmed=node.endpoint.confirmed)
        self._launch(self.flights.launch(flight, self._loop.time()))

    def _launch(self, order: Order | None) -> None:
        if order is None:
            return
        gateway = self.gateways.by_eui.get(order.attempt.packet.gateway)
        if gateway is not None and gateway.send is not None:
            gateway.send(order)

    def _queued(self, endpoint: LoraEndpoint, port: int, payload: bytes, key: object) -> Downlink:
        node = self.network.by_eui.get(endpoint.eui)
        if node is None:
            why = f"{endpoint.eui} is not listened to: it has no property that is read"
            raise PointError(why, reason="NotDeclared")
        return queueing.enqueue(node, Downlink(port, payload, self._loop.create_future(), key))

    async def write(self, writes: Sequence[LoraWrite]) -> Sequence[Outcome]:
        """See `Writable`. A device can't be asked: there is no read-back."""
        return await asyncio.gather(*(self._write(one) for one in writes))

    async def _write(self, write: LoraWrite) -> Outcome:
        point = write.point
        try:
            port, payload = await self.decoding.written(write)
            queued = self._queued(point.endpoint, port, payload, (point.device, point.name))
            await queueing.delivered(point.endpoint, queued)
        except ValueError as error:
            return Outcome(error=PointError(str(error), reason="WrongType"))
        except PointError as error:
            return Outcome(error=error)
        return Outcome()

    async def invoke(self, invocation: Invocation[LoraEndpoint]) -> Mapping[str, Any]:
        """See `Invocable`: one downlink. One that was not sent in time is taken back."""
        try:
            port, payload = await self.decoding.called(invocation)
        except ValueError as error:
            raise PointError(str(error), reason="WrongType") from error
        queued = self._queued(invocation.endpoint, port, payload, None)
        chosen = {"port": port} if invocation.address.port is None else {}
        try:
            gateway = await queueing.delivered(invocation.endpoint, queued)
            return {"gateway": gateway, "bytes": payload.hex(), **chosen}
        finally:
            queued.done.cancel()


@asynccontextmanager
async def open_session(endpoint: LoraEndpoint, secrets: Secrets = no_secrets) -> AsyncIterator[LoraSession]:
    """Listen. Raises `LinkError` where the address or the store can't be had."""
    path = None if endpoint.simulated else folder() / "network.sqlite"
    with opened(path) as store:
        session = LoraSession(endpoint, secrets, store)
        async with (
            listening(endpoint.address, session.forwarders.received) as session.forwarders.socket,
            session.stations,
        ):
            session.start()
            try:
                yield session
            finally:
                await session.stop()
