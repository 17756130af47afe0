"""Gateways with LoRa Basics Station: discovery, uplinks, joins, downlinks, TLS, and who is not let in."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from devicemesh_lora import mac, station
from devicemesh_lora.model import LoraEndpoint
from devicemesh_lora.packet import Packet
from devicemesh_lora.regions import REGIONS
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from devicemesh.mapper import LinkError, SecretRef, Write

Run = Callable[[Any], None]
EU = REGIONS["EU868"]


def points(kit: Any, port: int, **more: Any) -> list[Any]:
    node, gateway = (
        kit.node(port, writeTimeout="3s"),
        kit.gateway(port, station=more.pop("station", {}), **more),
    )
    return [
        kit.point(0, node, "int16", port=2, offset=0),
        kit.point(1, gateway, "float64", stat="lastSeen"),
        kit.point(2, gateway, "float64", stat="txnb"),
    ]


def test_what_a_station_takes_apart_is_put_together_again(kit: Any) -> None:
    frames = [
        kit.frame(70_000, b"\x01\x02", 2),
        kit.frame(1, b"", None, address=0xFEDCBA98),  # a negative DevAddr, no FPort
        kit.frame(2, b"", 7, options=b"\x02\x02"),
        mac.join_request(kit.app_key, bytes(range(8)), bytes.fromhex(kit.eui), 0xFFFF),
    ]
    for phy in frames:
        text = json.dumps(kit.taken_apart(phy, -5))
        assert station.decode(text, kit.gateway_eui, EU, 9) == Packet(
            phy, kit.gateway_eui, -5, 868_100_000, "SF7BW125", -60.0, 5.5, 9, 3
        )
    proprietary = {"msgtype": "propdf", "FRMPayload": "e0aabb", "DR": 0, "Freq": 1, "upinfo": {"xtime": 1}}
    found = station.decode(json.dumps(proprietary), kit.gateway_eui, EU)
    assert isinstance(found, Packet) and found.phy == b"\xe0\xaa\xbb"
    assert station.decode('{"msgtype": "rmtsh"}', "", EU) == station.Other("rmtsh")


@pytest.mark.parametrize(
    "written", ["B827EBFFFEE1E39A", "b8-27-eb-ff-fe-e1-e3-9a", "b827:ebff:fee1:e39a", 0xB827EBFFFEE1E39A]
)
def test_spellings_of_an_eui(written: Any) -> None:
    assert station.eui(written) == "b827ebfffee1e39a"


def test_short_id6_and_what_is_no_eui() -> None:
    assert station.eui("::1") == "0000000000000001" and station.eui("1::") == "0001000000000000"
    for wrong in ("", "::", "1:2:3:4:5", "b827ebfffee1e39", "xyzw:1:2:3", None, True, 1 << 64, [], "1::2::3"):
        if wrong == "::":
            assert station.eui(wrong) == "0" * 16
            continue
        with pytest.raises(station.MessageError, match="is no EUI"):
            station.eui(wrong)


@pytest.mark.parametrize("name", sorted(REGIONS))
def test_router_config_of_each_region(name: str) -> None:
    region = REGIONS[name]
    told = json.loads(station.router_config(region, None, 1.5))
    assert told["msgtype"] == "router_config" and len(told["DRs"]) == 16 and told["MuxTime"] == 1.5
    radios, low, high = told["sx1301_conf"][0], *told["freq_range"]
    heard = []
    for number in range(8):
        channel = radios[f"chan_multiSF_{number}"]
        if channel["enable"]:
            assert abs(channel["if"]) <= 400_000
            heard.append(radios[f"radio_{channel['radio']}"]["freq"] + channel["if"])
    slow = [channel for channel, least, most in told["upchannels"] if least != most]
    assert heard == slow and all(low <= one <= high for one in heard)
    for rate, number in region.downlink.items():
        factor, width, only_down = told["DRs"][number]
        assert f"SF{factor}BW{width}" == rate and only_down == (rate not in region.uplink or number > 7)
    window = region.rx1(heard[0], "SF7BW125")
    assert window.data_rate in region.downlink and region.rx2.data_rate in region.downlink


def test_sub_bands() -> None:
    told = json.loads(station.router_config(REGIONS["US915"], 2, 0))
    assert told["upchannels"][0] == [903_900_000, 0, 3] and told["upchannels"][-1] == [904_600_000, 4, 4]
    wide = told["sx1301_conf"][0]["chan_Lora_std"]
    assert told["sx1301_conf"][0][f"radio_{wide['radio']}"]["freq"] + wide["if"] == 904_600_000
    told = json.loads(station.router_config(REGIONS["CN470"], None, 0))
    assert [one[0] for one in told["upchannels"]] == [486_300_000 + 200_000 * i for i in range(8)]
    with pytest.raises(ValueError, match="no sub-bands"):
        LoraEndpoint.model_validate({"listen": "127.0.0.1:1", "gateway": "1" * 16, "station": {"subBand": 2}})


def test_uplinks_and_a_write(kit: Any, run: Run) -> None:
    async def work() -> None:
        port = kit.free_port()
        held = points(kit, port)
        target = kit.point(9, held[0].endpoint, "uint8", port=5, offset=0)
        async with kit.session(held) as (session, heard):
            await kit.until(lambda: session.stations.listens)
            async with kit.box(port, "0102:0304:0506:0708") as box:
                assert box.sent[0]["msgtype"] == "router_config" and box.sent[0]["region"] == "EU863"
                await box.uplink(kit.frame(1, (215).to_bytes(2, "big")))
                await kit.until(lambda: heard.of(0) == [215])
                writing = asyncio.create_task(session.write([Write(target, 7)]))
                await asyncio.sleep(0)
                await box.uplink(kit.frame(2))
                assert (await writing)[0].error is None
                told = box.downlinks()[-1]
                assert told["xtime"] == box.xtime and told["rctx"] == 3 and told["dC"] == 0
                assert (told["RxDelay"], told["RX1DR"], told["RX1Freq"]) == (1, 5, 868_100_000)
                assert (told["RX2DR"], told["RX2Freq"]) == (0, 869_525_000)
                frame = mac.decode(bytes.fromhex(told["pdu"]))
                assert (
                    isinstance(frame, mac.DataFrame) and frame.opened(kit.keys[1], frame.counter16) == b"\x07"
                )
                await box.say({"msgtype": "timesync", "txtime": 99})
                await kit.until(lambda: box.sent[-1]["msgtype"] == "timesync")
                assert box.sent[-1]["txtime"] == 99 and box.sent[-1]["gpstime"] > 1.3e15
                await kit.until(lambda: heard.of(2) and heard.of(2)[-1] >= 1)
            await kit.until(lambda: not session.gateways.reachable)

    run(work())


def test_a_downlink_that_is_not_sent_waits_for_the_next_uplink(kit: Any, run: Run) -> None:
    async def work() -> None:
        port = kit.free_port()
        held = points(kit, port)
        target = kit.point(9, kit.node(port, writeTimeout="100ms"), "uint8", port=5, offset=0)
        async with kit.session(held) as (session, _):
            await kit.until(lambda: session.stations.listens)
            async with kit.box(port) as box:
                box.silent = True
                writing = asyncio.create_task(session.write([Write(target, 7)]))
                await asyncio.sleep(0)
                await box.uplink(kit.frame(1))
                (late,) = await writing
                assert late.error.reason == "NoAnswer" and len(box.downlinks()) == 1
                box.silent = False
                await box.uplink(kit.frame(2))
                await kit.until(lambda: not session.network.by_eui[kit.eui].queue or
                                session.network.by_eui[kit.eui].queue[0].done.done())  # fmt: skip
                assert len(box.downlinks()) == 2

    run(work())


def test_a_device_joins_by_a_station(kit: Any, run: Run) -> None:
    async def work() -> None:
        port = kit.free_port()
        node = kit.node(port, otaa={"appKey": {"name": "node", "key": "appKey"}})
        held = [kit.point(0, node, "int16", port=2, offset=0),
                kit.point(1, kit.gateway(port, station={}), "float64", stat="lastSeen")]  # fmt: skip
        async with kit.session(held) as (session, heard):
            await kit.until(lambda: session.stations.listens)
            async with kit.box(port) as box:
                await box.uplink(mac.join_request(kit.app_key, bytes(8), bytes.fromhex(kit.eui), 7))
                await kit.until(box.downlinks)
                told = box.downlinks()[0]
                assert told["RxDelay"] == 5 and told["DevEui"] == "70-B3-D5-7E-D0-00-00-01"
                accept = mac.open_join_accept(kit.app_key, bytes.fromhex(told["pdu"]))
                keys = mac.session_keys(kit.app_key, accept.join_nonce, accept.net_id, 7)
                await box.uplink(kit.frame(0, b"\x00\x05", keys=keys, address=accept.dev_addr))
                await kit.until(lambda: heard.of(0) == [5])

    run(work())


def test_a_station_and_a_forwarder_in_front_of_one_network(kit: Any, run: Run) -> None:
    """Their copies of an uplink are one; the better gateway is asked to answer, the other one after it."""

    async def work() -> None:
        port, other = kit.free_port(), "0908070605040302"
        held = [*points(kit, port), kit.point(3, kit.gateway(port, other), "float64", stat="lastSeen")]
        async with kit.session(held) as (session, heard), kit.forwarder(port, other) as radio:
            await kit.until(lambda: session.stations.listens)
            async with kit.box(port) as box:
                phy = kit.frame(1, (3).to_bytes(2, "big"), kind=mac.MType.CONFIRMED_UP)
                radio.uplink(phy, lsnr=-9.0)
                await box.uplink(phy)
                await kit.until(lambda: heard.of(0) == [3])
                await kit.until(box.downlinks)
                radio.refuse = ["TOO_LATE"] * 2
                await box.say(kit.taken_apart(phy := kit.frame(2, kind=mac.MType.CONFIRMED_UP),
                                              upinfo={"xtime": 1, "snr": -15}))  # fmt: skip
                radio.uplink(phy)
                await kit.until(lambda: len(radio.sent) == 2 and len(box.downlinks()) == 2)
                told = box.downlinks()[1]  # the second window alone: the station adds its second
                assert told["RxDelay"] == 1 and "RX1DR" not in told and told["RX2DR"] == 0
                assert heard.of(0) == [3, 215] and session.network.by_eui[kit.eui].refused == 0

    run(work())


def test_who_is_not_let_in(kit: Any, run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        port = kit.free_port()
        held = points(kit, port, station={"token": {"name": "roof", "key": "appKey"}})
        udp = kit.gateway(port, "0908070605040302")
        held.append(kit.point(3, udp, "float64", stat="lastSeen"))
        right = {"Authorization": f"Bearer {kit.app_key.hex()}"}

        async def refused(path: str, headers: dict[str, str]) -> int:
            with pytest.raises(InvalidStatus) as caught:
                async with connect(f"ws://127.0.0.1:{port}{path}", additional_headers=headers):
                    pytest.fail("it was let in")
            return int(caught.value.response.status_code)

        async with kit.session(held) as (session, _):
            await kit.until(lambda: session.stations.listens)
            assert await refused("/", {}) == 404 and await refused("/gateway/xyz", {}) == 404
            for path in ("/gateway/ffffffffffffffff", f"/gateway/{udp.eui}", f"/gateway/{kit.gateway_eui}"):
                assert await refused(path, right if path.endswith(udp.eui) else {}) == 403
            assert await refused(f"/gateway/{kit.gateway_eui}", {"Authorization": "Bearer x"}) == 403
            async with connect(f"ws://127.0.0.1:{port}/router-info") as asking:
                await asking.send('{"router": "::ffff"}')
                told = json.loads(await asking.recv())
                assert told == {"router": "00-00-00-00-00-00-FF-FF", "error": "it is not declared"}
            newer = kit.box(port, additional_headers=right)
            async with kit.box(port, additional_headers=right) as first, newer as box:
                await first.connection.wait_closed()
                assert box.sent
            assert "is not let in: its header Authorization is not the declared token" in caplog.text
            async with kit.forwarder(port, udp.eui) as radio:
                radio.eui = bytes.fromhex(kit.gateway_eui)
                radio.uplink(kit.frame(1))
                await kit.until(lambda: "it is declared with `station`" in caplog.text)

    run(work())


def test_nonsense_is_counted_and_harms_nobody(kit: Any, run: Run) -> None:
    async def work() -> None:
        port = kit.free_port()
        async with kit.session(points(kit, port)) as (session, heard):
            await kit.until(lambda: session.stations.listens)
            async with kit.box(port) as box:
                for wrong in ("", "[", b"\x00shell", "[]", "{}", "[" * 5000, '{"msgtype": "updf"}'):
                    await box.say(wrong)
                await box.say({"msgtype": "futureword", "x": 1})
                await box.say(kit.taken_apart(kit.frame(1), MIC=5))
                await box.uplink(kit.frame(2, (4).to_bytes(2, "big")))
                await kit.until(lambda: heard.of(0) == [4])
                assert session.gateways.by_eui[kit.gateway_eui].refused == 7
                with pytest.raises(ConnectionClosed):
                    await box.say("x" * (station.MOST_BYTES + 1))
                    await box.connection.wait_closed()
                    await box.say("{}")
            async with kit.box(port) as box:
                await box.uplink(kit.frame(3, (5).to_bytes(2, "big")))
                await kit.until(lambda: heard.of(0) == [4, 5])

    run(work())


def test_a_taken_port_is_a_link_error(kit: Any, run: Run) -> None:
    async def work() -> None:
        port = kit.free_port()
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", port)
        async with server:
            with pytest.raises(LinkError, match=f"can't open listen 127.0.0.1:{port} for stations"):
                async with kit.session(points(kit, port)) as (_, heard):
                    await kit.until(lambda: heard.errors, 0.5)

    run(work())


@pytest.mark.parametrize("by_reference", [False, True])
def test_tls_with_certificates_of_gateways(kit: Any, run: Run, tmp_path: Path, by_reference: bool) -> None:
    authority = kit.authority(tmp_path)
    server, client = authority.certificate("server"), authority.certificate("gateway")
    tls: dict[str, Any] = {"certFile": str(server[0]), "keyFile": str(server[1])}
    secrets = {"tls.crt": server[0].read_text(), "tls.key": server[1].read_text()}
    if by_reference:
        tls = {
            "certificate": {"name": "lns", "key": "tls.crt"},
            "privateKey": {"name": "lns", "key": "tls.key"},
        }

    def read(ref: SecretRef) -> str:
        return secrets.get(ref.key) or kit.read_secret(ref)

    async def work() -> None:
        port = kit.free_port()
        held = points(kit, port, station={"tls": {**tls, "clientCaFile": str(authority.file)}})
        bare = ssl.create_default_context(cafile=str(authority.file))
        known = ssl.create_default_context(cafile=str(authority.file))
        known.load_cert_chain(*client)
        async with kit.session(held, read) as (session, heard):
            await kit.until(lambda: session.stations.listens)
            with pytest.raises((OSError, InvalidMessage)):
                async with kit.box(port, ssl=bare):
                    pytest.fail("a gateway without a certificate was let in")
            async with kit.box(port, ssl=known) as box:
                await box.uplink(kit.frame(1))
                await kit.until(lambda: heard.of(0) == [215])

    run(work())


def test_a_certificate_that_is_missing_harms_no_forwarder(kit: Any, run: Run) -> None:
    async def work() -> None:
        port, other = kit.free_port(), "0908070605040302"
        held = points(kit, port, station={"tls": {"certFile": "/nowhere.pem"}})
        held.append(kit.point(3, kit.gateway(port, other), "float64", stat="lastSeen"))
        async with kit.session(held) as (_, heard), kit.forwarder(port, other) as radio:
            radio.uplink(kit.frame(1))
            await kit.until(lambda: heard.of(0) and heard.errors)
            assert "can't be used" in str(heard.errors[0]) and "No such file" in str(heard.errors[0])

    run(work())
