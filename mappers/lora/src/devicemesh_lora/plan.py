"""Which points an uplink has values for, and how they come out of it. Pure."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from devicemesh import layout
from devicemesh.mapper import Batch, MapperError, Point, PointError, Quality
from devicemesh.spec.values import INTEGER_RANGES, ValueType
from devicemesh_lora import cayenne
from devicemesh_lora.model import LoraAddress, LoraEndpoint

LoraPoint: TypeAlias = Point[LoraEndpoint, LoraAddress]


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


class Plan:
    """The points of one device or gateway."""

    def __init__(self, points: Sequence[LoraPoint]) -> None:
        self.where = points[0].endpoint.eui
        self.slots = [point.slot for point in points]
        self._laid = [point for point in points if point.address.offset is not None]
        self._lpp = [point for point in points if point.address.channel is not None]
        self._stats = [point for point in points if point.address.stat is not None]
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


def _fits(type_: ValueType, value: float) -> bool:
    if type_ == ValueType.BOOL:
        return value in (0, 1)
    if type_.is_float:
        return True
    low, high = INTEGER_RANGES[type_]
    return value == int(value) and low <= value <= high
