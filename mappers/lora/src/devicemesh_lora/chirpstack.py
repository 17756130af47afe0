"""ChirpStack v4's topics and JSON (its integration.proto and gw.proto). Pure.

The integration writes fields that are zero, what lies deeper in rxInfo and txInfo leaves them out.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from devicemesh_lora import fields
from devicemesh_lora.endpoint import ChirpStack
from devicemesh_lora.happening import (
    Activated,
    Complaint,
    Followed,
    Happening,
    Heard,
    Ignored,
    Known,
    Learned,
    MessageError,
    Reported,
    moment,
)

MOST_GATEWAYS = 256
"""That hear one uplink."""
_EUI = re.compile("[0-9a-f]{16}")
_EVENT = re.compile(r"application/([^/]+)/device/([0-9a-f]{16})/event/([a-z]+)")
_GATEWAY = re.compile(r"gateway/([0-9a-f]{16})/(event/stats|state/conn)")
_OF_UPLINKS = ("OTAA", "UPLINK_MIC", "UPLINK_F_CNT_RESET", "UPLINK_F_CNT_RETRANSMISSION")
_STATS = {
    "rxPacketsReceived": "rxnb", "rxPacketsReceivedOk": "rxok", "txPacketsReceived": "dwnb",
    "txPacketsEmitted": "txnb",
}  # fmt: skip


def prefix(text: str) -> str:
    """What stands in front of a topic."""
    return f"{text.strip('/')}/" if text.strip("/") else ""


def topics(server: ChirpStack, gateways: Sequence[str]) -> list[str]:
    """What to subscribe to."""
    events = f"{prefix(server.topic_prefix)}application/{server.application}/device/+/event/+"
    before = prefix(server.region_prefix)
    return [
        events,
        *(f"{before}gateway/{eui}/{what}" for eui in gateways for what in ("event/stats", "state/conn")),
    ]


def downlink(
    server: ChirpStack, eui: str, number: str, port: int, payload: bytes | dict[str, Any], *, confirmed: bool
) -> tuple[str, bytes]:
    """(topic, body) that queues a downlink. What is no bytes the server's codec encodes."""
    held = {"object": payload} if isinstance(payload, dict) else {"data": base64.b64encode(payload).decode()}
    body = {"id": number, "devEui": eui, "confirmed": confirmed, "fPort": port, **held}
    topic = f"{prefix(server.topic_prefix)}application/{server.application}/device/{eui}/command/down"
    return topic, json.dumps(body).encode()


def decode(server: ChirpStack, topic: str, payload: bytes, now_ns: int) -> Happening:
    """What a message tells. Raises MessageError."""
    plain = topic.removeprefix(prefix(server.topic_prefix))
    if (found := _EVENT.fullmatch(plain)) is not None:
        kind, eui = found[3], found[2]
        make = _EVENTS.get(kind)
    elif (found := _GATEWAY.fullmatch(topic.removeprefix(prefix(server.region_prefix)))) is not None:
        kind, eui = found[2], found[1]
        make = _stats if kind == "event/stats" else _connection
    else:
        return Ignored(topic[:80])
    if make is None:
        return Ignored(kind[:40])
    try:
        return make(eui, fields.parsed(payload), now_ns)
    except ValueError as error:
        hint = ": is it protobuf? Its marshaler must be json" if payload.lstrip()[:1] != b"{" else ""
        raise MessageError(f"{kind}: {error}{hint}") from error


def _up(eui: str, body: Mapping[str, Any], now_ns: int) -> Happening:
    counter = fields.integer(body.get("fCnt", 0), 0, (1 << 32) - 1, "fCnt")
    port = fields.integer(body.get("fPort", 0), 0, 255, "fPort")
    data = fields.unpadded(body.get("data") or "")
    time_ns = moment(body.get("time"), now_ns)
    heard = [(fields.words(one.get("gatewayId", ""), "gatewayId").lower(), fields.number(one.get("rssi", 0)),
              fields.number(one.get("snr", 0)), _place(one))
             for one in fields.objects(body, "rxInfo", MOST_GATEWAYS)]  # fmt: skip
    heard.sort(key=lambda one: (one[2], one[1]), reverse=True)
    info = fields.part(body, "txInfo")
    known: dict[str, float | str | None] = {
        "lastSeen": time_ns / 1e9, "frequency": fields.number(info.get("frequency", 0)) or None,
        "dataRate": data_rate(fields.part(fields.part(info, "modulation"), "lora"), "spreadingFactor"),
        "gateways": float(len(heard)), "counter": float(counter), "port": float(port),
        "adr": float(bool(body.get("adr"))),
    }  # fmt: skip
    if heard:
        known |= {"gateway": heard[0][0], "rssi": heard[0][1], "snr": heard[0][2]}
    mark = fields.words(body.get("deduplicationId", ""), "deduplicationId")
    known["deduplicationId"] = mark or None
    gateways = [Heard(one[0], one[3]) for one in heard if _EUI.fullmatch(one[0])]
    return Reported(
        eui, time_ns, counter, port or None, data, body.get("object"), known, None, mark, eui, gateways
    )


def data_rate(lora: Mapping[str, Any], factor: str) -> str | None:
    """As in SF7BW125; None: it is not LoRa."""
    if not lora:
        return None
    width = fields.integer(lora.get("bandwidth", 0), 0, 1 << 32, "bandwidth") // 1000
    return f"SF{fields.integer(lora.get(factor, 0), 0, 12, factor)}BW{width}"


def _place(body: Mapping[str, Any]) -> Known:
    """Where a gateway or device is, as far as that is known."""
    where = fields.part(body, "location")
    names = ("latitude", "longitude", "altitude")
    return {name: fields.number(where.get(name, 0)) for name in names} if where else {}


def _join(eui: str, body: Mapping[str, Any], now_ns: int) -> Happening:
    return Activated(eui)


def _ids(body: Mapping[str, Any]) -> frozenset[str]:
    return frozenset({fields.words(body.get("queueItemId", ""), "queueItemId")})


def _txack(eui: str, body: Mapping[str, Any], now_ns: int) -> Happening:
    gateway = fields.words(body.get("gatewayId", ""), "gatewayId")
    return Followed(eui, _ids(body), "sent", gateway)


def _ack(eui: str, body: Mapping[str, Any], now_ns: int) -> Happening:
    done = body.get("acknowledged") is True
    return Followed(eui, _ids(body), "acknowledged" if done else "unacknowledged")


def _status(eui: str, body: Mapping[str, Any], now_ns: int) -> Happening:
    told = not (body.get("batteryLevelUnavailable") or body.get("externalPowerSource"))
    known: dict[str, float | str | None] = {"margin": fields.number(body.get("margin", 0))}
    if told:
        known["battery"] = fields.number(body.get("batteryLevel", 0))
    return Learned(eui, known, moment(body.get("time"), now_ns))


def _location(eui: str, body: Mapping[str, Any], now_ns: int) -> Happening:
    return Learned(eui, _place(body), moment(body.get("time"), now_ns), alive=False)


def _log(eui: str, body: Mapping[str, Any], now_ns: int) -> Happening:
    level, code = (fields.words(body.get(name, ""), name) for name in ("level", "code"))
    said = fields.words(body.get("description", ""), "description", 2000)[:200]
    if level == "INFO":
        return Ignored(f"log {code}")
    held = [str(one) for one in fields.part(body, "context").values() if isinstance(one, str)][:16]
    return Complaint(eui, code or "UNKNOWN", said, code in _OF_UPLINKS, frozenset(held))


def _stats(eui: str, body: Mapping[str, Any], now_ns: int) -> Happening:
    time_ns = moment(body.get("time"), now_ns)
    known: dict[str, float | str | None] = {"lastSeen": time_ns / 1e9, **_place(body)}
    for theirs, ours in _STATS.items():
        known[ours] = fields.number(body.get(theirs, 0))
    known["badCrc"] = max(0.0, float(known["rxnb"] or 0) - float(known["rxok"] or 0))
    return Learned(eui, known, time_ns)


def _connection(eui: str, body: Mapping[str, Any], now_ns: int) -> Happening:
    online = fields.words(body.get("state", ""), "state") == "ONLINE"
    return Learned(eui, {"online": float(online)}, now_ns, alive=False)


_EVENTS = {
    "up": _up, "join": _join, "txack": _txack, "ack": _ack, "status": _status, "location": _location,
    "log": _log,
}  # fmt: skip
