"""The Things Stack v3's topics and JSON (its data formats). Pure.

Fields that are empty, zero or false are left out there.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from devicemesh_lora import fields
from devicemesh_lora.chirpstack import MOST_GATEWAYS, data_rate
from devicemesh_lora.endpoint import ThingsStack
from devicemesh_lora.happening import (
    Activated,
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

MARK = "devicemesh:"
"""In front of the correlation ids of our downlinks."""
_KINDS = (
    "up", "join", "down/queued", "down/sent", "down/ack", "down/nack", "down/failed", "location/solved",
    "service/data",
)  # fmt: skip
_ID = re.compile(r"[a-z0-9](-?[a-z0-9]){1,35}")
_STATES: Mapping[str, Any] = {
    "down/queued": "queued", "down/sent": "sent", "down/ack": "acknowledged", "down/nack": "unacknowledged",
    "down/failed": "failed",
}  # fmt: skip


def topics(server: ThingsStack, gateways: Sequence[str]) -> list[str]:
    """What to subscribe to: gateways have no topics."""
    return [f"v3/{server.user}/devices/+/{kind}" for kind in _KINDS]


def downlink(
    server: ThingsStack,
    device: str,
    number: str,
    port: int,
    payload: bytes | dict[str, Any],
    *,
    confirmed: bool,
) -> tuple[str, bytes]:
    """(topic, body) that queues a downlink. What is no bytes the server's formatter encodes."""
    body: dict[str, Any] = {"f_port": port, "priority": "NORMAL", "correlation_ids": [MARK + number]}
    if isinstance(payload, dict):
        body["decoded_payload"] = payload
    else:
        body["frm_payload"] = base64.b64encode(payload).decode()
    if confirmed:
        body["confirmed"] = True
    return f"v3/{server.user}/devices/{device}/down/push", json.dumps({"downlinks": [body]}).encode()


def decode(server: ThingsStack, topic: str, payload: bytes, now_ns: int) -> Happening:
    """What a message tells. Raises MessageError."""
    head = f"v3/{server.user}/devices/"
    device, _, kind = topic.removeprefix(head).partition("/")
    if not topic.startswith(head) or kind not in _KINDS:
        return Ignored(topic[:80])
    try:
        body = fields.parsed(payload)
        ids = fields.part(body, "end_device_ids")
        eui = fields.words(ids.get("dev_eui", ""), "dev_eui", 16).lower()
        if eui and not re.fullmatch("[0-9a-f]{16}", eui):
            raise ValueError(f"its dev_eui {fields.shown(eui)} is no EUI")
        name = device if _ID.fullmatch(device) else ""  # a topic is made of it
        if kind == "up":
            return _up(eui, name, body, now_ns)
        if kind == "join":
            return Activated(eui)
        if kind == "location/solved":
            return Learned(eui, _place(fields.part(body, "location_solved")), now_ns, alive=False)
        if kind in _STATES:
            return _followed(eui, kind, body)
    except ValueError as error:
        raise MessageError(f"{kind}: {error}") from error
    return Ignored(kind)


def _up(eui: str, name: str, body: Mapping[str, Any], now_ns: int) -> Happening:
    up = fields.part(body, "uplink_message")
    counter = fields.integer(up.get("f_cnt", 0), 0, (1 << 32) - 1, "f_cnt")
    port = fields.integer(up.get("f_port", 0), 0, 255, "f_port")
    data = fields.unpadded(up.get("frm_payload") or "")
    time_ns = moment(up.get("received_at", body.get("received_at")), now_ns)
    heard = []
    for one in fields.objects(up, "rx_metadata", MOST_GATEWAYS):
        ids = fields.part(one, "gateway_ids")
        gateway = fields.words(ids.get("eui", ids.get("gateway_id", "")), "gateway").lower()
        signal = fields.number(one.get("snr", 0)), fields.number(one.get("rssi", 0))
        heard.append((signal, gateway, _place(one)))
    heard.sort(key=lambda one: one[0], reverse=True)
    settings = fields.part(up, "settings")
    known: dict[str, float | str | None] = {
        "lastSeen": time_ns / 1e9, "frequency": _frequency(settings.get("frequency")),
        "dataRate": data_rate(fields.part(fields.part(settings, "data_rate"), "lora"), "spreading_factor"),
        "gateways": float(len(heard)), "counter": float(counter), "port": float(port),
    }  # fmt: skip
    battery = fields.part(up, "last_battery_percentage").get("value")
    if battery is not None:
        known["battery"] = fields.number(battery)
    if heard:
        (snr, rssi), gateway, _ = heard[0]
        known |= {"gateway": gateway, "rssi": rssi, "snr": snr}
    mark = f"{fields.words(up.get('session_key_id', ''), 'session_key_id')} {up.get('received_at', '')!s:.40}"
    return Reported(
        eui, time_ns, counter, port or None, data, up.get("decoded_payload"), known,
        up.get("normalized_payload"), mark, name, [Heard(one[1], one[2]) for one in heard],
    )  # fmt: skip


def _frequency(value: Any) -> float | None:
    """Hz; a text, as 64-bit numbers are in this JSON."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        return float(value)
    return None if value is None else fields.number(value)


def _place(body: Mapping[str, Any]) -> Known:
    where = fields.part(body, "location")
    names = ("latitude", "longitude", "altitude")
    return {name: fields.number(where.get(name, 0)) for name in names} if where else {}


def _followed(eui: str, kind: str, body: Mapping[str, Any]) -> Happening:
    told = fields.part(body, f"downlink_{kind.removeprefix('down/')}")
    inner = fields.part(told, "downlink") or told
    ids: set[str] = set()
    for listed in (body.get("correlation_ids"), told.get("correlation_ids"), inner.get("correlation_ids")):
        if isinstance(listed, list):
            ids |= {one[len(MARK) :] for one in listed[:100] if isinstance(one, str) and one.startswith(MARK)}
    error = fields.part(told, "error")
    why = fields.words(error.get("message_format", error.get("name", "")), "error", 2000)[:200]
    return Followed(eui, frozenset(ids), _STATES[kind], why=why)
