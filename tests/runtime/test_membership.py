"""Replicas among each other, in virtual time: no device has two owners, whatever stops, dies or is cut off."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devicemesh.runtime.fence import Fence
from devicemesh.runtime.membership import Membership
from devicemesh.runtime.shards import Placement, Want
from devicemesh.store.lease import Lease, LeaseLostError, Leases
from devicemesh.testing.clock import run_virtual
from devicemesh.testing.leases import MemoryLeases

WANTS = [Want(("modbus", f"10.0.0.{n}:502"), {}, "modbus") for n in range(40)]
LEASE_S = 8
T = TypeVar("T")


class Gate(Leases):
    """One replica's way to the registry; it can be cut, and its answers held back."""

    def __init__(self, registry: MemoryLeases) -> None:
        self._registry = registry
        self.open = asyncio.Event()
        self.open.set()

    async def _through(self, call: Callable[[], Awaitable[T]]) -> T:
        await self.open.wait()
        answer = await call()
        await self.open.wait()
        return answer

    async def list(self) -> tuple[Sequence[Lease], int]:
        return await self._through(self._registry.list)

    async def put(self, lease: Lease) -> Lease:
        return await self._through(lambda: self._registry.put(lease))

    async def remove(self, lease: Lease) -> None:
        await self._through(lambda: self._registry.remove(lease))

    async def next_epoch(self) -> int:
        return await self._through(self._registry.next_epoch)


class Replica:
    def __init__(self, name: str, registry: MemoryLeases, home: str = "") -> None:
        self.name = name
        self.gate = Gate(registry)
        self.fence = Fence(asyncio.get_running_loop().time)
        self.placement: Placement | None = None
        self.epochs: list[int] = []
        self.closing_s = 0.02
        me = Lease(name, home or f"{name}-home", LEASE_S, {}, frozenset({"modbus"}))
        self.membership = Membership(self.gate, me, self.fence, self._place)
        self._task = asyncio.create_task(self.membership.run())

    async def _place(self, placement: Placement) -> None:
        await asyncio.sleep(self.closing_s)  # until then the links that are given up may still write
        self.placement = placement
        if placement.epoch is not None and placement.epoch not in self.epochs:
            self.epochs.append(placement.epoch)

    def serves(self, want: Want) -> bool:
        """Whether a write to it would go out now."""
        return self.fence.holds() and self.placement is not None and self.placement.verdict(want) == "mine"

    def share(self) -> int:
        return sum(self.serves(want) for want in WANTS)

    async def die(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})
        self.fence.shut()

    async def leave(self) -> None:
        await self.die()
        await self.membership.leave()


class World:
    def __init__(self) -> None:
        self.registry = MemoryLeases()
        self.replicas: dict[str, Replica] = {}
        self.clock = asyncio.get_running_loop().time

    def start(self, name: str, home: str = "") -> Replica:
        self.replicas[name] = found = Replica(name, self.registry, home)
        return found

    def check(self) -> None:
        for want in WANTS:
            owners = [one.name for one in self.replicas.values() if one.serves(want)]
            assert len(owners) <= 1, f"{want.link} is served by {owners} at {self.clock():.2f} s"

    async def run(self, seconds: float) -> None:
        """Go on, and look all the time."""
        end = self.clock() + seconds
        while self.clock() < end:
            await asyncio.sleep(0.05)
            self.check()

    async def whole(self, seconds: float = 30.0) -> float:
        """Until everything is served again; returns the seconds it took."""
        start = self.clock()
        while sum(one.share() for one in self.replicas.values()) < len(WANTS):
            assert self.clock() - start < seconds, "not everything is served again"
            await self.run(0.05)
        return self.clock() - start

    async def end(self) -> None:
        for one in self.replicas.values():
            await one.die()


def play(scene: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        world = World()
        try:
            await scene(world)
        finally:
            await world.end()

    run_virtual(main())


def test_one_alone_serves_at_once() -> None:
    async def scene(world: World) -> None:
        world.start("a")
        assert await world.whole() < 1

    play(scene)


def test_one_that_joins_gets_its_share_and_no_more_moves() -> None:
    async def scene(world: World) -> None:
        a = world.start("a")
        await world.whole()
        b = world.start("b")
        while not b.share():
            await world.run(0.1)
        assert world.clock() < 6
        await world.whole()
        assert a.share() + b.share() == len(WANTS)
        assert b.share() > 10 and a.share() > 10

    play(scene)


def test_one_that_dies_leaves_its_devices_within_its_lease() -> None:
    async def scene(world: World) -> None:
        for name in "abc":
            world.start(name)
        await world.whole()
        await world.run(20)
        a = world.replicas["a"]
        await a.die()
        took = await world.whole()
        assert LEASE_S * 0.75 < took < LEASE_S + 2.5
        assert set(world.registry.kept) == {"b", "c"}

    play(scene)


def test_one_that_leaves_hands_over_at_once() -> None:
    async def scene(world: World) -> None:
        a = world.start("a")
        world.start("b")
        await world.whole()
        await world.run(5)
        await a.leave()
        assert await world.whole() < 3

    play(scene)


def test_one_that_is_stopped_and_goes_on_does_so_under_a_new_epoch() -> None:
    async def scene(world: World) -> None:
        a, b = world.start("a"), world.start("b")
        await world.whole()
        await world.run(5)
        before = list(a.epochs)
        a.gate.open.clear()
        await world.run(LEASE_S * 0.81)
        assert a.share() == 0, "it stops before its Lease ends"
        assert b.share() < len(WANTS), "and nobody takes over before"
        await world.run(LEASE_S)
        assert b.share() == len(WANTS)
        a.gate.open.set()
        while not a.share():
            await world.run(0.1)
        await world.whole()
        assert a.epochs[-1] > max(b.epochs[0], *before)

    play(scene)


def test_without_the_api_server_all_stop_and_go_on_soon_after() -> None:
    async def scene(world: World) -> None:
        replicas = [world.start(name) for name in "abc"]
        await world.whole()
        await world.run(5)
        world.registry.away = True
        await world.run(60)
        assert not any(one.share() for one in replicas)
        world.registry.away = False
        assert await world.whole() < 3, "nobody took over meanwhile: nobody has to wait"

    play(scene)


def test_a_short_outage_is_not_noticed() -> None:
    async def scene(world: World) -> None:
        a, b = world.start("a"), world.start("b")
        await world.whole()
        await world.run(5)
        shares = a.share(), b.share()
        world.registry.away = True
        await world.run(LEASE_S * 0.5)
        world.registry.away = False
        assert (a.share(), b.share()) == shares
        await world.run(LEASE_S)
        assert (a.share(), b.share()) == shares
        assert len(a.epochs) == len(set(a.epochs)) <= 2

    play(scene)


def test_a_restart_of_the_same_home_takes_its_lease_up_at_once() -> None:
    async def scene(world: World) -> None:
        a = world.start("a")
        world.start("b")
        await world.whole()
        await world.run(5)
        await a.die()
        world.start("a")
        assert await world.whole() < 3

    play(scene)


def test_two_of_one_name_are_never_both_there(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(world: World) -> None:
        a = world.start("a")
        await world.whole()
        await world.run(3)
        twin = Replica("a", world.registry, "another home")
        world.replicas["twin"] = twin
        await world.run(30)
        assert a.share() == len(WANTS) and twin.share() == 0
        await a.die()
        assert await world.whole() < LEASE_S + 4

    play(scene)
    assert "every replica needs an `instance` of its own" in caplog.text


def test_what_was_given_up_to_one_that_died_while_it_joined_is_taken_back() -> None:
    async def scene(world: World) -> None:
        world.start("a")
        await world.whole()
        b = world.start("b")
        while "b" not in world.registry.kept:
            await world.run(0.05)
        await b.die()
        await world.run(3)
        await world.whole(LEASE_S + 5)

    play(scene)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_no_device_has_two_owners_whatever_happens(seed: int) -> None:
    """A random history of stops, deaths, restarts, outages and slow answers; epochs only grow."""

    async def scene(world: World) -> None:
        rng = random.Random(seed)
        served: dict[tuple[str, str], int] = {}
        for _ in range(25):
            name = rng.choice("abcd")
            one = world.replicas.get(name)
            act = rng.choice(["start", "start", "stop", "die", "leave", "server", "slow", "stuck", "wait"])
            if act == "start" and one is None:
                world.start(name)
            elif act == "stop" and one is not None:
                one.gate.open.clear() if one.gate.open.is_set() else one.gate.open.set()
            elif act in ("die", "leave") and one is not None:
                del world.replicas[name]
                await (one.die() if act == "die" else one.leave())
            elif act == "server":
                world.registry.away = not world.registry.away
            elif act == "stuck" and one is not None:
                one.closing_s = rng.choice([0.02, 0.02, 1.0, 6.0])
            elif act == "slow":
                world.registry.delay_s = rng.choice([0.01, 0.3, 1.5])
            await world.run(rng.choice([0.2, 1, 3, 9]))
            for want in WANTS:
                for found in world.replicas.values():
                    if found.serves(want):
                        assert found.placement is not None and found.placement.epoch is not None
                        assert served.get(want.link, 0) <= found.placement.epoch
                        served[want.link] = found.placement.epoch
        world.registry.away, world.registry.delay_s = False, 0.01
        for one in world.replicas.values():
            one.gate.open.set()
            one.closing_s = 0.02
        if world.replicas:
            await world.whole(4 * LEASE_S)

    play(scene)


def test_leases_are_compared_by_version() -> None:
    async def scene(world: World) -> None:
        lease = await world.registry.put(Lease("a", "a", LEASE_S))
        await world.registry.put(lease)
        with pytest.raises(LeaseLostError):
            await world.registry.remove(lease)

    play(scene)
