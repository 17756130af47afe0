"""Downlinks on their way: which window, which gateway, and what becomes of them. No I/O.

The time of a window is the gateway's own time of the uplink and a delay: never our clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from devicemesh_lora.node import Downlink, Node
from devicemesh_lora.packet import Attempt, Order, Packet
from devicemesh_lora.regions import Region

RX1_S, JOIN_S = 1, 4
"""RX1 after an uplink, RX2 a second after it (RP002, 3.2); a join accept JOIN_S later still: at 5 and 6 s."""
ACK_WITHIN_S = 3.0
"""A gateway that has said nothing of a downlink by then, after its last window, will not."""
MOST_NUMBERS = 1 << 16
"""A packet forwarder's token has two bytes."""


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
    first = RX1_S + (JOIN_S if join else 0)
    for packet in [one for one in copies if one.gateway in reachable][:2]:
        window = region.rx1(packet.frequency, packet.data_rate)
        if not found and packet.rctx is not None:
            found.append(Attempt(packet, first, (window, region.rx2)))
            continue
        if not found:
            found.append(Attempt(packet, first, (window,)))
        found.append(Attempt(packet, first + 1, (region.rx2,)))
    return found


class Flights:
    """Downlinks that a gateway has been asked to send, by number."""

    def __init__(self, region: Region) -> None:
        self._region = region
        self._by_number: dict[int, Flight] = {}
        self._next = 0
        self.refused: dict[str, int] = {}  # by the gateway's word, as TOO_LATE

    def launch(self, flight: Flight, now: float) -> Order | None:
        """The next attempt, or None: there is no other."""
        if not flight.attempts:
            return None
        attempt = flight.attempts.pop(0)
        flight.gateway = attempt.packet.gateway
        self._next = (self._next + 1) % MOST_NUMBERS
        flight.until = now + attempt.delay_s + len(attempt.windows) - 1 + ACK_WITHIN_S
        self._by_number[self._next] = flight
        return Order(self._next, flight.node.endpoint.eui, flight.phy, attempt, self._region.power_dbm)

    def landed(self, number: int, gateway: str, error: str, now: float) -> Order | None:
        """What a gateway says of a downlink; the next attempt where it refuses, if there is one."""
        flight = self._by_number.get(number)
        if flight is None or flight.gateway != gateway:
            return None
        del self._by_number[number]
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
        for number in [number for number, flight in self._by_number.items() if flight.until <= now]:
            del self._by_number[number]
