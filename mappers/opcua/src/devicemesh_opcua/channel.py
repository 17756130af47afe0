"""The secure channel: asyncua's, with our own framing, our own way for values, and its errors in words."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import struct
import time
from typing import Any

from asyncua import ua as asyncua_types
from asyncua.client.client import Client
from asyncua.client.ua_client import UaClient, UASocketProtocol
from asyncua.common.shortcuts import Shortcuts
from asyncua.ua.ua_binary import nodeid_to_binary

from devicemesh.mapper import AuthError, ConfigError, LinkError, MapperError
from devicemesh_opcua import guard
from devicemesh_opcua.convert import EPOCH_TICKS
from devicemesh_opcua.model import OpcUaEndpoint
from devicemesh_opcua.services import ServiceFaultError

guard.install()
ua: Any = asyncua_types
"""asyncua's types. Its annotations want an Int32 where an int is meant, so they are not looked at."""
logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)  # what it has to say, its exceptions say
MAX_CHUNK = 65536
"""Bytes of a chunk; we offer 65535 (Part 6, 7.1.2.3)."""
CHANNEL_LIFETIME_MS = 3_600_000
"""How long a security token is asked to live; it is renewed before (Part 4, 5.5.2)."""
MAX_MESSAGE = 64 << 20
"""Bytes of the chunks of one message, which are kept until the last has come."""


class Channel(UASocketProtocol):
    """One connection. Only whole chunks of a sane size get to asyncua."""

    lost: str | None = None  # why it is over

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._held = bytearray()
        self._message_size = 0
        self.heard_at = 0.0  # loop time of the last bytes

    def data_received(self, data: bytes) -> None:
        self.heard_at = asyncio.get_running_loop().time()
        held = self._held
        held += data
        while len(held) >= 8 and self.lost is None:
            size = int.from_bytes(held[4:8], "little")
            if not 8 <= size <= MAX_CHUNK:
                self.fail(f"sent a chunk of {size} bytes: it does not speak OPC UA, or not rightly")
                return
            if len(held) < size:
                return
            chunk = bytes(held[:size])
            del held[:size]
            self._message_size += size
            if self._message_size > MAX_MESSAGE:
                self.fail(f"sent a message of more than {MAX_MESSAGE >> 20} MiB")
                return
            if chunk[3:4] != b"C":
                self._message_size = 0
            self._process_received_data(chunk)

    def fail(self, why: str) -> None:
        """End the connection now."""
        self.lost = self.lost or why
        self._fail_all_pending(ConnectionError(self.lost))
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        said = getattr(exc, "strerror", None) or (str(exc) if exc else "")
        self.lost = self.lost or (f"broke the connection: {said}" if said else "closed the connection")
        super().connection_lost(ConnectionError(self.lost))

    def post(self, type_id: int, parameters: bytes, timeout_s: float) -> asyncio.Future[Any]:
        """Send a request whose parameters are encoded already; the future has the answer as a Buffer."""
        if self.transport is None or self.lost is not None:
            raise ConnectionError(self.lost or "closed the connection")
        self._request_id += 1
        self._request_handle += 1
        now = time.time_ns() // 100 + EPOCH_TICKS
        head = struct.pack("<BBH", 1, 0, type_id) + nodeid_to_binary(self.authentication_token)
        head += struct.pack("<qIIiI", now, self._request_handle, 0, -1, int(timeout_s * 1000)) + b"\0\0\0"
        self.revolve_security_token()
        message = self._connection.message_to_binary(head + parameters, request_id=self._request_id)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._callbackmap[self._request_id] = future
        self.transport.write(message)
        return future


class _Transport(UaClient):
    """asyncua's services over our channel."""

    def _make_protocol(self) -> Channel:
        self.protocol = Channel(self._timeout, security_policy=self.security_policy)
        self.protocol.is_session_closing = self._is_session_closing
        return self.protocol


class Connection(Client):
    """asyncua's handshakes, identities and channel renewal; none of its tasks."""

    def __init__(self, endpoint: OpcUaEndpoint) -> None:
        super().__init__(endpoint.full_url, timeout=endpoint.timeout_s)
        self.uaclient = _Transport(endpoint.timeout_s)
        self.nodes = Shortcuts(self.uaclient.session)
        self.application_uri = endpoint.application_uri
        self.secure_channel_timeout = CHANNEL_LIFETIME_MS
        self.name = self.description = "DeviceMesh"

    @property
    def channel(self) -> Channel:
        """Raises ConnectionError when there is none."""
        channel = self.uaclient.protocol
        if not isinstance(channel, Channel):
            raise ConnectionError("closed the connection")
        return channel

    async def call(self, request: Any) -> Any:
        """Ask one of asyncua's services; returns its response. Raises what `explained` explains."""
        body = await self.uaclient._send_request(request)
        kind = getattr(ua, type(request).__name__.removesuffix("Request") + "Response")
        response: Any = ua.ua_binary.struct_from_binary(kind, body)
        response.ResponseHeader.ServiceResult.check()
        return response


_IDENTITY = {0x801F0000, 0x80200000, 0x80210000}
"""BadUserAccessDenied, BadIdentityTokenInvalid, BadIdentityTokenRejected."""


def explained(endpoint: OpcUaEndpoint, error: Exception) -> MapperError:
    """Why a connection could not be made, or ended, in words."""
    link = endpoint.link()
    if isinstance(error, MapperError):
        return error
    if isinstance(error, ServiceFaultError | ua.UaStatusCodeError):
        return _refused(endpoint, error.status if isinstance(error, ServiceFaultError) else error.code)
    if isinstance(error, TimeoutError):
        return LinkError(f"no answer from {link} within {endpoint.timeout_s:g} s", reason="NoAnswer")
    if isinstance(error, socket.gaierror):
        return LinkError(f"no such host: {endpoint.address[0]}", reason="UnknownHost")
    if isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return LinkError(f"{link} refused the connection", reason="ConnectionRefused")
    if isinstance(error, OSError) and error.errno:
        return LinkError(f"{link}: {os.strerror(error.errno)}")
    if isinstance(error, ConnectionError):
        return LinkError(f"{link} {error}")
    return LinkError(f"{link}: {error or type(error).__name__}")


def _refused(endpoint: OpcUaEndpoint, status: int) -> MapperError:
    link, name = endpoint.link(), _name(status)
    if status in _IDENTITY:
        who = endpoint.identity
        user = (
            f"user {who.user_name}" if who and who.user_name else "this certificate" if who else "anonymous"
        )
        return AuthError(f"{link} does not let {user} in ({name}): see `identity`")
    if name.startswith("BadCertificate") or name == "BadSecurityChecksFailed":
        return LinkError(
            f"{link} does not accept our certificate ({name}): let its administrator trust it",
            reason="CertificateRefused",
        )
    if name in ("BadTcpEndpointUrlInvalid", "BadServerUriInvalid"):
        return ConfigError(f"{link} has no endpoint {endpoint.full_url} ({name}): see `url`")
    if name in ("BadSecurityPolicyRejected", "BadSecurityModeRejected"):
        return ConfigError(f"{link} does not offer {endpoint.security_policy} {endpoint.security} ({name})")
    return LinkError(f"{link} refused: {name}", reason="Refused")


def _name(status: int) -> str:
    known: str = ua.status_codes.get_name_and_doc(status)[0]
    return known
