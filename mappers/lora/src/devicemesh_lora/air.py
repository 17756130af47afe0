"""Downlinks on their way: which window, which gateway, and what becomes of them. No I/O.

The time of a window is the gateway's `tmst` of the uplink and a delay: never our clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from devicemesh_lora.node import Downlink, Node
from devicemesh_lora.regions import Region
from devicemesh_lora.semtech import Packet, transmit

RX1_US, RX2_US, JOIN_US = 1_000_000, 2_000_000, 4_000_000
"""Delays after an uplink (RP002, 3.2); a join accept comes JOIN_US later still: at 5 and 6 s."""
Attempt: TypeAlias = tuple[str, int, int, str]
"""Gateway, its tmst, frequency in Hz, data rate."""
ACK_WITHIN_S = 3.0
"""A gateway that has said nothing of a downlink by then will not."""


@dataclass(eq=False)
class Flight:
    """A frame on its way down. `attempts` are those still to be tried."""

    node: Node
    phy: bytes
    queued: Downlink | None
    counter: int
    attempts: list[Attempt]
    until: float = 0.0
    gateway: str = ""
    confirmed: bool = False


def attempts(region: Region, copies: list[Packet], reachable: set[str], *, join: bool) -> list[Attempt]:
    """RX1 then RX2 of the gateway that heard best and can be reached, then RX2 of the next one."""
    found: list[Attempt] = []
    late = JOIN_US if join else 0
    for packet in [one for one in copies if one.gateway in reachable][:2]:
        first = region.rx1(packet.frequency, packet.data_rate)
        second = region.rx2
        if not found:
            found.append((packet.gateway, packet.tmst + RX1_US + late, first.frequency, first.data_rate))
        found.append((packet.gateway, packet.tmst + RX2_US + late, second.frequency, second.data_rate))
    return found


class Flights:
    """Downlinks that a gateway has been asked to send, by token."""

    def __init__(self, region: Region) -> None:
        self._region = region
        self._by_token: dict[bytes, Flight] = {}
        self._next = 0
        self.refused: dict[str, int] = {}  # by the gateway's word, as TOO_LATE

    def launch(self, flight: Flight, now: float) -> tuple[str, bytes] | None:
        """(gateway, datagram) of the next attempt, or None: there is no other."""
        if not flight.attempts:
            return None
        flight.gateway, tmst, frequency, rate = flight.attempts.pop(0)
        self._next = (self._next + 1) & 0xFFFF
        token = self._next.to_bytes(2, "big")
        flight.until = now + ACK_WITHIN_S
        self._by_token[token] = flight
        return flight.gateway, transmit(token, flight.phy, tmst, frequency, rate, self._region.power_dbm)

    def landed(self, token: bytes, gateway: str, error: str, now: float) -> tuple[str, bytes] | None:
        """A gateway's TX_ACK; the next attempt where it refuses, if there is one."""
        flight = self._by_token.get(token)
        if flight is None or flight.gateway != gateway:
            return None
        del self._by_token[token]
        if error:
            self.refused[error] = self.refused.get(error, 0) + 1
            return self.launch(flight, now)
        self._sent(flight)
        return None

    @staticmethod
    def _sent(flight: Flight) -> None:
        queued = flight.queued
        if queued is None:
            return
        if flight.confirmed:
            queued.counter = flight.counter  # the device's next uplink says whether it heard
        elif not queued.done.done():
            queued.done.set_result(flight.gateway)

    def expire(self, now: float) -> None:
        """Forget those of which the gateway has said nothing: their payloads wait for the next uplink."""
        for token in [token for token, flight in self._by_token.items() if flight.until <= now]:
            del self._by_token[token]
