"""The packet forwarder's datagrams (Semtech's PROTOCOL.TXT, version 2). Pure.

A header of 4 bytes (version, a token of 2, the kind), mostly the gateway's EUI, and a JSON object.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from devicemesh_lora import fields
from devicemesh_lora.packet import Order, Packet

PUSH_DATA, PUSH_ACK, PULL_DATA, PULL_RESP, PULL_ACK, TX_ACK = range(6)
VERSIONS = (1, 2)
MOST_PACKETS = 256
"""Of one PUSH_DATA: more is no gateway."""
TMST_TURN = 1 << 32
"""The gateway's counter of microseconds wraps, each 71.6 minutes."""


class DatagramError(ValueError):
    """A datagram that is not of the protocol; says why."""


@dataclass(frozen=True, slots=True)
class Datagram:
    """A datagram of a gateway."""

    version: int
    token: bytes
    kind: int
    gateway: str  # its EUI, 16 hexadecimal digits
    body: bytes

    def acknowledgement(self) -> bytes:
        """PUSH_ACK or PULL_ACK."""
        kind = PUSH_ACK if self.kind == PUSH_DATA else PULL_ACK
        return bytes((self.version,)) + self.token + bytes((kind,))


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a PUSH_DATA brings."""

    packets: list[Packet]
    bad_crc: int  # packets that the gateway heard with errors (stat other than 1)
    broken: list[str]  # why others could not be read
    stat: Mapping[str, float | str]  # the gateway's own report, if there is one


def decode(data: bytes) -> Datagram:
    """Take a datagram of a gateway apart. Raises DatagramError."""
    if len(data) < 12:
        raise DatagramError(f"it has {len(data)} bytes, 12 at least are needed")
    if data[0] not in VERSIONS:
        raise DatagramError(f"protocol version {data[0]} is not known, only 1 and 2")
    if data[3] not in (PUSH_DATA, PULL_DATA, TX_ACK):
        raise DatagramError(f"a gateway does not send datagrams of kind {data[3]}")
    return Datagram(data[0], data[1:3], data[3], data[4:12].hex(), data[12:])


def _object(body: bytes) -> dict[str, Any]:
    try:
        return fields.parsed(body)
    except ValueError as error:
        raise DatagramError(f"of its body: {error}") from error


def pushed(datagram: Datagram, time_ns: int = 0) -> Pushed:
    """The body of a PUSH_DATA that came at `time_ns`. Raises DatagramError.

    One bad packet does not harm the others.
    """
    body = _object(datagram.body)
    listed = body.get("rxpk", [])
    if not isinstance(listed, list) or len(listed) > MOST_PACKETS:
        raise DatagramError(f"its rxpk is no list of at most {MOST_PACKETS} packets")
    packets, broken, bad_crc = [], [], 0
    for one in listed:
        if isinstance(one, dict) and one.get("stat", 1) != 1:
            bad_crc += 1
            continue
        try:
            packets.append(_packet(one, datagram.gateway, time_ns))
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            said = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            broken.append(said[:80])
    stat = body.get("stat", {})
    return Pushed(packets, bad_crc, broken, _report(stat if isinstance(stat, dict) else {}))


def _packet(one: Any, gateway: str, time_ns: int) -> Packet:
    if not isinstance(one, dict):
        raise ValueError("a packet is no object")
    if one.get("modu", "LORA") != "LORA":
        raise ValueError(f"its modulation is {one['modu']!r}, not LORA")
    phy = fields.unpadded(one["data"])
    size = one.get("size", len(phy))
    if size != len(phy):
        raise ValueError(f"it says {size!r} bytes and has {len(phy)}")
    tmst = fields.integer(one["tmst"], 0, TMST_TURN - 1, "tmst")
    rate = one["datr"]
    if not isinstance(rate, str) or len(rate) > 12:
        raise ValueError(f"its datr {rate!r} is no LoRa data rate")
    return Packet(
        phy, gateway, tmst, round(fields.number(one["freq"]) * 1_000_000), rate,
        fields.number(one.get("rssi", -140)), fields.number(one.get("lsnr", -40)), time_ns,
    )  # fmt: skip


_NUMBERS = {
    "lati": "latitude", "long": "longitude", "alti": "altitude", "rxnb": "rxnb", "rxok": "rxok",
    "rxfw": "rxfw", "ackr": "ackr", "dwnb": "dwnb", "txnb": "txnb",
}  # fmt: skip


def _report(stat: Mapping[str, Any]) -> dict[str, float | str]:
    """The numbers of a gateway's report, by our names; what is no number is left out."""
    found: dict[str, float | str] = {}
    for theirs, ours in _NUMBERS.items():
        if theirs not in stat:
            continue
        with contextlib.suppress(ValueError, OverflowError):
            found[ours] = fields.number(stat.get(theirs))
    return found


def transmission_error(datagram: Datagram) -> str:
    """What a TX_ACK says: empty if all is well, else TOO_LATE and its like. Raises DatagramError.

    A body of nothing means well (PROTOCOL.TXT, 5.5). A warning, as of a reduced power, is no error.
    """
    if not datagram.body.strip(b"\0 \r\n"):
        return ""
    ack = _object(datagram.body).get("txpk_ack", {})
    error = ack.get("error", "NONE") if isinstance(ack, dict) else "NONE"
    word = str(error)[:40]
    return "" if word in ("NONE", "") else word


def transmit(order: Order) -> bytes:
    """A PULL_RESP: send this so many microseconds after the uplink, by the gateway's `tmst` (it wraps)."""
    attempt = order.attempt
    window, phy = attempt.windows[0], order.phy
    packet = {
        "imme": False, "tmst": (attempt.packet.tmst + attempt.delay_s * 1_000_000) % TMST_TURN,
        "freq": window.frequency / 1_000_000, "rfch": 0, "powe": order.power_dbm,
        "modu": "LORA", "datr": window.data_rate, "codr": "4/5", "ipol": True, "size": len(phy), "ncrc": True,
        "data": base64.b64encode(phy).decode(),
    }  # fmt: skip
    body = json.dumps({"txpk": packet}, separators=(",", ":")).encode()
    return b"\x02" + order.number.to_bytes(2, "big") + bytes((PULL_RESP,)) + body
