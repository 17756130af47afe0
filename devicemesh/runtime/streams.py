"""Numbers of streams: a device that goes and comes back within an epoch counts on where it was."""

from __future__ import annotations

from devicemesh.aggregate import Aggregator
from devicemesh.store.base import Key

KEPT = 10_000
"""Devices that are gone and remembered; of one that went before them the numbers begin anew."""


class Streams:
    """(device, epoch, sequence) names one message for ever: a consumer may drop what it has seen."""

    def __init__(self, aggregator: Aggregator) -> None:
        self._aggregator = aggregator
        self._next = 0
        self._epoch: int | None = None  # None: the aggregator's first
        self._left: dict[Key, tuple[int, int | None]] = {}  # gone -> (stream, its epoch)
        self._epochs: dict[int, int | None] = {}

    def begin(self, epoch: int) -> None:
        """Streams that come from now on have this epoch."""
        self._epoch = epoch
        self._aggregator.begin(epoch)

    def take(self, key: Key) -> int:
        """The stream of a device that comes."""
        stream, epoch = self._left.pop(key, (-1, None))
        if stream >= 0 and epoch == self._epoch:
            self._epochs[stream] = epoch
            return stream
        if stream >= 0:
            self._aggregator.forget(stream)
        self._next += 1
        self._epochs[self._next - 1] = self._epoch
        return self._next - 1

    def leave(self, key: Key, stream: int) -> None:
        """The device is gone, or another's."""
        self._left[key] = stream, self._epochs.pop(stream)
        if len(self._left) > KEPT:
            oldest = next(iter(self._left))
            self._aggregator.forget(self._left.pop(oldest)[0])
