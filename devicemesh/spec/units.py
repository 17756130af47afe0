"""Units of measurement: one table, canonical in UCUM, that reads what people type.

Sources: UCUM (unitsofmeasure.org) for the codes; UNECE Recommendation 20 for the common codes that OPC UA
carries; Home Assistant's device classes for the symbols. A value is never converted: a unit only names it.
"""

from __future__ import annotations

import difflib
import functools
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit and its other names."""

    ucum: str  # what is stored
    symbol: str  # what people and Home Assistant show
    unece: str | None  # common code, UNECE Rec. 20
    spellings: tuple[str, ...] = ()  # also accepted


def _unit(ucum: str, symbol: str, unece: str | None = None, *spellings: str) -> Unit:
    return Unit(ucum, symbol, unece, spellings)


TABLE: tuple[Unit, ...] = (
    _unit("1", "", "C62", "one", "unitless", "dimensionless"),
    _unit("%", "%", "P1", "percent", "pct"),
    _unit("%{RH}", "%RH", None, "%rh", "% RH", "percentRH"),
    _unit("[ppm]", "ppm", "59"),
    _unit("[ppb]", "ppb", "61"),
    _unit("{count}", "counts", None, "count", "counts", "pcs", "pieces"),
    _unit("Cel", "°C", "CEL", "degC", "C deg", "celsius", "deg C", "oC", "℃"),
    _unit("[degF]", "°F", "FAH", "degF", "fahrenheit", "deg F", "℉"),
    _unit("K", "K", "KEL", "kelvin"),
    _unit("/min", "rpm", "RPM", "rpm", "1/min", "r/min", "rev/min", "{rpm}/min", "min-1"),
    _unit("/s", "1/s", "C97", "rps", "s-1"),
    _unit("Hz", "Hz", "HTZ", "hertz"),
    _unit("kHz", "kHz", "KHZ"),
    _unit("MHz", "MHz", "MHZ"),
    _unit("bar", "bar", "BAR"),
    _unit("mbar", "mbar", "MBR"),
    _unit("Pa", "Pa", "PAL", "pascal"),
    _unit("hPa", "hPa", "A97"),
    _unit("kPa", "kPa", "KPA"),
    _unit("MPa", "MPa", "MPA"),
    _unit("[psi]", "psi", "PS", "psi", "PSI"),
    _unit("mm[Hg]", "mmHg", "HN", "mmHg"),
    _unit("V", "V", "VLT", "volt", "volts"),
    _unit("mV", "mV", "2Z"),
    _unit("kV", "kV", "KVT"),
    _unit("A", "A", "AMP", "ampere", "amps", "Amps"),
    _unit("mA", "mA", "4K"),
    _unit("A.h", "Ah", "AMH", "Ah"),
    _unit("W", "W", "WTT", "watt", "watts"),
    _unit("mW", "mW", "C31"),
    _unit("kW", "kW", "KWT"),
    _unit("MW", "MW", "MAW"),
    _unit("V.A", "VA", "D46", "VA"),
    _unit("kV.A", "kVA", "KVA", "kVA"),
    _unit("V.A{r}", "var", "D44", "var", "VAr", "VAR"),
    _unit("kV.A{r}", "kvar", "KVR", "kvar", "kVAr", "kVAR"),
    _unit("W.h", "Wh", "WHR", "Wh"),
    _unit("kW.h", "kWh", "KWH", "kWh", "kW·h", "kwh"),
    _unit("MW.h", "MWh", "MWH", "MWh"),
    _unit("V.A{r}.h", "varh", None, "varh", "VArh"),
    _unit("kV.A{r}.h", "kvarh", "K3", "kvarh", "kVArh"),
    _unit("V.A.h", "VAh", None, "VAh"),
    _unit("J", "J", "JOU", "joule"),
    _unit("kJ", "kJ", "KJO"),
    _unit("MJ", "MJ", "3B"),
    _unit("GJ", "GJ", "GV"),
    _unit("Ohm", "Ω", "OHM", "ohm", "ohms", "Ω"),
    _unit("kOhm", "kΩ", "B49", "kohm", "kΩ"),
    _unit("F", "F", "FAR", "farad"),
    _unit("uF", "µF", "4O", "µF"),
    _unit("S/m", "S/m", "D10"),
    _unit("uS/cm", "µS/cm", "G42", "µS/cm"),
    _unit("mS/cm", "mS/cm", "H61"),
    _unit("m", "m", "MTR", "metre", "meter", "meters"),
    _unit("mm", "mm", "MMT"),
    _unit("um", "µm", "4H", "µm", "micron"),
    _unit("cm", "cm", "CMT"),
    _unit("km", "km", "KMT"),
    _unit("[in_i]", "in", "INH", "in", "inch"),
    _unit("[ft_i]", "ft", "FOT", "ft", "foot", "feet"),
    _unit("m2", "m²", "MTK", "m²", "m^2"),
    _unit("m3", "m³", "MTQ", "m³", "m^3"),
    _unit("l", "L", "LTR", "L", "litre", "liter"),
    _unit("ml", "mL", "MLT", "mL"),
    _unit("[gal_us]", "gal", "GLL", "gal", "gallon"),
    _unit("m/s", "m/s", "MTS"),
    _unit("km/h", "km/h", "KMH", "kmh", "kph"),
    _unit("mm/s", "mm/s", "C16"),
    _unit("m/s2", "m/s²", "MSK", "m/s²", "m/s^2"),
    _unit("[g]", "g₀", "K40", "g-force", "gn", "gForce"),
    _unit("m3/h", "m³/h", "MQH", "m³/h", "m^3/h"),
    _unit("m3/s", "m³/s", "MQS", "m³/s"),
    _unit("l/min", "L/min", "L2", "L/min", "lpm"),
    _unit("l/h", "L/h", "E32", "L/h"),
    _unit("l/s", "L/s", "G51", "L/s"),
    _unit("kg/h", "kg/h", "E93"),
    _unit("kg/s", "kg/s", "KGS"),
    _unit("t/h", "t/h", "E18"),
    _unit("g", "g", "GRM", "gram"),
    _unit("mg", "mg", "MGM"),
    _unit("kg", "kg", "KGM", "kilogram"),
    _unit("t", "t", "TNE", "tonne", "ton"),
    _unit("[lb_av]", "lb", "LBR", "lb", "lbs", "pound"),
    _unit("N", "N", "NEW", "newton"),
    _unit("kN", "kN", "B47"),
    _unit("N.m", "Nm", "NU", "Nm", "N·m"),
    _unit("kg/m3", "kg/m³", "KMQ", "kg/m³"),
    _unit("g/m3", "g/m³", "A93", "g/m³"),
    _unit("mg/m3", "mg/m³", "GP", "mg/m³"),
    _unit("ug/m3", "µg/m³", "GQ", "µg/m³"),
    _unit("mg/l", "mg/L", "M1", "mg/L"),
    _unit("ug/l", "µg/L", "H29", "µg/L"),
    _unit("[pH]", "pH", "Q30", "pH", "ph"),
    _unit("[NTU]", "NTU", None, "NTU", "{NTU}"),
    _unit("s", "s", "SEC", "sec", "second", "seconds"),
    _unit("ms", "ms", "C26", "millisecond", "milliseconds"),
    _unit("us", "µs", "B98", "µs", "microsecond"),
    _unit("min", "min", "MIN", "minute", "minutes"),
    _unit("h", "h", "HUR", "hour", "hours", "hrs"),
    _unit("d", "d", "DAY", "day", "days"),
    _unit("deg", "°", "DD", "°", "degree", "degrees"),
    _unit("rad", "rad", "C81", "radian"),
    _unit("deg/s", "°/s", "E96", "°/s"),
    _unit("rad/s", "rad/s", "2A"),
    _unit("lx", "lx", "LUX", "lux"),
    _unit("lm", "lm", "LUM", "lumen"),
    _unit("cd", "cd", "CDL", "candela"),
    _unit("W/m2", "W/m²", "D54", "W/m²"),
    _unit("dB", "dB", "2N", "decibel"),
    _unit("dB[mW]", "dBm", "DBM", "dBm"),
    _unit("dB{A}", "dB(A)", None, "dBA", "dB(A)"),
    _unit("bit/s", "bit/s", "B10", "bps"),
    _unit("By", "B", "AD", "byte", "bytes"),
    _unit("kBy", "kB", "2P", "kB"),
    _unit("MBy", "MB", "4L", "MB"),
    _unit("T", "T", "D33", "tesla"),
    _unit("mT", "mT", "C29"),
    _unit("Bq", "Bq", "BQL"),
    _unit("Bq/m3", "Bq/m³", "A19", "Bq/m³"),
    _unit("uSv/h", "µSv/h", "P72", "µSv/h"),
)

# Letters that are a unit in UCUM, but mostly not the one that was meant (C is coulomb, B is bel).
_AMBIGUOUS = {"C": "degC (Celsius)", "B": "dB or byte", "PF": "1 (power factor)", "F deg": "degF"}


@functools.cache
def _known() -> dict[str, Unit]:
    known: dict[str, Unit] = {}
    for unit in TABLE:
        for name in (unit.ucum, unit.symbol, *unit.spellings):
            if name:
                known.setdefault(name, unit)
    return known


def find(text: str) -> Unit | None:
    """Return the unit of this spelling, or None."""
    return _known().get(text)


def canonical(text: str) -> str:
    """Return the UCUM code of a unit as people write it. Raises ValueError with a suggestion."""
    if unit := find(text):
        return unit.ucum
    if meant := _AMBIGUOUS.get(text):
        raise ValueError(f"unit {text!r} has another meaning in UCUM: write {meant}")
    folded = {name.casefold(): name for name in _known()}
    same_letters = [name for name in folded if sorted(name) == sorted(text.casefold())]
    near = same_letters or difflib.get_close_matches(text.casefold(), folded, 1, 0.6)
    hint = f": did you mean `{folded[near[0]]}`?" if near else ": write its UCUM code, or 1 for none"
    raise ValueError(f"unit {text!r} is not known{hint}")


def symbol(ucum: str) -> str:
    """What people read for a stored unit."""
    unit = find(ucum)
    return unit.symbol if unit else ucum
