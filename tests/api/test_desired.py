"""Desired values over HTTP: the same edit as by MQTT, and no other."""

import asyncio
from collections.abc import Callable
from typing import Any

from devicemesh.mapper import PointError
from devicemesh.sink.base import Command
from devicemesh.store.base import Key, StoreUnavailableError

SPEED = {"name": "speed", "unit": "rpm", "access": "ReadWrite", "maximum": 3000}
PUMP = Key("Device", "default", "pump-1")
PLACE = "/api/v1/devices/default/pump-1/desired"
Make = Callable[[], Any]


async def desired(world: Any) -> Any:
    return {one["name"]: one["value"] for one in (await world.store.get(PUMP)).spec.get("desired", ())}


def applied(value: Any) -> Callable[[Any], bool]:
    return lambda twin: (
        twin["properties"][0].get("desired", {}).get("value") == value
        and (twin["properties"][0]["desired"]["state"] != "waiting")
    )


def test_a_value_is_written_read_back_and_taken_back(scene: Make) -> None:
    async def main() -> None:
        world = scene()
        await world.model(SPEED, {"name": "pressure"})
        await world.device("pump-1")
        async with world.running():
            await world.state("pump-1", "Ready")
            put = await world.client.put(f"{PLACE}/speed", json=1200)
            assert (put.status_code, put.json()) == (
                202,
                {
                    "property": "speed",
                    "state": "accepted",
                    "value": 1200,
                    "follow": PLACE[: -len("/desired")],
                },
            )
            twin = await world.until(applied(1200), put.json()["follow"].removeprefix("/api/v1/"))
            assert twin["properties"][0]["desired"]["state"] == "applied"
            assert world.mapper.written == [("h", 1, "speed", 1200)]
            again = await world.client.put(f"{PLACE}/speed", json=1200)
            assert (again.status_code, again.json()["state"]) == (200, "applied")
            assert ("default/pump-1", "twin/desired/result") in [e[:2] for e in world.sink.events]
            assert [e[2]["state"] for e in world.sink.events if "result" in e[1]] == ["applied"]

            gone = await world.client.delete(f"{PLACE}/speed")
            assert (gone.status_code, gone.json()["state"]) == (200, "applied")
            assert await desired(world) == {}
            await world.client.put(f"{PLACE}/speed", json=7)
            null = {"content": b"null", "headers": {"content-type": "application/json"}}
            assert (await world.client.put(f"{PLACE}/speed", **null)).json()["value"] is None
            assert await desired(world) == {}

    asyncio.run(main())


def test_what_is_wrong_is_refused_in_words_and_edits_nothing(scene: Make) -> None:
    async def main() -> None:
        world = scene()
        await world.model(SPEED, {"name": "pressure"})
        await world.device("pump-1")
        async with world.running():
            await world.state("pump-1", "Ready")
            for name, body, status, why in (
                ("speed", b"3001", 422, "3001 is above speed's maximum of 3000 rpm"),
                ("speed", b'"1"', 422, "'1' is not a number"),
                ("pressure", b"1", 422, "pressure is read-only"),
                ("sped", b"1", 422, "the model has no property `sped`"),
                ("speed", b"NaN", 400, "NaN is no JSON"),
                ("speed", b"", 400, "no JSON"),
                ("speed", b"1" * 70_000, 400, "longer than 65536 bytes"),
            ):
                headers = {"content-type": "application/json"}
                found = await world.client.put(f"{PLACE}/{name}", content=body, headers=headers)
                assert (found.status_code, found.json()["state"]) == (status, "refused"), found.text
                assert why in found.json()["message"]
            form = {"content-type": "text/plain;application/json"}
            assert (await world.client.put(f"{PLACE}/speed", content=b"1", headers=form)).status_code == 415
            other = PLACE.replace("pump-1", "pump-2")
            assert (await world.client.put(f"{other}/speed", json=1)).status_code == 404
            assert (await world.client.delete(f"{PLACE}/sped")).status_code == 422
            assert await desired(world) == {}
            assert (await world.store.get(PUMP)).generation == 1

    asyncio.run(main())


def test_a_refusal_of_the_device_and_a_store_that_is_away_are_told(scene: Make) -> None:
    async def main() -> None:
        world = scene()
        await world.model(SPEED)
        await world.device("pump-1")
        async with world.running():
            await world.state("pump-1", "Ready")
            world.mapper.refuse["h", 1, "speed"] = PointError("the pump is locked", reason="Locked")
            await world.client.put(f"{PLACE}/speed", json=5)
            twin = await world.until(applied(5), "devices/default/pump-1")
            assert twin["properties"][0]["desired"] == {
                "value": 5, "state": "refused", "reason": "Locked", "message": "the pump is locked",
            }  # fmt: skip
            again = await world.client.put(f"{PLACE}/speed", json=5)
            assert (again.status_code, again.json()["message"]) == (422, "the pump is locked")

            async def away(*_: object) -> None:
                raise StoreUnavailableError("the disk is full")

            world.store.set_desired = away
            found = await world.client.put(f"{PLACE}/speed", json=6)
            assert (found.status_code, found.json()["message"]) == (503, "the disk is full")
            assert found.json()["state"] == "failed"

    asyncio.run(main())


def test_mqtt_answers_as_before(scene: Make) -> None:
    async def main() -> None:
        world = scene()
        await world.model(SPEED, {"name": "pressure"})
        await world.device("pump-1")
        async with world.running():
            await world.state("pump-1", "Ready")
            body = {"pressure": 1, "speed": 9, "x" * 70: 1}
            await world.sink.handler(Command("desired", "default/pump-1", "", body, "id-1"))
            await world.until(applied(9), "devices/default/pump-1")
            told = [event[2] for event in world.sink.events if event[1] == "twin/desired/result"]
            assert {(one["property"], one["state"], one["id"]) for one in told} == {
                ("pressure", "refused", "id-1"),
                ("x" * 64, "refused", "id-1"),
                ("speed", "applied", "id-1"),
            }

    asyncio.run(main())


def test_a_replica_that_has_lost_its_lease_takes_nothing(scene: Make) -> None:
    async def main() -> None:
        world = scene()
        await world.model(SPEED, commands=[{"name": "stop", "writes": [{"property": "speed", "value": 0}]}])
        await world.device("pump-1")
        async with world.running():
            await world.state("pump-1", "Ready")
            world.runtime.pipeline.fence = lambda: False
            for method, path in (
                ("PUT", f"{PLACE}/speed"),
                ("DELETE", f"{PLACE}/speed"),
                ("POST", PLACE.replace("desired", "commands/stop")),
            ):
                found = await world.client.request(method, path, json=1)
                assert (found.status_code, "lost its Lease" in found.json()["error"]) == (503, True)
            assert await desired(world) == {}
            assert world.mapper.written == []
            world.runtime.pipeline.fence = None

    asyncio.run(main())
