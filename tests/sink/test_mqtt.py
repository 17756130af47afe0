"""The MQTT sink against a real broker that is killed, suspended, cut off and misconfigured."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from devicemesh.settings import OutboxSettings, SecretRef
from devicemesh.sink.base import Command
from devicemesh.testing.broker import RealBroker, free_port
from devicemesh.testing.proxy import Proxy
from devicemesh.testing.waiting import until

pytestmark = pytest.mark.skipif(not RealBroker.available(), reason="no MQTT broker is installed")
needs_mosquitto = pytest.mark.skipif("mosquitto" not in RealBroker.available(), reason="needs mosquitto")


@pytest.mark.parametrize("kind", RealBroker.available())
def test_records_events_and_state_arrive(kind: str, rig: Any, consumer: Any) -> None:
    async def scenario() -> None:
        async with rig.sink(broker.url) as sink:
            await rig.up()
            rig.put(20, streams=3, samples=5)
            sink.event("default/pump-0", "alarm", {"alarm": "hot", "value": float("nan")})
            sink.retain("default/pump-0", "status", {"state": "Ready"})
            assert await sink.drain(10)
            stats = sink.stats()
            assert (stats.samples_published, stats.samples_spooled) == (300, 0)
            assert stats.messages == 60 + 3  # with the runtime's own status
            assert stats.last_error is None
            await until(lambda: len(seen.on("/telemetry")) == 60 and seen.on("/status"))
        await until(
            lambda: seen.on("_runtime/test/status")[-1:] == [b'{"state":"offline","reason":"stopped"}']
        )

    with RealBroker(kind) as broker, consumer(broker.port, "devicemesh/v1/#") as seen:
        asyncio.run(scenario())
        for device in ("pump-0", "pump-1", "pump-2"):
            assert seen.bodies(device) == list(range(20))
        assert json.loads(seen.on("pump-0/telemetry")[0])["names"] == ["speed", "power"]
        assert seen.on("pump-0/alarm") == [b'{"alarm":"hot","value":null}']
        assert seen.on("default/pump-0/status") == [b'{"state":"Ready"}']


@needs_mosquitto
def test_mqtt_3_1_1(rig: Any, consumer: Any) -> None:
    async def scenario() -> None:
        sink = rig.sink(broker.url, version="3.1.1")
        sink.on_command(rig.on_command)
        async with sink:
            await rig.up()
            rig.put(50)
            assert await sink.drain(10)
            seen.publish("devicemesh/v1/default/pump-0/twin/desired", b'{"speed": 5}')
            await until(lambda: rig.commands)

    with RealBroker("mosquitto") as broker, consumer(broker.port, "devicemesh/v1/#") as seen:
        asyncio.run(scenario())
        assert seen.bodies() == list(range(50))
        assert rig.commands == [Command("desired", "default/pump-0", "", {"speed": 5})]


def test_what_is_published_before_the_broker_is_there_arrives(rig: Any, consumer: Any) -> None:
    async def scenario() -> None:
        async with rig.sink(f"mqtt://127.0.0.1:{port}") as sink:
            rig.put(30)
            await until(lambda: sink.stats().last_error)
            assert sink.stats().last_error == f"no broker listens on 127.0.0.1:{port}"
            assert (sink.stats().up, sink.stats().samples_spooled) == (False, 30)
            broker.start()
            with consumer(port, "#") as seen:
                rig.put(5)
                assert await sink.drain(10)
                await until(lambda: len(seen.bodies()) == 35)
                assert seen.bodies() == list(range(35))
            rig.conserved()

    port = free_port()
    broker = RealBroker(port=port)
    try:
        asyncio.run(scenario())
    finally:
        broker.close()


def test_a_broker_that_is_killed_costs_nothing(rig: Any) -> None:
    async def scenario() -> None:
        async with rig.sink(broker.url) as sink:
            await rig.up()
            for _ in range(3):
                rig.put(100)
                broker.kill()
                rig.put(100)
                rig.conserved()
                await until(lambda: not sink.stats().up)
                rig.put(100)
                broker.start()
                assert await sink.drain(20)
            stats = sink.stats()
            assert (stats.samples_published, stats.samples_spooled) == (900, 0)
            assert stats.reconnects == 4
            rig.conserved()

    with RealBroker() as broker:
        asyncio.run(scenario())


def test_a_cut_and_a_half_open_connection(rig: Any, consumer: Any) -> None:
    async def scenario() -> None:
        async with Proxy(broker.port) as proxy, rig.sink(proxy.url, stall_s=0.7) as sink:
            await rig.up()
            rig.put(100)
            proxy.cut()
            rig.put(100)
            assert await sink.drain(10)
            proxy.hole = True
            rig.put(100)
            await until(lambda: not sink.stats().up)
            assert sink.stats().last_error == "the broker acknowledged nothing for 0.7 s"
            rig.put(100)
            proxy.hole = False
            assert await sink.drain(20)
            await until(lambda: len(set(seen.bodies())) == 400)
            assert sorted(set(seen.bodies())) == list(range(400))
            first_seen = list(dict.fromkeys(seen.bodies()))
            assert first_seen == sorted(first_seen)
            rig.conserved()

    with RealBroker() as broker, consumer(broker.port, "#") as seen:
        asyncio.run(scenario())


def test_a_suspended_broker(rig: Any, consumer: Any) -> None:
    async def scenario() -> None:
        async with rig.sink(broker.url, stall_s=0.7) as sink:
            await rig.up()
            broker.suspend()
            rig.put(200)
            await until(lambda: not sink.stats().up)
            broker.resume()
            assert await sink.drain(20)
            rig.conserved()
            assert sink.stats().samples_published == 200

    with RealBroker() as broker:
        asyncio.run(scenario())


def test_a_restart_of_ours_sends_what_was_left_and_begins_a_new_epoch(rig: Any, consumer: Any) -> None:
    async def first() -> int:
        async with rig.sink(f"mqtt://127.0.0.1:{broker.port}") as sink:
            rig.put(40, samples=3)
            return int(sink.epoch)

    async def second() -> int:
        async with rig.sink(broker.url) as sink:
            assert sink.stats().recovered_spooled == 120
            rig.put(10, samples=3)
            assert await sink.drain(10)
            stats = sink.stats()
            assert (stats.samples_published, stats.recovered_published) == (30, 120)
            return int(sink.epoch)

    broker = RealBroker()
    before = asyncio.run(first())
    with broker, consumer(broker.port, "#") as seen:
        assert asyncio.run(second()) > before
        assert seen.bodies() == list(range(50))


def test_a_backlog_larger_than_memory_keeps_its_order(rig: Any, consumer: Any) -> None:
    async def fill() -> None:
        async with rig.sink(broker.url):
            rig.put(1500, streams=2, size=4000)

    async def empty() -> None:
        async with rig.sink(broker.url) as sink:
            for _ in range(100):
                rig.put(1, streams=2)
                await asyncio.sleep(0.001)
            assert await sink.drain(30)
            await until(lambda: len(seen.on("/telemetry")) >= 3200)

    broker = RealBroker()
    asyncio.run(fill())
    with broker, consumer(broker.port, "#") as seen:
        asyncio.run(empty())
        assert seen.bodies("pump-0") == seen.bodies("pump-1") == list(range(1600))


# -- retained state


def test_only_the_newest_state_survives_an_outage(rig: Any, consumer: Any) -> None:
    async def scenario() -> None:
        async with rig.sink(f"mqtt://127.0.0.1:{port}") as sink:
            for value in range(50):
                sink.retain("default/pump-0", "twin/reported", {"speed": value})
            sink.retain("default/pump-1", "status", {"state": "Ready"})
            sink.retain("default/pump-1", "status", None)
            broker.start()
            await rig.up()
            assert await sink.drain(10)
            with consumer(port, "#") as seen:
                await until(lambda: len(seen.messages) >= 2)
                assert seen.on("/twin/reported") == [b'{"speed":49}']
                assert seen.on("pump-1/status") == []
                broker.kill()
                await until(lambda: not sink.stats().up)
            broker.start()  # it forgot everything
            assert await sink.drain(10)
            await rig.up()
            await until(lambda: sink.stats().messages >= 5)
            with consumer(port, "#") as seen:
                await until(lambda: seen.on("/twin/reported"))
                assert seen.on("/twin/reported") == [b'{"speed":49}']

    port = free_port()
    broker = RealBroker(port=port)
    try:
        asyncio.run(scenario())
    finally:
        broker.close()


def test_a_device_that_was_deleted_meanwhile_is_not_said_to_be_ready(rig: Any, consumer: Any) -> None:
    """Not even where the broker is away the first time that this is known, and the process killed then."""

    async def run(url: str, declared: set[str], *, up: bool) -> None:
        async with rig.sink(url) as sink:
            sink.forget_absent(lambda device: device in declared)
            for device in declared:
                sink.retain(device, "status", {"state": "Ready"})
            if up:
                await rig.up()
                assert await sink.drain(10)
            else:
                await until(lambda: not sink._dialect.kept.due(sink._sender.retained.version))

    def kept(port: int) -> list[str]:
        with consumer(port, "devicemesh/v1/default/#", "end") as seen:
            seen.publish("end", b"")  # it comes after what is retained
            asyncio.run(until(lambda: seen.on("end")))
            return sorted({each.topic for each in seen.messages} - {"end"})

    file = rig.home / "retained"
    names = {f"default/pump-{number}" for number in range(3)}
    with RealBroker() as broker:
        asyncio.run(run(broker.url, names, up=True))
        assert len(kept(broker.port)) == 3
        file.write_bytes(file.read_bytes() + b"\xff no name\nx/#/y\n")  # a damaged file harms nobody
        asyncio.run(run(f"mqtt://127.0.0.1:{free_port()}", {"default/pump-1"}, up=False))
        asyncio.run(run(broker.url, {"default/pump-1"}, up=True))
        assert kept(broker.port) == ["devicemesh/v1/default/pump-1/status"]
        assert file.read_text() == "default/pump-1\n"


def test_the_will_says_that_we_are_gone(rig: Any, consumer: Any) -> None:
    async def scenario() -> None:
        async with Proxy(broker.port) as proxy, rig.sink(proxy.url):
            await rig.up()
            await until(lambda: seen.on("_runtime/test/status"))
            assert json.loads(seen.on("_runtime/test/status")[-1])["state"] == "online"
            proxy.cut()
            await until(lambda: b"connection lost" in b"".join(seen.on("_runtime/test/status")))
            await until(lambda: b"online" in seen.on("_runtime/test/status")[-1])

    with RealBroker() as broker, consumer(broker.port, "#") as seen:
        asyncio.run(scenario())


# -- commands


def test_commands(rig: Any, consumer: Any) -> None:
    root = "devicemesh/v1"

    async def scenario() -> None:
        seen.publish(f"{root}/default/pump-1/twin/desired", b'{"speed": 1}', retain=True)
        seen.publish(f"{root}/default/pump-1/command/reset", b"{}", retain=True)
        sink = rig.sink(broker.url)
        sink.on_command(rig.on_command)
        async with sink:
            await rig.up()
            await until(lambda: len(rig.commands) == 1)
            seen.publish(f"{root}/default/pump-0/command/reset", b'{"hard": true}', correlation=b"job-7")
            seen.publish(f"{root}/default/pump-0/twin/desired", b"no json")
            seen.publish(f"{root}/default/pump-0/twin/desired", b"x" * 300_000)
            seen.publish(f"{root}/default/pump-0/twin/desired", b"[" * 100_000)
            seen.publish(f"{root}/default/UPPER/twin/desired", b"{}")
            seen.publish(f"{root}/default/pump-0/command/.bad", b"{}")
            seen.publish(f"{root}/default/pump-0/twin/desired", b'{"speed": 2}')
            await until(lambda: rig.commands[-1:] and rig.commands[-1].body == {"speed": 2})
            assert sink.stats().commands_refused == 3  # the retained command, two topics

    with RealBroker() as broker, consumer(broker.port, "nothing") as seen:
        asyncio.run(scenario())
    desired = "default/pump-0"
    assert rig.commands == [
        Command("desired", "default/pump-1", "", {"speed": 1}),
        Command("command", desired, "reset", {"hard": True}, "job-7"),
        Command("desired", desired, "", None),
        Command("desired", desired, "", None),
        Command("desired", desired, "", None),
        Command("desired", desired, "", {"speed": 2}),
    ]


def test_a_flood_of_commands_is_bounded(rig: Any, consumer: Any) -> None:
    async def scenario() -> None:
        gate = asyncio.Event()

        async def slow(command: Command) -> None:
            await gate.wait()
            rig.commands.append(command)
            raise RuntimeError("a handler's mistake is its own")

        logging.getLogger("devicemesh.sink").setLevel(logging.CRITICAL)
        sink = rig.sink(broker.url)
        sink.on_command(slow)
        async with sink:
            await rig.up()
            for index in range(400):
                seen.publish(f"devicemesh/v1/default/pump-{index % 5}/command/go", b"%d" % index)
            await until(lambda: sink.stats().commands_refused >= 400 - 256)
            rig.put(10)
            assert await sink.drain(10)  # data is not delayed
            gate.set()
            await until(lambda: len(rig.commands) == 256)
            assert sorted(each.body for each in rig.commands) == list(range(256))

    with RealBroker() as broker, consumer(broker.port, "nothing") as seen:
        asyncio.run(scenario())
    logging.getLogger("devicemesh.sink").setLevel(logging.NOTSET)


# -- credentials and TLS


@needs_mosquitto
def test_bad_credentials_are_said_and_can_be_mended_while_running(rig: Any, caplog: Any) -> None:
    passwords = rig.home / "passwords"
    passwords.touch()
    tool = shutil.which("mosquitto_passwd") or "/usr/bin/mosquitto_passwd"
    if not Path(tool).exists():
        pytest.skip("needs mosquitto_passwd")
    subprocess.run([tool, "-b", str(passwords), "gateway", "s3cret-canary"], check=True)
    configuration = f"allow_anonymous false\npassword_file {passwords}"

    async def scenario() -> None:
        sink = rig.sink(broker.url, username="gateway", password=SecretRef(name="mqtt"))
        async with sink:
            await until(lambda: sink.stats().last_error)
            assert "secrets/mqtt/password" in sink.stats().last_error
            secret = rig.home / "secrets/mqtt/password"
            secret.parent.mkdir(parents=True)
            secret.write_text("wrong-canary\n")
            await until(lambda: "refused us" in (sink.stats().last_error or ""))
            assert sink.stats().last_error == "the broker refused us: Not authorized"
            rig.put(3)
            secret.write_text("s3cret-canary\n")
            await rig.up()
            assert await sink.drain(10)
        assert "canary" not in caplog.text

    with caplog.at_level(logging.DEBUG), RealBroker("mosquitto", configuration=configuration) as broker:
        asyncio.run(scenario())


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private authority with a server's and a client's certificate."""
    folder = tmp_path_factory.mktemp("authority")

    def run(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout")
    constraint = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    run(*new, "ca.key", "-x509", "-days", "30", "-subj", "/CN=ca", "-out", "ca.pem", *constraint)
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for who in ("server", "client"):
        run(*new, f"{who}.key", "-subj", f"/CN={who}", "-out", f"{who}.csr")
        run("x509", "-req", "-in", f"{who}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "30", "-extfile", "names", "-out", f"{who}.pem")  # fmt: skip
    return folder


@needs_mosquitto
@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
def test_tls_with_a_private_authority_and_a_client_certificate(rig: Any, authority: Path) -> None:
    port = free_port()
    configuration = (
        f"listener {port} 127.0.0.1\ncafile {authority}/ca.pem\ncertfile {authority}/server.pem\n"
        f"keyfile {authority}/server.key\nrequire_certificate true"
    )
    identity = {"cert_file": authority / "client.pem", "key_file": authority / "client.key"}

    async def works() -> None:
        async with rig.sink(f"mqtts://127.0.0.1:{port}", ca_file=authority / "ca.pem", **identity) as sink:
            await rig.up()
            rig.put(200, size=20_000)
            assert await sink.drain(20)

    async def fails(reason: str, **options: Any) -> None:
        async with rig.sink(f"mqtts://127.0.0.1:{port}", **options) as sink:
            await until(lambda: sink.stats().last_error)
            assert reason in sink.stats().last_error

    with RealBroker("mosquitto", port=port, configuration=configuration):
        asyncio.run(works())
        asyncio.run(fails("is not trusted: ", **identity))
        asyncio.run(fails("is missing", ca_file=Path("/nowhere/ca.pem")))


@needs_mosquitto
def test_websockets(rig: Any, consumer: Any) -> None:
    port, plain = free_port(), free_port()
    configuration = (
        f"listener {port} 127.0.0.1\nprotocol websockets\nlistener {plain} 127.0.0.1\nprotocol mqtt"
    )

    async def scenario() -> None:
        async with rig.sink(f"ws://127.0.0.1:{port}/mqtt") as sink:
            await rig.up()
            rig.put(100, size=2000)
            assert await sink.drain(20)
            await until(lambda: seen.bodies() == list(range(100)))

    with RealBroker("mosquitto", port=plain, configuration=configuration), consumer(plain, "#") as seen:
        asyncio.run(scenario())


@needs_mosquitto
@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
def test_websockets_over_tls(rig: Any, authority: Path) -> None:
    port, plain = free_port(), free_port()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "server.pem", authority / "server.key")

    async def scenario() -> None:
        async with Proxy(port, tls=context) as proxy:
            url = f"wss://127.0.0.1:{proxy.port}"
            async with rig.sink(url, ca_file=authority / "ca.pem") as sink:
                await rig.up()
                for _ in range(10):
                    rig.put(10, size=5000)
                    assert await sink.drain(10)
                assert sink.stats().samples_published == 100

    configuration = f"listener {port} 127.0.0.1\nprotocol websockets\nlistener {plain} 127.0.0.1"
    with RealBroker("mosquitto", port=plain, configuration=configuration):
        asyncio.run(scenario())


# -- limits


@needs_mosquitto
def test_what_the_broker_never_takes_blocks_nothing(rig: Any, consumer: Any) -> None:
    async def scenario() -> None:
        async with rig.sink(broker.url) as sink:
            await rig.up()
            rig.put(5)
            rig.put(1, size=50_000, samples=7)
            rig.put(5)
            assert await sink.drain(10)
            assert sink.stats().samples_dropped["too_large"] == 7
            assert sink.stats().samples_published == 10
            rig.conserved()
            await until(lambda: len(seen.bodies()) == 10)
            await until(lambda: seen.on("_runtime/test/gap"), 15)
            gap = json.loads(seen.on("_runtime/test/gap")[0])
            assert (gap["dropped"], gap["epoch"]) == ({"too_large": 7}, sink.epoch)

    broker = RealBroker("mosquitto", configuration="max_packet_size 20000")
    with broker, consumer(broker.port, "#") as seen:
        asyncio.run(scenario())


@needs_mosquitto
def test_a_topic_that_is_not_allowed_harms_no_other(rig: Any, consumer: Any) -> None:
    rules = rig.home / "rules"
    denied = "pattern write devicemesh/v1/default/pump-1/#\npattern write devicemesh/v1/_runtime/#\n"
    rules.write_text(denied + "topic read #\n")

    async def scenario() -> None:
        async with rig.sink(broker.url) as sink:
            await rig.up()
            rig.put(30, streams=2)
            await until(lambda: len(seen.bodies("pump-1")) == 30)
            assert sink.stats().refusals >= 1
            refused = "the broker refuses devicemesh/v1/default/pump-0/telemetry: not authorized"
            assert sink._sender.refusals.words == refused
            await until(lambda: sink.stats().samples_spooled == 30)  # the answers come after the messages
            rig.put(30, streams=2)
            await until(lambda: len(seen.bodies("pump-1")) == 60)
            rig.conserved()
            rules.write_text("topic readwrite #\n")
            broker.reload()
            assert await sink.drain(60)  # this broker hangs up on who is refused: each try waits longer
            assert sink.stats().samples_published == 120
            await until(lambda: len(seen.bodies("pump-0")) >= 60)
            assert seen.bodies("pump-0") == list(range(60))

    broker = RealBroker("mosquitto", configuration=f"acl_file {rules}")
    with broker, consumer(broker.port, "devicemesh/v1/default/#") as seen:
        asyncio.run(scenario())


def test_the_outbox_is_bounded_and_says_what_it_dropped(rig: Any) -> None:
    async def scenario() -> None:
        sink = rig.sink(f"mqtt://127.0.0.1:{free_port()}", outbox=OutboxSettings(max_bytes=1 << 20))
        async with sink:
            rig.put(600, size=4000)
            stats = sink.stats()
            assert stats.outbox_bytes <= 1 << 20
            assert stats.samples_dropped["outbox_bytes"] > 300
            assert stats.outbox_oldest_s > 0
            rig.conserved()

    asyncio.run(scenario())


def test_a_second_runtime_on_the_same_home_is_refused(rig: Any) -> None:
    async def scenario() -> None:
        async with rig.sink("mqtt://127.0.0.1:1"):
            with pytest.raises(BlockingIOError, match="another runtime"):
                async with rig.sink("mqtt://127.0.0.1:1"):
                    pass

    asyncio.run(scenario())


def test_two_runtimes_of_one_name_get_a_hint(rig: Any, tmp_path_factory: Any) -> None:
    async def scenario() -> None:
        async with rig.sink(broker.url) as first:
            await rig.up()
            rig.home = tmp_path_factory.mktemp("other")
            async with rig.sink(broker.url):
                await until(lambda: "another client use" in (first.stats().last_error or ""))

    with RealBroker() as broker:
        asyncio.run(scenario())


@pytest.mark.parametrize("sync", ["gentle", "strict"])
def test_both_ways_to_sync(sync: Any, rig: Any) -> None:
    async def scenario() -> None:
        sink = rig.sink("mqtt://127.0.0.1:1", outbox=OutboxSettings(sync=sync))
        async with sink:
            rig.put(5)
            outbox = sink._outbox
            assert outbox.durable < outbox.next
            await until(lambda: outbox.durable == outbox.next)

    asyncio.run(scenario())


def test_a_pipeline_of_real_records(rig: Any, consumer: Any) -> None:
    """From the C core's records to JSON, epoch and sequence inside."""
    from array import array

    from devicemesh.aggregate import Aggregator, Series, encode_json
    from devicemesh.mapper import Batch

    async def scenario() -> None:
        sink = rig.sink(broker.url, encode=encode_json)
        async with sink:
            await rig.up()
            core = Aggregator(sink.epoch)
            core.define(Series(0, 0, "speed"))
            core.advance(10**18)
            for index in range(3):
                core.push(Batch(array("I", [0]), 10**18 + index, array("d", [index + 0.5])))
                sink.publish(core.take(), lambda stream: ("default/pump-0", core.names(stream)))
            assert await sink.drain(10)
            await until(lambda: len(seen.on("/telemetry")) == 3)
            bodies = [json.loads(each) for each in seen.on("/telemetry")]
            assert [each["seq"] for each in bodies] == [0, 1, 2]
            assert {each["epoch"] for each in bodies} == {sink.epoch}

    with RealBroker() as broker, consumer(broker.port, "#") as seen:
        asyncio.run(scenario())
