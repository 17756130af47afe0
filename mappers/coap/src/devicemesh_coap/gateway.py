"""Devices that push: they register by name (RFC 9176, 5) and POST or PUT their values to us.

    POST /rd?ep=NAME&lt=SECONDS     a registration, at /rd/NAME (POST there: an update; DELETE: the end)
    POST /push/NAME/PATH            the value of the property whose address has this PATH

Only declared devices are accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from devicemesh.mapper import Batch, PointError, Quality, Secrets, Subscribable, no_secrets
from devicemesh.spec.values import duration_ns
from devicemesh_coap import payload
from devicemesh_coap.message import (
    BAD_REQUEST,
    CHANGED,
    CONTENT,
    CREATED,
    DELETE,
    DELETED,
    FORBIDDEN,
    GET,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    POST,
    PUT,
    UNAUTHORIZED,
    UNSUPPORTED_FORMAT,
    Message,
    Option,
    ordered,
    uint,
)
from devicemesh_coap.model import CoapAddress, CoapEndpoint, segments
from devicemesh_coap.plan import CoapPoint, Decoder, bad
from devicemesh_coap.server import listening

log = logging.getLogger("devicemesh.coap")
DEFAULT_LIFETIME_S = 86400.0
MOST_STRANGERS = 1000
"""Undeclared names that are remembered, so that each is told of once."""
LISTING = b'</rd>;rt="core.rd";ct=40,</push>;rt="devicemesh.push"'
_KNOWN = frozenset({*payload.FORMATS.values(), *payload.SENML, payload.MERGE_PATCH})


@dataclass(eq=False)
class Device:
    """A declared device."""

    name: str
    points: list[CoapPoint] = field(default_factory=list)
    decoders: dict[tuple[str, ...], tuple[Decoder, list[int]]] = field(default_factory=dict)
    lifetime_s: float = DEFAULT_LIFETIME_S
    until: float = 0.0  # loop time by which it must have spoken again
    silent: bool = False  # and it has been said

    @property
    def endpoint(self) -> CoapEndpoint:
        return self.points[0].endpoint

    @property
    def slots(self) -> list[int]:
        return [point.slot for point in self.points]

    def plan(self, now: float) -> None:
        """Work out who lives where."""
        paths: dict[tuple[str, ...], list[CoapPoint]] = {}
        for point in self.points:
            paths.setdefault(segments(point.address.path.partition("?")[0]), []).append(point)
        for path, points in paths.items():
            where = f"{self.name}/{'/'.join(path)}"
            self.decoders[path] = (Decoder(where, points), [point.slot for point in points])
        stated = self.endpoint.lifetime
        self.lifetime_s = duration_ns(stated) / 1e9 if stated else DEFAULT_LIFETIME_S
        self.until = now + self.lifetime_s


def is_from(host: str, sender: str | None) -> bool:
    """Whether a datagram's source is what the device's `sender` allows."""
    if sender is None:
        return True
    source = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(source, ipaddress.IPv6Address) and source.ipv4_mapped is not None:
        source = source.ipv4_mapped
    return source in ipaddress.ip_network(sender, strict=False)


class GatewaySession(Subscribable[CoapEndpoint, CoapAddress]):
    """Everything that is sent to one listening address."""

    def __init__(self, endpoint: CoapEndpoint) -> None:
        self.link = endpoint.link()
        self.refused = 0  # requests of devices that are not declared
        self._devices: dict[str, Device] = {}
        self._strangers: set[str] = set()
        self._out: deque[Batch] = deque()
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._redeclared = 0

    def lost(self) -> Mapping[str, int]:
        """See `Session`: redeclared (came while the declared points changed)."""
        return {"redeclared": self._redeclared} if self._redeclared else {}

    async def subscribe(self, points: Sequence[CoapPoint]) -> AsyncGenerator[Batch]:
        """See `Subscribable`. Only the devices of these points are accepted from now on."""
        now = self._loop.time()
        before = self._devices
        self._devices = {}
        for point in points:
            name = point.endpoint.name or ""
            self._devices.setdefault(name, Device(name)).points.append(point)
        for device in self._devices.values():
            device.plan(now)
            if (known := before.get(device.name)) is not None:
                device.lifetime_s, device.until = known.lifetime_s, known.until
        self._redeclared += sum(len(batch.slot) for batch in self._out if batch.error is None)
        self._out.clear()  # its slots may be those of others now
        while True:
            while self._out:
                yield self._out.popleft()
            for silence in self._silences():
                yield silence
            self._wake.clear()
            until = min((d.until for d in self._devices.values() if not d.silent), default=None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._wake.wait()

    def _silences(self) -> list[Batch]:
        """Devices whose lifetime has passed without a word."""
        now, made = self._loop.time(), []
        for device in self._devices.values():
            if now >= device.until and not device.silent:
                device.silent = True
                why = f"{device.name} has sent nothing to {self.link} for {device.lifetime_s:.6g} s"
                made.append(self._bad(device, why, "NoAnswer"))
        return made

    @staticmethod
    def _bad(device: Device, why: str, reason: str) -> Batch:
        error = PointError(why, reason=reason)
        return bad(device.slots, time.time_ns(), Quality.NO_ANSWER, error)

    def answer(self, request: Message, host: str) -> Message:
        """What becomes of a request."""
        path = request.texts(Option.URI_PATH)
        if path == [".well-known", "core"] and request.code == GET:
            return Message(CONTENT, ordered([(Option.CONTENT_FORMAT, uint(payload.LINKS))]), LISTING)
        if path == ["rd"]:
            return self._register(request, host)
        if len(path) < 2 or path[0] not in ("rd", "push"):
            return Message(NOT_FOUND, (), b"POST to /rd?ep=NAME or to /push/NAME/PATH")
        device = self._declared(path[1], host)
        if isinstance(device, Message):
            return device
        if path[0] == "push":
            return self._pushed(device, tuple(path[2:]), request)
        return self._renew(device, request) if len(path) == 2 else Message(NOT_FOUND)

    def _declared(self, name: str, host: str) -> Device | Message:
        device = self._devices.get(name)
        if device is not None and is_from(host, device.endpoint.sender):
            return device
        self.refused += 1
        if name not in self._strangers and len(self._strangers) < MOST_STRANGERS:
            self._strangers.add(name)
            why = "is declared, but not as coming from there" if device else "is not declared"
            log.warning("%s: refused %.63r from %s: it %s", self.link, name, host, why)
        if device is not None:
            return Message(UNAUTHORIZED, (), b"not from this address")
        return Message(FORBIDDEN, (), b"this device is not declared here")

    def _register(self, request: Message, host: str) -> Message:
        """RFC 9176, 5.2."""
        if request.code != POST:
            return Message(METHOD_NOT_ALLOWED)
        name = _query(request).get("ep", "")
        if not name:
            return Message(BAD_REQUEST, (), b"ep is missing")
        device = self._declared(name, host)
        if isinstance(device, Message):
            return device
        renewed = self._renew(device, request)
        if renewed.code != CHANGED:
            return renewed
        location = [(int(Option.LOCATION_PATH), b"rd"), (int(Option.LOCATION_PATH), name.encode())]
        return Message(CREATED, ordered(location))

    def _renew(self, device: Device, request: Message) -> Message:
        """An update, or the end, of a registration (RFC 9176, 5.3)."""
        if request.code == DELETE:
            device.silent, device.until = True, self._loop.time()
            self._out.append(self._bad(device, f"{device.name} has signed off from {self.link}", "SignedOff"))
            self._wake.set()
            return Message(DELETED)
        if request.code != POST:
            return Message(METHOD_NOT_ALLOWED)
        stated = _query(request).get("lt")
        if stated is not None:
            plain = stated.isascii() and stated.isdigit() and len(stated) < 20
            if not plain or not 1 <= int(stated) <= 4294967295:
                return Message(BAD_REQUEST, (), b"lt is 1 to 4294967295 seconds")
            if device.endpoint.lifetime is None:
                device.lifetime_s = float(int(stated))
        self._heard(device)
        return Message(CHANGED)

    def _heard(self, device: Device) -> None:
        device.silent, device.until = False, self._loop.time() + device.lifetime_s
        self._wake.set()

    def _pushed(self, device: Device, path: tuple[str, ...], request: Message) -> Message:
        """A body for some of its properties."""
        if request.code not in (POST, PUT):
            return Message(METHOD_NOT_ALLOWED)
        found = device.decoders.get(path)
        self._heard(device)
        if found is None:
            known = ", ".join("/" + "/".join(one) for one in device.decoders)
            return Message(NOT_FOUND, (), f"no property lives here, only at {known}"[:200].encode())
        form = request.integer(Option.CONTENT_FORMAT)
        if form is not None and form not in _KNOWN:
            return Message(UNSUPPORTED_FORMAT)
        now_ns = time.time_ns()
        batches = found[0].batches(request.payload, form, now_ns, True)
        self._out.extend(batches)
        wrong = next((batch.error for batch in batches if batch.error is not None), None)
        return Message(CHANGED) if wrong is None else Message(BAD_REQUEST, (), str(wrong)[:200].encode())


def _query(request: Message) -> dict[str, str]:
    """Uri-Query options as a map."""
    pairs = (one.partition("=") for one in request.texts(Option.URI_QUERY))
    return {name: value for name, _, value in pairs}


@asynccontextmanager
async def open_gateway(
    endpoint: CoapEndpoint, secrets: Secrets = no_secrets
) -> AsyncIterator[GatewaySession]:
    """Listen. Raises `LinkError` where the address can't be had. No secret is needed."""
    session = GatewaySession(endpoint)
    async with listening(endpoint, session.answer):
        yield session
