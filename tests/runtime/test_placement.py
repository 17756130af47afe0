"""Two runtimes that share devices, on fakes and in virtual time: who reads, who writes, who speaks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from devicemesh.runtime.fence import Fence
from devicemesh.runtime.runtime import Runtime
from devicemesh.runtime.shards import HOSTNAME, Alone, OnNode
from devicemesh.settings import Settings, ShardSettings, StoreSettings
from devicemesh.sink.base import Command
from devicemesh.store.base import Key
from devicemesh.testing.fake import FakeMapper, FakeSink
from devicemesh.testing.leases import MemoryLeases

Play = Callable[[Any], None]
SPEED = {
    "name": "speed",
    "access": "ReadWrite",
    "telemetry": {"samplingInterval": "100ms", "report": "every"},
}
HOSTS = [f"h{number}" for number in range(8)]


class Sink(FakeSink):
    """Also remembers what it was to forget."""

    def __init__(self) -> None:
        super().__init__()
        self.removed: list[str] = []
        self.released: list[str] = []

    def retain(self, device: str, topic: str, body: Any) -> None:
        super().retain(device, topic, body)
        if body is None:
            self.removed.append(device)

    def release(self, device: str) -> None:
        self.released.append(device)


class Replica:
    """A runtime on the world's store; its own way to the same devices."""

    def __init__(self, world: Any, name: str, leases: MemoryLeases, home: Path, **shards: Any) -> None:
        self.mapper = FakeMapper(world.wall_ns)
        self.sink = Sink()
        self.fence = Fence(world.loop.time)
        (home / name).mkdir()
        settings = Settings(
            home=home / name,
            instance=name,
            status_interval_s=1.0,
            store=StoreSettings(kind="kubernetes"),
            shards=ShardSettings(mode="shared", **shards),
        )
        self.runtime = Runtime(
            settings, world.store, self.sink, {"fake": self.mapper}, rng=random.Random(1),
            leases=leases, fence=self.fence,
        )  # fmt: skip
        self.runtime.pipeline.wall_ns = world.wall_ns

    def served(self) -> set[str]:
        return {key.name for key in self.runtime.supervisor.devices}

    async def polled(self, seconds: float = 3.0) -> set[str]:
        """The hosts that it asks."""
        before = len(self.mapper.polls)
        await asyncio.sleep(seconds)
        return {host for _, host, _ in self.mapper.polls[before:]}


@contextlib.asynccontextmanager
async def two(world: Any, home: Path, **shards: Any) -> AsyncIterator[tuple[Replica, Replica]]:
    """Both serve their shares."""
    leases = MemoryLeases()
    a, b = (Replica(world, name, leases, home, **shards) for name in "ab")
    world.leases = leases
    async with a.runtime, b.runtime:
        await asyncio.sleep(10)
        yield a, b


async def factory(world: Any, **spec: Any) -> None:
    await world.model(SPEED)
    for host in HOSTS:
        await world.device(f"at-{host}", host=host, **spec)


def test_every_device_is_read_by_one_and_published_by_one(play: Play, tmp_path: Path) -> None:
    async def scene(world: Any) -> None:
        await factory(world)
        await world.device("neighbour", host="h0", unit=2)
        async with two(world, tmp_path) as (a, b):
            assert a.served() | b.served() == {f"at-{host}" for host in HOSTS} | {"neighbour"}
            assert not a.served() & b.served() and a.served() and b.served()
            assert ("at-h0" in a.served()) == ("neighbour" in a.served())
            assert not await a.polled() & await b.polled()
            names = [{device for device, _ in one.sink.published[-50:]} for one in (a, b)]
            assert not names[0] & names[1]
            for one in (a, b):
                for name in one.served():
                    assert (await world.status(Key("Device", "default", name)))["shard"] == (
                        one.runtime.settings.instance
                    )

    play(scene)


def test_what_moves_is_neither_removed_nor_said_again_by_who_gave_it_up(play: Play, tmp_path: Path) -> None:
    async def scene(world: Any) -> None:
        await factory(world)
        leases = MemoryLeases()
        a, b = (Replica(world, name, leases, tmp_path) for name in "ab")
        async with a.runtime:
            await asyncio.sleep(10)
            assert len(a.served()) == len(HOSTS)
            before = {device: epoch_of(a, device) for device in a.served()}
            async with b.runtime:
                await asyncio.sleep(10)
                moved = b.served()
                assert moved and a.served() | moved == set(before)
                assert a.sink.removed == []
                assert {name.removeprefix("default/") for name in a.sink.released} == moved
                for name in moved:
                    assert epoch_of(b, name) > before[name]
                for name in a.served():
                    assert epoch_of(a, name) == before[name], "what stays goes on in its epoch"
                key = Key("Device", "default", sorted(moved)[0])
                await world.store.delete(key)
                await asyncio.sleep(1)
                assert b.sink.removed and not a.sink.removed, "its owner says that it is gone"
            await asyncio.sleep(10)
            assert len(a.served()) == len(HOSTS) - 1

    play(scene)


def epoch_of(replica: Replica, name: str) -> int:
    """The epoch that a device was published under last."""
    return int(
        next(json.loads(b) for d, b in reversed(replica.sink.published) if d == f"default/{name}")["epoch"]
    )


def test_without_its_lease_nothing_is_read_written_published_or_answered(play: Play, tmp_path: Path) -> None:
    async def scene(world: Any) -> None:
        await factory(world)
        async with two(world, tmp_path) as (a, b):
            name = sorted(a.served())[0]
            world.leases.away = True
            await asyncio.sleep(8)
            published = len(a.sink.published), len(b.sink.published)
            assert a.served() == b.served() == set()
            assert await a.polled() == await b.polled() == set()
            assert a.sink.handler is not None
            await a.sink.handler(Command("desired", f"default/{name}", "", {"speed": 5}))
            await asyncio.sleep(30)
            assert (len(a.sink.published), len(b.sink.published)) == published
            assert a.mapper.written == [] and a.sink.events == []
            for one in (a, b):
                samples = one.runtime.samples()
                assert samples["read"] == samples["published"] + sum(samples["dropped"].values())
            world.leases.away = False
            await asyncio.sleep(5)
            assert len(a.served() | b.served()) == len(HOSTS)

    play(scene)


def test_a_write_asks_the_fence_each_time(play: Play, tmp_path: Path) -> None:
    """The process was stopped between two values of one device."""

    async def scene(world: Any) -> None:
        await world.model(SPEED, {"name": "level", "access": "ReadWrite"})
        await world.device("pump-1")
        async with two(world, tmp_path) as (a, b):
            one = a if a.served() else b
            link = next(iter(one.runtime.supervisor.links.values()))
            asked = iter([True, False])
            link.writeback.fence = lambda: next(asked, False)
            done = link.writeback.command("default/pump-1", [("speed", 1.0), ("level", 2.0)])
            result = await done
            assert [w[2:] for w in one.mapper.written] == [("speed", 1.0)]
            assert {attempt.reason for attempt in result.values()} == {"LeaseLost"}

    play(scene)


def test_only_the_owner_answers_commands(play: Play, tmp_path: Path) -> None:
    async def scene(world: Any) -> None:
        await factory(world)
        async with two(world, tmp_path) as (a, b):
            name = sorted(a.served())[0]
            for one in (a, b):
                assert one.sink.handler is not None
                await one.sink.handler(Command("desired", f"default/{name}", "", {"speed": 5}))
            await asyncio.sleep(2)
            assert [body["state"] for _, _, body in a.sink.events] == ["applied"]
            assert b.sink.events == [] and b.mapper.written == []

    play(scene)


def test_a_selector_places_and_who_finds_no_runtime_says_so(play: Play, tmp_path: Path) -> None:
    async def scene(world: Any) -> None:
        await factory(world, nodeSelector={"site": "north"})
        lost = await world.device("lost", host="h9", nodeSelector={"site": "east"})
        torn = await world.device("torn", host="h0", unit=2, nodeSelector={"site": "south"})
        pinned = await world.device("pinned", host="h8", nodeSelector={HOSTNAME: "edge-7"})
        leases = MemoryLeases()
        a = Replica(world, "a", leases, tmp_path, labels={"site": "north"})
        b = Replica(world, "b", leases, tmp_path, labels={"site": "south"})
        async with a.runtime, b.runtime:
            await asyncio.sleep(10)
            assert a.served() == {f"at-{host}" for host in HOSTS[1:]}
            assert b.served() == set()
            assert (await world.condition(lost, "Ready"))["message"] == (
                "no live runtime speaks fake and has the labels site=east"
            )
            assert (await world.condition(torn, "Ready"))["reason"] == "SelectorConflict"
            assert await world.status(pinned) == {}, "its node's runtime speaks for it"
            await world.device("torn", host="h0", unit=2, nodeSelector={"site": "north"})
            await asyncio.sleep(5)
            assert {"torn", "at-h0"} <= a.served()
            c = Replica(world, "c", leases, tmp_path, labels={"site": "east"})
            async with c.runtime:
                await asyncio.sleep(10)
                assert c.served() == {"lost"}
                assert (await world.condition(lost, "Ready"))["status"] == "True"

    play(scene)


@pytest.mark.parametrize(
    ("placement", "served"),
    [
        (Alone({}), {"free"}),
        (Alone({"site": "north"}), {"free", "north"}),
        (OnNode({HOSTNAME: "edge-7"}), {"pinned"}),
        (OnNode({HOSTNAME: "edge-7", "site": "north"}), {"pinned", "both"}),
    ],
)
def test_who_shares_nothing_serves_by_labels(play: Play, placement: Any, served: set[str]) -> None:
    async def scene(world: Any) -> None:
        await world.model(SPEED)
        await world.device("free", host="h1")
        await world.device("north", host="h2", nodeSelector={"site": "north"})
        await world.device("pinned", host="h3", nodeSelector={HOSTNAME: "edge-7"})
        await world.device("both", host="h4", nodeSelector={HOSTNAME: "edge-7", "site": "north"})
        await world.runtime.supervisor.place(placement)
        async with world.running():
            await asyncio.sleep(3)
            found = {key.name for key in world.runtime.supervisor.devices}
            assert found == served | ({"pinned"} & served)

    play(scene)
