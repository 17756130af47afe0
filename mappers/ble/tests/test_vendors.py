"""Other vendors' formats: advertisements as their parsers' own tests publish them, through to batches."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest
from devicemesh_ble import discover, sig, vendors
from devicemesh_ble.advert import Advert, Guard
from devicemesh_ble.decode import Listener
from devicemesh_ble.model import BleAddress, BleEndpoint

from devicemesh.mapper import Point, Quality
from devicemesh.spec.values import ValueType

pytest.importorskip("govee_ble", reason=f"no vendors' parsers: {vendors.INSTALL}")
ADDRESS = "A4:C1:38:56:53:84"
XIAOMI = sig.uuid("fe95")


def heard(**given: Any) -> Advert:
    return replace(Advert(ADDRESS, -63, 1), **given)


GOVEE = heard(name="GVH5075_2762", manufacturer={60552: bytes.fromhex("00034be56400")})
# a LYWSD03MMC, as xiaomi-ble's own tests have it, with its key
SEALED = replace(
    heard(service_data={XIAOMI: bytes.fromhex("58585b0550f4830238c1a495ef58763c26000097e2abb5")}),
    address="A4:C1:38:02:83:F4",
)
SEALED_KEY = bytes.fromhex("e9ea895fac7cca6d30532432a516f3a8")


def listener(beacon: str, key: bytes | None = None, type_: ValueType = ValueType.FLOAT64) -> Listener:
    endpoint = BleEndpoint(address=ADDRESS)
    point = Point(0, "default/t", "celsius", type_, endpoint, BleAddress(beacon=beacon))
    return Listener([point], Guard((lambda: key) if key is not None else None))


def test_a_value_of_a_vendor_is_delivered() -> None:
    (temperature,) = listener("govee/temperature").batches(GOVEE)
    (humidity,) = listener("govee/humidity").batches(GOVEE)
    (battery,) = listener("govee/battery", type_=ValueType.UINT8).batches(GOVEE)
    assert temperature.error is None and list(temperature.value) == [pytest.approx(21.7, abs=0.2)]
    assert list(humidity.value) == [pytest.approx(50, abs=50)] and list(battery.value) == [100]


def test_what_is_not_of_the_format_says_nothing() -> None:
    assert listener("govee/temperature").batches(heard(name="other", manufacturer={1: b"ab"})) == []
    assert listener("inkbird/temperature").batches(GOVEE) == []
    assert listener("govee/moisture").batches(GOVEE) == [], "it has no such field"


def test_what_is_encrypted_asks_for_its_key_and_refuses_another() -> None:
    (bad,) = listener("xiaomi/temperature").batches(SEALED)
    assert bad.quality == Quality.UNDECODABLE and "give its `key`" in str(bad.error)
    (opened,) = listener("xiaomi/humidity", SEALED_KEY).batches(SEALED)
    assert opened.error is None and 0 < opened.value[0] < 100
    (wrong,) = listener("xiaomi/temperature", bytes(16)).batches(SEALED)
    assert "was not encrypted with this key" in str(wrong.error)


def test_a_parser_that_fails_marks_its_points(monkeypatch: pytest.MonkeyPatch) -> None:
    import govee_ble

    def update(*_: object) -> None:
        raise IndexError("too short")

    monkeypatch.setattr(govee_ble.GoveeBluetoothDeviceData, "update", update)
    (bad,) = listener("govee/temperature").batches(GOVEE)
    assert "its parser fails: IndexError: too short" in str(bad.error)


def test_a_parser_that_is_not_installed_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "govee_ble", None)
    (bad,) = listener("govee/temperature").batches(GOVEE)
    assert bad.error is not None and bad.error.reason == "NotInstalled"
    assert "pip install 'devicemesh-ble[vendors]'" in str(bad.error)


def test_all_parsers_exist() -> None:
    for format_ in vendors.PARSERS:
        assert vendors.Vendor(format_, None).values(heard()) is None


def test_discovery_recognises_a_vendor() -> None:
    found = discover.found("hci0", [GOVEE])
    assert found.identity["recognised"] == "govee"
    assert "beacon: govee/temperature" in found.manifest


def test_random_bytes_harm_no_listener() -> None:
    import random

    rng = random.Random(1)
    companies = [60552, 0x0001, 0xEC88, 0x0059, 0x06D5, 0x0010, 0x0011, 0x000D]
    listeners = [listener(f"{format_}/temperature") for format_ in vendors.PARSERS]
    for _ in range(2000):
        advert = heard(
            name=rng.choice(["GVH5075_2762", "sps", "tps", "TP357 (2142)", "", "LYWSD03MMC", "s"]),
            manufacturer={rng.choice(companies): rng.randbytes(rng.randrange(24))},
            service_data={rng.choice([XIAOMI, sig.uuid("fdcd")]): rng.randbytes(rng.randrange(24))},
        )
        for one in listeners:
            one.batches(advert)
