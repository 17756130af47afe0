"""Resources on a Kubernetes API server: list and watch, server-side apply, a paced status."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Self

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
)
from devicemesh.store.cluster import APPLY, MERGE, ApiError, Cluster
from devicemesh.store.events import EventWriter
from devicemesh.store.resource import (
    as_object,
    collection,
    declared,
    desired_patch,
    key_of,
    path,
    rounded,
    status_patch,
)
from devicemesh.store.status import SlowDownError, StatusWriter

log = logging.getLogger("devicemesh.store")
USER, RUNTIME, CONTROLLER = "devicemesh", "devicemesh-runtime", "devicemesh-controller"
"""Field managers: who declared, who reports values, who judges health."""
PAGE = 500
TRIES = 5
DRAIN_S = 2.0
MAX_BACKOFF_S = 30.0


class KubernetesStore(Store):
    """Conditions, `kubectl get` and rights are the server's; readings never go there."""

    kind = "kubernetes"

    def __init__(self, kubeconfig: Path | None = None, context: str | None = None) -> None:
        self.cluster = Cluster(kubeconfig, context)
        self.fence: Callable[[], bool] | None = None  # whether we may write a status; None: always

    async def __aenter__(self) -> Self:
        await self.cluster.__aenter__()
        loop = asyncio.get_running_loop()
        self._status = StatusWriter(self._send_values, self._send_health, loop.time)
        self._writing = loop.create_task(self._status.run(), name="status")
        self._events = EventWriter(self._tell, loop.time)
        self._telling = loop.create_task(self._events.run(), name="events")
        self._known: Mapping[Key, Object] = {}  # to the newest watch that has listed
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._status.drain(DRAIN_S)
        for task in (self._writing, self._telling):
            task.cancel()
        await asyncio.wait({self._writing, self._telling})
        await self.cluster.__aexit__(*exc)

    async def _request(
        self, key: Key, verb: str, where: str, body: Any = None, **more: Any
    ) -> dict[str, Any]:
        try:
            return await self.cluster.request(verb, where, body, **more)
        except ApiError as error:
            _translate(key, error)

    async def get(self, key: Key) -> Object:
        return as_object(key.kind, await self._request(key, "GET", path(key)))

    async def list(self, kind: str, namespace: str | None = None) -> Sequence[Object]:
        found, _ = await self._list(kind, namespace)
        return sorted(found, key=lambda one: one.key)

    async def _list(self, kind: str, namespace: str | None = None) -> tuple[Sequence[Object], str]:
        """All of a kind, in pages, and the version that the listing is of."""
        items: list[Object] = []
        query: dict[str, Any] = {"limit": PAGE}
        while True:
            key = Key(kind, namespace or "", "")
            page = await self._request(key, "GET", collection(kind, namespace), query=query)
            items += [as_object(kind, one) for one in page["items"]]
            if not page["metadata"].get("continue"):
                return items, page["metadata"]["resourceVersion"]
            query["continue"] = page["metadata"]["continue"]

    async def apply(self, bodies: Sequence[Mapping[str, Any]]) -> Sequence[tuple[Key, str]]:
        """All are tried before the first is written; a server has no transaction over several."""
        for body in bodies:
            await self._apply(body, dryRun="All")
        return [await self._apply(body) for body in bodies]

    async def _apply(self, body: Mapping[str, Any], **query: str) -> tuple[Key, str]:
        key = key_of(body)
        before: Object | None = None
        with contextlib.suppress(NotFoundError):
            before = await self.get(key)
        query = {"fieldManager": USER, "force": "true", "fieldValidation": "Strict", **query}
        answer = await self._request(key, "PATCH", path(key), declared(body), query=query, content=APPLY)
        if before is None:
            return key, "created"
        after = as_object(key.kind, answer)
        return key, "unchanged" if after.version == before.version else "configured"

    async def delete(self, key: Key) -> None:
        await self._request(key, "DELETE", path(key))
        self._forget(key)

    async def set_desired(self, key: Key, values: Mapping[str, Any], owner: str) -> Object:
        """Each entry belongs to whoever set it last (`owner`): an apply of the others leaves it alone."""
        if large := [name for name, value in values.items() if rounded(value)]:
            raise RefusedError(f"{', '.join(large)}: the API server keeps no integer beyond int64 as it is")
        for last in range(TRIES - 1, -1, -1):
            patch = desired_patch(await self.get(key), values)
            query = {"fieldManager": f"devicemesh-{owner}"}
            try:
                answer = await self._request(key, "PATCH", path(key), patch, query=query, content=MERGE)
            except ConflictError as error:  # somebody else was quicker
                if not last:
                    raise StoreUnavailableError(f"{key.name} is edited all the time: {error}") from error
                continue
            return as_object(key.kind, answer)
        raise AssertionError("unreachable")

    def release(self, key: Key) -> None:
        self._forget(key)

    def _forget(self, key: Key) -> None:
        self._status.forget(key)
        self._events.forget(key)

    async def _tell(self, verb: str, where: str, body: Any) -> None:
        if self.fence is None or self.fence():
            content = MERGE if verb == "PATCH" else "application/json"
            await self.cluster.send(verb, where, body, content=content)

    async def patch_status(self, statuses: Mapping[Key, Mapping[str, Any]]) -> None:
        """They are written by and by, the newest of each: see `status`."""
        if self._writing.done():
            self._writing.result()  # a bug: it must not go unseen
        self._status.put(statuses)
        for key, status in statuses.items():
            known = self._known.get(key)
            self._events.put(key, known.uid if known is not None else "", status)

    async def _send_values(self, key: Key, part: bytes) -> None:
        await self._send(key, part, RUNTIME)

    async def _send_health(self, key: Key, part: bytes) -> None:
        await self._send(key, part, CONTROLLER)

    async def _send(self, key: Key, part: bytes, manager: str) -> None:
        if self.fence is not None and not self.fence():
            raise StoreUnavailableError("this replica has lost its Lease")
        query = {"fieldManager": manager, "force": "true"}
        body = status_patch(key, part)
        try:
            await self.cluster.send("PATCH", f"{path(key)}/status", body, query=query, content=APPLY)
        except ApiError as error:
            if error.status == 429:
                raise SlowDownError(error.retry_after_s or 1.0) from error
            _translate(key, error)

    async def watch(self, kinds: Sequence[str]) -> AsyncIterator[Event]:
        known: dict[Key, Object] = {}
        queue: asyncio.Queue[tuple[str, Object] | Exception] = asyncio.Queue()
        versions: dict[str, str] = {}
        for kind in kinds:
            found, versions[kind] = await self._list(kind)
            for one in sorted(found, key=lambda one: one.key):
                if (before := self._known.get(one.key)) is not None and before.uid != one.uid:
                    self._forget(one.key)
                known[one.key] = one.bare()
                yield Event("added", one)  # with its status, this once: it tells of the time before us
        self._known = known
        yield Event("synced", None)
        followers = [asyncio.create_task(self._follow(k, v, known, queue)) for k, v in versions.items()]
        for task in followers:
            task.add_done_callback(lambda done: queue.put_nowait(_why_ended(done)))
        try:
            while True:
                item = await queue.get()
                if isinstance(item, Exception):
                    raise item
                if event := self._seen(known, *item):
                    yield event
        finally:
            for task in followers:
                task.cancel()
            await asyncio.wait(followers)

    def _seen(self, known: dict[Key, Object], type_: str, found: Object) -> Event | None:
        """What a watch's event means; None where only the status changed."""
        before = known.get(found.key)
        if type_ == "DELETED":
            known.pop(found.key, None)
            self._forget(found.key)
            return Event("deleted", found) if before else None
        if before is None or before.uid != found.uid:
            self._forget(found.key)  # what was written was of another of its name
        elif before.packed == found.packed:
            return None
        known[found.key] = found.bare()
        return Event("modified" if before else "added", known[found.key])

    async def _follow(self, kind: str, version: str, known: Mapping[Key, Object], queue: Any) -> None:
        """Watch a kind for ever, from a version on; what was missed is listed again."""
        failures = 0
        while True:
            try:
                if failures and await self._went_back(kind, version):
                    version = await self._again(kind, known, queue)
                async with contextlib.aclosing(self.cluster.watch(collection(kind), version)) as events:
                    async for event in events:
                        failures = 0
                        if event["type"] == "ERROR":
                            status = event["object"]
                            raise ApiError(
                                status.get("code", 500), status.get("reason", ""), status.get("message", "")
                            )
                        version = event["object"]["metadata"]["resourceVersion"]
                        if event["type"] != "BOOKMARK":
                            queue.put_nowait((event["type"], as_object(kind, event["object"])))
                continue  # the server ends each watch by and by
            except ApiError as error:
                if error.status in (401, 403):
                    raise RefusedError(str(error)) from error
                gone = error.status == 410
                why = str(error)
            except StoreUnavailableError as error:
                gone, why = False, str(error)
            try:
                if gone:
                    version = await self._again(kind, known, queue)
                    continue
            except StoreUnavailableError as error:
                why = str(error)
            failures += 1
            if failures == 1:
                log.warning("watch of %s is interrupted, what runs goes on: %s", kind, why)
            await asyncio.sleep(min(MAX_BACKOFF_S, 0.5 * 2.0 ** min(failures, 10)))

    async def _went_back(self, kind: str, version: str) -> bool:
        """Whether the server's history is older than what it said last: its etcd was restored from a backup.

        It takes a watch from there all the same, and tells of nothing until it has got there again.
        """
        key = Key(kind, "", "")
        newest = await self._request(key, "GET", collection(kind), query={"limit": 1})
        if int(newest["metadata"]["resourceVersion"]) >= int(version):
            return False
        log.warning("the API server's history went back: %ss are listed again", kind)
        return True

    async def _again(self, kind: str, known: Mapping[Key, Object], queue: Any) -> str:
        """List a kind whose history was missed; says what is gone too."""
        found, version = await self._list(kind)
        there = {one.key for one in found}
        for key, before in known.items():
            if key.kind == kind and key not in there:
                queue.put_nowait(("DELETED", before))
        for one in found:
            queue.put_nowait(("MODIFIED", one))
        return version


def _why_ended(task: asyncio.Task[None]) -> Exception:
    """What a watch says whose follower has ended, which it never does by itself."""
    error = None if task.cancelled() else task.exception()
    return error if isinstance(error, Exception) else StoreUnavailableError("the watch has ended")


def _translate(key: Key, error: ApiError) -> NoReturn:
    """Raise what the contract has for it."""
    if error.status == 404 and key.name:
        raise NotFoundError(f"there is no {key.kind} `{key.name}` in namespace {key.namespace}") from error
    if error.status == 404:
        message = f"the server knows no {key.kind}s. Try: devicemesh crd | kubectl apply -f -"
        raise StoreUnavailableError(message) from error
    if error.status == 409:
        raise ConflictError(str(error)) from error
    untyped = error.status == 500 and "typed patch object" in str(error)  # an unknown field, in an apply
    if error.status == 403:
        raise NotAllowedError(str(error)) from error
    if error.status in (400, 422) or untyped:
        raise RefusedError(str(error)) from error
    raise StoreUnavailableError(str(error)) from error
