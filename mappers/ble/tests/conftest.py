"""A virtual air to test against."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from devicemesh_ble.model import BleAddress, BleEndpoint
from devicemesh_simulators.ble import BleSimulator

from devicemesh.mapper import Point
from devicemesh.spec.device import Property
from devicemesh.spec.values import ValueType
from devicemesh.testing.simulator import SimulatedDevice


@dataclass
class Plant:
    """Running devices. Their points, by device and property, lead to the virtual air."""

    simulation: Any
    points: dict[tuple[str, str], Any]
    door: contextlib.AsyncExitStack

    def fault(self, device: str, name: str, value: str | None = None) -> str:
        return str(self.simulation.fault(device, name, {} if value is None else {name: value}))

    @property
    def endpoint(self) -> BleEndpoint:
        endpoint: BleEndpoint = next(iter(self.points.values())).endpoint
        return endpoint

    def of(self, *names: tuple[str, str]) -> list[Any]:
        return [self.points[name] for name in names]


Declared = dict[str, tuple[dict[str, Any], dict[str, tuple[str, dict[str, Any], dict[str, Any]]]]]
"""Device -> (endpoint, property -> (type, address, simulation))."""


def declare(declared: Declared) -> list[SimulatedDevice]:
    devices, slot = [], 0
    for name, (given, properties) in declared.items():
        endpoint = BleEndpoint.model_validate({"adapter": "hci0", **given})
        points, found = [], {}
        for own, (type_, address, simulation) in properties.items():
            prop: dict[str, Any] = {"name": own, "type": type_, "address": {"ble": address}}
            if own.startswith("set"):
                prop["access"] = "ReadWrite"
            if simulation:
                prop["simulation"] = simulation
            found[own] = Property.model_validate(prop)
            place = BleAddress.model_validate(address)
            points.append(Point(slot, name, own, ValueType(type_), endpoint, place))
            slot += 1
        devices.append(SimulatedDevice(name, endpoint, points, found, Path()))
    return devices


@contextlib.asynccontextmanager
async def serving(declared: Declared) -> AsyncIterator[Plant]:
    devices = declare(declared)
    async with contextlib.AsyncExitStack() as stack:
        simulation: Any = await stack.enter_async_context(
            BleSimulator().serve(devices, seed=1, host="127.0.0.1")
        )
        endpoints = {d.name: d.endpoint.redirect(simulation.addresses["hci0"]) for d in devices}
        points = {(d.name, p.name): replace(p, endpoint=endpoints[d.name]) for d in devices for p in d.points}
        yield Plant(simulation, points, stack)


@pytest.fixture
def air() -> Callable[[Declared], Any]:
    return serving


@pytest.fixture(scope="session")
def rogue() -> Any:
    """`rogue.py`, which is no test of its own."""
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        import rogue
    finally:
        sys.path.pop(0)
    return rogue
