"""A plant with devices to tell of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devicemesh.settings import MqttSettings, OutboxSettings, SparkplugSettings
from devicemesh.sink.base import Declaration
from devicemesh.sink.mqtt import MqttSink
from devicemesh.testing.plant import Plant, declared
from devicemesh.testing.sparkplug import GROUP, NODE, Host
from devicemesh.testing.waiting import until

PUMP = {
    "properties": [
        {"name": "speed", "type": "float32", "unit": "rpm", "access": "ReadWrite", "minimum": 0, "maximum": 3000,
         "telemetry": {"report": "every"}, "alarms": [{"name": "overspeed", "above": 2000}]},
        {"name": "count", "type": "int64", "telemetry": {"report": "every"}},
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


class NodePlant(Plant):
    """A sink as an Edge Node, and the devices that it tells of."""

    def __init__(self, home: Path, url: str, **options: Any) -> None:
        sparkplug = SparkplugSettings(group=GROUP, **options.pop("sparkplug", {}))
        outbox = options.pop("outbox", OutboxSettings())
        sink = MqttSink(MqttSettings(url=url, sparkplug=sparkplug, **options), outbox, home, NODE)
        super().__init__(sink, PUMP)

    async def born(self, seen: Host, *names: str) -> None:
        """Two pumps are declared; these, or both, are alive and known to the host."""
        pumps = ("default/pump-1", "north/pump-2")
        self.declare(*pumps)
        self.known()
        self.state(*(names or pumps))
        await until(
            lambda: len(seen.devices) == 1 + len(names or pumps), why=lambda: (seen.wrong, seen.verbs)
        )


@pytest.fixture
def plant(tmp_path: Path) -> Callable[..., NodePlant]:
    return lambda url, **options: NodePlant(tmp_path, url, **options)


@pytest.fixture
def host() -> type[Host]:
    return Host


@pytest.fixture
def declaration() -> Declaration:
    return declared(PUMP)
