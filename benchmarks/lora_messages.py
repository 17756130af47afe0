"""Random, cut and changed messages for the decoders of Basics Station, ChirpStack and The Things Stack.

`python benchmarks/lora.py --fuzz-messages N` runs it. What is no error of a decoder ends it.
"""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import random
from collections.abc import Iterator
from typing import Any

from devicemesh_lora import mac, station
from devicemesh_lora.mac import MType
from devicemesh_lora.model import LoraAddress, LoraEndpoint
from devicemesh_lora.network import Network
from devicemesh_lora.node import Keys, Node, Uplink
from devicemesh_lora.packet import Packet
from devicemesh_lora.regions import REGIONS
from devicemesh_lora.servers import ServerSession
from devicemesh_lora.store import Kept, opened

from devicemesh.mapper import Point
from devicemesh.spec.values import ValueType

EUI, GATEWAY, APP = "70b3d57ed0000001", "0102030405060708", "b3a1"
KEYS = bytes(16), bytes(range(16))
SECRET = {"name": "bench", "key": "k"}
HOSTILE: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1 << 31,
    -(1 << 31),
    1 << 63,
    1 << 70,
    10**400,
    1e308,
    -0.0,
    0.1,
    "",
    "x",
    "-1",
    "\0",
    "é" * 50,
    "A" * 5000,
    "!!!!",
    "00" * 300,
    "2026-01-02T03:04:05Z",
    "9999-99-99",
    [],
    [[]],
    {},
    {"": {}},
    [None] * 300,
]
BYTES = [b"", b"{", b"[" * 3000, b'{"a":' * 3000, b"\xff\xfe", b"NaN", b'{"fCnt":1e999}', b"null", b"\0" * 50]


def _frames() -> list[bytes]:
    made = [
        mac.data_frame(MType.UNCONFIRMED_UP, KEYS, 0xFEDCBA98, counter, 2, b"\x00\xd7\x01", options=b"\x02")
        for counter in range(1, 30)
    ]
    made.append(mac.data_frame(MType.CONFIRMED_UP, KEYS, 0xFEDCBA98, 40, None))
    return made


def station_messages(frames: list[bytes]) -> list[dict[str, Any]]:
    def signed(data: bytes) -> int:
        return int.from_bytes(data, "little", signed=True)

    radio = {
        "DR": 5,
        "Freq": 868_100_000,
        "RefTime": 0.0,
        "upinfo": {"rctx": 0, "xtime": 1 << 50, "gpstime": 0, "rssi": -60, "snr": 5.5},
    }
    made: list[dict[str, Any]] = []
    for phy in frames:
        end = 8 + (phy[5] & 15)
        rest = phy[end:-4]
        made.append(
            {
                "msgtype": "updf",
                "MHdr": phy[0],
                "DevAddr": signed(phy[1:5]),
                "FCtrl": phy[5],
                "FCnt": int.from_bytes(phy[6:8], "little"),
                "FOpts": phy[8:end].hex(),
                "FPort": rest[0] if rest else -1,
                "FRMPayload": rest[1:].hex(),
                "MIC": signed(phy[-4:]),
                **radio,
            }
        )
    euis = {"JoinEui": "00-00-00-00-00-00-00-01", "DevEui": "70-B3-D5-7E-D0-00-00-01"}
    return [
        *made,
        {"msgtype": "jreq", "MHdr": 0, **euis, "DevNonce": 7, "MIC": -5, **radio},
        {"msgtype": "propdf", "FRMPayload": "e0aabb", **radio},
        {"msgtype": "version", "station": "2.0.6", "model": "m", "protocol": 2},
        {"msgtype": "dntxed", "diid": 5, "xtime": 1},
        {"msgtype": "timesync", "txtime": 5},
        {"router": "b827:ebff:fee1:e39a"},
    ]


def chirpstack_messages() -> list[tuple[str, Any]]:
    head = f"application/{APP}/device/{EUI}/event/"
    place = {"latitude": 52.5, "longitude": 13.4, "altitude": 30}
    up = {
        "deduplicationId": "d",
        "time": "2026-01-02T03:04:05.678901234+00:00",
        "deviceInfo": {"devEui": EUI},
        "adr": True,
        "dr": 5,
        "fCnt": 7,
        "fPort": 2,
        "data": "ANcB",
        "object": {"a": {"b": 21.5}, "c": [1]},
        "rxInfo": [{"gatewayId": GATEWAY, "rssi": -60, "snr": 9.5, "location": place}],
        "txInfo": {
            "frequency": 868100000,
            "modulation": {"lora": {"bandwidth": 125000, "spreadingFactor": 7}},
        },
    }
    stats = {
        "rxPacketsReceived": 5,
        "rxPacketsReceivedOk": 4,
        "time": "2026-01-02T03:04:05Z",
        "location": place,
    }
    return [
        (f"{head}up", up),
        (f"{head}join", {"devAddr": "01020304"}),
        (f"{head}txack", {"queueItemId": "q", "gatewayId": GATEWAY}),
        (f"{head}ack", {"queueItemId": "q", "acknowledged": True}),
        (f"{head}status", {"margin": 7, "batteryLevel": 50.5, "time": "2026-01-02T03:04:05Z"}),
        (f"{head}location", {"location": place}),
        (f"{head}log", {"level": "ERROR", "code": "UPLINK_MIC", "description": "no", "context": {"id": "q"}}),
        (f"gateway/{GATEWAY}/event/stats", stats),
        (f"gateway/{GATEWAY}/state/conn", {"state": "ONLINE"}),
    ]


def things_messages() -> list[tuple[str, Any]]:
    head = f"v3/{APP}@ttn/devices/probe/"
    ids = {"end_device_ids": {"device_id": "probe", "dev_eui": EUI.upper()}}
    up = {
        "session_key_id": "A",
        "f_port": 2,
        "f_cnt": 7,
        "frm_payload": "ANcB",
        "received_at": "2026-01-02T03:04:05Z",
        "decoded_payload": {"a": {"b": 21.5}},
        "normalized_payload": [{"air": {"temperature": 1.5}, "time": "x"}],
        "rx_metadata": [
            {"gateway_ids": {"eui": GATEWAY}, "rssi": -60, "snr": 9.2, "location": {"latitude": 1.0}}
        ],
        "settings": {
            "data_rate": {"lora": {"bandwidth": 125000, "spreading_factor": 7}},
            "frequency": "868100000",
        },
        "last_battery_percentage": {"value": 50.5},
    }
    told = {"correlation_ids": ["devicemesh:q"], "f_port": 2}
    return [
        (f"{head}up", {**ids, "uplink_message": up}),
        (f"{head}join", {**ids, "join_accept": {}}),
        *(
            (f"{head}down/{kind}", {**ids, f"downlink_{kind}": told, "correlation_ids": ["devicemesh:q"]})
            for kind in ("queued", "sent", "ack", "nack")
        ),
        (
            f"{head}down/failed",
            {**ids, "downlink_failed": {"downlink": told, "error": {"message_format": "no"}}},
        ),
        (f"{head}location/solved", {**ids, "location_solved": {"location": {"latitude": 1.0}}}),
    ]


def _spots(body: Any) -> Iterator[tuple[Any, Any]]:
    """All places of a document: (container, key)."""
    if isinstance(body, dict | list):
        for key in list(body) if isinstance(body, dict) else range(len(body)):
            yield body, key
            yield from _spots(body[key])


def changed(body: Any, rng: random.Random) -> bytes:
    """A message with values, bytes or its end changed."""
    if rng.random() < 0.02:
        return rng.choice(BYTES)
    made = copy.deepcopy(body)
    for _ in range(rng.randrange(3)):
        if not (spots := list(_spots(made))):
            break
        place, key = rng.choice(spots)
        if rng.random() < 0.2 and isinstance(place, dict):
            del place[key]
        else:
            place[key] = copy.deepcopy(rng.choice(HOSTILE))
    data = bytearray(json.dumps(made).encode())
    for _ in range(rng.choice((0, 0, 0, 1, 3))):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
    if rng.random() < 0.1:
        data = data[: rng.randrange(len(data) + 1)]
    return bytes(data)


def _fuzz_station(count: int, rng: random.Random) -> tuple[int, int]:
    """(messages that were understood, frames accepted that no device had sent)."""
    frames = _frames()
    good, region, understood, wrong = station_messages(frames), REGIONS["EU868"], 0, 0
    abp = {"devAddr": "fedcba98", "nwkSKey": SECRET, "appSKey": SECRET}
    endpoint = LoraEndpoint.model_validate({"listen": "127.0.0.1:1", "devEui": EUI, "abp": abp})
    with opened(None) as store:
        network = Network(store)
        network.declare([Node(endpoint, "n", Keys(None, KEYS, 0xFEDCBA98), Kept())])
        for _ in range(count):
            text = changed(rng.choice(good), rng).decode("utf-8", "replace")
            try:
                found = station.decode(text, GATEWAY, region)
                understood += 1
            except station.MessageError:
                continue
            if isinstance(found, Packet):
                event = network.heard([found], 0.0)
                wrong += isinstance(event, Uplink) and found.phy not in frames
    return understood, wrong


async def _fuzz_server(count: int, rng: random.Random, way: str) -> int:
    """How many were refused."""
    server: dict[str, Any] = {"broker": "mqtt://127.0.0.1:1", "application": APP}
    if way == "thingsStack":
        server |= {"tenant": "ttn", "apiKey": SECRET}
    node = LoraEndpoint.model_validate({way: server, "devEui": EUI})
    gateway = LoraEndpoint.model_validate({way: server, "gateway": GATEWAY})
    where: list[tuple[LoraEndpoint, ValueType, dict[str, Any]]] = [
        (node, ValueType.INT16, {"offset": 0}),
        (node, ValueType.FLOAT64, {"pointer": "/a/b"}),
        (node, ValueType.FLOAT64, {"pointer": "/air/temperature", "normalized": True}),
        (node, ValueType.UINT8, {"pointer": "/c/0"}),
        (node, ValueType.UINT8, {"channel": 0}),
        (node, ValueType.UINT8, {"stat": "snr"}),
        (node, ValueType.STRING, {"stat": "dataRate"}),
        (node, ValueType.UINT32, {"stat": "lost"}),
        (node, ValueType.UINT32, {"stat": "frequency"}),
        (gateway, ValueType.UINT32, {"stat": "rxnb"}),
        (gateway, ValueType.FLOAT64, {"stat": "latitude"}),
    ]
    points = [
        Point(
            slot, f"default/{endpoint.eui}", f"p{slot}", type_, endpoint, LoraAddress.model_validate(address)
        )
        for slot, (endpoint, type_, address) in enumerate(where)
    ]
    session = ServerSession(node)
    session.declare(points)
    good = chirpstack_messages() if way == "chirpstack" else things_messages()
    for number in range(count):
        topic, body = rng.choice(good)
        if rng.random() < 0.05:
            at = rng.randrange(len(topic))
            topic = topic[:at] + rng.choice(["", "/", "+", "x", "\0", "é"]) + topic[at + 1 :]
        session.received(topic, changed(body, rng), False)
        if number % 1000 == 0:
            session.out.forget()
    return session.refused


def fuzz_messages(count: int) -> dict[str, float]:
    """A third of `count` for each; nothing but their own errors may leave the decoders."""
    logging.disable()
    rng, third = random.Random(1), -(-count // 3)
    understood, wrong = _fuzz_station(third, rng)
    refused = {way: asyncio.run(_fuzz_server(third, rng, way)) for way in ("chirpstack", "thingsStack")}
    return {
        "fuzz_messages": 3 * third,
        "fuzz_station_understood": understood,
        "fuzz_wrongly": wrong,
        "fuzz_chirpstack_refused": refused["chirpstack"],
        "fuzz_things_stack_refused": refused["thingsStack"],
    }
