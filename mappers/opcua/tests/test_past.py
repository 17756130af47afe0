"""What a server has kept: between the ends of a gap, in parts, up to a limit, and only what is worth it."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from devicemesh_opcua import past
from devicemesh_opcua.binary import DecodeError
from devicemesh_opcua.services import ServiceFaultError
from devicemesh_opcua.session import open_session

from devicemesh.mapper import Gap, Quality
from devicemesh.testing.contract import rows

BEGAN = datetime.datetime.now(datetime.UTC).replace(microsecond=0) - datetime.timedelta(minutes=10)
UNCERTAIN, BAD = 0x40920000, 0x808C0000


def moment(seconds: float) -> datetime.datetime:
    return BEGAN + datetime.timedelta(seconds=seconds)


def ns(seconds: float) -> int:
    return round(BEGAN.timestamp() + seconds) * 10**9


async def told(session: Any, gaps: list[Any]) -> dict[int, list[tuple[int, Any, int]]]:
    found: dict[int, list[tuple[int, Any, int]]] = {gap.point.slot: [] for gap in gaps}
    async for batch in session.history(gaps):
        for row in rows(batch):
            assert row.error is None
            found[row.slot].append((row.time_ns, row.value, row.quality))
    return found


def test_gaps_of_several_nodes_each_its_own(serve_plant: Any, point: Any, run: Any) -> None:
    async def work() -> None:
        async with serve_plant(history_page=2) as plant:
            statuses = [0, 0, UNCERTAIN, BAD, 0, 0]
            for name in ("a", "b", "none"):
                await plant.add(name, 0.0, "Double")
            for name in ("a", "b"):
                await plant.historize(name, [(float(i), moment(i), s) for i, s in enumerate(statuses)])
            endpoint = plant.endpoint()
            points = [
                point(i, endpoint, "float64", name) for i, name in enumerate(("a", "b", "none", "gone"))
            ]
            async with open_session(endpoint) as session:
                gaps = [Gap(points[0], ns(0), ns(5)), Gap(points[1], ns(3), ns(6))]
                gaps += [Gap(one, ns(0), ns(5)) for one in points[2:]]
                good, unsure = int(Quality.FROM_HISTORY), int(Quality.UNCERTAIN_FROM_HISTORY)
                assert await told(session, gaps) == {
                    0: [(ns(1), 1.0, good), (ns(2), 2.0, unsure), (ns(4), 4.0, good)],
                    1: [(ns(4), 4.0, good), (ns(5), 5.0, good)],
                    2: [],
                    3: [],
                }
                assert session.lost() == {}

    run(work())


def test_it_is_bounded_in_time_and_count(
    serve_plant: Any, point: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past, "MAX_ROWS", 4)

    async def work() -> None:
        async with serve_plant(history_page=3) as plant:
            await plant.add("a", 0.0, "Double")
            await plant.historize("a", [(float(i), moment(i), 0) for i in range(20)])
            async with open_session(plant.endpoint()) as session:
                for reach, seen in (("1h", [1.0, 2.0, 3.0]), ("2s", [18.0]), ("0s", [])):
                    one = point(0, plant.endpoint(history=reach), "float64", "a")
                    kept = await told(session, [Gap(one, ns(0), ns(19))])
                    assert [value for _, value, _ in kept[0]][:3] == seen
                assert session.lost() == {"history": 2}, "once for the count, once for the time"

    run(work())


def test_words_and_structures_of_the_past(serve_plant: Any, point: Any, run: Any) -> None:
    async def work() -> None:
        async with serve_plant() as plant:
            await plant.add_types()
            await plant.remember("mode", [moment(i) for i in range(4)])
            await plant.remember("recipe", [moment(i) for i in range(4)])
            endpoint = plant.endpoint()
            points = [point(0, endpoint, "string", "mode"), point(1, endpoint, "json", "recipe")]
            async with open_session(endpoint) as session:
                kept = await told(session, [Gap(one, ns(0), ns(3)) for one in points])
                assert [value for _, value, _ in kept[0]] == ["Auto", "Auto"]
                assert [value["Name"] for _, value, _ in kept[1]] == ["tea", "tea"]

    run(work())


@pytest.mark.parametrize("body", ["", "00", "01009b02" + "00" * 20 + "ffffff7f"])
def test_a_broken_answer_is_no_past(body: str) -> None:
    with pytest.raises((DecodeError, ServiceFaultError)):
        past.response(bytes.fromhex(body), 1)
