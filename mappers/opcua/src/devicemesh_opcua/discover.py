"""Looking into a server: what it is, and which variables it has."""

from __future__ import annotations

from collections.abc import AsyncIterator

from devicemesh.mapper import Found


async def discover(uri: str) -> AsyncIterator[Found]:
    """The server behind a URI, and its variables."""
    if uri:
        return
    yield Found(uri)
