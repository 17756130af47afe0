"""A device that is connected to: its connection, shared by all that read, write and listen."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable

from bleak import BleakClient
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.exc import BleakError

from devicemesh.mapper import PointError
from devicemesh_ble import status
from devicemesh_ble.adapter import Adapter
from devicemesh_ble.model import BleAddress, BleEndpoint
from devicemesh_ble.sig import short, uuid

BACKOFF_S = (1.0, 60.0)
"""The pause after a failed connect, doubled each time, with jitter: all of them at once would fail again."""
TROUBLE = (BleakError, TimeoutError, OSError, EOFError)


class Peripheral:
    """One device. It holds one of the adapter's slots while it is connected."""

    def __init__(self, adapter: Adapter, endpoint: BleEndpoint, rng: random.Random | None = None) -> None:
        self.endpoint = endpoint
        self.dropped = asyncio.Event()  # set while there is no connection
        self.dropped.set()
        self._adapter = adapter
        self._rng = rng or random.Random()
        self._client: BleakClient | None = None
        self._lock = asyncio.Lock()
        self._users = 0
        self._failures = 0
        self._pause_until = 0.0
        self._why: PointError | None = None
        self._stale = False  # its table is not what was discovered

    @contextlib.asynccontextmanager
    async def using(self) -> AsyncIterator[BleakClient]:
        """The connected device, for a while. Raises PointError, LinkError."""
        self._users += 1
        try:
            yield await self._connected()
        finally:
            self._users -= 1
            if self.endpoint.connection == "release" and not self._users:
                await self.close()

    async def _connected(self) -> BleakClient:
        async with self._lock:
            self._adapter.check()
            if self._client is not None and self._client.is_connected and not self._stale:
                return self._client
            self._stale = False
            await self._leave()
            loop = asyncio.get_running_loop()
            if self._why is not None and loop.time() < self._pause_until:
                raise self._why
            try:
                self._client = await self._connect()
            except TROUBLE as problem:
                self._adapter.check()
                least, most = BACKOFF_S
                pause = min(least * 2**self._failures, most) * self._rng.uniform(0.5, 1.0)
                self._failures += 1
                self._pause_until = loop.time() + pause
                self._why = self._error(problem)
                raise self._why from problem
            self._failures, self._why = 0, None
            return self._client

    def _error(self, problem: Exception) -> PointError:
        where = self.endpoint.text()
        if isinstance(problem, TimeoutError):
            known = self._adapter.found(self.endpoint.peer)
            what = (
                "it advertises, but does not let itself be connected" if known else "nothing is heard of it"
            )
            slots = ", or all slots are taken" if self._adapter.slots.locked() else ""
            return PointError(
                f"{where}: not connected within {self.endpoint.connect_timeout}: {what}{slots}",
                reason="NoAnswer",
            )
        return status.error(where, problem)

    async def _connect(self) -> BleakClient:
        """Connect, which takes a slot. Raises what bleak raises."""
        async with asyncio.timeout(self.endpoint.connect_timeout_s):
            await self._adapter.slots.acquire()
            try:
                device = await self._adapter.find(self.endpoint.peer)
                client = self._adapter.client(device, self.dropped.set, self.endpoint.connect_timeout_s)
                await client.connect()
                if self.endpoint.pair:
                    try:
                        await self._pair(client)
                    except BaseException:
                        await asyncio.shield(client.disconnect())
                        raise
            except BaseException:
                self._adapter.slots.release()
                raise
        self.dropped.clear()
        if not client.is_connected:  # it went while we were not looking
            self.dropped.set()
        return client

    @staticmethod
    async def _pair(client: BleakClient) -> None:
        try:
            await client.pair()
        except BleakError as problem:
            raise status.PairingError(str(problem)) from problem

    async def _leave(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            self._adapter.slots.release()
            with contextlib.suppress(*TROUBLE):
                await client.disconnect()
        self.dropped.set()

    async def close(self) -> None:
        """Leave the device, and give the slot back."""
        async with self._lock:
            await self._leave()

    def where(self, address: BleAddress) -> str:
        """For people: the device and the characteristic."""
        return f"{self.endpoint.text()} {short(address.characteristic or '')}"

    def characteristic(self, client: BleakClient, address: BleAddress) -> BleakGATTCharacteristic:
        """Where it lives in the device's table. Raises PointError."""
        wanted = uuid(address.characteristic or "")
        service = uuid(address.service) if address.service is not None else None
        found = [
            one
            for one in client.services.characteristics.values()
            if one.uuid.lower() == wanted and service in (None, one.service_uuid.lower())
        ]
        if not found:
            raise PointError(
                f"{self.where(address)}: the device has no such characteristic", reason="BadAddress"
            )
        if len(found) > 1:
            services = ", ".join(short(one.service_uuid) for one in found)
            raise PointError(
                f"{self.where(address)} is in several services: give `service`, of {services}",
                reason="BadAddress",
            )
        return found[0]

    async def read(self, client: BleakClient, address: BleAddress) -> tuple[int, bytes]:
        """Handle and value. Raises PointError, LinkError."""
        return await self._asked(client, address, self._read)

    async def _read(self, client: BleakClient, one: BleakGATTCharacteristic) -> bytes:
        return bytes(await client.read_gatt_char(one))

    async def _asked(
        self, client: BleakClient, address: BleAddress, work: Callable[..., object]
    ) -> tuple[int, bytes]:
        try:
            one = self.characteristic(client, address)
            async with asyncio.timeout(self.endpoint.timeout_s):
                return one.handle, await work(client, one)  # type: ignore[misc]
        except TROUBLE as problem:
            self._adapter.check()
            self._stale |= status.is_stale(problem)  # the next one connects, and discovers, anew
            raise status.error(self.where(address), problem) from problem

    async def write(self, client: BleakClient, address: BleAddress, data: bytes) -> BleakGATTCharacteristic:
        """Write. Raises PointError, LinkError."""
        with_response = address.write == "response"

        async def work(client: BleakClient, one: BleakGATTCharacteristic) -> bytes:
            await client.write_gatt_char(one, data, response=with_response)
            return b""

        await self._asked(client, address, work)
        return self.characteristic(client, address)

    async def listen(self, client: BleakClient, address: BleAddress, heard: Callable[[bytes], None]) -> None:
        """Have the device send what changes. Raises PointError, LinkError."""

        async def work(client: BleakClient, one: BleakGATTCharacteristic) -> bytes:
            await client.start_notify(one, lambda _, value: heard(bytes(value)))
            return b""

        await self._asked(client, address, work)
