"""What people set, and call, at ThingsBoard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devicemesh.sink.base import Command
from devicemesh.testing.thingsboard import ThingsBoard
from devicemesh.testing.waiting import until

Plants = Callable[..., Any]


def desired(**values: Any) -> Command:
    return Command("desired", "default/pump-1", "", values)


def test_a_shared_attribute_is_a_desired_value(plant: Plants, platform: ThingsBoard) -> None:
    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            await until(platform.connected)
            platform.share("pump-1", speed=1200, fw_title="x", count=5)
            await until(lambda: it.commands)
            platform.share("pump-1", "speed", "fw_title")
            await until(lambda: len(it.commands) == 2)
            assert it.commands == [desired(speed=1200), desired(speed=None)]
            it.sink.event("default/pump-1", "twin/desired/result", {"property": "speed", "state": "applied"})
            pump = platform.devices["pump-1"]
            await until(
                lambda: pump.latest("twin/desired/result") == {"property": "speed", "state": "applied"}
            )

    asyncio.run(scenario())


def test_what_was_shared_while_we_were_away_is_desired_and_what_is_known_is_not(
    plant: Plants, platform: ThingsBoard
) -> None:
    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            await until(platform.connected)
            platform.share("pump-1", speed=1200, mode="auto")
            await until(lambda: it.commands == [desired(speed=1200, mode="auto")])
            platform.stop()
            platform.devices["pump-1"].shared = {"speed": 1300, "running": True}
            platform.start()
            await until(lambda: len(it.commands) == 2)
            assert it.commands[1] == desired(speed=1300, running=True, mode=None)
            platform.stop()
            platform.start()
            await until(lambda: platform.devices["pump-1"].connects == 3)
            platform.share("pump-1", speed=1400)
            await until(lambda: len(it.commands) == 3)
            assert it.commands[2] == desired(speed=1400)

    asyncio.run(scenario())


def test_the_next_process_knows_what_was_shared(plant: Plants, platform: ThingsBoard) -> None:
    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            await until(platform.connected)
            platform.share("pump-1", speed=1200)
            await until(lambda: it.commands)
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            await until(lambda: platform.devices["pump-1"].connects == 2)
            platform.share("pump-1", mode="auto")
            await until(lambda: it.commands)
            assert it.commands == [desired(mode="auto")]

    asyncio.run(scenario())


def test_true_is_no_1(plant: Plants, platform: ThingsBoard) -> None:
    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            await until(platform.connected)
            for value in (1, True, 1):
                platform.share("pump-1", running=value)
            platform.share("pump-1", mode="end")
            await until(lambda: desired(mode="end") in it.commands)
            assert [repr(one.body["running"]) for one in it.commands[:-1]] == ["1", "True", "1"]

    asyncio.run(scenario())


def test_the_last_of_more_edits_than_may_wait_is_desired(plant: Plants, platform: ThingsBoard) -> None:
    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.takes_s = 0.01
            it.up("default/pump-1")
            await until(platform.connected)
            for speed in range(100):
                platform.share("pump-1", speed=speed)
            await until(lambda: it.sink.stats().commands_refused)
            await until(lambda: it.commands and it.commands[-1] == desired(speed=99), 20)

    asyncio.run(scenario())


def test_what_waits_is_no_edit_that_was_seen(plant: Plants, platform: ThingsBoard, tmp_path: Path) -> None:
    """Who dies before it is desired must not take it for old news."""

    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.takes_s = 3600
            it.up("default/pump-1")
            await until(platform.connected)
            platform.share("pump-1", speed=1200)
            await until(lambda: it.sink._inbox.waiting)
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            await until(lambda: it.commands == [desired(speed=1200)], 20)
            await until((tmp_path / "thingsboard").exists, 20)

    asyncio.run(scenario())


def test_one_property_alone_comes_as_a_value(plant: Plants, platform: ThingsBoard) -> None:
    model = {"properties": [{"name": "speed", "type": "float32", "access": "ReadWrite"}]}

    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.declare("default/pump-1", model=model)
            it.sink.forget_absent(lambda device: True)
            it.state("default/pump-1")
            await until(platform.connected)
            platform.stop()
            platform.devices["pump-1"].shared = {"speed": 7.5}
            platform.start()
            await until(lambda: it.commands == [desired(speed=7.5)])

    asyncio.run(scenario())


def test_a_command_of_the_model_is_a_method(plant: Plants, platform: ThingsBoard) -> None:
    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            await until(platform.connected)
            reset = platform.request("pump-1", "reset", True)
            move = platform.request("pump-1", "move", {"position": 4.5})
            await until(lambda: len(it.commands) == 2)
            assert [(one.kind, one.name, one.body) for one in it.commands] == [
                ("command", "reset", None), ("command", "move", {"position": 4.5}),
            ]  # fmt: skip
            result = {"state": "applied", "result": {"duration": 1.5}, "id": it.commands[1].id}
            it.sink.event("default/pump-1", "command/move/result", result)
            refused = {
                "state": "refused",
                "reason": "Refused",
                "message": "the key is off",
                "id": it.commands[0].id,
            }
            it.sink.event("default/pump-1", "command/reset/result", refused)
            await until(lambda: {reset, move} <= platform.answers.keys())
            assert platform.answers[move] == {"success": True, "result": {"duration": 1.5}}
            assert platform.answers[reset] == {
                "success": False,
                "error": "the key is off",
                "reason": "Refused",
            }
            assert it.sink.stats().outbox_messages == 0

    asyncio.run(scenario())


def test_calls_of_two_devices_may_have_the_same_id(plant: Plants, platform: ThingsBoard) -> None:
    """Each device counts its own at ThingsBoard."""

    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1", "default/pump-2")
            await until(lambda: len(platform.connected()) == 2)
            asked = [platform.request(pump, "move", {"position": 1}) for pump in ("pump-1", "pump-2")]
            assert asked == [("pump-1", 1), ("pump-2", 1)]
            await until(lambda: len(it.commands) == 2)
            for command in it.commands:
                result = {"state": "applied", "result": {"of": command.device}, "id": command.id}
                it.sink.event(command.device, "command/move/result", result)
            await until(lambda: len(platform.answers) == 2)
            for pump, _ in asked:
                assert platform.answers[pump, 1]["result"] == {"of": f"default/{pump}"}

    asyncio.run(scenario())


def test_set_is_answered_when_all_is_known(plant: Plants, platform: ThingsBoard) -> None:
    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            await until(platform.connected)
            both = platform.request("pump-1", "set", {"speed": 1200, "mode": "auto"})
            await until(lambda: it.commands)
            command = it.commands[0]
            assert (command.kind, command.body) == ("write", {"speed": 1200, "mode": "auto"})
            applied = {"state": "applied", "id": command.id}
            it.sink.event("default/pump-1", "twin/desired/result", {"property": "speed", **applied})
            wrong = platform.request("pump-1", "set", "speed=9999")
            await until(lambda: len(it.commands) == 2)
            assert both not in platform.answers
            it.sink.event("default/pump-1", "twin/desired/result", {"property": "mode", **applied})
            refused = {
                "state": "refused",
                "message": "9999 is above speed's maximum",
                "id": it.commands[1].id,
            }
            it.sink.event("default/pump-1", "twin/desired/result", {"property": "speed", **refused})
            await until(lambda: {both, wrong} <= platform.answers.keys())
            assert platform.answers[both] == {"success": True}
            assert platform.answers[wrong]["error"] == "speed: 9999 is above speed's maximum"

    asyncio.run(scenario())


def test_get_is_answered_with_the_newest_readings(plant: Plants, platform: ThingsBoard) -> None:
    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            await until(platform.connected)
            twin = {"speed": {"reported": {"value": 1198.5, "quality": "Good"}},
                    "count": {"reported": {"value": 3, "quality": "Good"}},
                    "mode": {"reported": {"value": None, "quality": "Bad.NoAnswer"}}}  # fmt: skip
            asked = [platform.request("pump-1", "get", params)
                     for params in ("speed", ["speed", "count"], "mode", "nothing", 5, None)]  # fmt: skip
            await until(lambda: len(it.commands) == 5)
            for command in it.commands:
                assert command.kind == "read"
                body = {"state": "applied", "reported": twin, "id": command.id}
                it.sink.event("default/pump-1", "twin/desired/result", body)
                it.sink.event("default/pump-1", "twin/desired/result", body)
            await until(lambda: platform.answers.keys() >= set(asked))
            one, some, bad, unknown, odd, rest = (platform.answers[number] for number in asked)
            assert one == {"result": 1198.5}
            assert some == {"result": {"speed": 1198.5, "count": 3}}
            assert bad == {"success": False, "error": "mode: Bad.NoAnswer"}
            assert unknown["error"] == "no property `nothing`"
            assert "get takes" in odd["error"]
            assert rest == some, "what has a value"
            assert await it.sink.drain(5)
            assert not platform.devices["pump-1"].telemetry

    asyncio.run(scenario())


def test_what_is_not_there_is_refused_in_words(plant: Plants, platform: ThingsBoard) -> None:
    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            await until(platform.connected)
            asked = [platform.request("pump-1", "fly"), platform.request("pump-1", "set", "speed")]
            await until(lambda: platform.answers.keys() >= set(asked))
            fly, nothing = (platform.answers[number]["error"] for number in asked)
            assert fly == "the device has no method `fly`; there are reset, move, set, get"
            assert "no property=value" in nothing
            assert it.commands == []

    asyncio.run(scenario())


def test_an_answer_after_a_break_is_kept_as_telemetry(plant: Plants, platform: ThingsBoard) -> None:
    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            await until(platform.connected)
            platform.request("pump-1", "set", {"speed": 1200})
            await until(lambda: it.commands)
            platform.stop()
            await until(lambda: not it.sink.stats().up)
            result = {"property": "speed", "state": "applied", "id": it.commands[0].id}
            it.sink.event("default/pump-1", "twin/desired/result", result)
            platform.start()
            await until(lambda: platform.devices["pump-1"].latest("twin/desired/result"))
            assert platform.answers == {}

    asyncio.run(scenario())


def test_a_device_that_is_deleted_there_is_made_anew_with_its_profile(
    plant: Plants, platform: ThingsBoard
) -> None:
    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            await until(lambda: platform.connected() and platform.devices["pump-1"].client)
            platform.delete("pump-1")
            await until(lambda: platform.connected() == ["pump-1"])
            assert platform.devices["pump-1"].type == "pump"
            await until(lambda: platform.devices["pump-1"].client.get("twin/state") == "Ready")
            assert platform.answers["", 77] == {"success": True}

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("v1/gateway/rpc", b"{"),
        ("v1/gateway/rpc", b'{"device":"pump-1","data":{"method":"reset"}}'),
        ("v1/gateway/attributes", b"[1]"),
        ("v1/gateway/attributes/response", b'{"id":99,"device":"pump-1","value":1}'),
        ("v1/gateway/attributes/response", b"{}"),
        ("v1/devices/me/rpc/response/1", b"nonsense"),
        ("v1/gateway/rpc", b'{"device":"pump-1","data":"' + b"x" * 300_000 + b'"}'),
        ("v1/elsewhere", b"{}"),
    ],
)
def test_nonsense_is_counted_and_harms_nobody(
    plant: Plants, platform: ThingsBoard, topic: str, payload: bytes
) -> None:
    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            await until(platform.connected)
            platform.call(lambda: platform.sessions[0].publish(topic, payload))
            await until(lambda: it.sink.stats().commands_refused == 1)
            platform.share("pump-1", speed=1)
            await until(lambda: it.commands == [desired(speed=1)])

    asyncio.run(scenario())


def test_two_thousand_shared_values_are_not_too_many(
    plant: Plants, platform: ThingsBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devicemesh.sink.thingsboard.gateway.FEW", 1 << 30)  # no rest after a hang-up
    pumps = [f"default/pump-{number}" for number in range(2000)]
    model = {"properties": [{"name": "speed", "type": "float32", "access": "ReadWrite"}]}

    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.takes_s = 0.1
            it.declare(*pumps, model=model)
            it.sink.forget_absent(lambda device: True)
            it.state(*pumps)
            await until(lambda: len(platform.connected()) == 2000)
            await until(lambda: all("twin/state" in one.client for one in platform.devices.copy().values()))
            platform.stop()
            for device in platform.devices.copy().values():
                device.shared = {"speed": 5}
            platform.start()
            await until(
                lambda: len({one.device for one in it.commands}) == 2000,
                why=lambda: (len(it.commands), it.sink.stats(), it.sink._dialect._limits),
            )
            assert it.sink.stats().commands_refused == 0

    asyncio.run(scenario())


def test_a_device_that_is_declared_no_more_is_forgotten(
    plant: Plants, platform: ThingsBoard, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with plant(platform.url) as it:
            it.up("default/pump-1")
            await until(platform.connected)
            platform.share("pump-1", speed=1200)
            await until(lambda: it.commands)
        assert "pump-1" in (tmp_path / "thingsboard").read_text()
        async with plant(platform.url) as it:
            it.sink.forget_absent(lambda device: False)
        assert (tmp_path / "thingsboard").read_text() == ""

    asyncio.run(scenario())
