"""bleak's scanner and client on a controller that bumble drives: an adapter `bumble:TRANSPORT`.

Semantics are bleak's: GATT errors are `BleakGATTProtocolError`, a connect that takes too long is a
TimeoutError, a cancelled one is taken back at the controller, notifications come in order, `services` is
emptied by a disconnect.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from bleak.args import SizedBuffer
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.client import BaseBleakClient
from bleak.backends.descriptor import BleakGATTDescriptor
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, BaseBleakScanner
from bleak.backends.service import BleakGATTService, BleakGATTServiceCollection
from bleak.exc import BleakError, BleakGATTProtocolError
from bumble import att, core, hci
from bumble.core import AdvertisingData as Ad
from bumble.device import Connection, Device, Peer
from bumble.gatt import Characteristic
from bumble.transport import open_transport

from devicemesh_ble.sig import uuid

log = logging.getLogger("devicemesh.ble")
MTU = 247
MALFORMED = (core.BaseBumbleError, struct.error, IndexError, ValueError, TypeError, KeyError, AssertionError,
             asyncio.InvalidStateError)  # fmt: skip
"""What bumble raises where a peer's bytes are not what they should be."""
OPEN_S = 5.0
_PROPERTIES = {
    Characteristic.Properties.READ: "read",
    Characteristic.Properties.WRITE: "write",
    Characteristic.Properties.WRITE_WITHOUT_RESPONSE: "write-without-response",
    Characteristic.Properties.NOTIFY: "notify",
    Characteristic.Properties.INDICATE: "indicate",
}
T = TypeVar("T")


class _Device(Device):
    """Whatever a peer sends, its neighbours stay connected: bumble would end the transport."""

    def on_gatt_pdu(self, connection_handle: int, pdu: bytes) -> None:
        try:
            super().on_gatt_pdu(connection_handle, pdu)
        except MALFORMED as error:
            self._send_away(connection_handle, pdu, error)

    def _send_away(self, connection_handle: int, pdu: bytes, error: Exception) -> None:
        connection = self.lookup_connection(connection_handle)
        if connection is None:
            return
        log.warning("%s: disconnected: it sends what is no ATT (%s): %s", connection.peer_address,
                    pdu[:16].hex(" "), error or type(error).__name__)  # fmt: skip
        leaving = asyncio.ensure_future(connection.disconnect())
        leaving.add_done_callback(lambda task: task.cancelled() or task.exception())


class Host:
    """A controller, and bumble's stack on it. One attempt to connect at a time, as a controller has it."""

    def __init__(self, device: Device, terminated: asyncio.Future[Any]) -> None:
        self.device = device
        self.terminated = terminated
        self.connecting = asyncio.Lock()


@contextlib.asynccontextmanager
async def open_host(transport: str) -> AsyncIterator[Host]:
    """Open the transport and start the controller. Raises OSError, TimeoutError, ValueError, BleakError."""
    try:
        async with asyncio.timeout(OPEN_S):
            opened = await open_transport(transport)
    except core.BaseBumbleError as error:
        raise BleakError(str(error)) from error
    try:
        device = _Device.with_hci(
            "DeviceMesh", hci.Address.generate_static_address(), opened.source, opened.sink
        )
        try:
            async with asyncio.timeout(OPEN_S):
                await device.power_on()
        except (core.BaseBumbleError, hci.HCI_Error) as error:
            raise BleakError(f"the controller does not start: {error}") from error
        yield Host(device, opened.source.terminated)
        if not opened.source.terminated.done():
            with contextlib.suppress(Exception):
                async with asyncio.timeout(1):
                    await device.host.reset()
    finally:
        with contextlib.suppress(Exception):
            await opened.close()


def whole(number: core.UUID) -> str:
    """bumble's UUID as bleak writes them."""
    return str(uuid(number.to_hex_str("-") if len(number.uuid_bytes) == 16 else number.to_hex_str()))


class BumbleScanner(BaseBleakScanner):
    """Give it `host=` as well."""

    def __init__(
        self,
        detection_callback: Any,
        service_uuids: list[str] | None,
        scanning_mode: str = "active",
        *,
        host: Host,
        **_: Any,
    ) -> None:
        super().__init__(detection_callback, service_uuids)
        self._active = scanning_mode == "active"
        self._device = host.device
        self._terminated = host.terminated
        self._names: dict[str, str] = {}

    async def start(self) -> None:
        self.seen_devices = {}
        self._device.on("advertisement", self._heard)
        try:
            await self._device.start_scanning(active=self._active, filter_duplicates=False)
        except (core.BaseBumbleError, hci.HCI_Error) as error:
            self._device.remove_listener("advertisement", self._heard)
            raise BleakError(f"it does not scan: {error}") from error

    async def stop(self) -> None:
        self._device.remove_listener("advertisement", self._heard)
        if self._terminated.done():
            return  # nobody answers any more
        with contextlib.suppress(core.BaseBumbleError, hci.HCI_Error, AssertionError):
            await self._device.stop_scanning()

    def _heard(self, advertisement: Any) -> None:
        address = advertisement.address.to_string(False)
        data = parsed(advertisement.data.ad_structures, advertisement.rssi)
        if data.local_name is not None:
            self._names[address] = data.local_name
        if not self.is_allowed_uuid(data.service_uuids):
            return
        device = self.create_or_update_device(
            address, address, self._names.get(address), advertisement.address, data
        )
        self.call_detection_callbacks(device, data)


def parsed(structures: list[tuple[int, bytes]], rssi: int) -> AdvertisementData:
    """AD structures (Core Specification Supplement, part A) as bleak gives them; cut ones are left out."""
    name: str | None = None
    power: int | None = None
    manufacturer: dict[int, bytes] = {}
    service_data: dict[str, bytes] = {}
    services: list[str] = []
    for kind, value in structures:
        if kind == Ad.MANUFACTURER_SPECIFIC_DATA and len(value) >= 2:
            manufacturer[int.from_bytes(value[:2], "little")] = bytes(value[2:])
        elif kind in _SERVICE_DATA and len(value) >= _SERVICE_DATA[kind]:
            size = _SERVICE_DATA[kind]
            service_data[_uuid(value[:size])] = bytes(value[size:])
        elif kind in _SERVICES:
            size = _SERVICES[kind]
            services += [_uuid(value[i : i + size]) for i in range(0, len(value) - size + 1, size)]
        elif kind in (Ad.COMPLETE_LOCAL_NAME, Ad.SHORTENED_LOCAL_NAME):
            name = value.decode("utf-8", "replace")
        elif kind == Ad.TX_POWER_LEVEL and value:
            power = int.from_bytes(value[:1], signed=True)
    return AdvertisementData(name, manufacturer, service_data, services, power, rssi, ())


_SERVICE_DATA: dict[int, int] = {
    Ad.SERVICE_DATA_16_BIT_UUID: 2,
    Ad.SERVICE_DATA_32_BIT_UUID: 4,
    Ad.SERVICE_DATA_128_BIT_UUID: 16,
}
_SERVICES: dict[int, int] = {
    Ad.COMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS: 2,
    Ad.INCOMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS: 2,
    Ad.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS: 16,
    Ad.INCOMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS: 16,
}


def _uuid(little: bytes) -> str:
    text = little[::-1].hex()
    if len(little) == 16:
        text = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
    return str(uuid(text))


class BumbleClient(BaseBleakClient):
    """Give it `host=` as well, and a BLEDevice of `BumbleScanner`."""

    def __init__(self, address_or_ble_device: BLEDevice | str, *, host: Host, **options: Any) -> None:
        super().__init__(address_or_ble_device, **options)
        found = address_or_ble_device
        self._at = found.details if isinstance(found, BLEDevice) else hci.Address(found)
        self._name = found.name if isinstance(found, BLEDevice) else None
        self._host = host
        self._connection: Connection | None = None
        self._peer: Peer | None = None
        self._listeners: dict[int, tuple[Any, Callable[[bytes], None]]] = {}

    @property
    def name(self) -> str:
        return self._name or self.address.replace(":", "-")

    @property
    def mtu_size(self) -> int:
        return int(self._connection.att_mtu) if self._connection is not None else 23

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    async def connect(self, pair: bool, **kwargs: Any) -> None:
        if self._connection is not None:
            raise BleakError("Client is already connected")
        async with asyncio.timeout(self._timeout):
            async with self._host.connecting:
                self._connection = await self._connected()
            self._connection.on("disconnection", self._on_disconnection)
            try:
                if pair:
                    await self.pair()
                await self._discover()
            except BaseException:
                await asyncio.shield(self.disconnect())
                raise

    async def _connected(self) -> Connection:
        """Connect. When cancelled, the controller ends its attempt too, or it would be stuck in it."""
        device = self._host.device
        terminated = self._host.terminated
        attempt = asyncio.ensure_future(device.connect(self._at, timeout=None))
        try:
            await asyncio.wait({attempt, terminated}, return_when=asyncio.FIRST_COMPLETED)
            if not attempt.done():
                raise BleakError("the transport was closed")
            return attempt.result()
        except (core.BaseBumbleError, hci.HCI_Error) as error:
            raise BleakError(f"connecting failed: {error}") from error
        finally:
            if not attempt.done():
                await asyncio.shield(self._taken_back(attempt))

    async def _taken_back(self, attempt: asyncio.Future[Connection]) -> None:
        device = self._host.device
        if not self._host.terminated.done():
            with contextlib.suppress(core.BaseBumbleError, hci.HCI_Error):
                await device.cancel_connection()  # type: ignore[no-untyped-call]
            await asyncio.wait({attempt}, timeout=1.0)
        attempt.cancel()
        await asyncio.wait({attempt})
        if not attempt.cancelled() and attempt.exception() is None:  # it came through in the last moment
            with contextlib.suppress(core.BaseBumbleError, hci.HCI_Error):
                await attempt.result().disconnect()

    async def _discover(self) -> None:
        assert self._connection is not None
        self._peer = peer = Peer(self._connection)
        await self._answered(peer.request_mtu(MTU))
        found = BleakGATTServiceCollection()
        services = await self._answered(peer.discover_services())
        if (
            not services
        ):  # each device has one (Core Specification 3C, 12); bumble has none where handles are bogus
            raise BleakError("its table makes no sense: it has no services")
        for service in services:
            mine = BleakGATTService(service, service.handle, whole(service.uuid))
            found.add_service(mine)
            for one in await self._answered(service.discover_characteristics()):
                words: Any = [word for flag, word in _PROPERTIES.items() if one.properties & flag]
                characteristic = BleakGATTCharacteristic(
                    one, one.handle, whole(one.uuid), words, lambda: self.mtu_size - 3, mine
                )
                found.add_characteristic(characteristic)
                for descriptor in await self._answered(one.discover_descriptors()):
                    found.add_descriptor(
                        BleakGATTDescriptor(
                            descriptor, descriptor.handle, whole(descriptor.type), characteristic
                        )
                    )
        self.services = found

    def _on_disconnection(self, _: int) -> None:
        self._connection = self._peer = self.services = None
        self._listeners.clear()
        if self._disconnected_callback is not None:
            self._disconnected_callback()

    async def disconnect(self) -> None:
        if self._host.terminated.done() and self._connection is not None:
            self._on_disconnection(0)
        elif self._connection is not None:
            with contextlib.suppress(core.BaseBumbleError, hci.HCI_Error, TimeoutError):
                async with asyncio.timeout(2):
                    await self._connection.disconnect()

    async def pair(self, *args: Any, **kwargs: Any) -> None:
        if self._connection is None:
            raise BleakError("Not connected")
        await self._answered(self._connection.pair())

    async def unpair(self) -> None:
        store = self._host.device.keystore
        if store is not None:
            await store.delete(str(self._at))

    async def _answered(self, work: Awaitable[T]) -> T:
        """What the device answers. Raises BleakGATTProtocolError, BleakError."""
        connection = self._connection
        if connection is None:
            if asyncio.iscoroutine(work):
                work.close()
            raise BleakError("Not connected")
        task = asyncio.ensure_future(work)
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def over(_: int) -> None:
            if not gone.done():
                gone.set_result(None)

        connection.on("disconnection", over)
        try:
            waited: set[asyncio.Future[Any]] = {task, gone, self._host.terminated}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if not task.done() or task.cancelled():  # bumble cancels what was asked
                raise BleakError("disconnected")
            return task.result()
        except att.ATT_Error as error:
            raise BleakGATTProtocolError(int(error.error_code)) from error
        except (*MALFORMED, hci.HCI_Error) as error:
            raise BleakError(f"it answers what makes no sense: {error or type(error).__name__}") from error
        finally:
            connection.remove_listener("disconnection", over)
            if not task.done():
                task.cancel()
                await asyncio.wait({task})

    @property
    def _gatt(self) -> Peer:
        if self._peer is None:
            raise BleakError("Not connected")
        return self._peer

    async def read_gatt_char(self, characteristic: BleakGATTCharacteristic, **kwargs: Any) -> bytearray:
        return bytearray(await self._answered(self._gatt.read_value(characteristic.obj)))

    async def read_gatt_descriptor(self, descriptor: BleakGATTDescriptor, **kwargs: Any) -> bytearray:
        return bytearray(await self._answered(self._gatt.read_value(descriptor.obj)))

    async def write_gatt_char(
        self, characteristic: BleakGATTCharacteristic, data: SizedBuffer, response: bool
    ) -> None:
        value = bytes(data)
        await self._answered(self._gatt.write_value(characteristic.obj, value, with_response=response))

    async def write_gatt_descriptor(self, descriptor: BleakGATTDescriptor, data: SizedBuffer) -> None:
        await self._answered(self._gatt.write_value(descriptor.obj, bytes(data), with_response=True))

    async def start_notify(
        self, characteristic: BleakGATTCharacteristic, callback: Callable[[bytearray], None], **kwargs: Any
    ) -> None:
        def heard(value: bytes) -> None:
            callback(bytearray(value))

        await self._answered(
            self._gatt.subscribe(
                characteristic.obj, heard, prefer_notify="notify" in characteristic.properties
            )
        )
        self._listeners[characteristic.handle] = (characteristic.obj, heard)

    async def stop_notify(self, characteristic: BleakGATTCharacteristic) -> None:
        obj, heard = self._listeners.pop(characteristic.handle, (characteristic.obj, None))
        await self._answered(self._gatt.unsubscribe(obj, heard))
