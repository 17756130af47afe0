"""Secrets of links: read when one is opened, and looked at again: a rotated one needs no restart."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel

from devicemesh.mapper import AuthError, SecretRef, Secrets
from devicemesh.settings import SecretRef as Reference
from devicemesh.sink.secret import SecretError, resolve


def in_home(home: Path) -> Secrets:
    """Read `<home>/secrets/<name>/<key>`, else `DEVICEMESH_SECRET_<NAME>_<KEY>`."""

    def read(ref: SecretRef) -> str:
        try:
            return resolve(home, Reference(name=ref.name, key=ref.key))
        except SecretError as error:
            raise AuthError(str(error), reason="SecretMissing") from error

    return read


class Keeper(Protocol):
    """Secrets of a cluster, kept up to date."""

    on_change: Callable[[], None]

    def want(self, wanted: frozenset[tuple[str, str]]) -> None:
        """Keep these (namespace, name), and no others."""
        ...

    def find(self, namespace: str, name: str, key: str) -> str:
        """Raises LookupError, which says why it is not there."""
        ...


def named(endpoint: BaseModel) -> set[str]:
    """The secrets that an endpoint names."""
    found: set[str] = set()
    for _, value in endpoint:
        if isinstance(value, SecretRef):
            found.add(value.name)
        elif isinstance(value, BaseModel):
            found |= named(value)
    return found


class LinkSecrets:
    """What one link reads. Only digests are kept."""

    def __init__(self, read: Secrets) -> None:
        self._read = read
        self._seen: dict[SecretRef, bytes | None] = {}

    def forget(self) -> None:
        """The link is opened anew: what it reads from now on counts."""
        self._seen.clear()

    def __call__(self, ref: SecretRef) -> str:
        self._seen[ref] = None  # missing, unless it can be read
        secret = self._read(ref)
        self._seen[ref] = _digest(secret)
        return secret

    def changed(self) -> bool:
        """Whether one of those that were read is another now."""
        return any(self._now(ref) != before for ref, before in self._seen.items())

    def _now(self, ref: SecretRef) -> bytes | None:
        try:
            return _digest(self._read(ref))
        except AuthError:
            return None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
