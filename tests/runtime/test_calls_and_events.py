"""Calls, what peers tell of alarms and events, and what they have kept of an outage."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from devicemesh.mapper import LinkError, Notification, Notifier, Occurrence, PointError
from devicemesh.runtime import occurrences
from devicemesh.sink.base import Command

Play = Callable[[Any], None]
SPEED = {"name": "speed", "access": "ReadWrite", "telemetry": {"report": "every"}}
MOVE = {
    "name": "move",
    "address": {"fake": {"name": "Move"}},
    "arguments": [
        {"name": "position", "type": "float32", "unit": "mm", "minimum": 0, "maximum": 100},
        {"name": "fast", "type": "bool", "default": False},
        {"name": "mark", "type": "bytes", "default": "AP8="},
    ],
}
ALARMS = {"name": "alarms", "severity": "warning", "address": {"fake": {"name": "A"}}}
NOBODY: Any = Notifier("", "", None, None)


async def _ask(world: Any, name: str, body: Any, identity: str | None = None) -> dict[str, Any]:
    await world.sink.handler(Command("command", "default/pump-1", name, body, identity))
    device, topic, answer = world.sink.events[-1]
    assert (device, topic) == ("default/pump-1", f"command/{name}/result")
    return dict(answer)


def _one(name: str = "hot", state: Any = "active", time_ns: int = 1, **more: Any) -> Occurrence:
    return Occurrence(name, time_ns, f"{name}!", more.pop("severity", "critical"), state, "Motor", **more)


def _said(world: Any) -> list[tuple[str, str]]:
    return [(e[2]["alarm"], e[2]["state"]) for e in world.sink.events if e[1] == "alarm"]


def test_a_call_is_checked_then_done_once(play: Play) -> None:
    async def scene(world: Any) -> None:
        world.mapper.answers["Move"] = {"took": 3}
        await world.model(SPEED, commands=[MOVE])
        key = await world.device("pump-1")
        async with world.running():
            await world.ready(key)
            for body, why in (
                (None, "must be a JSON object"),
                ({}, "position is missing"),
                ({"position": 101}, "position: 101 is above position's maximum of 100 mm"),
                ({"position": "1"}, "position: '1' is not a number"),
                ({"position": 1, "speed": 2}, "no argument `speed`: it takes position, fast, mark"),
                ({"position": 1, "mark": "?"}, "mark: '?' is not base64"),
            ):
                answer = await _ask(world, "move", body)
                assert (answer["state"], answer["reason"]) == ("refused", "BadArguments")
                assert why in answer["message"]
            assert world.mapper.invoked == []
            answer = await _ask(world, "move", {"position": 5}, "id-1")
            assert answer == {"state": "applied", "result": {"took": 3}, "id": "id-1"}
            assert world.mapper.invoked == [("Move", {"position": 5.0, "fast": False, "mark": b"\x00\xff"})]
            world.mapper.answers["Move"] = PointError("h1 says no", reason="Refused")
            assert (await _ask(world, "move", {"position": 5}))["message"] == "h1 says no"
            assert world.runtime.supervisor.links["fake", "h1"].writeback.calls == {
                "applied": 1,
                "refused": 1,
            }

    play(scene)


def test_a_call_is_never_kept_for_later(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED, commands=[{**MOVE, "arguments": []}])
        key = await world.device("pump-1")
        async with world.running():
            await world.ready(key)
            world.mapper.answers["Move"] = LinkError("h1 closed the connection")
            answer = await _ask(world, "move", {})
            assert (answer["state"], answer["reason"]) == ("failed", "NoLink")
            assert (await _ask(world, "move", {}))["state"] == "failed", "the link is down"
            world.mapper.answers["Move"] = {}
            await world.ready(key, seconds=5)
            await asyncio.sleep(5)
            assert [name for name, _ in world.mapper.invoked] == ["Move"], "only the one that met the cut"

    play(scene)


def test_a_call_lives_where_the_device_says(play: Play) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED, commands=[{"name": "go", "address": {"other": {}}}])
        await world.device("pump-1")
        async with world.running():
            key = await world.device(
                "pump-2", commands=[{"name": "go", "address": {"fake": {"name": "Go2"}}}]
            )
            await world.ready(key)
            answer = await _ask(world, "go", {})
            assert (answer["reason"], answer["message"]) == ("NoAddress", "`go` has no fake address")
            await world.sink.handler(Command("command", "default/pump-2", "go", {}))
            assert world.mapper.invoked == [("Go2", {})]

    play(scene)


def test_alarms_of_a_peer_reach_their_topic_and_end_with_the_outage(play: Play) -> None:
    async def scene(world: Any) -> None:
        queue = world.mapper.pushes["h1"] = asyncio.Queue()
        await world.model(SPEED, events=[ALARMS])
        key = await world.device("pump-1")

        async def heard(count: int) -> None:
            async def check() -> bool:
                return len(_said(world)) >= count

            await world.until(check, 20)

        async with world.running():
            queue.put_nowait(("speed", 1.0))
            await world.ready(key, "Subscribed", 5)
            assert world.mapper.heard == [("h1", ["alarms"])]
            told = [
                _one("hot", level=900),
                _one("quiet", severity="info"),
                _one("wet"),
                _one("start", "event"),
            ]
            queue.put_nowait(("alarms", Notification(NOBODY, told)))
            await heard(3)
            body = world.sink.events[-3][2]
            assert body == {
                "alarm": "hot", "event": "alarms", "source": "Motor", "state": "active", "active": True,
                "severity": "critical", "level": 900, "message": "hot!", "time": "1970-01-01T00:00:00.000Z",
            }  # fmt: skip
            assert _said(world) == [("hot", "active"), ("wet", "active"), ("start", "event")]
            assert world.runtime.occurrences.dropped == {"severity": 1}
            mild = [_one("wet", "acknowledged", severity="info"), _one("other", "cleared", severity="info")]
            queue.put_nowait(("alarms", Notification(NOBODY, mild)))
            await heard(4)
            assert _said(world)[3:] == [("wet", "acknowledged")], "what was said once is followed to its end"
            queue.put_nowait(LinkError("reset by h1"))
            queue.put_nowait(("speed", 1.0))
            standing = [_one("wet", "acknowledged"), _one("new", time_ns=7), _one("old", "cleared")]
            queue.put_nowait(("alarms", Notification(NOBODY, standing, standing=True)))
            await heard(6)
            assert _said(world)[4:] == [("hot", "cleared"), ("new", "active")], "wet has been said"
            assert {one.name for one in world.runtime.occurrences.active()} == {"wet", "new"}
            await world.store.delete(key)
            await world.until(lambda: _gone(world), 5)

    async def _gone(world: Any) -> bool:
        return not list(world.runtime.occurrences.active())

    play(scene)


def test_a_source_that_cannot_be_heard_is_said(play: Play) -> None:
    async def scene(world: Any) -> None:
        queue = world.mapper.pushes["h1"] = asyncio.Queue()
        await world.model(SPEED, events=[ALARMS])
        key = await world.device("pump-1")
        async with world.running():
            queue.put_nowait(("speed", 1.0))
            queue.put_nowait(("alarms", Notification(NOBODY, error=PointError("h1 has no such notifier"))))
            await world.ready(key, "Degraded", 5)
            found = await world.condition(key, "Degraded")
            assert (found["reason"], found["message"]) == ("NoEvents", "alarms: h1 has no such notifier")
            queue.put_nowait(("alarms", Notification(NOBODY, standing=True)))
            await world.ready(key, "Subscribed", 5)

    play(scene)


def test_a_flood_of_events_is_cut_and_counted(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(occurrences, "BURST", 10)

    async def scene(world: Any) -> None:
        queue = world.mapper.pushes["h1"] = asyncio.Queue()
        await world.model(SPEED, events=[ALARMS])
        key = await world.device("pump-1")
        async with world.running():
            queue.put_nowait(("speed", 1.0))
            await world.ready(key, "Subscribed", 5)
            queue.put_nowait(("alarms", Notification(NOBODY, [_one(f"e{i}", "event") for i in range(500)])))

            async def counted() -> bool:
                found = world.runtime.occurrences
                return sum(found.published.values()) + found.dropped.get("rate", 0) == 500

            await world.until(counted, 5)
            assert len(_said(world)) == world.runtime.occurrences.published["event"] < 100

    play(scene)


def test_an_outage_is_filled_from_what_the_peer_has_kept(play: Play) -> None:
    async def scene(world: Any) -> None:
        queue = world.mapper.pushes["h1"] = asyncio.Queue()
        await world.model(SPEED, {"name": "other", "telemetry": {"report": "none"}})
        key = await world.device("pump-1")
        async with world.running():
            for name in ("speed", "other"):
                queue.put_nowait((name, 1.0))
            await world.ready(key, "Subscribed", 5)
            began = world.runtime.pipeline.aggregator.latest(0).time_ns
            kept = [(began + i * 10**8, 10.0 + i) for i in range(4)]
            world.mapper.past["h1", 1, "speed"] = kept
            queue.put_nowait(LinkError("reset by h1"))
            await world.ready(key, "NoLink", 5)
            assert not world.mapper.asked
            for name in ("speed", "other"):
                queue.put_nowait((name, 1.5))
            await world.ready(key, "Subscribed", 5)
            first = world.runtime.pipeline.aggregator.latest(0).time_ns
            kept.append((first, 1.5))  # it came live, as from a queue of the peer: not to come twice
            await asyncio.sleep(0.5)
            for name in ("speed", "other"):
                queue.put_nowait((name, 2.0))

            async def filled() -> bool:
                return world.runtime.supervisor.links["fake", "h1"].stats.backfilled == 3

            await world.until(filled, 10)
            ((asked, begin, end),) = world.mapper.asked
            assert (asked, begin) == ("speed", began)
            live = world.runtime.pipeline.aggregator.latest(0)
            assert (live.value, live.time_ns) == (2.0, end), "the twin keeps the newest"
            world.runtime.pipeline.flush()
            text = b"".join(payload for _, payload in world.sink.published).decode()
            assert text.count("Good.FromHistory") == 3 and '"speed":13' in text and '"speed":10' not in text

    play(scene)


def test_losses_that_a_peer_knows_of_outlive_their_session(play: Play) -> None:
    async def scene(world: Any) -> None:
        queue = world.mapper.pushes["h1"] = asyncio.Queue()
        await world.model(SPEED)
        key = await world.device("pump-1")
        async with world.running():
            queue.put_nowait(("speed", 1.0))
            await world.ready(key, "Subscribed", 5)
            world.mapper.lost["server_queue"] = 3
            link = world.runtime.supervisor.links["fake", "h1"]
            assert link.lost() == {"server_queue": 3}
            queue.put_nowait(LinkError("reset by h1"))
            queue.put_nowait(("speed", 1.0))
            await world.ready(key, "NoLink", 5)
            assert link.lost() == {"server_queue": 3}
            await world.ready(key, "Subscribed", 5)
            assert link.lost() == {"server_queue": 6}, "three in each session"

    play(scene)
