"""A session keeps one counter for a device, whoever listens."""

from __future__ import annotations

from typing import Any

import pytest
from devicemesh_ble import bthome, sig
from devicemesh_ble.advert import Advert
from devicemesh_ble.model import BleAddress, BleEndpoint
from devicemesh_ble.session import BleSession

from devicemesh.mapper import AuthError, Point, SecretRef
from devicemesh.spec.values import ValueType

KEY = "231d39c1d7cc1ab1aee224cd096db932"
ENDPOINT = BleEndpoint(address="54:48:E6:8F:80:A5", key=SecretRef(name="t", key="key"))
POINT = Point(0, "default/t", "celsius", ValueType.FLOAT64, ENDPOINT, BleAddress(beacon="bthome/temperature"))


def frame(counter: int, celsius: float) -> Advert:
    plain = bthome.encode("temperature", celsius)
    record = bthome.encrypt(bytes.fromhex(KEY), ENDPOINT.peer, 0x40, plain, counter)
    return Advert(ENDPOINT.peer, -60, 1, service_data={sig.uuid("fcd2"): record})


def test_a_replay_is_refused_by_every_listener_of_a_session() -> None:
    nobody: Any = None
    session = BleSession(nobody, lambda _: KEY)
    first, second = session.listener([POINT]), session.listener([POINT])
    assert [list(b.value) for b in first.batches(frame(7, 20.5))] == [[20.5]]
    assert [list(b.value) for b in second.batches(frame(7, 20.5))] == [[20.5]]
    (refused,) = second.batches(frame(6, 99))
    assert refused.error is not None and "its counter 6 is not above 7" in str(refused.error)


@pytest.mark.parametrize("held", ["", "zz", KEY[:-2]])
def test_a_wrong_or_missing_key_is_said(held: str) -> None:
    def secrets(ref: SecretRef) -> str:
        if not held:
            raise AuthError(f"no secret {ref.name}", reason="SecretMissing")
        return held

    nobody: Any = None
    (bad,) = BleSession(nobody, secrets).listener([POINT]).batches(frame(1, 20))
    assert bad.error is not None and bad.error.reason in ("SecretMissing", "Unauthorized")
