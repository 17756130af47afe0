"""What all simulators ask of the declared devices: who shares a link, and where to serve it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from devicemesh.testing.simulator import SimulatedDevice


def by_link(devices: Iterable[SimulatedDevice]) -> Mapping[str, Sequence[SimulatedDevice]]:
    """The devices of each link, both by name."""
    links: dict[str, list[SimulatedDevice]] = {}
    for device in sorted(devices, key=lambda d: d.name):
        links.setdefault(device.endpoint.link(), []).append(device)
    return links


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, and only this machine can reach it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def place(address: tuple[str, int], host: str) -> tuple[str, int]:
    """Where to serve on `host` what is declared at `address`.

    A peer that is declared on this machine keeps its port, the others get free ones (0).
    """
    declared, port = address[0].lower(), address[1]
    if declared == host:
        return host, port
    if not is_loopback(declared):
        return host, 0
    return ("127.0.0.1" if declared == "localhost" else declared) if is_loopback(host) else host, port
