"""Formats of advertisements, against the vectors that their makers publish."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from devicemesh_ble import beacons, bthome, sig
from devicemesh_ble.advert import FORMATS, Advert, AdvertError, Guard, recognised, values

KEY = bytes.fromhex("231d39c1d7cc1ab1aee224cd096db932")
ADDRESS = "54:48:E6:8F:80:A5"
ENCRYPTED = bytes.fromhex("41a47266c95f730011223378237214")


def heard(
    service: str = "", data: bytes = b"", *, company: int | None = None, address: str = ADDRESS
) -> Advert:
    manufacturer = {company: data} if company is not None else {}
    service_data = {sig.uuid(service): data} if service else {}
    return Advert(address, -60, 1, manufacturer=manufacturer, service_data=service_data)


@pytest.mark.parametrize(
    ("objects", "expected"),
    [  # bthome.io/format: the examples of its tables
        ("02ca09", {"temperature": 25.06}),
        ("03bf13", {"humidity": 50.55}),
        ("0161", {"battery": 97}),
        ("0413 8a01".replace(" ", ""), {"pressure": 1008.83}),
        ("05138a14", {"illuminance": 13460.67}),
        ("065e1f", {"mass_kg": 80.3}),
        ("08ca06", {"dew_point": 17.38}),
        ("0960", {"count": 96}),
        ("0a138a14", {"energy": 1346.067}),
        ("0b021b00", {"power": 69.14}),
        ("0c020c", {"voltage": 3.074}),
        ("0d120c0e021c", {"pm2_5": 3090, "pm10": 7170}),
        ("12e204", {"co2": 1250}),
        ("133301", {"tvoc": 307}),
        ("14020c", {"moisture": 30.74}),
        ("2e23", {"humidity": 35}),
        ("3f020c", {"rotation": 307.4}),
        ("451101", {"temperature": 27.3}),
        ("57ea", {"temperature": -22}),
        ("58ea", {"temperature": -7.7}),
        ("5c02fbffff", {"power": -12.78}),
        ("5dffff", {"current": -0.001}),
        ("0f01", {"generic": True}),
        ("2d01", {"window": True}),
        ("2100", {"motion": False}),
        ("3a04", {"button": "long_press"}),
        ("3c0103", {"dimmer": "rotate_left", "dimmer_steps": 3}),
        ("530c48656c6c6f20576f726c6421", {"text": "Hello World!"}),
        ("540c48656c6c6f20576f726c6421", {"raw": b"Hello World!"}),
        ("02ca0902bf13", {"temperature": 25.06, "temperature#2": 50.55}),
        ("02ca09fe0103bf13", {"temperature": 25.06}),  # 0xfe is not known: the rest can't be found
    ],
)
def test_bthome(objects: str, expected: dict[str, Any]) -> None:
    said = values(heard("fcd2", bytes.fromhex("40" + objects)), "bthome", Guard())
    assert (
        said == pytest.approx(expected)
        if all(isinstance(v, float) for v in expected.values())
        else (said == expected)
    )


def test_bthome_encrypted_is_the_specifications_example() -> None:
    guard = Guard(lambda: KEY)
    advert = heard("fcd2", ENCRYPTED)
    assert values(advert, "bthome", guard) == {"temperature": 25.06, "humidity": 50.55}
    assert bthome.encrypt(KEY, ADDRESS, 0x40, bytes.fromhex("02ca0903bf13"), 0x33221100) == ENCRYPTED


def test_the_counter_only_rises() -> None:
    def frame(counter: int, celsius: float) -> Advert:
        plain = bthome.encode("temperature", celsius)
        return heard("fcd2", bthome.encrypt(KEY, ADDRESS, 0x40, plain, counter))

    guard = Guard(lambda: KEY)
    assert values(frame(5, 20), "bthome", guard)["temperature"] == 20
    assert values(frame(5, 20), "bthome", guard)["temperature"] == 20, "the same frame, repeated on the air"
    for counter in (5, 4, 0):
        with pytest.raises(AdvertError, match="is not above 5"):
            values(frame(counter, 99), "bthome", guard)
    assert values(frame(6, 21), "bthome", guard)["temperature"] == 21
    with pytest.raises(AdvertError, match="is not above 6"):
        values(frame(5, 20), "bthome", guard)
    assert values(frame(0, 22), "bthome", Guard(lambda: KEY, any_counter=True))["temperature"] == 22


def test_what_is_not_proven_is_refused() -> None:
    with pytest.raises(AdvertError, match="give its `key`"):
        values(heard("fcd2", ENCRYPTED), "bthome", Guard())
    with pytest.raises(AdvertError, match="is not encrypted"):
        values(heard("fcd2", bytes.fromhex("4002ca09")), "bthome", Guard(lambda: KEY))
    guard = Guard(lambda: KEY)
    for i in range(len(ENCRYPTED)):
        changed = bytearray(ENCRYPTED)
        changed[i] ^= 0x02
        with pytest.raises(AdvertError):
            values(heard("fcd2", bytes(changed)), "bthome", guard)
    with pytest.raises(AdvertError, match="this key"):
        values(heard("fcd2", ENCRYPTED, address="54:48:E6:8F:80:A6"), "bthome", guard)
    assert values(heard("fcd2", ENCRYPTED), "bthome", guard), "a forged counter did not move ours"


@pytest.mark.parametrize(
    ("record", "expected"),
    [  # docs.ruuvi.com: valid, maximum, minimum and invalid values of data format 5
        (
            "0512FC5394C37C0004FFFC040CAC364200CDCBB8334C884F",
            {"temperature": 24.3, "pressure": 1000.44, "humidity": 53.49, "acceleration_x": 0.004,
             "acceleration_y": -0.004, "acceleration_z": 1.036, "tx_power": 4, "voltage": 2.977,
             "movement": 66, "sequence": 205, "mac": "CB:B8:33:4C:88:4F"},
        ),
        (
            "057FFFFFFEFFFE7FFF7FFF7FFFFFDEFEFFFECBB8334C884F",
            {"temperature": 163.835, "pressure": 1155.34, "humidity": 163.835, "acceleration_x": 32.767,
             "acceleration_y": 32.767, "acceleration_z": 32.767, "tx_power": 20, "voltage": 3.646,
             "movement": 254, "sequence": 65534, "mac": "CB:B8:33:4C:88:4F"},
        ),
        (
            "058001000000008001800180010000000000CBB8334C884F",
            {"temperature": -163.835, "pressure": 500, "humidity": 0, "acceleration_x": -32.767,
             "acceleration_y": -32.767, "acceleration_z": -32.767, "tx_power": -40, "voltage": 1.6,
             "movement": 0, "sequence": 0, "mac": "CB:B8:33:4C:88:4F"},
        ),
        ("058000FFFFFFFF800080008000FFFFFFFFFFFFFFFFFFFFFF", dict.fromkeys(beacons.RUUVI_NAMES)),
    ],
)  # fmt: skip
def test_ruuvi(record: str, expected: dict[str, Any]) -> None:
    data = bytes.fromhex(record)
    said = values(heard(data=data, company=0x0499), "ruuvi", Guard())
    assert {k: v if not isinstance(v, float) else round(v, 4) for k, v in said.items()} == expected
    assert beacons.encode_ruuvi(dict(said), data[-6:]) == data


def test_ibeacon() -> None:
    data = bytes.fromhex("0215e2c56db5dffb48d2b060d0f5a71096e0000a0102c5")
    said = values(heard(data=data, company=0x004C), "ibeacon", Guard())
    assert said == {
        "uuid": "e2c56db5-dffb-48d2-b060-d0f5a71096e0", "major": 10, "minor": 258, "tx_power": -59,
    }  # fmt: skip
    assert beacons.encode_ibeacon(dict(said)) == data


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ("00ee000102030405060708090a0b0c0d0e0f",
         {"tx_power": -18, "namespace": "00010203040506070809", "instance": "0a0b0c0d0e0f"}),
        ("10ee00676f6f676c6507", {"tx_power": -18, "url": "http://www.google.com"}),
        ("10ba03676f6f2e676c2f6162", {"tx_power": -70, "url": "https://goo.gl/ab"}),
        ("20000bb8158000000010000003e8",
         {"voltage": 3.0, "temperature": 21.5, "advertisements": 16, "uptime": 100.0}),
        ("2000000080000000001000000000",
         {"voltage": None, "temperature": None, "advertisements": 16, "uptime": 0.0}),
    ],
)  # fmt: skip
def test_eddystone(frame: str, expected: dict[str, Any]) -> None:
    assert values(heard("feaa", bytes.fromhex(frame)), "eddystone", Guard()) == expected


def test_the_numbers_of_ieee_11073() -> None:
    assert sig.special("sfloat", bytes.fromhex("6df1"), "little") == 36.5
    assert sig.special("medfloat", bytes.fromhex("6c0100ff"), "little") == 36.4
    assert sig.special("medfloat", bytes.fromhex("6c0100ff")[::-1], "big") == 36.4
    for kind, raw in (("sfloat", "ff07"), ("sfloat", "0008"), ("sfloat", "0108"), ("medfloat", "ffff7f00")):
        assert math.isnan(sig.special(kind, bytes.fromhex(raw), "little"))
    assert sig.special("sfloat", bytes.fromhex("fe07"), "little") == math.inf
    assert sig.special("medfloat", bytes.fromhex("02008000"), "little") == -math.inf
    assert sig.special("int24", bytes.fromhex("feffff"), "little") == -2
    for kind, value in (
        ("sfloat", 36.5),
        ("sfloat", -0.02),
        ("sfloat", 2045),
        ("medfloat", 36.4),
        ("medfloat", 0),
    ):
        assert sig.special(kind, sig.encode_special(kind, value, "little"), "little") == value
    with pytest.raises(ValueError, match="too large"):
        sig.encode_special("sfloat", 3e10, "little")
    with pytest.raises(ValueError, match="has 3 bytes"):
        sig.special("uint24", b"\0\0", "little")


def test_nothing_that_is_advertised_can_harm() -> None:
    """Random, cut and stretched records are values or an `AdvertError`; DEVICEMESH_FUZZ sets how many."""
    import os

    rng = random.Random(7)
    seeds = {
        "bthome": ["4002ca0903bf13", "40530548656c6c6f", ENCRYPTED.hex()],
        "ruuvi": ["0512FC5394C37C0004FFFC040CAC364200CDCBB8334C884F"],
        "ibeacon": ["0215e2c56db5dffb48d2b060d0f5a71096e0000a0102c5"],
        "eddystone": ["00ee000102030405060708090a0b0c0d0e0f", "10ee00676f6f", "20000bb8158000000010000003e8"],
    }
    good = bad = 0
    guards = [Guard(), Guard(lambda: KEY)]
    for turn in range(int(os.environ.get("DEVICEMESH_FUZZ", "40000"))):
        format_ = FORMATS[turn % 4]
        data = bytearray(bytes.fromhex(rng.choice(seeds[format_])))
        for _ in range(rng.randrange(4)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        data = (
            data[: rng.randrange(len(data) + 1)]
            if rng.random() < 0.4
            else data + rng.randbytes(rng.randrange(4))
        )
        if format_ in ("ruuvi", "ibeacon"):
            advert = heard(data=bytes(data), company=0x0499 if format_ == "ruuvi" else 0x004C)
        else:
            advert = heard("fcd2" if format_ == "bthome" else "feaa", bytes(data))
        for name in recognised(advert):
            try:
                values(advert, name, rng.choice(guards))
                good += 1
            except AdvertError:
                bad += 1
    assert good > 1000 and bad > 1000
