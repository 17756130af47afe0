"""An instrument that stands in for every declared device: `devicemesh sim` and `demo`, and the tests' peer.

Replace: `_talk` and `Cell`. `TcpSimulator` serves it for each link and switches faults of the line; for
another transport implement `devicemesh.testing.simulator.Simulator`. What a property does over time is its
`simulation:` in YAML.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devicemesh.spec.device import Property
from devicemesh.spec.values import ValueType
from devicemesh.testing.server import Talk
from devicemesh.testing.signals import Room, Signal, coerced, signal
from devicemesh.testing.simulator import SimulatedDevice
from devicemesh.testing.tcp import TcpSimulator
from devicemesh_scpi.model import ScpiAddress, ScpiEndpoint

_LINE = re.compile(r"([*:\w]+)(\?)?(?: (.*?))??(?:[ ,]\(@(\d+)\))?")
"""Header, whether it is a question, value, channel."""


@dataclass
class Cell:
    """A property, and what it was set to."""

    prop: Property
    signal: Signal
    written: Any = None

    def text(self, seconds: float) -> str:
        value = self.signal.at(seconds) if self.written is None else self.written
        if isinstance(value, str):
            return '"' + value.replace('"', '""') + '"'
        value = coerced(value, self.prop.type, Room())
        return f"{value:+.8E}" if self.prop.type.is_float else f"{int(value)}"

    def take(self, text: str) -> str:
        """Set it, or say as an error why not."""
        value: Any = text[1:-1].replace('""', '"') if text[:1] == '"' else text
        try:
            if self.prop.type != ValueType.STRING:
                value = int(text) if self.prop.type.is_integer else float(text)
        except ValueError:
            return '-104,"Data type error"'
        low, high = self.prop.minimum, self.prop.maximum
        if self.prop.access == "ReadOnly":
            return '-203,"Command protected"'
        if (low is not None and value < low) or (high is not None and value > high):
            return '-222,"Data out of range"'
        self.written = value
        return ""


class ScpiSimulator(TcpSimulator):
    """Serves SCPI."""

    protocol = "scpi"

    def talk(self, devices: Sequence[SimulatedDevice], seed: int) -> Talk:
        cells: dict[tuple[str, str | None], Cell] = {}
        for device in devices:
            for point in device.points:
                assert isinstance(point.endpoint, ScpiEndpoint) and isinstance(point.address, ScpiAddress)
                channel = None if point.endpoint.channel is None else str(point.endpoint.channel)
                prop, rng = device.properties[point.name], random.Random(f"{seed} {device.name} {point.name}")
                cell = Cell(prop, signal(prop, Room(), device.folder, rng))
                cells[point.address.header.upper(), channel] = cell
        start = asyncio.get_running_loop().time()
        return lambda reader, writer: _talk(cells, start, reader, writer)


async def _talk(
    cells: Mapping[tuple[str, str | None], Cell],
    start: float,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Answer line by line. What is wrong with one is said when `SYST:ERR?` asks."""
    error = ""
    while said := await reader.readline():
        line = said.decode("ascii", "replace").strip()
        found = _LINE.fullmatch(line)
        header, asked, value, channel = found.groups() if found else (line, None, None, None)
        cell, answer = cells.get((header.upper(), channel)), None
        if header.upper() == "SYST:ERR":
            answer, error = error or '0,"No error"', ""
        elif header.upper() in ("*CLS", "*IDN"):
            answer = "DeviceMesh,Simulated instrument,1,1.0" if asked else None
        elif cell is None:
            error = '-113,"Undefined header"'
        elif asked:
            answer = cell.text(asyncio.get_running_loop().time() - start)
        else:
            error = cell.take(value or "")
        if answer is not None:
            writer.write(f"{answer}\n".encode())
            await writer.drain()
