"""CustomResourceDefinitions out of the Pydantic models and the installed mappers.

Structural schemas (apiextensions.k8s.io/v1): no `$ref`, no `additionalProperties: false` (the API server
prunes or refuses unknown fields by itself), every field described. Defaults are said, not set: a server would
write them into each resource, and what nobody has declared would look declared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from devicemesh.spec.base import Protocol, Strict
from devicemesh.spec.device import GROUP, Device, DeviceModel

PLURALS = {"Device": "devices", "DeviceModel": "devicemodels"}
SHORT = {"Device": ["dmdev"], "DeviceModel": ["dmmodel"]}
_OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_ANY = {"x-kubernetes-preserve-unknown-fields": True}
_KEPT = (
    "type", "format", "description", "enum", "minimum", "maximum", "minItems", "maxItems", "minLength",
    "maxLength", "pattern", "nullable",
)  # fmt: skip
_MAPS = {"properties", "alarms", "commands", "arguments", "events", "desired"}


def definitions(protocols: Mapping[str, Protocol]) -> list[dict[str, Any]]:
    """Both CRDs, in a stable order."""
    return [
        _crd(model, kind, protocols) for kind, model in (("DeviceModel", DeviceModel), ("Device", Device))
    ]


def _crd(model: type[Strict], kind: str, protocols: Mapping[str, Protocol]) -> dict[str, Any]:
    spec = structural(model)["properties"]["spec"]
    if kind == "Device":
        spec["properties"]["endpoint"] = _per_protocol(
            {name: p.endpoint for name, p in protocols.items()},
            "How to reach it: one protocol and its fields.",
        )
        spec["properties"]["endpoint"]["x-kubernetes-validations"] = [
            {"rule": "[" + ", ".join(f"has(self.{p})" for p in sorted(protocols)) + ", has(self.custom)]"
             ".filter(x, x).size() == 1", "message": "give exactly one protocol"}
        ]  # fmt: skip
    for part, models in {
        "properties": {name: p.address for name, p in protocols.items()},
        "commands": {name: p.command for name, p in protocols.items() if p.command},
        "events": {name: p.event for name, p in protocols.items() if p.event},
    }.items():
        address = _per_protocol(models, "Where it lives, by protocol.")
        spec["properties"][part]["items"]["properties"]["address"] = address
    schema: dict[str, Any] = {"type": "object", "required": ["spec"], "properties": {"spec": spec}}
    version: dict[str, Any] = {"name": "v1alpha1", "served": True, "storage": True}
    if kind == "Device":
        schema["properties"]["status"] = _STATUS
        version["subresources"] = {"status": {}}
        version["additionalPrinterColumns"] = _COLUMNS
    version["schema"] = {"openAPIV3Schema": schema}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURALS[kind]}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "plural": PLURALS[kind],
                "singular": kind.lower(),
                "shortNames": SHORT[kind],
                "categories": ["iot"],
            },
            "versions": [version],
        },
    }


def _per_protocol(models: Mapping[str, type[Strict]], text: str) -> dict[str, Any]:
    blocks: dict[str, Any] = {name: structural(model) for name, model in sorted(models.items())}
    blocks["custom"] = {**_OPEN, "description": "For mappers that this definition was generated without."}
    return {"type": "object", "description": text, "properties": blocks}


def structural(model: type[BaseModel]) -> dict[str, Any]:
    """A model's schema in structural form."""
    schema = model.model_json_schema(by_alias=True)
    return _plain(schema, schema.get("$defs", {}), "")


def _plain(node: Mapping[str, Any], defs: Mapping[str, Any], name: str) -> dict[str, Any]:
    if "$ref" in node:
        target = defs[node["$ref"].rpartition("/")[2]]
        return {**_plain(target, defs, name), **{k: node[k] for k in ("description",) if k in node}}
    options = node.get("anyOf") or node.get("allOf")
    if options:
        real = [o for o in options if o.get("type") != "null"]
        kept = {k: node[k] for k in ("description",) if k in node}
        return {**(_plain(real[0], defs, name) if len(real) == 1 else _ANY), **kept}
    out = {k: node[k] for k in _KEPT if k in node and node[k] is not None}
    if isinstance(node.get("default"), str | int | float) and "description" in out:
        out["description"] += f" Default: {json.dumps(node['default'])}."
    if "exclusiveMinimum" in node:
        out |= {"minimum": node["exclusiveMinimum"], "exclusiveMinimum": True}
    if "const" in node:
        out["enum"] = [node["const"]]
    if "properties" in node:
        out["properties"] = {key: _plain(child, defs, key) for key, child in node["properties"].items()}
        out["required"] = node.get("required")
    elif "additionalProperties" in node or node.get("type") == "object":
        inner = node.get("additionalProperties")
        typed = isinstance(inner, dict) and "type" in inner
        out["additionalProperties"] = _plain(inner, defs, "") if typed else None  # type: ignore[arg-type]
        if not typed:
            out["x-kubernetes-preserve-unknown-fields"] = True
    if "items" in node:
        out["items"] = _plain(node["items"], defs, "")
        if name in _MAPS:
            out |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    if "type" not in out:
        out["x-kubernetes-preserve-unknown-fields"] = True
    return {k: v for k, v in out.items() if v is not None}


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


_STATUS: dict[str, Any] = {
    "type": "object",
    "description": "What the runtime found; never edited by hand.",
    "properties": {
        "observedGeneration": {
            "type": "integer",
            "format": "int64",
            "description": "The spec that this is about.",
        },
        "lastSeen": _text("Time of the newest good reading.", nullable=True),
        "desired": _text("Applied of desired values, as in 1/2."),
        "protocol": _text("What it is spoken to in."),
        "shard": _text("The runtime that serves it."),
        "conditions": {
            "type": "array",
            "description": "Ready, ModelResolved, Connected, DesiredApplied, Degraded.",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
            "items": {
                "type": "object",
                "required": ["type", "status", "reason", "message", "lastTransitionTime"],
                "properties": {
                    "type": _text("Its name."),
                    "status": _text("Whether it holds.", enum=["True", "False", "Unknown"]),
                    "reason": _text("Why, in one word."),
                    "message": _text("Why, in words to act on."),
                    "lastTransitionTime": _text("Since when.", format="date-time"),
                },
            },
        },
        "properties": {
            "type": "array",
            "description": "The twin: reported beside desired.",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": _text("The property."),
                    "unit": _text("For people."),
                    "reported": {**_OPEN, "description": "value, time, quality."},
                    "desired": {**_OPEN, "description": "value, state, reason, message, appliedAt."},
                },
            },
        },
    },
}


def _column(name: str, path: str, kind: str = "string") -> dict[str, Any]:
    return {"name": name, "type": kind, "jsonPath": path}


_COLUMNS = [
    _column("Model", ".spec.modelRef.name"),
    _column("Protocol", ".status.protocol"),
    _column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
    _column("Reason", '.status.conditions[?(@.type=="Ready")].reason'),
    _column("Connected", '.status.conditions[?(@.type=="Connected")].status'),
    _column("Desired", ".status.desired"),
    _column("Shard", ".status.shard"),
    _column("Last seen", ".status.lastSeen", "date"),
    _column("Age", ".metadata.creationTimestamp", "date"),
]
