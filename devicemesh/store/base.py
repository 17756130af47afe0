"""The store contract: resources with versions, status apart from spec, changes as a watch."""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, Self

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Key(NamedTuple):
    """What names a resource."""

    kind: str
    namespace: str
    name: str

    @property
    def device(self) -> str:
        """`namespace/name`, as the data path calls it."""
        return f"{self.namespace}/{self.name}"


def pack(body: Any) -> bytes:
    """JSON as short as it goes, as an Object keeps its body: equal bodies of one source are equal bytes."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def alike(one: Any, other: Any) -> bool:
    """Whether two bodies are the same JSON: Python itself takes 1 for true."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@dataclass(frozen=True, slots=True)
class Object:
    """A stored resource: `body` holds apiVersion, kind, metadata, spec; `generation` counts spec changes.

    It is kept as JSON, and parsed when it is looked at: as dicts it would take ten times the memory.
    """

    key: Key
    uid: str
    generation: int
    version: int  # rises with every change of body; never reused in a store
    created: str  # RFC 3339
    packed: bytes  # see `pack`
    status: Mapping[str, Any]
    edited: Mapping[str, int] = field(default_factory=lambda: NOTHING)
    """When desired values were set, in Unix seconds, where the store knows; "": when any of it was edited."""
    overruled: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    """Desired values that two sides had set differently: property -> which one lost, in words."""

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.packed)
        return body

    @property
    def spec(self) -> Mapping[str, Any]:
        spec: Mapping[str, Any] = self.body["spec"]
        return spec

    @property
    def model(self) -> str:
        """The name that a Device gives for its model; empty where it makes no sense, as others may write."""
        reference = self.spec.get("modelRef")
        return str(reference.get("name", "")) if isinstance(reference, dict) else ""

    @property
    def labels(self) -> Mapping[str, str]:
        labels: Mapping[str, str] = self.body["metadata"].get("labels") or NOTHING
        return labels

    def bare(self) -> Object:
        """Without its status: many are kept, and a status is large."""
        return dataclasses.replace(self, status=NOTHING) if self.status else self

    def resource(self) -> dict[str, Any]:
        """The whole, in the shape of a Kubernetes object."""
        body = self.body
        metadata = {
            **body["metadata"],
            "namespace": self.key.namespace,
            "uid": self.uid,
            "generation": self.generation,
            "resourceVersion": str(self.version),
            "creationTimestamp": self.created,
        }
        whole = {**body, "metadata": metadata}
        return {**whole, "status": self.status} if self.status else whole


class Event(NamedTuple):
    """A change of a body; `object` is the last known one where it was deleted."""

    type: str  # added, modified, deleted; synced after the first listing (its object is None)
    object: Object | None


class NotFoundError(LookupError):
    """There is no such resource."""


class ConflictError(Exception):
    """The resource changed since it was read: read it again."""


class StoreUnavailableError(Exception):
    """The store can't be reached or written now; what runs goes on."""


class RefusedError(StoreUnavailableError):
    """The store won't have it: rights are missing, or a rule is broken. The message says which."""


class NotAllowedError(RefusedError):
    """Rights are missing: they may be granted."""


class Store(ABC):
    """Entered by `async with`. Every method may raise `StoreUnavailableError`."""

    kind: str  # one word, for metrics

    @abstractmethod
    async def __aenter__(self) -> Self: ...

    @abstractmethod
    async def __aexit__(self, *exc: object) -> None: ...

    @abstractmethod
    async def get(self, key: Key) -> Object:
        """Raises NotFoundError."""

    @abstractmethod
    async def list(self, kind: str, namespace: str | None = None) -> Sequence[Object]:
        """All of a kind, by namespace and name."""

    @abstractmethod
    async def apply(self, bodies: Sequence[Mapping[str, Any]]) -> Sequence[tuple[Key, str]]:
        """Make these the declared state, all or none; says `created`, `configured` or `unchanged` for each.

        Desired values that others have set stay, unless the body names the same property.
        """

    @abstractmethod
    async def delete(self, key: Key) -> None:
        """Raises NotFoundError."""

    @abstractmethod
    async def set_desired(self, key: Key, values: Mapping[str, Any], owner: str) -> Object:
        """Edit desired values (None removes one) and nothing else. Raises NotFoundError."""

    @abstractmethod
    async def patch_status(self, statuses: Mapping[Key, Mapping[str, Any]]) -> None:
        """Replace the status of these resources; what is gone meanwhile is passed over.

        `properties` may be JSON already. Unlike the rest, a status need not survive a power cut.
        """

    def release(self, key: Key) -> None:  # noqa: B027 - most stores write at once
        """Another writes the status of this resource from now on: what waits to be written is not."""

    @abstractmethod
    def watch(self, kinds: Sequence[str]) -> AsyncIterator[Event]:
        """First all that exists, then `synced`, then changes, for ever; a missed history is listed again.

        What exists comes with its status, where the store has it: as it was before anybody wrote it now.
        """
