"""Cayenne Low Power Payload: channel, type, value, again and again (myDevices, LPP 1.0). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """A data type: its values lie one after the other, big-endian."""

    names: tuple[str, ...]
    size: int  # bytes of each value
    step: float
    signed: bool = True


KINDS: Mapping[int, Kind] = {
    0: Kind(("digitalIn",), 1, 1, signed=False),
    1: Kind(("digitalOut",), 1, 1, signed=False),
    2: Kind(("analogIn",), 2, 100),
    3: Kind(("analogOut",), 2, 100),
    101: Kind(("illuminance",), 2, 1, signed=False),
    102: Kind(("presence",), 1, 1, signed=False),
    103: Kind(("temperature",), 2, 10),
    104: Kind(("humidity",), 1, 2, signed=False),
    113: Kind(("accelerationX", "accelerationY", "accelerationZ"), 2, 1000),
    115: Kind(("pressure",), 2, 10, signed=False),
    134: Kind(("gyroX", "gyroY", "gyroZ"), 2, 100),
    136: Kind(("latitude", "longitude", "altitude"), 3, 10000),
}
"""By type number (the IPSO object less 3200); `step` of them are one unit: degrees Celsius, %, hPa, g."""
_ALTITUDE_STEP = 100


class LppError(ValueError):
    """Bytes that are no Cayenne LPP; says why."""


def decode(payload: bytes) -> dict[tuple[int, str], float]:
    """The values of a payload by channel and quantity, in order. Raises LppError."""
    found: dict[tuple[int, str], float] = {}
    at = 0
    while at < len(payload):
        if at + 2 > len(payload):
            raise LppError(f"byte {at}: a channel without a type")
        channel, number = payload[at], payload[at + 1]
        kind = KINDS.get(number)
        if kind is None:
            raise LppError(f"byte {at + 1}: {number} is no type of Cayenne LPP")
        at += 2
        for name in kind.names:
            if at + kind.size > len(payload):
                raise LppError(f"byte {at}: {name} of channel {channel} is cut off")
            raw = int.from_bytes(payload[at : at + kind.size], "big", signed=kind.signed)
            found[channel, name] = raw / (_ALTITUDE_STEP if name == "altitude" else kind.step)
            at += kind.size
    return found


def encode(channel: int, values: Mapping[str, float]) -> bytes:
    """One entry; `values` are all those of one type. Raises ValueError where there is no such type."""
    for number, kind in KINDS.items():
        if set(kind.names) == set(values):
            body = b"".join(
                round(values[name] * (_ALTITUDE_STEP if name == "altitude" else kind.step)).to_bytes(
                    kind.size, "big", signed=kind.signed
                )
                for name in kind.names
            )
            return bytes((channel, number)) + body
    raise ValueError(f"{', '.join(values)} are no type of Cayenne LPP")
