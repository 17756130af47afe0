"""Which points an uplink has values for, and how they come out of it. Pure."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from devicemesh import layout
from devicemesh.mapper import Batch, MapperError, Point, PointError, Quality
from devicemesh.spec.values import INTEGER_RANGES, ValueType
from devicemesh_lora import cayenne, document
from devicemesh_lora.model import LoraAddress, LoraEndpoint

LoraPoint: TypeAlias = Point[LoraEndpoint, LoraAddress]
MOST_MEASUREMENTS = 100
"""Of one normalised payload; an uplink has at most 242 bytes."""


def bad(slots: Sequence[int], time_ns: int, quality: Quality, error: MapperError) -> Batch:
    """Rows without a value."""
    return Batch(array("I", slots), time_ns, array("d", [math.nan]) * len(slots), int(quality), error)


def parted(batch: Batch) -> list[Batch]:
    """A batch, its good rows without the error of the bad ones."""
    quality = batch.quality
    if batch.error is None or isinstance(quality, int):
        return [batch]
    made: list[Batch] = []
    for is_bad in (False, True):
        rows = [i for i, one in enumerate(quality) if (one >= Quality.BAD) == is_bad]
        if not rows:
            continue
        picked: Any = [batch.value[i] for i in rows]
        if isinstance(batch.value, array):
            picked = array(batch.value.typecode, picked)
        slots, held = array("I", [batch.slot[i] for i in rows]), array("B", [quality[i] for i in rows])
        made.append(Batch(slots, batch.time_ns, picked, held, batch.error if is_bad else None))
    return made


class Unmade(str):
    """In place of a normalised payload: why there is none."""

    __slots__ = ()


class Plan:
    """The points of one device or gateway."""

    def __init__(self, points: Sequence[LoraPoint]) -> None:
        self.where = points[0].endpoint.eui
        self.slots = [point.slot for point in points]
        self._laid = [point for point in points if point.address.offset is not None]
        self._lpp = [point for point in points if point.address.channel is not None]
        self._stats = [point for point in points if point.address.stat is not None]
        self._pointed = [point for point in points if point.address.pointer is not None]
        self._steps = {point.slot: point.address.steps for point in self._pointed}
        self._found: set[int] = set()  # slots of those that a payload has had before
        self._layouts: dict[int, layout.Layout | None] = {}

    def payload(self, port: int | None, data: bytes, time_ns: int) -> list[Batch]:
        """The values in a payload of this FPort; points of other ports have no rows."""
        if port is None or port == 0:
            return []
        if port not in self._layouts:
            held = [point for point in self._laid if point.address.port in (None, port)]
            fields = [point.address.field(point.type) for point in held]
            self._layouts[port] = layout.Layout(fields, [p.slot for p in held]) if held else None
        made: list[Batch] = []
        if (found := self._layouts[port]) is not None:
            for batch in found.decode(data, time_ns):
                made += parted(batch)
        if lpp := [point for point in self._lpp if point.address.port in (None, port)]:
            made += self._cayenne(lpp, data, time_ns)
        return made

    def _cayenne(self, points: Sequence[LoraPoint], data: bytes, time_ns: int) -> list[Batch]:
        slots = [point.slot for point in points]
        try:
            found = cayenne.decode(data)
        except cayenne.LppError as error:
            why = PointError(f"{self.where}: {error}", reason="Undecodable")
            return [bad(slots, time_ns, Quality.UNDECODABLE, why)]
        first: dict[int, float] = {}
        for (channel, _), value in found.items():
            first.setdefault(channel, value)
        values: dict[int, Any] = {}
        for point in points:
            channel, quantity = point.address.channel or 0, point.address.quantity
            got = first.get(channel) if quantity is None else found.get((channel, quantity))
            if got is not None:  # an uplink need not have all channels
                values[point.slot] = got
        return self.rows([(p, values[p.slot]) for p in points if p.slot in values], time_ns)

    @property
    def uses_codec(self) -> bool:
        return bool(self._pointed)

    def pointed(self, port: int | None) -> list[LoraPoint]:
        """The points that a decoded payload of this FPort can have."""
        return [point for point in self._pointed if point.address.port in (None, port)]

    def decoded(self, port: int | None, data: Any, normalized: Any, time_ns: int) -> list[Batch]:
        """The values in a decoded payload of this FPort, and in its normalised form (None: there is none).

        `normalized` may be one object or a list of measurements, each with a `time` of its own (TS013). What
        an object does not have has no row, as not all payloads have all; until it was there once, it is bad.
        """
        held = self.pointed(port)
        made = self._picked([p for p in held if not p.address.normalized], data, time_ns)
        measured = [p for p in held if p.address.normalized]
        if not measured:
            return made
        if isinstance(normalized, Unmade):
            return made + self._unmade(measured, normalized, "CodecError", time_ns)
        listed = normalized if isinstance(normalized, list) else [normalized]
        for one in listed[:MOST_MEASUREMENTS]:
            made += self._picked(measured, one, _own_time(one, time_ns))
        if not listed:
            made += self._picked(measured, None, time_ns)
        return made

    def _picked(self, points: Sequence[LoraPoint], data: Any, time_ns: int) -> list[Batch]:
        good: list[tuple[LoraPoint, Any]] = []
        wrong: dict[str, list[int]] = {}
        for point in points:
            address = point.address
            value = document.at(data, self._steps[point.slot])
            if value is document.MISSING:
                if point.slot not in self._found:
                    what = "normalised" if address.normalized else "decoded"
                    why = f"the {what} payload has no {address.pointer}, {document.offers(data)}"
                    wrong.setdefault(why, []).append(point.slot)
                continue
            self._found.add(point.slot)
            try:
                good.append((point, document.typed(value, point.type, address.scale, address.add)))
            except document.DocumentError as error:
                wrong.setdefault(f"{address.pointer}: {error}", []).append(point.slot)
        made = columns(good, time_ns)
        for why, slots in wrong.items():
            said = PointError(f"{self.where}: {why}", reason="Undecodable")
            made.append(bad(slots, time_ns, Quality.UNDECODABLE, said))
        return made

    def undecoded(self, port: int | None, why: str, reason: str, time_ns: int) -> list[Batch]:
        """A payload of which the codec made nothing: what it could have had is bad."""
        return self._unmade(self.pointed(port), why, reason, time_ns)

    def uncoded(self, why: str, reason: str, time_ns: int) -> list[Batch]:
        """Nothing can be decoded: the points of all ports that a codec should find are bad."""
        return self._unmade(self._pointed, why, reason, time_ns)

    def _unmade(self, points: Sequence[LoraPoint], why: str, reason: str, time_ns: int) -> list[Batch]:
        if not points:
            return []
        error = PointError(f"{self.where}: {why}", reason=reason)
        return [bad([point.slot for point in points], time_ns, Quality.UNDECODABLE, error)]

    def stats(self, known: Mapping[str, float | str | None], time_ns: int) -> list[Batch]:
        """What the radio tells; what is not known has no row."""
        held = [(point, known.get(point.address.stat or "")) for point in self._stats]
        return self.rows([(point, value) for point, value in held if value is not None], time_ns)

    def rows(self, values: Sequence[tuple[LoraPoint, Any]], time_ns: int) -> list[Batch]:
        """Numbers in one column, words in another."""
        made, wrong = [], []
        numbers: list[tuple[int, float]] = []
        words: list[tuple[int, str]] = []
        for point, value in values:
            if isinstance(value, str):
                words.append((point.slot, value))
            elif _fits(point.type, value):
                numbers.append((point.slot, float(value)))
            else:
                wrong.append((point.slot, f"{value:g} is no {point.type}"))
        if numbers:
            slots, held = zip(*numbers, strict=True)
            made.append(Batch(array("I", slots), time_ns, array("d", held)))
        if words:
            named, texts = zip(*words, strict=True)
            made.append(Batch(array("I", named), time_ns, list(texts)))
        for slot, why in wrong:
            error = PointError(f"{self.where}: {why}", reason="Undecodable")
            made.append(bad([slot], time_ns, Quality.UNDECODABLE, error))
        return made

    def silence(self, why: str, reason: str, quality: Quality, time_ns: int) -> Batch:
        """All of its points, without a value."""
        return bad(self.slots, time_ns, quality, PointError(why, reason=reason))


def columns(values: Sequence[tuple[LoraPoint, Any]], time_ns: int) -> list[Batch]:
    """Typed values: numbers in one column, 64-bit integers in another, the rest in a third."""
    numbers: list[tuple[int, float]] = []
    integers: list[tuple[int, int]] = []
    others: list[tuple[int, Any]] = []
    for point, value in values:
        if point.type in (ValueType.INT64, ValueType.UINT64):
            (integers if value < 1 << 63 else others).append((point.slot, value))
        elif point.type == ValueType.BOOL or point.type.is_number:
            numbers.append((point.slot, float(value)))
        else:
            others.append((point.slot, value))
    made = []
    for rows, code in ((numbers, "d"), (integers, "q"), (others, "")):
        if rows:
            slots, held = zip(*rows, strict=True)
            made.append(Batch(array("I", slots), time_ns, array(code, held) if code else list(held)))
    return made


def _own_time(measurement: Any, time_ns: int) -> int:
    """When it was measured, where it says so (`time`, as in 2026-01-31T12:00:00Z) and can be believed."""
    said = measurement.get("time") if isinstance(measurement, Mapping) else None
    if not isinstance(said, str):
        return time_ns
    try:
        when = datetime.fromisoformat(said)
        found = round((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1e9)
    except (ValueError, OverflowError):
        return time_ns
    return found if 0 < found < 1 << 63 else time_ns


def _fits(type_: ValueType, value: float) -> bool:
    if type_ == ValueType.BOOL:
        return value in (0, 1)
    if type_.is_float:
        return True
    low, high = INTEGER_RANGES[type_]
    return value == int(value) and low <= value <= high
