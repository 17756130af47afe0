"""Declarations that change under a running runtime, at the worst moment."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from devicemesh.mapper import ConfigError
from devicemesh.sink.base import Command
from devicemesh.store.base import StoreUnavailableError
from devicemesh.testing.fake import FakeMapper, FakeSession

Play = Callable[[Any], None]
SPEED = {
    "name": "speed",
    "access": "ReadWrite",
    "telemetry": {"samplingInterval": "100ms", "report": "every"},
}
LEVEL = {"name": "level", "telemetry": {"samplingInterval": "100ms", "report": "every"}}


async def _is(value: bool) -> bool:
    return value


def test_an_override_of_a_property_that_the_model_lost_stops_only_that_device(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED, LEVEL)
        override = [{"name": "level", "address": {"fake": {"key": "other"}}}]
        one, two = await world.device("pump-1", properties=override), await world.device("pump-2", "h2")
        async with world.running():
            await world.ready(one)
            await world.ready(two)
            await world.model(SPEED)
            await world.ready(one, "UnknownProperty")
            await world.ready(two)
            assert world.runtime.errors == 0

    play(scene)


@pytest.mark.parametrize("name", ["boiler.north", "b" * 64])
def test_a_name_that_makes_no_topic_stops_only_that_device(play: Play, name: str) -> None:
    """Kubernetes takes it."""

    async def scene(world: Any) -> None:
        await world.model(SPEED)
        odd, well = await world.device(name, "h2"), await world.device("pump-1")
        async with world.running():
            await world.ready(odd, "InvalidDevice")
            await world.ready(well)
            await world.store.delete(odd)
            await asyncio.sleep(1)
            late = await world.device("pump-2", "h2")
            await world.ready(late)
            assert world.runtime.errors == 0

    play(scene)


def test_a_mapper_whose_model_has_a_bug_stops_only_its_device(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        link = world.mapper.endpoint_type.link
        monkeypatch.setattr(
            world.mapper.endpoint_type, "link", lambda self: 1 / 0 if self.host == "h2" else link(self)
        )
        one, two = await world.device("pump-1"), await world.device("pump-2", "h2")
        async with world.running():
            await world.ready(one)
            await world.ready(two, "InternalError")
            assert world.runtime.errors == 0

    play(scene)


def test_a_device_deleted_while_the_store_was_away_stops(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        gone, stays = await world.device("pump-1"), await world.device("pump-2", unit=2)
        watch = world.store.watch

        async def interrupted(kinds: Any) -> Any:
            async for event in watch(kinds):
                if world.store.away or event.type == "deleted":
                    raise StoreUnavailableError("the watch broke, and the deletion with it")
                yield event

        world.store.watch = interrupted
        async with world.running():
            await world.ready(gone)
            await world.ready(stays)
            await world.store.delete(gone)
            await world.until(lambda: _is(gone not in world.runtime.supervisor.devices), 10)
            assert list(world.runtime.supervisor.devices) == [stays]
            assert ("default/pump-1", "status") not in world.sink.retained

    play(scene)


def test_a_device_deleted_while_its_status_can_not_be_written(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        key = await world.device("pump-1")
        patch, writing, go = world.store.patch_status, asyncio.Event(), asyncio.Event()

        async def slow(statuses: Any) -> None:
            if world.mapper.down:
                writing.set()
                await go.wait()
                raise StoreUnavailableError("no space left")
            await patch(statuses)

        world.store.patch_status = slow
        async with world.running():
            await world.ready(key, "Polling")
            world.mapper.down.add("h1")
            await writing.wait()
            await world.store.delete(key)
            await world.until(lambda: _is(key not in world.runtime.supervisor.devices))
            go.set()
            await asyncio.sleep(1)
            assert world.runtime.errors == 0

    play(scene)


def test_a_store_that_takes_no_status_is_told_once(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        key = await world.device("pump-1")
        async with world.running():
            await world.ready(key)
            for _ in range(2):
                world.store.away = True
                for _ in range(30):
                    world.mapper.values["h1", 1, "speed"] = world.loop.time()
                    await asyncio.sleep(2)
                world.store.away = False
                await asyncio.sleep(10)
        said = [each.message.partition(":")[0] for each in caplog.records]
        assert [each for each in said if each.startswith("status ")] == [
            "status not written",
            "status is written again",
        ] * 2

    caplog.set_level("INFO", "devicemesh")
    play(scene)


def test_a_store_that_can_not_be_watched_is_told_once(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    async def scene(world: Any) -> None:
        watch, left = world.store.watch, [1] * 5

        async def broken(kinds: Any) -> Any:
            if left:
                left.pop()
                raise StoreUnavailableError("no route")
            async for event in watch(kinds):
                yield event

        world.store.watch = broken
        async with world.running():
            said = [each.message for each in caplog.records if "the store is" in each.message]
            assert said == ["the store is away, devices run on: no route", "the store is back"]

    caplog.set_level("INFO", "devicemesh")
    play(scene)


@pytest.mark.parametrize(("reason", "spec"), [("ModelNotFound", {}), ("Paused", {"paused": True})])
def test_a_device_made_anew_within_a_moment_has_a_status_again(
    play: Play, reason: str, spec: dict[str, Any]
) -> None:
    async def scene(world: Any) -> None:
        if reason == "Paused":
            await world.model(SPEED)
        key = await world.device("pump-1", **spec)
        async with world.running():
            await world.ready(key, reason)
            await asyncio.sleep(10)
            await world.store.delete(key)
            await world.device("pump-1", **spec)
            assert await world.status(key) == {}
            await world.ready(key, reason, 10)

    play(scene)


def test_why_a_device_can_not_run_is_said_once_the_store_is_back(play: Play) -> None:
    async def scene(world: Any) -> None:
        key = await world.device("pump-1")
        patch, failures = world.store.patch_status, [1, 2, 3]

        async def failing(statuses: Any) -> None:
            if failures:
                failures.pop()
                raise StoreUnavailableError("busy")
            await patch(statuses)

        world.store.patch_status = failing
        async with world.running():
            await world.ready(key, "ModelNotFound", 10)

    play(scene)


def test_an_alarm_of_what_is_gone_is_cleared(play: Play) -> None:
    async def scene(world: Any) -> None:
        alarm = {"name": "fast", "above": 100}
        await world.model({**SPEED, "alarms": [alarm]}, {**LEVEL, "alarms": [alarm]})
        one = await world.device("pump-1")
        world.mapper.values |= {("h1", 1, "speed"): 200.0, ("h1", 1, "level"): 200.0}
        async with world.running():
            await world.ready(one)
            await world.until(lambda: _is(len(world.runtime.alarms) == 2))
            await world.model({**SPEED, "alarms": [alarm]}, {"name": "other"})
            await world.until(lambda: _is(len(world.runtime.alarms) == 1))
            assert [(b["property"], b["active"]) for _, t, b in world.sink.events if t == "alarm"][2:] == [
                ("level", False)
            ]
            await world.store.delete(one)
            await world.until(lambda: _is(not world.runtime.supervisor.devices))
            assert world.runtime.alarms == {}

    play(scene)


def held(world: Any, monkeypatch: pytest.MonkeyPatch, method: str) -> tuple[asyncio.Event, asyncio.Event]:
    """Make sessions stop before they end their next read or write: (it has begun, it may end)."""
    begun, go = asyncio.Event(), asyncio.Event()
    original = getattr(FakeSession, method)

    async def slow(self: Any, *arguments: Any) -> Any:
        result = await original(self, *arguments)
        begun.set()
        await go.wait()
        return result

    monkeypatch.setattr(FakeSession, method, slow)
    return begun, go


def test_an_answer_never_gets_the_name_of_a_property_that_took_its_slot(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED, LEVEL)
        await world.device("pump-1")
        world.mapper.values |= {("h1", 1, "level"): 666.0, ("h1", 1, "other"): 1.0}
        begun, go = held(world, monkeypatch, "_read_unit")
        async with world.running():
            await begun.wait()
            await world.model(SPEED, {**LEVEL, "name": "other"})
            await asyncio.sleep(1)
            go.set()
            await asyncio.sleep(1)
        rows = [r["values"] for _, b in world.sink.published for r in json.loads(b)["rows"]]
        assert {r["other"] for r in rows if "other" in r} == {1.0}
        samples = world.runtime.samples()
        assert samples["read"] == samples["published"] + sum(samples["dropped"].values())

    play(scene)


@pytest.mark.parametrize("wrong", [{**SPEED, "maximum": 3}, {**SPEED, "access": "ReadOnly"}, LEVEL])
def test_what_a_model_refused_is_written_once_the_model_is_mended(play: Play, wrong: dict[str, Any]) -> None:
    async def scene(world: Any) -> None:
        await world.model(wrong)
        key = await world.device("pump-1", desired=[{"name": "speed", "value": 5.0}])
        async with world.running():
            await world.until(lambda: _refused(world, key))
            await world.model(SPEED)
            await world.applied(key)
            assert world.mapper.written == [("h1", 1, "speed", 5.0)]

    play(scene)


async def _refused(world: Any, key: Any) -> bool:
    return bool((await world.condition(key, "DesiredApplied")).get("status") == "False")


@pytest.mark.parametrize("where", [{"host": "h2"}, {"unit": 2}])
def test_a_device_that_moves_has_at_its_new_place_what_is_desired_of_it(
    play: Play, where: dict[str, Any]
) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        wanted = {"desired": [{"name": "speed", "value": 5.0}]}
        key = await world.device("pump-1", **wanted)
        async with world.running():
            await world.applied(key)
            await asyncio.sleep(1)
            await world.device("pump-1", **where, **wanted)
            place = (where.get("host", "h1"), where.get("unit", 1), "speed")
            await world.until(lambda: _is(world.mapper.written[-1][:3] == place), 10)
            await asyncio.sleep(1)
            assert (await world.condition(key, "DesiredApplied"))["reason"] == "Applied"
            assert len(world.mapper.written) == 2

    play(scene)


def test_a_property_that_moves_is_not_what_was_read_of_its_old_place(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        key = await world.device("pump-1", desired=[{"name": "speed", "value": 5.0}])
        async with world.running():
            await world.applied(key)
            await world.model({**SPEED, "address": {"fake": {"key": "elsewhere"}}})
            await world.until(lambda: _is(world.mapper.written[-1][2] == "elsewhere"), 10)
            assert [one[2] for one in world.mapper.written] == ["speed", "elsewhere"]

    play(scene)


def test_the_newest_of_two_edits_is_written(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        key = await world.device("pump-1")
        async with world.running():
            await world.ready(key)
            begun, go = held(world, monkeypatch, "write")
            await world.store.set_desired(key, {"speed": 1}, "cli")
            await begun.wait()
            await world.store.set_desired(key, {"speed": 2}, "cli")
            await asyncio.sleep(1)
            go.set()
            await world.until(lambda: _is(world.mapper.written[-1][-1] == 2), 10)
            await world.applied(key)
        answers = [b["value"] for _, topic, b in world.sink.events if topic == "twin/desired/result"]
        assert answers == [2]

    play(scene)


def test_an_edit_while_another_is_written_needs_no_poll_to_be_seen(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(world: Any) -> None:
        await world.model({"name": "a", "access": "WriteOnly"}, {"name": "b", "access": "WriteOnly"})
        key = await world.device("pump-1")
        async with world.running():
            await world.until(lambda: _is(bool(world.mapper.opened)))
            begun, go = held(world, monkeypatch, "write")
            await world.store.set_desired(key, {"a": 1}, "cli")
            await begun.wait()
            await world.store.set_desired(key, {"b": 2}, "cli")
            await asyncio.sleep(1)
            go.set()
            await world.until(lambda: _is(len(world.mapper.written) == 2), 10)

    play(scene)


def test_a_device_deleted_while_it_is_written_costs_its_neighbour_nothing(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        one, two = await world.device("pump-1", unit=1), await world.device("pump-2", unit=2)
        async with world.running():
            await world.ready(two)
            begun, go = held(world, monkeypatch, "write")
            await world.store.set_desired(one, {"speed": 1}, "cli")
            await begun.wait()
            await world.store.delete(one)
            await world.until(lambda: _is(one not in world.runtime.supervisor.devices))
            third = await world.device("pump-3", "h3")  # takes the slot
            await world.ready(third)
            go.set()
            await asyncio.sleep(1)
            await world.ready(two)
            assert world.mapper.opened == ["h1", "h3"]
            assert (
                world.runtime.supervisor.devices[third].reported(world.runtime.aggregator)["speed"].value == 0
            )

    play(scene)


def test_a_command_is_answered_when_its_device_goes(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED, commands=[{"name": "stop", "writes": [{"property": "speed", "value": 0}]}])
        key = await world.device("pump-1")
        async with world.running():
            await world.ready(key)
            begun, _ = held(world, monkeypatch, "write")
            asked = asyncio.create_task(
                world.sink.handler(Command("command", "default/pump-1", "stop", None, "id-1"))
            )
            await begun.wait()
            await world.store.delete(key)
            async with asyncio.timeout(5):
                await asked
            assert [(t, b["state"]) for _, t, b in world.sink.events] == [("command/stop/result", "failed")]

    play(scene)


@pytest.mark.parametrize("edit", [[LEVEL], [{**SPEED, "access": "ReadOnly"}, LEVEL]])
def test_a_command_is_answered_when_what_it_writes_goes(play: Play, edit: list[dict[str, Any]]) -> None:
    """While it waits for a neighbour: the link goes on."""

    async def scene(world: Any) -> None:
        writes = [{"property": "speed", "value": 0}]
        await world.model(SPEED, LEVEL, commands=[{"name": "stop", "writes": writes}])
        key = await world.device("pump-1")
        await world.device("pump-2", unit=2)
        world.mapper.silent.add(("h1", 2))
        world.mapper.timeout_s = 10.0
        async with world.running():
            await world.until(lambda: _is(len(world.mapper.polls) > 0))
            device = world.runtime.supervisor.devices[key]
            asked = asyncio.create_task(world.runtime.commands.run(device, "stop", None))
            await asyncio.sleep(1)
            await world.model(*edit)
            answer = await asked
            assert (answer["state"], answer["properties"]["speed"]["reason"]) == ("failed", "Redeclared")
            assert (world.mapper.opened, world.mapper.written) == (["h1"], [])

    play(scene)


def test_an_edit_that_mends_a_declaration_while_it_fails_is_tried(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        key = await world.device("pump-1", unit=99)
        opening, opened = asyncio.Event(), FakeMapper.open

        @contextlib.asynccontextmanager
        async def slow(self: Any, endpoint: Any, secrets: Any) -> Any:
            opening.set()
            await asyncio.sleep(1)
            if endpoint.unit == 99:
                raise ConfigError("there is no unit 99")
            async with opened(self, endpoint, secrets) as session:
                yield session

        monkeypatch.setattr(FakeMapper, "open", slow)
        async with world.running():
            await opening.wait()
            await world.device("pump-1", unit=1)
            await world.ready(key, "Polling", 20)

    play(scene)


def test_a_link_is_opened_anew_when_its_own_part_is_edited_and_only_then(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(world: Any) -> None:
        def conflict(self: Any, other: Any) -> str | None:
            return "speeds" if (self.unit > 50) != (other.unit > 50) else None

        monkeypatch.setattr(world.mapper.endpoint_type, "conflict", conflict)
        await world.model(SPEED)
        key = await world.device("pump-2", unit=2)
        async with world.running():
            await world.ready(key)
            await world.ready(await world.device("pump-1", unit=1))
            await world.device("pump-1", unit=3)
            await asyncio.sleep(1)
            assert world.mapper.opened == ["h1"]
            await world.device("pump-1", unit=51)
            await world.until(lambda: _is(len(world.mapper.opened) == 2), 5)
            await asyncio.sleep(1)
            assert world.mapper.opened == ["h1", "h1"]

    play(scene)


def test_devices_that_came_one_by_one_and_disagree_on_their_link_are_told_once(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def said() -> list[str]:
        return [
            each.message
            for each in caplog.records
            if each.name == "devicemesh.link" and "disagrees" in each.message
        ]

    async def scene(world: Any) -> None:
        def conflict(self: Any, other: Any) -> str | None:
            return "speed 9600 and 19200" if (self.unit > 50) != (other.unit > 50) else None

        monkeypatch.setattr(world.mapper.endpoint_type, "conflict", conflict)
        await world.model(SPEED)
        await world.device("pump-1", unit=1)
        async with world.running():
            two = await world.device("pump-2", unit=51)
            await world.ready(two, "Degraded")
            found = await world.condition(two, "Degraded")
            await world.ready(await world.device("pump-3", unit=3))
            wanted = (
                "link fake h1 is as default/pump-1 says, but default/pump-2 disagrees: speed 9600 and 19200"
            )
            assert said() == [wanted]
            assert (found["reason"], found["message"]) == ("LinkDisagrees", wanted)
            await world.device("pump-2", unit=2)
            await world.ready(two)
            await world.device("pump-2", unit=51)
            await asyncio.sleep(1)
            assert said() == [wanted] * 2

    play(scene)


def test_a_link_is_opened_anew_only_when_it_has_closed(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        key = await world.device("pump-1")
        opened, closing = FakeMapper.open, asyncio.Event()
        states: list[str] = []

        @contextlib.asynccontextmanager
        async def slow_to_close(mapper: FakeMapper, endpoint: Any, secrets: Any) -> Any:
            states.append("open")
            try:
                async with opened(mapper, endpoint, secrets) as session:
                    yield session
            finally:
                closing.set()
                await asyncio.sleep(3)
                states.append("closed")

        monkeypatch.setattr(FakeMapper, "open", slow_to_close)
        async with world.running():
            await world.ready(key)
            await world.store.delete(key)
            await closing.wait()
            await world.device("pump-1")
            await world.ready(key)
            assert states == ["open", "closed", "open"]

    play(scene)


def test_a_rotated_secret_opens_the_link_anew(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        endpoint = {"fake": {"host": "h1", "password": {"name": "plc"}}}
        key = await world.device("pump-1", endpoint=endpoint)
        async with world.running():
            await world.ready(key, "SecretMissing")
            assert "$DEVICEMESH_SECRET_PLC_PASSWORD" in (await world.condition(key, "Ready"))["message"]
            monkeypatch.setenv("DEVICEMESH_SECRET_PLC_PASSWORD", "wrong")
            await world.ready(key, "Unauthorized", 10)
            monkeypatch.setenv("DEVICEMESH_SECRET_PLC_PASSWORD", "open sesame")
            await world.ready(key, "Polling", 10)
            opened = len(world.mapper.opened)
            await asyncio.sleep(60)
            assert len(world.mapper.opened) == opened, "nothing has changed"
            world.mapper.password = "open barley"
            monkeypatch.setenv("DEVICEMESH_SECRET_PLC_PASSWORD", "open barley")
            await world.until(lambda: _is(len(world.mapper.opened) == opened + 1), 10)
            await world.ready(key, "Polling", 10)

    play(scene)


class Cluster:
    """Secrets of a cluster, in memory."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}
        self.wanted: frozenset[tuple[str, str]] = frozenset()
        self.on_change: Callable[[], None] = lambda: None

    def want(self, wanted: frozenset[tuple[str, str]]) -> None:
        self.wanted = wanted

    def find(self, namespace: str, name: str, key: str) -> str:
        if (namespace, name) not in self.kept:
            raise LookupError(f"Secret {namespace}/{name} does not exist")
        return self.kept[namespace, name]

    def rotate(self, value: str) -> None:
        self.kept["default", "plc"] = value
        self.on_change()


def test_a_secret_of_the_cluster_is_asked_for_by_name_and_a_rotated_one_reconnects(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(world: Any) -> None:
        cluster = Cluster()
        world.runtime.supervisor.keeper = cluster
        cluster.on_change = world.runtime.supervisor.look_at_secrets
        await world.model(SPEED)
        endpoint = {"fake": {"host": "h1", "password": {"name": "plc"}}}
        key = await world.device("pump-1", endpoint=endpoint)
        await world.device("pump-2", host="h2")
        async with world.running():
            await world.ready(key, "SecretMissing")
            message = (await world.condition(key, "Ready"))["message"]
            assert message.startswith("Secret default/plc does not exist, and there is neither ")
            assert cluster.wanted == {("default", "plc")}
            cluster.rotate("open sesame")
            await world.ready(key, "Polling", 1)
            opened = len(world.mapper.opened)
            cluster.rotate("open sesame")
            await asyncio.sleep(20)
            assert len(world.mapper.opened) == opened
            world.mapper.password = "open barley"
            cluster.rotate("open barley")
            await world.until(lambda: _is(len(world.mapper.opened) == opened + 1), 1)
            await world.ready(key, "Polling", 1)
            assert "open" not in str(await world.status(key))
            await world.store.delete(key)
            await world.until(lambda: _is(cluster.wanted == frozenset()), 1)

    play(scene)
    assert "open sesame" not in caplog.text and "open barley" not in caplog.text


@pytest.mark.parametrize("properties", [[], [{"name": "speed", "telemetry": {"report": "every"}}]])
def test_a_device_that_comes_back_goes_on_counting(play: Play, properties: list[Any]) -> None:
    """(epoch, seq) names one message: who drops what it has seen must not drop the new one's."""

    async def scene(world: Any) -> None:
        await world.model(SPEED, LEVEL)
        key = await world.device("pump-1")
        async with world.running():
            await world.ready(key)
            await world.store.delete(key)
            await asyncio.sleep(1)
            await world.model(LEVEL, {"name": "flow", "telemetry": {"report": "every"}}, SPEED)
            await world.device("pump-1", properties=properties)
            await world.ready(key)
            await asyncio.sleep(1)
        told = [json.loads(body) for device, body in world.sink.published if device == "default/pump-1"]
        assert [message["seq"] for message in told] == list(range(len(told)))
        assert len({message["epoch"] for message in told}) == 1
        names = {name for message in told for row in message.get("rows", ()) for name in row["values"]}
        assert names == {"speed", "level", "flow"}

    play(scene)


def test_a_device_that_makes_no_sense_does_not_end_those_that_do(play: Play) -> None:
    """A store that others write to may hold anything: here a `modelRef` that is a name, and none at all."""

    async def scene(world: Any) -> None:
        await world.model(SPEED)
        odd = [await world.device("odd-1", modelRef="pump"), await world.device("odd-2", modelRef=None)]
        key = await world.device("pump-1")
        async with world.running():
            await world.ready(key)
            await world.model({**SPEED, "maximum": 5})
            await world.device("pump-1", desired=[{"name": "speed", "value": 7}])
            await world.applied(key, "OutOfRange")
            for one in odd:
                assert (await world.condition(one, "Ready"))["status"] == "False"
            assert world.runtime.errors == 0

    play(scene)
