"""docs/http.md is held against the routes, and its examples against their answers."""

import asyncio
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.routing import Route

from devicemesh.api import facts
from devicemesh.api.application import application
from devicemesh.api.twins import PARAMETERS
from devicemesh.mapper import Notification, Occurrence
from devicemesh.runtime.histogram import Histogram
from devicemesh.runtime.linkstats import MAX_REASONS, LinkStats

TEXT = (Path(__file__).parent.parent.parent / "docs/http.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^### `(\w+ .*?)`\n(.*?)(?=^##|\Z)", TEXT, re.M | re.S))
FREE = {"labels", "errors", "dropped", "lost", "result"}
"""Maps whose keys are not ours to name."""
Make = Callable[[], Any]


def example(route: str) -> Any:
    """The answer that the page shows."""
    return json.loads(SECTIONS[route].split("```json\n")[1].split("```")[0])


def differences(shown: Any, got: Any, place: str = "") -> list[str]:
    """Where an answer has other fields than its example, or other types in them."""
    if isinstance(shown, dict) and isinstance(got, dict):
        if place.rpartition(".")[2] in FREE:
            return []
        if shown.keys() != got.keys():
            return [f"{place}: {sorted(shown.keys() ^ got.keys())}"]
        return [d for name in shown for d in differences(shown[name], got[name], f"{place}.{name}")]
    if isinstance(shown, list) and isinstance(got, list):
        if bool(shown) != bool(got):
            return [f"{place}: one of both is empty"]
        return [d for one in got[:1] for d in differences(shown[0], one, f"{place}[]")]
    number = (int, float)
    alike = type(shown) is type(got) or None in (shown, got)
    alike = alike or (isinstance(shown, number) and isinstance(got, number))
    return [] if alike else [f"{place}: {shown!r} and {got!r}"]


async def full(world: Any) -> None:
    """A device that has everything."""
    await world.model(
        {"name": "speed", "unit": "rpm", "access": "ReadWrite", "maximum": 3000,
         "alarms": [{"name": "overspeed", "above": 2800, "severity": "critical"}]},
        commands=[{"name": "move", "arguments": [{"name": "position", "type": "float64"}],
                   "address": {"fake": {"name": "M"}}}],
        events=[{"name": "alarms", "address": {"fake": {"name": "A"}}}],
    )  # fmt: skip
    await world.device("pump-1", {"line": "a"}, desired=[{"name": "speed", "value": 2900}])
    await world.device("pump-2", endpoint={"fake": {"host": "h", "unit": 2}})


def test_every_route_is_told_of_and_no_other(scene: Make) -> None:
    async def main() -> None:
        routes = [one for one in application(scene().runtime).routes if isinstance(one, Route)]
        told = {
            f"{method} {one.path}" for one in routes for method in (one.methods or ()) if method != "HEAD"
        }
        assert told == SECTIONS.keys()

    asyncio.run(main())


def test_parameters_are_told_of() -> None:
    for route, known in (
        ("devices", PARAMETERS), ("links", facts.LINK_PARAMETERS), ("alarms", facts.ALARM_PARAMETERS),
    ):  # fmt: skip
        told = SECTIONS[f"GET /api/v1/{route}"]
        told = told.partition("Parameters:")[2].partition("\n\n")[0] or "".join(
            re.findall(r"^\| `\w+` \|", told, re.M)
        )
        assert set(known) == set(re.findall(r"`(\w+)`", told)) - {"true", "false"}, route


def test_answers_are_as_shown(scene: Make) -> None:
    async def main() -> None:
        world = scene()
        await full(world)
        async with world.running():
            await world.until(lambda found: found["total"] == 1, "alarms")
            await world.until(
                lambda twin: twin["properties"][0].get("desired", {}).get("state") == "applied",
                "devices/default/pump-1",
            )
            where = {"namespace": "default", "name": "pump-1", "property": "speed", "command": "move"}
            asked = {"GET /api/v1/devices": {"name": "pump-1"}}
            checked = 0
            for route, text in SECTIONS.items():
                method, _, path = route.partition(" ")
                if "```json" not in text:
                    continue
                path = path.replace("models/{namespace}/{name}", "models/default/pump").format_map(where)
                world.mapper.answers["M"] = {"duration": 1.5}
                body = {"PUT": 2901, "POST": {"position": 1}}.get(method)
                got = await world.client.request(method, path, json=body, params=asked.get(route))
                shown = example(route)
                if route.endswith("devices/{namespace}/{name}"):
                    shown["properties"][0]["desired"] = {"value": 1, "state": "", "appliedAt": ""}
                assert got.status_code < 300, route
                assert differences(shown, got.json()) == [], route
                checked += 1
            assert checked == 12

    asyncio.run(main())


def test_alarms_of_limits_and_of_devices_are_found(scene: Make) -> None:
    async def main() -> None:
        world = scene()
        await full(world)
        world.mapper.pushes["h"] = asyncio.Queue()
        hot = Occurrence("Hot", time.time_ns(), "96 degC", "warning", "active", "Motor")
        async with world.running():
            world.mapper.pushes["h"].put_nowait(("speed", 2900.0))
            world.mapper.pushes["h"].put_nowait(("alarms", Notification(None, [hot])))
            found = await world.until(lambda found: found["total"] == 2, "alarms")
            assert [(a["alarm"], a["severity"]) for a in found["alarms"]] == [
                ("overspeed", "critical"), ("Hot", "warning"),
            ]  # fmt: skip
            assert (
                found["alarms"][1].items() >= {"source": "Motor", "event": "alarms", "active": True}.items()
            )
            owner = found["alarms"][0]["name"]
            assert (await world.get("alarms", q="HOT motor"))["matched"] == 1
            assert (await world.get("alarms", name=f"default/{owner}"))["matched"] >= 1
            assert (await world.get("alarms", name="nobody"))["matched"] == 0
            few = await world.get("alarms", limit=1)
            assert (len(few["alarms"]), few["matched"]) == (1, 2)

    asyncio.run(main())


def test_links_say_what_fails_and_why(scene: Make) -> None:
    async def main() -> None:
        world = scene()
        await full(world)
        await world.device("far", host="gone")
        world.mapper.down.add("gone")
        async with world.running():
            found = await world.until(lambda f: f["links"][0]["errors"] and f["links"][-1]["up"], "links")
            down, up = found["links"]
            assert (down["link"], down["up"], up["link"], up["devices"]) == ("gone", False, "h", 2)
            assert down["errors"].keys() == {"ConnectionRefused"}
            assert down["requests"]["failed"] == down["errors"]["ConnectionRefused"]
            assert down["message"].startswith("connection refused by gone")
            assert down["backoffSeconds"] > 0
            assert (up["message"], up["errors"]) == ("", {})
            assert (await world.get("links", up="true"))["matched"] == 1
            assert (await world.get("links", q="refused"))["links"][0]["link"] == "gone"
            world.mapper.down.clear()
            back = await world.until(lambda f: f["links"][-1]["up"] and f["links"][0]["up"], "links")
            assert [one["message"] for one in back["links"]] == ["", ""]

    asyncio.run(main())


def test_a_model_that_is_not_there_or_makes_no_sense_is_said(scene: Make) -> None:
    async def main() -> None:
        world = scene()
        await world.model({"name": "speed", "unit": "rpm", "type": "odd"})
        async with world.running():
            wrong = await world.client.get("/api/v1/models/default/pump")
            assert (wrong.status_code, "makes no sense: spec.properties.0.type" in wrong.text) == (422, True)
            gone = await world.client.get("/api/v1/models/other/pump")
            assert gone.json() == {"error": "there is no DeviceModel `pump` in namespace other"}

    asyncio.run(main())


def test_a_quantile_is_the_bound_that_most_were_below() -> None:
    histogram = Histogram()
    assert histogram.quantile(0.95) is None
    for seconds in [0.0005] * 95 + [0.2] * 4 + [60.0]:
        histogram.add(seconds)
    assert [histogram.quantile(share) for share in (0.5, 0.95, 0.99, 1.0)] == [0.001, 0.001, 0.5, None]


def test_a_mapper_that_makes_up_reasons_fills_no_memory() -> None:
    stats = LinkStats()
    for number in range(1000):
        stats.failed(f"Error{number}")
        stats.failed("NoAnswer")
    assert (stats.failures, len(stats.errors), stats.errors["NoAnswer"]) == (2000, MAX_REASONS, 1000)
