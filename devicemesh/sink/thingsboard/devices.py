"""What the gateway knows of its devices."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from devicemesh.sink.base import Declaration
from devicemesh.sink.thingsboard import attributes

ALIVE = ("Ready", "Degraded")


@dataclass(slots=True, eq=False)
class GatewayDevice:
    """One of them, by its name at ThingsBoard."""

    name: str
    device: str  # "namespace/name"
    declaration: Declaration | None = None
    alive: bool = False
    connected: bool = False  # ThingsBoard was told so, on this connection
    asked: bool = False  # for its shared attributes, on this connection
    owed: bool = False  # ThingsBoard believes it to be alive, until it is told otherwise
    refused: int = 0  # the code that connecting was answered with; 0: it was not refused
    spoken_s: float = 0.0  # when data of it went out last, on the loop's clock
    twin: bytes = b""  # the newest `twin/reported`
    status: bytes = b""  # the newest `status`
    told: dict[str, Any] = field(default_factory=dict)  # attributes, on this connection
    doubted: set[str] = field(default_factory=set)  # properties whose quality was told as not good
    healed: set[str] = field(default_factory=set)  # and since as good, on this connection

    def news(self) -> dict[str, Any]:
        """Attributes that are otherwise than told."""
        now = attributes.state(self.status)
        if self.declaration is not None:
            now |= attributes.declared(self.declaration)
            now |= attributes.newest(self.declaration, self.twin)
        return attributes.news(now, self.told)

    def state(self, status: bytes) -> None:
        """Take a `status`; b"" is the end."""
        self.status = status
        self.alive = bool(status) and json.loads(status)["state"] in ALIVE

    def settable(self) -> list[str]:
        """Properties whose shared attributes are desired values."""
        known = self.declaration.properties if self.declaration is not None else {}
        return [name for name, prop in known.items() if prop.access != "ReadOnly"]

    def unsure(self) -> None:
        """Nobody knows whether what was told lately has arrived: it is told again."""
        self.doubted |= self.healed
        self.healed.clear()

    def forgotten(self) -> None:
        """It is another connection: ThingsBoard knows nothing of it there."""
        self.connected = self.asked = False
        self.refused = 0
        self.told.clear()
        self.unsure()


class GatewayDevices(Mapping[str, GatewayDevice]):
    """All of them by name at ThingsBoard, those that only data waits of, too."""

    def __init__(self) -> None:
        self._all: dict[str, GatewayDevice] = {}

    def __getitem__(self, name: str) -> GatewayDevice:
        return self._all[name]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._all))

    def __len__(self) -> int:
        return len(self._all)

    def known(self, name: str, device: str) -> GatewayDevice:
        """One that is spoken of."""
        found = self._all.get(name)
        if found is None:
            found = self._all[name] = GatewayDevice(name, device)
        return found

    def forget(self, name: str) -> None:
        """Nothing of it is told any more."""
        self._all.pop(name, None)
