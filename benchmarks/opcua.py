"""What a change costs over OPC UA: `python benchmarks/opcua.py`.

A server (asyncua) in a process of its own holds `--items` variables and writes rising numbers into all of
them; the mapper subscribes them on one session. Printed are the changes that came, those that are missing,
and the CPU of the client's process for each, from the socket to columns; then the same for polling.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from devicemesh_opcua.model import OpcUaAddress, OpcUaEndpoint
from devicemesh_opcua.session import OpcUaSession, open_session

from devicemesh.mapper import Point
from devicemesh.spec.telemetry import Telemetry
from devicemesh.spec.values import ValueType

SPACE = "urn:devicemesh:benchmark"
POLLS = 20


async def serve(items: int, turns: int, period_s: float) -> None:
    """Print the port; at each line on the input write all items `turns` times."""
    from asyncua import Server, ua

    logging.disable(logging.CRITICAL)
    server: Any = Server()
    await server.init()
    server.set_endpoint("opc.tcp://127.0.0.1:0/")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace(SPACE)
    nodes = []
    for number in range(items):
        if number % 100 == 0:
            folder = await server.nodes.objects.add_object(index, f"folder{number}")
        name = ua.NodeId(f"item{number}", index)
        nodes.append((await folder.add_variable(name, f"{index}:item{number}", 0.0)).nodeid)
    async with server:
        print(server.bserver._server.sockets[0].getsockname()[1], flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            for turn in range(1, turns + 1):
                started = time.monotonic()
                for node in nodes:
                    value = ua.DataValue(ua.Variant(float(turn), ua.VariantType.Double))
                    await server.write_attribute_value(node, value)
                await asyncio.sleep(max(0.01, period_s - (time.monotonic() - started)))


@contextlib.contextmanager
def server(options: argparse.Namespace) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [
        sys.executable,
        __file__,
        "--serve",
        "--items",
        str(options.items),
        "--turns",
        str(options.turns),
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    try:
        yield process, int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()


async def subscribed(session: OpcUaSession, points: list[Any], turns: int, begin: Any) -> None:
    items = len(points)
    last = [-1.0] * items
    changes, lost = 0, 0.0
    batches = session.subscribe(points)
    async for batch in batches:
        for slot, value in zip(batch.slot, batch.value, strict=True):
            last[slot] = value
        changes += len(batch.slot)
        if changes == items:
            break
    changes, cpu, started = 0, time.process_time(), time.monotonic()
    begin()
    counting = 0.0
    async for batch in batches:
        changes += len(batch.slot)
        before = time.process_time()  # the proof that nothing is lost is not the mapper's work
        for slot, value in zip(batch.slot, batch.value, strict=True):
            lost += value - last[slot] - 1
            last[slot] = value
        counting += time.process_time() - before
        if min(last) == turns:
            break
    await batches.aclose()
    spent, took = time.process_time() - cpu - counting, time.monotonic() - started
    print(f"subscribed  {items:6} items  {changes:8} changes  {lost:6.0f} lost  "
          f"{changes / took:9.0f} /s  {spent / changes * 1e6:6.2f} us CPU a change")  # fmt: skip


async def polled(session: OpcUaSession, points: list[Any]) -> None:
    reader = session.reader(points)
    async for _ in reader():
        pass
    best = math.inf
    for _ in range(POLLS):
        cpu, rows = time.process_time(), 0
        async for batch in reader():
            rows += len(batch.slot)
        best = min(best, (time.process_time() - cpu) / rows)
    print(f"polled      {len(points):6} items  {best * 1e6:6.2f} us CPU a value, best of {POLLS} polls")


async def measure(options: argparse.Namespace) -> None:
    with server(options) as (process, port):
        endpoint = OpcUaEndpoint(
            url=f"opc.tcp://127.0.0.1:{port}", publishing_interval="100ms", timeout="30s"
        )
        telemetry = Telemetry(sampling_interval="100ms")
        points = [
            Point(i, "default/server", f"item{i}", ValueType.FLOAT64, endpoint,
                  OpcUaAddress(node=f"nsu={SPACE};s=item{i}"), telemetry)
            for i in range(options.items)
        ]  # fmt: skip

        def begin() -> None:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()

        async with open_session(endpoint) as session:
            await subscribed(session, points, options.turns, begin)
            await polled(session, points)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    asyncio.run(serve(options.items, options.turns, 0.2) if options.serve else measure(options))


if __name__ == "__main__":
    main()
