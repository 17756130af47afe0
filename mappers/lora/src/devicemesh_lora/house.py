"""The network server, as the ways that gateways speak see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from devicemesh_lora.delivery import Delivery
from devicemesh_lora.gateways import Gateway, Gateways
from devicemesh_lora.packet import Packet


class House(Protocol):
    """What packet forwarders and stations share."""

    gateways: Gateways
    out: Delivery

    def packets(self, packets: Sequence[Packet]) -> None:
        """Uplinks, as a gateway heard them."""

    def landed(self, number: int, gateway: str, error: str) -> None:
        """A gateway has sent a downlink, or refuses to: why, in its words."""

    def report(self, gateway: Gateway) -> None:
        """There is something new to know of a gateway."""
