"""What a message costs on its way out: outbox (gentle), encoding, MQTT 5 QoS 1 to a real broker.

    python benchmarks/sink_quick.py [--seconds 5] [--rate 2000] [--bytes 1500] [--batch 10] [--profile FILE]

Prints one line of JSON: CPU microseconds of this process per message (minus an idle loop's), its resident
memory, and how late the last message was. Records are real ones, made by the C core.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import resource
import tempfile
import time
from array import array
from pathlib import Path

from devicemesh.aggregate import Aggregator, Record, Series
from devicemesh.mapper import Batch
from devicemesh.settings import MqttSettings, OutboxSettings
from devicemesh.sink.mqtt import MqttSink
from devicemesh.testing.broker import RealBroker

NAMES = [f"property_{index}" for index in range(20)]


def make_records(count: int, size: int) -> list[Record]:
    """One record per stream whose JSON has about `size` bytes."""
    aggregator = Aggregator(1)
    for stream in range(count):
        for index, name in enumerate(NAMES):
            aggregator.define(Series(stream * len(NAMES) + index, stream, name))
    now = time.time_ns()
    aggregator.advance(now)
    for row in range(max(1, size // 500)):
        for stream in range(count):
            first = stream * len(NAMES)
            slots = array("I", range(first, first + len(NAMES)))
            values = array("d", (index + row * 0.1 + stream * 0.37 for index in range(len(NAMES))))
            aggregator.push(Batch(slots, now + row * 10**6, values))
    return aggregator.take()


async def measure(arguments: argparse.Namespace, url: str, home: Path) -> dict[str, float]:
    records = make_records(arguments.batch, arguments.bytes)
    sink = MqttSink(MqttSettings(url=url), OutboxSettings(), home, "bench")
    async with sink:
        while not sink.stats().up:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        tick = arguments.batch / arguments.rate
        idle = await pace(lambda: None, tick, 1.0)
        before = time.process_time()
        profile = cProfile.Profile() if arguments.profile else None
        if profile:
            profile.enable()
        sent = await pace(lambda: sink.publish(records, describe), tick, arguments.seconds)
        started = time.perf_counter()
        drained = await sink.drain(10)
        if profile:
            profile.disable()
            profile.dump_stats(arguments.profile)
        cpu = time.process_time() - before
        stats = sink.stats()
    idle_cpu = idle[1] / idle[0] * sent[0]
    messages = sent[0] * arguments.batch
    assert drained and stats.samples_published == stats.samples_taken
    return {
        "messages": messages,
        "cpu_us_per_message": round((cpu - idle_cpu) / messages * 1e6, 1),
        "cpu_us_with_pacing": round(cpu / messages * 1e6, 1),
        "messages_per_s": round(messages / (arguments.seconds + time.perf_counter() - started)),
        "record_bytes": sum(len(each.body) for each in records) // len(records),
        "drain_ms": round((time.perf_counter() - started) * 1e3, 1),
        "max_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def describe(stream: int) -> tuple[str, list[str]]:
    return f"default/device-{stream}", NAMES


async def pace(work: object, tick: float, seconds: float) -> tuple[int, float]:
    """Call `work` every `tick` seconds; return how often, and the CPU seconds that took."""
    assert callable(work)
    loop, before, count = asyncio.get_running_loop(), time.process_time(), 0
    start = loop.time()
    while loop.time() - start < seconds:
        work()
        count += 1
        await asyncio.sleep(max(0.0, start + count * tick - loop.time()))
    return count, time.process_time() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rate", type=float, default=2000)
    parser.add_argument("--bytes", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--profile")
    arguments = parser.parse_args()
    with RealBroker() as broker, tempfile.TemporaryDirectory() as home:
        print(json.dumps(asyncio.run(measure(arguments, broker.url, Path(home)))))


if __name__ == "__main__":
    main()
