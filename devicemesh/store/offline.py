"""A store that goes on while its server is away: what was declared last, and edits kept until it is back."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

from devicemesh.store.base import (
    ConflictError,
    Event,
    Key,
    NotAllowedError,
    NotFoundError,
    Object,
    RefusedError,
    Store,
    StoreUnavailableError,
    pack,
)
from devicemesh.store.merge import Edit, Policy, merge
from devicemesh.store.mirror import Mirror

log = logging.getLogger("devicemesh.store")
T = TypeVar("T")
Item = Event | Key | Exception | None
"""The server's event; a resource that was edited here; why the server is away; None: a listing begins."""
START_S = 5.0
"""A server that has listed nothing after so long is away: what is kept is served."""
FIRST_RETRY_S, MAX_RETRY_S = 1.0, 30.0


class OfflineStore(Store):
    """Wraps a store on a server. Entered, it never waits for the server."""

    def __init__(
        self, remote: Store, path: Path, policy: Policy, wall_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self.kind = remote.kind
        self.remote = remote
        self._path, self._policy, self._wall_ns = path, policy, wall_ns
        self._kept: dict[Key, Object] = {}  # as the server had them last
        self._edits: dict[Key, dict[str, Edit]] = {}  # it has not heard of these
        self._overruled: dict[Key, dict[str, tuple[Any, str]]] = {}
        self._ahead: dict[Key, int] = {}  # version of what we wrote, until the watch has got there
        self._watching: list[asyncio.Queue[Item]] = []
        self._more = asyncio.Event()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="mirror")

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work, *arguments)

    async def __aenter__(self) -> Self:
        self._mirror = await self._run(Mirror, self._path)
        self._kept, self._edits = await self._run(self._mirror.load)
        await self.remote.__aenter__()
        if self._edits:
            self._more.set()
        self._settling = asyncio.create_task(self._settle_all(), name="edits")
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._settling.cancel()
        await asyncio.wait({self._settling})
        await self.remote.__aexit__(*exc)
        await self._run(self._mirror.close)
        self._worker.shutdown()

    # -- what the server answers

    async def get(self, key: Key) -> Object:
        try:
            return await self.remote.get(key)
        except RefusedError:
            raise
        except StoreUnavailableError:
            if key not in self._kept:
                raise
            return self._shown(key)

    async def list(self, kind: str, namespace: str | None = None) -> Sequence[Object]:
        return await self.remote.list(kind, namespace)

    async def apply(self, bodies: Sequence[Mapping[str, Any]]) -> Sequence[tuple[Key, str]]:
        return await self.remote.apply(bodies)

    async def delete(self, key: Key) -> None:
        await self.remote.delete(key)

    async def patch_status(self, statuses: Mapping[Key, Mapping[str, Any]]) -> None:
        await self.remote.patch_status(statuses)

    def release(self, key: Key) -> None:
        self.remote.release(key)

    # -- edits

    async def set_desired(self, key: Key, values: Mapping[str, Any], owner: str) -> Object:
        """On the server, or here until it is back."""
        if key not in self._edits:
            try:
                return await self.remote.set_desired(key, values, owner)
            except RefusedError:
                raise
            except StoreUnavailableError:
                if key not in self._kept:
                    raise
        self._check_kept(key)
        known = _desired(self._kept[key])
        before = dict(self._edits.get(key, {}))
        now_ns = self._wall_ns()
        edits = {
            name: Edit(name, value, before[name].base if name in before else known.get(name), now_ns, owner)
            for name, value in values.items()
        }
        self._edits.setdefault(key, {}).update(
            edits
        )  # at once: what is told to the server meanwhile is its base
        try:
            await self._run(self._mirror.edit, key, list(edits.values()))
        except StoreUnavailableError:
            self._take_back(key, edits, before)
            raise
        self._more.set()
        self._check_kept(key)  # it may have been deleted meanwhile
        self._tell(key)
        return self._shown(key)

    def _check_kept(self, key: Key) -> None:
        if key not in self._kept:
            raise NotFoundError(f"there is no {key.kind} `{key.name}` in namespace {key.namespace}")

    def _take_back(self, key: Key, edits: Mapping[str, Edit], before: Mapping[str, Edit]) -> None:
        """These edits could not be kept: they are as before, unless somebody has edited them since."""
        now = self._edits.get(key, {})
        ours = [name for name, edit in edits.items() if now.get(name) is edit]
        left = {n: e for n, e in now.items() if n not in ours} | {n: before[n] for n in ours if n in before}
        self._edits.pop(key, None)
        if left:
            self._edits[key] = left

    def _shown(self, key: Key) -> Object:
        """What the server had last, with what was edited since."""
        found, edits = self._kept[key], self._edits.get(key)
        if not edits and key not in self._overruled:
            return found  # nearly all: they need not be looked into
        desired = _desired(found)
        lost = {n: why for n, (holds, why) in self._overruled.get(key, {}).items() if desired.get(n) == holds}
        if not edits:
            return dataclasses.replace(found, overruled=lost) if lost else found
        desired |= {name: edit.value for name, edit in edits.items()}
        entries = [{"name": name, "value": value} for name, value in desired.items() if value is not None]
        body = {**found.body, "spec": {**found.spec, "desired": entries}}
        return dataclasses.replace(found, packed=pack(body))

    async def _settle_all(self) -> None:
        """Tell the server what was edited, for ever."""
        wait_s = FIRST_RETRY_S
        while True:
            await self._more.wait()
            try:
                for key in list(self._edits):
                    await self._settle(key)
                if not self._edits:
                    self._more.clear()
                wait_s = FIRST_RETRY_S
            except ConflictError:
                continue  # it was edited that moment: read it again
            except StoreUnavailableError:
                await asyncio.sleep(wait_s)
                wait_s = min(MAX_RETRY_S, 2 * wait_s)

    async def _settle(self, key: Key) -> None:
        """Bring one device together with the server. Raises StoreUnavailableError: nothing is settled."""
        edits = list(self._edits[key].values())
        found: Object | None = None
        try:
            found = await self.remote.get(key)
            merged = merge(edits, _desired(found), found.edited, self._policy)
            self._overruled[key] = {**self._overruled.get(key, {}), **merged.overruled}
            for owner in {edit.owner for edit in edits}:
                send = {e.name: e.value for e in edits if e.name in merged.send and e.owner == owner}
                if send:
                    found = await self.remote.set_desired(key, send, owner)
        except NotFoundError:
            log.info("%s was deleted meanwhile, and with it what was desired of it", key.device)
        except NotAllowedError:
            raise  # rights may be granted, and a server that starts does not know them yet
        except RefusedError as error:
            log.error("what was desired of %s is refused by the server: %s", key.device, error)
            there = _desired(found) if found is not None else {}
            why = f"was set here, but the server refuses it: {error}"
            told = {e.name: (there.get(e.name), f"{e.value} {why}") for e in edits}
            self._overruled[key] = {**self._overruled.get(key, {}), **told}
        await self._settled(key, edits, found)
        self._tell(key)

    async def _settled(self, key: Key, edits: Sequence[Edit], found: Object | None) -> None:
        """Both sides know of these edits; `found` is what the server has now."""
        again = [edit for edit in self._edits.pop(key).values() if edit not in edits]  # meanwhile
        left = {edit.name: edit for edit in again}
        if found is not None:
            self._kept[key] = found.bare()
            self._ahead[key] = found.version
            there = _desired(found)
            left = {name: dataclasses.replace(e, base=there.get(name)) for name, e in left.items()}
        if left:
            self._edits[key] = left
            await self._run(self._mirror.edit, key, list(left.values()))
        await self._run(self._mirror.settle, key, edits)

    # -- watching

    def _tell(self, key: Key) -> None:
        for queue in self._watching:
            queue.put_nowait(key)

    async def watch(self, kinds: Sequence[str]) -> AsyncIterator[Event]:
        """What the server says; until it says something, what it said last. Edits made here come at once."""
        queue: asyncio.Queue[Item] = asyncio.Queue()
        told: dict[Key, Object] = {}
        listed: set[Key] = set()
        synced = False
        follower = asyncio.create_task(self._follow(kinds, queue))
        self._watching.append(queue)
        try:
            while True:
                batch = await _batch(queue, None if synced else START_S)
                changes, edited, away, complete = _sorted_out(batch, listed, kinds, self._kept)
                await self._keep(changes)
                keys = dict.fromkeys([*changes, *edited])  # in the order in which it happened
                if not synced and (away is not None or not batch):
                    if not self._kept:
                        if away is not None:
                            raise away
                        continue
                    log.warning("serving what the API server said last: %s", away or "it does not answer")
                    keys |= dict.fromkeys(sorted(key for key in self._kept if key.kind in kinds))
                    complete = True
                for key in keys:
                    if event := self._event(told, key):
                        yield _with_status(event, changes.get(key))
                if complete and not synced:
                    synced = True
                    yield Event("synced", None)
        finally:
            self._watching.remove(queue)
            follower.cancel()
            await asyncio.wait({follower})

    def _event(self, told: dict[Key, Object], key: Key) -> Event | None:
        """What a watcher has to be told of a resource, if anything."""
        before = told.get(key)
        if key not in self._kept:
            return Event("deleted", told.pop(key)) if before is not None else None
        found = self._shown(key)
        if before is not None and _alike(before, found):
            return None
        told[key] = found
        return Event("added" if before is None else "modified", found)

    async def _keep(self, changes: Mapping[Key, Object | None]) -> None:
        """Take over what the server says."""
        for key, found in changes.items():
            if found is None:
                for about in (self._kept, self._overruled, self._ahead):
                    about.pop(key, None)
            elif found.version >= self._ahead.get(key, 0):
                self._ahead.pop(key, None)
                self._kept[key] = found.bare()
            if key in self._edits:
                self._more.set()
        if changes:
            await self._run(self._mirror.save, dict(changes))

    async def _follow(self, kinds: Sequence[str], queue: asyncio.Queue[Item]) -> None:
        """The server's watch, for ever."""
        wait_s, said = FIRST_RETRY_S, ""
        while True:
            queue.put_nowait(None)
            try:
                async for event in self.remote.watch(kinds):
                    wait_s = FIRST_RETRY_S
                    queue.put_nowait(event)
            except StoreUnavailableError as error:
                queue.put_nowait(error)
                if str(error) != said:
                    said = str(error)
                    log.warning("the API server is away, what runs goes on: %s", error)
            except Exception as error:  # a bug: it must not go unseen
                queue.put_nowait(error)
            await asyncio.sleep(wait_s)
            wait_s = min(MAX_RETRY_S, 2 * wait_s)


def _with_status(event: Event, listed: Object | None) -> Event:
    """The event with the status that the server has listed, if it has."""
    if event.type != "added" or event.object is None or listed is None or not listed.status:
        return event
    return Event("added", dataclasses.replace(event.object, status=listed.status))


async def _batch(queue: asyncio.Queue[Item], patience_s: float | None) -> list[Item]:
    """All that waits in a queue; empty when nothing came in time."""
    try:
        batch = [await asyncio.wait_for(queue.get(), patience_s)]
    except TimeoutError:
        return []
    while not queue.empty():
        batch.append(queue.get_nowait())
    return batch


def _sorted_out(
    batch: Sequence[Item], listed: set[Key], kinds: Sequence[str], kept: Mapping[Key, Object]
) -> tuple[dict[Key, Object | None], set[Key], StoreUnavailableError | None, bool]:
    """(what the server changed, what was edited here, why it is away, whether a listing is complete).

    `listed` is what the listing under way has shown so far.
    """
    changes: dict[Key, Object | None] = {}
    edited: set[Key] = set()
    away: StoreUnavailableError | None = None
    complete = False
    for item in batch:
        if item is None:
            listed.clear()
        elif isinstance(item, StoreUnavailableError):
            away = item
        elif isinstance(item, Exception):
            raise item
        elif isinstance(item, Key):
            edited.add(item)
        elif item.object is not None:
            changes.pop(item.object.key, None)  # the last thing that happened to it counts, and when
            changes[item.object.key] = None if item.type == "deleted" else item.object
            listed.add(item.object.key)
        else:
            changes |= dict.fromkeys(key for key in kept if key.kind in kinds and key not in listed)
            complete = True
    return changes, edited, away, complete


def _alike(one: Object, other: Object) -> bool:
    return (one.uid, one.generation, one.packed, one.overruled) == (
        other.uid,
        other.generation,
        other.packed,
        other.overruled,
    )


def _desired(found: Object) -> dict[str, Any]:
    return {entry["name"]: entry["value"] for entry in found.spec.get("desired", ())}
