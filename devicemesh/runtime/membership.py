"""This replica among the others: holds its Lease, gives up and takes over devices, removes who died.

The argument that no device has two owners is in docs/kubernetes.md ("Why no device has two owners"); the
order of the steps in `_round` is a part of it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from devicemesh.runtime.fence import Fence
from devicemesh.runtime.shards import Nothing, Placement, Shared
from devicemesh.store.base import StoreUnavailableError
from devicemesh.store.lease import Expiry, Lease, LeaseLostError, Leases

log = logging.getLogger("devicemesh.shards")
SETTLE_S = 0.5
"""What comes by a change of the members is taken when they have been the same for so long."""
RETRY_S = 0.5

Place = Callable[[Placement], Awaitable[None]]
"""Serve what a placement says; returns when what is given up is closed."""


class Membership:
    """`run` is its one task, `leave` its end. Times are the fence's clock."""

    def __init__(self, leases: Leases, me: Lease, fence: Fence, place: Place) -> None:
        self._leases = leases
        self._fence = fence
        self._place = place
        self._me = me  # as it was renewed last; version 0: not held
        self._expiry = Expiry()
        self._joined = 0  # the version of the first renewal of this term
        self._views: tuple[Mapping[str, Lease], ...] = ({},)  # what is served is ours in all of these
        self._next: Mapping[str, Lease] = {}  # and those that were found, until they have settled
        self._since_s = 0.0
        self._epoch: int | None = None  # what is served now was begun under it; None: nothing is served
        self._busy = asyncio.Lock()
        self._said = ""
        self.period_s = me.duration_s / 5
        self.margin_s = me.duration_s / 5

    @property
    def members(self) -> Sequence[str]:
        """Those by whom devices are placed now."""
        return sorted(self._views[-1])

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_fence())
            group.create_task(self._renew())

    async def leave(self) -> None:
        """Give the Lease back: nothing is served any more."""
        self._fence.shut()
        try:
            async with asyncio.timeout(self.period_s):
                for lease in (await self._leases.list())[0]:
                    if (lease.name, lease.holder) == (self._me.name, self._me.holder):
                        await self._leases.remove(lease)
        except (StoreUnavailableError, LeaseLostError, TimeoutError):
            log.info("the Lease of %s is left to run out", self._me.name)

    async def _watch_fence(self) -> None:
        """Close all links at the Lease's end, whoever keeps us from renewing it."""
        while True:
            if self._epoch is not None and not self._fence.holds():
                await self._give_up("the Lease could not be renewed in time")
            left = self._fence.until_s - self._fence.clock()
            await asyncio.sleep(min(max(left, 0.05), 0.5))

    async def _give_up(self, why: str) -> None:
        async with self._busy:
            if self._epoch is None or self._fence.holds():
                return
            log.warning("%s stops: %s", self._me.name, why)
            await self._place(Nothing())
            self._epoch, self._views = None, ({},)

    async def _serve(self, views: tuple[Mapping[str, Lease], ...], epoch: int) -> None:
        """Serve what is ours in all these views.

        What was given up counts as such only when it is closed, and what is taken counts from before.
        """
        async with self._busy:
            self._epoch = epoch
            await self._place(Shared(self._me.name, views, epoch))
            self._views = views

    async def _renew(self) -> None:
        while True:
            wait_s = RETRY_S
            try:
                async with asyncio.timeout(self._me.duration_s / 2):
                    wait_s = await self._round()
                self._say("")
            except TimeoutError:
                self._say("the API server does not answer")
            except (StoreUnavailableError, LeaseLostError) as error:
                self._say(str(error))
            await asyncio.sleep(wait_s)

    def _say(self, why: str) -> None:
        if why and why != self._said:
            log.warning("the Lease of %s is not renewed: %s", self._me.name, why)
        self._said = why

    async def _round(self) -> float:
        """One renewal; returns when to come again."""
        began_s = self._fence.clock()
        listing, version = await self._leases.list()
        now_s = self._fence.clock()
        self._expiry.see(listing, now_s)
        await self._give_up("it was stopped, or the API server was away, for longer than its Lease")
        if not await self._holds(listing):
            return 0.0 if self._me.version else RETRY_S
        members = {one.name: one for one in listing if not await self._buried(one, now_s)}
        if _places(members) != _places(self._next):
            self._next, self._since_s = members, now_s
        if self._epoch is not None and _places(members) != _places(self._views[-1]):
            await self._serve((*self._views, members), self._epoch)
        mine = next(one for one in listing if one.name == self._me.name)
        self._me = await self._leases.put(dataclasses.replace(self._me, seen=version, version=mine.version))
        self._joined = self._joined or self._me.version
        self._fence.extend(began_s + self._me.duration_s - self.margin_s)
        return await self._take(members)

    async def _holds(self, listing: Sequence[Lease]) -> bool:
        """Whether the Lease is ours; where it is not there it is created, for the next round to find."""
        mine = next((one for one in listing if one.name == self._me.name), None)
        if mine is not None and mine.holder == self._me.holder:
            return True
        self._fence.shut()
        await self._give_up("its Lease is another's" if mine else "its Lease was removed")
        self._joined, self._me = 0, dataclasses.replace(self._me, version=0, seen=0)
        if mine is None:
            self._me = await self._leases.put(self._me)
            self._joined = self._me.version
            return False
        now_s = self._fence.clock()
        if now_s < self._expiry.due_s(mine):
            raise LeaseLostError(
                f"another runtime holds `{mine.name}`: every replica needs an `instance` of its own"
            )
        await self._leases.remove(mine)
        return False

    async def _buried(self, lease: Lease, now_s: float) -> bool:
        """Whether another's Lease ran out, and is removed."""
        if lease.name == self._me.name or now_s < self._expiry.due_s(lease):
            return False
        try:
            await self._leases.remove(lease)
        except LeaseLostError:  # it was renewed at the last moment
            return False
        log.warning("%s has died: its Lease ran out", lease.name)
        return True

    async def _take(self, members: Mapping[str, Lease]) -> float:
        """Take over what is ours by these members, once they have settled and all know us."""
        others = [one for name, one in members.items() if name != self._me.name]
        if any(one.seen < self._joined for one in others):
            return min(self.period_s, RETRY_S)
        if self._epoch is not None and _places(members) == _places(self._views[0]) and len(self._views) == 1:
            return self._until_next(others)
        left_s = self._since_s + SETTLE_S - self._fence.clock()
        if left_s > 0 and others and self._epoch is not None:
            return left_s
        epoch = await self._leases.next_epoch()
        log.info("%s serves its share of %s, epoch %d", self._me.name, ", ".join(sorted(members)), epoch)
        await self._serve((members,), epoch)
        return self._until_next(others)

    def _until_next(self, others: Sequence[Lease]) -> float:
        """Until the next renewal, or until somebody's Lease runs out that was not renewed."""
        now_s = self._fence.clock()
        due_s = min((self._expiry.due_s(one) for one in others), default=now_s + self.period_s)
        return min(self.period_s, max(due_s - now_s, 0.01))


def _places(members: Mapping[str, Lease]) -> Mapping[str, object]:
    """What of the members decides who serves what."""
    return {name: (one.holder, one.labels, one.protocols) for name, one in members.items()}
