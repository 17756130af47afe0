"""Faults in a seeded order under load: everything arrives, in order, and every sample is accounted for."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

import pytest

from devicemesh.testing.broker import RealBroker
from devicemesh.testing.proxy import Proxy

SECONDS = float(os.environ.get("TORTURE_S", "2.5"))
STREAMS = 3


@pytest.mark.skipif("mosquitto" not in RealBroker.available(), reason="needs mosquitto")
@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("seed", [1])
def test_faults_under_load(seed: int, rig: Any, consumer: Any) -> None:
    rng, fate = random.Random(seed), random.Random(seed)
    done: list[str] = []

    async def faults(proxy: Proxy) -> None:
        while True:
            await asyncio.sleep(fate.uniform(0.2, 0.6))
            kind = fate.choice(["cut", "hole", "suspend"]) if done else "cut"
            done.append(kind)
            if kind == "cut":
                proxy.cut()
                continue
            pause = fate.uniform(0.1, 1.2)
            if kind == "hole":
                proxy.hole = True
                await asyncio.sleep(pause)
                proxy.hole = False
            else:
                broker.suspend()
                try:
                    await asyncio.sleep(pause)
                finally:
                    broker.resume()

    async def scenario() -> None:
        async with Proxy(broker.port) as proxy, rig.sink(proxy.url, stall_s=0.7, inflight=100) as sink:
            await rig.up()
            trouble = asyncio.create_task(faults(proxy))
            end = asyncio.get_running_loop().time() + SECONDS
            while asyncio.get_running_loop().time() < end:
                rig.put(rng.randrange(1, 6), streams=STREAMS, size=rng.choice([10, 1000]))
                rig.conserved()
                await asyncio.sleep(0.005)
            trouble.cancel()
            await asyncio.gather(trouble, return_exceptions=True)
            proxy.hole = False
            assert await sink.drain(40), sink.stats()
            rig.conserved()
            stats = sink.stats()
            assert stats.samples_published == stats.samples_taken == rig.sent * STREAMS
            assert len(done) >= 3
            assert stats.reconnects >= 2
            deadline = end + 60
            while any(len(set(seen.bodies(f"pump-{n}"))) < rig.sent for n in range(STREAMS)):
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.05)

    with RealBroker("mosquitto") as broker, consumer(broker.port, "#") as seen:
        asyncio.run(scenario())
    for number in range(STREAMS):
        first = list(dict.fromkeys(seen.bodies(f"pump-{number}")))
        assert first == list(range(rig.sent)), "lost or out of order"
