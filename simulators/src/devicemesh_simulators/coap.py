"""The CoAP simulator: a server for every declared device, and a client for every one that pushes.

Server and client are aiocoap's; bodies, signals and faults are ours. A relay in between brings the line's
faults.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Mapping, Sequence

from devicemesh_coap.model import CoapEndpoint, bracketed, segments

from devicemesh.spec.values import duration_ns
from devicemesh.testing.datagrams import DatagramProxy
from devicemesh.testing.proxy import Proxy
from devicemesh.testing.simulator import SimulatedDevice, Simulation, Simulator, by_link
from devicemesh_simulators.things import Faults, Twin, bodies, given_value, share


class CoapSimulation(Simulation):
    """Running devices."""

    def __init__(self) -> None:
        self._addresses: dict[str, str] = {}
        self.twins: dict[str, tuple[Twin, DatagramProxy | Proxy]] = {}

    @property
    def addresses(self) -> Mapping[str, str]:
        return self._addresses

    def served(self, link: str, host: str, port: int) -> None:
        self._addresses[link] = f"{bracketed(host)}:{port}"

    def fault(self, device: str, fault: str, arguments: Mapping[str, str]) -> str:
        if device not in self.twins:
            raise ValueError(f"no simulated device {device}")
        twin, line = self.twins[device]
        given = given_value(fault, arguments)
        if fault in ("noise", "unavailable"):
            twin.faults = twin.faults.switched(fault, given)
        elif fault == "heal":
            twin.faults, line.delay_s, line.hole = Faults(), 0.0, False
            if isinstance(line, DatagramProxy):
                line.drop = line.repeat = line.reorder = 0.0
        elif fault == "delay":
            line.delay_s = duration_ns(given) / 1e9
        elif fault == "unplug":
            line.hole = True
        elif isinstance(line, DatagramProxy):
            name = "repeat" if fault == "duplicate" else fault
            setattr(line, name, share(given))
        else:
            raise ValueError(f"`{fault}` is no fault of TCP, which mends it")
        return _words(twin.faults, line)


def _words(faults: Faults, line: DatagramProxy | Proxy) -> str:
    shares = [("drop", "lost"), ("repeat", "twice"), ("reorder", "out of order")]
    parts = [
        f"{getattr(line, n, 0) * 100:g} % of the datagrams {w}" for n, w in shares if getattr(line, n, 0)
    ]
    parts += [f"numbers off by up to {faults.noise * 100:g} %"] if faults.noise else []
    parts += [f"unavailable (5.03, Max-Age {faults.unavailable_s})"] if faults.unavailable_s else []
    parts += [f"everything {line.delay_s * 1e3:g} ms late"] if line.delay_s else []
    parts += ["silent"] if line.hole else []
    return ", ".join(parts) or "healthy"


class CoapSimulator(Simulator):
    """Serves CoAP."""

    protocol = "coap"

    @contextlib.asynccontextmanager
    async def serve(
        self, devices: Sequence[SimulatedDevice], *, seed: int, host: str
    ) -> AsyncIterator[Simulation]:
        """See `Simulator`. Raises ValueError for what can't be simulated, OSError where it can't listen."""
        from devicemesh_simulators import coap_peers  # and with it aiocoap

        simulation = CoapSimulation()
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with contextlib.AsyncExitStack() as stack:
            for link, sharing in by_link(devices).items():
                endpoint = _endpoint(sharing[0])
                _check(endpoint, sharing)
                twins = [_twin(device, f"{seed}") for device in sharing]
                rng = random.Random(f"{seed} {link}")
                live = coap_peers.pushing if endpoint.listen is not None else coap_peers.serving
                made = live(endpoint, twins, host, rng, lambda: loop.time() - start)
                at, port, line = await stack.enter_async_context(made)
                simulation.served(link, at, port)
                simulation.twins |= {twin.name: (twin, line) for twin in twins}
            yield simulation


def _endpoint(device: SimulatedDevice) -> CoapEndpoint:
    assert isinstance(device.endpoint, CoapEndpoint)
    return device.endpoint


def _check(endpoint: CoapEndpoint, sharing: Sequence[SimulatedDevice]) -> None:
    """Raises ValueError where devices of one link can't be simulated together."""
    for other in sharing[1:]:
        if conflict := endpoint.conflict(_endpoint(other)):
            raise ValueError(
                f"{sharing[0].name} and {other.name} share {endpoint.link()}, but not: {conflict}"
            )


def _twin(device: SimulatedDevice, seed: str) -> Twin:
    endpoint = _endpoint(device)
    made = bodies(device, endpoint, seed)
    paths = (call.path.partition("?")[0] for _, call in device.calls.values())
    actions = frozenset((*endpoint.prefix, *segments(path)) for path in paths)
    rng = random.Random(f"{seed} {device.name} noise")
    return Twin(device.name, endpoint.name or "", made, rng, actions)
