"""Leases in memory, for tests of who shares devices."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

from devicemesh.store.base import StoreUnavailableError
from devicemesh.store.lease import Lease, LeaseLostError, Leases


class MemoryLeases(Leases):
    """One for all replicas of a test. `away` names the replicas that can't reach it."""

    def __init__(self) -> None:
        self.kept: dict[str, Lease] = {}
        self.version = 0
        self.epochs = 100
        self.away = False
        self.delay_s = 0.01

    async def _reach(self) -> None:
        await asyncio.sleep(self.delay_s)
        if self.away:
            raise StoreUnavailableError("the API server is away")

    async def list(self) -> tuple[Sequence[Lease], int]:
        await self._reach()
        return sorted(self.kept.values(), key=lambda one: one.name), self.version

    def _check(self, lease: Lease) -> None:
        kept = self.kept.get(lease.name)
        if (kept.version if kept is not None else 0) != lease.version:
            raise LeaseLostError(f"{lease.name} is not at version {lease.version}")

    async def put(self, lease: Lease) -> Lease:
        await self._reach()
        self._check(lease)
        self.version += 1
        self.kept[lease.name] = renewed = dataclasses.replace(lease, version=self.version)
        return renewed

    async def remove(self, lease: Lease) -> None:
        await self._reach()
        self._check(lease)
        self.version += 1
        del self.kept[lease.name]

    async def next_epoch(self) -> int:
        await self._reach()
        self.epochs += 1
        return self.epochs
