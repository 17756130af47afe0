"""Gateways with a packet forwarder: what their datagrams bring, and how they are asked to send. No I/O."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from devicemesh_lora import semtech
from devicemesh_lora.gateways import Gateway
from devicemesh_lora.house import House
from devicemesh_lora.packet import Order
from devicemesh_lora.udp import Socket, Source


class Forwarders:
    """All gateways that send datagrams to one address."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._loop = asyncio.get_running_loop()
        self.socket: Socket | None = None

    def received(self, data: bytes, source: Source) -> None:
        """A datagram: it is acknowledged first."""
        house = self._house
        try:
            datagram = semtech.decode(data)
        except semtech.DatagramError as error:
            house.gateways.refused += 1
            house.out.tell("", f"{source[0]} sends what is no datagram of a packet forwarder", str(error))
            return
        gateway = house.gateways.admitted(datagram.gateway, source[0], self._loop.time())
        if isinstance(gateway, str):
            if gateway:
                house.out.tell(datagram.gateway, f"refused from {source[0]}", gateway)
            return
        try:
            self._from_gateway(gateway, datagram, source)
        except semtech.DatagramError as error:
            gateway.refused += 1
            house.out.tell(datagram.gateway, "makes no sense", str(error))

    def _from_gateway(self, gateway: Gateway, datagram: semtech.Datagram, source: Source) -> None:
        assert self.socket is not None
        house = self._house
        if datagram.kind == semtech.TX_ACK:
            number, error = int.from_bytes(datagram.token, "big"), semtech.transmission_error(datagram)
            house.landed(number, datagram.gateway, error)
            return
        self.socket.send(datagram.acknowledgement(), source)
        house.out.heard(datagram.gateway)
        if datagram.kind == semtech.PULL_DATA:
            gateway.send = partial(self._send, source)
            house.report(gateway)
            return
        pushed = semtech.pushed(datagram, time.time_ns())
        gateway.bad_crc += pushed.bad_crc
        gateway.refused += len(pushed.broken)
        house.packets(pushed.packets)
        if pushed.stat or pushed.bad_crc or pushed.broken:
            gateway.known.update(pushed.stat)
            house.report(gateway)
        for why in pushed.broken:
            house.out.tell(datagram.gateway, "sends a packet that makes no sense", why)

    def _send(self, source: Source, order: Order) -> None:
        if self.socket is not None:
            self.socket.send(semtech.transmit(order), source)
