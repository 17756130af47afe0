"""The OPC UA simulator, spoken to by the mapper: signals, writes, and every fault."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from devicemesh_opcua.model import OpcUaAddress, OpcUaEndpoint
from devicemesh_opcua.session import open_session
from devicemesh_simulators.opcua import OpcUaSimulator

from devicemesh.mapper import LinkError, Point, Quality, Write
from devicemesh.spec.device import Property
from devicemesh.testing.contract import poll
from devicemesh.testing.simulator import SimulatedDevice

PROPERTIES: list[dict[str, Any]] = [
    {
        "name": "speed",
        "type": "float32",
        "access": "ReadWrite",
        "address": {"node": "nsu=urn:plant;s=Pump.Speed"},
        "simulation": {"value": 12.5},
    },
    {
        "name": "level",
        "type": "float64",
        "address": {"browsePath": "2:Tank/2:Level"},
        "simulation": {"signal": "counter", "high": 1000, "period": "50ms"},
        "telemetry": {"samplingInterval": "50ms"},
    },
    {
        "name": "mode",
        "type": "string",
        "address": {"node": "nsu=urn:plant;i=7"},
        "simulation": {"value": "auto"},
    },
    {"name": "state", "type": "int32", "address": {"node": "i=2259"}},
]


def declare(properties: list[dict[str, Any]] = PROPERTIES, **endpoint: Any) -> SimulatedDevice:
    reached = OpcUaEndpoint.model_validate(
        {"url": "opc.tcp://192.0.2.1", "namespaces": {2: "urn:plant"}, "timeout": "5s", **endpoint}
    )
    found = {p["name"]: Property.model_validate(p) for p in properties}
    points = [
        Point(i, "default/pump", p.name, p.type, reached, OpcUaAddress.model_validate(p.address), p.telemetry)
        for i, p in enumerate(found.values())
    ]
    return SimulatedDevice("default/pump", reached, points, found, Path())


async def until(session: Any, points: list[Any], done: Any) -> None:
    """Poll until the second point is as wanted."""
    async with asyncio.timeout(10):
        while not done((await poll(session, points))[1]):
            pass


def redirected(device: SimulatedDevice, simulation: Any) -> list[Any]:
    import dataclasses

    address = simulation.addresses[device.endpoint.link()]
    endpoint = device.endpoint.redirect(address)
    return [dataclasses.replace(point, endpoint=endpoint) for point in device.points]


def test_a_declared_server_is_there_moves_and_breaks() -> None:
    async def work() -> None:
        device = declare()
        async with OpcUaSimulator().serve([device], seed=1, host="127.0.0.1") as simulation:
            points = redirected(device, simulation)
            async with open_session(points[0].endpoint) as session:
                seen = await poll(session, points)
                assert (seen[0].value, seen[2].value, seen[3].value) == (12.5, "auto", 0)
                before = seen[1].value
                await until(session, points, lambda row: row.value > before)
                refused, written = await session.write([Write(points[1], 1.0), Write(points[0], 99.5)])
                assert refused.error is not None and written.value == 99.5
                said = simulation.fault("default/pump", "bad", {"value": "communication"})
                assert said == "values are bad: communication"
                await until(session, points, lambda row: row.quality == Quality.NO_ANSWER)
                assert simulation.fault("default/pump", "heal", {}) == "healthy"
                await until(session, points, lambda row: row.quality == Quality.GOOD)
                assert (await poll(session, points))[0].value == 99.5, "what was written stays"
                assert (
                    simulation.fault("default/pump", "delay", {"value": "200ms"}) == "everything 200 ms late"
                )
                loop = asyncio.get_running_loop()
                started = loop.time()
                await poll(session, points[:1])
                assert loop.time() - started >= 0.2
                simulation.fault("default/pump", "heal", {})
                simulation.fault("default/pump", "disconnect", {})
                with pytest.raises(LinkError):
                    while True:
                        await poll(session, points)
            await shifted(simulation, points)

    async def shifted(simulation: Any, points: list[Any]) -> None:
        async with open_session(points[0].endpoint) as session:
            index = session.server.namespaces.index("urn:plant")
            simulation.fault("default/pump", "shift", {})
            with pytest.raises(LinkError):
                while True:
                    await poll(session, points)
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(LinkError):
                    async with open_session(points[0].endpoint) as session:
                        assert session.server.namespaces.index("urn:plant") == index + 1
                        assert (await poll(session, points))[0].value == 99.5
                        return
                await asyncio.sleep(0.05)

    asyncio.run(work())


@pytest.mark.parametrize(
    "prop, why",
    [
        ({"address": {"node": "ns=3;s=x"}}, "ns=3 has no meaning"),
        (
            {"address": {"node": "nsu=urn:a;s=x", "indexRange": "0"}},
            "arrays and structures are not simulated",
        ),
        (
            {"address": {"node": "nsu=urn:a;s=x", "type": "int8"}, "simulation": {"value": 300}},
            "does not fit its address",
        ),
    ],
)
def test_what_can_not_be_simulated_says_why(prop: dict[str, Any], why: str) -> None:
    async def work() -> None:
        fields = {"name": "x", "type": "int32", "address": {"node": "nsu=urn:a;s=x"}, **prop}
        with pytest.raises(ValueError, match=why):
            async with OpcUaSimulator().serve([declare([fields])], seed=1, host="127.0.0.1"):
                pytest.fail("served")

    asyncio.run(work())


@pytest.mark.parametrize(
    "given, value, other",
    [
        ({}, 0.0, 2.5),
        ({"value": 7}, 7.0, 2.5),
        ({"value": "auto"}, "auto", "off"),
        ({"value": True}, True, False),
    ],
)
def test_a_node_of_which_nothing_is_known_holds_something(given: Any, value: Any, other: Any) -> None:
    fields = {"name": "x", "type": "json", "access": "ReadWrite", "address": {"node": "nsu=urn:plant;s=x"}}

    async def work() -> None:
        device = declare([{**fields, "simulation": given}])
        async with OpcUaSimulator().serve([device], seed=1, host="127.0.0.1") as simulation:
            (point,) = redirected(device, simulation)
            async with open_session(point.endpoint) as session:
                seen = (await poll(session, [point]))[0]
                assert (seen.quality, seen.value, type(seen.value)) == (Quality.GOOD, value, type(value))
                (written,) = await session.write([Write(point, other)])
                assert (written.error, written.value) == (None, other)

    asyncio.run(work())


def test_unknown_faults_are_refused() -> None:
    from devicemesh_simulators.opcua import OpcUaSimulation

    with pytest.raises(ValueError, match="no simulated device"):
        OpcUaSimulation().fault("default/none", "heal", {})
