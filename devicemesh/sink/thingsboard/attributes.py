"""What ThingsBoard knows of a device beside its telemetry: client attributes. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from devicemesh.sink.base import Declaration
from devicemesh.sink.told import QUIET, reported
from devicemesh.spec.device import Property
from devicemesh.spec.units import symbol


def shown(prop: Property) -> bool:
    """Whether the newest value is an attribute: what can be set is shown beside what it was set to."""
    return prop.access != "ReadOnly" or prop.telemetry.report in QUIET


def declared(declaration: Declaration) -> dict[str, Any]:
    """What does not change while the device is what it is."""
    units = {name: symbol(prop.unit) for name, prop in declaration.properties.items() if prop.unit}
    about = {
        "twin/model": declaration.model,
        "twin/manufacturer": declaration.manufacturer,
        "twin/units": units,
    }
    return {key: value for key, value in about.items() if value}


def state(status: bytes) -> dict[str, Any]:
    """Of a `status`: how the device is, and why."""
    said = json.loads(status) if status else {}
    return {f"twin/{key}": said.get(key, "") for key in ("state", "reason", "message")} if said else {}


def newest(declaration: Declaration, twin: bytes) -> dict[str, Any]:
    """Of a `twin/reported`: values, the qualities that are not good, and what became of desired values."""
    if not twin:
        return {}
    said = json.loads(twin)
    values, doubted = {}, {}
    for told in reported(said):
        prop = declaration.properties.get(told.name)
        if not told.quality.startswith("Good"):
            doubted[told.name] = told.quality
        if prop is not None and shown(prop) and told.value is not None and not told.quality.startswith("Bad"):
            values[told.name] = told.value
    desired = {name: entry["desired"] for name, entry in said.items() if "desired" in entry}
    return {**values, "twin/quality": doubted, "twin/desired": desired}


def news(now: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """What is otherwise than told."""
    return {key: value for key, value in now.items() if key not in told or told[key] != value}
