"""Channel plans (LoRaWAN Regional Parameters 1.0.3, RP002): data rates and receive windows. Pure.

Frequencies are in Hz. RX1 has a data rate offset of 0, RX2 its default: nothing is negotiated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

_SLOW = ("SF12BW125", "SF11BW125", "SF10BW125", "SF9BW125", "SF8BW125", "SF7BW125")
_WIDE = ("SF12BW500", "SF11BW500", "SF10BW500", "SF9BW500", "SF8BW500", "SF7BW500")
FLOOR_DB = {"SF7": -7.5, "SF8": -10.0, "SF9": -12.5, "SF10": -15.0, "SF11": -17.5, "SF12": -20.0}
"""Signal to noise ratio below which a spreading factor can't be heard (SX1301 data sheet)."""
_SIZES = {"SF12": 51, "SF11": 51, "SF10": 51, "SF9": 115, "SF8": 222, "SF7": 222}
_SIZES_WIDE = {"SF12": 33, "SF11": 109, "SF10": 222, "SF9": 222, "SF8": 222, "SF7": 222}


@dataclass(frozen=True, slots=True)
class Window:
    """Where a device listens after an uplink."""

    frequency: int  # Hz
    data_rate: str  # as the packet forwarder writes it: SF9BW125


@dataclass(frozen=True, slots=True)
class Region:
    """One channel plan."""

    name: str
    uplink: Mapping[str, int]  # data rate -> its number
    rx1: Callable[[int, str], Window]  # (frequency, data rate of the uplink)
    rx2: Window
    power_dbm: int
    first: Window  # a channel that every device of the region has
    low: int
    high: int
    station: str  # what Basics Station calls it
    downlink: Mapping[str, int]  # data rate -> its number
    channels: tuple[int, ...]  # that every device has; those of the first sub-band where there are some
    wide: int | None = None  # the channel of 500 kHz of the first sub-band
    sub_band: int = 1  # which one gateways hear by default, of `sub_bands`
    sub_bands: int = 1
    wide_step: int = 0

    def hears(self, frequency: int, data_rate: str) -> bool:
        """Whether an uplink can be one of this region."""
        return self.low <= frequency <= self.high and data_rate in self.uplink

    def heard(self, sub_band: int | None) -> tuple[tuple[int, ...], int | None]:
        """(the channels of 125 kHz that a gateway is to hear, and that of 500 kHz): of a sub-band, from 1."""
        number = (sub_band or self.sub_band) - 1
        shift = number * 8 * 200_000
        wide = None if self.wide is None else self.wide + number * self.wide_step
        return tuple(channel + shift for channel in self.channels), wide


def _numbers(*rates: str) -> dict[str, int]:
    return {rate: number for number, rate in enumerate(rates)}


def _same(frequency: int, data_rate: str) -> Window:
    return Window(frequency, data_rate)


def _american(
    uplink: Mapping[str, int], base: int, wide_base: int, shift: int
) -> Callable[[int, str], Window]:
    """Eight downlink channels of 500 kHz from 923.3 MHz on (RP002, 2.5 and 2.8)."""

    def rx1(frequency: int, data_rate: str) -> Window:
        wide = data_rate.endswith("BW500")
        channel = (
            64 + round((frequency - wide_base) / 1_600_000) if wide else round((frequency - base) / 200_000)
        )
        number = max(0, min(5, uplink[data_rate] + shift))
        return Window(923_300_000 + channel % 8 * 600_000, _WIDE[number])

    return rx1


def _chinese(frequency: int, data_rate: str) -> Window:
    channel = round((frequency - 470_300_000) / 200_000)
    return Window(500_300_000 + channel % 48 * 200_000, data_rate)


def _from(base: int, step: int, count: int) -> tuple[int, ...]:
    return tuple(base + step * number for number in range(count))


_EU = _numbers(*_SLOW, "SF7BW250")
_US = _numbers("SF10BW125", "SF9BW125", "SF8BW125", "SF7BW125", "SF8BW500")
_AMERICAN_RX2 = Window(923_300_000, "SF12BW500")
_AU = _numbers(*_SLOW, "SF8BW500")
_CN = _numbers(*_SLOW)
_AMERICAN_DOWN = {rate: 8 + number for number, rate in enumerate(_WIDE)}

REGIONS: Mapping[str, Region] = {
    region.name: region
    for region in (
        Region("EU868", _EU, _same, Window(869_525_000, "SF12BW125"), 14,
               Window(868_100_000, "SF7BW125"), 863_000_000, 870_000_000,
               "EU863", _EU, _from(868_100_000, 200_000, 3)),
        Region("US915", _US, _american(_US, 902_300_000, 903_000_000, 2),
               _AMERICAN_RX2, 20, Window(902_300_000, "SF7BW125"), 902_000_000, 928_000_000,
               "US902", _AMERICAN_DOWN, _from(902_300_000, 200_000, 8), 903_000_000, 2, 8, 1_600_000),
        Region("AU915", _AU, _american(_AU, 915_200_000, 915_900_000, 0),
               _AMERICAN_RX2, 20, Window(915_200_000, "SF7BW125"), 915_000_000, 928_000_000,
               "AU915", _AMERICAN_DOWN, _from(915_200_000, 200_000, 8), 915_900_000, 2, 8, 1_600_000),
        Region("AS923", _EU, _same, Window(923_200_000, "SF10BW125"), 14,
               Window(923_200_000, "SF7BW125"), 915_000_000, 928_000_000,
               "AS923", _EU, _from(923_200_000, 200_000, 2)),
        Region("CN470", _CN, _chinese, Window(505_300_000, "SF12BW125"), 14,
               Window(470_300_000, "SF7BW125"), 470_000_000, 510_000_000,
               "CN470", _CN, _from(470_300_000, 200_000, 8), None, 11, 12),
        Region("IN865", _CN, _same, Window(866_550_000, "SF10BW125"), 14,
               Window(865_062_500, "SF7BW125"), 865_000_000, 867_000_000,
               "IN865", _CN, (865_062_500, 865_402_500, 865_985_000)),
    )
}  # fmt: skip


def margin_db(data_rate: str, snr: float) -> float:
    """How far above what can just be heard an uplink was (5.1)."""
    return max(0.0, snr - FLOOR_DB.get(data_rate.partition("BW")[0], -20.0))


def most_bytes(data_rate: str) -> int:
    """The largest FRMPayload that a data rate carries everywhere, without MAC commands (RP002, N)."""
    factor, _, width = data_rate.partition("BW")
    return (_SIZES_WIDE if width == "500" else _SIZES).get(factor, 51)
