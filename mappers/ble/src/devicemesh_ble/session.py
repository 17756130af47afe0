"""A live session with an adapter, and all the devices that are reached through it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from devicemesh.mapper import (
    Batch,
    Outcome,
    PointError,
    Readable,
    Reader,
    Secrets,
    Subscribable,
    Trace,
    Traceable,
    Writable,
    Write,
    no_secrets,
)
from devicemesh_ble import trace
from devicemesh_ble.adapter import Adapter, open_adapter
from devicemesh_ble.advert import Advert
from devicemesh_ble.counters import kept
from devicemesh_ble.decode import BlePoint, Record, unheard
from devicemesh_ble.devices import Devices
from devicemesh_ble.model import BleAddress, BleEndpoint
from devicemesh_ble.poll import Poller
from devicemesh_ble.subscribe import Subscriber


class BleSession(
    Readable[BleEndpoint, BleAddress],
    Subscribable[BleEndpoint, BleAddress],
    Writable[BleEndpoint, BleAddress],
    Traceable[BleEndpoint, BleAddress],
):
    """What is advertised, and what has `mode: notify`, is pushed; other characteristics are read."""

    def __init__(self, devices: Devices) -> None:
        self.devices = devices

    def reader(self, points: Sequence[BlePoint]) -> Reader:
        """See `Readable`. Devices are read beside each other, the characteristics of one in turn."""
        return Poller(self.devices, points)

    def pushes(self, point: BlePoint) -> bool:
        return point.address.passive or point.address.mode == "notify"

    def subscribe(self, points: Sequence[BlePoint]) -> AsyncGenerator[Batch]:
        """See `Subscribable`."""
        return Subscriber(self.devices, points).batches()

    def lost(self) -> Mapping[str, int]:
        return {"overrun": self.devices.overrun} if self.devices.overrun else {}

    async def write(self, writes: Sequence[Write[BleEndpoint, BleAddress]]) -> Sequence[Outcome]:
        return [await self._written(one) for one in writes]

    async def _written(self, one: Write[BleEndpoint, BleAddress]) -> Outcome:
        point, address = one.point, one.point.address
        peripheral = self.devices.peripheral(point.endpoint)
        try:
            data = address.encode(point.type, one.value)
            async with peripheral.using() as client:
                characteristic = await peripheral.write(client, address, data)
                if "read" not in characteristic.properties:
                    return Outcome()
                _, held = await peripheral.read(client, address)
        except ValueError as error:
            return Outcome(error=PointError(f"{peripheral.where(address)}: {error}"))
        except PointError as error:
            return Outcome(error=error)
        batch = Record(peripheral.where(address), [point]).batches(held, time.time_ns())[0]
        if isinstance(batch.error, PointError):
            return Outcome(error=batch.error)
        return Outcome(value=trace.typed(batch.value[0], point.type))

    async def trace(self, point: BlePoint) -> Trace:
        address = point.address
        if address.passive:
            return await self._heard(point)
        peripheral = self.devices.peripheral(point.endpoint)
        async with peripheral.using() as client:
            handle, value = await peripheral.read(client, address)
        batch = Record(peripheral.where(address), [point]).batches(value, time.time_ns())[0]
        return trace.made(point, trace.read_request(handle), value, batch)

    async def _heard(self, point: BlePoint) -> Trace:
        """The next advertisement that has the point. Raises PointError, LinkError."""
        endpoint = point.endpoint
        listener = self.devices.listener([point])
        adverts: asyncio.Queue[trace.Heard] = asyncio.Queue()

        def heard(advert: Advert) -> None:
            if batches := listener.batches(advert):
                adverts.put_nowait((advert, batches[0]))

        with self.devices.adapter.listening(endpoint.peer, heard):
            try:
                async with asyncio.timeout(endpoint.timeout_s):
                    advert, batch = await adverts.get()
            except TimeoutError:
                self.devices.adapter.check()
                raise unheard(point, endpoint.timeout) from None
        return trace.made(point, advert.address.encode(), trace.record(point, advert), batch)


@asynccontextmanager
async def open_session(endpoint: BleEndpoint, secrets: Secrets = no_secrets) -> AsyncIterator[BleSession]:
    """Open the adapter and scan. Raises `LinkError`, `ConfigError`."""
    with kept() as counters:
        async with open_adapter(endpoint) as adapter:
            devices = Devices(adapter, secrets, counters)
            keeping = asyncio.create_task(devices.keeping(), name=f"counters {endpoint.adapter}")
            keeping.add_done_callback(lambda task: _failed(adapter, task))
            try:
                yield BleSession(devices)
            finally:
                keeping.cancel()
                await asyncio.shield(devices.close())


def _failed(adapter: Adapter, task: asyncio.Task[None]) -> None:
    """Without counters nothing encrypted could be believed: the link is opened anew."""
    if not task.cancelled() and (problem := task.exception()) is not None:
        adapter.fail(str(problem))
