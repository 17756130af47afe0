"""Secrets of the cluster: only those that are named, each watched by itself, in memory only."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable, Mapping
from typing import Any, Self

from devicemesh.store.base import StoreUnavailableError
from devicemesh.store.cluster import ApiError, Cluster

log = logging.getLogger("devicemesh.store")
RETRY_S = 2.0
MAX_RETRY_S = 30.0
Name = tuple[str, str]
"""Namespace and name of a Secret."""


class ClusterSecrets:
    """Entered by `async with`. It asks for `get` and `watch` of single Secrets, never for a list of them."""

    def __init__(self, cluster: Cluster) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self._cluster = cluster
        self._data: dict[Name, Mapping[str, str]] = {}  # base64, as the server has it
        self._why: dict[Name, str] = {}  # why there is none
        self._tasks: dict[Name, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.want(frozenset())

    def want(self, wanted: frozenset[Name]) -> None:
        """Watch these from now on, and no others: what is not wanted any more is forgotten."""
        for name in self._tasks.keys() - wanted:
            self._tasks.pop(name).cancel()
            self._data.pop(name, None)
            self._why.pop(name, None)
        for name in wanted - self._tasks.keys():
            self._tasks[name] = asyncio.create_task(self._follow(name), name=f"secret {'/'.join(name)}")

    def find(self, namespace: str, name: str, key: str) -> str:
        """The newest value that was seen; a line break at its end is no part of it. Raises LookupError."""
        place = f"Secret {namespace}/{name}"
        data = self._data.get((namespace, name))
        if data is None:
            raise LookupError(f"{place} {self._why.get((namespace, name), 'is not read yet')}")
        if key not in data:
            raise LookupError(f"{place} has no key `{key}`")
        try:
            text = base64.b64decode(data[key], validate=True).decode()
        except ValueError:
            raise LookupError(f"{place}: `{key}` is no UTF-8 text") from None
        return text.removesuffix("\n").removesuffix("\r")

    async def _follow(self, name: Name) -> None:
        """One Secret, for ever."""
        wait_s = RETRY_S
        namespace, plain = name
        where = f"/api/v1/namespaces/{namespace}/secrets"
        while True:
            try:
                found = await self._cluster.request("GET", f"{where}/{plain}")
                self._take(name, found)
                wait_s = RETRY_S
                version = found["metadata"]["resourceVersion"]
                only = {"fieldSelector": f"metadata.name={plain}"}
                async for event in self._cluster.watch(where, version, only):
                    if event["type"] == "DELETED":
                        self._lose(name, "was deleted")
                    elif event["type"] in ("ADDED", "MODIFIED"):
                        self._take(name, event["object"])
                    elif event["type"] == "ERROR":
                        break
                continue  # the server ends each watch by and by
            except ApiError as error:
                if error.status == 404:
                    self._lose(name, "does not exist")
                elif error.status == 403:
                    self._lose(name, f"may not be read: {error}")
            except StoreUnavailableError as error:
                self._why.setdefault(name, f"can't be read: {error}")  # what is known stays
            except Exception:
                log.exception("secret %s/%s: unexpected error, a bug", namespace, plain)
            await asyncio.sleep(wait_s)
            wait_s = min(MAX_RETRY_S, 2 * wait_s)

    def _take(self, name: Name, found: Mapping[str, Any]) -> None:
        data = found.get("data") or {}
        self._why.pop(name, None)
        if self._data.get(name) != data:
            self._data[name] = data
            self.on_change()

    def _lose(self, name: Name, why: str) -> None:
        self._why[name] = why
        if self._data.pop(name, None) is not None:
            self.on_change()
