"""What hosts ask of a node and of its devices. Pure."""

from __future__ import annotations

import base64
from typing import Any

from devicemesh.sink.base import Command
from devicemesh.sink.payload import loads
from devicemesh.sink.sparkplug.births import REBIRTH
from devicemesh.sink.sparkplug.devices import NodeDevices, parts_of_alias
from devicemesh.sink.sparkplug.metrics import Definition
from devicemesh.sink.sparkplug.told import fitted
from devicemesh.sink.sparkplug.wire import Metric, Type, decode
from devicemesh.sink.topics import device_of


def asks_for_rebirth(payload: bytes) -> bool:
    """Whether an NCMD asks for birth certificates; one that can't be read asks for nothing."""
    try:
        return any(one.name == REBIRTH and one.value is True for one in decode(payload))
    except ValueError:
        return False


def asked(identity: str, payload: bytes, devices: NodeDevices) -> list[Command]:
    """The commands of a DCMD: all that is desired of the device as one, then those that are run.

    A null takes a desired value back. Raises ValueError, in words, for what no device of ours has, and then
    nothing of the message is done.
    """
    name = device_of(identity)
    desired: dict[str, Any] = {}
    commands = []
    for metric in decode(payload):
        definition = _definition(metric, name, devices)
        if definition is None or not definition.setting:
            raise ValueError(f"`{metric.name or metric.alias}` is nothing that can be set")
        if metric.unread:  # to take it for null would take back what is desired
            raise ValueError(f"`{definition.name}` comes without a value that can be read")
        if not definition.name.startswith("command/"):
            desired[definition.setting] = _value(metric, definition)
        elif definition.type == Type.STRING:
            commands.append(Command("command", name, definition.setting, _structure(metric.value)))
        elif _value(metric, definition):  # false lets it rest
            commands.append(Command("command", name, definition.setting, None))
    return [Command("desired", name, "", desired), *commands] if desired else commands


def _definition(metric: Metric, name: str, devices: NodeDevices) -> Definition | None:
    device = devices.find(name)
    if device is None:
        return None
    if metric.name:
        return device.metrics.get(metric.name)
    number, offset = parts_of_alias(metric.alias or 0)
    return device.metrics.at(offset) if number == device.number else None


def _value(metric: Metric, definition: Definition) -> Any:
    """As docs/mqtt.md has it in JSON; None takes it back."""
    value = metric.value
    if value is None:
        return None
    if definition.structured:
        return _structure(value)
    if definition.type == Type.BYTES and isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    found = None if isinstance(value, bytes) else fitted(value, definition.type)
    if found is None or isinstance(found, bytes):
        raise ValueError(f"`{definition.name}` takes no {str(value)[:40]}")
    return found


def _structure(value: Any) -> Any:
    """What JSON in a string says; nothing at all is None."""
    if value in (None, ""):
        return None
    if not isinstance(value, str):
        raise ValueError("it takes JSON in a string")
    return loads(value.encode())
