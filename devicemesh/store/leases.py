"""Leases on an API server."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from devicemesh.store.base import RefusedError, StoreUnavailableError
from devicemesh.store.cluster import ApiError, Cluster
from devicemesh.store.lease import (
    COUNTER,
    GROUP,
    LABEL,
    PREFIX,
    REPLICA,
    Lease,
    LeaseLostError,
    Leases,
    as_lease,
    counter,
    epoch_of,
    manifest,
)

TRIES = 10
_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def namespace() -> str:
    """That of the pod; outside of one, devicemesh."""
    try:
        return _POD.read_text("ascii").strip() or "devicemesh"
    except OSError:
        return "devicemesh"


class ClusterLeases(Leases):
    """In one namespace. Every method may raise StoreUnavailableError."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._path = f"{GROUP}/namespaces/{namespace}/leases"

    async def _ask(self, verb: str, path: str, body: Any = None, **query: str) -> dict[str, Any]:
        try:
            return await self._cluster.request(verb, path, body, query=query)
        except ApiError as error:
            if error.status in (404, 409):
                raise LeaseLostError(str(error)) from error
            kind = RefusedError if error.status in (401, 403, 422) else StoreUnavailableError
            raise kind(str(error)) from error

    async def list(self) -> tuple[Sequence[Lease], int]:
        """Without a resourceVersion, so that it is the newest there is."""
        found = await self._ask("GET", self._path, labelSelector=f"{LABEL}={REPLICA}")
        return [as_lease(one) for one in found.get("items", ())], int(found["metadata"]["resourceVersion"])

    async def put(self, lease: Lease) -> Lease:
        body = manifest(lease, self._namespace, datetime.now(UTC))
        if lease.version:
            answer = await self._ask("PUT", f"{self._path}/{PREFIX}{lease.name}", body)
        else:
            answer = await self._ask("POST", self._path, body)
        return as_lease(answer)

    async def remove(self, lease: Lease) -> None:
        options = {"preconditions": {"resourceVersion": str(lease.version)}}
        await self._ask("DELETE", f"{self._path}/{PREFIX}{lease.name}", options)

    async def next_epoch(self) -> int:
        """One more than the last, or the time in seconds where that is greater, as an outbox counts."""
        where = f"{self._path}/{COUNTER}"
        for _ in range(TRIES):
            version = last = 0
            try:
                found = await self._ask("GET", where)
                version, last = int(found["metadata"]["resourceVersion"]), epoch_of(found)
            except LeaseLostError:  # nobody has asked yet
                pass
            epoch = max(last + 1, int(time.time()))
            body = counter(self._namespace, epoch, version)
            try:
                await self._ask("PUT", where, body) if version else await self._ask("POST", self._path, body)
            except LeaseLostError:  # somebody else was quicker
                continue
            return epoch
        raise StoreUnavailableError(f"{COUNTER} is edited all the time")
