"""Devices of a network server, ChirpStack or The Things Stack: what it tells, writes and calls."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from devicemesh.mapper import (
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
from devicemesh_lora import chirpstack, queueing, thingsstack
from devicemesh_lora.broker import MOST_BYTES, Account, Broker, connected
from devicemesh_lora.delivery import TICK_S, Delivery, printable
from devicemesh_lora.endpoint import ChirpStack, LoraEndpoint
from devicemesh_lora.happening import (
    Activated,
    Complaint,
    Followed,
    Happening,
    Ignored,
    Learned,
    MessageError,
    Reported,
)
from devicemesh_lora.model import LoraAddress
from devicemesh_lora.node import Downlink
from devicemesh_lora.plan import LoraPoint

LoraWrite = Write[LoraEndpoint, LoraAddress]
HARMED_AFTER = 2
"""Complaints of the server in a row after which a device's values turn bad."""
MOST_STRANGERS = 100
"""Undeclared devices that are named in the log, once each: an application may have thousands."""
MOST_QUEUED = 16
"""Downlinks of one device of which nothing was said yet."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """A network server's topics and messages."""

    topics: Callable[[Any, Sequence[str]], list[str]]
    decode: Callable[[Any, str, bytes, int], Happening]
    downlink: Callable[..., tuple[str, bytes]]
    qos: int


CHIRPSTACK = Dialect(chirpstack.topics, chirpstack.decode, chirpstack.downlink, 1)
THINGSSTACK = Dialect(thingsstack.topics, thingsstack.decode, thingsstack.downlink, 0)


def dialect(endpoint: LoraEndpoint) -> Dialect:
    return CHIRPSTACK if endpoint.chirpstack is not None else THINGSSTACK


@dataclass(eq=False)
class Pending(Downlink):
    """A downlink that the server has."""

    number: str = ""


@dataclass(eq=False)
class Remote:
    """A declared device, as its uplinks show it."""

    endpoint: LoraEndpoint
    counter: int = -1
    mark: str = ""
    lost: int = 0
    refused: int = 0
    refused_reason: str = ""
    complaints: int = 0  # since its last uplink
    device_id: str = ""
    queue: list[Pending] = field(default_factory=list)

    def counts(self) -> dict[str, float | str | None]:
        return {
            "lost": float(self.lost),
            "refused": float(self.refused),
            "refusedReason": self.refused_reason,
        }


class ServerSession(
    Subscribable[LoraEndpoint, LoraAddress],
    Writable[LoraEndpoint, LoraAddress],
    Invocable[LoraEndpoint, LoraAddress],
):
    """One application at one broker."""

    def __init__(self, endpoint: LoraEndpoint) -> None:
        assert endpoint.server is not None
        self.out = Delivery(endpoint.link())
        self.server = endpoint.server
        self.remotes: dict[str, Remote] = {}
        self.refused = 0  # messages that made no sense, or are of devices that nobody has declared
        self.broker: Broker | None = None
        self.pump: asyncio.Task[None] | None = None
        self._dialect = dialect(endpoint)
        self._by_id: dict[str, str] = {}  # the server's names of devices -> EUI
        self._strangers: set[str] = set()
        self.topics: list[str] = []  # that we are subscribed to
        self._loop = asyncio.get_running_loop()

    def lost(self) -> Mapping[str, int]:
        return self.out.lost()

    # What is declared

    def declare(self, points: Sequence[LoraPoint]) -> None:
        """The devices and gateways of these points, and no others."""
        self.out.declare(points)
        before, self.remotes, self._by_id = self.remotes, {}, {}
        for eui, endpoint in self.out.endpoints.items():
            if endpoint.gateway is not None:
                continue
            known = before.get(eui)
            self.remotes[eui] = (
                known if known is not None and known.endpoint == endpoint else Remote(endpoint)
            )
            if endpoint.device_id is not None:
                self._by_id[endpoint.device_id] = eui

    async def subscribe(self, points: Sequence[LoraPoint]) -> AsyncGenerator[Batch]:
        """See `Subscribable`."""
        assert self.broker is not None
        self.out.forget()
        self.declare(points)
        gateways = [eui for eui, one in self.out.endpoints.items() if one.gateway is not None]
        wanted, before = self._dialect.topics(self.server, gateways), self.topics
        self.broker.unsubscribe([topic for topic in before if topic not in wanted])
        await self.broker.subscribe([topic for topic in wanted if topic not in before], self._dialect.qos)
        self.topics = wanted
        async with contextlib.aclosing(
            self.out.batches([self.pump] if self.pump is not None else [])
        ) as batches:
            async for batch in batches:
                yield batch

    async def pumping(self) -> None:
        """Look who is silent and keep the connection alive, until it ends. Raises LinkError then."""
        assert self.broker is not None
        try:
            while True:
                self.broker.tend()
                self.out.silences([*self.out.endpoints])
                await asyncio.wait({self.broker.closed}, timeout=TICK_S)
        finally:
            self.out.wake()

    # What the server tells

    def received(self, topic: str, payload: bytes | None, retained: bool) -> None:
        """A message of the broker. A retained one is old, but for the state of a gateway."""
        if retained and not topic.endswith("/state/conn"):
            return
        if payload is None:
            self.refused += 1
            self.out.tell(topic[:80], "has messages that are too large", f"{MOST_BYTES >> 10} kB at most")
            return
        try:
            event = self._dialect.decode(self.server, topic, payload, time.time_ns())
        except MessageError as error:
            self.refused += 1
            self.out.tell(topic[:80], "makes no sense", str(error))
            return
        self._happened(event)

    def _happened(self, event: Happening) -> None:
        if isinstance(event, Followed):
            self._followed(event)
        elif isinstance(event, Learned):
            self._learned(event)
        elif not isinstance(event, Ignored):
            eui = event.eui
            if eui not in self.remotes and isinstance(event, Reported):
                eui = self._by_id.get(event.device_id, eui)
            if (remote := self.remotes.get(eui)) is None:
                self._stranger(eui)
            elif isinstance(event, Reported):
                self._reported(remote, event)
            elif isinstance(event, Activated):
                self._activated(remote)
            else:
                self._complained(remote, event)

    def _stranger(self, eui: str) -> None:
        self.refused += 1
        turned = bytes.fromhex(eui)[::-1].hex() if len(eui) == 16 and eui.isalnum() else ""
        if turned in self.remotes:
            why = f"{eui} is heard: `devEui` is declared with its bytes reversed"
            self.out.silence(turned, why, "WrongByteOrder", Quality.REFUSED)
        elif eui not in self._strangers and len(self._strangers) < MOST_STRANGERS:
            self._strangers.add(eui)
            self.out.tell(eui[:40], "belongs to the application", "it is not declared")

    def _reported(self, remote: Remote, event: Reported) -> None:
        eui = remote.endpoint.eui
        if event.mark and (event.mark, event.counter) == (remote.mark, remote.counter):
            return  # the broker gave it twice
        if remote.counter >= 0:
            remote.lost += max(0, event.counter - remote.counter - 1)
        remote.counter, remote.mark, remote.complaints = event.counter, event.mark, 0
        remote.device_id = event.device_id
        self.out.heard(eui)
        for gateway in event.gateways:
            if gateway.eui in self.out.endpoints:
                self.out.heard(gateway.eui)
                self.out.stats(gateway.eui, {**gateway.known, "lastSeen": event.time_ns / 1e9}, event.time_ns)
        plan = self.out.plans[eui]
        self.out.put(plan.payload(event.port, event.payload, event.time_ns))
        if event.port is not None and plan.pointed(event.port):
            if event.decoded is None:
                why = "the server has decoded nothing of it: it needs a codec for this device"
                self.out.put(plan.undecoded(event.port, why, "NotDecoded", event.time_ns))
            else:
                self.out.put(plan.decoded(event.port, event.decoded, event.normalized, event.time_ns))
        self.out.put(plan.stats({**event.known, **remote.counts()}, event.time_ns))

    def _activated(self, remote: Remote) -> None:
        """It has joined. The server may have dropped what waited, and says nothing of it then."""
        remote.counter, remote.mark = -1, ""
        for one in remote.queue:
            self._fail(
                one, f"{remote.endpoint.eui} has joined anew: what waited for it may be lost", "NoAnswer"
            )

    def _learned(self, event: Learned) -> None:
        if event.alive:
            self.out.heard(event.eui)
        self.out.stats(event.eui, event.known, event.time_ns)

    def _complained(self, remote: Remote, event: Complaint) -> None:
        eui = remote.endpoint.eui
        remote.refused += 1
        remote.refused_reason = printable(event.reason)
        self.out.tell(eui, event.reason, event.message)
        for one in [one for one in remote.queue if one.number in event.ids]:
            self._fail(one, printable(f"{event.reason}: {event.message}"), "Refused")
        remote.complaints += event.harms
        if event.harms and remote.complaints >= HARMED_AFTER:
            why = printable(f"the server refuses what {eui} sends, {event.reason}: {event.message}")
            self.out.silence(eui, why, "Refused", Quality.REFUSED)
        else:
            self.out.stats(eui, remote.counts(), time.time_ns())

    def _followed(self, event: Followed) -> None:
        for remote in [self.remotes[event.eui]] if event.eui in self.remotes else self.remotes.values():
            for one in [one for one in remote.queue if one.number in event.ids]:
                self._progress(remote, one, event)

    def _progress(self, remote: Remote, one: Pending, event: Followed) -> None:
        eui = remote.endpoint.eui
        if event.state == "failed":
            self._fail(one, printable(event.why) or "the server could not send it", "Refused")
        elif event.state == "unacknowledged":
            self._fail(one, f"{eui} has not acknowledged it", "NotAcknowledged")
        elif one.done.done():
            return
        elif event.state == "acknowledged" or (event.state == "sent" and not remote.endpoint.confirmed):
            one.done.set_result(event.gateway)

    @staticmethod
    def _fail(one: Pending, why: str, reason: str) -> None:
        if not one.done.done():
            one.done.set_exception(PointError(why, reason=reason))
            one.done.exception()  # somebody may have stopped waiting

    # Downlinks

    def _push(
        self, endpoint: LoraEndpoint, port: int, payload: bytes | dict[str, Any], key: object
    ) -> Pending:
        """Give it to the server, unless it has the same already. Raises PointError."""
        remote = self.remotes.get(endpoint.eui)
        if remote is None or self.broker is None:
            why = f"{endpoint.eui} is not listened to: it has no property that is read"
            raise PointError(why, reason="NotDeclared")
        plain = payload if isinstance(payload, bytes) else json.dumps(payload, sort_keys=True).encode()
        if isinstance(payload, bytes) and len(payload) > queueing.MOST_BYTES:
            why = f"{len(payload)} bytes do not fit a downlink: {queueing.MOST_BYTES} at most"
            raise PointError(why, reason="TooLarge")
        remote.queue = [one for one in remote.queue if not one.done.done()]
        for one in [one for one in remote.queue if key is not None and one.key == key]:
            if (one.port, one.payload) == (port, plain):
                return one
            one.done.cancel()
            remote.queue.remove(one)
        if len(remote.queue) >= MOST_QUEUED:
            why = f"{MOST_QUEUED} downlinks wait for {endpoint.eui} already"
            raise PointError(why, reason="QueueFull", again_s=60)
        made = Pending(port, plain, self._loop.create_future(), key, number=str(uuid.uuid4()))
        remote.queue.append(made)
        name = endpoint.eui
        if not isinstance(self.server, ChirpStack):
            name = endpoint.device_id or remote.device_id or f"eui-{endpoint.eui}"
        topic, body = self._dialect.downlink(
            self.server, name, made.number, port, payload, confirmed=endpoint.confirmed
        )
        self.broker.publish(topic, body, self._dialect.qos)
        return made

    async def write(self, writes: Sequence[LoraWrite]) -> Sequence[Outcome]:
        """See `Writable`. A device can't be asked: there is no read-back."""
        return await asyncio.gather(*(self._write(one) for one in writes))

    async def _write(self, write: LoraWrite) -> Outcome:
        point, address = write.point, write.point.address
        try:
            payload: bytes | dict[str, Any]
            if address.pointer is not None:
                payload = address.object(write.value)
            else:
                payload = address.payload(point.type, write.value)
            pending = self._push(point.endpoint, address.port or 1, payload, (point.device, point.name))
            await queueing.delivered(point.endpoint, pending)
        except ValueError as error:
            return Outcome(error=PointError(str(error), reason="WrongType"))
        except PointError as error:
            return Outcome(error=error)
        return Outcome()

    async def invoke(self, invocation: Invocation[LoraEndpoint]) -> Mapping[str, Any]:
        """See `Invocable`: one downlink. The server keeps one that was not sent in time."""
        address, arguments = invocation.address, dict(invocation.arguments)
        if address.port is None:  # the server's codec makes bytes of it
            pending = self._push(invocation.endpoint, 1, {**address.data, **arguments}, None)
            return {"gateway": await queueing.delivered(invocation.endpoint, pending)}
        try:
            payload = address.encoded(arguments, dict(invocation.types))
        except ValueError as error:
            raise PointError(str(error), reason="WrongType") from error
        pending = self._push(invocation.endpoint, address.port, payload, None)
        gateway = await queueing.delivered(invocation.endpoint, pending)
        return {"gateway": gateway, "bytes": payload.hex()}


def account(endpoint: LoraEndpoint, secrets: Secrets) -> Account:
    """Who we are to the broker. Raises AuthError."""
    server = endpoint.server
    assert server is not None
    host, port = server.place
    if isinstance(server, ChirpStack):
        user, ref, mend = (
            server.user_name,
            server.password,
            "look at `userName`, `password` and the broker's rights",
        )
    else:
        user, ref = server.user, server.api_key
        mend = "look at `application`, `tenant` and the rights of `apiKey`"
    password = secrets(ref) if ref is not None and not endpoint.simulated else None
    return Account(host, port, server.secure, server.tls, user, password, mend, endpoint.link())


@asynccontextmanager
async def open_session(endpoint: LoraEndpoint, secrets: Secrets = no_secrets) -> AsyncIterator[ServerSession]:
    """Connect to the broker. Raises `LinkError`, `AuthError` or `ConfigError`."""
    session = ServerSession(endpoint)
    async with connected(account(endpoint, secrets), session.received) as session.broker:
        session.pump = asyncio.create_task(session.pumping())
        try:
            yield session
        finally:
            session.pump.cancel()
            await asyncio.wait({session.pump})
            if not session.pump.cancelled():
                session.pump.exception()
