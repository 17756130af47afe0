"""Devices over HTTP: searched, a page at a time, only where something has changed."""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

SPEED = {"name": "speed", "unit": "rpm", "access": "ReadWrite", "maximum": 3000}
Make = Callable[[], Any]


def names(page: Any) -> list[str]:
    return [one["name"] for one in page["devices"]]


def test_they_are_found_by_name_words_label_and_readiness(scene: Make) -> None:
    async def main() -> None:
        world = scene()
        await world.model(SPEED, {"name": "pressure", "unit": "bar"})
        await world.device("pump-1", {"line": "a", "hall": "2"})
        await world.device("pump-2", {"line": "b"}, host="H2")
        await world.device("fan-1", {"line": "a"}, host="gone")
        await world.device("lost", {"line": "z"}, modelRef={"name": "none"})
        world.mapper.down.add("gone")
        async with world.running():
            await world.state("pump-1", "Ready")
            await world.state("pump-2", "Ready")
            await world.state("fan-1", "Offline")
            for asked, wanted in (
                ({"q": "PUMP-"}, ["pump-1", "pump-2"]),
                ({"q": "fake line=a"}, ["fan-1", "pump-1"]),
                ({"q": "h2"}, ["pump-2"]),
                ({"q": "none"}, ["lost"]),
                ({"label": "line=a"}, ["fan-1", "pump-1"]),
                ({"label": ["line=a", "hall"]}, ["pump-1"]),
                ({"label": "line="}, []),
                ({"name": ["fan-1", "default/pump-2"]}, ["fan-1", "pump-2"]),
                ({"ready": "false"}, ["fan-1", "lost"]),
                ({"ready": "true", "q": "line=a"}, ["pump-1"]),
            ):
                page = await world.get("devices", **asked)
                assert (names(page), page["matched"]) == (wanted, len(wanted)), asked
            page = await world.get("devices", q="line=a", ready="true")
            assert (page["total"], page["ready"], page["notReady"]) == (4, 1, 1)

            lost = await world.get("devices/default/lost")
            assert lost["status"]["reason"] == "ModelNotFound"
            assert (lost["labels"], lost["model"], lost["protocol"]) == ({"line": "z"}, "none", "fake")
            whole = await world.get("devices")
            assert {one["name"] for one in whole} == {"pump-1", "pump-2", "fan-1"}

            await world.device("odd", ["x"], modelRef="pump", endpoint="fake")  # past every check
            odd = await world.until(
                lambda page: page["devices"] and page["devices"][0]["status"]["reason"] == "InvalidDevice",
                "devices",
                name="odd",
            )
            assert odd["devices"][0]["labels"] == {}
            assert (await world.client.get("/api/v1/devices/default/odd")).status_code == 200

            await world.device("pump-3", host="H2")
            await world.until(lambda page: names(page) == ["pump-2", "pump-3"], "devices", q="h2")

    asyncio.run(main())


def test_a_page_ends_where_the_next_begins_whatever_happens_between(scene: Make) -> None:
    async def main() -> None:
        world = scene()
        await world.model(SPEED)
        for number in range(7):
            await world.device(f"pump-{number}")
        async with world.running():
            first = await world.get("devices", limit=3)
            assert (names(first), first["continue"]) == (["pump-0", "pump-1", "pump-2"], "default/pump-2")
            await world.store.delete(next(k for k in world.runtime.supervisor.devices if k.name == "pump-2"))
            await world.until(lambda page: page["total"] == 6, "devices", limit=0)
            second = await world.get("devices", limit=3, **{"continue": first["continue"]})
            assert names(second) == ["pump-3", "pump-4", "pump-5"]
            last = await world.get("devices", limit=3, **{"continue": second["continue"]})
            assert (names(last), last["continue"]) == (["pump-6"], None)

    asyncio.run(main())


def test_brief_has_the_first_properties_and_no_conditions(scene: Make) -> None:
    async def main() -> None:
        world = scene()
        await world.model(SPEED, {"name": "pressure"}, {"name": "flow"})
        await world.device("pump-1")
        async with world.running():
            twin = await world.state("pump-1", "Ready")
            assert [one["name"] for one in twin["properties"]] == ["speed", "pressure", "flow"]
            (row,) = (await world.get("devices", brief=2))["devices"]
            assert [one["name"] for one in row["properties"]] == ["speed", "pressure"]
            assert row.keys() == twin.keys() - {"conditions"}
            (whole,) = (await world.get("devices", q="pump"))["devices"]
            assert whole.keys() == twin.keys()

    asyncio.run(main())


def test_parameters_that_make_no_sense_are_refused_in_words(scene: Make) -> None:
    async def main() -> None:
        world = scene()
        async with world.running():
            for path, why in (
                ("devices?lable=a", "there is no parameter `lable`: did you mean `label`?"),
                ("devices?limit=1001", "`limit` is a number from 0 to 1000, not '1001'"),
                ("devices?limit=-1", "not '-1'"),
                ("devices?limit=²", "not '²'"),
                ("devices?ready=yes", "`ready` is true or false, not 'yes'"),
                ("links?up=1", "`up` is true or false, not '1'"),
                ("alarms?limit=", "not ''"),
            ):
                found = await world.client.get(f"/api/v1/{path}")
                assert (found.status_code, why in found.json()["error"]) == (400, True), found.text
            gone = await world.client.get("/api/v1/device")
            assert gone.json() == {
                "error": "GET /api/v1/device: not found; docs/http.md has all that can be asked"
            }
            assert (await world.client.post("/api/v1/links")).status_code == 405

    asyncio.run(main())


def test_what_has_not_changed_is_not_sent_again(scene: Make) -> None:
    async def main() -> None:
        world = scene()
        slow = {"telemetry": {"samplingInterval": "60s"}}
        await world.model({**SPEED, **slow})
        await world.device("pump-1")
        async with world.running():
            await world.state("pump-1", "Ready")
            for path in ("devices", "devices?q=pump", "devices/default/pump-1", "models/default/pump"):
                first = await world.client.get(f"/api/v1/{path}")
                known = {"if-none-match": f'"other", W/{first.headers["etag"]}'}
                again = await world.client.get(f"/api/v1/{path}", headers=known)
                assert (again.status_code, again.content) == (304, b""), path
                assert again.headers["etag"] == first.headers["etag"]
            await world.device("pump-1", {"line": "new"})
            known = {"if-none-match": (await world.client.get("/api/v1/devices?q=pump")).headers["etag"]}
            await world.until(lambda page: page["matched"] == 1, "devices", q="new")
            assert (await world.client.get("/api/v1/devices?q=pump", headers=known)).status_code == 200

    asyncio.run(main())


def test_a_polled_value_that_does_not_come_is_stale_and_one_of_a_dead_device_is_none(scene: Make) -> None:
    async def main() -> None:
        world = scene()
        await world.model(SPEED)
        await world.device("pump-1")
        world.mapper.values["h", 1, "speed"] = 42.0
        async with world.running():
            twin = await world.state("pump-1", "Ready")
            assert "stale" not in twin["properties"][0]
            await world.device("pump-1", paused=True)
            old = await world.until(lambda t: "stale" in t["properties"][0], "devices/default/pump-1")
            assert old["properties"][0]["reported"]["value"] == 42.0
            await world.device("pump-1", paused=False)
            await world.state("pump-1", "Ready")
            world.mapper.down.add("h")
            dead = await world.state("pump-1", "Offline")
            assert dead["properties"][0]["reported"]["value"] is None
            assert dead["properties"][0]["reported"]["quality"] == "Bad.NoLink"
            assert dead["lastSeen"] is not None
            assert "next in" in dead["status"]["message"]

    asyncio.run(main())


def test_a_device_whose_clock_runs_ahead_was_not_seen_in_the_future(scene: Make) -> None:
    async def main() -> None:
        world = scene()
        await world.model(SPEED)
        await world.device("pump-1")
        world.mapper.wall_ns = lambda: time.time_ns() + 3600 * 10**9
        async with world.running():
            twin = await world.state("pump-1", "Ready")
            assert datetime.fromisoformat(twin["lastSeen"]).timestamp() <= time.time()

    asyncio.run(main())
