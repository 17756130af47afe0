"""The CoAP simulator, spoken to by the mapper: bodies, signals, writes, every fault, and devices that push."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from devicemesh_coap.call import CoapCall
from devicemesh_coap.gateway import open_gateway
from devicemesh_coap.model import CoapAddress, CoapEndpoint
from devicemesh_coap.session import open_session
from devicemesh_simulators.coap import CoapSimulation, CoapSimulator

from devicemesh.mapper import Invocation, LinkError, Point, PointError, Quality, Write
from devicemesh.spec.device import Command, Property
from devicemesh.testing.contract import poll
from devicemesh.testing.simulator import SimulatedDevice

PROPERTIES: list[dict[str, Any]] = [
    {"name": "temperature", "type": "float32", "address": {"path": "/3303/0/5700"}, "simulation": {"value": 21.5}},
    {"name": "level", "type": "float64", "address": {"path": "/tank", "pointer": "/level"},
     "simulation": {"signal": "counter", "high": 1000, "period": "50ms"},
     "telemetry": {"samplingInterval": "50ms"}},
    {"name": "limit", "type": "int16", "access": "ReadWrite", "address": {"path": "/tank", "pointer": "/limit"},
     "simulation": {"value": 7}},
    {"name": "mode", "type": "string", "access": "ReadWrite",
     "address": {"path": "/pack", "record": "urn:x;mode"}, "simulation": {"value": "auto"}},
    {"name": "door", "type": "bool", "address": {"path": "/pack", "record": "urn:x;door"},
     "simulation": {"value": True}},
    {"name": "pressure", "type": "float64", "access": "ReadWrite",
     "address": {"path": "/raw", "offset": 2, "type": "uint16", "scale": 0.5}, "simulation": {"value": 2.5}},
]  # fmt: skip
HELD = [21.5, None, 7, "auto", 1, 2.5]


def declare(properties: list[dict[str, Any]] = PROPERTIES, **endpoint: Any) -> SimulatedDevice:
    wish = endpoint if "listen" in endpoint else {"uri": "coap://192.0.2.1/base", **endpoint}
    reached = CoapEndpoint.model_validate({"timeout": "3s", "ackTimeout": "200ms", **wish})
    found = {p["name"]: Property.model_validate(p) for p in properties}
    points = [
        Point(i, "default/tank", p.name, p.type, reached, CoapAddress.model_validate(p.address), p.telemetry)
        for i, p in enumerate(found.values())
    ]
    return SimulatedDevice("default/tank", reached, points, found, Path())


def redirected(device: SimulatedDevice, simulation: Any) -> list[Any]:
    address = simulation.addresses[device.endpoint.link()]
    endpoint = device.endpoint.redirect(address)
    return [dataclasses.replace(point, endpoint=endpoint) for point in device.points]


async def until(session: Any, points: list[Any], done: Callable[[dict[int, Any]], bool]) -> None:
    """Poll until it is as wanted."""
    reader = session.reader(points)
    async with asyncio.timeout(10):
        while True:
            seen = {s: (b, i) for b in [b async for b in reader()] for i, s in enumerate(b.slot)}
            if done({s: (b.value[i], b.quality, b.error) for s, (b, i) in seen.items()}):
                return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("scheme", ["coap", "coap+tcp"])
def test_a_declared_device_is_there_moves_and_is_written(scheme: str) -> None:
    async def work() -> None:
        device = declare(uri=f"{scheme}://192.0.2.1/base")
        async with CoapSimulator().serve([device], seed=1, host="127.0.0.1") as simulation:
            points = redirected(device, simulation)
            async with open_session(points[0].endpoint) as session:
                seen = await poll(session, points)
                assert all(r.quality == Quality.GOOD for r in seen.values()), seen
                assert [seen[i].value for i in (0, 2, 3, 4, 5)] == [v for v in HELD if v is not None]
                before = seen[1].value
                await until(session, points, lambda now: now[1][0] > before)
                refused, *written = await session.write(
                    [
                        Write(points[0], 1.0),
                        Write(points[2], 9),
                        Write(points[3], "off"),
                        Write(points[5], 4.0),
                    ]
                )
                assert refused.error is not None and "4.05" in str(refused.error)
                assert [(o.value, o.error) for o in written] == [(9, None), ("off", None), (4.0, None)]
                async with contextlib.aclosing(session.subscribe(points[1:2])) as batches:
                    values = [(await anext(batches)).value[0] for _ in range(6)]
                assert values == sorted(values) and len(set(values)) >= 5, "observers are told of changes"

    asyncio.run(work())


def test_every_fault_does_what_it_says_and_heals() -> None:
    async def work() -> None:
        device = declare()
        async with CoapSimulator().serve([device], seed=1, host="127.0.0.1") as simulation:
            points = redirected(device, simulation)
            one = points[:1]

            def fault(name: str, **arguments: str) -> str:
                return simulation.fault("default/tank", name, arguments)

            async with open_session(points[0].endpoint) as session:
                assert fault("unavailable", value="1") == "unavailable (5.03, Max-Age 1)"
                await until(session, one, lambda now: "5.03" in str(now[0][2]))
                assert fault("heal") == "healthy"
                await until(session, one, lambda now: now[0][1] == Quality.GOOD)
                assert fault("noise", value="10") == "numbers off by up to 10 %"
                await until(session, one, lambda now: now[0][0] != 21.5 and abs(now[0][0] - 21.5) <= 2.2)
                fault("heal")
                assert fault("delay", value="100ms") == "everything 100 ms late"
                loop = asyncio.get_running_loop()
                started = loop.time()
                await poll(session, one)
                assert loop.time() - started >= 0.1
                fault("heal")
                fault("drop", value="10")
                fault("duplicate", value="20")
                assert fault("reorder", value="10") == (
                    "10 % of the datagrams lost, 20 % of the datagrams twice, 10 % of the datagrams out of order"
                )
                for _ in range(5):
                    await until(session, one, lambda now: now[0][1] == Quality.GOOD)
                fault("heal")
                assert fault("unplug") == "silent"
                with pytest.raises(LinkError):
                    while True:
                        await poll(session, one)

    asyncio.run(work())


def test_a_device_that_pushes_finds_the_runtime_and_comes_back() -> None:
    async def work() -> None:
        device = declare(listen="0.0.0.0:5683", name="tank 1", lifetime="500ms")
        async with CoapSimulator().serve([device], seed=1, host="127.0.0.1") as simulation:
            points = redirected(device, simulation)
            seen: dict[int, Any] = {}

            async def hear(session: Any, done: Callable[[], bool]) -> None:
                async with asyncio.timeout(10), contextlib.aclosing(session.subscribe(points)) as batches:
                    async for batch in batches:
                        seen.update(
                            {s: (v, batch.error) for s, v in zip(batch.slot, batch.value, strict=True)}
                        )
                        if done():
                            return

            async with open_gateway(points[0].endpoint) as session:
                await hear(session, lambda: len(seen) == len(points))
                assert [seen[i][0] for i in (0, 2, 3, 4, 5)] == [v for v in HELD if v is not None]
                simulation.fault("default/tank", "unplug", {})
                await hear(session, lambda: "has sent nothing" in str(seen[0][1]))
                simulation.fault("default/tank", "heal", {})
                await hear(session, lambda: seen[1][1] is None)

    asyncio.run(work())


@pytest.mark.parametrize(
    "prop, why",
    [
        ({"type": "json"}, "a json is not simulated"),
        (
            {"address": {"path": "/x", "type": "int8"}, "simulation": {"value": 300}},
            "does not fit its address",
        ),
    ],
)
def test_what_can_not_be_simulated_says_why(prop: dict[str, Any], why: str) -> None:
    async def work() -> None:
        fields = {"name": "x", "type": "int32", "address": {"path": "/x"}, **prop}
        with pytest.raises(ValueError, match=why):
            async with CoapSimulator().serve([declare([fields])], seed=1, host="127.0.0.1"):
                pytest.fail("served")

    asyncio.run(work())


def test_resources_of_two_kinds_and_unknown_faults_are_refused() -> None:
    mixed = [
        {"name": "a", "type": "int32", "address": {"path": "/x"}},
        {"name": "b", "type": "int32", "address": {"path": "/x", "offset": 0}},
    ]

    async def work() -> None:
        with pytest.raises(ValueError, match=r"/base/x can't be simulated as text/plain and as octet-stream"):
            async with CoapSimulator().serve([declare(mixed)], seed=1, host="127.0.0.1"):
                pytest.fail("served")
        async with CoapSimulator().serve([declare()], seed=1, host="127.0.0.1") as simulation:
            for fault, arguments, why in [
                ("melt", {}, "no fault of CoAP"),
                ("heal", {"value": "1"}, "takes no value"),
                ("drop", {"value": "200"}, "not a percentage"),
                ("unavailable", {"value": "-1"}, "no number of seconds"),
            ]:
                with pytest.raises(ValueError, match=why):
                    simulation.fault("default/tank", fault, arguments)

    asyncio.run(work())
    with pytest.raises(ValueError, match="no simulated device"):
        CoapSimulation().fault("default/none", "heal", {})


def test_a_command_that_is_a_call_says_what_it_was_told() -> None:
    async def work() -> None:
        told = declare()
        command = Command.model_validate({"name": "move", "address": {"coap": {"path": "/actions/move"}}})
        calls = {"move": (command, CoapCall(path="/actions/move"))}
        device = dataclasses.replace(told, calls=calls)
        async with CoapSimulator().serve([device], seed=0, host="127.0.0.1") as simulation:
            endpoint = redirected(device, simulation)[0].endpoint
            async with open_session(endpoint) as session:
                call = Invocation(device.name, "move", endpoint, calls["move"][1], {"to": 3.5})
                assert await session.invoke(call) == {"to": 3.5}
                simulation.fault(device.name, "unavailable", {})
                with pytest.raises(PointError, match=r"5\.03"):
                    await session.invoke(call)

    asyncio.run(work())
