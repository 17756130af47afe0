"""A listening address: gateways and devices behind it, their uplinks, writes and calls."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
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
from devicemesh_lora import queueing, secret, semtech
from devicemesh_lora.air import Flight, Flights, attempts
from devicemesh_lora.codec import Codecs, uplink_batches
from devicemesh_lora.codec_source import CodecError
from devicemesh_lora.gateways import Gateway, Gateways
from devicemesh_lora.model import LoraAddress, LoraEndpoint
from devicemesh_lora.network import Gathering, Network
from devicemesh_lora.node import Downlink, Joined, Node, Refused, Repeated, Uplink
from devicemesh_lora.plan import LoraPoint, Plan
from devicemesh_lora.regions import REGIONS
from devicemesh_lora.semtech import Packet
from devicemesh_lora.store import Store, folder, opened
from devicemesh_lora.udp import Socket, Source, listening

log = logging.getLogger("devicemesh.lora")
LoraWrite: TypeAlias = Write[LoraEndpoint, LoraAddress]
FLUSH_S = 1.0
"""How often uplink counters are kept: after a crash, frames of this last second could be replayed."""
TICK_S = 0.2
"""How often it is looked who is silent."""
AT_ONCE = 100
"""Frames that are worked off before others have their turn."""
MOST_TOLD = 1000
"""Kinds of refused frames that are told of, once each."""
MOST_BATCHES = 20_000
"""Batches that nobody has fetched yet; older ones are dropped, and counted."""


class LoraSession(
    Subscribable[LoraEndpoint, LoraAddress],
    Writable[LoraEndpoint, LoraAddress],
    Invocable[LoraEndpoint, LoraAddress],
):
    """All that is sent to one address."""

    def __init__(self, endpoint: LoraEndpoint, secrets: Secrets, store: Store) -> None:
        self.link = endpoint.link()
        self.gateways = Gateways()
        self.network = Network(store)
        self.flights = Flights(REGIONS[endpoint.region])
        self.codecs = Codecs()
        self.dropped = 0
        self._region = REGIONS[endpoint.region]
        self._secrets, self._store = secrets, store
        self._gathering = Gathering(duration_ns(endpoint.deduplication) / 1e9)
        self._plans: dict[str, Plan] = {}
        self._silent: dict[str, bool] = {}
        self._since: dict[str, float] = {}
        self._told: set[tuple[str, str]] = set()
        self._out: deque[Batch] = deque()
        self._wake, self._pump_wake = asyncio.Event(), asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.socket: Socket | None = None
        self.tasks: list[asyncio.Task[None]] = []

    def lost(self) -> Mapping[str, int]:
        counts = {"server_queue": self.dropped, "codec_queue": self.codecs.dropped}
        return {reason: count for reason, count in counts.items() if count}

    # What is declared

    def declare(self, points: Sequence[LoraPoint]) -> None:
        """Listen to the gateways and devices of these points, and to no others."""
        by_eui: dict[str, list[LoraPoint]] = {}
        for point in points:
            by_eui.setdefault(point.endpoint.eui, []).append(point)
        self._plans = {eui: Plan(held) for eui, held in by_eui.items()}
        endpoints = {eui: held[0].endpoint for eui, held in by_eui.items()}
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
                self._silence(eui, str(error), error.reason, Quality.REFUSED)
        self.network.declare(nodes)
        self._declare_codecs(nodes)
        now = self._loop.time()
        self._since = {eui: self._since.get(eui, now) for eui in endpoints}
        self._silent = {eui: self._silent.get(eui, False) for eui in endpoints}
        self._pump_wake.set()

    def _declare_codecs(self, nodes: Sequence[Node]) -> None:
        coded = {node.endpoint.eui: node.endpoint.codec for node in nodes}
        self.codecs.declare({eui: codec for eui, codec in coded.items() if codec is not None})
        for eui in coded:
            plan = self._plans[eui]
            if plan.uses_codec and (error := self.codecs.refusal(eui)) is not None:
                self._put(plan.uncoded(str(error), error.reason, time.time_ns()))

    async def subscribe(self, points: Sequence[LoraPoint]) -> AsyncGenerator[Batch]:
        """See `Subscribable`. Only the gateways and devices of these points are listened to from now on."""
        self._out.clear()
        self.declare(points)
        while True:
            while self._out:
                yield self._out.popleft()
            for task in self.tasks:
                if task.done():
                    task.result()
            self._wake.clear()
            await self._wake.wait()

    def _put(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            if len(self._out) >= MOST_BATCHES:
                self.dropped += len(self._out.popleft().slot)
            self._out.append(batch)
        if batches:
            self._wake.set()

    def _silence(self, eui: str, why: str, reason: str, quality: Quality) -> None:
        if (plan := self._plans.get(eui)) is not None:
            self._put([plan.silence(why, reason, quality, time.time_ns())])

    def start(self) -> None:
        """Work off what comes in, and have it decoded."""
        self.tasks = [asyncio.create_task(self.pumping()), asyncio.create_task(self.codecs.running())]
        for task in self.tasks:
            task.add_done_callback(lambda _: self._wake.set())

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)

    # Gateways

    def received(self, data: bytes, source: Source) -> None:
        """A datagram: it is acknowledged first."""
        try:
            datagram = semtech.decode(data)
        except semtech.DatagramError as error:
            self.gateways.refused += 1
            self._tell("", f"{source[0]} sends what is no datagram of a packet forwarder", str(error))
            return
        now = self._loop.time()
        gateway = self.gateways.admitted(datagram.gateway, source[0], now)
        if isinstance(gateway, str):
            if gateway:
                log.warning(
                    "%s: refused gateway %s from %s: %s", self.link, datagram.gateway, source[0], gateway
                )
            return
        try:
            self._from_gateway(gateway, datagram, source, now)
        except semtech.DatagramError as error:
            gateway.refused += 1
            self._tell(datagram.gateway, "makes no sense", str(error))

    def _from_gateway(self, gateway: Gateway, datagram: semtech.Datagram, source: Source, now: float) -> None:
        assert self.socket is not None
        if datagram.kind == semtech.TX_ACK:
            error = semtech.transmission_error(datagram)
            self._launch(self.flights.landed(datagram.token, datagram.gateway, error, now))
            return
        self.socket.send(datagram.acknowledgement(), source)
        self._heard(datagram.gateway, now)
        if datagram.kind == semtech.PULL_DATA:
            gateway.route = source
            self._gateway_stats(gateway)
            return
        pushed = semtech.pushed(datagram, time.time_ns())
        gateway.bad_crc += pushed.bad_crc
        gateway.refused += len(pushed.broken)
        for packet in pushed.packets:
            self._gathering.add(packet, now)
        if pushed.packets:
            self._pump_wake.set()
        if pushed.stat or pushed.bad_crc or pushed.broken:
            gateway.report.update(pushed.stat)
            self._gateway_stats(gateway)
        for why in pushed.broken:
            self._tell(datagram.gateway, "sends a packet that makes no sense", why)

    def _gateway_stats(self, gateway: Gateway) -> None:
        if (plan := self._plans.get(gateway.endpoint.eui)) is not None:
            now_ns = time.time_ns()
            self._put(plan.stats({**gateway.known(), "lastSeen": now_ns / 1e9}, now_ns))

    def _tell(self, eui: str, what: str, why: str) -> None:
        """Once for each kind."""
        if (eui, what) not in self._told and len(self._told) < MOST_TOLD:
            self._told.add((eui, what))
            log.warning("%s: %s %s: %s", self.link, eui, what, why)

    def _heard(self, eui: str, now: float) -> None:
        self._since[eui] = now
        self._silent[eui] = False

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
                    self._silences(now)
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

    def _silences(self, now: float) -> None:
        for eui, plan in self._plans.items():
            endpoint = self._endpoint(eui)
            if (
                endpoint is None
                or self._silent.get(eui)
                or now - self._since.get(eui, now) < endpoint.lifetime_s
            ):
                continue
            self._silent[eui] = True
            why = f"{eui} has sent nothing to {self.link} for {endpoint.lifetime_s:.6g} s"
            self._put([plan.silence(why, "NoAnswer", Quality.NO_ANSWER, time.time_ns())])

    def _endpoint(self, eui: str) -> LoraEndpoint | None:
        found = self.network.by_eui.get(eui) or self.gateways.by_eui.get(eui)
        return found.endpoint if found is not None else None

    def _frame(self, copies: list[Packet], now: float) -> None:
        if not self._region.hears(copies[0].frequency, copies[0].data_rate):
            best = copies[0]
            self._tell(best.gateway, f"hears what is not of {self._region.name}",
                       f"{best.frequency / 1e6:g} MHz {best.data_rate}")  # fmt: skip
            return
        event = self.network.heard(copies, now)
        if isinstance(event, Uplink):
            self._uplink(event, now)
        elif isinstance(event, Joined):
            self._send(event.node, event.accept, None, copies, join=True)
        elif isinstance(event, Repeated):
            self._reply(event.node, copies)
        elif event is not None:
            self._refused(event)

    def _uplink(self, uplink: Uplink, now: float) -> None:
        node, copies = uplink.node, uplink.copies
        eui, now_ns = node.endpoint.eui, copies[0].time_ns
        self._heard(eui, now)
        self._reply(node, copies)
        if (plan := self._plans.get(eui)) is not None:
            self._put(plan.payload(uplink.port, uplink.payload, now_ns) + plan.stats(uplink.known(), now_ns))
            if uplink.port and (wanted := plan.pointed(uplink.port)):
                done = partial(self._decoded, eui, uplink.port, now_ns)
                normalized = any(point.address.normalized for point in wanted)
                self.codecs.uplink(
                    eui, uplink.port, uplink.payload, now_ns, done, samples=len(wanted), normalized=normalized
                )

    def _decoded(self, eui: str, port: int, time_ns: int, result: Mapping[str, Any] | CodecError) -> None:
        if (plan := self._plans.get(eui)) is None:
            return
        self._put(uplink_batches(plan, port, result, time_ns))
        if isinstance(result, Mapping) and result.get("warnings"):
            self._tell(eui, "codec warns", "; ".join(result["warnings"]))

    def _refused(self, event: Refused) -> None:
        node = event.node
        eui = node.endpoint.eui if node is not None else ""
        self._tell(eui, f"frame refused, {event.reason}", event.message)
        if node is None or (plan := self._plans.get(eui)) is None:
            return
        now_ns = time.time_ns()
        if event.harms:
            self._put([plan.silence(event.message, event.reason, Quality.REFUSED, now_ns)])
        else:
            known: dict[str, float | str | None] = {
                "refused": float(node.refused), "refusedReason": node.refused_reason,
            }  # fmt: skip
            self._put(plan.stats(known, now_ns))

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
            self._tell(copies[0].gateway, "can't send", "it has sent no PULL_DATA: no downlink reaches it")
        flight = Flight(node, phy, queued, node.next_down - 1, ways, confirmed=node.endpoint.confirmed)
        self._launch(self.flights.launch(flight, self._loop.time()))

    def _launch(self, made: tuple[str, bytes] | None) -> None:
        if made is None or self.socket is None:
            return
        gateway = self.gateways.by_eui.get(made[0])
        if gateway is not None and gateway.route is not None:
            self.socket.send(made[1], gateway.route)

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
            port, payload = await self._payload(point, write.value)
            queued = self._queued(point.endpoint, port, payload, (point.device, point.name))
            await queueing.delivered(point.endpoint, queued)
        except ValueError as error:
            return Outcome(error=PointError(str(error), reason="WrongType"))
        except PointError as error:
            return Outcome(error=error)
        return Outcome()

    async def _payload(self, point: LoraPoint, value: Any) -> tuple[int, bytes]:
        """FPort and bytes of a downlink. Raises ValueError and PointError."""
        address = point.address
        if address.pointer is None:
            return address.port or 1, address.payload(point.type, value)
        payload, port = await self.codecs.encoded(point.endpoint.eui, address.object(value))
        return port or address.port or 1, payload

    async def invoke(self, invocation: Invocation[LoraEndpoint]) -> Mapping[str, Any]:
        """See `Invocable`: one downlink. One that was not sent in time is taken back."""
        address, arguments = invocation.address, dict(invocation.arguments)
        chosen: dict[str, Any] = {}
        try:
            if (port := address.port) is not None:
                payload = address.encoded(arguments, dict(invocation.types))
            else:
                data = {**address.data, **arguments}
                payload, port = await self.codecs.encoded(invocation.endpoint.eui, data)
                chosen["port"] = port = port or 1
        except ValueError as error:
            raise PointError(str(error), reason="WrongType") from error
        queued = self._queued(invocation.endpoint, port, payload, None)
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
        async with listening(endpoint.address, session.received) as session.socket:
            session.start()
            try:
                yield session
            finally:
                await session.stop()
