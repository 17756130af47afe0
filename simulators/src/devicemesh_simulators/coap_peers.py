"""Simulated CoAP peers: aiocoap's server with our resources in it, and clients that push.

Behind or before a relay, which brings the line's faults. This file is loaded when something is simulated.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import random
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any
from urllib.parse import quote

import aiocoap
from aiocoap import resource
from devicemesh_coap.model import CoapEndpoint

from devicemesh.testing.datagrams import DatagramProxy
from devicemesh.testing.proxy import Proxy
from devicemesh.testing.simulator import place
from devicemesh_simulators.things import Body, RefusedError, Twin

for _name in ("coap", "coap-server"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)
SETTLE_S = 0.15
"""For how long a server that nobody reaches any more may end what it has begun: aiocoap takes 0.1 s."""
LIFETIME_S = 60
PATIENCE_S = 1.0


class _Thing(resource.ObservableResource):  # type: ignore[misc]
    """A resource at the server."""

    def __init__(self, twin: Twin, body: Body, clock: Callable[[], float]) -> None:
        super().__init__()
        self._twin, self._body, self._clock = twin, body, clock
        self._shown = b""

    def get_link_description(self) -> dict[str, Any]:
        formats = " ".join(str(form) for form in self._body.formats)
        writable = any(cell.prop.access != "ReadOnly" for cell in self._body.cells)
        return {"ct": formats, "obs": None, "if": "core.a" if writable else "core.s"}

    def move(self) -> None:
        """Tell the observers, if there is something new."""
        _, body = self._body.encoded(None, self._clock(), self._twin.faults, self._twin.rng)
        if body != self._shown:
            self._shown = body
            self.updated_state()

    async def render_get(self, request: Any) -> Any:
        return self._answered(lambda: self._get(request))

    async def render_put(self, request: Any) -> Any:
        return self._answered(lambda: self._put(request))

    render_fetch = render_get
    render_post = render_patch = render_ipatch = render_put

    def _get(self, request: Any) -> Any:
        form, body = self._body.encoded(request.opt.accept, self._clock(), self._twin.faults, self._twin.rng)
        etag = hashlib.blake2s(body, digest_size=4).digest()
        if etag in request.opt.etags:
            return aiocoap.Message(code=aiocoap.VALID, etag=etag)
        return aiocoap.Message(payload=body, content_format=form, etag=etag)

    def _put(self, request: Any) -> Any:
        self._body.write(request.opt.content_format, request.payload)
        self.move()
        return aiocoap.Message(code=aiocoap.CHANGED)

    def _answered(self, work: Callable[[], Any]) -> Any:
        if self._twin.faults.unavailable_s:
            return aiocoap.Message(code=aiocoap.SERVICE_UNAVAILABLE, max_age=self._twin.faults.unavailable_s)
        try:
            return work()
        except RefusedError as refused:
            return aiocoap.Message(code=aiocoap.Code(refused.code))


class _Action(resource.Resource):  # type: ignore[misc]
    """A command: it does nothing, and says what it was told."""

    def __init__(self, twin: Twin) -> None:
        super().__init__()
        self._twin = twin

    async def render_post(self, request: Any) -> Any:
        if self._twin.faults.unavailable_s:
            return aiocoap.Message(code=aiocoap.SERVICE_UNAVAILABLE, max_age=self._twin.faults.unavailable_s)
        told = {"payload": request.payload, "content_format": request.opt.content_format}
        return aiocoap.Message(code=aiocoap.CHANGED, **(told if request.payload else {}))

    render_put = render_fetch = render_post


def _free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def serving(
    endpoint: CoapEndpoint, twins: Sequence[Twin], host: str, rng: random.Random, clock: Callable[[], float]
) -> AsyncIterator[tuple[str, int, DatagramProxy | Proxy]]:
    """A server, and the line to it; yields where it is reached."""
    over_tcp = endpoint.scheme == "coap+tcp"
    site: Any = resource.Site()
    core = resource.WKCResource(site.get_resources_as_linkheader, impl_info=None)
    site.add_resource([".well-known", "core"], core)
    things: list[tuple[float, _Thing]] = []
    for twin in twins:
        for body in twin.bodies:
            thing = _Thing(twin, body, clock)
            site.add_resource(list(body.path), thing)
            things.append((body.period_s, thing))
        for path in twin.actions - {tuple(body.path) for body in twin.bodies}:
            site.add_resource(list(path), _Action(twin))
    inside = _free_port(socket.SOCK_STREAM if over_tcp else socket.SOCK_DGRAM)
    context = await aiocoap.Context.create_server_context(
        site, bind=("127.0.0.1", inside), transports=["tcpserver" if over_tcp else "udp6"]
    )
    at, port = place(endpoint.address, host)
    line: DatagramProxy | Proxy
    if over_tcp:
        line = Proxy(inside, host=at, port=port)
    else:
        line = DatagramProxy(("127.0.0.1", inside), rng, host=at, port=port)
    moving = asyncio.create_task(_move(things))
    try:
        async with _listening(line):
            yield at, line.port, line
    finally:
        moving.cancel()
        await asyncio.wait({moving})
        await asyncio.sleep(SETTLE_S)
        await context.shutdown()
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def _listening(line: DatagramProxy | Proxy) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(line)
        except OSError as error:
            raise OSError(f"can't listen on {line.host}:{line.port}: {error.strerror or error}") from error
        yield


async def _move(things: Sequence[tuple[float, _Thing]]) -> None:
    """Tell observers what has changed, each resource at its own pace."""
    loop = asyncio.get_running_loop()
    due = [loop.time() for _ in things]
    while things:
        now = loop.time()
        for i, (period_s, thing) in enumerate(things):
            if due[i] <= now:
                thing.move()
                due[i] = max(due[i] + period_s, now)
        await asyncio.sleep(max(0.0, min(due) - loop.time()))
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def pushing(
    endpoint: CoapEndpoint, twins: Sequence[Twin], host: str, rng: random.Random, clock: Callable[[], float]
) -> AsyncIterator[tuple[str, int, DatagramProxy | Proxy]]:
    """Clients of the one address that the runtime listens on; yields that address."""
    at, port = place(endpoint.address, host)
    port = port or _free_port(socket.SOCK_DGRAM)
    async with DatagramProxy((at, port), rng) as line:
        tasks = [asyncio.create_task(_push(twin, line, clock)) for twin in twins]
        try:
            yield at, port, line
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0)


async def _push(twin: Twin, line: DatagramProxy, clock: Callable[[], float]) -> None:
    """One device: it registers, and sends each body at its own pace."""
    name = quote(twin.endpoint_name, safe="")
    base = f"coap://127.0.0.1:{line.port}"
    loop = asyncio.get_running_loop()
    context = await aiocoap.Context.create_client_context(transports=["simple6"])
    registered_until = 0.0
    due = [loop.time() for _ in twin.bodies]

    async def sent(message: Any) -> bool:
        try:
            async with asyncio.timeout(PATIENCE_S):
                response = await context.request(message, handle_blockwise=True).response
        except (TimeoutError, aiocoap.error.Error, OSError):
            await asyncio.sleep(0.2)
            return False
        return bool(response.code.is_successful())

    try:
        while True:
            if loop.time() >= registered_until:
                query = f"?ep={name}&lt={LIFETIME_S}"
                done = await sent(aiocoap.Message(code=aiocoap.POST, uri=f"{base}/rd{query}"))
                registered_until = loop.time() + (LIFETIME_S / 2 if done else 0.2)
            for i, body in enumerate(twin.bodies):
                if due[i] > loop.time():
                    continue
                form, data = body.encoded(None, clock(), twin.faults, twin.rng)
                path = "".join(f"/{quote(one, safe='')}" for one in body.path)
                uri = f"{base}/push/{name}{path}"
                message = aiocoap.Message(code=aiocoap.POST, uri=uri, payload=data, content_format=form)
                if not twin.faults.unavailable_s:
                    await sent(message)
                due[i] = max(due[i] + body.period_s, loop.time())
            await asyncio.sleep(max(0.0, min([*due, registered_until]) - loop.time()))
    finally:
        await context.shutdown()
