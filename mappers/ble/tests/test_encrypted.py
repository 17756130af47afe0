"""A session keeps one counter for a device, whoever listens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from devicemesh_ble import bthome, sig
from devicemesh_ble.advert import Advert
from devicemesh_ble.counters import kept
from devicemesh_ble.decode import Listener
from devicemesh_ble.devices import Devices
from devicemesh_ble.model import BleAddress, BleEndpoint

from devicemesh.mapper import AuthError, Batch, Point, SecretRef
from devicemesh.spec.values import ValueType

KEY = "231d39c1d7cc1ab1aee224cd096db932"
ENDPOINT = BleEndpoint(address="54:48:E6:8F:80:A5", key=SecretRef(name="t", key="key"))
POINT = Point(0, "default/t", "celsius", ValueType.FLOAT64, ENDPOINT, BleAddress(beacon="bthome/temperature"))


def frame(counter: int, celsius: float) -> Advert:
    plain = bthome.encode("temperature", celsius)
    record = bthome.encrypt(bytes.fromhex(KEY), ENDPOINT.peer, 0x40, plain, counter)
    return Advert(ENDPOINT.peer, -60, 1, service_data={sig.uuid("fcd2"): record})


def listening(path: Path, endpoint: BleEndpoint = ENDPOINT) -> contextlib.AbstractContextManager[Any]:
    """Listeners of a session of its own, which has no radio."""

    @contextlib.contextmanager
    def opened() -> Iterator[Callable[[], Listener]]:
        nobody: Any = None
        with kept(path) as counters:
            devices = Devices(nobody, lambda _: KEY, counters)
            yield lambda: devices.listener([replace(POINT, endpoint=endpoint)])

    return opened()


def said(batches: list[Batch]) -> float | str:
    (batch,) = batches
    return float(batch.value[0]) if batch.error is None else str(batch.error)


def test_a_replay_is_refused_by_every_listener_of_a_session(tmp_path: Path) -> None:
    with listening(tmp_path / "counters") as listener:
        first, second = listener(), listener()
        assert said(first.batches(frame(7, 20.5))) == 20.5
        assert said(second.batches(frame(7, 20.5))) == 20.5
        assert "its counter 6 is not above 7" in str(said(second.batches(frame(6, 99))))


def test_a_restart_does_not_open_the_door_to_a_replay(tmp_path: Path) -> None:
    path = tmp_path / "ble/counters.sqlite"
    with listening(path) as listener:
        assert said(listener().batches(frame(7, 20.5))) == 20.5
    with listening(path) as listener:
        assert "its counter 5 is not above 7" in str(said(listener().batches(frame(5, 99))))
        assert "its counter 7 is not above 7" in str(said(listener().batches(frame(7, 99))))
        assert said(listener().batches(frame(7, 20.5))) == 20.5, "the device still repeats its newest frame"
        assert said(listener().batches(frame(8, 21))) == 21


def test_a_device_that_began_anew_is_taken_with_any_counter_and_guarded_from_there(tmp_path: Path) -> None:
    path = tmp_path / "counters.sqlite"
    with listening(path) as listener:
        listener().batches(frame(1000, 20))
    with listening(path, ENDPOINT.model_copy(update={"counter": "any"})) as listener:
        assert said(listener().batches(frame(3, 21))) == 21
    with listening(path) as listener:
        assert "its counter 2 is not above 3" in str(said(listener().batches(frame(2, 99))))
        assert said(listener().batches(frame(4, 22))) == 22


def test_counters_that_cannot_be_kept_are_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with listening(tmp_path / "file/counters") as listener:
        assert "counters can't be kept in" in str(said(listener().batches(frame(1, 20))))


def test_the_store_knows_neither_key_nor_plain_frames(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    with listening(path) as listener:
        listener().batches(frame(7, 20.5))
    assert bytes.fromhex(KEY) not in path.read_bytes() and KEY.encode() not in path.read_bytes()


@pytest.mark.parametrize("held", ["", "zz", KEY[:-2]])
def test_a_wrong_or_missing_key_is_said(held: str, tmp_path: Path) -> None:
    def secrets(ref: SecretRef) -> str:
        if not held:
            raise AuthError(f"no secret {ref.name}", reason="SecretMissing")
        return held

    nobody: Any = None
    with kept(tmp_path / "counters") as counters:
        (bad,) = Devices(nobody, secrets, counters).listener([POINT]).batches(frame(1, 20))
    assert bad.error is not None and bad.error.reason in ("SecretMissing", "Unauthorized")
