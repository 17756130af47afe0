"""Fakes that keep the contracts: a mapper of devices in memory, and a sink that remembers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

from devicemesh.aggregate import Record, encode_json
from devicemesh.mapper import (
    Address,
    AuthError,
    Batch,
    ConfigError,
    Endpoint,
    Found,
    Gap,
    Historical,
    Invocable,
    Invocation,
    LinkError,
    Mapper,
    MapperError,
    Notification,
    Notifier,
    Notifying,
    Outcome,
    Point,
    PointError,
    Quality,
    Readable,
    Reader,
    SecretRef,
    Secrets,
    Writable,
    Write,
    no_secrets,
)
from devicemesh.settings import MqttSettings
from devicemesh.sink.base import Command, Sink, SinkStats
from devicemesh.sink.topics import Topics
from devicemesh.spec.base import Strict


class FakeEndpoint(Endpoint):
    host: str
    unit: int = 1
    password: SecretRef | None = None

    def link(self) -> str:
        return self.host

    def redirect(self, address: str) -> Self:
        return self.model_copy(update={"host": address})


class FakeAddress(Address):
    key: str


class FakeCall(Strict):
    """Where a command lives, or a source of events."""

    name: str
    """Its name."""


class FakeMapper(Mapper[FakeEndpoint, FakeAddress]):
    """Devices live in `values`: (host, unit, key) -> number. Faults are switched on the instance."""

    protocol = "fake"
    endpoint_type = FakeEndpoint
    address_type = FakeAddress
    command_type = FakeCall
    event_type = FakeCall

    def __init__(self, wall_ns: Callable[[], int]) -> None:
        self.values: dict[tuple[str, int, str], float] = {}
        self.refuse: dict[tuple[str, int, str], PointError] = {}  # writes and reads of these fail
        self.silent: set[tuple[str, int]] = set()  # units that don't answer
        self.down: set[str] = set()  # hosts that can't be reached
        self.broken: dict[str, BaseException] = {}  # hosts whose session has a bug: what comes of it
        self.pushes: dict[str, asyncio.Queue[Pushed]] = {}  # by host
        self.subscribed: list[tuple[str, list[str]]] = []  # (host, keys)
        self.heard: list[tuple[str, list[str]]] = []  # (host, events)
        self.invoked: list[tuple[str, Mapping[str, Any]]] = []  # (call, arguments)
        self.answers: dict[str, Mapping[str, Any] | MapperError] = {}  # of calls
        self.past: dict[tuple[str, int, str], list[tuple[int, float]]] = {}  # as `values`: times and values
        self.asked: list[tuple[str, int, int]] = []  # of the past: (key, begin, end)
        self.lost: dict[str, int] = {}
        self.password = "open sesame"
        self.timeout_s = 1.0
        self.written: list[tuple[str, int, str, Any]] = []
        self.opened: list[str] = []
        self.polls: list[tuple[float, str, int]] = []  # (loop time, host, number of points)
        self.wall_ns = wall_ns

    @contextlib.asynccontextmanager
    async def open(self, endpoint: FakeEndpoint, secrets: Secrets = no_secrets) -> AsyncIterator[FakeSession]:
        self.opened.append(endpoint.host)
        if endpoint.password is not None and secrets(endpoint.password) != self.password:
            raise AuthError(f"{endpoint.host} refuses the password")
        if endpoint.host in self.down:
            raise LinkError(f"connection refused by {endpoint.host}", reason="ConnectionRefused")
        kind = FakePushSession if endpoint.host in self.pushes else FakeSession
        yield kind(self, endpoint.host)

    def parse_endpoint(self, uri: str) -> FakeEndpoint:
        return FakeEndpoint(host=uri.removeprefix("fake://"))

    def parse_address(self, text: str) -> FakeAddress:
        if not text:
            raise ConfigError("an address is a word")
        return FakeAddress(key=text)

    async def discover(self, uri: str, secrets: Secrets = no_secrets) -> AsyncIterator[Found]:
        for host, unit, _ in sorted(self.values):
            yield Found(f"fake://{host}/{unit}")


class FakeSession(
    Readable[FakeEndpoint, FakeAddress],
    Writable[FakeEndpoint, FakeAddress],
    Invocable[FakeEndpoint, FakeAddress],
    Historical[FakeEndpoint, FakeAddress],
):
    """A request per unit."""

    def __init__(self, mapper: FakeMapper, host: str) -> None:
        self._mapper = mapper
        self._host = host

    def reader(self, points: Sequence[Point[FakeEndpoint, FakeAddress]]) -> Reader:
        units: dict[int, list[Point[FakeEndpoint, FakeAddress]]] = {}
        for point in points:
            units.setdefault(point.endpoint.unit, []).append(point)

        async def read() -> AsyncIterator[Batch]:
            self._mapper.polls.append((asyncio.get_running_loop().time(), self._host, len(points)))
            for unit, asked in units.items():
                for batch in await self._read_unit(unit, asked):
                    yield batch

        return read

    async def _read_unit(self, unit: int, points: Sequence[Point[FakeEndpoint, FakeAddress]]) -> list[Batch]:
        fake = self._mapper
        if self._host in fake.down:
            raise LinkError(f"{self._host} closed the connection")
        if self._host in fake.broken:
            raise fake.broken[self._host]
        if (self._host, unit) in fake.silent:
            await asyncio.sleep(fake.timeout_s)
            error = PointError(f"no answer from {self._host} unit {unit}", reason="NoAnswer")
            return [_column(points, [0.0] * len(points), fake.wall_ns(), Quality.NO_ANSWER, error)]
        await asyncio.sleep(0.001)
        keys = {p.slot: (self._host, unit, p.address.key) for p in points}
        refused = [p for p in points if keys[p.slot] in fake.refuse]
        good = [p for p in points if p not in refused]
        batches = [
            _column([p], [0.0], fake.wall_ns(), Quality.REFUSED, fake.refuse[keys[p.slot]]) for p in refused
        ]
        if good:
            values = [float(fake.values.get(keys[p.slot], 0.0)) for p in good]
            batches.append(_column(good, values, fake.wall_ns(), Quality.GOOD, None))
        return batches

    async def write(self, writes: Sequence[Write[FakeEndpoint, FakeAddress]]) -> Sequence[Outcome]:
        fake, outcomes = self._mapper, []
        for write in writes:
            key = (self._host, write.point.endpoint.unit, write.point.address.key)
            if self._host in fake.down:
                raise LinkError(f"{self._host} closed the connection")
            if error := fake.refuse.get(key):
                outcomes.append(Outcome(error=error))
                continue
            fake.written.append((*key, write.value))
            fake.values[key] = write.value  # type: ignore[assignment]
            outcomes.append(Outcome(value=write.value))
        return outcomes

    def lost(self) -> Mapping[str, int]:
        return dict(self._mapper.lost)

    async def invoke(self, invocation: Invocation[FakeEndpoint]) -> Mapping[str, Any]:
        self._mapper.invoked.append((invocation.address.name, dict(invocation.arguments)))
        answer = self._mapper.answers.get(invocation.address.name, {})
        if isinstance(answer, MapperError):
            raise answer
        return answer

    async def history(self, gaps: Sequence[Gap[FakeEndpoint, FakeAddress]]) -> AsyncIterator[Batch]:
        for gap in gaps:
            key = (self._host, gap.point.endpoint.unit, gap.point.address.key)
            self._mapper.asked.append((key[2], gap.begin_ns, gap.end_ns))
            kept = [row for row in self._mapper.past.get(key, ()) if gap.begin_ns < row[0] < gap.end_ns]
            if kept:
                times, values = zip(*kept, strict=True)
                slots = array("I", [gap.point.slot]) * len(kept)
                yield Batch(slots, array("q", times), array("d", values), int(Quality.FROM_HISTORY))


Pushed = tuple[str, float] | tuple[str, Notification] | BaseException
"""(key, value), (event, notification without its notifier), or how the subscription ends."""


class FakePushSession(FakeSession, Notifying[FakeEndpoint, FakeAddress]):
    """Pushes what is put into the host's queue; a point whose key begins with `slow` is polled."""

    def pushes(self, point: Point[FakeEndpoint, FakeAddress]) -> bool:
        return not point.address.key.startswith("slow")

    async def subscribe(
        self,
        points: Sequence[Point[FakeEndpoint, FakeAddress]],
        notifiers: Sequence[Notifier[FakeEndpoint]] = (),
    ) -> AsyncGenerator[Batch | Notification]:
        by_key = {point.address.key: point for point in points}
        by_event = {notifier.event: notifier for notifier in notifiers}
        self._mapper.subscribed.append((self._host, sorted(by_key)))
        self._mapper.heard.append((self._host, sorted(by_event)))
        while True:
            pushed = await self._mapper.pushes[self._host].get()
            if isinstance(pushed, StopAsyncIteration):
                return
            if isinstance(pushed, BaseException):
                raise pushed
            key, value = pushed
            if isinstance(value, Notification):
                if key in by_event:
                    yield replace(value, notifier=by_event[key])
            elif key in by_key:
                yield _column([by_key[key]], [value], self._mapper.wall_ns(), Quality.GOOD, None)


def _column(
    points: Sequence[Point[Any, Any]],
    values: list[float],
    time_ns: int,
    quality: int,
    error: PointError | None,
) -> Batch:
    return Batch(array("I", [p.slot for p in points]), time_ns, array("d", values), int(quality), error)


_TOPICS = Topics(MqttSettings(), "fake")


class FakeSink(Sink):
    """Accepts everything at once and remembers it."""

    epoch = 1

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []  # (device, telemetry payload)
        self.events: list[tuple[str, str, Mapping[str, Any]]] = []
        self.retained: dict[tuple[str, str], Any] = {}
        self.samples = 0
        self.handler: Callable[[Command], Awaitable[None]] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None: ...

    def publish(
        self, records: Sequence[Record], describe: Callable[[int], tuple[str, Sequence[str]]]
    ) -> None:
        for record in records:
            device, names = describe(record.stream)
            self.published.append((device, encode_json(record.body, names)))
            self.samples += record.samples

    def event(self, device: str, topic: str, body: Mapping[str, Any]) -> None:
        self.events.append((device, topic, body))

    def retain(self, device: str, topic: str, body: bytes | Mapping[str, Any] | None) -> None:
        _TOPICS.device(device, topic)
        if body is None:
            self.retained.pop((device, topic), None)
        else:
            self.retained[device, topic] = json.loads(body) if isinstance(body, bytes) else body

    def on_command(self, handler: Callable[[Command], Awaitable[None]]) -> None:
        self.handler = handler

    async def drain(self, timeout_s: float) -> bool:
        return True

    def stats(self) -> SinkStats:
        return SinkStats(True, len(self.published), self.samples, {}, 0, 0, 0, 0, 0.0, 0, None)
