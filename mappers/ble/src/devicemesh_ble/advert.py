"""One advertisement, and what is recognised in it. Pure.

Sources: BTHome v2 (bthome.io/format), Ruuvi data format 5 (docs.ruuvi.com), Apple's Proximity Beacon
Specification, Eddystone (github.com/google/eddystone).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from devicemesh.spec.values import Scalar
from devicemesh_ble import beacons, bthome
from devicemesh_ble.sig import uuid

Values: TypeAlias = Mapping[str, Scalar | None]
FORMATS = ("bthome", "ruuvi", "ibeacon", "eddystone")


class AdvertError(ValueError):
    """An advertisement that claims to be of a format, and is not; or whose protection does not hold."""


@dataclass(frozen=True, slots=True)
class Advert:
    """What was heard at once, as bleak gives it: UUIDs are whole and in lower case."""

    address: str
    rssi: int
    time_ns: int
    name: str | None = None
    tx_power: int | None = None
    manufacturer: Mapping[int, bytes] = field(default_factory=dict)  # by company, without its number
    service_data: Mapping[str, bytes] = field(default_factory=dict)
    services: tuple[str, ...] = ()


def record_of(advert: Advert, format_: str) -> bytes | None:
    """The bytes of a format within an advertisement, or None where it is not of this format."""
    if format_ == "bthome":
        return advert.service_data.get(uuid(bthome.SERVICE))
    if format_ == "eddystone":
        return advert.service_data.get(uuid(beacons.EDDYSTONE))
    company, mark = (beacons.RUUVI, b"\x05") if format_ == "ruuvi" else (beacons.APPLE, b"\x02\x15")
    data = advert.manufacturer.get(company)
    return data if data is not None and data.startswith(mark) else None


def recognised(advert: Advert) -> list[str]:
    """The formats that this advertisement has."""
    return [one for one in FORMATS if record_of(advert, one) is not None]


class Guard:
    """BTHome's protection of one device: its key, and the counter that only rises."""

    def __init__(self, key: Callable[[], bytes] | None = None, *, any_counter: bool = False) -> None:
        self._key = key
        self._any = any_counter
        self._counter = -1
        self._last = b""

    def opened(self, address: str, record: bytes) -> bytes:
        """The objects of a BTHome record, in plain. Raises AdvertError; AuthError without the key."""
        if not bthome.is_encrypted(record):
            if self._key is not None:
                raise AdvertError("it is not encrypted, a key is declared")
            return record[1:]
        if self._key is None:
            raise AdvertError("it is encrypted: give its `key`")
        objects, counter = bthome.decrypt(self._key(), address, record)
        if record == self._last:  # the same frame, repeated on the air as all are
            return objects
        if counter <= self._counter and not self._any:
            raise AdvertError(
                f"its counter {counter} is not above {self._counter}: a replay, or the device began anew"
            )
        self._counter, self._last = counter, record
        return objects


def values(advert: Advert, format_: str, guard: Guard) -> Values:
    """What an advertisement of this format says, by field; None: the device says that it does not know.

    Raises AdvertError; AuthError where the key is missing.
    """
    record = record_of(advert, format_) or b""
    try:
        if format_ == "bthome":
            bthome.check(record)
            return bthome.objects(guard.opened(advert.address, record))
        if format_ == "ruuvi":
            return beacons.ruuvi(record)
        return beacons.ibeacon(record) if format_ == "ibeacon" else beacons.eddystone(record)
    except AdvertError:
        raise
    except ValueError as error:
        raise AdvertError(str(error)) from error
