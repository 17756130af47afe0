"""Where records go: topics and property names, as the outbox keeps them and reads them back."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from devicemesh.sink.topics import Addresses

log = logging.getLogger("devicemesh.sink")

Describe = Callable[[int], tuple[str, Sequence[str]]]
"""Device and property names of a stream."""
KEPT = 20_000
"""Contexts that are remembered beside those of streams: clients name devices and commands as they like."""


class Route(NamedTuple):
    """Where a record goes; `names` are of its properties, None for a body that is JSON already.

    `suffix` says what it is: telemetry, or the last part of an event's topic; a gap has no device.
    """

    topic: str
    names: Sequence[str] | None
    device: str = ""
    suffix: str = "telemetry"
    key: int = 0  # of its context; 0: it came from the outbox


class Contexts(Mapping[int, bytes]):
    """What the outbox needs to read records of streams back, by key: odd numbers; events have even ones.

    A context is ["T", device, name, ...] of a record, ["E", device, suffix] of an event, ["G"] of a gap.
    Those of streams are made when they are asked for, once in a file: they would take as much as all else
    of a stream.
    """

    def __init__(self) -> None:
        self._known: list[Route] = []

    def stream(self, topic: str, device: str, names: Sequence[str]) -> Route:
        """A new key, with what it stands for."""
        route = Route(topic, names, device, key=2 * len(self._known) + 1)
        self._known.append(route)
        return route

    def __getitem__(self, key: int) -> bytes:
        known = self._known[key // 2]
        return json.dumps(["T", known.device, *(known.names or ())]).encode()

    def __iter__(self) -> Iterator[int]:
        return iter(range(1, 2 * len(self._known), 2))

    def __len__(self) -> int:
        return len(self._known)


class Routes:
    """Of streams that write, of events, and of what is read back."""

    def __init__(self, topics: Addresses) -> None:
        self.contexts = Contexts()
        self._topics = topics
        self._streams: dict[int, Route] = {}
        self._keys: dict[bytes, int] = {}  # of contexts of events
        self._last_key = 0
        self._read: dict[bytes, Route | None] = {}

    def stream(self, number: int, describe: Describe) -> Route:
        """That of a stream; a new one where it has more names than before."""
        device, names = describe(number)
        known = self._streams.get(number)
        if known is None or known.device != device or len(known.names or ()) != len(names):
            topic = self._topics.device(device, "telemetry")
            known = self._streams[number] = self.contexts.stream(topic, device, tuple(names))
        return known

    def event(self, context: Sequence[str]) -> tuple[int, bytes, Route]:
        """(key, packed, route) of a context. Raises ValueError where it makes no topic."""
        packed = json.dumps(context).encode()
        route = self.read(packed)
        if route is None:
            raise ValueError(f"{context!r} makes no topic")
        if packed not in self._keys:
            if len(self._keys) >= KEPT:
                self._keys.clear()  # they get new keys: one never stands for two
            self._last_key += 2
            self._keys[packed] = self._last_key
        return self._keys[packed], packed, route

    def read(self, context: bytes) -> Route | None:
        """What a context says, see `Contexts`; None where it is nothing of ours."""
        if context not in self._read:
            if len(self._read) >= KEPT:
                self._read.clear()
            self._read[context] = self._parse(context)
        return self._read[context]

    def _parse(self, context: bytes) -> Route | None:
        try:
            match json.loads(context):
                case ["T", str(device), *names]:
                    topic = self._topics.device(device, "telemetry")
                    return Route(topic, [str(name) for name in names], device)
                case ["E", str(device), str(suffix)]:
                    return Route(self._topics.device(device, suffix), None, device, suffix)
                case ["G"]:
                    return Route(self._topics.gap, None, suffix="gap")
        except ValueError as error:
            log.error("a record in the outbox can't be addressed: %s", error)
        return None
