"""What the gateway knows of its devices."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from devicemesh.sink.base import Declaration
from devicemesh.sink.thingsboard import attributes, entries
from devicemesh.sink.thingsboard.entries import Bounds

log = logging.getLogger("devicemesh.sink")

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
    alone: set[str] = field(default_factory=set)  # attributes that go alone: one of them was not read
    untellable: set[str] = field(default_factory=set)  # that the log says not to be told
    doubted: set[str] = field(default_factory=set)  # properties whose quality was told as not good
    healed: set[str] = field(default_factory=set)  # and since as good, on this connection

    def news(self) -> dict[str, Any]:
        """Attributes that are otherwise than told."""
        now = attributes.state(self.status)
        if self.declaration is not None:
            now |= attributes.declared(self.declaration)
            now |= attributes.newest(self.declaration, self.twin)
        return attributes.news(now, self.told)

    def fitting(self, bounds: Bounds) -> dict[str, Any]:
        """News for one message; what never fits is not told."""
        found: dict[str, Any] = {}
        size = 0
        for key, value in self.news().items():
            length = entries.size(key, value)
            size += length
            if length > bounds.bytes:
                self._never(key, value, f"{length} bytes are more than it takes")
                size -= length
            elif found and (key in self.alone or size > bounds.bytes or len(found) >= bounds.values):
                break
            else:
                found[key] = value
                if key in self.alone:
                    break
        return found

    def unreadable(self, found: Mapping[str, Any]) -> None:
        """ThingsBoard can't read one of these attributes: each goes alone."""
        if len(found) > 1:
            self.alone |= found.keys()
            self.untold(found)
        for key, value in found.items() if len(found) == 1 else ():
            self._never(key, value, "it can't read it")

    def untold(self, found: Iterable[str]) -> None:
        """These attributes did not arrive."""
        for key in found:
            self.told.pop(key, None)

    def _never(self, key: str, value: Any, why: str) -> None:
        """This value is not told, until it is another."""
        self.told[key] = value
        if key not in self.untellable:
            self.untellable.add(key)
            log.warning("%s: ThingsBoard is not told the attribute %s: %s", self.name, key, why)

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
        self.alone.clear()
        self.unsure()


class GatewayDevices(Mapping[str, GatewayDevice]):
    """All of them by name at ThingsBoard, those that only data waits of, too."""

    def __init__(self) -> None:
        self._all: dict[str, GatewayDevice] = {}
        self.doubted: Callable[[str], set[str]] = lambda device: set()  # from the process before

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
            found = self._all[name] = GatewayDevice(name, device, doubted=self.doubted(device))
        return found

    def forget(self, name: str) -> None:
        """Nothing of it is told any more."""
        self._all.pop(name, None)
