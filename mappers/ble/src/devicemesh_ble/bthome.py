"""BTHome v2: objects in the service data of UUID 0xFCD2 (bthome.io/format, bthome.io/encryption). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from devicemesh.spec.values import Scalar

SERVICE = "fcd2"
_SERVICE_BYTES = bytes.fromhex("d2fc")
_ENCRYPTED = 0x01
_OVERHEAD = 1 + 4 + 4  # device information, counter, tag
BUTTONS = {
    0: "none", 1: "press", 2: "double_press", 3: "triple_press", 4: "long_press", 5: "long_double_press",
    6: "long_triple_press", 0x80: "hold_press",
}  # fmt: skip
DIMMER = {0: "none", 1: "rotate_left", 2: "rotate_right"}


@dataclass(frozen=True, slots=True)
class Object:
    """How one object lies: little-endian, `size` bytes; value = raw / divisor."""

    name: str
    size: int
    signed: bool = False
    divisor: int = 1
    truth: bool = False


def _numbers() -> dict[int, Object]:
    table = """
        00 packet_id 1 | 01 battery 1 | 02 temperature -2 100 | 03 humidity 2 100 | 04 pressure 3 100
        05 illuminance 3 100 | 06 mass_kg 2 100 | 07 mass_lb 2 100 | 08 dew_point -2 100 | 09 count 1
        0a energy 3 1000 | 0b power 3 100 | 0c voltage 2 1000 | 0d pm2_5 2 | 0e pm10 2 | 12 co2 2 | 13 tvoc 2
        14 moisture 2 100 | 2e humidity 1 | 2f moisture 1 | 3d count 2 | 3e count 4 | 3f rotation -2 10
        40 distance_mm 2 | 41 distance_m 2 10 | 42 duration 3 1000 | 43 current 2 1000 | 44 speed 2 100
        45 temperature -2 10 | 46 uv_index 1 10 | 47 volume 2 10 | 48 volume_ml 2 | 49 volume_flow_rate 2 1000
        4a voltage 2 10 | 4b gas 3 1000 | 4c gas 4 1000 | 4d energy 4 1000 | 4e volume 4 1000
        4f water 4 1000
        50 timestamp 4 | 51 acceleration 2 1000 | 52 gyroscope 2 1000 | 55 volume_storage 4 1000
        56 conductivity 2 | 57 temperature -1 | 59 count -1 | 5a count -2 | 5b count -4 | 5c power -4 100
        5d current -2 1000 | 5e direction 2 100 | 5f precipitation 2 10 | 60 channel 1 | 61 rotational_speed 2
        62 speed -4 1000000 | 63 acceleration -4 1000000 | f0 device_type 2 | f1 firmware_version 4
        f2 firmware_version 3
    """
    found = {}
    for entry in table.replace("\n", "|").split("|"):
        if words := entry.split():
            size, divisor = int(words[2]), int(words[3]) if len(words) > 3 else 1
            found[int(words[0], 16)] = Object(words[1], abs(size), size < 0, divisor)
    return found


_TRUTHS = [
    "generic",
    "power_on",
    "opening",
    "battery_low",
    "battery_charging",
    "carbon_monoxide",
    "cold",
    "connectivity",
    "door",
    "garage_door",
    "gas_detected",
    "heat",
    "light",
    "lock",
    "moisture_detected",
    "motion",
    "moving",
    "occupancy",
    "plug",
    "presence",
    "problem",
    "running",
    "safety",
    "smoke",
    "sound",
    "tamper",
    "vibration",
    "window",
]
OBJECTS: dict[int, Object] = _numbers() | {
    number: Object(name, 1, truth=True)
    for number, name in zip([0x0F, 0x10, 0x11, *range(0x15, 0x2E)], _TRUTHS, strict=True)
}
_TEMPERATURE_035 = 0x58  # a signed byte of 0.35 degrees
_BUTTON, _DIMMER, _TEXT, _RAW = 0x3A, 0x3C, 0x53, 0x54
NAMES = {*(one.name for one in OBJECTS.values()), "button", "dimmer", "dimmer_steps", "text", "raw"}
Objects: TypeAlias = dict[str, Scalar | None]


def check(record: bytes) -> None:
    """Raises ValueError for a record that is not of version 2."""
    if not record:
        raise ValueError("it is empty")
    if record[0] >> 5 != 2:
        raise ValueError(f"it is of BTHome version {record[0] >> 5}, not 2")


def is_encrypted(record: bytes) -> bool:
    return bool(record[0] & _ENCRYPTED)


def decrypt(key: bytes, address: str, record: bytes) -> tuple[bytes, int]:
    """The objects in plain, and the counter: AES-CCM with a tag of four bytes. Raises ValueError."""
    from cryptography.exceptions import InvalidTag  # here: 6 MB that only who has a key needs
    from cryptography.hazmat.primitives.ciphers.aead import AESCCM

    if len(record) < _OVERHEAD:
        raise ValueError(f"an encrypted record has {_OVERHEAD} bytes at least, not {len(record)}")
    counter = record[-8:-4]
    nonce = bytes.fromhex(address.replace(":", "")) + _SERVICE_BYTES + record[:1] + counter
    try:
        plain = AESCCM(key, tag_length=4).decrypt(nonce, record[1:-8] + record[-4:], None)
    except InvalidTag:
        raise ValueError("it was not encrypted with this key, or was changed on its way") from None
    return plain, int.from_bytes(counter, "little")


def encrypt(key: bytes, address: str, information: int, plain: bytes, counter: int) -> bytes:
    """A record as a device sends it."""
    from cryptography.hazmat.primitives.ciphers.aead import AESCCM

    count, head = counter.to_bytes(4, "little"), bytes([information | _ENCRYPTED])
    nonce = bytes.fromhex(address.replace(":", "")) + _SERVICE_BYTES + head + count
    sealed = AESCCM(key, tag_length=4).encrypt(nonce, plain, None)
    return head + sealed[:-4] + count + sealed[-4:]


def objects(data: bytes) -> Objects:
    """The objects by name; the second of a name is `temperature#2`.

    An object that we do not know ends the list, as its length is not known either; those before it count.
    Raises ValueError for one that is cut.
    """
    found: Objects = {}
    at = 0
    while at < len(data):
        taken = _object(data, at)
        if taken is None:
            break
        at, named = taken
        for name, value in named:
            number = 1
            while (unique := name if number == 1 else f"{name}#{number}") in found:
                number += 1
            found[unique] = value
    return found


def _object(data: bytes, at: int) -> tuple[int, list[tuple[str, Scalar]]] | None:
    """The object that begins there, and where the next one does; None: an unknown one. Raises ValueError."""
    number, at = data[at], at + 1
    if number in (_TEXT, _RAW):
        size = _cut(data, at, 1, number)[0]
        body = _cut(data, at + 1, size, number)
        text: Scalar = body.decode("utf-8", "replace") if number == _TEXT else body
        return at + 1 + size, [("text" if number == _TEXT else "raw", text)]
    if number == _BUTTON:
        code = _cut(data, at, 1, number)[0]
        return at + 1, [("button", BUTTONS.get(code, str(code)))]
    if number == _DIMMER:
        code, steps = _cut(data, at, 2, number)
        return at + 2, [("dimmer", DIMMER.get(code, str(code))), ("dimmer_steps", steps)]
    if number == _TEMPERATURE_035:
        raw = int.from_bytes(_cut(data, at, 1, number), "little", signed=True)
        return at + 1, [("temperature", raw * 35 / 100)]
    one = OBJECTS.get(number)
    if one is None:
        return None
    raw = int.from_bytes(_cut(data, at, one.size, number), "little", signed=one.signed)
    value: Scalar = bool(raw) if one.truth else raw if one.divisor == 1 else raw / one.divisor
    return at + one.size, [(one.name, value)]


def _cut(data: bytes, at: int, size: int, number: int) -> bytes:
    part = data[at : at + size]
    if len(part) < size:
        raise ValueError(f"its object 0x{number:02x} is cut: {len(part)} of {size} bytes")
    return part


def encode(name: str, value: Scalar) -> bytes:
    """One object, in the first form of its name that holds it. Raises ValueError for one that we can't."""
    if name == "button":
        code = next((c for c, word in BUTTONS.items() if word == value), None)
        if code is None:
            raise ValueError(f"{value!r} is none of {', '.join(BUTTONS.values())}")
        return bytes([_BUTTON, code])
    if name in ("text", "raw"):
        body = value.encode() if isinstance(value, str) else value
        if not isinstance(body, bytes) or len(body) > 20:
            raise ValueError("a text has 20 bytes at most")
        return bytes([_TEXT if name == "text" else _RAW, len(body)]) + body
    forms = [(number, one) for number, one in OBJECTS.items() if one.name == name]
    if not forms or not isinstance(value, bool | int | float):
        raise ValueError(f"{name!r} is not encoded")
    for number, one in forms:
        try:
            return bytes([number]) + round(value * one.divisor).to_bytes(
                one.size, "little", signed=one.signed
            )
        except OverflowError:
            continue
    raise ValueError(f"{value!r} does not fit {name}")
