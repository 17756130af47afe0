"""Leases of replicas, pure: what one says, and when one has run out.

A Lease has run out when its record was not seen to change for its whole duration, by our own clock: the
clocks of two machines are never compared (as client-go's leader election does it).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

GROUP = "/apis/coordination.k8s.io/v1"
LABEL = "devicemesh.io/lease"
REPLICA, EPOCH = "replica", "epoch"
PREFIX, COUNTER = "devicemesh-replica-", "devicemesh-epoch"
_LABELS, _PROTOCOLS, _SEEN, _EPOCH = (
    f"devicemesh.io/{word}" for word in ("labels", "protocols", "seen", "epoch")
)


@dataclass(frozen=True, slots=True)
class Lease:
    """A replica's Lease. While it exists the replica is a member."""

    name: str  # the replica's instance name
    holder: str  # one home, which one process at a time holds
    duration_s: float
    labels: Mapping[str, str] = field(default_factory=dict)
    protocols: frozenset[str] = frozenset()
    seen: int = 0  # the version of the newest listing whose losses the replica has given up
    version: int = 0  # of the record: changes with every renewal


class LeaseLostError(Exception):
    """It was renewed or removed by another since it was read."""


class Leases(ABC):
    """Where Leases are kept: one place, in which every write has a greater version than all before it."""

    @abstractmethod
    async def list(self) -> tuple[Sequence[Lease], int]:
        """All, as they are now (never from a cache), and the version of the listing."""

    @abstractmethod
    async def put(self, lease: Lease) -> Lease:
        """Create it (version 0), or renew it if it is still at `version`. Raises LeaseLostError."""

    @abstractmethod
    async def remove(self, lease: Lease) -> None:
        """Remove it if it is still at `version`. Raises LeaseLostError."""

    @abstractmethod
    async def next_epoch(self) -> int:
        """A number (32 bits) that nobody was given before, greater than all that were."""


class Expiry:
    """What was seen of other Leases, and since when it is so."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[int, float]] = {}  # name -> version, when we first saw it

    def see(self, leases: Iterable[Lease], now_s: float) -> None:
        """Take a listing that has just come in."""
        found = {one.name: one.version for one in leases}
        self._since = {
            name: before if (before := self._since.get(name)) and before[0] == version else (version, now_s)
            for name, version in found.items()
        }

    def due_s(self, lease: Lease) -> float:
        """When this Lease runs out unless it changes."""
        return self._since[lease.name][1] + lease.duration_s


def as_lease(found: Mapping[str, Any]) -> Lease:
    """What the server holds. What somebody has spoilt counts as nothing, the Lease itself still counts."""
    metadata, spec = found["metadata"], found.get("spec") or {}
    notes = metadata.get("annotations") or {}
    seen = notes.get(_SEEN, "0")
    return Lease(
        name=metadata["name"].removeprefix(PREFIX),
        holder=spec.get("holderIdentity") or "",
        duration_s=float(spec.get("leaseDurationSeconds") or 0),
        labels=_labels(notes.get(_LABELS, "{}")),
        protocols=frozenset(filter(None, notes.get(_PROTOCOLS, "").split(","))),
        seen=int(seen) if seen.isdigit() else 0,
        version=int(metadata["resourceVersion"]),
    )


def _labels(text: str) -> Mapping[str, str]:
    try:
        return {str(name): str(value) for name, value in json.loads(text).items()}
    except (ValueError, AttributeError):
        return {}


def manifest(lease: Lease, namespace: str, now: datetime) -> dict[str, Any]:
    """A Lease as the server takes it."""
    notes = {
        _LABELS: json.dumps(dict(lease.labels), sort_keys=True),
        _PROTOCOLS: ",".join(sorted(lease.protocols)),
        _SEEN: str(lease.seen),
    }
    return _manifest(
        f"{PREFIX}{lease.name}",
        namespace,
        REPLICA,
        notes,
        lease.version,
        {
            "holderIdentity": lease.holder,
            "leaseDurationSeconds": round(lease.duration_s),
            "renewTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        },
    )


def counter(namespace: str, epoch: int, version: int) -> dict[str, Any]:
    """The counter of epochs: a Lease that nobody holds."""
    return _manifest(COUNTER, namespace, EPOCH, {_EPOCH: str(epoch)}, version, {})


def epoch_of(found: Mapping[str, Any]) -> int:
    """The number that the counter gave last."""
    text = (found["metadata"].get("annotations") or {}).get(_EPOCH, "0")
    return int(text) if text.isdigit() else 0


def _manifest(
    name: str, namespace: str, role: str, notes: dict[str, str], version: int, spec: dict[str, Any]
) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "labels": {LABEL: role},
        "annotations": notes,
    }
    if version:
        metadata["resourceVersion"] = str(version)
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
