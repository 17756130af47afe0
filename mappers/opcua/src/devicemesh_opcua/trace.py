"""The way of one value, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from devicemesh_opcua import status as codes
from devicemesh_opcua.binary import TYPE_NAMES, Typed
from devicemesh_opcua.convert import date_text
from devicemesh_opcua.model import OpcUaAddress
from devicemesh_opcua.nodeid import Identifier, NodeName


def steps(
    node: tuple[int, Identifier], address: OpcUaAddress, held: Typed, status: int, ticks: int
) -> Iterator[str]:
    """From the declared place to the value."""
    now = NodeName(*node).text
    yield (
        f"{address.text} is {now}, {address.attribute}"
        if now != address.text
        else f"{now}, {address.attribute}"
    )
    size = f" of {len(held.value)}" if held.is_array else ""
    shown = f" {held.value}" if len(str(held.value)) < 60 else ""
    yield f"{TYPE_NAMES[held.kind]}{' array' + size if held.is_array else ''}{shown}"
    yield "status Good" if status == 0 else f"status {codes.text(status)}"
    if ticks:
        yield f"source time {date_text(ticks)}"
