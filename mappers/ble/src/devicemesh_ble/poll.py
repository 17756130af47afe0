"""Polling: characteristics are read, and of what is advertised the next is taken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import TypeAlias

from bleak import BleakClient

from devicemesh.mapper import Batch, LinkError, PointError
from devicemesh_ble.advert import Advert
from devicemesh_ble.decode import BlePoint, Record, unheard, unread
from devicemesh_ble.devices import Devices
from devicemesh_ble.peripheral import Peripheral

Out: TypeAlias = asyncio.Queue[Batch | None]


class Poller:
    """A `Reader` for points of many devices."""

    def __init__(self, devices: Devices, points: Sequence[BlePoint]) -> None:
        self._devices = devices
        self._connected: dict[str, list[BlePoint]] = {}
        self._passive: dict[str, list[BlePoint]] = {}
        for point in points:
            group = self._passive if point.address.passive else self._connected
            group.setdefault(point.endpoint.peer, []).append(point)

    async def __call__(self) -> AsyncIterator[Batch]:
        self._devices.adapter.check()
        out: Out = asyncio.Queue()
        task = asyncio.create_task(self._work(out), name=f"read {self._devices.adapter.name}")
        task.add_done_callback(lambda _: out.put_nowait(None))
        try:
            while (batch := await out.get()) is not None:
                yield batch
            task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _work(self, out: Out) -> None:
        """All devices beside each other. Raises LinkError."""
        try:
            async with asyncio.TaskGroup() as group:
                for points in self._connected.values():
                    group.create_task(self._read(points, out))
                for points in self._passive.values():
                    group.create_task(self._hear(points, out))
        except* LinkError as lost:
            first: BaseException = lost
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            raise LinkError(str(first)) from None

    async def _read(self, points: Sequence[BlePoint], out: Out) -> None:
        """One device: points of one characteristic share a read."""
        peripheral = self._devices.peripheral(points[0].endpoint)
        groups: dict[tuple[str | None, str | None], list[BlePoint]] = {}
        for point in points:
            groups.setdefault((point.address.service, point.address.characteristic), []).append(point)
        try:
            async with peripheral.using() as client:
                for sharing in groups.values():
                    await self._one(sharing, client, peripheral, out)
        except PointError as error:  # of connecting
            out.put_nowait(unread(points, error))

    async def _one(
        self, sharing: Sequence[BlePoint], client: BleakClient, peripheral: Peripheral, out: Out
    ) -> None:
        address = sharing[0].address
        try:
            _, data = await peripheral.read(client, address)
        except PointError as error:
            out.put_nowait(unread(sharing, error))
            return
        for batch in Record(peripheral.where(address), sharing).batches(data, time.time_ns()):
            out.put_nowait(batch)

    async def _hear(self, points: Sequence[BlePoint], out: Out) -> None:
        """Wait until each point of one device was advertised once; those that were not are bad."""
        missing = {point.slot: point for point in points}
        listener = self._devices.listener(points)
        complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def heard(advert: Advert) -> None:
            for batch in listener.batches(advert):
                if missing.keys() >= set(batch.slot):  # else it was here already
                    out.put_nowait(batch)
                    for slot in batch.slot:
                        del missing[slot]
            if not missing and not complete.done():
                complete.set_result(None)

        endpoint, lost = points[0].endpoint, self._devices.adapter.lost
        with self._devices.adapter.listening(endpoint.peer, heard):
            await asyncio.wait(
                {complete, lost}, timeout=endpoint.timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        self._devices.adapter.check()
        for point in missing.values():
            out.put_nowait(unread([point], unheard(point, endpoint.timeout)))
