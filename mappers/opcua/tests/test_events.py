"""Alarms, conditions and events: what they say, whose they are, what stands after a refresh."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from devicemesh_opcua import events, listen, subscribe
from devicemesh_opcua.binary import DecodeError, Typed
from devicemesh_opcua.events import CLAUSES, Event
from devicemesh_opcua.model import OpcUaEvents
from devicemesh_opcua.nodeid import NodeName
from devicemesh_opcua.session import open_session

from devicemesh.mapper import Notification, Notifier
from devicemesh.testing.contract import heard


def notifier(endpoint: Any, event: str = "alarms", **address: Any) -> Notifier[Any]:
    return Notifier("default/plc", event, endpoint, OpcUaEvents.model_validate(address))


def condition(**values: Any) -> Event:
    held = {"condition": Typed(17, NodeName(2, "c")), "severity": Typed(5, 500)}
    return Event(1, {**held, **{name: Typed(1, value) for name, value in values.items()}})


def test_states_of_conditions() -> None:
    assert events.state(condition(active=True)) == "active"
    assert events.state(condition(active=True, acknowledged=True)) == "acknowledged"
    assert events.state(condition(active=False, retain=True)) == "cleared"
    assert events.state(condition(retain=True)) == "active", "a condition without ActiveState"
    assert events.state(condition(retain=False)) == "cleared"
    assert events.state(Event(1, {"severity": Typed(5, 1)})) == "event"
    assert [events.severity(level) for level in (1, 333, 334, 666, 667, 1000)] == [
        "info", "info", "warning", "warning", "critical", "critical",
    ]  # fmt: skip


def test_an_event_that_says_little_is_still_one() -> None:
    told = events.occurrence(Event(1, {"message": Typed(21, None), "time": Typed(13, 0)}), "SomeType")
    assert (told.name, told.message, told.source, told.state, told.level) == ("SomeType", "", "", "event", 1)
    assert told.time_ns > 0


@pytest.mark.parametrize("body", ["ffffff7f", "01000000", "0100000001000000ffffff7f", "01000000010000000100"])
def test_a_broken_list_of_events_is_no_list(body: str) -> None:
    with pytest.raises(DecodeError):
        events.events(bytes.fromhex(body))
    assert events.events(bytes.fromhex("0100000001000000" + "01000000" + "00"))[0].values == {}


def test_alarms_of_two_devices_on_one_server(serve_plant: Any, run: Any) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("P1/speed", 1.0, "Double")
            await plant.add("P2/speed", 1.0, "Double")
            await plant.add_alarm("hot", "P1")
            await plant.add_alarm("wet")
            await plant.alarm("hot", True, "standing", acked=True)
            endpoint = plant.endpoint()
            own = notifier(endpoint, "own", node="nsu=urn:plant;s=P1")
            motor = notifier(endpoint, "motor", sourceName="Motor", leastSeverity=500)
            async with (
                open_session(endpoint) as session,
                contextlib.aclosing(session.subscribe([], [own, motor])) as pushes,
            ):
                first = {n.notifier.event: n for n in [await heard(pushes), await heard(pushes)]}
                assert first["own"].standing and first["motor"].standing
                (hot,) = first["own"].occurrences
                assert (hot.name, hot.state, hot.source, hot.message) == (
                    "hot",
                    "acknowledged",
                    "P1",
                    "standing",
                )
                assert hot.details == {"type": "AlarmConditionType", "acknowledged": True}
                assert first["motor"].occurrences == []
                await plant.alarm("wet", True, "mild", severity=499)
                await plant.happen("started", 700)
                await plant.alarm("wet", True, "severe", severity=700)
                await plant.alarm("hot", False, "gone")
                await plant.alarm("wet", False, "dry", severity=1)
                seen: list[tuple[str, str, str]] = []
                while len(seen) < 3:
                    told = await heard(pushes)
                    seen += [(told.notifier.event, o.state, o.message) for o in told.occurrences]
                assert sorted(seen) == [
                    ("motor", "active", "severe"), ("motor", "cleared", "dry"), ("own", "cleared", "gone"),
                ]  # fmt: skip

    run(work())


def test_a_notifier_that_is_none_is_said_and_taken_when_it_comes(
    serve_plant: Any, point: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscribe, "RETRY_S", 0.2)

    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add("x", 1, "Int32")
            endpoint = plant.endpoint()
            late = notifier(endpoint, "late", node="nsu=urn:plant;s=Late")
            other = notifier(endpoint, "other", node="nsu=urn:nowhere;s=x")
            points = [point(0, endpoint, "int32", "x")]
            async with (
                open_session(endpoint) as session,
                contextlib.aclosing(session.subscribe(points, [late, other])) as pushes,
            ):
                refused: dict[str, str] = {}
                while len(refused) < 2:
                    told = await anext(pushes)
                    if isinstance(told, Notification):
                        refused[told.notifier.event] = str(told.error)
                assert "has no namespace `urn:nowhere`" in refused["other"]
                assert "says Bad" in refused["late"]
                await plant.add("Late/y", 1, "Int32")
                await plant.add_alarm("hot", "Late")
                async for told in pushes:
                    if isinstance(told, Notification) and told.error is None:
                        assert told.notifier.event == "late" and told.standing
                        break

    run(work())


def test_a_server_that_cannot_refresh_is_heard_all_the_same(
    serve_plant: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "REFRESH_S", 0.3)

    async def work() -> None:
        async with serve_plant(refresh=False) as plant:
            await plant.add_alarm("hot")
            endpoint = plant.endpoint()
            async with (
                open_session(endpoint) as session,
                contextlib.aclosing(session.subscribe([], [notifier(endpoint)])) as pushes,
            ):
                first = await heard(pushes)
                assert (first.standing, list(first.occurrences)) == (False, [])
                await plant.alarm("hot", True, "now")
                assert [o.message for o in (await heard(pushes)).occurrences] == ["now"]

    run(work())


def test_every_clause_is_named_once() -> None:
    assert len({clause.name for clause in CLAUSES}) == len(CLAUSES)
