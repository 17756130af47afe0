"""What a simulated OPC UA server offers besides values: methods, an alarm, a past of its nodes."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from devicemesh_opcua.model import OpcUaEvents

from devicemesh.spec.device import Command
from devicemesh.testing.simulator import SimulatedDevice
from devicemesh_simulators.nodes import DATA_TYPES, Cell

ALARM = "Simulated"
SEVERITY = 700
PAST = datetime.timedelta(hours=1)
PAST_ROWS = 10_000


@dataclass(slots=True, eq=False)
class Offers:
    """Of one device."""

    device: SimulatedDevice
    called: int = 0
    alarms: list[Any] = field(default_factory=list)  # asyncua's generators, one for each notifier


def arguments(ua: Any, command: Command) -> list[Any]:
    """The InputArguments of a command as a method."""
    types = ua.ObjectIds
    return [
        ua.Argument(
            Name=one.name,
            DataType=ua.NodeId(getattr(types, DATA_TYPES[one.type])),
            Description=ua.LocalizedText(one.description or ""),
        )
        for one in command.arguments
    ]


def method(
    ua: Any, offers: Offers, command: Command, written: Callable[[str, Any], Any]
) -> Callable[..., Any]:
    """What such a method does: a property called like an argument takes its value; it counts calls."""

    async def called(_: Any, *given: Any) -> Any:
        for one, value in zip(command.arguments, given, strict=False):
            await written(one.name, value.Value)
        offers.called += 1
        return [ua.Variant(offers.called, ua.VariantType.UInt32)]

    return called


def result(ua: Any) -> list[Any]:
    """The OutputArguments of every simulated method."""
    return [ua.Argument(Name="calls", DataType=ua.NodeId(ua.ObjectIds.UInt32))]


async def prepare_alarm(ua: Any, server: Any, offers: Offers, node: Any, address: OpcUaEvents) -> None:
    """Let a notifier have an alarm condition, which is not active."""
    made = await server.get_event_generator(ua.ObjectIds.AlarmConditionType, node)
    made.event.NodeId = ua.NodeId(f"{offers.device.name} {ALARM}", 1)
    made.event.ConditionName, made.event.Severity = ALARM, SEVERITY
    made.event.SourceName = address.source_name or offers.device.name.partition("/")[2]
    offers.alarms.append(made)


async def switch_alarm(offers: Offers, active: bool) -> None:
    """Raise the alarm at every notifier, or end it."""
    for made in offers.alarms:
        if bool(made.event.Retain) == active:
            continue
        setattr(made.event, "ActiveState/Id", active)
        setattr(made.event, "AckedState/Id", False)
        made.event.Retain = active
        await made.trigger(message="a simulated alarm" if active else "the simulated alarm is over")


async def keep_past(server: Any, cells: Sequence[Cell]) -> None:
    """Let nodes keep what they had, where their property says so."""
    for cell in cells:
        if cell.prop.simulation.history:
            await server.historize_node_data_change(cell.node, PAST, PAST_ROWS)
