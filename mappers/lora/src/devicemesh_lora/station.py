"""LoRa Basics Station's messages to and from a network server (LNS protocol, version 2.0.6). Pure.

Each is a JSON object in a text message of a websocket. What a station hears it takes apart; here it is put
together again, so that the MIC is checked over what was on the air.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from devicemesh_lora import fields
from devicemesh_lora.packet import Order, Packet
from devicemesh_lora.regions import Region

MOST_BYTES = 16_384
"""Of one message: a frame of 255 bytes takes a twentieth of it."""
GPS_EPOCH_S = 315_964_800 - 18
"""Unix time of the GPS epoch, its leap seconds (18 since 2017) taken off."""
_INT64 = 1 << 63
_SPAN = 800_000
"""Hz that one radio of a concentrator hears."""


class MessageError(ValueError):
    """A message that is not of the protocol; says why."""


@dataclass(frozen=True, slots=True)
class Version:
    """What a station says of itself first; a router_config is the answer."""

    station: str
    model: str


@dataclass(frozen=True, slots=True)
class Transmitted:
    """A downlink was sent (`dntxed`)."""

    number: int


@dataclass(frozen=True, slots=True)
class TimeSync:
    """A station asks for GPS time."""

    txtime: int


@dataclass(frozen=True, slots=True)
class Other:
    """A message of another kind: nothing to do about it."""

    kind: str


Message: TypeAlias = Version | Packet | Transmitted | TimeSync | Other


def eui(value: Any) -> str:
    """An EUI as stations write them: 16 digits, pairs with - or :, four groups with : (ID6), or a number.

    Returns 16 lower-case digits. Raises MessageError.
    """
    if isinstance(value, int) and not isinstance(value, bool) and -_INT64 <= value < 2 * _INT64:
        return f"{value % (2 * _INT64):016x}"
    text = value.lower() if isinstance(value, str) and len(value) <= 40 else ""
    if re.fullmatch(r"[0-9a-f]{2}([-:]?[0-9a-f]{2}){7}", text):
        return re.sub("[-:]", "", text)
    before, gap, after = text.partition("::")
    left, right = [one for one in before.split(":") if one], [one for one in after.split(":") if one]
    groups = left + ["0"] * (4 - len(left) - len(right) if gap else 0) + right
    if (
        len(groups) == 4
        and "::" not in after
        and all(re.fullmatch("[0-9a-f]{1,4}", group) for group in groups)
    ):
        return "".join(group.zfill(4) for group in groups)
    raise MessageError(f"{fields.shown(value)} is no EUI")


def dashed(text: str) -> str:
    """An EUI as a station reads it: 01-02-03-04-05-06-07-08."""
    return "-".join(text[at : at + 2] for at in range(0, 16, 2)).upper()


def _object(text: str) -> dict[str, Any]:
    if len(text) > MOST_BYTES:
        raise MessageError(f"it has {len(text)} characters, {MOST_BYTES} at most")
    try:
        return fields.parsed(text)
    except ValueError as error:
        raise MessageError(str(error)) from error


def asked(text: str) -> str:
    """The EUI of a station that asks at /router-info where to connect. Raises MessageError."""
    return eui(_object(text).get("router"))


def router_info(router: str, uri: str) -> str:
    """The answer: connect there."""
    return json.dumps({"router": dashed(router), "muxs": dashed(router), "uri": uri})


def router_error(router: str, why: str) -> str:
    """The answer to whom is not let in."""
    return json.dumps({"router": dashed(router), "error": why})


def decode(text: str, gateway: str, region: Region, time_ns: int = 0) -> Message:
    """Take a message of a station apart. Raises MessageError."""
    body = _object(text)
    kind = body.get("msgtype")
    if not isinstance(kind, str):
        raise MessageError("it has no msgtype")
    try:
        if kind == "version":
            return Version(str(body.get("station", ""))[:80], str(body.get("model", ""))[:80])
        if kind == "dntxed":
            number = body.get("diid", body.get("seqno"))
            return Transmitted(fields.integer(number, -_INT64, _INT64 - 1, "diid"))
        if kind == "timesync":
            return TimeSync(fields.integer(body.get("txtime"), -_INT64, _INT64 - 1, "txtime"))
        if kind in _FRAMES:
            return _packet(body, _FRAMES[kind](body), gateway, region, time_ns)
    except MessageError:
        raise
    except (ValueError, struct.error) as error:
        raise MessageError(f"{kind}: {error}") from error
    return Other(kind[:40])


def _packet(body: Mapping[str, Any], phy: bytes, gateway: str, region: Region, time_ns: int) -> Packet:
    info = fields.part(body, "upinfo")
    number = fields.integer(body.get("DR"), 0, 15, "DR")
    rate = next((name for name, held in region.uplink.items() if held == number), None)
    if rate is None:
        raise ValueError(f"its DR {number} is none of {region.name}")
    return Packet(
        phy, gateway, fields.integer(info.get("xtime"), -_INT64, _INT64 - 1, "xtime"),
        fields.integer(body.get("Freq"), 0, 1 << 40, "Freq"), rate, fields.number(info.get("rssi", -140)),
        fields.number(info.get("snr", -40)), time_ns,
        fields.integer(info.get("rctx", 0), -_INT64, _INT64 - 1, "rctx"),
    )  # fmt: skip


def _byte(body: Mapping[str, Any], name: str) -> int:
    return fields.integer(body.get(name), 0, 255, name)


def _mic(body: Mapping[str, Any]) -> bytes:
    return _int32(body, "MIC").to_bytes(4, "little")


def _int32(body: Mapping[str, Any], name: str) -> int:
    """32 bits that a station writes as a signed number."""
    return fields.integer(body.get(name), -(1 << 31), (1 << 32) - 1, name) % (1 << 32)


def _join_request(body: Mapping[str, Any]) -> bytes:
    euis = [eui(body.get(f"{name}Eui", body.get(f"{name}EUI"))) for name in ("Join", "Dev")]
    nonce = fields.integer(body.get("DevNonce"), 0, 0xFFFF, "DevNonce")
    parts = [bytes.fromhex(one)[::-1] for one in euis]
    return bytes((_byte(body, "MHdr"),)) + b"".join(parts) + nonce.to_bytes(2, "little") + _mic(body)


def _data_frame(body: Mapping[str, Any]) -> bytes:
    counter = fields.integer(body.get("FCnt"), 0, 0xFFFF, "FCnt")
    head = struct.pack("<BIBH", _byte(body, "MHdr"), _int32(body, "DevAddr"), _byte(body, "FCtrl"), counter)
    options = fields.unhexed(body.get("FOpts", ""), "FOpts", 15)
    payload = fields.unhexed(body.get("FRMPayload", ""), "FRMPayload")
    port = fields.integer(body.get("FPort", -1), -1, 255, "FPort")  # -1: there is none
    if port < 0 and payload:
        raise ValueError("it has a payload without FPort")
    return head + options + (bytes((port,)) if port >= 0 else b"") + payload + _mic(body)


def _proprietary(body: Mapping[str, Any]) -> bytes:
    return fields.unhexed(body.get("FRMPayload", ""), "FRMPayload")


_FRAMES = {"jreq": _join_request, "updf": _data_frame, "propdf": _proprietary}


def _radios(channels: tuple[int, ...], wide: int | None) -> dict[str, Any]:
    """The concentrator's channels: two radios, each hearing what is within `_SPAN`."""
    groups: list[list[int]] = [[]]
    for channel in sorted(channels):
        if groups[-1] and channel - groups[-1][0] > _SPAN:
            groups.append([])
        groups[-1].append(channel)
    centres = [(group[0] + group[-1]) // 2 for group in groups]
    made: dict[str, Any] = {
        "chan_FSK": {"enable": False}, "chan_Lora_std": {"enable": False},
        "radio_0": {"enable": True, "freq": centres[0]},
        "radio_1": {"enable": len(centres) > 1, "freq": centres[-1]},
    }  # fmt: skip
    held = [(radio, channel) for radio, group in enumerate(groups) for channel in group]
    for number in range(8):
        one: dict[str, Any] = {"enable": number < len(held)}
        if number < len(held):
            radio, channel = held[number]
            one |= {"radio": radio, "if": channel - centres[radio]}
        made[f"chan_multiSF_{number}"] = one
    if wide is not None:
        radio = min(range(len(centres)), key=lambda at: abs(wide - centres[at]))
        made["chan_Lora_std"] = {
            "enable": True, "radio": radio, "if": wide - centres[radio], "bandwidth": 500_000,
            "spread_factor": 8,
        }  # fmt: skip
    return made


def router_config(region: Region, sub_band: int | None, now_s: float) -> str:
    """What a station is to hear and may send. Regulations, as of duty cycles, are its own affair."""
    rates: list[list[int]] = [[-1, 0, 0] for _ in range(16)]
    for table, only_down in ((region.downlink, 1), (region.uplink, 0)):
        for rate, number in table.items():
            factor, _, width = rate.removeprefix("SF").partition("BW")
            rates[number] = [int(factor), int(width), only_down]
    channels, wide = region.heard(sub_band)
    slow = [number for rate, number in region.uplink.items() if rate.endswith("BW125")]
    listed = [[channel, min(slow), max(slow)] for channel in channels]
    if wide is not None:
        fast = region.uplink["SF8BW500"]
        listed.append([wide, fast, fast])
    return json.dumps({
        "msgtype": "router_config", "NetID": None, "JoinEui": None, "region": region.station,
        "hwspec": "sx1301/1", "freq_range": [region.low, region.high], "DRs": rates, "upchannels": listed,
        "max_eirp": float(region.power_dbm), "protocol": 1, "bcning": None, "config": {},
        "sx1301_conf": [_radios(channels, wide)], "MuxTime": now_s,
    })  # fmt: skip


def downlink(order: Order, region: Region) -> str:
    """A dnmsg of class A: the station counts `RxDelay` from the uplink's xtime, by its own clock."""
    attempt = order.attempt
    body: dict[str, Any] = {
        "msgtype": "dnmsg", "DevEui": dashed(order.eui), "dC": 0, "diid": order.number,
        "pdu": order.phy.hex(), "priority": 0, "xtime": attempt.packet.tmst, "rctx": attempt.packet.rctx or 0,
    }  # fmt: skip
    numbered = [(region.downlink[one.data_rate], one.frequency) for one in attempt.windows]
    if len(numbered) == 2:
        body |= {"RxDelay": attempt.delay_s, "RX1DR": numbered[0][0], "RX1Freq": numbered[0][1]}
    else:  # the second window alone: a station adds the second between them
        body["RxDelay"] = attempt.delay_s - 1
    body |= {"RX2DR": numbered[-1][0], "RX2Freq": numbered[-1][1]}
    return json.dumps(body)


def time_sync(asked_: TimeSync, now_s: float) -> str:
    """GPS time, as far as this machine's clock knows it (us)."""
    gps = int((now_s - GPS_EPOCH_S) * 1_000_000)
    return json.dumps({"msgtype": "timesync", "txtime": asked_.txtime, "gpstime": gps, "MuxTime": now_s})
