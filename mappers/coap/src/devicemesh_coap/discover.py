"""Looking for devices: what one has, what a Resource Directory knows, who hears a multicast."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterable
from urllib.parse import urlsplit

from devicemesh.mapper import ConfigError, Found, LinkError, MapperError, PointError, Secrets, no_secrets
from devicemesh_coap import links, status, transfer
from devicemesh_coap.channel import Channel
from devicemesh_coap.describe import Spot, model_yaml, resource_name, spots
from devicemesh_coap.links import Link
from devicemesh_coap.message import (
    GET,
    NON,
    Message,
    MessageError,
    Option,
    Options,
    decode,
    encode,
    ordered,
    succeeded,
)
from devicemesh_coap.model import CoapEndpoint, bracketed, segments
from devicemesh_coap.payload import PayloadError
from devicemesh_coap.session import open_channel
from devicemesh_coap.udp import MAX_DATAGRAM, WELL_KNOWN, resolve
from devicemesh_coap.uri import format_endpoint, parse_endpoint

MOST_RESOURCES = 256
MOST_DEVICES = 256
LEISURE_S = 5.0
"""How long devices may take to answer a multicast (RFC 7252, 8.2)."""
LOOKUP = "core.rd-lookup-res"
"""Of the resource that lists what is registered in a directory (RFC 9176, 6)."""


async def discover(uri: str, secrets: Secrets = no_secrets) -> AsyncIterator[Found]:
    """The device behind a URI, those that it lists, where it is a directory, or all that hear a multicast.

    `?interface=eth0` chooses where a multicast goes.
    """
    endpoint = parse_endpoint(uri)
    if _is_multicast(endpoint.address[0]):
        for one in await heard(endpoint):
            if (found := await _looked_at(one, secrets)) is not None:
                yield found
        return
    async with open_channel(endpoint, secrets) as channel:
        offered = await core(channel, endpoint)
        yield await described(channel, endpoint, offered)
        directories = [link for link in offered if LOOKUP in link.about.get("rt", "").split()]
        listed = await registered(channel, endpoint, directories)
    for one in listed:
        if (found := await _looked_at(one, secrets)) is not None:
            yield found


async def _looked_at(endpoint: CoapEndpoint, secrets: Secrets) -> Found | None:
    """One device of several: what is wrong with it must not hide the others."""
    try:
        async with open_channel(endpoint, secrets) as channel:
            return await described(channel, endpoint, await core(channel, endpoint))
    except ConfigError:
        raise
    except MapperError as error:
        return Found(format_endpoint(endpoint), {"problem": str(error)})


def _is_multicast(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_multicast
    except ValueError:
        return False


async def _asked(channel: Channel, endpoint: CoapEndpoint, uri: Options) -> Message:
    response = await transfer.exchanged(channel, Message(GET, uri), transfer.Limits.of(endpoint))
    if not succeeded(response.code):
        path = "/".join(value.decode("utf-8", "replace") for _, value in uri)
        raise status.error(f"{channel.link}/{path}", response)
    return response


async def core(channel: Channel, endpoint: CoapEndpoint) -> list[Link]:
    """What a device says that it has (RFC 6690, 4). Raises PointError, LinkError."""
    response = await _asked(channel, endpoint, WELL_KNOWN)
    return _links(channel, response)


def _links(channel: Channel, response: Message) -> list[Link]:
    try:
        return links.parse(response.payload.decode("utf-8"))
    except ValueError as error:
        raise PointError(f"{channel.link}: {error}", reason="Undecodable") from error


async def described(channel: Channel, endpoint: CoapEndpoint, offered: Iterable[Link]) -> Found:
    """A device with a sample of everything that it has."""
    prefix = "".join(f"/{segment}" for segment in endpoint.prefix)
    own = [link for link in offered if link.target.startswith(f"{prefix}/") and "anchor" not in link.about]
    found: list[Spot] = []
    shown: list[tuple[str, str]] = []
    for link in own[:MOST_RESOURCES]:
        if link.target.startswith("/.well-known/"):
            continue
        below = Link(link.target.removeprefix(prefix), link.about)
        try:
            uri = [(int(Option.URI_PATH), one.encode()) for one in segments(link.target)]
            values = spots(below, await _asked(channel, endpoint, ordered(uri)), time.time_ns())
        except (PointError, PayloadError) as error:
            shown.append((below.target, f"? {error}"))
            continue
        found += values
        shown += [(one.text, one.sample) for one in values] or [(below.target, "?")]
    about = sorted({word for link in own for word in link.about.get("rt", "").split()})
    identity = {"types": " ".join(about[:8])} if about else {}
    named = resource_name(f"{endpoint.address[0]}-{endpoint.address[1]}{prefix}")
    manifest = model_yaml(endpoint, found, named) if found else ""
    return Found(format_endpoint(endpoint), identity, shown, manifest)


async def registered(
    channel: Channel, endpoint: CoapEndpoint, directories: Iterable[Link]
) -> list[CoapEndpoint]:
    """The devices that a directory lists (RFC 9176, 6.2)."""
    bases: dict[str, None] = {}
    for directory in directories:
        uri = [(int(Option.URI_PATH), one.encode()) for one in segments(directory.target)]
        for link in _links(channel, await _asked(channel, endpoint, ordered(uri))):
            parts = urlsplit(link.target if "://" in link.target else link.about.get("anchor", ""))
            if parts.scheme in ("coap", "coap+tcp") and parts.hostname:
                bases.setdefault(f"{parts.scheme}://{parts.netloc}")
    return _endpoints(endpoint, list(bases)[:MOST_DEVICES])


def _endpoints(like: CoapEndpoint, uris: Iterable[str]) -> list[CoapEndpoint]:
    fields = like.model_dump(exclude_unset=True, exclude={"uri", "oscore", "dtls", "interface"})
    made = []
    for uri in uris:
        here = {"interface": like.interface} if like.interface and uri.startswith("coap://[fe80:") else {}
        try:
            made.append(CoapEndpoint.model_validate({**fields, **here, "uri": uri}))
        except ValueError:  # what a stranger says need not make sense
            continue
    return made


async def heard(endpoint: CoapEndpoint) -> list[CoapEndpoint]:
    """Who answers a multicast for .well-known/core (RFC 7252, 8). Raises LinkError, ConfigError."""
    family, address = await resolve(endpoint)
    loop = asyncio.get_running_loop()
    token = os.urandom(4)
    answers: dict[str, None] = {}
    with socket.socket(family, socket.SOCK_DGRAM) as made:
        made.setblocking(False)
        if endpoint.interface:
            choose_interface(made, endpoint.interface)
        try:
            made.sendto(encode(Message(GET, WELL_KNOWN, b"", token, 0x4D00, NON)), address)
        except OSError as error:
            why = error.strerror or error
            raise LinkError(f"{endpoint.link()}: the multicast can't be sent: {why}") from error
        until = loop.time() + min(endpoint.timeout_s, LEISURE_S)
        while (left := until - loop.time()) > 0 and len(answers) < MOST_DEVICES:
            try:
                async with asyncio.timeout(left):
                    data, source = await loop.sock_recvfrom(made, MAX_DATAGRAM)
                message = decode(data)
            except (TimeoutError, MessageError, OSError):
                continue
            if message.token == token and succeeded(message.code):
                answers.setdefault(f"coap://{bracketed(source[0])}:{source[1]}")
    return _endpoints(endpoint, answers)


def choose_interface(made: socket.socket, interface: str) -> None:
    """Send multicasts by one interface. Raises ConfigError."""
    try:
        index = socket.if_nametoindex(interface)
        if made.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        else:  # struct ip_mreqn: group, address, index
            mreqn = bytes(8) + index.to_bytes(4, sys.byteorder)
            made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, mreqn)
    except OSError as error:
        raise ConfigError(f"can't use the interface {interface}: {error.strerror or error}") from error
