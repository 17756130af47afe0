"""A listening session, spoken to by gateways over real UDP."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from devicemesh_lora import mac
from devicemesh_lora.mac import MType

from devicemesh.mapper import AuthError, Invocation, LinkError, PointError, Quality, Write
from devicemesh.spec.values import ValueType

Run = Callable[[Any], None]


def down(packet: dict[str, Any], keys: tuple[bytes, bytes]) -> tuple[mac.DataFrame, bytes]:
    frame = mac.decode(base64.b64decode(packet["data"]))
    assert isinstance(frame, mac.DataFrame) and frame.is_signed(keys[0], frame.counter16)
    return frame, frame.opened(keys[1], frame.counter16)


def test_an_uplink_becomes_values_signal_and_counters(kit: Any, run: Run) -> None:
    async def work() -> None:
        port = kit.free_port()
        node, gateway = kit.node(port), kit.gateway(port)
        points = [
            kit.point(0, node, "float64", port=2, offset=0, type="int16", scale=0.1),
            kit.point(1, node, "float64", stat="rssi"),
            kit.point(2, node, "string", stat="gateway"),
            kit.point(3, node, "int64", stat="lost"),
            kit.point(4, node, "int32", port=3, offset=0),
            kit.point(5, gateway, "uint32", stat="rxok"),
            kit.point(6, node, "float64", port=5, channel=3),
            kit.point(7, node, "string", stat="dataRate"),
        ]
        async with kit.session(points) as (_, heard), kit.forwarder(port) as radio:
            radio.uplink(kit.frame(1))
            await kit.until(lambda: heard.of(0))
            assert heard.of(0) == [21.5] and heard.of(1) == [-60] and heard.of(4) == []
            assert heard.of(2) == [kit.gateway_eui] and heard.of(7) == ["SF7BW125"]
            radio.uplink(kit.frame(5, bytes.fromhex("0367010e"), 5))
            await kit.until(lambda: heard.of(6))
            assert heard.of(6) == [27.0] and heard.of(3)[-1] == 3
            radio.push({"stat": {"rxok": 7, "lati": 1.5}})
            await kit.until(lambda: 7 in heard.of(5))
            acks = [data for data in radio.heard if data[3] in (1, 4)]
            assert acks[0] == b"\x02ab\x04" and b"\x02xy\x01" in acks

    run(work())


def test_copies_are_one_uplink_and_the_best_one_counts(kit: Any, run: Run) -> None:
    async def work() -> None:
        port, other = kit.free_port(), "aa02030405060708"
        node = kit.node(port)
        points = [
            kit.point(0, node, "float64", stat="snr"), kit.point(1, node, "int32", stat="gateways"),
            kit.point(2, kit.gateway(port), "float64", stat="lastSeen"),
            kit.point(3, kit.gateway(port, other), "float64", stat="lastSeen"),
        ]  # fmt: skip
        async with (
            kit.session(points) as (session, heard),
            kit.forwarder(port) as near,
            kit.forwarder(port, other) as far,
        ):
            phy = kit.frame(1)
            far.uplink(phy, lsnr=-3)
            near.uplink(phy, lsnr=7)
            far.uplink(phy, lsnr=-3)
            await kit.until(lambda: heard.of(1))
            far.uplink(phy, lsnr=9)  # late: a copy, and no replay
            far.uplink(kit.frame(2), lsnr=1)
            await kit.until(lambda: len(heard.of(0)) == 2)
            assert heard.of(0) == [7, 1] and heard.of(1) == [2, 1] and not heard.errors
            assert session.network.by_eui[kit.eui].refused == 0

    run(work())


def test_a_device_joins_and_nonces_are_used_once(kit: Any, run: Run) -> None:
    async def work() -> None:
        port = kit.free_port()
        join_eui = "00000000000000aa"
        node = kit.node(port, otaa={"appKey": {"name": "node", "key": "appKey"}, "joinEui": join_eui})
        points = [
            kit.point(0, node, "int16", offset=0),
            kit.point(1, kit.gateway(port), "float64", stat="lastSeen"),
            kit.point(2, node, "string", stat="refusedReason"),
        ]

        def ask(nonce: int) -> bytes:
            return mac.join_request(kit.app_key, bytes.fromhex(join_eui), bytes.fromhex(kit.eui), nonce)

        async with kit.session(points) as (_, heard), kit.forwarder(port) as radio:
            radio.tmst = (1 << 32) - 1_000_000  # wraps before the device listens
            radio.uplink(ask(1))
            await kit.until(lambda: radio.sent)
            sent = radio.sent[0]
            assert (sent["tmst"], sent["freq"], sent["datr"], sent["ipol"], sent["imme"]) == (
                4_000_000, 868.1, "SF7BW125", True, False,
            )  # fmt: skip
            accept = mac.open_join_accept(kit.app_key, base64.b64decode(sent["data"]))
            keys = mac.session_keys(kit.app_key, accept.join_nonce, accept.net_id, 1)
            radio.uplink(kit.frame(0, b"\x00\x07", keys=keys, address=accept.dev_addr))
            await kit.until(lambda: heard.of(0) == [7])
            radio.uplink(ask(1))
            await kit.until(lambda: "NonceReplay" in heard.of(2))
        async with kit.session(points) as (_, heard), kit.forwarder(port) as radio:  # a restart
            radio.uplink(ask(1))
            await kit.until(lambda: "NonceReplay" in heard.of(2))
            radio.uplink(kit.frame(0, b"\x00\x07", keys=keys, address=accept.dev_addr))
            radio.uplink(kit.frame(1, b"\x00\x08", keys=keys, address=accept.dev_addr))
            await kit.until(lambda: heard.of(0))
            assert heard.of(0) == [8], "the session outlives a restart, and so does its counter"
            radio.uplink(ask(2))
            await kit.until(lambda: [p for p in radio.sent if p["size"] == 17])

    run(work())


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({"devEui": "010000d07ed5b370"}, "`devEui` is declared with its bytes reversed"),
        ({"joinEui": "aa00000000000000"}, "its bytes reversed, declared is aa00000000000000"),
        ({"joinEui": "00000000000000bb"}, "its JoinEUI is 00000000000000aa, declared is 00000000000000bb"),
        ({"key": "reversed"}, "the AppKey is declared with its bytes reversed"),
        ({"key": "other"}, "the AppKey is not the device's"),
    ],
)
def test_mistakes_of_a_join_are_named(kit: Any, run: Run, declared: dict[str, str], says: str) -> None:
    keys = {"reversed": kit.app_key[::-1].hex(), "other": "00" * 16}

    async def work() -> None:
        port = kit.free_port()
        otaa = {
            "appKey": {"name": "node", "key": "appKey"},
            "joinEui": declared.get("joinEui", "00000000000000aa"),
        }
        node = kit.node(port, otaa=otaa, devEui=declared.get("devEui", kit.eui))
        points = [
            kit.point(0, node, "int16", offset=0),
            kit.point(1, kit.gateway(port), "float64", stat="lastSeen"),
        ]
        secret = keys.get(declared.get("key", ""), kit.app_key.hex())
        async with kit.session(points, lambda ref: secret) as (_, heard), kit.forwarder(port) as radio:
            radio.uplink(mac.join_request(kit.app_key, bytes(7) + b"\xaa", bytes.fromhex(kit.eui), 1))
            await kit.until(lambda: heard.errors)
            assert says in str(heard.errors[0])

    run(work())


def test_mistakes_of_a_session_are_named(kit: Any, run: Run) -> None:
    async def work() -> None:
        port = kit.free_port()
        keys = {key: {"name": "node", "key": key} for key in ("nwkSKey", "appSKey")}
        abp = {"devAddr": "efcdab01", **keys}
        points = [kit.point(0, kit.node(port, abp=abp), "int16", offset=0),
                  kit.point(1, kit.gateway(port), "float64", stat="lastSeen")]  # fmt: skip
        async with kit.session(points) as (_, heard), kit.forwarder(port) as radio:
            radio.uplink(kit.frame(1))
            await kit.until(lambda: heard.errors)
            assert "it sends as 01abcdef: `devAddr` is declared with its bytes reversed" in str(
                heard.errors[0]
            )
        points = [kit.point(0, kit.node(port), "int16", offset=0), points[1]]
        turned = {"nwkSKey": kit.keys[0][::-1].hex(), "appSKey": kit.keys[1].hex()}
        async with (
            kit.session(points, lambda ref: turned[ref.key]) as (_, heard),
            kit.forwarder(port) as radio,
        ):
            radio.uplink(kit.frame(1))
            await kit.until(lambda: heard.errors)
            assert "the NwkSKey is declared with its bytes reversed" in str(heard.errors[0])

        def missing(ref: Any) -> str:
            raise AuthError("no such secret", reason="SecretMissing")

        async with kit.session(points, missing) as (_, heard), kit.forwarder(port):
            await kit.until(lambda: heard.errors)
            assert heard.errors[0].reason == "SecretMissing"

    run(work())


def test_a_confirmed_uplink_is_acknowledged_and_again_when_repeated(kit: Any, run: Run) -> None:
    async def work() -> None:
        port = kit.free_port()
        points = [kit.point(0, kit.node(port), "int16", offset=0),
                  kit.point(1, kit.gateway(port), "float64", stat="lastSeen")]  # fmt: skip
        async with kit.session(points) as (session, heard), kit.forwarder(port) as radio:
            phy = kit.frame(1, kind=MType.CONFIRMED_UP)
            radio.refuse = ["TOO_LATE"]
            radio.uplink(phy)
            await kit.until(lambda: len(radio.sent) == 2)
            first, second = radio.sent
            assert first["tmst"] == radio.tmst + 1_000_000 and second["tmst"] == radio.tmst + 2_000_000
            assert (second["freq"], second["datr"]) == (869.525, "SF12BW125")
            assert first["data"] == second["data"] and session.flights.refused == {"TOO_LATE": 1}
            assert down(first, kit.keys)[0].acknowledges
            await kit.until(lambda: heard.of(0))
            session.network.by_eui[kit.eui].last_heard -= 10  # as if it came later
            radio.uplink(phy)
            await kit.until(lambda: len(radio.sent) == 3)
            again = down(radio.sent[2], kit.keys)[0]
            assert again.acknowledges and again.counter16 == 1 and heard.of(0) == [215]

    run(work())


def test_a_write_and_a_call_are_downlinks(kit: Any, run: Run) -> None:
    async def work() -> None:
        port = kit.free_port()
        node = kit.node(port)
        points = [
            kit.point(0, node, "float64", port=9, offset=0, type="uint16", scale=0.5, prefix="01"),
            kit.point(1, kit.gateway(port), "float64", stat="lastSeen"),
        ]
        async with kit.session(points) as (session, _), kit.forwarder(port) as radio:
            writing = asyncio.create_task(session.write([Write(points[0], 10.0), Write(points[0], 1e9)]))
            await asyncio.sleep(0)
            radio.uplink(kit.frame(1))
            done, refused = await writing
            assert done.error is None and refused.error.reason == "WrongType"
            frame, payload = down(radio.sent[0], kit.keys)
            assert (frame.port, payload) == (9, bytes.fromhex("010014"))
            from devicemesh_lora.model import LoraCommand

            command = LoraCommand(port=7, payload="aa", types={"seconds": ValueType.UINT16})
            call = Invocation(
                "default/n", "reset", node, command, {"seconds": 5}, {"seconds": ValueType.INT64}
            )
            calling = asyncio.create_task(session.invoke(call))
            await asyncio.sleep(0)
            radio.uplink(kit.frame(2))
            assert await calling == {"gateway": kit.gateway_eui, "bytes": "aa0005"}

    run(work())


def test_a_confirmed_write_waits_for_the_device(kit: Any, run: Run) -> None:
    async def work() -> None:
        port = kit.free_port()
        node = kit.node(port, confirmed=True, writeTimeout="50ms")
        points = [kit.point(0, node, "uint8", port=9, offset=0),
                  kit.point(1, kit.gateway(port), "float64", stat="lastSeen")]  # fmt: skip
        async with kit.session(points) as (session, _), kit.forwarder(port) as radio:
            (late,) = await session.write([Write(points[0], 5)])
            assert late.error.reason == "NoAnswer" and "queued for its next uplink" in str(late.error)
            radio.uplink(kit.frame(1))
            await kit.until(lambda: len(radio.sent) == 1)
            radio.uplink(kit.frame(2))  # without an acknowledgement: it goes out again
            await kit.until(lambda: len(radio.sent) == 2)
            frames = [down(one, kit.keys) for one in radio.sent]
            assert [f.mtype for f, _ in frames] == [MType.CONFIRMED_DOWN] * 2
            assert [p for _, p in frames] == [b"\x05"] * 2 and frames[1][0].counter16 == frames[0][
                0
            ].counter16 + 1
            queued = session.network.by_eui[kit.eui].queue[0].done
            radio.uplink(kit.frame(3, control=0x20))
            assert await queued == kit.gateway_eui

    run(work())


@pytest.mark.parametrize("confirmed", [False, True])
def test_what_does_not_fit_a_slow_data_rate_holds_up_nobody(kit: Any, run: Run, confirmed: bool) -> None:
    async def work() -> None:
        port = kit.free_port()
        node = kit.node(port, confirmed=confirmed, writeTimeout="10ms")
        points = [
            kit.point(0, node, "bytes", port=9, offset=0, length=60),
            kit.point(1, node, "uint8", port=9, offset=0),
            kit.point(2, kit.gateway(port), "float64", stat="lastSeen"),
        ]
        async with kit.session(points) as (session, _), kit.forwarder(port) as radio:
            await session.write([Write(points[0], b"x" * 60), Write(points[1], 5)])
            large, small = (one.done for one in session.network.by_eui[kit.eui].queue)
            radio.uplink(kit.frame(1), datr="SF12BW125")
            await kit.until(lambda: len(radio.sent) == 1)
            assert down(radio.sent[0], kit.keys)[1] == b"\5"
            radio.uplink(kit.frame(2, control=0x20 if confirmed else 0))
            await kit.until(lambda: len(radio.sent) == 2)
            assert down(radio.sent[1], kit.keys)[1] == b"x" * 60
            assert await small == kit.gateway_eui
            radio.uplink(kit.frame(3, control=0x20 if confirmed else 0))
            assert await large == kit.gateway_eui

    run(work())


def test_commands_that_were_given_up_take_no_place(kit: Any, run: Run) -> None:
    from devicemesh_lora.model import LoraCommand

    async def work() -> None:
        port = kit.free_port()
        node = kit.node(port, writeTimeout="1ms")
        points = [
            kit.point(0, node, "uint8", offset=0),
            kit.point(1, kit.gateway(port), "float64", stat="rxnb"),
        ]
        async with kit.session(points) as (session, _):
            for _ in range(20):
                with pytest.raises(PointError, match="was not heard within 1ms"):
                    call = Invocation("default/n", "reset", node, LoraCommand(port=7, payload="aa"), {}, {})
                    await session.invoke(call)

    run(work())


def test_link_check_and_device_status(kit: Any, run: Run) -> None:
    async def work() -> None:
        port = kit.free_port()
        node = kit.node(port)
        points = [kit.point(0, node, "float64", stat="battery"), kit.point(1, node, "int8", stat="margin"),
                  kit.point(2, kit.gateway(port), "float64", stat="lastSeen")]  # fmt: skip
        async with kit.session(points) as (_, heard), kit.forwarder(port) as radio:
            radio.uplink(kit.frame(1, options=b"\x02"))
            await kit.until(lambda: radio.sent)
            assert down(radio.sent[0], kit.keys)[0].options == b"\x02\x0d\x01\x06"
            radio.uplink(kit.frame(2, options=b"\x06\xfe\x3f"))
            await kit.until(lambda: heard.of(1))
            assert heard.of(0) == [100.0] and heard.of(1) == [-1]

    run(work())


def test_a_counter_outlives_a_restart_and_one_that_goes_back_is_told_of(kit: Any, run: Run) -> None:
    async def work() -> None:
        port = kit.free_port()
        points = [kit.point(0, kit.node(port), "int16", offset=0),
                  kit.point(1, kit.gateway(port), "float64", stat="lastSeen")]  # fmt: skip
        async with kit.session(points) as (_, heard), kit.forwarder(port) as radio:
            for counter in (0xFFFF, 0x10000, 0x18001):
                radio.uplink(kit.frame(counter))
                await kit.until(lambda: heard.of(0))
                heard.values.clear()
        async with kit.session(points) as (_, heard), kit.forwarder(port) as radio:
            radio.uplink(kit.frame(0))
            radio.uplink(kit.frame(1))
            await kit.until(lambda: heard.errors)
            assert heard.errors[0].reason == "CounterWentBack" and "counter 1 after 98305" in str(
                heard.errors[0]
            )
            assert not heard.of(0)
            radio.uplink(kit.frame(0x18002))
            await kit.until(lambda: heard.of(0))
        points = [kit.point(0, kit.node(port, skipCounterCheck=True), "int16", offset=0), points[1]]
        async with kit.session(points) as (_, heard), kit.forwarder(port) as radio:
            radio.uplink(kit.frame(0))
            await kit.until(lambda: heard.of(0))

    run(work())


def test_only_declared_gateways_are_heard(kit: Any, run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        port = kit.free_port()
        node, far = kit.node(port), "ff02030405060708"
        points = [kit.point(0, node, "int16", offset=0), kit.point(1, kit.gateway(port), "float64", stat="lastSeen"),
                  kit.point(2, kit.gateway(port, far, sender="192.0.2.0/24"), "float64", stat="lastSeen")]  # fmt: skip
        async with kit.session(points) as (session, heard), kit.forwarder(port) as radio:
            radio.eui = bytes.fromhex(far)
            radio.uplink(kit.frame(1))
            for number in range(1500):
                radio.eui = number.to_bytes(8, "big")
                radio.pull()
                if number % 100 == 0:
                    await asyncio.sleep(0.005)
            radio.eui = bytes.fromhex(kit.gateway_eui)
            radio.uplink(kit.frame(2, b"\x00\x09"))
            await kit.until(lambda: heard.of(0))
            assert heard.of(0) == [9] and len(session.gateways.strangers) <= 1000
            assert "it is declared, but not as coming from there" in caplog.text

    run(work())


def test_silence_turns_values_bad(kit: Any, run: Run) -> None:
    async def work() -> None:
        port = kit.free_port()
        points = [kit.point(0, kit.node(port, lifetime="50ms"), "int16", offset=0)]
        async with kit.session(points) as (_, heard):
            await kit.until(lambda: heard.errors)
            assert f"{kit.eui} has sent nothing to listen 127.0.0.1:{port} for 0.05 s" in str(heard.errors[0])

    run(work())


def test_a_port_that_is_taken_is_a_link_error(kit: Any, run: Run) -> None:
    async def work() -> None:
        port = kit.free_port()
        points = [kit.point(0, kit.node(port), "int16", offset=0)]
        async with kit.session(points):
            with pytest.raises(LinkError, match="Address already in use"):
                async with kit.session(points):
                    pytest.fail("two listeners")

    run(work())


def test_a_disk_that_is_full_is_a_link_error(kit: Any, run: Run, home: Path) -> None:
    full = "create trigger full before insert on sessions begin select raise(fail, 'disk is full'); end"

    async def work() -> None:
        port = kit.free_port()
        points = [
            kit.point(0, kit.node(port), "int16", offset=0),
            kit.point(1, kit.gateway(port), "float64", stat="rxnb"),
        ]
        async with kit.open(points[0].endpoint) as session, contextlib.AsyncExitStack() as stack:
            pushes = await stack.enter_async_context(contextlib.aclosing(session.subscribe(points)))
            waiting = asyncio.ensure_future(anext(pushes))
            await kit.until(lambda: session.network.by_eui)
            session._store._database.execute(full)
            radio = await stack.enter_async_context(kit.forwarder(port))
            radio.uplink(kit.frame(1, b"\0\1"))
            assert list((await waiting).value) == [1]
            with pytest.raises(LinkError, match=f"can't be kept in {home}.* disk is full") as caught:
                await anext(pushes)
            assert caught.value.reason == "NoStore"

    run(work())


def test_a_burst_is_not_lost(kit: Any, run: Run) -> None:
    async def work() -> None:
        port = kit.free_port()
        points = [
            kit.point(0, kit.node(port), "int16", offset=0),
            kit.point(1, kit.gateway(port), "float64", stat="lastSeen"),
        ]
        phys = [kit.frame(counter, counter.to_bytes(2, "big")) for counter in range(1, 501)]
        async with kit.session(points) as (_, heard), kit.forwarder(port) as radio:
            for phy in phys:
                radio.uplink(phy)
            await kit.until(lambda: len(heard.of(0)) == 500)
            assert heard.of(0) == list(range(1, 501))
            assert Quality.GOOD == 0 and json.dumps(heard.errors) == "[]"

    run(work())


def test_what_comes_while_devices_are_declared_anew_is_counted(kit: Any, run: Run) -> None:
    """The runtime has left one subscription and not yet begun the next one."""

    async def work() -> None:
        port = kit.free_port()
        points = [
            kit.point(0, kit.node(port), "int16", offset=0),
            kit.point(1, kit.gateway(port), "float64", stat="rxnb"),
        ]
        async with kit.open(points[0].endpoint) as session, contextlib.AsyncExitStack() as stack:
            async with contextlib.aclosing(session.subscribe(points)) as first:
                waiting = asyncio.ensure_future(anext(first))
                await kit.until(lambda: session.network.by_eui)
                radio = await stack.enter_async_context(kit.forwarder(port))
                radio.uplink(kit.frame(1, b"\0\1"))
                assert list((await waiting).value) == [1] and session.lost() == {}
            radio.uplink(kit.frame(2, b"\0\2"))
            await kit.until(lambda: session.network.by_eui[kit.eui].uplinks == 2)
            async with contextlib.aclosing(session.subscribe(points)) as second:
                waiting = asyncio.ensure_future(anext(second))
                await asyncio.sleep(0)
                radio.uplink(kit.frame(3, b"\0\3"))
                assert list((await waiting).value) == [3]
            assert session.lost() == {"redeclared": 1}

    run(work())
