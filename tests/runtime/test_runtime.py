"""The runtime on fakes, in virtual time: hours of backing off take a moment."""

import asyncio
import itertools
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from devicemesh.mapper import Outcome, PointError
from devicemesh.runtime.link import Link
from devicemesh.sink.base import Command
from devicemesh.store.base import Key
from devicemesh.testing.fake import FakeSession

Play = Callable[[Any], None]
SPEED = {"name": "speed", "access": "ReadWrite", "maximum": 3000, "unit": "rpm",
         "telemetry": {"samplingInterval": "100ms", "report": "every"}}  # fmt: skip


def values(world: Any, device: str = "default/pump-1") -> list[dict[str, Any]]:
    return [
        row["values"] for d, body in world.sink.published if d == device for row in json.loads(body)["rows"]
    ]


def test_a_declared_device_is_read_and_published(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        key = await world.device("pump-1")
        world.mapper.values["h1", 1, "speed"] = 42.5
        async with world.running():
            await world.ready(key)
            await asyncio.sleep(10)
        status = await world.status(key)
        assert status["properties"][0]["reported"]["value"] == 42.5
        assert status["properties"][0]["unit"] == "rpm"
        assert {"speed": 42.5} in values(world)
        assert abs(len(values(world)) - 100) < 15
        assert world.sink.retained["default/pump-1", "status"]["state"] == "Ready"
        assert world.sink.retained["default/pump-1", "twin/reported"]["speed"]["reported"]["value"] == 42.5
        sequence = [json.loads(body)["seq"] for _, body in world.sink.published]
        assert sequence == list(range(len(sequence)))

    play(scene)


def test_every_sample_is_accounted_for(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(
            SPEED,
            {"name": "a", "telemetry": {"samplingInterval": "50ms", "report": "window", "window": "1s"}},
            {"name": "b", "telemetry": {"samplingInterval": "200ms", "report": "change"}},
            {"name": "c", "telemetry": {"samplingInterval": "300ms", "report": "none"}},
        )
        for number in range(3):
            await world.device(f"pump-{number}", unit=number)
        async with world.running():
            await asyncio.sleep(7)
            world.mapper.silent.add(("h1", 1))
            await asyncio.sleep(7)
            world.mapper.down.add("h1")
            await asyncio.sleep(7)
        samples = world.runtime.samples()
        assert samples["read"] > 500
        assert samples["read"] == samples["published"] + sum(samples["dropped"].values())
        assert samples["pending"] == samples["spooled"] == 0

    play(scene)


def test_a_dead_link_backs_off_never_gives_up_and_recovers(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        key = await world.device("pump-1")
        async with world.running():
            await world.ready(key)
            world.mapper.down.add("h1")
            await world.ready(key, "ConnectionRefused")
            message = (await world.condition(key, "Connected"))["message"]
            assert message.startswith("connection refused by h1, ")
            assert "tries, next in" in message or "next in" in message
            before = len(world.mapper.opened)
            dead_s = 2 * 3600  # the pause is at its longest within two minutes; what follows is alike
            await asyncio.sleep(dead_s)
            tries = len(world.mapper.opened) - before
            assert dead_s / 37 < tries < dead_s / 23
            reported = (await world.status(key))["properties"][0]["reported"]
            assert (reported["value"], reported["quality"]) == (None, "Bad.NoLink")
            world.mapper.down.clear()
            assert await world.ready(key) < 40

    play(scene)


def test_a_silent_device_marks_only_itself(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        one, two = await world.device("pump-1", unit=1), await world.device("pump-2", unit=2)
        async with world.running():
            await world.ready(one)
            await world.ready(two)
            world.mapper.silent.add(("h1", 1))
            await world.ready(one, "NoAnswer")
            assert (await world.condition(one, "Connected"))["message"] == "no answer from h1 unit 1"
            assert (await world.condition(two, "Ready"))["status"] == "True"
            assert (await world.condition(one, "Degraded"))["reason"] == "NotConnected"
            assert (await world.status(one))["lastSeen"] is not None, "when it was last heard of"
            world.mapper.silent.clear()
            await world.ready(one)

    play(scene)


def test_the_log_does_not_leave_a_device_degraded_that_has_healed(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED, {"name": "level", "telemetry": {"samplingInterval": "100ms"}})
        key = await world.device("pump-1")
        refused = {("h1", 1, "level"): PointError("illegal data address (exception 2)")}
        world.mapper.refuse.update(refused)
        async with world.running():
            await world.ready(key, "Degraded")
            for _ in range(3):  # what flaps later fills no log
                world.mapper.refuse.clear()
                await world.ready(key)
                world.mapper.refuse.update(refused)
                await world.ready(key, "Degraded")

    with caplog.at_level(logging.INFO):
        play(scene)
    said = [one.getMessage() for one in caplog.records if one.getMessage().startswith("default/pump-1 is ")]
    assert said == [
        "default/pump-1 is Degraded: level: illegal data address (exception 2)",
        "default/pump-1 is Ready",
    ]


def test_a_refused_point_degrades_and_names_itself(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED, {"name": "level", "telemetry": {"samplingInterval": "100ms"}})
        key = await world.device("pump-1")
        world.mapper.refuse["h1", 1, "level"] = PointError("illegal data address (exception 2)")
        async with world.running():
            await world.ready(key, "Degraded")
            assert (await world.condition(key, "Degraded"))[
                "message"
            ] == "level: illegal data address (exception 2)"
            assert any(v.get("speed") == 0.0 for v in values(world))
            world.mapper.refuse.clear()
            await world.ready(key)

    play(scene)


def test_a_clock_that_is_set_back_stops_nothing(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model({**SPEED, "alarms": [{"name": "fast", "above": 100}]})
        key = await world.device("pump-1")
        async with world.running():
            await world.ready(key)
            before = world.wall_ns
            hour_ns = 3600 * 10**9
            world.mapper.wall_ns = world.runtime.pipeline.wall_ns = lambda: before() - 3 * hour_ns
            world.mapper.values["h1", 1, "speed"] = 142.0
            await asyncio.sleep(5)
            device = world.runtime.supervisor.devices[key]
            assert world.runtime.aggregator.latest(device.slot("speed")).value == 142.0
            assert [body["active"] for _, topic, body in world.sink.events if topic == "alarm"] == [True]

    play(scene)


@pytest.mark.parametrize("bug", [RuntimeError("a bug in the mapper"), asyncio.CancelledError()])
def test_a_bug_in_a_mapper_ends_nobody_else(play: Play, bug: BaseException) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        broken, well = await world.device("pump-1", "h1"), await world.device("pump-2", "h2")
        world.mapper.broken["h1"] = bug
        async with world.running():
            await world.ready(well)
            await world.ready(broken, "InternalError")
            await asyncio.sleep(100)
            assert (await world.condition(well, "Ready"))["status"] == "True"
            assert world.runtime.errors == 0
            world.mapper.broken.clear()
            await world.ready(broken)

    play(scene)


def test_links_of_other_peers_are_not_stalled(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        for number in range(20):
            await world.device(f"pump-{number}", f"h{number}")
        world.mapper.timeout_s = 5.0
        async with world.running():
            await asyncio.sleep(5)
            world.mapper.silent.add(("h3", 1))
            start = len(world.mapper.polls)
            await asyncio.sleep(20)
            polls = world.mapper.polls[start:]
        for number in range(20):
            count = sum(host == f"h{number}" for _, host, _ in polls)
            assert (count < 10) if number == 3 else (190 <= count <= 202), (number, count)

    play(scene)


def test_desired_is_written_read_back_and_said(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        key = await world.device("pump-1", desired=[{"name": "speed", "value": 1200}])
        async with world.running():
            await world.applied(key)
            assert world.mapper.written == [("h1", 1, "speed", 1200)]
            await world.store.set_desired(key, {"speed": 1300}, "cli")
            await world.until(lambda: _done(world.mapper.written[-1][-1] == 1300))
            await world.applied(key)
            entry = (await world.status(key))["properties"][0]
            assert entry["desired"]["state"] == "applied"
            await asyncio.sleep(2)
            assert (await world.status(key))["properties"][0]["reported"]["value"] == 1300
        results = [body for _, topic, body in world.sink.events if topic == "twin/desired/result"]
        assert [r["value"] for r in results] == [1200, 1300]
        assert [r["state"] for r in results] == ["applied", "applied"]

    play(scene)


async def _done(value: bool) -> bool:
    return value


def test_desired_that_is_so_already_is_not_written_at_a_start(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        world.mapper.values["h1", 1, "speed"] = 1200
        key = await world.device("pump-1", desired=[{"name": "speed", "value": 1200}])
        async with world.running():
            await world.applied(key)
            assert world.mapper.written == []

    play(scene)


def test_desired_waits_for_the_link_and_is_written_when_it_is_back(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        key = await world.device("pump-1")
        async with world.running():
            await world.ready(key)
            world.mapper.down.add("h1")
            await world.ready(key, "ConnectionRefused")
            await world.store.set_desired(key, {"speed": 900}, "cli")
            found = await world.applied(key, "Waiting")
            assert found["message"] == "speed: waits for the link"
            world.mapper.down.clear()
            await world.applied(key)
            assert world.mapper.written == [("h1", 1, "speed", 900)]

    play(scene)


def test_refusals_say_why(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED, {"name": "level"})
        key = await world.device("pump-1")
        async with world.running():
            await world.ready(key)
            await world.store.set_desired(key, {"speed": 4200}, "cli")
            assert "above speed's maximum of 3000 rpm" in (await world.applied(key, "OutOfRange"))["message"]
            await world.store.set_desired(key, {"speed": None, "level": 1}, "cli")
            assert "read-only" in (await world.applied(key, "ReadOnly"))["message"]
            await world.store.set_desired(key, {"level": None, "speed": "fast"}, "cli")
            await world.applied(key, "WrongType")
            world.mapper.refuse["h1", 1, "speed"] = PointError(
                "device refused (exception 3)", reason="Refused"
            )
            await world.store.set_desired(key, {"speed": 10}, "cli")
            assert "exception 3" in (await world.applied(key, "Refused"))["message"]
            assert world.mapper.written == []

    play(scene)


def test_a_model_edit_reaches_running_devices_without_reopening(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        key = await world.device("pump-1")
        async with world.running():
            await world.ready(key)
            await world.model(
                {**SPEED, "telemetry": {"samplingInterval": "1s", "report": "every"}}, {"name": "level"}
            )
            await world.until(lambda: _has(world, key, "level"))
            assert world.mapper.opened == ["h1"]
            await world.store.delete(key)
            await asyncio.sleep(1)
            assert world.runtime.supervisor.devices == {}
            assert world.runtime.supervisor.links == {}
            assert ("default/pump-1", "status") not in world.sink.retained

    play(scene)


async def _has(world: Any, key: Key, name: str) -> bool:
    found = (await world.status(key)).get("properties", ())
    return any(p["name"] == name and p["reported"]["quality"] == "Good" for p in found)


def test_a_device_that_cannot_run_says_why_and_runs_when_mended(play: Play) -> None:
    async def scene(world: Any) -> None:
        key = await world.device("pump-1")
        async with world.running():
            await world.ready(key, "ModelNotFound")
            assert (await world.condition(key, "ModelResolved"))["status"] == "False"
            await world.model(SPEED)
            await world.ready(key)

    play(scene)


def test_a_store_that_is_away_stops_nothing(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        key = await world.device("pump-1")
        async with world.running():
            await world.ready(key)
            world.store.away = True
            before = len(values(world))
            world.mapper.values["h1", 1, "speed"] = 7.0
            await asyncio.sleep(60)
            assert len(values(world)) - before > 500
            world.store.away = False
            await asyncio.sleep(3)
            assert (await world.status(key))["properties"][0]["reported"]["value"] == 7.0
            assert world.runtime.errors == 0

    play(scene)


def test_store_writes_do_not_grow_with_samples(play: Play) -> None:
    counts: dict[str, int] = {}
    for interval in ("1s", "10ms"):

        async def scene(world: Any, interval: str = interval) -> None:
            await world.model({**SPEED, "telemetry": {"samplingInterval": interval, "report": "every"}})
            key = await world.device("pump-1")
            async with world.running():
                await world.ready(key)
                before = world.store.patches
                for number in range(600):
                    world.mapper.values["h1", 1, "speed"] = float(number)
                    await asyncio.sleep(0.1)
                counts[interval] = world.store.patches - before

        play(scene)
    assert abs(counts["10ms"] - counts["1s"]) <= 5, counts
    assert counts["10ms"] <= 62


def test_commands_over_the_sink(play: Play) -> None:
    async def scene(world: Any) -> None:
        stop = {"name": "stop", "writes": [{"property": "speed", "value": 0}]}
        await world.model(SPEED, {"name": "note", "type": "string", "access": "WriteOnly"}, commands=[stop])
        key = await world.device("pump-1")
        world.mapper.values["h1", 1, "speed"] = 5.0
        async with world.running():
            await world.ready(key)

            async def ask(
                kind: str, name: str, body: Any, device: str = "default/pump-1"
            ) -> list[dict[str, Any]]:
                start = len(world.sink.events)
                await world.sink.handler(Command(kind, device, name, body, "id-1"))
                await world.until(lambda: _done(len(world.sink.events) > start))
                return [dict(body) for _, _, body in world.sink.events[start:]]

            assert (await ask("command", "stop", None))[0]["state"] == "applied"
            assert world.mapper.written[-1] == ("h1", 1, "speed", 0)
            assert (await ask("desired", "", {"speed": 77}))[0]["state"] == "applied"
            back = await ask("desired", "", {"speed": None})
            assert [(b["state"], b["value"], b["id"]) for b in back] == [("applied", None, "id-1")]
            assert (await ask("desired", "", {"speed": 9999}))[0]["state"] == "refused"
            assert (await ask("desired", "", {"speed": 10**400}))[0]["state"] == "refused"
            assert (await ask("desired", "", {"note": "\ud800"}))[0]["state"] == "refused"
            assert (await ask("desired", "", {"__proto__": 1}))[0]["state"] == "refused"
            assert (await ask("desired", "", "text"))[0]["reason"] == "BadPayload"
            assert (await ask("desired", "", None))[0]["reason"] == "BadPayload"
            assert (await ask("command", "explode", None))[0]["reason"] == "UnknownCommand"
            assert (await ask("desired", "", {"speed": 1}, "default/none"))[0]["reason"] == "UnknownDevice"
            assert all(e["id"] == "id-1" for e in await ask("desired", "", {"speed": 78}))
            world.mapper.down.add("h1")
            await world.ready(key, "ConnectionRefused")
            assert (await ask("command", "stop", None))[0]["state"] == "failed"
            written = len(world.mapper.written)
            world.mapper.down.clear()
            await world.ready(key)
            await asyncio.sleep(10)
            assert len(world.mapper.written) == written, "a failed command must not be kept for later"

    play(scene)


@pytest.mark.parametrize(
    "read", [{"access": "WriteOnly"}, {"telemetry": {"samplingInterval": "1h"}}], ids=["never", "seldom"]
)
def test_a_write_without_an_answer_is_tried_again_without_waiting_for_a_poll(
    play: Play, read: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unanswered(_: Any, writes: Sequence[Any]) -> list[Outcome]:
        return [Outcome(error=PointError("no answer", reason="NoAnswer")) for _ in writes]

    async def scene(world: Any) -> None:
        await world.model({**SPEED, **read})
        key = await world.device("pump-1")
        async with world.running():
            await world.until(lambda: _done(world.mapper.opened == ["h1"]))
            if "telemetry" in read:
                await world.ready(key, seconds=3700)
            with monkeypatch.context() as patched:
                patched.setattr(FakeSession, "write", unanswered)
                await world.store.set_desired(key, {"speed": 5.0}, "cli")
                await world.applied(key, "NoAnswer")
                await asyncio.sleep(14)
            begin = world.loop.time()
            await world.applied(key)
            assert world.loop.time() - begin < 2, "tries are due 5 and 15 s after the first"
            assert [one[3] for one in world.mapper.written] == [5.0]

    play(scene)


def test_a_write_that_is_refused_for_now_is_tried_again_and_told_once(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A PLC that was busy for an hour keeps no value waiting for a restart; what repeats is no news."""
    tries: list[float] = []

    async def scene(world: Any) -> None:
        async def busy(_: Any, writes: Sequence[Any]) -> list[Outcome]:
            tries.append(world.loop.time())
            return [Outcome(error=PointError("busy", reason="Busy", again_s=0)) for _ in writes]

        await world.model(SPEED)
        key = await world.device("pump-1")
        async with world.running():
            await world.ready(key)
            with monkeypatch.context() as patched:
                patched.setattr(FakeSession, "write", busy)
                await world.store.set_desired(key, {"speed": 5.0}, "cli")
                await world.applied(key, "Busy")
                await asyncio.sleep(600)
            await world.applied(key)
            assert [one[3] for one in world.mapper.written] == [5.0]
        told = [b["state"] for _, topic, b in world.sink.events if topic == "twin/desired/result"]
        assert told == ["failed", "applied"]

    with caplog.at_level(logging.INFO, "devicemesh.write"):
        play(scene)
    assert [round(b - a) for a, b in itertools.pairwise(tries)][:6] == [5, 10, 20, 40, 60, 60]
    assert len([line for line in caplog.messages if "failed" in line]) == 1


def test_a_device_that_says_when_is_asked_then(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[float] = []

    async def scene(world: Any) -> None:
        async def resting(_: Any, writes: Sequence[Any]) -> list[Outcome]:
            tries.append(world.loop.time())
            return [Outcome(error=PointError("in five minutes", again_s=300)) for _ in writes]

        await world.model(SPEED)
        key = await world.device("pump-1")
        async with world.running():
            await world.ready(key)
            monkeypatch.setattr(FakeSession, "write", resting)
            await world.store.set_desired(key, {"speed": 5.0}, "cli")
            await asyncio.sleep(700)
        assert [round(b - a) for a, b in itertools.pairwise(tries)] == [300, 300]

    play(scene)


def test_bytes_are_base64_where_they_are_desired_and_bytes_where_they_are_written(play: Play) -> None:
    async def scene(world: Any) -> None:
        flash = {"name": "flash", "writes": [{"property": "key", "value": "AP8="}]}
        await world.model({"name": "key", "type": "bytes", "access": "WriteOnly"}, commands=[flash])
        key = await world.device("pump-1", desired=[{"name": "key", "value": "3q2+7w=="}])
        async with world.running():
            await world.applied(key)
            assert world.mapper.written == [("h1", 1, "key", b"\xde\xad\xbe\xef")]
            desired = (await world.status(key))["properties"][0]["desired"]
            assert (desired["value"], desired["state"]) == ("3q2+7w==", "applied")
            await world.sink.handler(Command("command", "default/pump-1", "flash", None, None))
            assert world.mapper.written[-1] == ("h1", 1, "key", b"\x00\xff")
            await world.sink.handler(Command("desired", "default/pump-1", "", {"key": "00ff!"}, None))
            assert world.sink.events[-1][2]["message"] == "'00ff!' is not base64"

    play(scene)


def test_alarms_are_raised_and_cleared_once(play: Play) -> None:
    async def scene(world: Any) -> None:
        alarm = {"name": "fast", "above": 100, "clearBelow": 90, "severity": "critical"}
        await world.model({**SPEED, "alarms": [alarm]})
        key = await world.device("pump-1")
        async with world.running():
            await world.ready(key)
            for value in (50, 101, 95, 120, 89, 50):
                world.mapper.values["h1", 1, "speed"] = value
                await asyncio.sleep(1)
        seen = [
            (b["active"], b["value"], b["severity"]) for _, topic, b in world.sink.events if topic == "alarm"
        ]
        assert seen == [(True, 101.0, "critical"), (False, 89.0, "critical")]

    play(scene)


def test_a_paused_device_is_left_alone(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        key = await world.device("pump-1", paused=True, desired=[{"name": "speed", "value": 1}])
        async with world.running():
            await world.ready(key, "Paused")
            await asyncio.sleep(10)
            assert world.mapper.polls == []
            assert world.mapper.written == []

    play(scene)


def test_a_bug_of_ours_in_a_links_task_is_told_and_counted(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(world: Any) -> None:
        def fails(self: Any, *_: Any) -> None:
            raise RuntimeError("a bug of ours")

        monkeypatch.setattr(Link, "_down", fails)
        await world.model(SPEED)
        await world.device("pump-1", "h1")
        well = await world.device("pump-2", "h2")
        world.mapper.down.add("h1")
        async with world.running():
            await world.ready(well)
            assert world.runtime.errors == 1
        assert "the task of link fake h1 ended: this is a bug" in caplog.text

    play(scene)
