"""What gateways and devices do wrong, one folder each: it is counted, says why, and harms nobody else.

`send` are datagrams. Of `expect`: `values` of the device before the last, good uplink; `server`, `gateway` and
`node` count what was refused at each; `reason` is the device's; `errors` that of its values.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from devicemesh_lora import mac

CASES = sorted(p for p in (Path(__file__).parent / "cases").iterdir() if p.name[:2].isdigit())
JOINER = "70b3d57ed0000003"
GOOD = 777
FIELDS = ("data", "size", "freq", "tmst", "stat")


def uplink(kit: Any, wish: dict[str, Any]) -> bytes:
    wish = {"payload": "00d7", **wish}
    payload = bytes.fromhex(wish.pop("payload")) + bytes(wish.pop("pad", 0))
    if "options" in wish:
        wish["options"] = bytes.fromhex(wish["options"])
    if wish.pop("confirmed", False):
        wish["kind"] = mac.MType.CONFIRMED_UP
    phy: bytes = kit.frame(wish.pop("counter"), payload, wish.pop("port", 2), **wish)
    return phy


def flipped(phy: bytes, at: int) -> bytes:
    made = bytearray(phy)
    made[at] ^= 1
    return bytes(made)


def send(kit: Any, radio: Any, one: dict[str, Any]) -> None:
    """One datagram, or many, of a case."""
    head = bytes((one.get("version", 2),)) + b"cc\x00" + bytes.fromhex(one.get("as", kit.gateway_eui))
    if "hex" in one:
        radio.send(bytes.fromhex(one["hex"]))
    elif "push" in one:
        radio.send(head + json.dumps(one["push"]).encode())
    elif "body" in one:
        radio.send(head + bytes.fromhex(one["body"]))
    elif "raw" in one:
        radio.send(head + one["raw"].encode())
    elif "rxpk" in one:
        radio.send(head + json.dumps({"rxpk": [0] * one["rxpk"]}).encode())
    elif "deep" in one:
        radio.send(head + b"[" * one["deep"])
    elif "digits" in one:
        number = "9" * one["digits"]
        radio.send(head + f'{{"stat":{{"rxok":{number}}},"rxpk":[{{"data":"","tmst":{number}}}]}}'.encode())
    elif "pulls" in one:
        for number in range(one["pulls"]):
            radio.send(b"\x02cc\x02" + number.to_bytes(8, "big"))
    elif "ack" in one:
        radio.send(head[:3] + b"\x05" + head[4:] + bytes.fromhex(one["ack"]))
    elif "join" in one:
        radio.uplink(mac.join_request(kit.app_key, bytes(8), bytes.fromhex(JOINER), one["join"]))
    else:
        phy = bytes.fromhex(one["phy"]) if "phy" in one else uplink(kit, one["uplink"])
        phy = flipped(phy, one["flip"]) if "flip" in one else phy
        data = base64.b64encode(phy).decode()
        data = data.rstrip("=").replace("+", "-").replace("/", "_") if one.get("unpadded") else data
        packet = {"tmst": 5, "freq": 868.1, "datr": "SF7BW125", "size": len(phy), "data": data}
        packet |= {name: one[name] for name in FIELDS if name in one}
        radio.send(head + json.dumps({"rxpk": [packet]}).encode())


def test_all_entries_of_the_list_are_there() -> None:
    assert {int(folder.name[:2]) for folder in CASES} == set(range(1, 21))


def heard_of(session: Any) -> int:
    joiner = session.network.by_eui[JOINER]
    count: int = joiner.refused + joiner.kept.join_nonce
    return count


async def joined(kit: Any, joiner: Any, radio: Any, expect: dict[str, Any]) -> None:
    await kit.until(lambda: len(radio.sent) >= expect.get("joined", 0))
    assert joiner.refused == expect.get("refused", 0) and joiner.refused_reason == expect.get("reason", "")
    assert joiner.kept.join_nonce == expect.get("joined", 0)


@pytest.mark.parametrize("folder", CASES, ids=lambda p: p.name)
def test_case(folder: Path, kit: Any, run: Callable[[Any], None]) -> None:
    case = yaml.safe_load((folder / "case.yaml").read_text())
    expect = case["expect"]

    async def work() -> None:
        port = kit.free_port()
        node, other = kit.node(port), "ff02030405060708"
        joiner = kit.node(port, devEui=JOINER, otaa={"appKey": {"name": "node", "key": "appKey"}})
        points = [
            kit.point(0, node, "int16", port=2, offset=0),
            kit.point(1, kit.gateway(port), "float64", stat="lastSeen"),
            kit.point(2, kit.gateway(port, other, sender="192.0.2.0/24"), "float64", stat="lastSeen"),
            kit.point(3, joiner, "string", stat="refusedReason"),
        ]
        async with kit.session(points) as (session, heard), kit.forwarder(port) as radio:
            device = session.network.by_eui[kit.eui]
            for one in case["send"]:
                before = device.uplinks + device.refused
                joiner_before = heard_of(session)
                send(kit, radio, one)
                if "join" in one:
                    await kit.until(lambda before=joiner_before: heard_of(session) > before)
                if expect.get("values"):
                    await kit.until(lambda before=before: device.uplinks + device.refused > before)
            good = kit.frame(70_000, GOOD.to_bytes(2, "big"))
            if not any(one.get("uplink", {}).get("counter", 0) > 60_000 for one in case["send"]):
                good = kit.frame(40_000, GOOD.to_bytes(2, "big"))
            radio.uplink(good)
            await kit.until(lambda: GOOD in heard.of(0))
            gateway = session.gateways.by_eui[kit.gateway_eui]
            assert heard.of(0)[:-1] == expect.get("values", [])
            assert session.gateways.refused == expect.get("server", 0)
            assert (gateway.refused, gateway.bad_crc) == (expect.get("gateway", 0), expect.get("badCrc", 0))
            assert (device.refused, device.refused_reason) == (
                expect.get("node", 0),
                expect.get("reason", ""),
            )
            await joined(kit, session.network.by_eui[JOINER], radio, expect.get("joiner", {}))
            if "sent" in expect:
                await kit.until(lambda: radio.sent)
                assert [packet["tmst"] for packet in radio.sent] == expect["sent"]
            reasons = {error.reason for error in heard.errors}
            assert "errors" not in expect or expect["errors"] in reasons

    run(work())
