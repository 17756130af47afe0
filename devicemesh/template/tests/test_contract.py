"""What every mapper promises, against the simulator.

Replace: POINTS, and in `serve` what is unknown, written and refused. The better the peer, the more this is
worth: where your protocol has another implementation (a server library, a daemon), serve that instead.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from devicemesh_scpi.mapper import ScpiMapper
from devicemesh_scpi.model import ScpiAddress, ScpiEndpoint
from devicemesh_scpi.simulator import ScpiSimulator

from devicemesh.mapper import Point, Write
from devicemesh.spec.device import Property
from devicemesh.spec.values import ValueType
from devicemesh.testing.contract import MapperContract, Peer, Serve
from devicemesh.testing.simulator import SimulatedDevice

# name, header, type, access, what the instrument has
POINTS: list[tuple[str, str, str, str, Any]] = [
    ("voltage", "MEAS:VOLT", "float32", "ReadOnly", 11.5),
    ("energy", "FETC:ENER", "uint64", "ReadOnly", 2**53 + 1),
    ("limit", "VOLT", "float32", "ReadWrite", 12.0),
    ("enabled", "OUTP", "bool", "ReadWrite", True),
    ("label", "DISP:TEXT", "string", "ReadWrite", "bench 1"),
]


def channel(number: int, **where: Any) -> SimulatedDevice:
    """One channel with all points, as `devicemesh sim` hands it to the simulator."""
    endpoint = ScpiEndpoint(**{"host": "192.0.2.8", "channel": number, **where})
    name, points, properties = f"default/channel-{number}", [], {}
    for slot, (prop, header, type_, access, value) in enumerate(POINTS, 10 * number):
        points.append(Point(slot, name, prop, ValueType(type_), endpoint, ScpiAddress(header=header)))
        simulation = {"signal": "constant", "value": value}
        spec = {"name": prop, "type": type_, "access": access, "simulation": simulation}
        properties[prop] = Property.model_validate(spec)
    return SimulatedDevice(name, endpoint, points, properties, Path())


@asynccontextmanager
async def serve() -> AsyncIterator[Peer]:
    """Two channels of one instrument: all devices of a link are read together."""
    async with AsyncExitStack() as stack:
        declared = [channel(1), channel(2)]
        serving = ScpiSimulator().serve(declared, seed=1, host="127.0.0.1")
        simulation = await stack.enter_async_context(serving)
        host, _, port = simulation.addresses["192.0.2.8:5025"].rpartition(":")
        points = [point for number in (1, 2) for point in channel(number, host=host, port=port).points]
        nowhere = ScpiAddress(header="MEAS:NO")
        yield Peer(
            points=list(zip(points, [values[-1] for values in POINTS] * 2, strict=True)),
            bad=Point(90, "default/channel-1", "no", ValueType.FLOAT32, points[0].endpoint, nowhere),
            writable=(points[2], 13.25),
            refused=Write(points[0], 1.0),
            stop=stack.aclose,
        )


class TestContract(MapperContract):
    @pytest.fixture
    def mapper(self) -> ScpiMapper:
        return ScpiMapper()

    @pytest.fixture
    def serve(self) -> Serve:
        return serve
