"""Resources as the API server has them, pure: paths, objects in and patches out."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from devicemesh.spec.device import GROUP
from devicemesh.store.base import NOTHING, Key, Object, pack

VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
PLURALS = {"Device": "devices", "DeviceModel": "devicemodels"}
_OURS = ("name", "namespace", "labels", "annotations")  # of metadata: what people declare
_VALUES = ("lastSeen", "properties")  # of a status: what the device says
_KUBECTL = "kubectl.kubernetes.io/last-applied-configuration"


def collection(kind: str, namespace: str | None = None) -> str:
    """The path of all resources of a kind, of one namespace or of all."""
    scope = f"/namespaces/{namespace}" if namespace is not None else ""
    return f"/apis/{API_VERSION}{scope}/{PLURALS[kind]}"


def path(key: Key) -> str:
    """The path of one resource."""
    return f"{collection(key.kind, key.namespace)}/{key.name}"


def key_of(body: Mapping[str, Any]) -> Key:
    """The key of a declared resource."""
    metadata = body["metadata"]
    return Key(body["kind"], metadata.get("namespace", "default"), metadata["name"])


def as_object(kind: str, found: Mapping[str, Any]) -> Object:
    """What the server holds, as a store has it. Its bookkeeping (managedFields, ...) is left out."""
    metadata = found["metadata"]
    ours = {name: metadata[name] for name in _OURS if metadata.get(name)}
    if _KUBECTL in ours.get("annotations", {}):
        kept = {n: v for n, v in ours["annotations"].items() if n != _KUBECTL}
        ours = {
            **{n: v for n, v in ours.items() if n != "annotations"},
            **({"annotations": kept} if kept else {}),
        }
    return Object(
        key=Key(kind, sys.intern(metadata["namespace"]), metadata["name"]),
        uid=metadata["uid"],
        generation=metadata.get("generation", 1),
        version=int(metadata["resourceVersion"]),
        created=sys.intern(metadata["creationTimestamp"]),  # alike in thousands that are applied together
        packed=pack(
            {"apiVersion": API_VERSION, "kind": kind, "metadata": ours, "spec": found.get("spec", {})}
        ),
        status=found.get("status", NOTHING),
        edited=edit_times(metadata.get("managedFields", ())) if kind == "Device" else NOTHING,
    )


def edit_times(managed: Sequence[Mapping[str, Any]]) -> Mapping[str, int]:
    """When each desired value was set, in Unix seconds; "": when any of the spec was, at the latest.

    A manager's time is of its last change, to whatever: no entry of it is younger.
    """
    times: dict[str, int] = {}
    for one in managed:
        spec = one.get("fieldsV1", {}).get("f:spec")
        if spec is None or one.get("subresource") or "time" not in one:
            continue
        at = round(datetime.fromisoformat(one["time"]).timestamp())
        entries = [field[2:] for field in spec.get("f:desired", ()) if field[:2] == "k:"]
        names = [json.loads(entry).get("name", "") for entry in entries]
        for name in ("", *names):
            times[name] = max(at, times.get(name, 0))
    return times if len(times) > 1 else NOTHING


def declared(body: Mapping[str, Any]) -> dict[str, Any]:
    """A declaration as a server-side apply."""
    key = key_of(body)
    ours = {name: value for name, value in body["metadata"].items() if name in _OURS}
    metadata = {**ours, "namespace": key.namespace}
    return {"apiVersion": API_VERSION, "kind": key.kind, "metadata": metadata, "spec": body["spec"]}


def desired_patch(found: Object, values: Mapping[str, Any]) -> dict[str, Any]:
    """A merge patch that edits desired values; refused by the server if `found` is not the newest."""
    desired = {entry["name"]: entry["value"] for entry in found.spec.get("desired", ())} | dict(values)
    entries = [{"name": name, "value": value} for name, value in desired.items() if value is not None]
    return {"metadata": {"resourceVersion": str(found.version)}, "spec": {"desired": entries}}


def rounded(value: Any) -> bool:
    """Whether an API server would keep another number: an integer beyond int64 becomes a float there."""
    if isinstance(value, list | dict):
        return any(map(rounded, value.values() if isinstance(value, dict) else value))
    return isinstance(value, int) and not -(1 << 63) <= value < 1 << 63


def status_patch(key: Key, part: bytes) -> dict[str, Any]:
    """A part of a status as a server-side apply."""
    metadata = {"name": key.name, "namespace": key.namespace}
    status = json.loads(part)
    return {"apiVersion": API_VERSION, "kind": key.kind, "metadata": metadata, "status": status}


def parts(status: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """(values, health): what the runtime reports of the device, and what it found about it; b"" without any.

    They are JSON: thousands wait for their turn, and most are replaced before.
    """
    health = {name: value for name, value in status.items() if value is not None}
    values = {name: health.pop(name) for name in _VALUES if name in health}
    return _packed(values), _packed(health)


def _packed(part: Mapping[str, Any]) -> bytes:
    """As JSON; what is bytes is JSON already."""
    values = {name: one if isinstance(one, bytes) else pack(one) for name, one in part.items()}
    members = [pack(name) + b":" + value for name, value in values.items()]
    return b"{%s}" % b",".join(members) if members else b""
