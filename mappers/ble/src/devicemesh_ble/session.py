"""A live session with an adapter, and all the devices that are reached through it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from devicemesh.mapper import (
    AuthError,
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
from devicemesh_ble.advert import Advert, Guard, Heard
from devicemesh_ble.counters import Counters, identity, kept
from devicemesh_ble.decode import BlePoint, Listener, Record, unheard
from devicemesh_ble.model import BleAddress, BleEndpoint
from devicemesh_ble.peripheral import Peripheral
from devicemesh_ble.poll import Poller
from devicemesh_ble.subscribe import Subscriber

FLUSH_S = 1.0
"""How often counters are kept: after a crash, frames of this last second could be played back."""


def key_of(endpoint: BleEndpoint, secrets: Secrets) -> Callable[[], bytes] | None:
    """How the device's BTHome key is read when it is needed."""
    ref = endpoint.key
    if ref is None:
        return None

    def key() -> bytes:
        text = secrets(ref)
        try:
            found = bytes.fromhex(text.strip())
        except ValueError:
            found = b""
        if len(found) != 16:
            raise AuthError(f"the secret {ref.name}/{ref.key} is no BTHome key: 32 hexadecimal digits")
        return found

    return key


class BleSession(
    Readable[BleEndpoint, BleAddress],
    Subscribable[BleEndpoint, BleAddress],
    Writable[BleEndpoint, BleAddress],
    Traceable[BleEndpoint, BleAddress],
):
    """What is advertised, and what has `mode: notify`, is pushed; other characteristics are read."""

    def __init__(self, adapter: Adapter, secrets: Secrets, counters: Counters) -> None:
        self.adapter = adapter
        self.peripherals: dict[str, Peripheral] = {}
        self.overrun = 0  # rows that the runtime did not take in time
        self._secrets = secrets
        self._counters = counters
        self._guards: dict[BleEndpoint, Guard] = {}

    def peripheral(self, endpoint: BleEndpoint) -> Peripheral:
        """The one connection to a device."""
        found = self.peripherals.get(endpoint.peer)
        if found is None or found.endpoint != endpoint:
            found = self.peripherals[endpoint.peer] = Peripheral(self.adapter, endpoint)
        return found

    def listener(self, points: Sequence[BlePoint]) -> Listener:
        """What takes the advertisements of one device apart."""
        endpoint = points[0].endpoint
        guard = self._guards.get(endpoint)
        if guard is None:  # its counter outlives a change of what is declared
            guard = self._guards[endpoint] = self._guard(endpoint)
        return Listener(points, guard)

    def _guard(self, endpoint: BleEndpoint) -> Guard:
        key = key_of(endpoint, self._secrets)
        name = ""

        def load(found: bytes) -> Heard | None:
            nonlocal name
            name = identity(endpoint.peer, found)
            return self._counters.load(name)

        def note(heard: Heard) -> None:
            self._counters.note(name, heard)

        return Guard(key, any_counter=endpoint.counter == "any", load=load, note=note)

    async def keeping(self) -> None:
        """Write counters every second, for ever. Raises LinkError."""
        while True:
            await asyncio.sleep(FLUSH_S)
            self._counters.flush()

    def reader(self, points: Sequence[BlePoint]) -> Reader:
        """See `Readable`. Devices are read beside each other, the characteristics of one in turn."""
        return Poller(self, points)

    def pushes(self, point: BlePoint) -> bool:
        return point.address.passive or point.address.mode == "notify"

    def subscribe(self, points: Sequence[BlePoint]) -> AsyncGenerator[Batch]:
        """See `Subscribable`."""
        return Subscriber(self, points).batches()

    def lost(self) -> Mapping[str, int]:
        return {"overrun": self.overrun} if self.overrun else {}

    async def write(self, writes: Sequence[Write[BleEndpoint, BleAddress]]) -> Sequence[Outcome]:
        return [await self._written(one) for one in writes]

    async def _written(self, one: Write[BleEndpoint, BleAddress]) -> Outcome:
        point, address = one.point, one.point.address
        peripheral = self.peripheral(point.endpoint)
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
        peripheral = self.peripheral(point.endpoint)
        async with peripheral.using() as client:
            handle, value = await peripheral.read(client, address)
        batch = Record(peripheral.where(address), [point]).batches(value, time.time_ns())[0]
        return trace.made(point, trace.read_request(handle), value, batch)

    async def _heard(self, point: BlePoint) -> Trace:
        """The next advertisement that has the point. Raises PointError, LinkError."""
        endpoint = point.endpoint
        listener = self.listener([point])
        adverts: asyncio.Queue[trace.Heard] = asyncio.Queue()

        def heard(advert: Advert) -> None:
            if batches := listener.batches(advert):
                adverts.put_nowait((advert, batches[0]))

        with self.adapter.listening(endpoint.peer, heard):
            try:
                async with asyncio.timeout(endpoint.timeout_s):
                    advert, batch = await adverts.get()
            except TimeoutError:
                self.adapter.check()
                raise unheard(point, endpoint.timeout) from None
        return trace.made(point, advert.address.encode(), trace.record(point, advert), batch)

    async def close(self) -> None:
        """Leave every device."""
        await asyncio.gather(*(one.close() for one in self.peripherals.values()), return_exceptions=True)


@asynccontextmanager
async def open_session(endpoint: BleEndpoint, secrets: Secrets = no_secrets) -> AsyncIterator[BleSession]:
    """Open the adapter and scan. Raises `LinkError`, `ConfigError`."""
    with kept() as counters:
        async with open_adapter(endpoint) as adapter:
            session = BleSession(adapter, secrets, counters)
            keeping = asyncio.create_task(session.keeping(), name=f"counters {endpoint.adapter}")
            keeping.add_done_callback(lambda task: _failed(adapter, task))
            try:
                yield session
            finally:
                keeping.cancel()
                await asyncio.shield(session.close())


def _failed(adapter: Adapter, task: asyncio.Task[None]) -> None:
    """Without counters nothing encrypted could be believed: the link is opened anew."""
    if not task.cancelled() and (problem := task.exception()) is not None:
        adapter.fail(str(problem))
