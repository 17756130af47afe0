"""The simulator contract: a protocol's server that stands in for every declared device.

At its end, what all simulators ask of the declared devices: who shares a link, and where to serve it. What
a property does over time is in `devicemesh.testing.signals`.
"""

from __future__ import annotations

import ipaddress
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devicemesh.mapper import Endpoint, Point
from devicemesh.spec.device import Command, Property


@dataclass(frozen=True, slots=True)
class SimulatedDevice:
    """A device to stand in for: its points (the type is on the property too) and what they should do."""

    name: str  # "namespace/name"
    endpoint: Endpoint
    points: Sequence[Point[Any, Any]]
    properties: Mapping[str, Property]  # by name, a Device's overrides applied
    folder: Path  # where relative files (replay) are looked up
    calls: Mapping[str, tuple[Command, Any]] = field(default_factory=dict)  # with their addresses
    events: Mapping[str, Any] = field(default_factory=dict)  # addresses of the event sources


class Simulation(ABC):
    """Running servers."""

    @property
    @abstractmethod
    def addresses(self) -> Mapping[str, str]:
        """Declared link -> where it is served (`10.0.0.5:502` -> `127.0.0.1:41234`)."""

    @abstractmethod
    def fault(self, device: str, fault: str, arguments: Mapping[str, str]) -> str:
        """Switch a fault of one device on (`heal` ends all), say what it does now. Raises ValueError."""


class Simulator(ABC):
    """Serves one protocol."""

    protocol: str

    @abstractmethod
    def serve(
        self, devices: Sequence[SimulatedDevice], *, seed: int, host: str
    ) -> AbstractAsyncContextManager[Simulation]:
        """Serve every device on `host` (a loopback address unless the user said otherwise).

        A link whose declared address is already `host` keeps its port; the others get free ones.
        """


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
