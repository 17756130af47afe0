"""Where the points of a model lie in what a device holds, and how they are scaled there. Pure."""

from __future__ import annotations

import math
import struct
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

from devicemesh_modbus.sunspec.models import Group, Point

FORMATS = {
    "int16": ">h", "uint16": ">H", "count": ">H", "acc16": ">H", "enum16": ">H", "bitfield16": ">H",
    "sunssf": ">h", "pad": ">H", "raw16": ">H",
    "int32": ">i", "uint32": ">I", "acc32": ">I", "enum32": ">I", "bitfield32": ">I", "ipaddr": ">I",
    "int64": ">q", "uint64": ">Q", "acc64": ">Q", "bitfield64": ">Q",
    "float32": ">f", "float64": ">d",
}  # fmt: skip
"""Of the types that are numbers; a string, eui48 and ipv6addr are not."""
NOT_IMPLEMENTED = {
    "int16": 0x8000, "uint16": 0xFFFF, "enum16": 0xFFFF, "bitfield16": 0xFFFF, "count": 0xFFFF,
    "sunssf": 0x8000,
    "int32": 0x80000000, "uint32": 0xFFFFFFFF, "enum32": 0xFFFFFFFF, "bitfield32": 0xFFFFFFFF,
    "int64": 1 << 63, "uint64": (1 << 64) - 1, "bitfield64": (1 << 64) - 1,
}  # fmt: skip
"""Raw codes of what a device has not (Device Information Model Specification, 4.5). A counter's would be 0,
which a counter may be."""
MAX_EXPONENT = 10


@dataclass(frozen=True, slots=True)
class Placed:
    """A point of a device. `path` names the groups that it lies in, repeated ones with their number."""

    model: int
    path: tuple[str, ...]
    point: Point
    register: int
    raw: bytes
    exponent: int = 0  # value = raw x 10^exponent
    scaled_by: int | None = None  # the register that has the exponent

    @property
    def implemented(self) -> bool:
        """Whether the device has it, or had it when it was asked."""
        kind = self.point.type
        if kind not in FORMATS:
            return any(self.raw)
        code = int.from_bytes(self.raw, "big")
        if kind.startswith("float"):
            return not math.isnan(self.number)
        return code != NOT_IMPLEMENTED.get(kind, 0)

    @property
    def number(self) -> float | int:
        """The raw number."""
        found: tuple[float | int] = struct.unpack(FORMATS[self.point.type], self.raw)
        return found[0]


def walk(number: int, group: Group, start: int, data: bytes) -> Iterator[Placed]:
    """The points of a model whose registers, its ID first, are `data`; `start` is the ID's register."""
    return _group(_Model(number, start, data), group, 0, (), ())


@dataclass(frozen=True, slots=True)
class _Model:
    number: int
    start: int
    data: bytes

    @property
    def registers(self) -> int:
        return len(self.data) // 2

    def raw(self, at: int, size: int) -> bytes:
        return self.data[2 * at : 2 * (at + size)]


Known = Mapping[str, tuple[int, int]]
"""Numbers of a group that others refer to, by name: (value, register)."""


def _group(
    model: _Model, group: Group, at: int, path: tuple[str, ...], outer: Sequence[Known]
) -> Generator[Placed, None, int]:
    """Yields the points; returns where the group ends."""
    known: dict[str, tuple[int, int]] = {}
    places = []
    for point in group.points:
        raw = model.raw(at, point.size)
        if len(raw) < 2 * point.size:
            break
        places.append((point, at, raw))
        if point.type in FORMATS and not point.type.startswith("float"):
            known[point.name] = (struct.unpack(FORMATS[point.type], raw)[0], model.start + at)
        at += point.size
    scopes = (known, *outer)
    for point, place, raw in places:
        scale = _exponent(point, scopes)
        if scale is not None:  # without it nobody knows what the number says
            yield Placed(model.number, path, point, model.start + place, raw, *scale)
    for inner in group.groups:
        for index in range(_count(inner, scopes, model.registers - at)):
            name = inner.name if inner.count == 1 else f"{inner.name}{index + 1}"
            at = yield from _group(model, inner, at, (*path, name), scopes)
    return at


def _exponent(point: Point, scopes: Sequence[Known]) -> tuple[int, int | None] | None:
    """The exponent, and the register that it stands in: of the nearest group that has it.

    None where it is not there, as in a map that is cut, or is no exponent. Not implemented is 0.
    """
    if point.scale is None or isinstance(point.scale, int):
        return point.scale or 0, None
    for known in scopes:
        if point.scale in known:
            value, register = known[point.scale]
            if value & 0xFFFF == NOT_IMPLEMENTED["sunssf"]:
                return 0, None
            return (value, register) if abs(value) <= MAX_EXPONENT else None
    return None


def _count(group: Group, scopes: Sequence[Known], left: int) -> int:
    """How often a group comes: never more often than there is room for."""
    most = left // group.size if group.size else 0
    if isinstance(group.count, int):
        return min(group.count or most, most)
    for known in scopes:
        if group.count in known:
            return min(max(0, known[group.count][0]), most)
    return 0
