"""Brokers that lie, stall, refuse and send nonsense: the sink waits, says why, and loses nothing."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import threading
from typing import Any

import pytest

from devicemesh.testing.proxy import Proxy
from devicemesh.testing.waiting import until


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares the tests the waiting that is due to real brokers."""
    monkeypatch.setattr("devicemesh.sink.mqtt.PATIENCE_S", 0.3)
    monkeypatch.setattr("devicemesh.sink.mqtt.FIRST_DELAY_S", 0.05)


def run(rig: Any, scripted: Any, script: Any, scenario: Any, **options: Any) -> Any:
    """Run a scenario against a scripted broker; returns the broker."""

    async def main() -> Any:
        async with scripted(script) as broker, rig.sink(broker.url, **options) as sink:
            await asyncio.wait_for(scenario(sink, broker), 30)
            rig.conserved()
        return broker

    return asyncio.run(main())


def puback(identifier: int, code: int | None = None) -> bytes:
    tail = b"" if code is None else bytes((code,))
    return bytes((0x40, 2 + len(tail))) + identifier.to_bytes(2, "big") + tail


def bodies(topics: list[tuple[str, bytes]]) -> list[int]:
    return [int(json.loads(body)["body"]) for topic, body in topics if topic.endswith("/telemetry")]


def payload(packet: Any) -> bytes:
    at = 2 + int.from_bytes(packet.body[:2], "big") + 2
    return bytes(packet.body[at + 1 :])


def test_receive_maximum_1(rig: Any, scripted: Any) -> None:
    taken: list[int] = []
    late = 0

    async def script(wire: Any) -> None:
        nonlocal late
        await wire.accept(bytes((0x20, 6, 0, 0, 3, 0x21, 0, 1)))
        async for packet in wire.publishes():
            await asyncio.sleep(0.001)
            late += wire.reader._buffer[:1] == b"\x32"  # another publish before this one's answer
            wire.send(puback(packet.identifier))
            taken.append(packet.identifier)

    async def scenario(sink: Any, broker: Any) -> None:
        await rig.up()
        rig.put(30)
        assert await sink.drain(10)
        assert late == 0
        assert len(taken) == 31

    run(rig, scripted, script, scenario)


def test_never_acknowledges(rig: Any, scripted: Any) -> None:
    async def script(wire: Any) -> None:
        await wire.accept()
        async for _ in wire.publishes():
            pass

    async def scenario(sink: Any, broker: Any) -> None:
        await rig.up()
        rig.put(5)
        await until(lambda: "acknowledged nothing for 0.3 s" in (sink.stats().last_error or ""))
        await until(lambda: broker.connections >= 2)
        assert sink.stats().samples_spooled == 5

    run(rig, scripted, script, scenario, stall_s=0.3)


def test_disconnects_right_after_connack_for_ever(rig: Any, scripted: Any) -> None:
    times: list[float] = []

    async def script(wire: Any) -> None:
        times.append(asyncio.get_running_loop().time())
        await wire.accept()

    async def scenario(sink: Any, broker: Any) -> None:
        rig.put(5)
        await until(lambda: len(times) >= 6 and sink.stats().last_error)
        gaps = [after - before for before, after in itertools.pairwise(times)]
        assert gaps[4] > 0.4, "0.05, 0.1, 0.2, 0.4, 0.8 s, half of it by chance"
        assert "the connection broke" in sink.stats().last_error
        assert sink.stats().samples_spooled == 5

    run(rig, scripted, script, scenario)


def test_takes_connections_and_says_nothing(rig: Any, scripted: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("devicemesh.sink.connection.CONNECT_S", 0.3)

    async def script(wire: Any) -> None:
        await wire.reader.read(1 << 20)
        await asyncio.sleep(60)

    async def scenario(sink: Any, broker: Any) -> None:
        await until(lambda: "does not answer as a broker" in (sink.stats().last_error or ""))

    run(rig, scripted, script, scenario)


@pytest.mark.parametrize(
    ("connack", "reason"),
    [
        (bytes((0x20, 3, 0, 0x87, 0)), "the broker refused us: Not authorized"),
        (bytes((0x20, 3, 0, 0x88, 0)), "the broker refused us: Server unavailable"),
        (bytes((0x20, 5, 0, 0, 2, 0x24, 0)), "it takes no QoS 1"),
        (bytes((0x20, 1, 0)), "no MQTT"),
        (bytes((0x20, 3, 0, 0x33, 0)), ""),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ""),
        (bytes((0x20, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F)), ""),
    ],
)
def test_answers_that_are_no_welcome(
    rig: Any, scripted: Any, connack: bytes, reason: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr("devicemesh.sink.connection.CONNECT_S", 0.3)

    async def script(wire: Any) -> None:
        await wire.accept(connack)
        await asyncio.sleep(60)

    async def scenario(sink: Any, broker: Any) -> None:
        await until(lambda: broker.connections >= 2)
        assert reason in sink.stats().last_error
        assert not sink.stats().up

    run(rig, scripted, script, scenario)


def test_acknowledges_what_was_never_sent(rig: Any, scripted: Any) -> None:
    async def script(wire: Any) -> None:
        await wire.accept()
        for identifier in (0, 1, 64, 65, 66, 9999, 65535):
            wire.send(puback(identifier))
        await asyncio.sleep(0.1)
        async for packet in wire.publishes():
            wire.send(puback(packet.identifier) * 2 + puback(packet.identifier, 0x97))

    async def scenario(sink: Any, broker: Any) -> None:
        await rig.up()
        await asyncio.sleep(0.1)
        rig.put(20)
        assert await sink.drain(10)
        assert sink.stats().samples_published == 20
        assert sink.stats().refusals == 0

    run(rig, scripted, script, scenario)


def test_out_of_quota_is_waited_for(rig: Any, scripted: Any) -> None:
    seen: list[tuple[str, bytes]] = []
    refusing = [12]

    async def script(wire: Any) -> None:
        await wire.accept()
        async for packet in wire.publishes():
            if packet.topic.endswith("telemetry") and refusing[0] > 0:
                refusing[0] -= 1
                wire.send(puback(packet.identifier, 0x97))
            else:
                seen.append((packet.topic, payload(packet)))
                wire.send(puback(packet.identifier, 0))

    async def scenario(sink: Any, broker: Any) -> None:
        await rig.up()
        rig.put(10)
        await until(lambda: sink.stats().refusals == 10)
        assert sink.stats().last_error.endswith("quota exceeded")
        rig.put(5)
        assert await sink.drain(20)
        assert bodies(seen) == list(range(2, 15)) or sorted(set(bodies(seen))) == list(range(15))
        assert sink.stats().samples_published == 15
        assert sink.stats().last_error is None

    run(rig, scripted, script, scenario)


def test_a_refused_topic_goes_on_where_it_was(rig: Any, scripted: Any) -> None:
    seen: list[tuple[str, bytes]] = []
    allowed = False

    async def script(wire: Any) -> None:
        await wire.accept()
        async for packet in wire.publishes():
            if packet.topic.endswith("pump-0/telemetry") and not allowed:
                wire.send(puback(packet.identifier, 0x87))
            else:
                seen.append((packet.topic, payload(packet)))
                wire.send(puback(packet.identifier))

    async def scenario(sink: Any, broker: Any) -> None:
        nonlocal allowed
        await rig.up()
        for _ in range(10):
            rig.put(10, streams=2)
            await asyncio.sleep(0.01)
        await until(lambda: sum("pump-1" in topic for topic, _ in seen) == 100)
        refused = sink.stats().refusals
        await until(lambda: sink.stats().refusals > refused)  # it is tried again, one record at a time
        assert sink.stats().refusals <= refused + 2
        assert sink.stats().samples_spooled == 100
        allowed = True
        assert await sink.drain(20)
        assert bodies([each for each in seen if "pump-0" in each[0]]) == list(range(100))
        assert bodies([each for each in seen if "pump-1" in each[0]]) == list(range(100))

    run(rig, scripted, script, scenario)


def publish(topic: bytes, body: bytes, identifier: int = 7, properties: bytes = b"\0") -> bytes:
    content = len(topic).to_bytes(2, "big") + topic + identifier.to_bytes(2, "big") + properties + body
    length, size = b"", len(content)
    while True:
        size, low = size >> 7, size & 0x7F
        length += bytes((low | 0x80 if size else low,))
        if not size:
            return b"\x32" + length + content


DESIRED = b"devicemesh/v1/default/pump-0/twin/desired"


@pytest.mark.parametrize(
    "nonsense",
    [
        publish(b"devicemesh/v1/default/\xff\xfe/twin/desired", b"{}"),
        publish(b"", b"{}"),
        publish(b"", b"{}", properties=bytes((3, 0x23, 0xFF, 0xFF))),  # a topic alias that we never offered
        publish(b"devicemesh/v1/default/pump-0/twin/desired/../../x", b"{}"),
        publish(b"devicemesh/v1/+/#/twin/desired", b"{}"),
        publish(b"devicemesh/v1/default/pump\0/twin/desired", b"{}"),
        publish(b"x" * 65535, b"{}"),
        publish(b"devicemesh/v1/other/pump-0/command/" + b"y" * 10_000, b"{}"),
        publish(DESIRED, b"{}", identifier=0),
        publish(DESIRED, b"{}", properties=bytes((0x7F,))),
        bytes((0xF0, 0)),
        bytes((0x00, 0)),
        bytes((0xD0, 0)),
        bytes((0xE0, 2, 0x8E, 0)),
        b"\x32\xff\xff\xff\xff",
        b"\x32\x80\x80\x80\x80\x01",
        bytes(2000),
        bytes(range(256)) * 20,
    ],
)
def test_nonsense_harms_nothing(rig: Any, scripted: Any, nonsense: bytes) -> None:
    first = True

    async def script(wire: Any) -> None:
        nonlocal first
        await wire.accept()
        if first:
            first = False
            wire.send(nonsense)
        async for packet in wire.publishes():
            wire.send(puback(packet.identifier))

    async def scenario(sink: Any, broker: Any) -> None:
        sink.on_command(rig.on_command)
        rig.put(5)
        assert await sink.drain(10)
        assert sink.stats().samples_published == 5
        assert not [each for each in rig.commands if each.device != "default/pump-0"]

    run(rig, scripted, script, scenario)


def test_giants_are_skipped_and_acknowledged(rig: Any, scripted: Any) -> None:
    """MQTT 3.1.1 has no way to refuse them, and a retained one would come with every connection."""
    answered: list[int] = []

    async def script(wire: Any) -> None:
        await wire.accept(bytes((0x20, 2, 0, 0)))
        wire.send(publish(DESIRED, b"x" * 20_000_000, identifier=77, properties=b""))
        wire.send(publish(DESIRED, b'{"speed": 3}', identifier=78, properties=b""))
        while True:
            packet = await wire.packet()
            if packet.kind == 4:
                answered.append(int.from_bytes(packet.body[:2], "big"))
            elif packet.kind == 3:
                wire.send(puback(packet.identifier))

    async def scenario(sink: Any, broker: Any) -> None:
        sink.on_command(rig.on_command)
        await until(lambda: answered == [77, 78])
        await until(lambda: rig.commands)
        assert rig.commands[0].body == {"speed": 3}
        assert broker.connections == 1

    run(rig, scripted, script, scenario, version="3.1.1")


def test_pings_are_expected(rig: Any, scripted: Any) -> None:
    async def script(wire: Any) -> None:
        await wire.accept(bytes((0x20, 6, 0, 0, 3, 0x13, 0, 1)))  # server keep alive: 1 s
        while True:
            packet = await wire.packet()
            if packet.kind == 3:
                wire.send(puback(packet.identifier))

    async def scenario(sink: Any, broker: Any) -> None:
        await rig.up()
        await until(lambda: sink.stats().last_error)
        assert sink.stats().last_error == "the broker does not answer pings"

    run(rig, scripted, script, scenario)


def test_the_loop_never_blocks_on_a_name_lookup(rig: Any, monkeypatch: Any) -> None:
    import socket
    import time

    def slow(*_: Any, **__: Any) -> Any:
        time.sleep(0.5)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", slow)

    async def main() -> None:
        async with rig.sink("mqtt://broker.example:1883") as sink:
            gaps = []
            while not sink.stats().last_error:
                before = asyncio.get_running_loop().time()
                await asyncio.sleep(0.01)
                gaps.append(asyncio.get_running_loop().time() - before)
            assert max(gaps) < 0.3
            assert "the host of broker.example:1883 is unknown" in sink.stats().last_error

    asyncio.run(main())


def test_leaving_is_bounded(rig: Any, scripted: Any) -> None:
    async def script(wire: Any) -> None:
        await wire.accept()
        async for _ in wire.publishes():
            pass

    async def main() -> float:
        async with scripted(script) as broker:
            async with rig.sink(broker.url):
                await rig.up()
                rig.put(5)
                start = asyncio.get_running_loop().time()
            return asyncio.get_running_loop().time() - start

    assert asyncio.run(main()) < 3


def test_a_connection_without_a_descriptor_to_spare(rig: Any, scripted: Any, monkeypatch: Any) -> None:
    """It is tuned, or watched, less well, or tried again: nothing ends for ever."""
    failing = {"dup", "watch"}

    def no_dup(descriptor: int) -> int:
        failing.discard("dup")
        raise OSError(errno.EMFILE, "Too many open files")

    async def script(wire: Any) -> None:
        await wire.accept()
        async for packet in wire.publishes():
            wire.send(puback(packet.identifier))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        watch = loop.add_reader

        def no_watch(descriptor: int, *rest: Any) -> None:
            if "watch" in failing and rest[0].__name__ == "_on_readable":
                failing.discard("watch")
                raise OSError(errno.ENOSPC, "No space left on device")
            watch(descriptor, *rest)

        monkeypatch.setattr("devicemesh.sink.client.socket.dup", no_dup)
        monkeypatch.setattr(loop, "add_reader", no_watch)
        async with scripted(script) as broker, rig.sink(broker.url) as sink:
            await rig.up()
            rig.put(3)
            assert await sink.drain(5)
            assert not failing

    asyncio.run(main())


def test_a_connection_for_which_no_thread_can_be_started(rig: Any, scripted: Any, monkeypatch: Any) -> None:
    failed = threading.Event()
    start = threading.Thread.start

    def no_start(thread: threading.Thread) -> None:
        if thread.name == "mqtt connect" and not failed.is_set():
            failed.set()
            raise RuntimeError("can't start new thread")
        start(thread)

    async def script(wire: Any) -> None:
        await wire.accept()
        async for packet in wire.publishes():
            wire.send(puback(packet.identifier))

    async def scenario(sink: Any, broker: Any) -> None:
        await rig.up()
        assert failed.is_set()

    monkeypatch.setattr(threading.Thread, "start", no_start)
    run(rig, scripted, script, scenario)


@pytest.mark.parametrize("code", [0x80, 0x87])
def test_who_may_not_subscribe_is_told_so(rig: Any, scripted: Any, caplog: Any, code: int) -> None:
    async def script(wire: Any) -> None:
        await wire.accept()
        while True:
            packet = await wire.packet()
            if packet.kind == 3:
                wire.send(puback(packet.identifier))
            elif packet.kind == 8:
                wire.send(bytes((0x90, 5)) + packet.body[:2] + bytes((0, 1, code)))

    async def scenario(sink: Any, broker: Any) -> None:
        await rig.up()
        rig.put(3)
        assert await sink.drain(5)
        await until(lambda: "does not let us subscribe" in caplog.text)
        assert "no command arrives" in sink.stats().last_error

    run(rig, scripted, script, scenario)


@pytest.mark.parametrize("dumb", [False, True])
def test_who_leaves_with_a_backlog_is_offline(rig: Any, scripted: Any, monkeypatch: Any, dumb: bool) -> None:
    """The broker acknowledges state only, or nothing: then its will has to tell."""
    monkeypatch.setattr("devicemesh.sink.mqtt.FAREWELL_S", 0.3)
    packets: list[Any] = []
    ended = asyncio.Event()

    async def script(wire: Any) -> None:
        await wire.accept()
        try:
            while True:
                packets.append(await wire.packet())
                if packets[-1].kind == 3 and packets[-1].topic.endswith("/status") and not dumb:
                    wire.send(puback(packets[-1].identifier))
        except asyncio.IncompleteReadError:
            ended.set()

    async def main() -> None:
        async with scripted(script) as broker:
            async with rig.sink(broker.url):
                await rig.up()
                rig.put(5)
            await asyncio.wait_for(ended.wait(), 10)

    asyncio.run(main())
    last = [payload(each) for each in packets if each.kind == 3 and each.topic.endswith("/status")][-1]
    assert packets[-1].kind == (3 if dumb else 14), "a farewell keeps the will from being published"
    assert dumb or json.loads(last) == {"state": "offline", "reason": "stopped"}


def test_leaving_while_connecting(rig: Any, monkeypatch: Any) -> None:
    async def main() -> None:
        async with Proxy(9) as proxy:
            proxy.hole = True
            async with rig.sink(proxy.url):
                rig.put(2)
                await asyncio.sleep(0.05)

    asyncio.run(main())


def test_a_connection_that_breaks_while_it_is_looked_after_is_followed_by_another(
    rig: Any, scripted: Any
) -> None:
    async def script(wire: Any) -> None:
        await wire.accept()
        async for packet in wire.publishes():
            wire.send(puback(packet.identifier))

    async def scenario(sink: Any, broker: Any) -> None:
        await rig.up()
        connection = sink._connection
        connection.tend = lambda: connection.abort("the pipe is broken")
        await until(lambda: broker.connections == 2)
        rig.put()
        await until(lambda: sink.stats().samples_published == 1)
        assert sink.errors == 0

    run(rig, scripted, script, scenario)
