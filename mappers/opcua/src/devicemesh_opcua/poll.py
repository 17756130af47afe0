"""Polling: the points of one interval, read with as few requests as the server's limits allow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from devicemesh.mapper import Batch, PointError, Quality
from devicemesh_opcua import rows, services
from devicemesh_opcua import status as codes
from devicemesh_opcua.binary import DecodeError
from devicemesh_opcua.learn import Learner, is_silence
from devicemesh_opcua.model import OpcUaPoint
from devicemesh_opcua.server import ATTRIBUTES, TIMESTAMPS, Server
from devicemesh_opcua.services import ServiceFaultError

RETRY_S = 60.0
"""After which a point that has no node is looked for again."""


@dataclass(frozen=True, slots=True)
class Request:
    """Points that are read together."""

    slots: Sequence[int]
    items: Sequence[bytes]
    timestamps: int
    parameters: bytes

    @classmethod
    def of(cls, slots: Sequence[int], items: Sequence[bytes], timestamps: int) -> Request:
        return cls(slots, items, timestamps, services.read_request(items, timestamps))

    def halves(self) -> tuple[Request, Request]:
        middle = len(self.slots) // 2
        return (
            Request.of(self.slots[:middle], self.items[:middle], self.timestamps),
            Request.of(self.slots[middle:], self.items[middle:], self.timestamps),
        )


class Poller:
    """A reader: the nodes are looked up at its first call, then kept."""

    def __init__(self, points: Sequence[OpcUaPoint], server: Server, learner: Learner) -> None:
        self._server = server
        self._learner = learner
        self._pending = list(points)  # those without a node
        self._retry_at = 0.0
        self._lost: list[tuple[int, PointError]] = []
        self._requests: list[Request] = []
        self._decoder = rows.Decoder(server.link, rows.expected(points), server.types, server.lost)

    async def __call__(self) -> AsyncIterator[Batch]:
        loop = asyncio.get_running_loop()
        if self._pending and loop.time() >= self._retry_at:
            await self._locate()
            self._retry_at = loop.time() + RETRY_S
        now_ns = time.time_ns()
        for slot, error in self._lost:
            quality = Quality.NO_ANSWER if is_silence(error) else Quality.BAD_ADDRESS
            yield rows.bad([slot], now_ns, quality, error)
        waiting, planned = self._requests[::-1], []
        while waiting:
            request = waiting.pop()
            try:
                batches = await self._read(request)
            except ServiceFaultError as fault:
                self._server.check(fault)
                if fault.status & 0xFFFF0000 in codes.TOO_MUCH and len(request.slots) > 1:
                    waiting.extend(reversed(request.halves()))
                    continue
                error = codes.error(self._server.link, fault.status)
                batches = [rows.bad(request.slots, time.time_ns(), codes.quality(fault.status), error)]
            planned.append(request)
            for batch in batches:
                yield batch
        self._requests = planned  # not before all were asked: a poll may be cancelled

    async def _read(self, request: Request) -> list[Batch]:
        server = self._server
        try:
            body = await server.ask(services.READ_REQUEST, request.parameters)
            now_ns = time.time_ns()
            at = services.read_response(body, len(request.slots))
            before = self._decoder.lost.copy()
            batches = self._decoder.values(body, at, request.slots, now_ns)
            if server.types.missing:  # structures that are new here
                await self._learner.structures()
                self._decoder.lost.clear()
                self._decoder.lost.update(before)
                batches = self._decoder.values(body, at, request.slots, now_ns)
            return batches
        except PointError as error:
            return [rows.bad(request.slots, time.time_ns(), Quality.NO_ANSWER, error)]
        except DecodeError as error:
            return [rows.bad(request.slots, now_ns, Quality.UNDECODABLE, server.senseless(error))]

    async def _locate(self) -> None:
        """Find the nodes of the pending points, and plan their requests."""
        server, points = self._server, self._pending
        found = await server.resolve(points)
        located = [(p, node) for p in points if not isinstance(node := found[p.slot], PointError)]
        words, silent = await self._learner.words(located)
        self._decoder.expected.read(words)
        self._lost = [(slot, node) for slot, node in found.items() if isinstance(node, PointError)]
        self._lost += silent.items()
        lost = {slot for slot, _ in self._lost}
        self._pending = [point for point in points if point.slot in lost]
        for name, timestamps in TIMESTAMPS.items():
            here = [p for p in points if p.slot not in lost and p.endpoint.timestamps == name]
            nodes = await server.register([found[p.slot] for p in here])  # type: ignore[misc]
            items = [
                services.item(node.encoded, ATTRIBUTES[p.address.attribute], p.address.index_range)
                for p, node in zip(here, nodes, strict=True)
            ]
            step = server.limits.read
            for start in range(0, len(here), step):
                slots = [p.slot for p in here[start : start + step]]
                self._requests.append(Request.of(slots, items[start : start + step], timestamps))
