"""A plant whose devices are told to ThingsBoard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devicemesh.settings import MqttSettings, OutboxSettings
from devicemesh.sink.base import Command, Declaration
from devicemesh.sink.mqtt import MqttSink
from devicemesh.testing.plant import Plant, declared
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


class GatewayPlant(Plant):
    """A sink as a gateway of ThingsBoard, and the devices that it tells of."""

    def __init__(self, home: Path, url: str, **options: Any) -> None:
        outbox = options.pop("outbox", OutboxSettings())
        stall_s = options.pop("stall_s", None)
        given = {"username": "token", "thingsboard": True, **options}
        sink = MqttSink(MqttSettings(url=url, **given), outbox, home, "test", stall_s=stall_s)
        super().__init__(sink, PUMP, "pump", "ACME")
        self.takes_s = 0.0  # a command

    async def on_command(self, command: Command) -> None:
        await asyncio.sleep(self.takes_s)
        await super().on_command(command)

    def up(self, *names: str) -> None:
        """They are declared, that is all that is, and they are alive."""
        self.declare(*names)
        self.known()
        self.state(*names)


@pytest.fixture
def plant(tmp_path: Path) -> Callable[..., GatewayPlant]:
    """`home`: a folder, where there are several."""
    return lambda url, home="", **options: GatewayPlant(tmp_path / home, url, **options)


@pytest.fixture
def platform() -> Iterator[ThingsBoard]:
    with ThingsBoard() as found:
        yield found
        assert found.wrong == []


@pytest.fixture
def declaration() -> Declaration:
    return declared(PUMP, "pump", "ACME")
