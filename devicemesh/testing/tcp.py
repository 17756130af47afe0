"""A simulator of a protocol over TCP but for what is said: a server for each link, faults of its line."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence

from devicemesh.spec.values import duration_ns
from devicemesh.testing.proxy import Proxy
from devicemesh.testing.server import StreamServer, Talk
from devicemesh.testing.simulator import SimulatedDevice, Simulation, Simulator, by_link, place

FAULTS = {"delay": "500ms", "unplug": "", "disconnect": "", "heal": ""}
"""With the value that each has where none is given."""


class TcpSimulation(Simulation):
    """Running servers, each behind a line."""

    def __init__(self) -> None:
        self.served: dict[str, str] = {}
        self.lines: dict[str, Proxy] = {}  # by device

    @property
    def addresses(self) -> Mapping[str, str]:
        return self.served

    def fault(self, device: str, fault: str, arguments: Mapping[str, str]) -> str:
        """`delay=500ms`, `unplug` (silent), `disconnect` (once) or `heal`: of all devices of the link."""
        if fault not in FAULTS:
            known = ", ".join(f"{name}={value}" if value else name for name, value in FAULTS.items())
            raise ValueError(f"`{fault}` is no fault: {known}")
        line = self.lines[device]
        if fault == "delay":
            line.delay_s = duration_ns(arguments.get("value", FAULTS[fault])) / 1e9
        elif fault == "disconnect":
            line.cut()
        else:
            line.hole = fault == "unplug"
            line.delay_s = 0.0 if fault == "heal" else line.delay_s
        late = [f"everything {line.delay_s * 1e3:g} ms late"] if line.delay_s else []
        return ", ".join([*late, *(["silent"] if line.hole else [])]) or "healthy"


class TcpSimulator(Simulator):
    """Serves a protocol whose links are called `host:port`."""

    @abstractmethod
    def talk(self, devices: Sequence[SimulatedDevice], seed: int) -> Talk:
        """What is said to each caller by the peer that these devices, of one link, are behind.

        Called once for each link. The same seed gives the same values. Raises ValueError for what can't be
        simulated.
        """

    @contextlib.asynccontextmanager
    async def serve(
        self, devices: Sequence[SimulatedDevice], *, seed: int, host: str
    ) -> AsyncIterator[TcpSimulation]:
        """See `Simulator`. Raises ValueError for what can't be simulated, OSError where it can't listen."""
        simulation = TcpSimulation()
        async with contextlib.AsyncExitStack() as stack:
            for link, sharing in by_link(devices).items():
                declared, _, number = link.rpartition(":")
                where, port = place((declared.strip("[]"), int(number)), host)
                server = await stack.enter_async_context(StreamServer(self.talk(sharing, seed)))
                line = await stack.enter_async_context(Proxy(server.port, host=where, port=port))
                simulation.served[link] = f"[{where}]:{line.port}" if ":" in where else f"{where}:{line.port}"
                simulation.lines |= {device.name: line for device in sharing}
            yield simulation
