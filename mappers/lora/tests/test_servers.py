"""Devices of ChirpStack and The Things Stack, over a real broker: what their messages tell, and downlinks."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from devicemesh_lora import uri
from devicemesh_lora.discover import found
from devicemesh_lora.happening import Reported
from devicemesh_lora.mapper import LoraMapper
from devicemesh_lora.model import LoraAddress, LoraCommand, LoraEndpoint
from devicemesh_lora.servers import open_session

from devicemesh.mapper import AuthError, ConfigError, Invocation, LinkError, PointError, SecretRef, Write
from devicemesh.spec.base import Protocol
from devicemesh.spec.manifest import load
from devicemesh.spec.values import ValueType
from devicemesh.testing.broker import RealBroker

Run = Callable[[Any], None]
EUI, OTHER, GATEWAY = "70b3d57ed0000001", "70b3d57ed0000002", "0102030405060708"
APP = "b3a1"
CHIRPSTACK_UP = f"application/{APP}/device/{EUI}/event/up"


@pytest.fixture(scope="module")
def broker() -> Iterator[RealBroker]:
    with RealBroker(configuration="persistence false\nmessage_size_limit 0") as found:
        yield found


class Server:
    """The network server's end: publishes what a test hands it, keeps the downlinks."""

    def __init__(self, port: int, downlinks: str) -> None:
        self.queued: list[dict[str, Any]] = []
        self._ready = threading.Event()
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self._client.on_message = lambda _, __, message: self.queued.append(json.loads(message.payload))
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.connect("127.0.0.1", port)
        self._client.subscribe(downlinks, 1)
        self._client.loop_start()
        assert self._ready.wait(10)

    def say(self, topic: str, body: Any, *, retain: bool = False) -> None:
        payload = body if isinstance(body, bytes) else json.dumps(body)
        self._client.publish(topic, payload, 1, retain=retain).wait_for_publish(10)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def up(counter: int, data: bytes = b"\x00\xd7", **more: Any) -> dict[str, Any]:
    """An uplink as ChirpStack v4 writes it: no zero in rxInfo."""
    return {
        "deduplicationId": f"d{counter}", "time": "2026-01-02T03:04:05.678901234+00:00",
        "deviceInfo": {"devEui": EUI, "applicationId": APP}, "devAddr": "01abcdef", "adr": True, "dr": 5,
        "fCnt": counter, "fPort": 2, "confirmed": False, "data": base64.b64encode(data).decode(),
        "rxInfo": [{"gatewayId": "ffff030405060708", "rssi": -110, "snr": -4.5},
                   {"gatewayId": GATEWAY, "rssi": -60, "location": {"latitude": 52.5, "longitude": 13.4}}],
        "txInfo": {"frequency": 868100000,
                   "modulation": {"lora": {"bandwidth": 125000, "spreadingFactor": 7, "codeRate": "CR_4_5"}}},
        **more,
    }  # fmt: skip


def things_up(counter: int, data: bytes = b"\x00\xd7", **more: Any) -> dict[str, Any]:
    """An uplink as The Things Stack writes it: fields that are zero are not there."""
    inner = {
        "session_key_id": "AXA=", "f_port": 2, "frm_payload": base64.b64encode(data).decode(),
        "rx_metadata": [{"gateway_ids": {"gateway_id": "roof", "eui": GATEWAY.upper()}, "rssi": -60, "snr": 9.2,
                         "location": {"latitude": 52.5}}],
        "settings": {"data_rate": {"lora": {"bandwidth": 125000, "spreading_factor": 7}}, "frequency": "868100000"},
        "received_at": f"2026-01-02T03:04:{counter % 60:02d}.678Z", **({"f_cnt": counter} if counter else {}), **more,
    }  # fmt: skip
    return {
        "end_device_ids": {"device_id": "probe", "application_ids": {"application_id": APP}, "dev_eui": EUI.upper()},
        "correlation_ids": ["as:up:1"], "uplink_message": inner,
    }  # fmt: skip


def endpoint(broker: Any, way: str = "chirpstack", **more: Any) -> LoraEndpoint:
    server: dict[str, Any] = {"broker": broker if isinstance(broker, str) else broker.url, "application": APP}
    server |= more.pop("server", {})
    if way == "thingsStack":
        server = {"tenant": "ttn", "apiKey": {"name": "tts", "key": "nwkSKey"}, **server}
    if "gateway" not in more:
        more = {"devEui": EUI, **more}
    return LoraEndpoint.model_validate({way: server, **more})


@asynccontextmanager
async def running(kit: Any, points: list[Any], broker: RealBroker) -> AsyncIterator[tuple[Any, Any, Server]]:
    """A session that is subscribed, what it delivers, and the server."""
    way = points[0].endpoint
    mine = (
        f"application/{APP}/device/+/command/down" if way.chirpstack else f"v3/{APP}@ttn/devices/+/down/push"
    )
    server = await asyncio.to_thread(Server, broker.port, mine)
    try:
        async with kit.session(points) as (session, heard):
            await kit.until(lambda: session.topics)
            yield session, heard, server
    finally:
        server.close()


STATS = ("rssi", "snr", "dataRate", "gateway", "gateways", "counter", "lost", "port", "frequency")


def test_uplinks_of_chirpstack(kit: Any, run: Run, broker: RealBroker) -> None:
    async def work() -> None:
        node, gateway = endpoint(broker), endpoint(broker, gateway=GATEWAY)
        points = [
            kit.point(0, node, "int16", port=2, offset=0),
            kit.point(1, node, "float64", pointer="/temperature"),
            kit.point(2, gateway, "float64", stat="latitude"),
            kit.point(3, gateway, "uint32", stat="rxok"),
            kit.point(4, gateway, "bool", stat="online"),
            kit.point(5, node, "bool", stat="adr"),
            kit.point(6, node, "string", stat="deduplicationId"),
            kit.point(7, node, "float64", stat="battery"),
            kit.point(8, node, "float64", stat="margin"),
            *(kit.point(10 + at, node, "string" if name in ("dataRate", "gateway") else "float64", stat=name)
              for at, name in enumerate(STATS)),
        ]  # fmt: skip
        async with running(kit, points, broker) as (session, heard, server):
            server.say(CHIRPSTACK_UP, up(0, object={"temperature": 21.5}))
            server.say(CHIRPSTACK_UP, up(3, object={"temperature": 22}))
            server.say(CHIRPSTACK_UP, up(3, object={"temperature": 22}))  # again, by the broker
            await kit.until(lambda: len(heard.of(1)) == 2 and len(heard.of(10)) == 2)
            assert heard.of(0) == [215, 215] and heard.of(1) == [21.5, 22] and heard.of(5) == [1, 1]
            last = dict(zip(STATS, [heard.of(10 + at)[-1] for at in range(len(STATS))], strict=True))
            assert last == {
                "rssi": -60, "snr": 0, "dataRate": "SF7BW125", "gateway": GATEWAY, "gateways": 2, "counter": 3,
                "lost": 2, "port": 2, "frequency": 868_100_000,
            }  # fmt: skip
            assert heard.of(6)[-1] == "d3" and heard.of(2) == [52.5, 52.5]
            server.say(f"gateway/{GATEWAY}/event/stats", {"gatewayId": GATEWAY, "rxPacketsReceivedOk": 5})
            server.say(f"gateway/{GATEWAY}/state/conn", {"gatewayId": GATEWAY, "state": "ONLINE"})
            server.say(f"application/{APP}/device/{EUI}/event/status", {"margin": 7, "batteryLevel": 88.5})
            await kit.until(lambda: heard.of(3) == [5] and heard.of(4) == [1] and heard.of(7) == [88.5])
            server.say(f"application/{APP}/device/{EUI}/event/join", {"devAddr": "01abcdef"})
            server.say(CHIRPSTACK_UP, up(0, object={"temperature": 1}))
            await kit.until(lambda: len(heard.of(1)) == 3)
            assert session.remotes[EUI].lost == 2 and heard.of(8) == [7] and not heard.errors
            server.say(CHIRPSTACK_UP, up(1))
            await kit.until(lambda: heard.errors)
            assert "needs a codec for this device" in str(heard.errors[0])

    run(work())


def test_prefixes_of_topics(kit: Any, run: Run, broker: RealBroker) -> None:
    async def work() -> None:
        server_ = {"topicPrefix": "site/a", "regionPrefix": "eu868"}
        node, gateway = endpoint(broker, server=server_), endpoint(broker, gateway=GATEWAY, server=server_)
        points = [kit.point(0, node, "int16", offset=0), kit.point(1, gateway, "uint32", stat="txnb")]
        async with running(kit, points, broker) as (_, heard, server):
            server.say(f"site/a/{CHIRPSTACK_UP}", up(1))
            server.say(f"eu868/gateway/{GATEWAY}/event/stats", {"txPacketsEmitted": 9})
            await kit.until(lambda: heard.of(0) == [215] and heard.of(1) == [9])

    run(work())


def test_downlinks_of_chirpstack(kit: Any, run: Run, broker: RealBroker) -> None:
    async def work() -> None:
        node = endpoint(broker, writeTimeout="5s")
        sure = endpoint(broker, devEui=OTHER, writeTimeout="5s", confirmed=True)
        points = [
            kit.point(0, node, "uint16", port=9, offset=0, prefix="0a"),
            kit.point(1, node, "float64", port=3, pointer="/interval"),
            kit.point(2, sure, "uint8", port=4, offset=0),
        ]
        async with running(kit, points, broker) as (session, _, server):

            async def asked(count: int) -> dict[str, Any]:
                await kit.until(lambda: len(server.queued) == count)
                return server.queued[-1]

            def say(event: str, told: dict[str, Any], **more: Any) -> None:
                body = {"queueItemId": told["id"], **more}
                server.say(f"application/{APP}/device/{told['devEui']}/event/{event}", body)

            writing = asyncio.create_task(session.write([Write(points[0], 300)]))
            told = await asked(1)
            assert (told["fPort"], base64.b64decode(told["data"]), told["confirmed"]) == (
                9,
                b"\x0a\x01\x2c",
                False,
            )
            say("txack", told, gatewayId=GATEWAY)
            assert (await writing)[0].error is None
            writing = asyncio.create_task(session.write([Write(points[1], 60.0)]))
            told = await asked(2)
            assert told["object"] == {"interval": 60.0} and "data" not in told
            say("log", told, level="ERROR", code="DOWNLINK_CODEC", description="no encodeDownlink",
                context={"queue_item_id": told["id"]})  # fmt: skip
            error = (await writing)[0].error
            assert error is not None and "DOWNLINK_CODEC: no encodeDownlink" in str(error)
            for acknowledged in (False, True):
                writing = asyncio.create_task(session.write([Write(points[2], 5)]))
                told = await asked(3 + acknowledged)
                assert told["confirmed"]
                say("txack", told, gatewayId=GATEWAY)
                say("ack", told, acknowledged=acknowledged)
                error = (await writing)[0].error
                assert (error is None) == acknowledged and (
                    error is None or error.reason == "NotAcknowledged"
                )
            call = Invocation(
                "default/n",
                "reset",
                node,
                LoraCommand(port=7, payload="aa"),
                {"s": 5},
                {"s": ValueType.UINT8},
            )
            calling = asyncio.create_task(session.invoke(call))
            say("txack", await asked(5), gatewayId=GATEWAY)
            assert await calling == {"gateway": GATEWAY, "bytes": "aa05"}

    run(work())


def test_a_write_that_waits_is_given_to_the_server_once(kit: Any, run: Run, broker: RealBroker) -> None:
    async def work() -> None:
        points = [kit.point(0, endpoint(broker, writeTimeout="50ms"), "uint8", port=9, offset=0)]
        async with running(kit, points, broker) as (session, _, server):
            for value in (1, 1, 2):
                (outcome,) = await session.write([Write(points[0], value)])
                assert outcome.error.reason == "NoAnswer"
            await kit.until(lambda: len(server.queued) == 2)
            server.say(f"application/{APP}/device/{EUI}/event/txack", {"queueItemId": server.queued[1]["id"]})
            await kit.until(session.remotes[EUI].queue[0].done.done)
            assert [base64.b64decode(one["data"]) for one in server.queued] == [b"\x01", b"\x02"]

    run(work())


def test_a_join_makes_room_for_downlinks(kit: Any, run: Run, broker: RealBroker) -> None:
    """ChirpStack drops what waits for a device that joins, if its profile says so, and tells nobody."""

    async def work() -> None:
        node = endpoint(broker, writeTimeout="1ms")
        points = [kit.point(0, node, "uint8", port=9, offset=0)]
        call = Invocation("default/n", "reset", node, LoraCommand(port=7, payload="aa"), {}, {})
        async with running(kit, points, broker) as (session, _, server):

            async def asked(reason: str) -> None:
                with pytest.raises(PointError) as caught:
                    await session.invoke(call)
                assert caught.value.reason == reason
                assert caught.value.passes

            for _ in range(16):
                await asked("NoAnswer")
            await asked("QueueFull")
            server.say(f"application/{APP}/device/{EUI}/event/join", {"devAddr": "01abcdef"})
            await kit.until(session.remotes[EUI].queue[0].done.done)
            await asked("NoAnswer")

    run(work())


def test_complaints_of_the_server(kit: Any, run: Run, broker: RealBroker) -> None:
    async def work() -> None:
        node = endpoint(broker)
        points = [kit.point(0, node, "int16", offset=0), kit.point(1, node, "string", stat="refusedReason"),
                  kit.point(2, node, "uint32", stat="refused")]  # fmt: skip
        wrong = {"level": "ERROR", "code": "UPLINK_MIC", "description": "Invalid MIC", "context": {}}
        async with running(kit, points, broker) as (_, heard, server):
            server.say(f"application/{APP}/device/{EUI}/event/log", wrong)
            await kit.until(lambda: heard.of(1) == ["UPLINK_MIC"] and heard.of(2) == [1])
            assert not heard.errors
            server.say(f"application/{APP}/device/{EUI}/event/log", wrong)
            await kit.until(lambda: heard.errors)
            assert "refuses what 70b3d57ed0000001 sends, UPLINK_MIC: Invalid MIC" in str(heard.errors[0])
            server.say(CHIRPSTACK_UP, up(1))
            await kit.until(lambda: heard.of(0) == [215])

    run(work())


def test_uplinks_and_downlinks_of_the_things_stack(kit: Any, run: Run, broker: RealBroker) -> None:
    async def work() -> None:
        node = endpoint(broker, "thingsStack", writeTimeout="5s")
        gateway = endpoint(broker, "thingsStack", gateway=GATEWAY)
        points = [
            kit.point(0, node, "int16", port=2, offset=0),
            kit.point(1, node, "float64", pointer="/temperature"),
            kit.point(2, node, "float64", pointer="/air/temperature", normalized=True),
            kit.point(3, gateway, "float64", stat="latitude"),
            kit.point(4, node, "uint8", port=9, offset=0),
            kit.point(5, node, "uint32", stat="lost"),
            *(kit.point(10 + at, node, "string" if name in ("dataRate", "gateway") else "float64", stat=name)
              for at, name in enumerate(STATS)),
        ]  # fmt: skip
        head = f"v3/{APP}@ttn/devices/probe"
        async with running(kit, points, broker) as (session, heard, server):
            decoded = {
                "decoded_payload": {"temperature": 0},
                "normalized_payload": [{"air": {"temperature": 0.5}}],
            }
            writing = asyncio.create_task(session.write([Write(points[4], 7)]))
            await kit.until(lambda: server.queued)
            server.say(f"{head}/up", things_up(0, **decoded))
            server.say(f"{head}/up", things_up(2, **decoded))
            await kit.until(lambda: len(heard.of(10)) == 2)
            last = dict(zip(STATS, [heard.of(10 + at)[-1] for at in range(len(STATS))], strict=True))
            assert last == {
                "rssi": -60, "snr": 9.2, "dataRate": "SF7BW125", "gateway": GATEWAY, "gateways": 1, "counter": 2,
                "lost": 1, "port": 2, "frequency": 868_100_000,
            }  # fmt: skip
            assert heard.of(0) == [215, 215] and heard.of(1) == [0, 0] and heard.of(2) == [0.5, 0.5]
            assert heard.of(3) == [52.5, 52.5]
            told = server.queued[0]["downlinks"][0]
            assert (told["f_port"], told["frm_payload"], told["priority"]) == (9, "Bw==", "NORMAL")
            ids = {"end_device_ids": {"device_id": "probe", "dev_eui": EUI.upper()}}
            server.say(
                f"{head}/down/queued",
                {**ids, "downlink_queued": {"correlation_ids": told["correlation_ids"]}},
            )
            server.say(f"{head}/down/sent", {**ids, "correlation_ids": ["as:downlink:1", *told["correlation_ids"]],
                                             "downlink_sent": {"f_port": 9}})  # fmt: skip
            assert (await writing)[0].error is None
            writing = asyncio.create_task(session.write([Write(points[4], 8)]))
            await kit.until(lambda: len(server.queued) == 2)
            told = server.queued[1]["downlinks"][0]
            failed = {"downlink": {"correlation_ids": told["correlation_ids"]},
                      "error": {"name": "no_session", "message_format": "no session"}}  # fmt: skip
            server.say(f"{head}/down/failed", {**ids, "downlink_failed": failed})
            error = (await writing)[0].error
            assert error is not None and str(error) == "no session" and error.reason == "Refused"
            server.say(f"{head}/join", {**ids, "join_accept": {}})
            server.say(f"{head}/up", things_up(0))
            await kit.until(lambda: len(heard.of(5)) == 3)
            assert heard.of(5)[-1] == 1

    run(work())


def test_names_of_downlink_topics() -> None:
    from devicemesh_lora import thingsstack

    server = endpoint("mqtts://eu1.cloud.thethings.network", "thingsStack").things_stack
    assert server is not None and server.place == ("eu1.cloud.thethings.network", 8883)
    topic, body = thingsstack.downlink(server, "probe", "7", 3, {"a": 1}, confirmed=True)
    assert topic == f"v3/{APP}@ttn/devices/probe/down/push"
    assert json.loads(body)["downlinks"] == [
        {"f_port": 3, "priority": "NORMAL", "correlation_ids": ["devicemesh:7"], "decoded_payload": {"a": 1},
         "confirmed": True}
    ]  # fmt: skip
    heard = json.dumps(things_up(1)).encode()
    for name, kept in (("probe", "probe"), ("a/../+", None), ("Probe #", "")):
        event = thingsstack.decode(server, f"v3/{APP}@ttn/devices/{name}/up", heard, 0)
        assert getattr(event, "device_id", None) == kept, "a topic is made of it"
    own = server.model_copy(update={"tenant": None})
    assert thingsstack.topics(own, [])[0] == f"v3/{APP}/devices/+/up"


def test_hostile_messages(kit: Any, run: Run, broker: RealBroker, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        points = [kit.point(0, endpoint(broker), "int16", offset=0)]
        nonsense: list[Any] = [
            b"", b"\x0a\x02pb", b"[" * 100_000, b"[]", b"null", b"\xff\xfe{}", b'{"fCnt": 1e400}', {"fCnt": -1},
            {"fCnt": 1 << 40}, {"fPort": 256}, {"data": "!!"}, {"data": "A" * 4000}, {"rxInfo": 5},
            {"rxInfo": [{}] * 300}, {"rxInfo": [{"rssi": "x"}]}, {"txInfo": {"modulation": []}}, {"fCnt": True},
            {"deduplicationId": "x" * 999}, {"time": 5, "rxInfo": [[]]},
        ]  # fmt: skip
        async with running(kit, points, broker) as (session, heard, server):
            for one in nonsense:
                server.say(CHIRPSTACK_UP, one)
            server.say(CHIRPSTACK_UP, b"x" * 10_000_000)
            server.say(f"application/{APP}/device/{EUI}/event/future", {"x": 1})
            server.say(f"application/{APP}/device/{OTHER}/event/up", up(1))
            server.say(f"application/{APP}/device/xyz/event/up", up(1))
            server.say(CHIRPSTACK_UP, up(7, b"\x00\x01"))
            await kit.until(lambda: heard.of(0) == [1])
            assert session.refused == len(nonsense) + 2 and not heard.errors
            assert caplog.text.count("makes no sense") == 1
            assert f"{OTHER} belongs to the application: it is not declared" in caplog.text
            assert "has messages that are too large: 256 kB at most" in caplog.text

    run(work())


def test_a_retained_uplink_is_old(kit: Any, run: Run, broker: RealBroker) -> None:
    async def work() -> None:
        points = [kit.point(0, endpoint(broker), "int16", offset=0)]
        async with running(kit, points, broker) as (_, __, server):
            server.say(CHIRPSTACK_UP, up(1, b"\x00\x01"), retain=True)
        async with running(kit, points, broker) as (_, heard, server):
            server.say(CHIRPSTACK_UP, up(2, b"\x00\x02"))
            await kit.until(lambda: heard.of(0))
            assert heard.of(0) == [2]
            server.say(CHIRPSTACK_UP, b"", retain=True)

    run(work())


def test_an_eui_with_its_bytes_reversed(kit: Any, run: Run, broker: RealBroker) -> None:
    async def work() -> None:
        points = [kit.point(0, endpoint(broker, devEui=bytes.fromhex(EUI)[::-1].hex()), "int16", offset=0)]
        async with running(kit, points, broker) as (_, heard, server):
            server.say(CHIRPSTACK_UP, up(1))
            await kit.until(lambda: heard.errors)
            assert "`devEui` is declared with its bytes reversed" in str(heard.errors[0])

    run(work())


def test_a_broker_that_dies_is_a_link_error(kit: Any, run: Run) -> None:
    async def work() -> None:
        with RealBroker(configuration="persistence false") as own:
            points = [kit.point(0, endpoint(own), "int16", offset=0)]
            with pytest.raises(LinkError, match=f"127.0.0.1:{own.port} b3a1: the connection broke"):
                async with kit.session(points) as (session, _):
                    await kit.until(lambda: session.topics)
                    own.kill()
                    await kit.until(session.pump.done)
                    await asyncio.sleep(0.05)
        with pytest.raises(LinkError, match=f"127.0.0.1:{own.port}"):
            async with kit.session(points):
                pytest.fail("nobody is there")

    run(work())


def test_credentials_that_are_refused(kit: Any, run: Run, tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("user good\ntopic read other/#\n")
    (tmp_path / "users").write_text("")
    own = f"allow_anonymous false\npersistence false\npassword_file {tmp_path / 'users'}"

    async def work() -> None:
        with RealBroker(configuration=own) as found:
            user = {"userName": "devicemesh", "password": {"name": "chirpstack", "key": "nwkSKey"}}
            points = [kit.point(0, endpoint(found, server=user), "int16", offset=0)]
            with pytest.raises(AuthError, match="look at `userName`, `password`"):
                async with kit.session(points):
                    pytest.fail("it was let in")
            points = [kit.point(0, endpoint(found, "thingsStack"), "int16", offset=0)]
            with pytest.raises(AuthError, match="rights of `apiKey`"):
                async with kit.session(points):
                    pytest.fail("it was let in")

    run(work())


def test_tls_with_our_certificate(kit: Any, run: Run, tmp_path: Path) -> None:
    authority = kit.authority(tmp_path)
    (cert, key), (ours, our_key) = authority.certificate("broker"), authority.certificate("devicemesh")
    port = kit.free_port()
    own = f"""persistence false
listener {port} 127.0.0.1
allow_anonymous true
cafile {authority.file}
certfile {cert}
keyfile {key}
require_certificate true
"""

    async def work() -> None:
        with RealBroker(port=port, configuration=own):
            tls = {"caFile": str(authority.file), "certFile": str(ours), "keyFile": str(our_key)}
            made = endpoint(f"mqtts://127.0.0.1:{port}", server={"tls": tls})
            points = [kit.point(0, made, "int16", offset=0)]
            async with kit.session(points) as (session, heard):
                await kit.until(lambda: session.topics)
                for counter in range(200):  # more than one TLS record at once
                    session.broker.publish(CHIRPSTACK_UP, json.dumps(up(counter)).encode(), 1)
                await kit.until(lambda: len(heard.of(0)) == 200)
            for wrong in ({"caFile": str(authority.file)}, {}):
                made = endpoint(f"mqtts://127.0.0.1:{port}", server={"tls": wrong})
                with pytest.raises(LinkError, match=f"127.0.0.1:{port}"):
                    async with open_session(made):
                        pytest.fail("it was let in")

    run(work())


def test_messages_that_share_a_tls_record(kit: Any, run: Run, tmp_path: Path) -> None:
    """Nothing tells that a record has more than was read of it, but for TLS itself."""
    authority = kit.authority(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.certificate("broker"))
    talking: list[Any] = []

    def publish(counter: int) -> bytes:
        topic, body = (
            CHIRPSTACK_UP.encode(),
            json.dumps({"fCnt": counter, "fPort": 2, "data": "ANc="}).encode(),
        )
        return bytes((0x30, 2 + len(topic) + len(body), 0, len(topic))) + topic + body

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talking.append(asyncio.current_task())
        for one in (CONNACK, SUBACK + b"\x01" + b"".join(publish(counter) for counter in range(5))):
            await reader.read(4096)
            writer.write(one)
        await reader.read(4096)
        writer.close()

    async def work() -> None:
        async with await asyncio.start_server(talk, "127.0.0.1", ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            made = endpoint(f"mqtts://127.0.0.1:{port}", server={"tls": {"caFile": str(authority.file)}})
            async with kit.session([kit.point(0, made, "int16", offset=0)]) as (_, heard):
                await kit.until(lambda: len(heard.of(0)) == 5)
            await asyncio.wait(talking, timeout=5)

    run(work())


def test_a_ca_file_that_is_missing_is_a_mistake(kit: Any, run: Run, broker: RealBroker) -> None:
    async def work() -> None:
        made = endpoint(f"mqtts://127.0.0.1:{broker.port}", server={"tls": {"caFile": "/nowhere.pem"}})
        with pytest.raises(ConfigError, match="No such file"):
            async with open_session(made):
                pytest.fail("it was opened")
        made = endpoint(f"mqtts://127.0.0.1:{broker.port}")
        with pytest.raises(LinkError):
            async with open_session(made):
                pytest.fail("it speaks no TLS")

    run(work())


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"devEui": EUI}, "give one of `listen`, `chirpstack` and `thingsStack`"),
        ({"chirpstack": {"broker": "http://x", "application": APP}, "devEui": EUI}, "is no broker"),
        ({"chirpstack": {"broker": "mqtt://u:p@x", "application": APP}, "devEui": EUI}, "credentials"),
        ({"chirpstack": {"broker": "mqtt://x", "application": APP}, "devEui": EUI, "region": "US915"}, "`region` goes with `listen`"),
        ({"chirpstack": {"broker": "mqtt://x", "application": "a/+"}, "devEui": EUI}, "should match pattern"),
        ({"chirpstack": {"broker": "mqtt://x", "application": APP, "tls": {}}, "devEui": EUI}, "`tls` goes with"),
        ({"chirpstack": {"broker": "mqtt://x", "application": APP}, "devEui": EUI, "deviceId": "probe"}, "`deviceId` goes with"),
    ],
)  # fmt: skip
def test_mistakes_in_an_endpoint(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        LoraEndpoint.model_validate(fields)


URIS = [
    f"lora+chirpstack://lns:8883/{APP}/{EUI}?user=mesh&secret=lns&topicPrefix=site",
    f"lora+chirpstack://127.0.0.1:4000/{APP}/{EUI}?tls=false",
    f"lora+thingsstack://eu1.cloud.thethings.network/soil@ttn/{EUI}?secret=ttn",
]


@pytest.mark.parametrize("written", URIS)
def test_uris_of_servers(written: str) -> None:
    made = LoraMapper().parse_endpoint(written)
    assert made.eui == EUI and uri.format_server(made, EUI) == written
    assert made.server is not None and made.server.secure == ("tls=false" not in written)


def test_mistakes_in_uris() -> None:
    parse = LoraMapper().parse_endpoint
    assert parse(f"lora+chirpstack://h:1883/{APP}?gateway={GATEWAY}").link() == f"chirpstack h:1883 {APP}"
    for wrong in ("lora+chirpstack://h", "lora+chirpstack:///a/b", f"lora+thingsstack://h/a/{EUI}"[:-1]):
        with pytest.raises(ConfigError):
            parse(wrong)
    with pytest.raises(ConfigError, match="devices speak first"):
        uri.parse_application("lora://0.0.0.0:1700?gateway=0102030405060708")


def test_discovery_listens_to_an_application(kit: Any, run: Run, broker: RealBroker) -> None:
    async def work() -> None:
        server = await asyncio.to_thread(Server, broker.port, "nothing")
        where = f"lora+chirpstack://127.0.0.1:{broker.port}/{APP}?tls=false&seconds=2"
        decoded = {"air": {"temperature": 21.5, "wet": False}, "9": "word", "list": [1]}

        async def speak() -> None:
            for counter in range(100):
                server.say(CHIRPSTACK_UP, up(counter, object=decoded))
                server.say(CHIRPSTACK_UP, b"nonsense")
                await asyncio.sleep(0.05)

        speaking = asyncio.create_task(speak())
        try:
            (heard,) = [one async for one in LoraMapper().discover(where)]
        finally:
            speaking.cancel()
            await asyncio.wait({speaking})
            server.close()
        assert heard.uri == f"lora+chirpstack://127.0.0.1:{broker.port}/{APP}/{EUI}?tls=false"
        assert heard.points == [("2#/air/temperature", "21.5"), ("2#/air/wet", "false"), ("2#/9", '"word"')]
        assert heard.identity["dataRate"] == "SF7BW125"
        protocols = {"lora": Protocol(LoraEndpoint, LoraAddress, LoraCommand)}
        loaded = load({"found.yaml": heard.manifest}, protocols, lambda *_: None)
        assert loaded.problems == [] and len(loaded.resources) == 2

    run(work())


@pytest.mark.parametrize("eui", ["0080e11500004218", "0000000000000889"])
def test_what_is_discovered_can_be_applied_whatever_its_eui_looks_like(eui: str) -> None:
    endpoint, _ = uri.parse_application(f"lora+chirpstack://h/{APP}")
    text = found(endpoint, Reported(eui, 0, 1, 2, b"", None, {})).manifest
    protocols = {"lora": Protocol(LoraEndpoint, LoraAddress, LoraCommand)}
    loaded = load({"found.yaml": str(text)}, protocols, lambda *_: None)
    assert loaded.problems == []
    assert loaded.resources[1].body["spec"]["endpoint"]["lora"]["devEui"] == eui


CONNACK, NO_RIGHT = b"\x20\x02\x00\x00", b"\x20\x02\x00\x05"
SUBACK = b"\x90\x03\x00\x01"


@pytest.mark.parametrize(
    ("answers", "error", "why"),
    [
        ([CONNACK, SUBACK + b"\x80"], AuthError, "does not let us read application/b3a1/device"),
        ([NO_RIGHT], AuthError, "look at `userName`, `password`"),
        ([b"\x20\x02\x00\x03"], LinkError, "refused us, Server unavailable"),
        ([b""], LinkError, "the connection broke"),
        ([b"\xff" * 50], LinkError, "127.0.0.1"),
        ([CONNACK, b"\x90\xff\xff\xff\xff\xff"], LinkError, "127.0.0.1"),
        ([CONNACK, SUBACK + b"\x01\x30\xff\xff\xff\x7f"], LinkError, "sends a message of 255 MB"),
        ([CONNACK, SUBACK + b"\x01\x30\x04\x00\x09ab"], LinkError, "127.0.0.1"),
    ],
)  # fmt: skip
def test_hostile_brokers(kit: Any, run: Run, answers: list[bytes], error: type[Exception], why: str) -> None:
    """Each is given after one packet of ours, the last one followed by the end or by silence."""

    talking: list[Any] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talking.append(asyncio.current_task())
        for one in answers:
            await reader.read(4096)
            writer.write(one)
        if answers[-1]:
            await reader.read(4096)
        writer.close()

    async def work() -> None:
        async with await asyncio.start_server(talk, "127.0.0.1") as server:
            port = server.sockets[0].getsockname()[1]
            points = [kit.point(0, endpoint(f"mqtt://127.0.0.1:{port}"), "int16", offset=0)]
            with pytest.raises(error, match=why):
                async with open_session(points[0].endpoint) as session:
                    async for _ in session.subscribe(points):
                        pytest.fail("there is nothing")
            await asyncio.wait(talking, timeout=5)

    run(work())


def test_links_and_conflicts() -> None:
    one, other = endpoint("mqtt://h"), endpoint("mqtt://h", server={"userName": "x"})
    assert one.link() == "chirpstack h:1883 b3a1" and one.conflict(other) == "what they say of the broker"
    things = endpoint("mqtts://h", "thingsStack")
    assert things.link() == "thingsStack h:8883 b3a1@ttn"
    moved = things.redirect("127.0.0.1:5")
    assert moved.simulated and moved.link() == "thingsStack 127.0.0.1:5 b3a1@ttn"
    assert LoraMapper.endpoint_type is LoraEndpoint and SecretRef(name="x").key == "password"
