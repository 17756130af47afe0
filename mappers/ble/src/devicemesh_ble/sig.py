"""Bluetooth SIG's numbers: UUIDs by short name, and the number formats that `devicemesh.layout` lacks.

Sources: Assigned Numbers (GATT characteristics), GATT Specification Supplement (their fields), IEEE
11073-20601 (SFLOAT and FLOAT, here `sfloat` and `medfloat`).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

BASE = "0000{}-0000-1000-8000-00805f9b34fb"
SpecialType = Literal["sfloat", "medfloat", "uint24", "int24", "uint48", "int48"]
SIZES: dict[str, int] = {"sfloat": 2, "medfloat": 4, "uint24": 3, "int24": 3, "uint48": 6, "int48": 6}
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SHORT = re.compile(r"(?:0x)?([0-9a-f]{4}|[0-9a-f]{8})")


@dataclass(frozen=True, slots=True)
class Characteristic:
    """A characteristic of the SIG: its number, and its value's first field where that is fixed."""

    number: str
    type: str | None = None
    scale: float = 1.0
    offset: int = 0


CHARACTERISTICS: dict[str, Characteristic] = {
    "device_name": Characteristic("2a00", "string"),
    "appearance": Characteristic("2a01", "uint16"),
    "battery_level": Characteristic("2a19", "uint8"),
    "temperature_measurement": Characteristic("2a1c", "medfloat", offset=1),
    "intermediate_temperature": Characteristic("2a1e", "medfloat", offset=1),
    "model_number": Characteristic("2a24", "string"),
    "serial_number": Characteristic("2a25", "string"),
    "firmware_revision": Characteristic("2a26", "string"),
    "hardware_revision": Characteristic("2a27", "string"),
    "software_revision": Characteristic("2a28", "string"),
    "manufacturer_name": Characteristic("2a29", "string"),
    "heart_rate_measurement": Characteristic("2a37", "uint8", offset=1),
    "alert_level": Characteristic("2a06", "uint8"),
    "weight_measurement": Characteristic("2a9d"),
    "elevation": Characteristic("2a6c", "int24", 0.01),
    "pressure": Characteristic("2a6d", "uint32", 0.1),
    "temperature": Characteristic("2a6e", "int16", 0.01),
    "humidity": Characteristic("2a6f", "uint16", 0.01),
    "true_wind_speed": Characteristic("2a70", "uint16", 0.01),
    "true_wind_direction": Characteristic("2a71", "uint16", 0.01),
    "uv_index": Characteristic("2a76", "uint8"),
    "irradiance": Characteristic("2a77", "uint16", 0.1),
    "rainfall": Characteristic("2a78", "uint16", 0.001),
    "dew_point": Characteristic("2a7b", "int8"),
    "voltage": Characteristic("2b18", "uint16", 1 / 64),
    "electric_current": Characteristic("2aee", "uint16", 0.01),
    "illuminance": Characteristic("2afb", "uint24", 0.01),
    "power": Characteristic("2b05", "uint24", 0.1),
    "co2_concentration": Characteristic("2b8c", "uint16"),
}
NAMES = {one.number: name for name, one in CHARACTERISTICS.items()}


def known(text: str) -> Characteristic | None:
    """The SIG's characteristic of that short name or UUID, if it is one that we know."""
    if text in CHARACTERISTICS:
        return CHARACTERISTICS[text]
    found = uuid(text)
    name = NAMES.get(found[4:8]) if found == BASE.format(found[4:8]) else None
    return CHARACTERISTICS[name] if name else None


def uuid(text: str) -> str:
    """The full UUID, in lower case, of a short name, 16 or 32 bits in hexadecimal, or a UUID.

    Raises ValueError.
    """
    if text in CHARACTERISTICS:
        return BASE.format(CHARACTERISTICS[text].number)
    lower = text.lower()
    if _UUID.fullmatch(lower):
        return lower
    if short := _SHORT.fullmatch(lower):
        return f"{short[1]:0>8}-0000-1000-8000-00805f9b34fb"
    raise ValueError(
        f"{text!r} is no UUID, and no short name: write it like 2a6e, temperature or a whole UUID"
    )


def short(text: str) -> str:
    """A UUID for people: `temperature`, `fcd2`, or all of it."""
    found = uuid(text)
    if found[8:] != BASE[6:] or not found.startswith("0000"):
        return found
    return NAMES.get(found[4:8], found[4:8])


def special(kind: str, data: bytes, order: Literal["big", "little"]) -> float | int:
    """A number of a `SpecialType` out of just its bytes.

    NaN and the infinities of sfloat and medfloat come as such. Raises ValueError for too few bytes.
    """
    size = SIZES[kind]
    if len(data) < size:
        raise ValueError(f"a {kind} has {size} bytes, not {len(data)}")
    raw = int.from_bytes(data[:size], order)
    if kind == "sfloat":
        return _decimal(raw >> 12, 4, raw & 0xFFF, 12)
    if kind == "medfloat":
        return _decimal(raw >> 24, 8, raw & 0xFFFFFF, 24)
    return _signed(raw, size * 8) if kind.startswith("int") else raw


def encode_special(kind: str, value: float, order: Literal["big", "little"]) -> bytes:
    """The inverse, with as many digits as fit. Raises ValueError for what does not."""
    size = SIZES[kind]
    if kind in ("sfloat", "medfloat"):
        mantissa_bits, exponent_bits = (12, 4) if kind == "sfloat" else (24, 8)
        raw = _encode_decimal(value, mantissa_bits, exponent_bits)
        return raw.to_bytes(size, order)
    try:
        return round(value).to_bytes(size, order, signed=kind.startswith("int"))
    except OverflowError:
        raise ValueError(f"{value!r} does not fit {kind}") from None


def _signed(raw: int, bits: int) -> int:
    return raw - (1 << bits) if raw >> bits - 1 else raw


def _decimal(exponent: int, exponent_bits: int, mantissa: int, bits: int) -> float:
    """IEEE 11073-20601: five mantissas round the ends mean no number."""
    top = 1 << bits - 1
    if exponent == 0 and mantissa in (top - 1, top, top + 1):  # NaN, not at this resolution, reserved
        return math.nan
    if exponent == 0 and mantissa in (top - 2, top + 2):
        return math.inf if mantissa < top else -math.inf
    power = _signed(exponent, exponent_bits)
    number = _signed(mantissa, bits)
    return float(f"{number}e{power}")


def _encode_decimal(value: float, bits: int, exponent_bits: int) -> int:
    if not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    limit = (1 << bits - 1) - 3
    lowest, highest = -(1 << exponent_bits - 1), (1 << exponent_bits - 1) - 1
    for power in range(max(lowest, -8), highest + 1):
        mantissa = round(value / 10.0**power) if power >= 0 else round(value * 10.0**-power)
        if abs(mantissa) <= limit:
            while mantissa and mantissa % 10 == 0 and power < 0:
                mantissa, power = mantissa // 10, power + 1  # noqa: PLW2901
            exponent = power if mantissa else 0
            return (exponent & (1 << exponent_bits) - 1) << bits | mantissa & (1 << bits) - 1
    raise ValueError(f"{value!r} is too large")
