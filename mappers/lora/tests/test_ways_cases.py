"""What stations and network servers send wrong, one folder each: it is counted, says why, and harms nobody else.

`station-*`: `send` are messages of a gateway; of `expect`, `refused` counts at the gateway, `node` and `reason` at
the device. `chirpstack-*` and `things-*`: `send` are messages of the broker; `refused` counts at the session. In
all, `values` are the device's before the last, good uplink; `errors` the reasons of its bad values.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from devicemesh_lora.model import LoraEndpoint
from devicemesh_lora.servers import ServerSession
from websockets.exceptions import ConnectionClosed

from devicemesh.testing.contract import rows

ALL = sorted(p for p in (Path(__file__).parent / "cases").iterdir())
STATIONS = [p for p in ALL if p.name.startswith("station-")]
SERVERS = [p for p in ALL if p.name.startswith(("chirpstack-", "things-"))]
GOOD, APP = 777, "b3a1"
BASE: dict[str, Any] = {
    "chirpstack": {"fPort": 2, "rxInfo": [{"gatewayId": "0102030405060708", "rssi": -60, "snr": 5}]},
    "things": {"f_port": 2, "rx_metadata": [{"gateway_ids": {"eui": "0102030405060708"}, "rssi": -60}]},
}


def text(one: dict[str, Any], kit: Any) -> str | bytes:
    """A message of a station."""
    if "hex" in one:
        return bytes.fromhex(one["hex"])
    if "raw" in one:
        return str(one["raw"])
    if "deep" in one:
        return str(one.get("open", "[")) * one["deep"]
    if "size" in one:
        return '{"msgtype": "' + "x" * one["size"] + '"}'
    if "uplink" in one:
        phy = kit.frame(one["uplink"], b"\x00\xd7")
        made = {**kit.taken_apart(phy), **one.get("but", {})}
        return json.dumps({name: value for name, value in made.items() if name not in one.get("without", ())})
    return json.dumps(one["say"])


@pytest.mark.parametrize("folder", STATIONS, ids=lambda p: p.name)
def test_station(folder: Path, kit: Any, run: Callable[[Any], None]) -> None:
    case = yaml.safe_load((folder / "case.yaml").read_text())
    expect = case["expect"]

    async def work() -> None:
        port = kit.free_port()
        node, gateway = kit.node(port), kit.gateway(port, station={})
        points = [
            kit.point(0, node, "int16", port=2, offset=0),
            kit.point(1, gateway, "float64", stat="lastSeen"),
        ]
        async with kit.session(points) as (session, heard):
            await kit.until(lambda: session.stations.listens)
            async with kit.box(port) as box:
                with contextlib.suppress(ConnectionClosed):
                    for one in case["send"]:
                        await box.say(text(one, kit))
                if expect.get("closed"):
                    await asyncio.wait_for(box.connection.wait_closed(), 10)
                else:
                    await box.uplink(kit.frame(40_000, GOOD.to_bytes(2, "big")))
                    await kit.until(lambda: GOOD in heard.of(0))
            if expect.get("closed"):
                async with kit.box(port) as box:
                    await box.uplink(kit.frame(40_000, GOOD.to_bytes(2, "big")))
                    await kit.until(lambda: GOOD in heard.of(0))
            device = session.network.by_eui[kit.eui]
            assert heard.of(0)[:-1] == expect.get("values", [])
            assert session.gateways.by_eui[kit.gateway_eui].refused == expect.get("refused", 0)
            assert (device.refused, device.refused_reason) == (
                expect.get("node", 0),
                expect.get("reason", ""),
            )
            assert {error.reason for error in heard.errors} == set(expect.get("errors", []))

    run(work())


def message(one: dict[str, Any], way: str, kit: Any) -> tuple[str, bytes]:
    """(topic, body) of a broker's message."""
    head = (
        f"application/{APP}/device/{kit.eui}/event/"
        if way == "chirpstack"
        else f"v3/{APP}@ttn/devices/probe/"
    )
    topic = one["topic"] if "topic" in one else head + one.get("kind", "up")
    if "hex" in one:
        return topic, bytes.fromhex(one["hex"])
    if "raw" in one:
        return topic, str(one["raw"]).encode()
    if "deep" in one:
        return topic, str(one.get("open", "[")).encode() * one["deep"]
    if "say" in one:
        return topic, json.dumps(one["say"]).encode()
    inner = {**BASE[way], **one["up"]}
    ids = {"device_id": "probe", "dev_eui": kit.eui.upper()}
    return topic, json.dumps(
        inner if way == "chirpstack" else {"end_device_ids": ids, "uplink_message": inner}
    ).encode()


@pytest.mark.parametrize("folder", SERVERS, ids=lambda p: p.name)
def test_server(folder: Path, kit: Any, run: Callable[[Any], None]) -> None:
    case, way = yaml.safe_load((folder / "case.yaml").read_text()), folder.name.partition("-")[0]
    expect = case["expect"]
    server: dict[str, Any] = {"broker": "mqtt://127.0.0.1:1", "application": APP}
    if way == "chirpstack":
        fields: dict[str, Any] = {"chirpstack": server, "devEui": kit.eui}
        last = {"up": {"fCnt": 40_000, "data": "Awk="}}
    else:
        server |= {"tenant": "ttn", "apiKey": {"name": "n"}}
        fields = {"thingsStack": server, "devEui": kit.eui}
        last = {"up": {"f_cnt": 40_000, "frm_payload": "Awk="}}

    async def work() -> None:
        node = LoraEndpoint.model_validate(fields)
        pointed = [kit.point(1, node, "float64", pointer="/t")] if case.get("decoded") else []
        session = ServerSession(node)
        session.declare([kit.point(0, node, "int16", port=2, offset=0), *pointed])
        for one in case["send"]:
            topic, body = message(one, way, kit)
            session.received(topic, None if one.get("tooLarge") else body, one.get("retained", False))
        session.received(*message(last, way, kit), False)
        values: list[Any] = []
        reasons: set[str] = set()
        async with contextlib.aclosing(session.out.batches(None)) as batches:
            async for batch in batches:
                for row in rows(batch):
                    if row.error is not None:
                        reasons.add(row.error.reason)
                    elif row.slot == 0 or case.get("decoded"):
                        values.append(row.value)
                if GOOD in values:
                    break
        assert values[:-1] == expect.get("values", [])
        assert session.refused == expect.get("refused", 0)
        assert session.remotes[kit.eui].lost == expect.get("lost", session.remotes[kit.eui].lost)
        assert session.remotes[kit.eui].refused_reason == expect.get("reason", "")
        assert reasons == set(expect.get("errors", []))

    run(work())
