"""A plant whose devices are told to ThingsBoard."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from devicemesh.aggregate import Aggregator
from devicemesh.mapper import Batch, Quality
from devicemesh.runtime.binding import series
from devicemesh.settings import MqttSettings, OutboxSettings
from devicemesh.sink.base import Command, Declaration
from devicemesh.sink.mqtt import MqttSink
from devicemesh.spec.device import Command as DeclaredCommand
from devicemesh.spec.device import DeviceModelSpec
from devicemesh.testing.thingsboard import ThingsBoard

PUMP = {
    "properties": [
        {"name": "speed", "type": "float32", "unit": "rpm", "access": "ReadWrite", "minimum": 0, "maximum": 3000,
         "telemetry": {"report": "every"}, "alarms": [{"name": "overspeed", "above": 2000}]},
        {"name": "count", "type": "int64", "telemetry": {"report": "every"}},
        {"name": "huge", "type": "uint64", "telemetry": {"report": "every"}},
        {"name": "power", "type": "float64", "telemetry": {"report": "every"}},
        {"name": "running", "type": "bool", "access": "ReadWrite"},
        {"name": "mode", "type": "string", "access": "ReadWrite"},
        {"name": "pressure", "type": "float64", "telemetry": {"report": "window", "window": "1s",
         "statistics": ["count", "mean", "max", "p95"]}},
        {"name": "hours", "type": "uint32", "telemetry": {"report": "none"}},
    ],
    "commands": [
        {"name": "reset", "writes": [{"property": "running", "value": False}]},
        {"name": "move", "arguments": [{"name": "position", "type": "float64"}]},
    ],
}  # fmt: skip


def declared(model: Mapping[str, Any], name: str = "pump") -> Declaration:
    spec = DeviceModelSpec.model_validate(model)
    commands: dict[str, DeclaredCommand] = {one.name: one for one in spec.commands}
    properties = {one.name: one for one in spec.properties}
    return Declaration(properties, commands, {one.name: one for one in spec.events}, name, "ACME")


class Plant:
    """A sink as a gateway of ThingsBoard, and the devices that it tells of."""

    def __init__(self, home: Path, url: str, **options: Any) -> None:
        outbox = options.pop("outbox", OutboxSettings())
        stall_s = options.pop("stall_s", None)
        given = {"username": "token", "thingsboard": True, **options}
        self.sink = MqttSink(MqttSettings(url=url, **given), outbox, home, "test", stall_s=stall_s)
        self.commands: list[Command] = []
        self.takes_s = 0.0  # a command
        self._slots: dict[tuple[str, str], int] = {}
        self._streams: list[str] = []

    async def __aenter__(self) -> Plant:
        await self.sink.__aenter__()
        self.sink.on_command(self._on_command)
        self.aggregator = Aggregator(self.sink.epoch)
        self.aggregator.advance(time.time_ns())
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.sink.__aexit__(*exc)

    async def _on_command(self, command: Command) -> None:
        await asyncio.sleep(self.takes_s)
        self.commands.append(command)

    def declare(self, *names: str, model: Mapping[str, Any] = PUMP) -> None:
        """Devices of one model."""
        declaration = declared(model)
        for name in names:
            self.sink.declare(name, declaration)
            if name not in self._streams:
                self._streams.append(name)
            stream = self._streams.index(name)
            for prop in declaration.properties.values():
                slot = self._slots.setdefault((name, prop.name), len(self._slots))
                self.aggregator.define(series(prop, slot, stream))

    def up(self, *names: str) -> None:
        """They are declared, that is all that is, and they are alive."""
        self.declare(*names)
        self.sink.forget_absent(lambda device: True)
        self.state(*names)

    def state(self, *names: str, state: str = "Ready", reason: str = "") -> None:
        for name in names:
            self.sink.retain(name, "status", {"state": state, "reason": reason, "message": "", "since": ""})

    def read(self, name: str, quality: Quality = Quality.GOOD, time_ns: int = 0, **values: Any) -> None:
        """Readings of one moment, by property."""
        for prop, value in values.items():
            slot = array("I", [self._slots[name, prop]])
            column: Any = array("d", [value]) if isinstance(value, float) else [value]
            self.aggregator.push(Batch(slot, time_ns or time.time_ns(), column, int(quality)))
        self.publish()

    def batch(self, name: str, time_ns: int, **values: int) -> Batch:
        slots = array("I", [self._slots[name, prop] for prop in values])
        return Batch(slots, time_ns, list(values.values()), int(Quality.GOOD))

    def publish(self) -> None:
        self.sink.publish(self.aggregator.take(), lambda s: (self._streams[s], self.aggregator.names(s)))

    def twin(self, name: str, **desired: Any) -> None:
        """Tell the newest readings, as the reporter does."""
        names = [prop for device, prop in self._slots if device == name]
        slots = array("I", [self._slots[name, prop] for prop in names])
        readings = self.aggregator.snapshot(slots).readings
        tails = [
            b',"desired":{"value":%d,"state":"applied"}' % desired[p] if p in desired else b"" for p in names
        ]
        body = b",".join(
            b'"%s":{"reported":%s%s}' % (p.encode(), r, t)
            for p, r, t in zip(names, readings, tails, strict=True)
        )
        self.sink.retain(name, "twin/reported", b"{" + body + b"}")

    def conserved(self) -> None:
        stats = self.sink.stats()
        dropped = sum(stats.samples_dropped.values())
        assert stats.samples_taken == stats.samples_published + dropped + stats.samples_spooled


@pytest.fixture
def plant(tmp_path: Path) -> Callable[..., Plant]:
    return lambda url, **options: Plant(tmp_path, url, **options)


@pytest.fixture
def platform() -> Iterator[ThingsBoard]:
    with ThingsBoard() as found:
        yield found
        assert found.wrong == []


@pytest.fixture
def declaration() -> Declaration:
    return declared(PUMP)
