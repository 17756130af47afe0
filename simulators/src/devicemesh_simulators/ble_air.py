"""The virtual air: bumble's controllers on one link, a peripheral for every device, and a door for hosts.

Whoever connects to the door (HCI over TCP, H4 packets) gets a controller of its own on the link, for
as long as the connection stands.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from bumble import att, core, hci, ll
from bumble.controller import Controller
from bumble.device import Device
from bumble.gatt import Characteristic, CharacteristicValue, Service
from bumble.link import LocalLink
from bumble.transport.common import AsyncPipeSink, PacketParser

from devicemesh.testing.server import StreamServer
from devicemesh_simulators.ble_things import Block, Twin

for _name in ("bumble", "bumble.controller", "bumble.gatt_server", "bumble.host", "bumble.device"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)
INTERVAL_S = 0.1
"""Between two advertisements of a device."""
NOTIFY_S = 0.05
"""How often characteristics are looked at for changes."""
ACL_BYTES = 251
"""The longest data packet (LE Data Length Extension); bumble's own 27 make many of each notification."""
_GONE = hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR
_REFUSED = hci.HCI_ErrorCode.CONNECTION_FAILED_TO_BE_ESTABLISHED_ERROR


class _Link(LocalLink):
    """Wakes only those who listen; bumble's own wakes every device for each advertisement of another."""

    def send_advertising_pdu(self, sender_controller: Controller, packet: Any) -> None:
        loop = asyncio.get_running_loop()
        for one in self.controllers:
            listens = one.le_scan_enable or one.pending_le_connection is not None
            if one is not sender_controller and (listens or isinstance(packet, ll.ConnectInd)):
                loop.call_soon(one.on_ll_advertising_pdu, packet)


class _Radio(Controller):
    """A controller of a peripheral that advertises whatever its host is doing, as faults allow."""

    twin: Twin

    def on_le_connect_ind(self, packet: Any) -> None:
        if packet.advertiser_address != self.random_address:
            return
        most = self.twin.faults.slots
        if most is not None and len(self.le_connections) >= most:
            refusal = ll.TerminateInd(_REFUSED)
            self.link.send_ll_control_pdu(self.random_address, packet.initiator_address, refusal)
            return
        super().on_le_connect_ind(packet)
        self.le_legacy_advertiser.enabled = True  # it goes on advertising while connected

    def drop(self) -> None:
        """End every connection, as a device that has left does."""
        for connection in list(self.le_connections.values()):
            _drop(self, connection)


def _drop(controller: Controller, connection: Any) -> None:
    connection.send_ll_control_pdu(ll.TerminateInd(_GONE))
    controller.on_le_disconnected(connection, _GONE)


class _Door(Controller):
    """A controller of a host that has come by the door."""

    def on_hci_le_create_connection_cancel_command(self, _: Any) -> Any:
        """Take an attempt back (Core Specification, volume 4, part E, 7.8.13); bumble leaves it standing."""
        pending, self.pending_le_connection = self.pending_le_connection, None
        if pending is None:
            return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.COMMAND_DISALLOWED_ERROR)
        event = hci.HCI_LE_Connection_Complete_Event(
            status=hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR,
            connection_handle=0,
            role=hci.Role.CENTRAL,
            peer_address_type=pending.peer_address_type,
            peer_address=pending.peer_address,
            connection_interval=0,
            peripheral_latency=0,
            supervision_timeout=0,
            central_clock_accuracy=0,
        )
        asyncio.get_running_loop().call_soon(self.send_hci_packet, event)
        return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.SUCCESS)


class _Sink:
    """Packets of a controller, to its host."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def on_packet(self, packet: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(packet)


class Peripheral:
    """A simulated device on the air."""

    def __init__(self, twin: Twin, link: LocalLink, clock: Callable[[], float]) -> None:
        self.twin = twin
        self._clock = clock
        self.over = asyncio.Event()  # answers that are held back are given up
        self.radio = _Radio(twin.name, link=link, public_address="00:00:00:00:00:00")
        self.radio.twin = twin
        self.radio.le_acl_data_packet_length = ACL_BYTES
        # without advertising sets, of which the host would wait to be told: pairing needs our address at once
        self.radio.le_features &= ~hci.LeFeatureMask.LE_EXTENDED_ADVERTISING
        self.radio.le_legacy_advertiser.own_address_type = hci.Address.RANDOM_DEVICE_ADDRESS
        self.radio.le_legacy_advertiser.enabled = True
        self.device = Device.with_hci(
            twin.local_name, hci.Address(twin.address), self.radio, AsyncPipeSink(self.radio)
        )
        self._notifying: list[tuple[Block, Any]] = []
        services: dict[str, list[Any]] = {}
        for (service, number), block in twin.characteristics.items():
            services.setdefault(service, []).append(self._characteristic(number, block))
        self.device.add_services([Service(service, those) for service, those in services.items()])
        self._mtu = self.device.gatt_server.max_mtu

    def _characteristic(self, number: str, block: Block) -> Any:
        properties = Characteristic.Properties.READ
        permissions = Characteristic.READABLE
        if block.writable:
            properties |= Characteristic.Properties.WRITE | Characteristic.Properties.WRITE_WITHOUT_RESPONSE
            permissions |= Characteristic.WRITEABLE
        if block.notifies:
            properties |= Characteristic.Properties.NOTIFY

        async def read(_: Any) -> bytes:
            faults = self.twin.faults
            if faults.delay_s:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(faults.delay_s):
                        await self.over.wait()
            self._refuse()
            return block.data(self._clock(), faults, self.twin.rng)

        def write(_: Any, value: bytes) -> None:
            self._refuse()
            if not block.writable:  # bumble leaves permissions to us
                raise att.ATT_Error(att.ErrorCode.WRITE_NOT_PERMITTED)
            if not block.write(bytes(value)):
                raise att.ATT_Error(att.ErrorCode.INVALID_ATTRIBUTE_LENGTH)

        made: Any = Characteristic(
            number, properties, permissions, CharacteristicValue(read=read, write=write)
        )
        if block.notifies:
            self._notifying.append((block, made))
        return made

    def _refuse(self) -> None:
        if self.twin.faults.att:
            raise att.ATT_Error(att.ErrorCode(self.twin.faults.att))

    async def live(self) -> None:
        """Advertise and notify until cancelled."""
        await self.device.power_on()
        loop = asyncio.get_running_loop()
        told: dict[int, bytes] = {}
        next_advert = 0.0
        while True:
            faults = self.twin.faults
            self.device.gatt_server.max_mtu = 23 if faults.mtu23 else self._mtu
            if not faults.silence and loop.time() >= next_advert:
                next_advert = loop.time() + INTERVAL_S
                data = self.twin.advertisement(self._clock())
                self.radio.send_advertising_pdu(ll.AdvInd(self.radio.random_address, data))
            for block, characteristic in self._notifying if self.radio.le_connections else ():
                value = block.data(self._clock(), faults, self.twin.rng)
                if told.get(id(block)) != value:
                    told[id(block)] = value
                    with contextlib.suppress(core.BaseBumbleError):
                        await self.device.notify_subscribers(characteristic, value)
            await asyncio.sleep(NOTIFY_S if self._notifying else INTERVAL_S)

    def rotate(self) -> None:
        """Take another address; nobody stays connected to the old one."""
        self.radio.drop()
        self.twin.turns += 1
        self.radio.random_address = self.device.random_address = hci.Address(self.twin.address)


@contextlib.asynccontextmanager
async def on_air(
    twins: Sequence[Twin], host: str, port: int, clock: Callable[[], float]
) -> AsyncIterator[tuple[int, list[Peripheral]]]:
    """A link with these devices, and its door; yields the door's port. Raises OSError."""
    link = _Link()  # type: ignore[no-untyped-call]
    peripherals = [Peripheral(twin, link, clock) for twin in twins]
    tasks = [asyncio.create_task(one.live(), name=f"simulated {one.twin.name}") for one in peripherals]

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        controller = _Door("door", host_sink=_Sink(writer), link=link, public_address="00:00:00:00:00:01")
        controller.le_acl_data_packet_length = ACL_BYTES
        parser = PacketParser(controller)
        try:
            while data := await reader.read(65536):
                parser.feed_data(data)
        except core.BaseBumbleError:
            return  # no HCI: whoever it is is sent away
        finally:
            for connection in list(controller.le_connections.values()):
                with contextlib.suppress(core.BaseBumbleError):
                    connection.send_ll_control_pdu(ll.TerminateInd(_GONE))
            link.remove_controller(controller)

    try:
        async with StreamServer(talk, port, host=host) as server:
            yield server.port, peripherals
    finally:
        for one, task in zip(peripherals, tasks, strict=True):
            one.over.set()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
