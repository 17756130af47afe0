"""A fast Modbus TCP server for benchmarks: many ports, functions 3 and 4, registers that change.

Prints one line of JSON with what it served when it is told to stop.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import struct

SERVED = {"requests": 0, "registers": 0}
MEMORY = bytearray(2 * 1024)


class Connection(asyncio.Protocol):
    """One client; several requests in one segment are answered in one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        at, answers = 0, []
        while len(data) - at >= 12:
            transaction, _, length, unit, function, first, count = struct.unpack_from(">HHHBBHH", data, at)
            size = 2 * count
            answers.append(struct.pack(">HHHBBB", transaction, 0, size + 3, unit, function, size))
            answers.append(MEMORY[2 * first : 2 * first + size])
            SERVED["requests"] += 1
            SERVED["registers"] += count
            at += 6 + length
        self._rest = data[at:]
        self._transport.write(b"".join(answers))  # type: ignore[attr-defined]


def change(step: int) -> None:
    """New values everywhere: nothing downstream can get by with the old ones."""
    for register in range(len(MEMORY) // 2):
        struct.pack_into(">H", MEMORY, 2 * register, (register * 7 + step) & 0x7FFF)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ports", type=int, default=1)
    options = parser.parse_args()
    loop, stop, step = asyncio.get_running_loop(), asyncio.Event(), 0
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    for offset in range(options.ports):
        await loop.create_server(Connection, "127.0.0.1", options.port + offset)
    print("ready", flush=True)
    while not stop.is_set():
        change(step := step + 1)
        try:
            await asyncio.wait_for(stop.wait(), 0.2)
        except TimeoutError:
            continue
    print(json.dumps(SERVED), flush=True)


asyncio.run(main())
