"""What comes by itself: advertisements, and notifications of devices that are kept connected."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence

from bleak import BleakClient

from devicemesh.mapper import Batch, LinkError, PointError
from devicemesh_ble.advert import Advert
from devicemesh_ble.decode import BlePoint, Record, ambiguous, unread
from devicemesh_ble.devices import Devices
from devicemesh_ble.peripheral import Peripheral

RETRY_S = 1.0
"""After which a device that could not be listened to is tried again; connects have a growing pause too."""
MAX_WAITING = 10_000
"""Batches that may wait for the runtime; beyond it the oldest are left out."""


class Subscriber:
    """All that one set of points is pushed by."""

    def __init__(self, devices: Devices, points: Sequence[BlePoint]) -> None:
        self._devices = devices
        self._out: asyncio.Queue[Batch | None] = asyncio.Queue()
        self._passive: dict[str, list[BlePoint]] = {}
        self._notified: dict[str, list[BlePoint]] = {}
        for point in points:
            group = self._passive if point.address.passive else self._notified
            group.setdefault(point.endpoint.peer, []).append(point)

    def _put(self, batch: Batch) -> None:
        if self._out.qsize() >= MAX_WAITING:
            oldest = self._out.get_nowait()
            self._devices.overrun += len(oldest.slot) if oldest is not None else 0
        self._out.put_nowait(batch)

    async def batches(self) -> AsyncGenerator[Batch]:
        """Yield what comes. Raises LinkError."""
        task = asyncio.create_task(self._work(), name=f"listen {self._devices.adapter.name}")
        task.add_done_callback(lambda _: self._out.put_nowait(None))
        try:
            while (batch := await self._out.get()) is not None:
                yield batch
            task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _work(self) -> None:
        """Listen to all devices beside each other. Raises LinkError."""
        try:
            async with asyncio.TaskGroup() as group:
                for points in self._passive.values():
                    group.create_task(self._hear(points))
                for points in self._notified.values():
                    group.create_task(self._listen(points))
                group.create_task(self._adapter_lost())
        except* LinkError as lost:
            first: BaseException = lost
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            raise LinkError(str(first)) from None

    async def _adapter_lost(self) -> None:
        await asyncio.wait({self._devices.adapter.lost})
        self._devices.adapter.check()

    async def _hear(self, points: Sequence[BlePoint]) -> None:
        """One device's advertisements; its points are bad once it has been silent for too long."""
        loop = asyncio.get_running_loop()
        listener = self._devices.listener(points)
        endpoint = points[0].endpoint
        silent = mixed = False
        last = loop.time()

        def heard(advert: Advert) -> None:
            nonlocal last, silent, mixed
            last, silent = loop.time(), False
            both = self._devices.adapter.namesakes(endpoint.peer)
            if both is not None and not mixed:
                self._put(unread(points, ambiguous(endpoint, both)))
            mixed = both is not None
            if mixed:
                return
            for batch in listener.batches(advert):
                self._put(batch)

        with self._devices.adapter.listening(endpoint.peer, heard):
            while True:
                left = last + endpoint.silence_s - loop.time()
                if left > 0:
                    await asyncio.sleep(left)
                    continue
                if not silent:
                    silent = True
                    why = f"{endpoint.text()} has advertised nothing for {endpoint.silence}"
                    self._put(unread(points, PointError(why, reason="NoAnswer")))
                await asyncio.sleep(min(endpoint.silence_s, RETRY_S))

    async def _listen(self, points: Sequence[BlePoint]) -> None:
        """One device's notifications: connect, subscribe, and again after it has gone. Raises LinkError."""
        peripheral = self._devices.peripheral(points[0].endpoint)
        groups: dict[tuple[str | None, str | None], list[BlePoint]] = {}
        for point in points:
            groups.setdefault((point.address.service, point.address.characteristic), []).append(point)
        shown: str | None = None
        while True:
            try:
                async with peripheral.using() as client:
                    for sharing in groups.values():
                        await self._begin(peripheral, client, sharing)
                    shown = None
                    await peripheral.dropped.wait()
                self._devices.adapter.check()
                gone = PointError(
                    f"{points[0].endpoint.text()} has dropped the connection", reason="NoAnswer"
                )
                self._put(unread(points, gone))
            except PointError as error:
                if str(error) != shown:
                    shown = str(error)
                    self._put(unread(points, error))
            await asyncio.sleep(RETRY_S)

    async def _begin(self, peripheral: Peripheral, client: BleakClient, sharing: Sequence[BlePoint]) -> None:
        """Listen to one characteristic; its value now comes first, where it can be read."""
        address = sharing[0].address
        record = Record(peripheral.where(address), sharing)

        def heard(data: bytes) -> None:
            for batch in record.batches(data, time.time_ns()):
                self._put(batch)

        try:
            if "read" in peripheral.characteristic(client, address).properties:
                heard((await peripheral.read(client, address))[1])
            await peripheral.listen(client, address, heard)
        except PointError as error:
            if not client.is_connected:
                raise
            self._put(unread(sharing, error))
