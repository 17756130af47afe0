"""A simulated gateway with LoRa Basics Station: it connects to the runtime by websocket, again and again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Callable
from typing import Any

from devicemesh_lora import station
from devicemesh_lora.regions import Region

from devicemesh_simulators.lora_nodes import Faults

AGAIN_S = 0.5
"""Between two tries to connect."""
MOST_WAITING = 1000


def taken_apart(phy: bytes) -> dict[str, Any]:
    """A frame as a station writes it: numbers of 32 bits are signed, an FPort of -1 is none."""

    def signed(data: bytes) -> int:
        return int.from_bytes(data, "little", signed=True)

    if phy[0] >> 5 == 0:
        join, dev = (station.dashed(phy[at : at + 8][::-1].hex()) for at in (1, 9))
        nonce = int.from_bytes(phy[17:19], "little")
        body: dict[str, Any] = {"msgtype": "jreq", "JoinEui": join, "DevEui": dev, "DevNonce": nonce}
    else:
        end = 8 + (phy[5] & 15)
        rest = phy[end:-4]
        body = {
            "msgtype": "updf", "DevAddr": signed(phy[1:5]), "FCtrl": phy[5],
            "FCnt": int.from_bytes(phy[6:8], "little"), "FOpts": phy[8:end].hex(),
            "FPort": rest[0] if rest else -1, "FRMPayload": rest[1:].hex(),
        }  # fmt: skip
    return {**body, "MHdr": phy[0], "MIC": signed(phy[-4:])}


class StationGateway:
    """A gateway. What it hears while it is not connected is lost, as with a real one."""

    def __init__(
        self, name: str, eui: str, region: Region, down: Callable[[bytes], None],
        share_too_late: Callable[[], float], rng: random.Random,
    ) -> None:  # fmt: skip
        self.name, self.eui, self._region, self._rng = name, eui, region, rng
        self._down, self._share_too_late = down, share_too_late
        self.faults = Faults()
        self._waiting: asyncio.Queue[str] = asyncio.Queue(MOST_WAITING)
        self._connected = False

    @property
    def xtime(self) -> int:
        """Microseconds of the concentrator, the session's number above them."""
        return (0x2A << 48) + time.monotonic_ns() // 1000

    def wrap(self) -> None:
        """Its 64 bits do not wrap."""

    def keep_alive(self) -> None:
        self._say({"msgtype": "timesync", "txtime": self.xtime})

    def forward(self, phy: bytes, frequency: int, data_rate: str, stat: int = 1) -> None:
        """Hear a device. A station drops what came with errors."""
        if stat != 1:
            return
        info = {
            "rctx": 0, "xtime": self.xtime, "gpstime": 0, "fts": -1, "rssi": self._rng.randint(-115, -60),
            "snr": round(self._rng.uniform(-5, 10), 1), "rxtime": time.time(),
        }  # fmt: skip
        number = self._region.uplink[data_rate]
        self._say({**taken_apart(phy), "DR": number, "Freq": frequency, "RefTime": 0.0, "upinfo": info})

    def _say(self, body: dict[str, Any]) -> None:
        if self._connected and not self.faults.unplugged:
            with contextlib.suppress(asyncio.QueueFull):
                self._waiting.put_nowait(json.dumps(body))

    async def run(self, host: str, port: int) -> None:
        """Until cancelled."""
        from websockets.exceptions import WebSocketException

        while True:
            with contextlib.suppress(OSError, WebSocketException, ValueError, TimeoutError):
                await self._talk(host, port)
            await asyncio.sleep(AGAIN_S)

    async def _talk(self, host: str, port: int) -> None:
        from websockets.asyncio.client import connect

        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        async with connect(f"ws://{where}/router-info") as asking:
            await asking.send(json.dumps({"router": station.dashed(self.eui)}))
            told = json.loads(await asking.recv())
        if "uri" not in told:
            return
        self._waiting = asyncio.Queue(MOST_WAITING)
        async with connect(told["uri"]) as connection:
            version = {"msgtype": "version", "station": "simulated", "model": "sim", "protocol": 2}
            await connection.send(json.dumps(version))
            self._connected = True
            speaking = asyncio.create_task(self._speak(connection))
            try:
                async for message in connection:
                    self._obey(json.loads(message))
            finally:
                self._connected = False
                speaking.cancel()
                await asyncio.wait({speaking})

    async def _speak(self, connection: Any) -> None:
        while True:
            await connection.send(await self._waiting.get())

    def _obey(self, told: dict[str, Any]) -> None:
        """Downlinks are given to the devices at once, if there is still time; else nothing is said."""
        if told["msgtype"] != "dnmsg" or self.faults.unplugged:
            return
        due = told["xtime"] + (told["RxDelay"] + ("RX1Freq" not in told)) * 1_000_000
        if due <= self.xtime or self._rng.random() < self._share_too_late():
            return
        self._down(bytes.fromhex(told["pdu"]))
        self._say({"msgtype": "dntxed", "diid": told["diid"], "DevEui": told["DevEui"], "xtime": due})
