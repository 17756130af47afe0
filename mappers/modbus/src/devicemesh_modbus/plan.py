"""Which requests read a set of points soonest. Pure: no I/O, no clock.

All points of a link are grouped by unit and table, sorted, and cut into requests so that the time on the
wire is least: reading over a hole costs its bytes, another request costs a turnaround. What a device
refused is remembered in `Learned`, so that the next plan goes around it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from devicemesh.layout import Layout
from devicemesh.mapper import ConfigError, MapperError, Point
from devicemesh_modbus.endpoint import ModbusEndpoint
from devicemesh_modbus.model import BIT_TABLES, ModbusAddress, Table

ModbusPoint: TypeAlias = Point[ModbusEndpoint, ModbusAddress]
Extent: TypeAlias = tuple[int, int]
"""[start, end) in registers, or in bits for coil and discrete."""

FUNCTIONS: dict[Table, int] = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}


@dataclass(frozen=True, slots=True)
class Cost:
    """What a request costs, in seconds."""

    request: float  # whatever it carries: the question, the frame around the answer, the device's thinking
    byte: float  # per byte of data


def cost_of(endpoint: ModbusEndpoint) -> Cost:
    """The cost on a link: bits over the line's speed, and a turnaround.

    A question and an answer's frame are 13 bytes in RTU, with 3.5 characters of silence before each
    (Modbus over Serial Line V1.02, 2.5.1.1); in ASCII they are 17, each of two characters. Over TCP they
    mostly end in a serial line of unknown speed.
    """
    if endpoint.frames == "mbap":
        return Cost(0.002 + endpoint.pause_s, 8 / 100e6)
    characters = 2 if endpoint.frames == "ascii" else 1
    byte = endpoint.serial.byte_s if endpoint.serial else characters * 11 / 19200
    return Cost(0.005 + endpoint.pause_s + 20 * byte, byte)


@dataclass(frozen=True, slots=True)
class Item:
    """Points that are read together in any case: those inside the widest of them."""

    start: int
    end: int
    points: tuple[ModbusPoint, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """One request: the points that its answer holds, by rising address. The rest follows from them."""

    points: tuple[ModbusPoint, ...]

    @property
    def unit(self) -> int:
        return self.points[0].endpoint.unit

    @property
    def table(self) -> Table:
        return self.points[0].address.table

    @property
    def start(self) -> int:
        return self.points[0].address.offset

    @property
    def end(self) -> int:
        return max(extent(p)[1] for p in self.points)

    @property
    def extent(self) -> Extent:
        return self.start, self.end

    @property
    def count(self) -> int:
        """Registers or bits asked for."""
        return self.end - self.start

    @property
    def function(self) -> int:
        return FUNCTIONS[self.table]

    @property
    def size(self) -> int:
        """Bytes of data in the right answer."""
        return data_size(self.table, self.count)

    @property
    def slots(self) -> tuple[int, ...]:
        return tuple(p.slot for p in self.points)

    def layout(self) -> Layout:
        """How to decode the data of the answer."""
        start = self.start
        return Layout([p.address.field(p.type, start) for p in self.points], self.slots)

    def text(self) -> str:
        """`holding 100..149`, for people."""
        return f"{self.table} {self.start}" + (f"..{self.end - 1}" if self.count > 1 else "")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an extent can't be read even alone, and when to ask again."""

    error: MapperError
    retry_at: float


@dataclass(slots=True)
class Learned:
    """What one table of one unit refused, as long as the session lives."""

    apart: dict[tuple[int, int], float] = field(default_factory=dict)  # not in one request, until when
    refused: dict[Extent, Refusal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """Every point is in exactly one read, or rejected."""

    reads: list[Read]
    rejected: list[tuple[ConfigError, ModbusPoint]]


def data_size(table: Table, count: int) -> int:
    """Bytes that `count` registers or bits take in an answer."""
    return (count + 7) // 8 if table in BIT_TABLES else 2 * count


def extent(point: ModbusPoint) -> Extent:
    start = point.address.offset
    return start, start + point.address.span(point.type)


def plan(
    points: Iterable[ModbusPoint], opened: ModbusEndpoint, learned: dict[tuple[int, Table], Learned]
) -> Plan:
    """Plan the requests of a link that was opened with `opened`."""
    result = Plan([], [])
    groups: dict[tuple[int, Table], list[ModbusPoint]] = {}
    for point in points:
        if wrong := rejection(point, opened):
            result.rejected.append((ConfigError(wrong), point))
        else:
            groups.setdefault((point.endpoint.unit, point.address.table), []).append(point)
    for (unit, table), group in sorted(groups.items(), key=lambda g: g[0]):
        result.reads.extend(_plan_table(table, group, learned.get((unit, table)) or Learned()))
    return result


def rejection(point: ModbusPoint, opened: ModbusEndpoint) -> str | None:
    """Say why a point can't be read on the link that was opened with `opened`, or None."""
    endpoint, address = point.endpoint, point.address
    name = f"{point.device} {point.name}"
    if conflict := opened.conflict(endpoint):
        return f"{point.device} disagrees with another device on {opened.link()}: {conflict}"
    if wrong := address.refusal(point.type, "ReadOnly"):
        return f"{name}: {wrong}"
    span = address.span(point.type)
    limit = endpoint.max_bits if address.is_bit else endpoint.max_registers
    if span > limit:
        return (
            f"{name}: {address.text(point.type)} is {span} registers, the device gives {limit} in one answer"
        )
    start, end = extent(point)
    for zone in endpoint.forbidden:
        if zone.table == address.table and zone.start < end and start <= zone.end:
            return f"{name}: {address.text(point.type)} lies in the forbidden range {zone.start}..{zone.end}"
    return None


def _plan_table(table: Table, points: list[ModbusPoint], learned: Learned) -> Iterator[Read]:
    """Cut the points of one table into reads, in the order of their addresses."""
    cuts: list[tuple[Item, ...]] = []
    for refused in sorted({extent(p) for p in points} & learned.refused.keys()):
        cuts.append((Item(*refused, tuple(p for p in points if extent(p) == refused)),))
    together = items(p for p in points if extent(p) not in learned.refused)
    if together:
        endpoints = list(dict.fromkeys(p.endpoint for p in points))
        cuts += _partition(together, _barriers(together, table, endpoints, learned), table, endpoints)
    for cut in sorted(cuts, key=lambda c: (c[0].start, c[-1].end)):
        yield _read(cut)


def _read(cut: Sequence[Item]) -> Read:
    return Read(tuple(p for item in cut for p in item.points))


def items(points: Iterable[ModbusPoint]) -> list[Item]:
    """Sort; a point inside a wider one joins it. Starts and ends both rise strictly from item to item."""
    result: list[Item] = []
    for point in sorted(points, key=lambda p: (extent(p)[0], -extent(p)[1], p.slot)):
        start, end = extent(point)
        if result and end <= result[-1].end:
            last = result[-1]
            result[-1] = Item(last.start, last.end, (*last.points, point))
        else:
            result.append(Item(start, end, (point,)))
    return result


def _barriers(
    row: Sequence[Item], table: Table, endpoints: Sequence[ModbusEndpoint], learned: Learned
) -> list[int]:
    """For each item the first one that may share a request with it."""
    per_register = 16 if table in BIT_TABLES else 1
    gap = min((e.gap * per_register for e in endpoints if e.gap is not None), default=65536)
    zones = sorted(
        {(z.start, z.end + 1) for e in endpoints for z in e.forbidden if z.table == table}
        | set(learned.refused)
    )
    starts = [item.start for item in row]
    first = [0] * len(row)
    for j in range(1, len(row)):
        low, high = row[j - 1].end, row[j].start
        blocked = high - low > gap or any(start < high and low < end for start, end in zones)
        first[j] = j if blocked else first[j - 1]
    for a, b in learned.apart:
        after_a = bisect_right(starts, a)
        for j in range(after_a, len(row)):
            if row[j].end > b:
                first[j] = max(first[j], after_a)
    return first


def _partition(
    row: Sequence[Item], first: Sequence[int], table: Table, endpoints: Sequence[ModbusEndpoint]
) -> list[tuple[Item, ...]]:
    """The cheapest cut of the row into requests: best[j] is the least cost of its first j items."""
    bits = table in BIT_TABLES
    limit = min(e.max_bits if bits else e.max_registers for e in endpoints)
    cost = cost_of(endpoints[0])
    sizes = [data_size(table, count) * cost.byte for count in range(limit + 1)]
    starts = [item.start for item in row]
    best, cut = [0.0], [0]
    for j, last in enumerate(row):
        end, least, at = last.end, float("inf"), j
        for i in range(j, first[j] - 1, -1):
            count = end - starts[i]
            if count > limit:
                break
            total = best[i] + sizes[count]
            if total < least:
                least, at = total, i
        best.append(least + cost.request)
        cut.append(at)
    result: list[tuple[Item, ...]] = []
    j = len(row)
    while j:
        result.append(tuple(row[cut[j] : j]))
        j = cut[j]
    return result


def split(read: Read) -> tuple[Read, Read] | None:
    """Halve a refused read, nearest its middle; None when all its points lie on the same addresses."""
    row = items(read.points)
    if len(row) > 1:
        middle = len(row) // 2
        return _read(row[:middle]), _read(row[middle:])
    whole = items(p for p in read.points if extent(p) == read.extent)
    inside = items(p for p in read.points if extent(p) != read.extent)
    return (_read(whole), _read(inside)) if inside else None


def keep_apart(learned: Learned, left: Read, right: Read, until: float) -> None:
    """Remember that two halves are granted one by one, but not as one.

    Nothing is learned where a half asks for all that the whole asked for: the refusal was a passing one.
    """
    if left.end <= right.start:
        learned.apart[left.end - 1, right.start] = until
    elif left.end < right.end:
        learned.apart[left.start, right.end - 1] = until
