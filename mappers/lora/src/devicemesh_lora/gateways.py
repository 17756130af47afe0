"""The declared gateways: who may send, where their downlinks go, what is known of them. No I/O."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from devicemesh_lora.endpoint import LoraEndpoint
from devicemesh_lora.packet import Order

MOST_STRANGERS = 1000
"""Undeclared gateways that are remembered, so that each is told of once."""
HOLD_S = 60.0
"""For so long after its last word a gateway can't be taken over from another host."""


@dataclass(eq=False)
class Gateway:
    """A gateway."""

    endpoint: LoraEndpoint
    send: Callable[[Order], None] | None = None  # how it is asked to send; None: it can't be reached
    host: str = ""
    last_heard: float = -1e9
    refused: int = 0  # datagrams that were not its own, or made no sense
    bad_crc: int = 0
    known: dict[str, float | str] = field(default_factory=dict)  # as it reports of itself

    def admits(self, host: str, now: float, *, proven: bool) -> bool:
        """Whether what is said in its name may come from this host; `proven`: it has shown who it is."""
        if host == self.host:
            return True
        source = ipaddress.ip_address(host.partition("%")[0])
        if isinstance(source, ipaddress.IPv6Address) and source.ipv4_mapped is not None:
            source = source.ipv4_mapped
        if self.endpoint.sender is not None:
            return source in ipaddress.ip_network(self.endpoint.sender, strict=False)
        return proven or not self.host or now - self.last_heard > HOLD_S

    def stats(self) -> dict[str, float | str | None]:
        """Its properties, without `lastSeen`."""
        return {**self.known, "badCrc": float(self.bad_crc), "refused": float(self.refused)}

    def count(self, *names: str) -> None:
        """One more of these, which the gateway itself does not count."""
        for name in names:
            self.known[name] = float(self.known.get(name, 0.0)) + 1.0


class Gateways:
    """The allow-list."""

    def __init__(self) -> None:
        self.by_eui: dict[str, Gateway] = {}
        self.strangers: set[str] = set()
        self.refused = 0

    def declare(self, endpoints: Iterable[LoraEndpoint]) -> None:
        """Listen to these, and no others."""
        wanted = {endpoint.eui: endpoint for endpoint in endpoints}
        self.by_eui = {
            eui: self.by_eui[eui]
            if eui in self.by_eui and self.by_eui[eui].endpoint == endpoint
            else Gateway(endpoint)
            for eui, endpoint in wanted.items()
        }

    def admitted(
        self, eui: str, host: str, now: float, *, station: bool = False, proven: bool = False
    ) -> Gateway | str:
        """The gateway, or why it is not listened to: empty if that was said before.

        `station`: it speaks LoRa Basics Station; `proven`: it has shown who it is.
        """
        found = self.by_eui.get(eui)
        speaks = found is not None and (found.endpoint.station is not None) == station
        if found is not None and speaks and found.admits(host, now, proven=proven):
            found.host, found.last_heard = host, now
            return found
        self.refused += 1
        mark = f"{eui} {host}" if found is not None else eui
        if found is not None:
            found.refused += 1
        if mark in self.strangers or len(self.strangers) >= MOST_STRANGERS:
            return ""
        self.strangers.add(mark)
        if found is None:
            return "it is not declared"
        if not speaks:
            word = "without `station`" if station else "with `station`, not as a packet forwarder"
            return f"it is declared {word}"
        return "it is declared, but not as coming from there"

    @property
    def reachable(self) -> set[str]:
        return {eui for eui, gateway in self.by_eui.items() if gateway.send is not None}
