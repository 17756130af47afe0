"""Simulated modems: each dials in to where the runtime listens, and again whenever it is cut off."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping
from functools import partial

from devicemesh_modbus.endpoint import ModbusEndpoint

from devicemesh.mapper import listening_at
from devicemesh.testing.simulator import place
from devicemesh_simulators.modbus_line import Line, Stream

REDIAL = "redial"
AGAIN_S = 0.5
"""After which it dials again."""
HEARTBEAT_S = 10.0
"""How often it says again who it is, as many modems do."""


class _Call(Stream):
    """A connection of a modem."""

    def __init__(self, line: Line, connections: set[asyncio.Transport], over: asyncio.Event) -> None:
        super().__init__(line, connections)
        self._over = over

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._over.set()


class Modem:
    """One modem, and the units behind it."""

    def __init__(self, line: Line, who: bytes | int) -> None:
        """`who`: what it says first, or the unit that it is known by: then it says nothing."""
        self._line = line
        self._says = who if isinstance(who, bytes) else b""
        self._connections: set[asyncio.Transport] = set()
        self._call: _Call | None = None  # the newest
        self._over = asyncio.Event()  # that call is over

    def redial(self) -> None:
        """Dial in anew without hanging up, as after a change of the radio cell."""
        if self._call is not None:
            self._call.deaf = True
        self._over.set()

    async def run(self, address: tuple[str, int]) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._over = over = asyncio.Event()
                with contextlib.suppress(OSError):
                    transport, self._call = await loop.create_connection(partial(self._dial, over), *address)
                    await self._stay(transport, over)
                await asyncio.sleep(AGAIN_S)
        finally:
            for transport in self._connections:
                transport.abort()
            await asyncio.sleep(0)  # an aborted connection is closed in the next round of the loop

    def _dial(self, over: asyncio.Event) -> _Call:
        return _Call(self._line, self._connections, over)

    async def _stay(self, transport: asyncio.Transport, over: asyncio.Event) -> None:
        """Say who it is, again and again, until the call is over."""
        while not over.is_set():
            if self._says and not self._unplugged:
                transport.write(self._says)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await over.wait()

    @property
    def _unplugged(self) -> bool:
        return all(bank.faults.drop >= 1 for bank in self._line.units.values())


@contextlib.asynccontextmanager
async def dialling(
    endpoint: ModbusEndpoint, modems: Mapping[bytes | int, Modem], host: str
) -> AsyncIterator[str]:
    """Let all modems of a port dial in; yields where the runtime is to listen."""
    at, port = place(listening_at(endpoint.listen or ""), host)
    port = port or _free_port(at)
    tasks = [asyncio.create_task(modem.run((at, port))) for modem in modems.values()]
    try:
        yield f"[{at}]:{port}" if ":" in at else f"{at}:{port}"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
