"""All devices that are reached through one adapter: their connections, and whether their frames are new."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from devicemesh.mapper import AuthError, Secrets
from devicemesh_ble.adapter import Adapter
from devicemesh_ble.advert import Guard, Heard
from devicemesh_ble.counters import Counters, identity
from devicemesh_ble.decode import BlePoint, Listener
from devicemesh_ble.model import BleEndpoint
from devicemesh_ble.peripheral import Peripheral

FLUSH_S = 1.0
"""How often counters are kept: after a crash, frames of this last second could be played back."""


def key_of(endpoint: BleEndpoint, secrets: Secrets) -> Callable[[], bytes] | None:
    """How the device's BTHome key is read when it is needed."""
    ref = endpoint.key
    if ref is None:
        return None

    def key() -> bytes:
        text = secrets(ref)
        try:
            found = bytes.fromhex(text.strip())
        except ValueError:
            found = b""
        if len(found) != 16:
            raise AuthError(f"the secret {ref.name}/{ref.key} is no BTHome key: 32 hexadecimal digits")
        return found

    return key


class Devices:
    """What polls, subscriptions and writes of a session share."""

    def __init__(self, adapter: Adapter, secrets: Secrets, counters: Counters) -> None:
        self.adapter = adapter
        self.peripherals: dict[str, Peripheral] = {}
        self.overrun = 0  # rows that the runtime did not take in time
        self._secrets = secrets
        self._counters = counters
        self._guards: dict[BleEndpoint, Guard] = {}

    def peripheral(self, endpoint: BleEndpoint) -> Peripheral:
        """The one connection to a device."""
        found = self.peripherals.get(endpoint.peer)
        if found is None or found.endpoint != endpoint:
            found = self.peripherals[endpoint.peer] = Peripheral(self.adapter, endpoint)
        return found

    def listener(self, points: Sequence[BlePoint]) -> Listener:
        """What takes the advertisements of one device apart."""
        endpoint = points[0].endpoint
        guard = self._guards.get(endpoint)
        if guard is None:  # its counter outlives a change of what is declared
            guard = self._guards[endpoint] = self._guard(endpoint)
        return Listener(points, guard)

    def _guard(self, endpoint: BleEndpoint) -> Guard:
        key = key_of(endpoint, self._secrets)
        name = ""

        def load(found: bytes) -> Heard | None:
            nonlocal name
            name = identity(endpoint.peer, found)
            return self._counters.load(name)

        def note(heard: Heard) -> None:
            self._counters.note(name, heard)

        return Guard(key, any_counter=endpoint.counter == "any", load=load, note=note)

    async def keeping(self) -> None:
        """Write counters every second, for ever. Raises LinkError."""
        while True:
            await asyncio.sleep(FLUSH_S)
            self._counters.flush()

    async def close(self) -> None:
        """Leave every device."""
        await asyncio.gather(*(one.close() for one in self.peripherals.values()), return_exceptions=True)
