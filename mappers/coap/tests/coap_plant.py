"""aiocoap's server, in a process that a test may kill; a test speaks to it through a pipe."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from multiprocessing.connection import Connection
from typing import Any

import aiocoap
from aiocoap import resource


def free_port() -> int:
    """One that UDP and TCP have free."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind(("127.0.0.1", 0))
            with socket.socket() as tcp, contextlib.suppress(OSError):
                tcp.bind(udp.getsockname())
                port: int = udp.getsockname()[1]
                return port


class Thing(resource.ObservableResource):
    """A resource that keeps what was written."""

    def __init__(
        self, body: bytes, form: int | None, max_age: int | None, observable: bool, etag: bool
    ) -> None:
        super().__init__()
        self.body, self.form, self.max_age = body, form, max_age
        self.refusal: int | None = None
        self.observable, self.etag = observable, etag
        self.log: list[tuple[int, int | None, bytes]] = []  # method, format, body
        self.delay_s = 0.0
        self.conflicts = 0
        self.answer: tuple[bytes, int | None] | None = None  # to what is written

    def get_link_description(self) -> dict[str, str]:
        about = {} if self.form is None else {"ct": str(self.form)}
        return {**about, "rt": "test", **({"obs": None} if self.observable else {})}  # type: ignore[dict-item]

    async def add_observation(self, request: Any, observation: Any) -> None:
        if self.observable:
            await super().add_observation(request, observation)

    def _tag(self) -> bytes:
        return (hash(self.body) & 0xFFFFFFFF).to_bytes(4, "big")

    async def render_get(self, request: Any) -> Any:
        self.log.append((int(request.code), request.opt.accept, request.payload))
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.refusal is not None:
            return aiocoap.Message(code=aiocoap.Code(self.refusal), max_age=self.max_age)
        if request.opt.accept is not None and request.opt.accept != self.form:
            return aiocoap.Message(code=aiocoap.NOT_ACCEPTABLE)
        if self.etag and self._tag() in request.opt.etags:
            return aiocoap.Message(code=aiocoap.VALID, etag=self._tag(), max_age=self.max_age)
        answer = aiocoap.Message(payload=self.body, content_format=self.form, max_age=self.max_age)
        if self.etag:
            answer.opt.etag = self._tag()
        return answer

    render_fetch = render_get

    async def render_put(self, request: Any) -> Any:
        self.log.append((int(request.code), request.opt.content_format, request.payload))
        if self.refusal is not None:
            return aiocoap.Message(code=aiocoap.Code(self.refusal))
        if self.conflicts and request.opt.if_match:
            self.conflicts -= 1
            return aiocoap.Message(code=aiocoap.PRECONDITION_FAILED)
        self.set(request.payload)
        if self.answer is not None:
            return aiocoap.Message(
                code=aiocoap.CHANGED, payload=self.answer[0], content_format=self.answer[1]
            )
        return aiocoap.Message(code=aiocoap.CHANGED)

    render_post = render_ipatch = render_patch = render_put

    def set(self, body: bytes) -> None:
        self.body = body
        self.updated_state()


class PlantServer:
    """The server. Every method may be called from the test."""

    def __init__(self) -> None:
        self.things: dict[str, Thing] = {}
        self.site: Any = resource.Site()
        core = resource.WKCResource(self.site.get_resources_as_linkheader, impl_info=None)
        self.site.add_resource([".well-known", "core"], core)

    async def start(self, port: int) -> int:
        port = port or free_port()
        transports = ["udp6", "tcpserver"]
        self._context = await aiocoap.Context.create_server_context(
            self.site, bind=("127.0.0.1", port), transports=transports
        )
        return port

    async def secure(self, folder: str) -> None:
        """Answer OSCORE requests too, by the context in a folder."""
        from aiocoap.credentials import CredentialsMap
        from aiocoap.oscore_sitewrapper import OscoreSiteWrapper

        credentials = CredentialsMap()
        credentials.load_from_dict({":peer": {"oscore": {"basedir": folder}}})
        self._context.server_credentials = credentials
        self._context.serversite = OscoreSiteWrapper(self.site, credentials)

    async def directory(self) -> int:
        """A Resource Directory (RFC 9176) on a port of its own, in which this server is registered."""
        port = free_port()
        from aiocoap.cli.rd import StandaloneResourceDirectory
        from aiocoap.resourcedirectory.client.register import Registerer

        context = await aiocoap.Context.create_server_context(
            None, bind=("127.0.0.1", port), transports=["udp6"]
        )
        self._directory = context  # it would be collected otherwise
        context.serversite = StandaloneResourceDirectory(context=context, lwm2m_compat=None)
        wish = {"ep": "node1"}
        self._registerer = Registerer(
            self._context, rd=f"coap://127.0.0.1:{port}", lt=120, registration_parameters=wish
        )
        return port

    async def add(
        self, path: str, body: bytes, form: int | None = 0, *, max_age: int | None = None,
        observable: bool = True, etag: bool = False,
    ) -> None:  # fmt: skip
        thing = Thing(body, form, max_age, observable, etag)
        self.things[path] = thing
        self.site.add_resource(path.strip("/").split("/"), thing)

    async def set(self, path: str, body: bytes) -> None:
        self.things[path].set(body)

    async def change(self, path: str, **fields: Any) -> None:
        for name, value in fields.items():
            setattr(self.things[path], name, value)

    async def log(self, path: str) -> list[tuple[int, int | None, bytes]]:
        return self.things[path].log

    async def body(self, path: str) -> bytes:
        return self.things[path].body


async def _serve(pipe: Connection, port: int) -> None:
    plant = PlantServer()
    pipe.send((True, await plant.start(port)))
    loop = asyncio.get_running_loop()
    while True:
        name, args, kwargs = await loop.run_in_executor(None, pipe.recv)
        try:
            pipe.send((True, await getattr(plant, name)(*args, **kwargs)))
        except Exception as error:
            pipe.send((False, repr(error)))


def main(pipe: Connection, port: int) -> None:
    logging.disable(logging.CRITICAL)
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        asyncio.run(_serve(pipe, port))
