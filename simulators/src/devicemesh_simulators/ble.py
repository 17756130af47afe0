"""The BLE simulator: a virtual air for every adapter, and on it a peripheral for every declared device.

Controllers, link and GATT server are bumble's; advertisements, signals and faults are ours.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING

from devicemesh.testing.simulator import SimulatedDevice, Simulation, Simulator, by_link

if TYPE_CHECKING:
    from devicemesh_simulators.ble_air import Peripheral

_TCP = "bumble:tcp-client:"


class BleSimulation(Simulation):
    """Running devices."""

    def __init__(self) -> None:
        self.peripherals: dict[str, Peripheral] = {}
        self.served: dict[str, str] = {}

    @property
    def addresses(self) -> Mapping[str, str]:
        return self.served

    def fault(self, device: str, fault: str, arguments: Mapping[str, str]) -> str:
        if device not in self.peripherals:
            raise ValueError(f"no simulated device {device}")
        peripheral = self.peripherals[device]
        twin = peripheral.twin
        twin.faults = twin.faults.switched(fault, arguments)
        if fault == "drop":
            peripheral.radio.drop()
            return "the connection was dropped"
        if fault == "rotate":
            peripheral.rotate()
            return f"its address is {twin.address} now"
        return twin.faults.words()


class BleSimulator(Simulator):
    """Puts declared devices on a virtual air."""

    protocol = "ble"

    @contextlib.asynccontextmanager
    async def serve(
        self, devices: Sequence[SimulatedDevice], *, seed: int, host: str
    ) -> AsyncIterator[Simulation]:
        """See `Simulator`. Raises ValueError for what can't be simulated, OSError where it can't listen."""
        from devicemesh_simulators.ble_air import on_air  # and with it bumble
        from devicemesh_simulators.ble_things import Twin

        simulation = BleSimulation()
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with contextlib.AsyncExitStack() as stack:
            for link, sharing in by_link(devices).items():
                twins = [Twin(device, f"{seed}") for device in sharing]
                door = on_air(twins, host, _port(link, host), lambda: loop.time() - start)
                port, peripherals = await stack.enter_async_context(door)
                simulation.served[link] = f"{host}:{port}"
                simulation.peripherals |= {one.twin.name: one for one in peripherals}
            yield simulation


def _port(link: str, host: str) -> int:
    """A virtual controller that is declared on `host` keeps its port; the others get free ones."""
    declared, _, port = link.removeprefix(_TCP).rpartition(":")
    return int(port) if link.startswith(_TCP) and declared == host and port.isdigit() else 0
