import contextlib
from collections.abc import AsyncIterator

import pytest

from devicemesh.store.base import Store
from devicemesh.testing.memory import MemoryStore
from devicemesh.testing.store import StoreContract


class TestMemoryStore(StoreContract):
    """The store of other tests keeps the contract too."""

    @pytest.fixture(autouse=True)
    def _store(self) -> None:
        self.store = None

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Store]:
        self.store = self.store or MemoryStore()
        yield self.store
