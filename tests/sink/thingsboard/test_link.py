"""Records into messages, and answers to messages into those of records."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from devicemesh.sink.suspects import NEVER
from devicemesh.sink.thingsboard.entries import Bounds, entries, packed
from devicemesh.sink.thingsboard.limits import Limits
from devicemesh.sink.thingsboard.link import GatewayLink, Message
from devicemesh.sink.told import Told


class Wire:
    """Stands in for a connection: keeps what is published."""

    max_packet_bytes = 1 << 28
    congested = False

    def __init__(self) -> None:
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.sent: list[tuple[str, Any]] = []

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> int:
        self.sent.append((topic, json.loads(payload)))
        return len(self.sent)


class Silent:
    """A speaker that has nothing to say of a device."""

    def before(self, name: str) -> Message | None:
        return None

    def news(self, bounds: Bounds) -> Message | None:
        return None

    def spoken(self, name: str) -> None: ...

    def overrun(self) -> None: ...

    def refused(self, name: str, code: int) -> int:
        return code


def record(*values: int) -> bytes:
    return packed(entries([Told("count", value, value) for value in values], Bounds(1 << 16, 1000)))


def linked(scenario: Callable[[GatewayLink, Wire, list[tuple[int, int]]], Any], **limits: int) -> None:
    """Run it with a link, its wire, and what the sender is told: (record, code)."""

    async def run() -> None:
        wire, told = Wire(), []  # type: ignore[var-annotated]
        link = GatewayLink(wire, lambda *one: told.append(one), Silent(), Limits(**limits))  # type: ignore[arg-type]
        await scenario(link, wire, told)

    asyncio.run(run())


def counts(wire: Wire) -> list[list[int]]:
    return [[one["values"]["count"] for one in next(iter(body.values()))] for _, body in wire.sent]


def test_records_of_a_device_go_together_and_are_answered_together() -> None:
    async def scenario(link: GatewayLink, wire: Wire, told: list[tuple[int, int]]) -> None:
        for value in range(3):
            link.publish("v1/gateway/telemetry/a", record(value), retain=False)
            link.publish("v1/gateway/telemetry/b", record(value), retain=False)
        await asyncio.sleep(0)
        assert wire.sent[0][1].keys() == {"a"}
        assert counts(wire) == [[0, 1, 2], [0, 1, 2]]
        link.acknowledged(1, 0)
        assert told == [(1, 0), (3, 0), (5, 0)]

    linked(scenario)


def test_a_record_is_answered_when_all_its_parts_are() -> None:
    async def scenario(link: GatewayLink, wire: Wire, told: list[tuple[int, int]]) -> None:
        link.publish("v1/gateway/telemetry/a", record(*range(5)), retain=False)
        await asyncio.sleep(0)
        assert counts(wire) == [[0, 1], [2, 3], [4]]
        link.acknowledged(1, 0)
        link.acknowledged(3, 0)
        assert told == []
        link.acknowledged(2, 0)
        assert told == [(1, 0)]

    linked(scenario, message_values=2)


def test_what_can_not_be_read_is_found_among_others() -> None:
    async def scenario(link: GatewayLink, wire: Wire, told: list[tuple[int, int]]) -> None:
        for value in range(3):
            link.publish("v1/gateway/telemetry/a", record(value), retain=False)
        await asyncio.sleep(0)
        link.acknowledged(1, 0x99)
        await asyncio.sleep(0)
        assert counts(wire)[1:] == [[0], [1], [2]]
        for identifier, code in ((2, 0), (3, 0x99), (4, 0)):
            link.acknowledged(identifier, code)
        assert told == [(1, 0), (2, NEVER), (3, 0)]

    linked(scenario)


def test_a_record_of_which_two_parts_can_not_be_read_is_there_once() -> None:
    async def scenario(link: GatewayLink, wire: Wire, told: list[tuple[int, int]]) -> None:
        for values in ((0,), (1, 2), (3, 4)):
            link.publish("v1/gateway/telemetry/a", record(*values), retain=False)
        await asyncio.sleep(0)
        assert counts(wire) == [[0, 1], [2, 3], [4]]
        for identifier, code in ((1, 0x99), (2, 0x99), (3, 0)):
            link.acknowledged(identifier, code)
        await asyncio.sleep(0)
        assert sorted(counts(wire)[3:]) == [[0], [2, 1], [3]]
        for identifier in range(4, len(wire.sent) + 1):
            link.acknowledged(identifier, 0)
        assert sorted(told) == [(1, 0), (2, 0), (3, 0)]

    linked(scenario, message_values=2)


def test_what_has_nothing_to_say_is_said() -> None:
    async def scenario(link: GatewayLink, wire: Wire, told: list[tuple[int, int]]) -> None:
        link.publish("v1/gateway/telemetry/a", b"", retain=False)
        await asyncio.sleep(0)
        assert (wire.sent, told) == ([], [(1, 0)])

    linked(scenario)


def test_what_is_refused_takes_its_parts_along() -> None:
    async def scenario(link: GatewayLink, wire: Wire, told: list[tuple[int, int]]) -> None:
        link.publish("v1/gateway/telemetry/a", record(*range(100)), retain=False)
        link.publish("v1/gateway/telemetry/a", record(7), retain=False)
        await asyncio.sleep(0)
        under_way = len(wire.sent)
        assert under_way < 50
        link.acknowledged(1, 0x80)
        assert told == [(1, 0x80)]
        await asyncio.sleep(0)
        assert counts(wire)[under_way:] == [[7]]
        for identifier in range(2, len(wire.sent) + 1):
            link.acknowledged(identifier, 0)
        assert told == [(1, 0x80), (2, 0)]

    linked(scenario, message_values=2)
