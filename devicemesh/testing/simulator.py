"""The simulator contract: a protocol's server that stands in for every declared device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
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
