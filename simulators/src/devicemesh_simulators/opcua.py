"""The OPC UA simulator: a server for every declared one, with a node for every declared property.

The server is asyncua's; nodes, signals and faults are ours. A relay in front of it brings the line's faults.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from typing import Any

from devicemesh.spec.values import duration_ns
from devicemesh.testing.proxy import Proxy
from devicemesh.testing.simulator import SimulatedDevice, Simulation, Simulator, by_link, place
from devicemesh_simulators.nodes import FAULTS, STATUSES, Faults, switched
from devicemesh_simulators.offers import switch_alarm
from devicemesh_simulators.plant import Plant, endpoint_of


class OpcUaSimulation(Simulation):
    """Running servers."""

    def __init__(self) -> None:
        self._addresses: dict[str, str] = {}
        self._plants: dict[str, Plant] = {}  # by device
        self._jobs: set[asyncio.Task[None]] = set()

    @property
    def addresses(self) -> Mapping[str, str]:
        return self._addresses

    def served(self, link: str, plant: Plant) -> None:
        host = f"[{plant.relay.host}]" if ":" in plant.relay.host else plant.relay.host
        self._addresses[link] = f"{host}:{plant.relay.port}"
        self._plants |= dict.fromkeys(plant.faults, plant)

    def fault(self, device: str, fault: str, arguments: Mapping[str, str]) -> str:
        plant = self._plants.get(device)
        if plant is None:
            raise ValueError(f"no simulated device {device}")
        given = next(iter(arguments.values()), None)
        if fault not in FAULTS:
            raise ValueError(f"`{fault}` is no fault of OPC UA: {', '.join(FAULTS)}")
        if given is not None and fault not in ("bad", "delay", "noise", "publish"):
            raise ValueError(f"`{fault}` takes no value")
        if fault in ("bad", "noise"):
            plant.faults[device] = switched(plant.faults[device], fault, given)
        elif fault == "delay":
            plant.relay.delay_s = duration_ns(given or "500ms") / 1e9
        elif fault == "publish":
            plant.publish_delay_s = duration_ns(given or "2s") / 1e9
        elif fault == "alarm":
            if not plant.offers[device].device.events:
                raise ValueError(f"{device} declares no `events`")
            self._soon(switch_alarm(plant.offers[device], True))
        elif fault == "session":
            self._soon(plant.drop_sessions())
        elif fault == "unplug":
            plant.relay.hole = True
        elif fault == "heal":
            plant.relay.delay_s, plant.relay.hole, plant.publish_delay_s = 0.0, False, 0.0
            plant.faults[device] = Faults()
            self._soon(switch_alarm(plant.offers[device], False))
        else:
            self._break(plant, fault)
        return self._words(plant, device, fault)

    def _break(self, plant: Plant, fault: str) -> None:
        plant.relay.cut()
        if fault == "disconnect":
            return
        plant.shifts += 1

        async def restart() -> None:
            await plant.stop()
            await plant.start()

        self._soon(restart())

    def _soon(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def settled(self) -> None:
        """Until no server is being restarted."""
        while self._jobs:
            await asyncio.gather(*self._jobs, return_exceptions=True)

    def _words(self, plant: Plant, device: str, fault: str) -> str:
        faults = plant.faults[device]
        status = next((name for name, code in STATUSES.items() if code == faults.status), "")
        once = {
            "shift": "restarts with other namespace indices",
            "disconnect": "disconnected",
            "session": "its sessions are dropped",
            "alarm": "an alarm is active",
        }
        slow = plant.publish_delay_s
        parts = [
            once.get(fault, ""),
            f"values are bad: {status}" if status else "",
            f"numbers off by up to {faults.noise * 100:g} %" if faults.noise else "",
            f"everything {plant.relay.delay_s * 1e3:g} ms late" if plant.relay.delay_s else "",
            f"changes sent {slow * 1e3:g} ms late" if slow else "",
            "silent" if plant.relay.hole else "",
        ]
        return ", ".join(part for part in parts if part) or "healthy"


class OpcUaSimulator(Simulator):
    """Serves OPC UA."""

    protocol = "opcua"

    @contextlib.asynccontextmanager
    async def serve(
        self, devices: Sequence[SimulatedDevice], *, seed: int, host: str
    ) -> AsyncIterator[Simulation]:
        """See `Simulator`. Raises ValueError for what can't be simulated, OSError where it can't listen."""
        simulation = OpcUaSimulation()
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with contextlib.AsyncExitStack() as stack:
            for link, sharing in by_link(devices).items():
                endpoint = endpoint_of(sharing[0])
                at, port = place(endpoint.address, host)
                relay = Proxy(host=at, port=port)
                rng = random.Random(f"{seed} {link}")
                plant = Plant(endpoint, relay, lambda: loop.time() - start, rng)
                for device in sharing:
                    plant.add(device, f"{seed}")
                try:
                    await stack.enter_async_context(relay)
                except OSError as error:
                    why = error.strerror or error
                    raise OSError(f"can't listen on {relay.host}:{relay.port}: {why}") from error
                stack.push_async_callback(plant.stop)
                await plant.start()
                simulation.served(link, plant)
            stack.push_async_callback(simulation.settled)
            yield simulation
