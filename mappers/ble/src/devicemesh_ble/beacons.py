"""Ruuvi data format 5 (RAWv2), iBeacon and Eddystone. Pure.

Sources: docs.ruuvi.com/communication/bluetooth-advertisements/data-format-5-rawv2; Apple's Proximity Beacon
Specification R1; github.com/google/eddystone, protocol-specification.md.
"""

from __future__ import annotations

import struct
import uuid

from devicemesh.spec.values import Scalar

RUUVI = 0x0499
APPLE = 0x004C
EDDYSTONE = "feaa"
_RAWV2 = struct.Struct(">BhHHhhhHBH6s")
_TLM = struct.Struct(">BBHhII")
_SCHEMES = ("http://www.", "https://www.", "http://", "https://")
_ENDINGS = (".com", ".org", ".edu", ".net", ".info", ".biz", ".gov")
RUUVI_NAMES = (
    "temperature", "humidity", "pressure", "acceleration_x", "acceleration_y", "acceleration_z", "voltage",
    "tx_power", "movement", "sequence", "mac",
)  # fmt: skip
IBEACON_NAMES = ("uuid", "major", "minor", "tx_power")
EDDYSTONE_NAMES = (
    "namespace", "instance", "url", "tx_power", "voltage", "temperature", "advertisements", "uptime",
)  # fmt: skip


def ruuvi(record: bytes) -> dict[str, Scalar | None]:
    """RAWv2: Celsius, %RH, hPa, g, V, dBm. None: the sensor says that it has no value. Raises ValueError."""
    if len(record) < _RAWV2.size:
        raise ValueError(f"RAWv2 has {_RAWV2.size} bytes, not {len(record)}")
    _, temperature, humidity, pressure, x, y, z, power, movement, sequence, mac = _RAWV2.unpack_from(record)
    millivolts, strength = power >> 5, power & 0x1F
    found: dict[str, Scalar | None] = {
        "temperature": None if temperature == -0x8000 else temperature * 5 / 1000,
        "humidity": None if humidity == 0xFFFF else humidity * 25 / 10000,
        "pressure": None if pressure == 0xFFFF else (pressure + 50000) / 100,
        "voltage": None if millivolts == 0x7FF else (millivolts + 1600) / 1000,
        "tx_power": None if strength == 0x1F else strength * 2 - 40,
        "movement": None if movement == 0xFF else movement,
        "sequence": None if sequence == 0xFFFF else sequence,
        "mac": None if mac == b"\xff" * 6 else mac.hex(":").upper(),
    }
    for axis, raw in (("x", x), ("y", y), ("z", z)):
        found[f"acceleration_{axis}"] = None if raw == -0x8000 else raw / 1000
    return found


def encode_ruuvi(values: dict[str, Scalar | None], mac: bytes) -> bytes:
    """A RAWv2 record; what is not given is "no value". Raises ValueError for what does not fit."""

    def raw(name: str, missing: int, factor: float, add: float = 0.0) -> int:
        value = values.get(name)
        if not isinstance(value, int | float):
            return missing
        return round((value + add) * factor)

    power = raw("voltage", 0x7FF, 1000, -1.6) << 5 | raw("tx_power", 0x1F, 0.5, 40)
    axes = [raw(f"acceleration_{axis}", -0x8000, 1000) for axis in "xyz"]
    try:
        return _RAWV2.pack(
            5, raw("temperature", -0x8000, 200), raw("humidity", 0xFFFF, 400),
            raw("pressure", 0xFFFF, 100, -500),
            *axes, power, raw("movement", 0xFF, 1), raw("sequence", 0xFFFF, 1), mac,
        )  # fmt: skip
    except struct.error as error:
        raise ValueError(f"it does not fit Ruuvi's format: {error}") from error


def ibeacon(record: bytes) -> dict[str, Scalar | None]:
    """UUID, major, minor, and the power at one metre in dBm. Raises ValueError."""
    if len(record) < 23:
        raise ValueError(f"an iBeacon has 23 bytes, not {len(record)}")
    major, minor, power = struct.unpack_from(">HHb", record, 18)
    return {"uuid": str(uuid.UUID(bytes=record[2:18])), "major": major, "minor": minor, "tx_power": power}


def encode_ibeacon(values: dict[str, Scalar | None]) -> bytes:
    """Raises ValueError for what does not fit."""
    try:
        whole = uuid.UUID(str(values.get("uuid") or uuid.UUID(int=0))).bytes
        numbers = [_whole(values.get(n), d) for n, d in (("major", 0), ("minor", 0), ("tx_power", -59))]
        return b"\x02\x15" + whole + struct.pack(">HHb", *numbers)
    except struct.error as error:
        raise ValueError(f"it does not fit an iBeacon: {error}") from error


def _whole(value: Scalar | None, missing: int) -> int:
    return round(value) if isinstance(value, int | float) else missing


def eddystone(record: bytes) -> dict[str, Scalar | None]:
    """The frame's fields: UID, URL or TLM (unencrypted). Raises ValueError."""
    if not record:
        raise ValueError("it is empty")
    kind = record[0]
    if kind == 0x00:
        if len(record) < 18:
            raise ValueError(f"a UID frame has 18 bytes at least, not {len(record)}")
        power = int.from_bytes(record[1:2], signed=True)
        return {"tx_power": power, "namespace": record[2:12].hex(), "instance": record[12:18].hex()}
    if kind == 0x10:
        return _url(record)
    if kind == 0x20:
        return _telemetry(record)
    raise ValueError(f"the frame type 0x{kind:02x} is not read")


def _url(record: bytes) -> dict[str, Scalar | None]:
    if len(record) < 3:
        raise ValueError(f"a URL frame has 3 bytes at least, not {len(record)}")
    if record[2] >= len(_SCHEMES):
        raise ValueError(f"the URL scheme {record[2]} is none")
    text = _SCHEMES[record[2]]
    for code in record[3:]:
        if code < 14:
            text += _ENDINGS[code % 7] + ("/" if code < 7 else "")
        elif 0x21 <= code <= 0x7E:
            text += chr(code)
        else:
            raise ValueError(f"0x{code:02x} has no place in a URL")
    return {"tx_power": int.from_bytes(record[1:2], signed=True), "url": text}


def _telemetry(record: bytes) -> dict[str, Scalar | None]:
    if len(record) < _TLM.size:
        raise ValueError(f"a TLM frame has {_TLM.size} bytes, not {len(record)}")
    _, version, millivolts, temperature, count, tenths = _TLM.unpack_from(record)
    if version != 0:
        raise ValueError(f"TLM version {version} (encrypted) is not read")
    return {
        "voltage": millivolts / 1000 if millivolts else None,
        "temperature": None if temperature == -0x8000 else temperature / 256,
        "advertisements": count,
        "uptime": tenths / 10,
    }


def encode_telemetry(values: dict[str, Scalar | None]) -> bytes:
    """An Eddystone TLM frame. Raises ValueError for what does not fit."""

    def raw(name: str, missing: int, factor: float) -> int:
        value = values.get(name)
        return round(value * factor) if isinstance(value, int | float) else missing

    try:
        return _TLM.pack(
            0x20, 0, raw("voltage", 0, 1000), raw("temperature", -0x8000, 256), raw("advertisements", 0, 1),
            raw("uptime", 0, 10),
        )  # fmt: skip
    except struct.error as error:
        raise ValueError(f"it does not fit a TLM frame: {error}") from error
