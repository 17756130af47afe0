"""Connections that we make: TCP, TLS, UDP."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable

from devicemesh.mapper import ConfigError, LinkError
from devicemesh_modbus.endpoint import ModbusEndpoint
from devicemesh_modbus.link import Link
from devicemesh_modbus.mbap import MbapLink


async def dial_datagrams(endpoint: ModbusEndpoint, link: Callable[[], MbapLink]) -> Link:
    """A UDP socket that hears only the device. Raises OSError."""
    address = (endpoint.host or "", endpoint.tcp_port)
    _, datagrams = await asyncio.get_running_loop().create_datagram_endpoint(link, remote_addr=address)
    return datagrams


async def dial(endpoint: ModbusEndpoint, link: Callable[[], Link]) -> Link:
    """A TCP connection, with TLS where it is declared. Raises OSError and `ConfigError`."""
    context = _tls(endpoint) if endpoint.kind == "tls" else None
    server_name = (endpoint.tls and endpoint.tls.server_name) or endpoint.host
    transport, stream = await asyncio.get_running_loop().create_connection(
        link,
        endpoint.host or "",
        endpoint.tcp_port,
        ssl=context,
        server_hostname=server_name if context else None,
    )
    notice_death(transport.get_extra_info("socket"), endpoint)
    return stream


def notice_death(sock: socket.socket, endpoint: ModbusEndpoint) -> None:
    """Have the kernel end a connection whose peer is gone without a word; it would keep it for minutes."""
    patience_ms = int(max(10.0, 3 * endpoint.timeout_s) * 1000)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience_ms)


def _tls(endpoint: ModbusEndpoint) -> ssl.SSLContext:
    """Verify the server, show our certificate if there is one.

    The frames inside are those of Modbus/TCP, unchanged (MODBUS/TCP Security V3.6, "mbap ADU encapsulated
    in TLS"), and may be split over records: pymodbus's own TLS framer takes a record for a frame.
    """
    tls = endpoint.tls
    try:
        context = ssl.create_default_context(cafile=tls.ca_file if tls else None)
        if tls and tls.cert_file:
            context.load_cert_chain(tls.cert_file, tls.key_file)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(f for f in (tls.ca_file, tls.cert_file, tls.key_file) if f) if tls else ""
        raise ConfigError(f"{endpoint.link()}: can't use the certificates {files}: {error}") from error
    return context


def explained(endpoint: ModbusEndpoint, error: OSError) -> LinkError:
    """Why a connect failed, in words."""
    name = endpoint.link()
    if isinstance(error, ssl.SSLCertVerificationError):
        return LinkError(
            f"{name}: its certificate is not trusted: {error.verify_message}", reason="Untrusted"
        )
    if isinstance(error, socket.gaierror):
        return LinkError(f"no such host: {endpoint.host}", reason="UnknownHost")
    # asyncio folds the errors of a name with several addresses into one text
    if isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return LinkError(f"{name} refused the connection", reason="ConnectionRefused")
    if error.errno == errno.ENOENT:
        return LinkError(f"no serial port {name}: is it plugged in?", reason="NoSuchPort")
    if error.errno == errno.EACCES:
        return LinkError(f"no right to use {name}: add this user to the port's group", reason="NotPermitted")
    if error.errno in (errno.EAGAIN, errno.EBUSY):
        return LinkError(f"{name} is used by another program", reason="PortInUse")
    return LinkError(f"{name}: {os.strerror(error.errno) if error.errno else error}")
