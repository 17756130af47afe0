"""The websocket that gateways with LoRa Basics Station connect to; only it knows the websocket library."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import http
import logging
import ssl
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from devicemesh.mapper import AuthError, LinkError, MapperError, Quality, SecretRef, Secrets
from devicemesh_lora import station
from devicemesh_lora.endpoint import LoraEndpoint, ServerTls, bracketed
from devicemesh_lora.gateways import Gateway
from devicemesh_lora.house import House
from devicemesh_lora.packet import Order, Packet
from devicemesh_lora.regions import REGIONS

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

log = logging.getLogger("devicemesh.lora")
DISCOVERY, DATA = "/router-info", "/gateway/"
OPEN_S = 10.0
"""Within which a connection must have said what it wants."""
PING_S = 30.0
"""Between two pings; a gateway that does not answer for as long has gone."""
MOST_CONNECTIONS = 1000
"""At once, strangers at /router-info among them, who are given OPEN_S to say who they are."""
MOST_WAITING = 64
"""Messages that wait for a gateway; more are given up, as their windows are over."""


class Stations:
    """All gateways that connect to one address. Listens while any is declared."""

    def __init__(self, house: House, endpoint: LoraEndpoint, secrets: Secrets) -> None:
        self._house, self._secrets = house, secrets
        self._link = endpoint.link()
        self._address, self._region = endpoint.address, REGIONS[endpoint.region]
        self._server = AsyncExitStack()
        self._tls: ServerTls | None = None
        self.listens = False
        self._open: Collection[ServerConnection] = ()
        self._connections: dict[str, ServerConnection] = {}
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.aclose()

    async def declare(self) -> None:
        """Listen, or not, as the declared gateways need it. Raises LinkError where the port is taken.

        A certificate that can't be used is told at its gateways; those with a packet forwarder go on.
        """
        declared = [one for one in self._house.gateways.by_eui.values() if one.endpoint.station is not None]
        tls = declared[0].endpoint.station.tls if declared and declared[0].endpoint.station else None
        if self.listens and declared and tls == self._tls:
            for eui in self._connections.keys() - {one.endpoint.eui for one in declared}:
                await self._connections[eui].close(1008, "it is not declared any more")
            return
        self.listens = False
        await self._server.aclose()
        if not declared:
            return
        try:
            context = _context(tls, self._secrets) if tls is not None else None
        except (MapperError, OSError, ValueError) as error:
            said = f"the certificate of {self._link} can't be used: {error}"
            why = error if isinstance(error, MapperError) else AuthError(said)
            for one in declared:
                self._house.out.silence(one.endpoint.eui, str(why), why.reason, Quality.REFUSED)
            return
        await self._listen(context)
        self.listens, self._tls = True, tls

    async def _listen(self, context: ssl.SSLContext | None) -> None:
        from websockets.asyncio.server import serve

        host, port = self._address
        made = serve(
            self._serve, host, port, ssl=context, process_request=self._asked, compression=None,
            max_size=station.MOST_BYTES, open_timeout=OPEN_S, ping_interval=PING_S, ping_timeout=PING_S,
            close_timeout=2.0, server_header=None, logger=_quiet(),
            ssl_handshake_timeout=OPEN_S if context is not None else None,
        )  # fmt: skip
        try:
            self._open = (await self._server.enter_async_context(made)).connections
        except OSError as error:
            why = error.strerror or str(error)
            raise LinkError(f"can't open {self._link} for stations: {why}") from error

    # Who is let in

    def _asked(self, connection: ServerConnection, request: Request) -> Response | None:
        """Before a websocket is opened: None lets it in."""
        path = request.path.partition("?")[0]
        if len(self._open) >= MOST_CONNECTIONS:
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "too many connections\n")
        if path == DISCOVERY:
            return None
        if not path.startswith(DATA):
            return connection.respond(http.HTTPStatus.NOT_FOUND, f"stations ask at {DISCOVERY}\n")
        try:
            gateway = self._admitted(connection, station.eui(path.removeprefix(DATA)), request)
        except station.MessageError as error:
            return connection.respond(http.HTTPStatus.NOT_FOUND, f"{error}\n")
        if isinstance(gateway, str):
            return connection.respond(http.HTTPStatus.FORBIDDEN, f"{gateway}\n")
        return None

    def _admitted(self, connection: ServerConnection, eui: str, request: Request) -> Gateway | str:
        """The gateway, or why it is not let in."""
        host, now, gateways = connection.remote_address[0], self._loop.time(), self._house.gateways
        known = gateways.by_eui.get(eui)
        declared = known.endpoint.station if known is not None else None
        proven = False
        if known is not None and declared is not None:
            if declared.token is not None:
                why = self._wrong_token(declared.token, request)
                if why:
                    known.refused += 1
                    self._house.out.tell(eui, "is not let in", why)
                    return why
            proven = declared.token is not None or bool(declared.tls and declared.tls.client_ca_file)
        found = gateways.admitted(eui, host, now, station=True, proven=proven)
        if isinstance(found, str):
            if found:
                self._house.out.tell(eui, f"refused from {host}", found)
            return found or "it is not let in"
        return found

    def _wrong_token(self, ref: SecretRef, request: Request) -> str:
        try:
            wanted = self._secrets(ref)
        except AuthError as error:
            return str(error)
        given = request.headers.get("Authorization", "")
        bare = [one.strip().removeprefix("Bearer ").encode() for one in (wanted, given)]
        return "" if hmac.compare_digest(*bare) else "its header Authorization is not the declared token"

    # What is said

    async def _serve(self, connection: ServerConnection) -> None:
        from websockets.exceptions import ConnectionClosed

        request = connection.request
        assert request is not None
        path = request.path.partition("?")[0]
        with contextlib.suppress(ConnectionClosed, TimeoutError):
            if path == DISCOVERY:
                async with asyncio.timeout(OPEN_S):
                    await self._discover(connection, request)
            else:
                await self._talk(connection, station.eui(path.removeprefix(DATA)))

    async def _discover(self, connection: ServerConnection, request: Request) -> None:
        """Where to connect: to the same place, as the station itself calls it."""
        message = await connection.recv()
        try:
            eui = station.asked(message if isinstance(message, str) else "")
        except station.MessageError as error:
            self._house.gateways.refused += 1
            self._house.out.tell("", f"{connection.remote_address[0]} asks what makes no sense", str(error))
            return
        found = self._admitted(connection, eui, request)
        if isinstance(found, str):
            await connection.send(station.router_error(eui, found))
            return
        host, port = self._address
        where = request.headers.get("Host") or f"{bracketed(host)}:{port}"
        scheme = "wss" if connection.transport.get_extra_info("ssl_object") is not None else "ws"
        await connection.send(station.router_info(eui, f"{scheme}://{where}{DATA}{eui}"))

    async def _talk(self, connection: ServerConnection, eui: str) -> None:
        """A gateway, until it hangs up. A newer connection of it takes this one's place."""
        gateway = self._house.gateways.by_eui.get(eui)
        if gateway is None:
            return
        if (older := self._connections.get(eui)) is not None:
            older.transport.abort()
        self._connections[eui] = connection
        waiting: asyncio.Queue[str] = asyncio.Queue(MOST_WAITING)

        def send(order: Order) -> None:
            with contextlib.suppress(asyncio.QueueFull):
                waiting.put_nowait(station.downlink(order, self._region))
                if (asked := self._house.gateways.by_eui.get(eui)) is not None:
                    asked.count("dwnb")

        writing = asyncio.create_task(_forward(waiting, connection))
        log.info("%s: gateway %s is connected from %s", self._link, eui, gateway.host)
        try:
            async for message in connection:
                gateway = self._house.gateways.by_eui.get(eui)
                if gateway is None:
                    return
                gateway.send = send
                self._heard(gateway, message, waiting)
        finally:
            writing.cancel()
            if self._connections.get(eui) is connection:
                del self._connections[eui]
                if (left := self._house.gateways.by_eui.get(eui)) is not None:
                    left.send = None
            log.info("%s: gateway %s has hung up", self._link, eui)

    def _heard(self, gateway: Gateway, message: str | bytes, waiting: asyncio.Queue[str]) -> None:
        house, eui = self._house, gateway.endpoint.eui
        gateway.last_heard = self._loop.time()
        house.out.heard(eui)
        try:
            if isinstance(message, bytes):
                raise station.MessageError("it is binary: a remote shell is not offered")
            found = station.decode(message, eui, self._region, time.time_ns())
        except station.MessageError as error:
            gateway.refused += 1
            house.out.tell(eui, "makes no sense", str(error))
            house.report(gateway)
            return
        answer = None
        if isinstance(found, Packet):
            gateway.count("rxnb", "rxfw")
            house.packets([found])
        elif isinstance(found, station.Transmitted):
            gateway.count("txnb")
            house.landed(found.number, eui, "")
        elif isinstance(found, station.TimeSync):
            answer = station.time_sync(found, time.time())
        elif isinstance(found, station.Version):
            sub_band = gateway.endpoint.station.sub_band if gateway.endpoint.station else None
            answer = station.router_config(self._region, sub_band, time.time())
        if answer is not None:
            with contextlib.suppress(asyncio.QueueFull):
                waiting.put_nowait(answer)
        house.report(gateway)


async def _forward(waiting: asyncio.Queue[str], connection: ServerConnection) -> None:
    from websockets.exceptions import ConnectionClosed

    with contextlib.suppress(ConnectionClosed):
        while True:
            await connection.send(await waiting.get())


def _quiet() -> logging.Logger:
    """The library tells of every failed handshake, with a traceback: anybody could fill the log."""
    made = logging.getLogger("devicemesh.lora.websocket")
    made.setLevel(logging.CRITICAL + 1)
    return made


def _context(tls: ServerTls, secrets: Secrets) -> ssl.SSLContext:
    """Raises AuthError, OSError or ValueError (as ssl.SSLError is one)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.cert_file is not None:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    else:
        with _files(tls, secrets) as (certificate, key):
            context.load_cert_chain(certificate, key)
    if tls.client_ca_file is not None:
        context.load_verify_locations(tls.client_ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@contextlib.contextmanager
def _files(tls: ServerTls, secrets: Secrets) -> Iterator[tuple[Path, Path | None]]:
    """A certificate by reference as files for a moment, which only we can read: ssl takes nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = Path(folder, "certificate"), None
        assert tls.certificate is not None
        certificate.write_text(secrets(tls.certificate), encoding="ascii")
        if tls.private_key is not None:
            key = Path(folder, "key")
            key.write_text(secrets(tls.private_key), encoding="ascii")
        yield certificate, key
