"""A plant whose devices are told to a broker: a sink, and what the runtime would give it."""

from __future__ import annotations

import time
from array import array
from collections.abc import Mapping
from typing import Any, Self

from devicemesh.aggregate import Aggregator
from devicemesh.mapper import Batch, Quality
from devicemesh.runtime.binding import series
from devicemesh.sink.base import Command, Declaration
from devicemesh.sink.mqtt import MqttSink
from devicemesh.spec.device import Command as DeclaredCommand
from devicemesh.spec.device import DeviceModelSpec


def declared(model: Mapping[str, Any], name: str = "", manufacturer: str = "") -> Declaration:
    """What a sink is told of a device with this model."""
    spec = DeviceModelSpec.model_validate(model)
    properties = {one.name: one for one in spec.properties}
    commands: dict[str, DeclaredCommand] = {one.name: one for one in spec.commands}
    return Declaration(properties, commands, {one.name: one for one in spec.events}, name, manufacturer)


class Plant:
    """Devices by name ("namespace/name"); `async with`, as its sink."""

    def __init__(self, sink: MqttSink, model: Mapping[str, Any], *about: str) -> None:
        """`model`: of devices of which nothing else is said; `about`: its name and manufacturer."""
        self.sink = sink
        self.commands: list[Command] = []
        self._model, self._about = model, about
        self._slots: dict[tuple[str, str], int] = {}
        self._streams: list[str] = []

    async def __aenter__(self) -> Self:
        await self.sink.__aenter__()
        self.sink.on_command(self.on_command)
        self.aggregator = Aggregator(self.sink.epoch)
        self.aggregator.advance(time.time_ns())
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.sink.__aexit__(*exc)

    async def on_command(self, command: Command) -> None:
        """Take what the broker asks."""
        self.commands.append(command)

    def declare(self, *names: str, model: Mapping[str, Any] | None = None) -> None:
        """Devices of one model."""
        declaration = declared(model or self._model, *self._about)
        for name in names:
            self.sink.declare(name, declaration)
            if name not in self._streams:
                self._streams.append(name)
            stream = self._streams.index(name)
            for prop in declaration.properties.values():
                slot = self._slots.setdefault((name, prop.name), len(self._slots))
                self.aggregator.define(series(prop, slot, stream))

    def known(self) -> None:
        """All that is declared is."""
        self.sink.forget_absent(lambda device: True)

    def state(self, *names: str, state: str = "Ready", reason: str = "") -> None:
        """Tell how devices are."""
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
        """Readings of one moment, to be pushed."""
        slots = array("I", [self._slots[name, prop] for prop in values])
        return Batch(slots, time_ns, list(values.values()), int(Quality.GOOD))

    def publish(self) -> None:
        """Hand over what the aggregator has."""
        self.sink.publish(self.aggregator.take(), lambda s: (self._streams[s], self.aggregator.names(s)))

    def twin(self, name: str, **desired: int) -> None:
        """Tell the newest readings, and what was desired and is applied, as the reporter does."""
        names = [prop for device, prop in self._slots if device == name]
        slots = array("I", [self._slots[name, prop] for prop in names])
        readings = self.aggregator.snapshot(slots).readings
        wanted = {
            prop: b',"desired":{"value":%d,"state":"applied"}' % value for prop, value in desired.items()
        }
        body = b",".join(
            b'"%s":{"reported":%s%s}' % (prop.encode(), reading, wanted.get(prop, b""))
            for prop, reading in zip(names, readings, strict=True)
        )
        self.sink.retain(name, "twin/reported", b"{" + body + b"}")

    def conserved(self) -> None:
        """Every sample is accounted for."""
        stats = self.sink.stats()
        dropped = sum(stats.samples_dropped.values())
        assert stats.samples_taken == stats.samples_published + dropped + stats.samples_spooled
