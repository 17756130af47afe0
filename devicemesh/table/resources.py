"""Models and devices as an import writes them: which field follows which, what is on one line. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from devicemesh.spec.device import API_VERSION
from devicemesh.spec.places import Inline
from devicemesh.spec.values import ValueType

_ORDER = ("name", "type", "unit", "description", "access", "minimum", "maximum", "address", "telemetry")


def property_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A property of a model; what is None is left out. `address` is {protocol: fields}."""
    found = {key: fields[key] for key in _ORDER if fields.get(key) is not None}
    if "address" in found:
        found["address"] = Inline({key: Inline(value) for key, value in found["address"].items()})
    if "telemetry" in found:
        found["telemetry"] = Inline(found["telemetry"])
    return found


def model(name: str, properties: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    """A DeviceModel. `more`: of its metadata (`namespace`) and spec (`commands`); nothing that is empty."""
    spec = {"properties": list(properties), **_given(more, "commands")}
    return _resource("DeviceModel", name, more, spec)


def device(
    name: str, model_name: str, protocol: str, endpoint: Mapping[str, Any], **more: Any
) -> dict[str, Any]:
    """A Device. `more`: of its metadata (`namespace`, `labels`) and spec (overrides, `desired`, `paused`)."""
    spec = {
        "modelRef": Inline(name=model_name),
        "endpoint": Inline({protocol: Inline(endpoint)}),
        **_given(more, "properties", "desired", "paused"),
    }
    return _resource("Device", name, more, spec)


def _resource(kind: str, name: str, more: Mapping[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    metadata = Inline(name=name, **_given(more, "namespace", "labels"))
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def _given(more: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: more[key] for key in keys if more.get(key)}


def scaled_type(wire: ValueType) -> ValueType:
    """The type of a property that is an integer with a fraction."""
    return ValueType.FLOAT32 if (wire.size or 8) <= 2 else ValueType.FLOAT64
