"""What Home Assistant calls a unit, and what it may do with values in it. Pure.

Each entry is good from Home Assistant 2024.12, the first with discovery of devices, to 2026.11: newer
releases refuse an entity whose unit is not one of its class's, older ones one whose class they do not know.
So what came later (kVA, kvar, kvarh, L/s, ... in a class) has its unit and no class: Home Assistant shows it
and converts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from devicemesh.spec.units import symbol

MEASUREMENT, TOTAL, INCREASING = "measurement", "total", "total_increasing"
"""State classes."""


class Meaning(NamedTuple):
    """Of a unit: the device class, and the symbol where it is not ours ("": none)."""

    device_class: str | None
    symbol: str | None = None


MEANINGS: Mapping[str, Meaning] = {
    "1": Meaning(None, ""),
    "%{RH}": Meaning("humidity", "%"),
    "Cel": Meaning("temperature"),
    "[degF]": Meaning("temperature"),
    # K has no class: mostly it is a difference, and as a temperature it would be shown less 273.15
    "Hz": Meaning("frequency"),
    "kHz": Meaning("frequency"),
    "MHz": Meaning("frequency"),
    "bar": Meaning("pressure"),
    "mbar": Meaning("pressure"),
    "Pa": Meaning("pressure"),
    "hPa": Meaning("pressure"),
    "kPa": Meaning("pressure"),
    "[psi]": Meaning("pressure"),
    "mm[Hg]": Meaning("pressure"),
    "V": Meaning("voltage"),
    "mV": Meaning("voltage"),
    "A": Meaning("current"),
    "mA": Meaning("current"),
    "W": Meaning("power"),
    "kW": Meaning("power"),
    "MW": Meaning("power"),
    "V.A": Meaning("apparent_power"),
    "V.A{r}": Meaning("reactive_power"),
    "W.h": Meaning("energy"),
    "kW.h": Meaning("energy"),
    "MW.h": Meaning("energy"),
    "J": Meaning("energy"),
    "kJ": Meaning("energy"),
    "MJ": Meaning("energy"),
    "GJ": Meaning("energy"),
    "uS/cm": Meaning("conductivity"),
    "mS/cm": Meaning("conductivity"),
    "m": Meaning("distance"),
    "mm": Meaning("distance"),
    "cm": Meaning("distance"),
    "km": Meaning("distance"),
    "[in_i]": Meaning("distance"),
    "[ft_i]": Meaning("distance"),
    "m2": Meaning("area"),
    "m3": Meaning("volume_storage"),
    "l": Meaning("volume_storage"),
    "ml": Meaning("volume_storage"),
    "[gal_us]": Meaning("volume_storage"),
    "m/s": Meaning("speed"),
    "km/h": Meaning("speed"),
    "mm/s": Meaning("speed"),
    "m3/h": Meaning("volume_flow_rate"),
    "l/min": Meaning("volume_flow_rate"),
    "g": Meaning("weight"),
    "mg": Meaning("weight"),
    "kg": Meaning("weight"),
    "[lb_av]": Meaning("weight"),
    "[pH]": Meaning("ph", ""),
    "s": Meaning("duration"),
    "ms": Meaning("duration"),
    "min": Meaning("duration"),
    "h": Meaning("duration"),
    "d": Meaning("duration"),
    "lx": Meaning("illuminance"),
    "W/m2": Meaning("irradiance"),
    "dB[mW]": Meaning("signal_strength"),
    "dB{A}": Meaning("sound_pressure", "dBA"),
    "bit/s": Meaning("data_rate"),
    "By": Meaning("data_size"),
    "kBy": Meaning("data_size"),
    "MBy": Meaning("data_size"),
}
"""By UCUM code; what is not here has our symbol, and no class."""

_COUNTED = {"area", "data_size", "distance", "duration", "energy", "volume", "weight", None}
"""Classes of what may be a total that only grows."""
_AMOUNTS = {"W.h", "kW.h", "MW.h", "V.A{r}.h", "kV.A{r}.h", "V.A.h", "J", "kJ", "MJ", "GJ"}
"""Units of what is summed up, and not averaged, in whichever direction it goes."""
COUNTER_STATISTICS = frozenset({"increase", "rate", "resets"})
"""Who asks for one of these (docs/statistics.md) says that the property is a counter."""


class Classes(NamedTuple):
    """How Home Assistant is to understand a number; "" for none."""

    unit: str
    device_class: str
    state_class: str


def classes(ucum: str | None, *, counter: bool, whole: bool) -> Classes:
    """Of a number in a unit; `counter`: it only grows, `whole`: it is an integer.

    A whole number without a unit may be a code, of which there is no average: it has no state class.
    """
    if ucum is None:
        return Classes("", "", INCREASING if counter else "" if whole else MEASUREMENT)
    found = MEANINGS.get(ucum, Meaning(None))
    class_ = found.device_class
    if counter and class_ == "volume_storage":
        class_ = "volume"
    state = TOTAL if ucum in _AMOUNTS else MEASUREMENT
    if counter and class_ in _COUNTED:
        state = INCREASING
    unit = symbol(ucum) if found.symbol is None else found.symbol
    return Classes(unit, class_ or "", state)
