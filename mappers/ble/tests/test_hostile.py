"""Devices that lie, one folder each, on the virtual air: a neighbour is read beside them, and they are once they heal."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from devicemesh_ble import peripheral as peripherals
from devicemesh_ble.mapper import BleMapper

from devicemesh.mapper import LinkError, Quality, Write
from devicemesh.testing.contract import once, run

CASES, LOST = [], []  # those that end the link
for _path in sorted((Path(__file__).parent / "cases").glob("*/case.yaml")):
    _case = yaml.safe_load(_path.read_text("utf-8"))
    if not {"advertisement", "refused_uuid"} & _case.keys():
        (LOST if _case.get("removed") else CASES).append(_path)
BAD, GOOD = "default/bad", "default/good"
TIMES: dict[str, Any] = {"timeout": "1s", "connectTimeout": "2s", "silence": "2s"}


def declared(case: dict[str, Any]) -> dict[str, Any]:
    properties = {
        "battery": ("uint8", {"characteristic": "battery_level"}, {"value": 77}),
        "set-limit": ("uint8", {"characteristic": "fff1"}, {"value": 1}),
        "count": ("uint8", {"characteristic": "fff2", "mode": "notify"}, {"value": 7}),
        "rssi": ("int16", {"signal": "rssi"}, {}),
    }
    bad = {**TIMES, "name": "Bad", "pair": case.get("pairs", False)}
    found = {BAD: (bad, properties), GOOD: ({**TIMES, "name": "Good"}, properties)}
    if case.get("namesake"):
        found["default/second"] = ({**TIMES, "name": "Bad2"}, properties)
    return found


async def value(session: Any, point: Any) -> Any:
    return (await once(session.reader([point]), [point]))[point.slot]


async def healed(session: Any, point: Any) -> Any:
    """A pause after a failure is a short one here."""
    async with asyncio.timeout(15):
        while True:
            row = await value(session, point)
            if row.quality == Quality.GOOD:
                return row.value
            await asyncio.sleep(0.02)


async def asked(session: Any, plant: Any, case: dict[str, Any]) -> Any:
    """Value and error of the device that lies, once its script has played."""
    battery, limit, count, rssi = (plant.points[BAD, n] for n in ("battery", "set-limit", "count", "rssi"))
    if case.get("writes"):
        (outcome,) = await session.write([Write(limit, 5)])
        return outcome.value, outcome.error
    if case.get("namesake"):
        async with contextlib.aclosing(session.subscribe([rssi])) as batches:
            async for batch in batches:
                if batch.error is not None:
                    return None, batch.error
    if case.get("watches"):
        async with contextlib.aclosing(session.subscribe([count])) as batches:
            async for batch in batches:
                assert batch.error is None
                break
            row = await value(session, battery)
    else:
        row = await value(session, battery)
    return (row.value, None) if row.error is None else (None, row.error)


@pytest.mark.parametrize("path", CASES, ids=[path.parent.name for path in CASES])
def test_case(path: Path, air: Callable[..., Any], rogue: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    case: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    expect = case["expect"]
    monkeypatch.setattr(peripherals, "BACKOFF_S", (0.05, 0.1))

    async def work() -> None:
        async with air(declared(case)) as plant, BleMapper().open(plant.endpoint) as session:
            liar = rogue.Rogue(plant.simulation.peripherals[BAD], case)
            good, battery = plant.points[GOOD, "battery"], plant.points[BAD, "battery"]
            if case.get("namesake"):
                second = plant.simulation.peripherals["default/second"].twin
                second.endpoint = plant.points[BAD, "rssi"].endpoint
            if case.get("strangers"):
                await rogue.crowd(plant.simulation.peripherals[BAD], case["strangers"])
            if "fault" in case:
                plant.fault(BAD, case["fault"])
            found, error = await asked(session, plant, case)
            assert found == expect.get("value")
            assert getattr(error, "reason", None) == expect.get("reason")
            assert expect.get("says", "") in str(error)
            assert (await value(session, good)).value == 77, "a neighbour is harmed"
            liar.heal()
            if "refuses_pairing" not in case and not case.get("namesake"):
                assert await healed(session, battery) == 77
            assert liar.connections >= expect.get("connections", 0), "its table is asked for anew"

    run(work())


@pytest.mark.parametrize("path", LOST, ids=[path.parent.name for path in LOST])
def test_case_that_ends_the_link(path: Path, air: Callable[..., Any]) -> None:
    why = yaml.safe_load(path.read_text("utf-8"))["expect"]["lost"]

    async def work() -> None:
        async with air(declared({})) as plant, BleMapper().open(plant.endpoint) as session:
            battery, rssi = plant.points[GOOD, "battery"], plant.points[GOOD, "rssi"]
            assert (await value(session, battery)).value == 77
            batches = session.subscribe([rssi])
            assert (await anext(batches)).error is None
            await plant.door.aclose()
            with pytest.raises(LinkError, match=why):
                async for _ in batches:
                    pass
            with pytest.raises(LinkError, match=why):
                await value(session, battery)

    run(work())


def test_the_list_is_complete() -> None:
    numbers = {path.parent.name[:2] for path in (Path(__file__).parent / "cases").glob("*/case.yaml")}
    assert numbers == {f"{number:02}" for number in range(1, 21)}
