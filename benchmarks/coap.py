"""What a GET and a notification cost over CoAP: `python benchmarks/coap.py`.

A server of a few lines, in a process of its own, answers GETs and sends notifications; the mapper polls one
resource and observes another. Printed is the CPU of the client's process for each, from the socket to
columns, as the median of several rounds; beside it, in turns, aiocoap's client (its default transport, and
its fastest one), which only brings the message. The last line is one of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from devicemesh_coap.model import CoapAddress, CoapEndpoint
from devicemesh_coap.session import CoapSession, open_session

from devicemesh.mapper import Point
from devicemesh.spec.telemetry import Telemetry
from devicemesh.spec.values import ValueType

BODY = b"\xc0\xff21.5"  # Content-Format 0, payload
AHEAD = 32
"""Notifications that are under way before the client's word is waited for."""


def serve() -> None:
    """Answer GETs; a GET with Observe is followed by as many notifications as its query says."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        print(made.getsockname()[1], flush=True)
        while True:
            data, client = made.recvfrom(2048)
            if data[1] == 0:
                if data[0] >> 4 == 4:
                    made.sendto(b"\x70\x00" + data[2:4], client)
                continue
            length = data[0] & 15
            token = data[4 : 4 + length]
            kind = 0x60 if data[0] >> 4 == 4 else 0x50
            head = bytes((kind | length, 0x45))
            query = data.rpartition(b"n=")[2]
            at = 4 + length
            if data[at : at + 1] != b"\x60" or b"n=" not in data:  # no Observe option with value 0
                made.sendto(head + data[2:4] + token + BODY, client)
                continue
            made.sendto(head + data[2:4] + token + b"\x61\x01" + b"\x60\xff0", client)
            notify(made, client, token, int(query))


def notify(made: socket.socket, client: Any, token: bytes, count: int) -> None:
    """Confirmable every AHEAD, so that no buffer overflows; the others are not."""
    for number in range(2, count + 2):
        confirmable = number % AHEAD == 0
        head = bytes(((0x40 if confirmable else 0x50) | len(token), 0x45)) + struct.pack(
            ">H", number & 0xFFFF
        )
        option = number.to_bytes(3, "big")
        made.sendto(head + token + b"\x63" + option + b"\x60\xff" + str(number).encode(), client)
        if confirmable:
            made.recvfrom(2048)


@contextlib.contextmanager
def server() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()


def point(port: int, path: str) -> Any:
    endpoint = CoapEndpoint(uri=f"coap://127.0.0.1:{port}")
    where = CoapAddress(path=path)
    return Point(0, "default/bench", "value", ValueType.FLOAT64, endpoint, where, Telemetry())


async def cpu_us(work: Callable[[], Awaitable[int]]) -> float:
    """Of this process, for each of what `work` counts."""
    before = time.process_time()
    count = await work()
    return (time.process_time() - before) / count * 1e6


async def polled(session: CoapSession, port: int, count: int) -> float:
    reader = session.reader([point(port, "/a")])

    async def work() -> int:
        for _ in range(count):
            async for batch in reader():
                assert batch.value[0] == 21.5
        return count

    return await cpu_us(work)


async def observed(session: CoapSession, port: int, count: int) -> tuple[float, int]:
    """CPU of a notification, and how many did not come."""
    batches = session.subscribe([point(port, f"/a?n={count}")])
    seen = 0

    async def work() -> int:
        nonlocal seen
        async for batch in batches:
            seen += 1
            if batch.value[0] == count + 1:
                return seen
        return seen

    cost = await cpu_us(work)
    await batches.aclose()
    return cost, count + 1 - seen


async def library(transport: str, port: int, count: int) -> float:
    """aiocoap's client, without its blocks."""
    import aiocoap

    logging.getLogger("coap").setLevel(logging.CRITICAL)
    context = await aiocoap.Context.create_client_context(transports=[transport])

    async def work() -> int:
        for _ in range(count):
            message = aiocoap.Message(code=aiocoap.GET, uri=f"coap://127.0.0.1:{port}/a")
            assert (await context.request(message, handle_blockwise=False).response).payload == b"21.5"
        return count

    cost = await cpu_us(work)
    await context.shutdown()
    return cost


async def measure(options: argparse.Namespace) -> None:
    gets, notes, lost = [], [], 0
    others: dict[str, list[float]] = {"udp6": [], "simple6": []}
    with server() as port:
        for _ in range(options.rounds):
            async with open_session(CoapEndpoint(uri=f"coap://127.0.0.1:{port}")) as session:
                gets.append(await polled(session, port, options.gets))
                cost, missing = await observed(session, port, options.notifications)
                notes.append(cost)
                lost += missing
            for transport, costs in others.items():
                costs.append(await library(transport, port, options.gets))
    found = {
        "get_us": round(statistics.median(gets), 1),
        "notification_us": round(statistics.median(notes), 1),
        "notifications_lost": lost,
        "aiocoap_udp6_get_us": round(statistics.median(others["udp6"]), 1),
        "aiocoap_simple6_get_us": round(statistics.median(others["simple6"]), 1),
    }
    found["get_to_simple6"] = round(found["get_us"] / found["aiocoap_simple6_get_us"], 2)
    print(f"GET           {found['get_us']:7} us CPU  (aim: 250)")
    print(f"notification  {found['notification_us']:7} us CPU  (aim: 150), {lost} lost")
    for transport, costs in others.items():
        print(f"aiocoap GET   {statistics.median(costs):7.1f} us CPU  {transport}")
    print(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gets", type=int, default=2000)
    parser.add_argument("--notifications", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
    else:
        asyncio.run(measure(options))


if __name__ == "__main__":
    main()
