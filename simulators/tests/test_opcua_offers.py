"""A simulated OPC UA device under the runtime: its methods, its alarm, its past, and what breaks them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from devicemesh_opcua.mapper import OpcUaMapper
from devicemesh_simulators.nodes import Cell
from devicemesh_simulators.opcua import OpcUaSimulator

from devicemesh.runtime.binding import Binder, BoundDevice, point
from devicemesh.runtime.runtime import Runtime
from devicemesh.settings import Settings
from devicemesh.sink.base import Command
from devicemesh.store.base import Key
from devicemesh.testing.fake import FakeSink
from devicemesh.testing.memory import MemoryStore
from devicemesh.testing.simulator import SimulatedDevice

API = "devicemesh.io/v1alpha1"
PUMP = Key("Device", "default", "pump")
MODEL = {
    "apiVersion": API, "kind": "DeviceModel", "metadata": {"name": "pump"},
    "spec": {
        "properties": [
            {"name": "position", "type": "float64", "access": "ReadWrite",
             "address": {"opcua": {"browsePath": "Motor/Position", "namespace": "urn:plant"}},
             "simulation": {"value": 0}},
            {"name": "count", "type": "int32", "address": {"opcua": {"node": "nsu=urn:plant;s=Count"}},
             "telemetry": {"samplingInterval": "50ms", "report": "every"},
             "simulation": {"signal": "counter", "high": 100000, "period": "400ms", "history": True}},
        ],
        "commands": [
            {"name": "move", "arguments": [{"name": "position", "type": "float64", "maximum": 120}],
             "address": {"opcua": {"browsePath": "Motor/Move", "namespace": "urn:plant"}}},
        ],
        "events": [{"name": "alarms", "address": {"opcua": {"node": "nsu=urn:plant;s=Pump"}}}],
    },
}  # fmt: skip
DEVICE = {
    "apiVersion": API, "kind": "Device", "metadata": {"name": "pump"},
    "spec": {"modelRef": {"name": "pump"}, "endpoint": {"opcua": {
        "url": "opc.tcp://192.0.2.1", "root": "nsu=urn:plant;s=Pump", "timeout": "2s"}}},
}  # fmt: skip


async def until(what: Callable[[], Any], seconds: float = 30.0) -> Any:
    async with asyncio.timeout(seconds):
        while not (found := what()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return found


def counted(sink: FakeSink) -> dict[str, tuple[int, str]]:
    """Every count that was published, with its quality, by its time."""
    seen: dict[str, tuple[int, str]] = {}
    for _, payload in sink.published:
        for row in json.loads(payload).get("rows", ()):
            if (value := row["values"].get("count")) is not None:
                assert row["time"] not in seen, f"{value} of {row['time']} came twice"
                seen[row["time"]] = value, row.get("quality", {}).get("count", "Good")
    return seen


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Every count that the simulated device had: on a busy machine it leaves some out."""
    found: set[int] = set()
    now = Cell.now

    def noted(self: Cell, seconds: float) -> Any:
        value = now(self, seconds)
        if self.prop.name == "count":
            found.add(value)
        return value

    monkeypatch.setattr(Cell, "now", noted)
    return found


def test_calls_alarms_and_the_past_of_a_simulated_device(tmp_path: Path, held: set[int]) -> None:
    async def work() -> None:
        store, sink, mapper = MemoryStore(), FakeSink(), OpcUaMapper()
        await store.apply([MODEL, DEVICE])
        models = {
            Key("DeviceModel", "default", "pump"): await store.get(Key("DeviceModel", "default", "pump"))
        }
        bound = Binder({"opcua": mapper}).bind(await store.get(PUMP), models)
        assert isinstance(bound, BoundDevice)
        points = [point(bound, name, slot) for slot, name in enumerate(bound.shape.names)]
        calls = {name: (bound.commands[name], address) for name, address in bound.shape.calls.items()}
        device = SimulatedDevice(
            bound.name, bound.endpoint, points, bound.shape.specs, tmp_path, calls, bound.shape.events
        )
        async with OpcUaSimulator().serve([device], seed=1, host="127.0.0.1") as simulation:
            settings = Settings(home=tmp_path)
            redirects = simulation.addresses
            async with Runtime(settings, store, sink, {"opcua": mapper}, redirects=redirects) as runtime:
                await until(lambda: len(counted(sink)) > 3)
                running = runtime.supervisor.devices[PUMP]
                assert running.served == "Subscribed"
                await _calls(runtime, sink)
                await _alarms(simulation, sink)
                await _past(simulation, sink, runtime, held)

    asyncio.run(work())


async def _calls(runtime: Any, sink: Any) -> None:
    await sink.handler(Command("command", "default/pump", "move", {"position": 121}))
    await sink.handler(Command("command", "default/pump", "move", {"position": 42}, "7"))
    refused, done = (body for _, topic, body in sink.events if topic == "command/move/result")
    assert refused["message"] == "position: 121 is above position's maximum of 120"
    assert done == {"state": "applied", "result": {"calls": 1}, "id": "7"}
    slot = runtime.supervisor.devices[PUMP].slot("position")
    await until(lambda: runtime.aggregator.latest(slot).value == 42)


async def _alarms(simulation: Any, sink: Any) -> None:
    def alarms() -> list[tuple[str, str, str]]:
        bodies = [body for _, topic, body in sink.events if topic == "alarm"]
        return [(body["alarm"], body["source"], body["state"]) for body in bodies]

    assert simulation.fault("default/pump", "alarm", {}) == "an alarm is active"
    await until(lambda: alarms() == [("Simulated", "pump", "active")])
    simulation.fault("default/pump", "disconnect", {})
    await asyncio.sleep(0)
    assert simulation.fault("default/pump", "heal", {}) == "healthy"
    await until(lambda: alarms()[1:] == [("Simulated", "pump", "cleared")])


async def _past(simulation: Any, sink: Any, runtime: Any, held: set[int]) -> None:
    """Nothing is lost over outages of every kind, nothing comes twice, and what came late says so."""
    (link,) = runtime.supervisor.links.values()
    for fault in ("disconnect", "session"):
        opened, filled = link.stats.reconnects, link.stats.backfilled
        simulation.fault("default/pump", fault, {})
        await until(lambda n=opened: link.stats.reconnects > n)
        if fault == "session":  # else the subscriptions are taken over, and may have missed nothing
            await until(lambda n=filled: link.stats.backfilled > n)
    first, last = (pick(count for count, _ in counted(sink).values()) for pick in (min, max))
    await until(lambda: max(count for count, _ in counted(sink).values()) > last + 4)
    wanted = {count for count in held if first <= count <= last + 4}
    await until(lambda: wanted <= {count for count, _ in counted(sink).values()})
    seen = [row for _, row in sorted(counted(sink).items())]
    counts = [count for count, _ in seen]
    assert counts == sorted(counts), "each at its own time"
    assert {quality for _, quality in seen} == {"Good", "Good.FromHistory"}
    assert simulation.fault("default/pump", "publish", {"value": "1s"}) == "changes sent 1000 ms late"
