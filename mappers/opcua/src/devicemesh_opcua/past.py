"""What a server has kept (Part 11): HistoryRead of raw values, to fill the gap of an outage."""

from __future__ import annotations

import contextlib
import struct
import time
from array import array
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from devicemesh.mapper import Batch, Gap, PointError, Quality
from devicemesh.spec.values import duration_ns
from devicemesh_opcua import binary, rows, services
from devicemesh_opcua import status as codes
from devicemesh_opcua.binary import DecodeError
from devicemesh_opcua.convert import EPOCH_TICKS
from devicemesh_opcua.datatypes import Words
from devicemesh_opcua.learn import Learner
from devicemesh_opcua.model import OpcUaAddress, OpcUaEndpoint
from devicemesh_opcua.server import Node, Server
from devicemesh_opcua.services import ServiceFaultError

OpcUaGap: TypeAlias = Gap[OpcUaEndpoint, OpcUaAddress]
HISTORY_REQUEST, HISTORY_RESPONSE = 664, 667
MAX_ROWS = 10_000
"""Of one node and gap."""
MAX_NODES = 50
"""In one request: each may bring `MAX_ROWS` values."""
_RAW_DETAILS = b"\x01\x00\x89\x02\x01"
"""NodeId of ReadRawModifiedDetails's encoding, i=649, and that a body follows."""
_HISTORY_DATA = "i=658"
_HISTORY_READ = 0x04
"""A bit of AccessLevel (Part 3, 8.57)."""
_MARKED = {Quality.GOOD: Quality.FROM_HISTORY, Quality.UNCERTAIN: Quality.UNCERTAIN_FROM_HISTORY}


@dataclass(slots=True)
class Reading:
    """One node's past while it is read."""

    gap: OpcUaGap
    node: Node
    begin_ns: int
    point: bytes = b""  # the continuation
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """What one answer has of one node."""

    status: int
    point: bytes
    data: bytes = field(repr=False)  # DataValues, with their number before them

    @property
    def count(self) -> int:
        """How many DataValues there are, or none where that makes no sense."""
        with contextlib.suppress(DecodeError):
            return max(binary.length(self.data, 0, 1)[0], 0)
        return 0


def request(readings: Sequence[Reading], timestamps: int, release: bool = False) -> bytes:
    """The parameters of a HistoryRead of raw values (Part 11, 6.5.3.2) from the first gap to the last."""
    begin = min(one.begin_ns for one in readings) // 100 + EPOCH_TICKS
    end = max(one.gap.end_ns for one in readings) // 100 + EPOCH_TICKS
    details = struct.pack("<BqqIB", 0, begin, end, MAX_ROWS, 0)
    head = _RAW_DETAILS + struct.pack("<i", len(details)) + details
    head += struct.pack("<iBi", timestamps, release, len(readings))
    return head + b"".join(map(_item, readings))


def _item(one: Reading) -> bytes:
    """A HistoryReadValueId."""
    plain = (
        one.node.encoded + binary.encode_string(one.gap.point.address.index_range) + b"\0\0\xff\xff\xff\xff"
    )
    return plain + (struct.pack("<i", len(one.point)) + one.point if one.point else b"\xff\xff\xff\xff")


def response(body: bytes, expected: int) -> list[Part]:
    """Take a HistoryReadResponse apart. Raises DecodeError, ServiceFaultError."""
    count, at = binary.length(body, services.header(body, HISTORY_RESPONSE), 9)
    if count != expected:
        raise DecodeError(f"{count} results instead of {expected}")
    parts = []
    for _ in range(count):
        if at + 4 > len(body):
            raise DecodeError("the message ends inside a result")
        (status,) = struct.unpack_from("<I", body, at)
        point, at = binary.byte_string(body, at + 4)
        data, at = binary.extension_object(body, at)
        whole = data is not None and data.type_id == _HISTORY_DATA
        parts.append(Part(status, point or b"", data.body if data is not None and whole else b""))
    return parts


class Historian:
    """Reads gaps. A node of which more was kept, or might have been, than is read, counts as lost."""

    def __init__(self, server: Server, learner: Learner) -> None:
        self._server = server
        self._learner = learner

    async def read(self, gaps: Sequence[OpcUaGap]) -> AsyncIterator[Batch]:
        """See `Historical`."""
        waiting = [one for one in gaps if one.point.address.attribute == "Value"]
        found = await self._server.resolve([gap.point for gap in waiting])
        readings = [self._reading(gap, found[gap.point.slot]) for gap in waiting]
        readable = await self._readable([one for one in readings if one is not None])
        words, silent = await self._learner.words([(one.gap.point, one.node) for one in readable])
        if silent:
            self._server.lost["history"] += len(silent)
        readable = [one for one in readable if one.gap.point.slot not in silent]
        step = min(self._server.limits.history, MAX_NODES)
        for start in range(0, len(readable), step):
            part = readable[start : start + step]
            while part:
                parts = await self._ask(part)
                for one, told in zip(part, parts, strict=True):
                    batches = self._batches(one, told, words)
                    if self._server.types.missing:  # structures that are new here
                        await self._learner.structures()
                        batches = self._batches(one, told, words)
                    for batch in batches:
                        yield batch
                    one.rows += told.count
                part = await self._rest(part, parts)

    def _reading(self, gap: OpcUaGap, node: Node | PointError) -> Reading | None:
        reach_ns = duration_ns(gap.point.endpoint.history)
        if isinstance(node, PointError) or not reach_ns:
            return None
        begin_ns = max(gap.begin_ns, gap.end_ns - reach_ns)
        if begin_ns > gap.begin_ns:
            self._server.lost["history"] += 1
        return Reading(gap, node, begin_ns)

    async def _readable(self, readings: Sequence[Reading]) -> list[Reading]:
        """Those of which the server keeps the past, for us."""
        items = [services.item(one.node.encoded, 17, None) for one in readings]
        try:
            levels = await self._server.read(items)
        except ServiceFaultError as fault:
            self._server.check(fault)
            return []
        except PointError:
            self._server.lost["history"] += len(readings)
            return []
        bits = [held.value if isinstance(held.value, int) else 0 for held, _, _ in levels]
        return [one for one, level in zip(readings, bits, strict=True) if level & _HISTORY_READ]

    async def _ask(self, readings: Sequence[Reading]) -> list[Part]:
        """One HistoryRead; nothing of each node where it fails. Raises LinkError."""
        server = self._server
        try:
            wish = request(readings, services.SOURCE_TIMESTAMPS)
            return response(await server.ask(HISTORY_REQUEST, wish), len(readings))
        except ServiceFaultError as fault:
            server.check(fault)
        except (PointError, DecodeError):
            pass
        server.lost["history"] += len(readings)
        return [Part(codes.BAD_TIMEOUT, b"", b"")] * len(readings)

    async def _release(self, readings: Sequence[Reading]) -> None:
        """Tell the server that the rest is not wanted. Raises LinkError."""
        wish = request(readings, services.SOURCE_TIMESTAMPS, release=True)
        with contextlib.suppress(PointError, ServiceFaultError):
            await self._server.ask(HISTORY_REQUEST, wish)

    async def _rest(self, readings: Sequence[Reading], parts: Sequence[Part]) -> list[Reading]:
        """Those that have more; what is past the limit is left, and the server told so."""
        more: list[Reading] = []
        enough: list[Reading] = []
        for one, told in zip(readings, parts, strict=True):
            one.point = told.point
            if one.rows >= MAX_ROWS:
                self._server.lost["history"] += 1
            if told.point:
                (enough if one.rows >= MAX_ROWS else more).append(one)
        if enough:
            await self._release(enough)
        return more

    def _batches(self, one: Reading, told: Part, words: Mapping[int, Words]) -> list[Batch]:
        """The rows inside the gap, marked; bad ones left out."""
        if told.status >> 31 or not told.data:
            return []
        point = one.gap.point
        expected = rows.expected([point])
        expected.read({slot: known for slot, known in words.items() if slot == point.slot})
        decoder = rows.Decoder(self._server.link, expected, self._server.types)
        try:
            count, at = binary.length(told.data, 0, 1)
            batches = decoder.values(told.data, at, [point.slot] * max(count, 0), time.time_ns())
        except DecodeError:
            self._server.lost["history"] += 1
            return []
        return [kept for batch in batches if (kept := _inside(batch, one)) is not None]


def _inside(batch: Batch, one: Reading) -> Batch | None:
    """The good rows of a batch that lie between the ends of the gap."""
    if batch.error is not None or isinstance(batch.time_ns, int):  # a past without times is none
        return None
    size = len(batch.slot)
    qualities = [batch.quality] * size if isinstance(batch.quality, int) else batch.quality
    kept = [i for i, t in enumerate(batch.time_ns) if one.begin_ns < t < one.gap.end_ns]
    if not kept:
        return None
    marks = array("B", (_MARKED.get(Quality(qualities[i]), qualities[i]) for i in kept))
    values = [batch.value[i] for i in kept]
    column = array(batch.value.typecode, values) if isinstance(batch.value, array) else values
    times = array("q", (batch.time_ns[i] for i in kept))
    return Batch(array("I", [one.gap.point.slot]) * len(kept), times, column, marks)
