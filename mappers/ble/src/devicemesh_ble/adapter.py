"""One radio: its scanner, which runs for as long as the session, and its slots for connections."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from bleak import BleakClient, BleakScanner
from bleak.backends.client import BaseBleakClient
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, BaseBleakScanner
from bleak.exc import BleakError

from devicemesh.mapper import ConfigError, LinkError
from devicemesh_ble.advert import Advert
from devicemesh_ble.model import BUMBLE, BleEndpoint
from devicemesh_ble.uri import is_bumble

RESTARTS = 3
"""After so many scanners in a row that heard nothing at all the radio counts as dead."""
MAX_SEEN = 4096
"""Devices that are remembered, whoever they are; beyond it the one not heard for longest is forgotten."""


class Adapter:
    """What sessions and discovery share. Made by `open_adapter`."""

    def __init__(self, endpoint: BleEndpoint, backends: tuple[Any, Any], options: dict[str, Any]) -> None:
        self.name = endpoint.adapter
        self.slots = asyncio.Semaphore(endpoint.slots)
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.seen: dict[str, tuple[BLEDevice, Advert]] = {}
        self.restarts = 0
        self._scanner_type: type[BaseBleakScanner] = backends[0]
        self._client_type: type[BaseBleakClient] = backends[1]
        self._options = options
        self._mode = endpoint.scanning
        self._silence_s = endpoint.silence_s
        self._listeners: dict[str, list[Callable[[Advert], None]]] = {}
        self._every: list[Callable[[Advert], None]] = []
        self._bearers: dict[
            str, tuple[str, str]
        ] = {}  # of a name that is listened to: the last two addresses
        self._namesakes: dict[str, tuple[str, str, float]] = {}  # and until when two count as two
        self._heard = 0.0

    def fail(self, why: str) -> None:
        """The radio is gone: everything that waits for it ends."""
        if not self.lost.done():
            self.lost.set_exception(LinkError(f"{self.name}: {why}"))
            self.lost.exception()  # it may be that nobody waits

    def check(self) -> None:
        """Raises LinkError when the radio is gone."""
        if self.lost.done():
            self.lost.result()

    @contextlib.contextmanager
    def listening(self, peer: str, heard: Callable[[Advert], None]) -> Iterator[None]:
        """Call `heard` for each advertisement of a device, by its address or name; of all, for `*`."""
        listeners = self._every if peer == "*" else self._listeners.setdefault(peer, [])
        listeners.append(heard)
        try:
            yield
        finally:
            listeners.remove(heard)

    def found(self, peer: str) -> tuple[BLEDevice, Advert] | None:
        """The device of that address, or the one of that name that was heard last."""
        if peer in self.seen:
            return self.seen[peer]
        named = [one for one in self.seen.values() if one[1].name == peer]
        return max(named, key=lambda one: one[1].time_ns, default=None)

    async def find(self, peer: str) -> BLEDevice:
        """The device, as soon as it is heard of. Raises LinkError."""
        known = self.found(peer)
        if known is not None:
            return known[0]
        heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self.listening(peer, lambda _: None if heard.done() else heard.set_result(None)):
            await asyncio.wait({heard, self.lost}, return_when=asyncio.FIRST_COMPLETED)
        self.check()
        found = self.found(peer)
        assert found is not None
        return found[0]

    def client(self, device: BLEDevice, on_disconnect: Callable[[], None], timeout_s: float) -> BleakClient:
        """A client for a device; nothing is sent yet."""
        return BleakClient(
            device,
            lambda _: on_disconnect(),
            timeout=timeout_s,
            backend=self._client_type,
            **self._options,
        )

    def _advertised(self, device: BLEDevice, data: AdvertisementData) -> None:
        """An advertisement; the hot path of scanning."""
        self._heard = asyncio.get_running_loop().time()
        address = device.address.upper()
        name = data.local_name or device.name
        advert = Advert(
            address, data.rssi, time.time_ns(), name, data.tx_power,
            data.manufacturer_data, data.service_data, tuple(data.service_uuids),
        )  # fmt: skip
        self.seen.pop(address, None)  # the dict is in the order of hearing
        self.seen[address] = (device, advert)
        if len(self.seen) > MAX_SEEN:
            del self.seen[next(iter(self.seen))]
        for heard in self._listeners.get(address, ()):
            heard(advert)
        if name is not None and (by_name := self._listeners.get(name)):
            self._borne(name, address)
            for heard in by_name:
                heard(advert)
        for heard in self._every:
            heard(advert)

    def _borne(self, name: str, address: str) -> None:
        """Note who has a name. A device that takes another address does not come back to the old one."""
        last, before = self._bearers.get(name, ("", ""))
        if address == last:
            return
        self._bearers[name] = (address, last)
        if address == before:
            first, second = sorted((address, last))
            self._namesakes[name] = (first, second, self._heard + self._silence_s)

    def namesakes(self, peer: str) -> tuple[str, str] | None:
        """The addresses of two devices that both advertise this name."""
        first, second, until = self._namesakes.get(peer, ("", "", 0.0))
        return (first, second) if until > self._heard else None

    async def _silence(self) -> None:
        """Return once nothing was heard for too long."""
        left = self._silence_s
        while left > 0:
            await asyncio.sleep(left)
            left = self._heard + self._silence_s - asyncio.get_running_loop().time()

    def _patterns(self) -> dict[str, Any]:
        """BlueZ hears passively only what fits a pattern: the flags that devices have, then."""
        if self._mode == "active" or "bluez" not in self._options:
            return {}
        from bleak.args.bluez import OrPattern
        from bleak.assigned_numbers import AdvertisementDataType

        flags = AdvertisementDataType.FLAGS
        patterns = [OrPattern(0, flags, content) for content in (b"\x02", b"\x04", b"\x06", b"\x1a")]
        return {"bluez": {**self._options["bluez"], "or_patterns": patterns}}

    async def scan(self, started: asyncio.Event) -> None:
        """Scan until cancelled; begin anew after silence. Ends by `fail` where that does not help."""
        silent = 0
        loop = asyncio.get_running_loop()
        while True:
            begun = self._heard = loop.time()
            try:
                async with BleakScanner(
                    self._advertised,
                    scanning_mode=self._mode,
                    backend=self._scanner_type,
                    **{**self._options, **self._patterns()},
                ):
                    started.set()
                    await self._silence()
            except (BleakError, OSError, EOFError) as error:
                self.fail(f"scanning failed: {error}")
                return
            finally:
                started.set()
            silent = silent + 1 if self._heard == begun else 0
            self.restarts += 1
            if silent >= RESTARTS:
                self.fail(f"heard nothing at all for {silent * self._silence_s:g} s")
                return


@contextlib.asynccontextmanager
async def open_adapter(endpoint: BleEndpoint) -> AsyncIterator[Adapter]:
    """Open the radio and scan. Raises LinkError, ConfigError."""
    async with contextlib.AsyncExitStack() as stack:
        adapter = await _opened(endpoint, stack)
        started = asyncio.Event()
        scanning = asyncio.create_task(adapter.scan(started), name=f"scan {endpoint.adapter}")
        try:
            await started.wait()
            adapter.check()
            yield adapter
        finally:
            scanning.cancel()
            await asyncio.wait({scanning})
            if not adapter.lost.done():
                adapter.lost.cancel()


async def _opened(endpoint: BleEndpoint, stack: contextlib.AsyncExitStack) -> Adapter:
    if not is_bumble(endpoint.adapter):
        backends = _bluez()
        return Adapter(endpoint, backends, {"bluez": {"adapter": endpoint.adapter}})
    try:
        from devicemesh_ble.bumble_host import BumbleClient, BumbleScanner, open_host
    except ImportError as error:
        raise ConfigError(
            f"{endpoint.adapter} needs bumble: pip install 'devicemesh-ble[bumble]'", reason="NotInstalled"
        ) from error
    try:
        host = await stack.enter_async_context(open_host(endpoint.adapter.removeprefix(BUMBLE)))
    except (OSError, ValueError, BleakError) as error:
        raise LinkError(f"{endpoint.adapter}: {error or type(error).__name__}") from error
    adapter = Adapter(endpoint, (BumbleScanner, BumbleClient), {"host": host})
    host.terminated.add_done_callback(lambda _: adapter.fail("the transport was closed"))
    return adapter


def _bluez() -> tuple[Any, Any]:
    """bleak's own backends for this machine."""
    from bleak.backends.client import get_platform_client_backend_type
    from bleak.backends.scanner import get_platform_scanner_backend_type

    return get_platform_scanner_backend_type()[0], get_platform_client_backend_type()[0]
