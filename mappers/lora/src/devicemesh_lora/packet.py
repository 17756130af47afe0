"""An uplink as a gateway heard it, and what it is asked to send, whatever way the gateway speaks. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from devicemesh_lora.regions import Window


@dataclass(frozen=True, slots=True)
class Packet:
    """An uplink as one gateway heard it."""

    phy: bytes
    gateway: str
    tmst: int  # us, of the gateway's counter: 32 bits of a packet forwarder, 64 of a station (xtime)
    frequency: int  # Hz
    data_rate: str  # SF9BW125
    rssi: float  # dBm
    snr: float  # dB
    time_ns: int = 0  # when it came to us
    rctx: int | None = None  # of a station: its antenna; None: a packet forwarder

    @property
    def signal(self) -> tuple[float, float]:
        """By which the best of several copies is found."""
        return self.snr, self.rssi


@dataclass(frozen=True, slots=True)
class Attempt:
    """A gateway, and when it is to send: `delay_s` after `packet`, in the first of `windows` that it can.

    A packet forwarder is given one window and says whether it takes it. A station is given both, and tries
    the second one itself, a second after the first.
    """

    packet: Packet  # the uplink as this gateway heard it
    delay_s: int
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """What a gateway is asked to send."""

    number: int  # by which it answers
    eui: str  # of the device
    phy: bytes
    attempt: Attempt
    power_dbm: int
