"""Shared by the sink's tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from devicemesh.sink.outbox import Outbox


@dataclass
class ManualClock:
    """A clock that stands still until it is moved."""

    boot: float = 1000.0
    wall: int = 0
    boot_id: bytes = b"thisboot"

    def boottime(self) -> float:
        return self.boot

    def wall_ns(self) -> int:
        return self.wall

    def advance(self, seconds: float) -> None:
        self.boot += seconds
        self.wall += int(seconds * 1e9)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def _drain(outbox: Outbox) -> list[bytes]:
    """Read and acknowledge all that waits."""
    bodies, position = [], outbox.acked
    while position < outbox.next:
        chunk = outbox.read(position)
        for item in chunk.items:
            assert item.position >= position
            position = item.position
            bodies.append(item.body)
            outbox.ack(item.position, item.sample, item.samples)
        position = chunk.end
    return bodies


@pytest.fixture
def drain() -> Callable[[Outbox], list[bytes]]:
    return _drain


def _conserved(outbox: Outbox) -> None:
    stats = outbox.stats()
    assert stats.taken == stats.published + sum(stats.dropped.values()) + stats.spooled
    for book in (stats, stats.recovered):
        assert min(book.spooled, book.published, *book.dropped.values()) >= 0


@pytest.fixture
def conserved() -> Callable[[Outbox], None]:
    """Check that every sample is accounted for."""
    return _conserved
