"""CoAP over TCP (RFC 8323) and DTLS (RFC 7252, 9), by aiocoap."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
from collections.abc import AsyncIterator
from typing import Any

import aiocoap
from aiocoap import error as errors

from devicemesh.mapper import ConfigError, LinkError, PointError, Secrets
from devicemesh_coap.channel import Channel, Notify, usable
from devicemesh_coap.foreign import from_aiocoap, to_aiocoap
from devicemesh_coap.message import GET, Message, MessageError, Option
from devicemesh_coap.model import CoapEndpoint, bracketed
from devicemesh_coap.udp import WELL_KNOWN

INSTALL = "pip install 'devicemesh-coap[dtls]' (builds a C library: apt install autoconf automake make gcc)"
_log = logging.getLogger("devicemesh.coap.aiocoap")


class AiocoapChannel(Channel):
    """One device, behind aiocoap's context."""

    def __init__(self, endpoint: CoapEndpoint, context: Any) -> None:
        self.link = endpoint.link()
        host, port = endpoint.address
        self._base = f"{endpoint.scheme}://{bracketed(host)}:{port}"
        self._context = context
        self._timeout_s = endpoint.timeout_s
        self._loop = asyncio.get_running_loop()
        self._observations: dict[bytes, Any] = {}
        self._count = 0

    async def request(self, message: Message) -> Message:
        response, _ = await self._asked(message)
        return usable(self.link, response)

    async def observe(self, message: Message, notify: Notify, token: bytes = b"") -> tuple[Message, bytes]:
        self._count += 1
        made = self._count.to_bytes(8, "big")
        early: list[Message] = []  # notifications that come before their first one is handled
        receivers: list[Notify] = [early.append]

        def heard(notification: Message) -> None:
            receivers[-1](notification)

        response, observation = await self._asked(message, made, heard)
        self.forget(token, message)
        usable(self.link, response)
        if response.option(Option.OBSERVE) is not None and observation is not None:
            self._observations[made] = observation
            notify(response)
            for notification in early:
                notify(notification)
        receivers.append(notify)
        return response, made

    def _follow(self, observation: Any, token: bytes, notify: Notify) -> None:
        """Give every notification on at once: aiocoap's iterator would keep the last one only."""

        def arrived(made: Any) -> None:
            self.last_heard = self._loop.time()
            try:
                notify(from_aiocoap(made))
            except MessageError as error:
                notify(Message(int(made.code), flaw=str(error)))

        def ended(error: Exception) -> None:
            self._observations.pop(token, None)
            if isinstance(error, errors.NetworkError):
                self.lost = self.lost or self._broken(error)

        observation.register_callback(arrived, _suppress_deprecation=True)
        observation.register_errback(ended, _suppress_deprecation=True)

    def forget(self, token: bytes, message: Message) -> None:
        observation = self._observations.pop(token, None)
        if observation is not None and not observation.cancelled:
            observation.cancel()

    async def ping(self) -> None:
        """aiocoap sends no pings: the one resource that every device has stands in. Raises LinkError."""
        started = self._loop.time()
        try:
            await self.request(Message(GET, WELL_KNOWN))
        except PointError as error:
            if self.last_heard < started:
                raise LinkError(str(error), reason="NoAnswer") from error

    async def _asked(
        self, message: Message, token: bytes = b"", heard: Notify | None = None
    ) -> tuple[Message, Any]:
        """The first answer, and aiocoap's observation, whose notifications go to `heard`."""
        if self.lost is not None:
            raise self.lost
        started = self._loop.time()
        request = self._context.request(to_aiocoap(message, self._base), handle_blockwise=False)
        if heard is not None and request.observation is not None:
            self._follow(request.observation, token, heard)
        try:
            async with asyncio.timeout(self._timeout_s):
                made = await request.response
            response = from_aiocoap(made)
        except TimeoutError:
            why = f"no answer from {self.link} within {self._timeout_s:.3g} s"
            if self.last_heard < started:
                self.lost = LinkError(why, reason="NoAnswer")
                raise self.lost from None
            raise PointError(why, reason="NoAnswer") from None
        except errors.NetworkError as error:
            self.lost = self._broken(error)
            raise self.lost from error
        except (errors.Error, MessageError, ValueError) as error:
            why = f"{self.link} answers with what is no CoAP message: {error or type(error).__name__}"
            raise PointError(why, reason="Undecodable") from error
        self.last_heard = self._loop.time()
        return response, request.observation

    def _broken(self, error: Exception) -> LinkError:
        cause = error.__cause__
        why = (cause.strerror or cause) if isinstance(cause, OSError) else error
        return LinkError(f"{self.link} can't be reached: {str(why) or type(error).__name__}")


def _credentials(endpoint: CoapEndpoint, secrets: Secrets) -> dict[str, Any]:
    """As aiocoap wants them. Raises ConfigError, AuthError."""
    if endpoint.scheme != "coaps":
        return {}
    if importlib.util.find_spec("DTLSSocket") is None:
        raise ConfigError(f"{endpoint.link()} needs DTLS, which is not installed: {INSTALL}", reason="NoDtls")
    if endpoint.dtls is None:
        raise ConfigError(f"{endpoint.link()} needs a key: give `dtls` with `identity` and `key`")
    try:
        key = bytes.fromhex(secrets(endpoint.dtls.key).strip())
    except ValueError as error:
        named = f"{endpoint.dtls.key.name}/{endpoint.dtls.key.key}"
        raise ConfigError(f"the secret {named} is no key: write it in hexadecimal") from error
    psk = {"psk": {"hex": key.hex()}, "client-identity": {"ascii": endpoint.dtls.identity}}
    host, port = endpoint.address
    return {f"coaps://{bracketed(host)}:{port}/*": {"dtls": psk}}


@contextlib.asynccontextmanager
async def open_aiocoap(endpoint: CoapEndpoint, secrets: Secrets) -> AsyncIterator[AiocoapChannel]:
    """A channel to a device that is there. Raises LinkError, ConfigError, AuthError."""
    credentials = _credentials(endpoint, secrets)
    _log.setLevel(logging.CRITICAL + 1)
    transports = ["tinydtls" if credentials else "tcpclient"]
    context = await aiocoap.Context.create_client_context(loggername=_log.name, transports=transports)
    try:
        context.client_credentials.load_from_dict(credentials)
        channel = AiocoapChannel(endpoint, context)
        await channel.ping()
        yield channel
    finally:
        await context.shutdown()
        await asyncio.sleep(0)
