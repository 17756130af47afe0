"""Points to what they are decoded from, and bytes to columns. Pure."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Sequence
from typing import Any, TypeAlias

from devicemesh.layout import Layout
from devicemesh.mapper import Batch, MapperError, Point, PointError, Quality
from devicemesh.spec.values import ValueType, mismatch
from devicemesh_ble.advert import Advert, AdvertError, Guard, Values, record_of, values
from devicemesh_ble.model import BleAddress, BleEndpoint
from devicemesh_ble.sig import uuid
from devicemesh_ble.vendors import PARSERS, Vendor

BlePoint: TypeAlias = Point[BleEndpoint, BleAddress]


def bad(slots: Sequence[int], time_ns: int, quality: Quality, error: MapperError) -> Batch:
    """Rows without a value."""
    return Batch(array("I", slots), time_ns, array("d", [math.nan]) * len(slots), int(quality), error)


def one(point: BlePoint, time_ns: int, value: Any) -> Batch:
    """A row with a value that fits the point's type."""
    slots = array("I", [point.slot])
    if point.type in (ValueType.INT64, ValueType.UINT64):
        return Batch(slots, time_ns, array("q", [value]) if value < 1 << 63 else [value])
    if point.type == ValueType.BOOL or point.type.is_number:
        return Batch(slots, time_ns, array("d", [float(value)]))
    return Batch(slots, time_ns, [value])


def fitted(value: Any, type_: ValueType) -> Any:
    """A value as the declared type. Raises ValueError where it is none."""
    if type_.is_float and isinstance(value, bool | int):
        value = float(value)
    elif (type_.is_integer and isinstance(value, float) and value.is_integer()) or (
        type_.is_integer and isinstance(value, bool)
    ):
        value = int(value)
    if wrong := mismatch(value, type_):
        raise ValueError(wrong)
    return value


def quality(problem: MapperError) -> Quality:
    """The quality of rows that bear this error."""
    known = {
        "NoAnswer": Quality.NO_ANSWER,
        "BadAddress": Quality.BAD_ADDRESS,
        "Undecodable": Quality.UNDECODABLE,
    }
    return known.get(problem.reason, Quality.REFUSED)


def unread(points: Sequence[BlePoint], error: PointError) -> Batch:
    """Rows of points that could not be read."""
    return bad([point.slot for point in points], time.time_ns(), quality(error), error)


def unheard(point: BlePoint, span: str) -> PointError:
    """A device that does not advertise, or not this."""
    return PointError(
        f"{point.endpoint.text()} has advertised no {point.address.text} for {span}", reason="NoAnswer"
    )


def ambiguous(endpoint: BleEndpoint, both: tuple[str, str]) -> PointError:
    """Two devices of the declared name: whose values they are is not known."""
    return PointError(
        f"{endpoint.text()}: {both[0]} and {both[1]} both advertise that name: give the `address`",
        reason="BadAddress",
    )


class Record:
    """Points that lie in the same bytes: a characteristic, manufacturer data, service data."""

    def __init__(self, where: str, points: Sequence[BlePoint]) -> None:
        self.where = where
        self.points = points
        self._special = [p for p in points if p.address.special is not None]
        laid = [p for p in points if p.address.special is None]
        fields = [p.address.field(p.type) for p in laid]
        self._layout = Layout(fields, [p.slot for p in laid]) if laid else None

    def batches(self, data: bytes, time_ns: int) -> list[Batch]:
        """The rows of the bytes; what is too short for a field marks that field."""
        made = self._layout.decode(data, time_ns) if self._layout is not None else []
        for point in self._special:
            try:
                value = point.address.decode_special(data[point.address.where[0] :])
                made.append(one(point, time_ns, fitted(value, point.type)))
            except ValueError as error:
                wrong = PointError(f"{self.where}: {error}", reason="Undecodable")
                made.append(bad([point.slot], time_ns, Quality.UNDECODABLE, wrong))
        return made


class Listener:
    """What the advertisements of one device are decoded to. The hot path of passive scanning."""

    def __init__(self, points: Sequence[BlePoint], guard: Guard | None = None) -> None:
        self.endpoint = points[0].endpoint
        self.points = points
        self._guard = guard or Guard()
        self._beacons: dict[str, list[tuple[BlePoint, str]]] = {}
        self._signals: list[BlePoint] = []
        laid: dict[int | str, list[BlePoint]] = {}
        for point in points:
            address = point.address
            if address.beacon is not None:
                format_, _, name = address.beacon.partition("/")
                self._beacons.setdefault(format_, []).append((point, name))
            elif address.signal is not None:
                self._signals.append(point)
            elif address.manufacturer is not None:
                laid.setdefault(address.manufacturer, []).append(point)
            else:
                laid.setdefault(uuid(address.service_data or ""), []).append(point)
        self._vendors = {one: Vendor(one, self._guard.key) for one in self._beacons if one in PARSERS}
        self._records = [
            (place, Record(f"{self.endpoint.text()} {those[0].address.text}", those))
            for place, those in laid.items()
        ]

    def batches(self, advert: Advert) -> list[Batch]:
        """The rows of what this advertisement has; points that it says nothing of have none."""
        made: list[Batch] = []
        for point in self._signals:
            value = _signal(advert, point.address.signal or "")
            if value is not None:
                self._add(made, point, value, advert.time_ns)
        for place, record in self._records:
            if isinstance(place, int):
                data = advert.manufacturer.get(place)
            else:
                data = advert.service_data.get(place)
            if data is not None:
                made += record.batches(data, advert.time_ns)
        for format_, named in self._beacons.items():
            self._take(made, advert, format_, named)
        return made

    def _said(self, advert: Advert, format_: str) -> Values | None:
        """What it says in a format; None: it is not of it. Raises AdvertError, MapperError."""
        if format_ in self._vendors:
            return self._vendors[format_].values(advert)
        return values(advert, format_, self._guard) if record_of(advert, format_) is not None else None

    def _take(
        self, made: list[Batch], advert: Advert, format_: str, named: Sequence[tuple[BlePoint, str]]
    ) -> None:
        try:
            said = self._said(advert, format_)
        except (AdvertError, MapperError) as error:
            reason = error.reason if isinstance(error, MapperError) else "Undecodable"
            wrong = PointError(f"{self.endpoint.text()} {format_}: {error}", reason=reason)
            made.append(bad([p.slot for p, _ in named], advert.time_ns, Quality.UNDECODABLE, wrong))
            return
        for point, name in named:
            if said is None or name not in said:
                continue
            value = said[name]
            if value is None:
                unknown = PointError(f"{self.endpoint.text()} says that it has no {name}", reason="NoValue")
                made.append(bad([point.slot], advert.time_ns, Quality.BAD, unknown))
            else:
                self._add(made, point, value, advert.time_ns)

    def _add(self, made: list[Batch], point: BlePoint, value: Any, time_ns: int) -> None:
        try:
            made.append(one(point, time_ns, fitted(value, point.type)))
        except ValueError as error:
            wrong = PointError(f"{self.endpoint.text()} {point.address.text}: {error}", reason="Undecodable")
            made.append(bad([point.slot], time_ns, Quality.UNDECODABLE, wrong))


def _signal(advert: Advert, name: str) -> Any:
    if name == "lastSeen":
        return advert.time_ns // 1_000_000_000
    known = {"rssi": advert.rssi, "txPower": advert.tx_power, "name": advert.name, "address": advert.address}
    return known[name]
