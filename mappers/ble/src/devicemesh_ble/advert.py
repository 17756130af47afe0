"""One advertisement, and what is recognised in it. Pure.

Sources: BTHome v2 (bthome.io/format), Ruuvi data format 5 (docs.ruuvi.com), Apple's Proximity Beacon
Specification, Eddystone (github.com/google/eddystone).
"""

from __future__ import annotations

import hashlib
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


@dataclass(frozen=True, slots=True)
class Heard:
    """The newest encrypted frame of a device: its counter, and what tells it from another of that counter."""

    counter: int = -1
    frame: bytes = b""  # of its SHA-256


class Guard:
    """BTHome's protection of one device: its key, and the counter that only rises."""

    def __init__(
        self,
        key: Callable[[], bytes] | None = None,
        *,
        any_counter: bool = False,
        load: Callable[[bytes], Heard | None] | None = None,
        note: Callable[[Heard], None] | None = None,
    ) -> None:
        """`load` has what was heard last with that key, by who was here before; `note` hears of new ones."""
        self.key = key
        self._any = any_counter
        self._load = load
        self._note = note
        self._heard = Heard()

    def opened(self, address: str, record: bytes) -> bytes:
        """The objects of a BTHome record, in plain. Raises AdvertError; AuthError without the key."""
        if not bthome.is_encrypted(record):
            if self.key is not None:
                raise AdvertError("it is not encrypted, a key is declared")
            return record[1:]
        if self.key is None:
            raise AdvertError("it is encrypted: give its `key`")
        key = self.key()
        objects, counter = bthome.decrypt(key, address, record)
        if self._load is not None:
            load, self._load = self._load, None
            self._heard = load(key) or self._heard
        heard = Heard(counter, hashlib.sha256(record).digest()[:8])
        if heard == self._heard:  # the same frame, repeated on the air as all are
            return objects
        if counter <= self._heard.counter and not self._any:
            last = self._heard.counter
            raise AdvertError(
                f"its counter {counter} is not above {last}: a replay, or the device began anew"
            )
        self._heard = heard
        if self._note is not None:
            self._note(heard)
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
