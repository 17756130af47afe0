"""A simulated device that answers what nobody should: a script in front of its GATT server."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from bumble import att, ll
from bumble.device import Device
from bumble.hci import Address
from bumble.pairing import PairingConfig, PairingDelegate

BATCH = 50
"""Advertisements of strangers in one turn of the loop."""


class Rogue:
    """Takes over the ATT channel of a peripheral of the virtual air."""

    def __init__(self, peripheral: Any, case: dict[str, Any]) -> None:
        self._peripheral = peripheral
        self._device: Device = peripheral.device
        self._answers = {int(code): pdus for code, pdus in case.get("answers", {}).items()}
        pushed = case.get("pushed", [])
        self._pushed: list[str] = [pushed] * case["pushed_times"] if "pushed_times" in case else pushed
        self._drops_at: int | None = case.get("drops_at")
        self._times: int = case.get("times", 1 << 30)  # so often; healthy afterwards
        self.connections = 0  # each begins with the MTU
        self._hook()
        if case.get("refuses_pairing"):
            self._device.pairing_config_factory = lambda _: PairingConfig(delegate=_Refusal())

    def _hook(self) -> None:
        self._device.l2cap_channel_manager.register_fixed_channel(att.ATT_CID, self._received)

    def heal(self) -> None:
        self._answers, self._pushed, self._drops_at = {}, [], None

    def _received(self, handle: int, pdu: bytes) -> None:
        code = pdu[0]
        self.connections += code == att.Opcode.ATT_EXCHANGE_MTU_REQUEST
        if code == self._drops_at and self._times > 0:
            self._times -= 1
            self._peripheral.radio.drop()
            return
        if code in self._answers and self._times > 0:
            self._times -= 1
            for answer in self._answers[code]:
                self._send(handle, answer)
            return
        self._device.on_gatt_pdu(handle, pdu)
        if code == att.Opcode.ATT_WRITE_REQUEST:  # somebody subscribes
            for push in self._pushed:
                self._send(handle, push)

    def _send(self, handle: int, text: str) -> None:
        """Hexadecimal; `0b*600` is that byte 600 times."""
        data = b"".join(
            bytes.fromhex(word.partition("*")[0]) * int(word.partition("*")[2] or 1) for word in text.split()
        )
        with contextlib.suppress(Exception):  # it is not connected any more
            self._device.send_l2cap_pdu(handle, att.ATT_CID, data)


class _Refusal(PairingDelegate):
    async def accept(self) -> bool:
        return False


async def crowd(peripheral: Any, strangers: int) -> None:
    """So many devices advertise once each, from addresses of their own."""
    radio = peripheral.radio
    for number in range(strangers):
        address = Address(f"C1:{number >> 8 & 255:02X}:{number & 255:02X}:00:00:01")
        radio.link.send_advertising_pdu(radio, ll.AdvInd(address, bytes.fromhex("020106")))
        if number % BATCH == 0:
            await asyncio.sleep(0)
