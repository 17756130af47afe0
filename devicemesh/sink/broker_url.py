"""Where the broker is, how to speak to it, and in words why not."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from devicemesh.settings import MqttSettings

CONNECT_S = 10.0
"""Patience for TCP, for TLS, and for the broker's answer, each."""
BROKE = "the connection broke"
ENDED = "the broker ended the connection"

_SCHEMES: dict[str, tuple[Literal["tcp", "websockets"], bool, int]] = {
    "mqtt": ("tcp", False, 1883),
    "mqtts": ("tcp", True, 8883),
    "ws": ("websockets", False, 80),
    "wss": ("websockets", True, 443),
}


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """A parsed `mqtt.url`."""

    host: str
    port: int
    transport: Literal["tcp", "websockets"]
    tls: bool
    path: str  # of a websocket

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_url(url: str | None) -> BrokerUrl:
    """Read `mqtt://host:1883` and its like. Raises ValueError, in words."""
    if not url:
        raise ValueError("mqtt.url is missing: write mqtt://host:1883")
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"mqtt.url {_shown(url)!r}: write mqtt://, mqtts://, ws:// or wss:// and a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("mqtt.url must not carry credentials: use mqtt.username and mqtt.password")
    transport, tls, usual = _SCHEMES[parts.scheme]
    try:
        port = parts.port
    except ValueError as error:
        raise ValueError(f"mqtt.url {url!r}: {error}") from error
    if not parts.hostname:
        raise ValueError(f"mqtt.url {url!r} has no host")
    if transport == "tcp" and parts.path not in ("", "/"):
        raise ValueError(f"mqtt.url {url!r}: only a websocket has a path")
    return BrokerUrl(parts.hostname, port or usual, transport, tls, parts.path or "/mqtt")


def _shown(url: str) -> str:
    return url.rsplit("@", 1)[-1]


def tls_context(settings: MqttSettings) -> ssl.SSLContext:
    """Build the TLS side: verified always. Raises OSError or ssl.SSLError for files that are no good."""
    context = ssl.create_default_context(cafile=settings.ca_file)
    if settings.cert_file is not None:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    return context


def in_words(error: Exception, url: BrokerUrl | None) -> str:
    """Say what an error means for a connection that was being made, or (url: None) that was up."""
    where = str(url) if url else "the broker"
    match error:
        case ssl.SSLCertVerificationError():
            return f"the certificate of {where} is not trusted: {error.verify_message}"
        case ssl.SSLError():
            return f"no TLS with {where}: {error.reason or error}"
        case socket.gaierror():
            return f"the host of {where} is unknown: {error.strerror}"
        case ConnectionRefusedError():
            return f"no broker listens on {where}"
        case TimeoutError():
            return f"no answer from {where} within {CONNECT_S:g} s"
        case FileNotFoundError():
            return f"{error.filename or 'a file of the TLS settings'} is missing"
        case ConnectionResetError() | BrokenPipeError() if url is None:
            return BROKE
        case OSError():
            return f"no connection to {where}: {error.strerror or error}"
    return f"no connection to {where}: {error}"
