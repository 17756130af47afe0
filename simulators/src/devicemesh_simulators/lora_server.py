"""A stand-in for ChirpStack or The Things Stack: it serves simulated devices and publishes to a broker.

Frames of the devices go through the mapper's own network server, so that every fault ends as it would at a
real one: as a gap, a copy that is not seen, or an entry in its log. Only then they become JSON.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from devicemesh_lora import document, secret
from devicemesh_lora.broker import Account, Broker, connected
from devicemesh_lora.chirpstack import prefix
from devicemesh_lora.endpoint import ChirpStack, LoraEndpoint, ThingsStack
from devicemesh_lora.network import Network
from devicemesh_lora.node import Downlink, Joined, Refused, Uplink
from devicemesh_lora.node import Node as Served
from devicemesh_lora.packet import Packet
from devicemesh_lora.regions import REGIONS
from devicemesh_lora.store import opened

from devicemesh.mapper import no_secrets
from devicemesh_simulators.lora_nodes import Cell, Faults

REGION = REGIONS["EU868"]
STATS_S = 0.5
CODES = {
    "WrongMic": "UPLINK_MIC", "CounterWentBack": "UPLINK_F_CNT_RESET",
    "Replay": "UPLINK_F_CNT_RETRANSMISSION", "NonceReplay": "OTAA", "WrongKey": "OTAA",
}  # fmt: skip
"""What ChirpStack calls what our network server refuses."""


class ServerGateway:
    """A gateway of the network server: what it hears comes to the server at once."""

    def __init__(self, name: str, eui: str, rng: random.Random) -> None:
        self.name, self.eui, self._rng = name, eui, rng
        self.faults = Faults()
        self.heard: list[Packet] = []
        self.counts = dict.fromkeys(("rxnb", "rxok", "dwnb", "txnb"), 0)

    def wrap(self) -> None:
        """Between the server and its gateways: not ours to see."""

    def keep_alive(self) -> None:
        """The server publishes its state."""

    def forward(self, phy: bytes, frequency: int, data_rate: str, stat: int = 1) -> None:
        """Hear a device."""
        if self.faults.unplugged:
            return
        self.counts["rxnb"] += 1
        if stat == 1:
            self.counts["rxok"] += 1
            rssi, snr = self._rng.randint(-115, -60), round(self._rng.uniform(-5, 10), 1)
            self.heard.append(Packet(phy, self.eui, 0, frequency, data_rate, rssi, snr, time.time_ns()))


def _now() -> str:
    return datetime.now(UTC).isoformat()


class Chirping:
    """What ChirpStack v4 publishes."""

    def __init__(self, server: ChirpStack) -> None:
        self._server = server
        self.commands = f"{self._head('+')}command/down"
        self.qos = 1

    def _head(self, eui: str) -> str:
        return f"{prefix(self._server.topic_prefix)}application/{self._server.application}/device/{eui}/"

    def _event(self, eui: str, kind: str, **body: Any) -> tuple[str, dict[str, Any]]:
        info = {"devEui": eui, "applicationId": self._server.application}
        return f"{self._head(eui)}event/{kind}", {"time": _now(), "deviceInfo": info, **body}

    def up(self, uplink: Uplink, held: dict[str, Any] | None) -> tuple[str, dict[str, Any]]:
        received = [
            {"gatewayId": one.gateway, "rssi": round(one.rssi), **({"snr": one.snr} if one.snr else {})}
            for one in uplink.copies
        ]
        factor, width = _rate(uplink.copies[0].data_rate)
        lora = {"bandwidth": width, "spreadingFactor": factor, "codeRate": "CR_4_5"}
        return self._event(
            uplink.node.endpoint.eui, "up", deduplicationId=f"{time.monotonic_ns():032x}", adr=False, dr=5,
            fCnt=uplink.counter, fPort=uplink.port or 0, confirmed=False,
            data=base64.b64encode(uplink.payload).decode(), rxInfo=received,
            txInfo={"frequency": uplink.copies[0].frequency, "modulation": {"lora": lora}},
            **({"object": held} if held is not None else {}),
        )  # fmt: skip

    def join(self, eui: str) -> tuple[str, dict[str, Any]]:
        return self._event(eui, "join", devAddr="01020304")

    def refused(self, eui: str, why: Refused) -> tuple[str, dict[str, Any]] | None:
        code = CODES.get(why.reason, "UNKNOWN")
        return self._event(eui, "log", level="ERROR", code=code, description=why.message, context={})

    def status(self, node: Served) -> tuple[str, dict[str, Any]] | None:
        return self._event(
            node.endpoint.eui, "status", margin=int(node.margin or 0), externalPowerSource=False,
            batteryLevelUnavailable=node.battery is None, batteryLevel=node.battery or 0.0,
        )  # fmt: skip

    def sent(self, eui: str, number: str, gateway: str) -> tuple[str, dict[str, Any]]:
        return self._event(eui, "txack", queueItemId=number, gatewayId=gateway, fCntDown=0)

    def acknowledged(self, eui: str, number: str) -> tuple[str, dict[str, Any]]:
        return self._event(eui, "ack", queueItemId=number, acknowledged=True, fCntDown=0)

    def gateway(self, one: ServerGateway) -> list[tuple[str, dict[str, Any], bool]]:
        head = f"{prefix(self._server.region_prefix)}gateway/{one.eui}/"
        state = {"gatewayId": one.eui, "state": "OFFLINE" if one.faults.unplugged else "ONLINE"}
        stats = {
            "gatewayId": one.eui, "time": _now(), "rxPacketsReceived": one.counts["rxnb"],
            "rxPacketsReceivedOk": one.counts["rxok"], "txPacketsReceived": one.counts["dwnb"],
            "txPacketsEmitted": one.counts["txnb"],
        }  # fmt: skip
        told = [(f"{head}state/conn", state, True)]
        return told if one.faults.unplugged else [*told, (f"{head}event/stats", stats, False)]

    def commanded(self, topic: str, body: Mapping[str, Any]) -> list[tuple[str, str, int, Any]]:
        """(EUI, number, FPort, bytes or object) of each downlink that is asked for."""
        held = body.get("object") or base64.b64decode(body.get("data", ""))
        return [(body["devEui"], body["id"], body["fPort"], held)]


class Stacking:
    """What The Things Stack v3 publishes: nothing of what is zero, and no log."""

    def __init__(self, server: ThingsStack) -> None:
        self._server = server
        self.commands = f"v3/{server.user}/devices/+/down/push"
        self.qos = 0

    def _message(self, eui: str, kind: str, **body: Any) -> tuple[str, dict[str, Any]]:
        ids = {
            "device_id": f"eui-{eui}", "dev_eui": eui.upper(),
            "application_ids": {"application_id": self._server.application},
        }  # fmt: skip
        return f"v3/{self._server.user}/devices/eui-{eui}/{kind}", {"end_device_ids": ids, **body}

    def up(self, uplink: Uplink, held: dict[str, Any] | None) -> tuple[str, dict[str, Any]]:
        factor, width = _rate(uplink.copies[0].data_rate)
        metadata = [
            {"gateway_ids": {"gateway_id": f"eui-{one.gateway}", "eui": one.gateway.upper()},
             "rssi": one.rssi, "snr": one.snr}
            for one in uplink.copies
        ]  # fmt: skip
        body: dict[str, Any] = {
            "session_key_id": "AXA=", "f_port": uplink.port, "f_cnt": uplink.counter,
            "frm_payload": base64.b64encode(uplink.payload).decode(), "rx_metadata": metadata,
            "settings": {"data_rate": {"lora": {"bandwidth": width, "spreading_factor": factor}},
                         "frequency": str(uplink.copies[0].frequency)},
            "received_at": _now(),
        }  # fmt: skip
        if held is not None:
            body["decoded_payload"] = held
        told = {name: value for name, value in body.items() if value}
        return self._message(uplink.node.endpoint.eui, "up", uplink_message=told)

    def join(self, eui: str) -> tuple[str, dict[str, Any]]:
        return self._message(eui, "join", join_accept={"session_key_id": "AXA="})

    def refused(self, eui: str, why: Refused) -> tuple[str, dict[str, Any]] | None:
        return None

    def status(self, node: Served) -> tuple[str, dict[str, Any]] | None:
        return None

    def sent(self, eui: str, number: str, gateway: str) -> tuple[str, dict[str, Any]]:
        return self._message(eui, "down/sent", downlink_sent={"correlation_ids": [number]})

    def acknowledged(self, eui: str, number: str) -> tuple[str, dict[str, Any]]:
        return self._message(eui, "down/ack", downlink_ack={"correlation_ids": [number]})

    def gateway(self, one: ServerGateway) -> list[tuple[str, dict[str, Any], bool]]:
        return []

    def commanded(self, topic: str, body: Mapping[str, Any]) -> list[tuple[str, str, int, Any]]:
        eui = topic.split("/")[3].removeprefix("eui-")
        found = []
        for one in body["downlinks"]:
            held = one.get("decoded_payload") or base64.b64decode(one.get("frm_payload", ""))
            found.append((eui, one["correlation_ids"][0], one["f_port"], held))
        return found


def _rate(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"SF(\d+)BW(\d+)", text)
    assert found is not None
    return int(found[1]), int(found[2]) * 1000


class StandIn:
    """The network server."""

    def __init__(self, endpoint: LoraEndpoint, air: Any) -> None:
        """`air` has the devices and gateways."""
        assert endpoint.server is not None
        self._air = air
        self._decoded: dict[str, Mapping[int, Sequence[Cell]]] = {one.eui: one.decoded for one in air.nodes}
        self._tongue = (
            Chirping(endpoint.server)
            if isinstance(endpoint.server, ChirpStack)
            else Stacking(endpoint.server)
        )
        self._start = time.monotonic()
        self._broker: Broker | None = None
        self._network: Network | None = None
        self._statuses: dict[str, tuple[float | None, float | None]] = {}

    @contextlib.asynccontextmanager
    async def serving(self, host: str, port: int, endpoints: Sequence[LoraEndpoint]) -> AsyncIterator[None]:
        """Publish to the broker there."""
        account = Account(host, port, False, None, None, None, "", f"the broker {host}:{port}")
        with opened(None) as store:
            self._network = Network(store)
            moved = [one.redirect(f"{host}:{port}") for one in endpoints if one.dev_eui is not None]
            self._network.declare([secret.node(one, no_secrets, store) for one in moved])
            async with connected(account, self._commanded) as self._broker:
                await self._broker.subscribe([self._tongue.commands], self._tongue.qos)
                yield

    async def live(self) -> None:
        """Until cancelled: keep the connection, and tell of the gateways."""
        assert self._broker is not None
        while True:
            self._broker.tend()
            for gateway in self._air.gateways:
                for topic, body, retained in self._tongue.gateway(gateway):
                    self._say(topic, body, retained)
            await asyncio.sleep(STATS_S)

    def _say(self, topic: str, body: dict[str, Any], retained: bool = False) -> None:
        if self._broker is not None:
            self._broker.publish(topic, json.dumps(body).encode(), self._tongue.qos, retained=retained)

    # Frames

    def collect(self) -> None:
        """What all gateways have just heard is one uplink; the best copy is the first."""
        assert self._network is not None
        by_phy: dict[bytes, list[Packet]] = {}
        for gateway in self._air.gateways:
            for packet in gateway.heard:
                by_phy.setdefault(packet.phy, []).append(packet)
            gateway.heard.clear()
        for copies in by_phy.values():
            copies.sort(key=lambda packet: packet.signal, reverse=True)
            event = self._network.heard(copies, time.monotonic())
            if isinstance(event, Joined):
                self._air.down(event.accept)
                self._say(*self._tongue.join(event.node.endpoint.eui))
            elif isinstance(event, Refused):
                if event.node is not None and (told := self._tongue.refused(event.node.endpoint.eui, event)):
                    self._say(*told)
            elif isinstance(event, Uplink):
                self._uplink(event)

    def _uplink(self, uplink: Uplink) -> None:
        assert self._network is not None
        node, eui = uplink.node, uplink.node.endpoint.eui
        cells = self._decoded.get(eui, {}).get(uplink.port or 0)
        held: dict[str, Any] | None = {} if cells else None
        for cell in cells or ():
            value = cell.raw(time.monotonic() - self._start)
            held = document.holding(cell.address.steps, value, held or {})
        if uplink.port:
            self._say(*self._tongue.up(uplink, held))
        status = node.battery, node.margin
        if status != self._statuses.get(eui, (None, None)):
            self._statuses[eui] = status
            if (told := self._tongue.status(node)) is not None:
                self._say(*told)
        made = self._network.reply(
            node, REGION.rx1(uplink.copies[0].frequency, uplink.copies[0].data_rate).data_rate
        )
        if made is None or self._air.too_late():
            return
        gateway = next(one for one in self._air.gateways if one.eui == uplink.copies[0].gateway)
        gateway.counts["dwnb"] += 1
        gateway.counts["txnb"] += 1
        self._air.down(made[0])
        if (queued := made[1]) is not None:
            self._sent(node, queued, gateway.eui)

    def _sent(self, node: Served, queued: Downlink, gateway: str) -> None:
        self._say(*self._tongue.sent(node.endpoint.eui, str(queued.key), gateway))
        if node.endpoint.confirmed:
            queued.counter = node.next_down - 1
        elif not queued.done.done():
            queued.done.set_result(gateway)

    # Downlinks

    def _commanded(self, topic: str, payload: bytes | None, retained: bool) -> None:
        assert self._network is not None
        with contextlib.suppress(ValueError, KeyError, TypeError, IndexError, AttributeError):
            for eui, number, port, held in self._tongue.commanded(topic, json.loads(payload or b"")):
                node = self._network.by_eui[eui]
                data = b"\0" if isinstance(held, dict) else held
                queued = Downlink(port, data, asyncio.get_running_loop().create_future(), number)
                queued.done.add_done_callback(partial(self._done, eui, number, held))
                node.queue.append(queued)

    def _done(self, eui: str, number: str, held: Any, done: asyncio.Future[str]) -> None:
        """It has reached the device: what the server's codec has encoded is what the device has now."""
        assert self._network is not None
        if self._network.by_eui[eui].endpoint.confirmed:
            self._say(*self._tongue.acknowledged(eui, number))
        for cell in [one for cells in self._decoded.get(eui, {}).values() for one in cells]:
            if isinstance(held, dict):
                cell.take(held)
