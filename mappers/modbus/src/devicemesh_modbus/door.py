"""Where modems knock: accepting connections, and those who have not yet said who they are."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import socket
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from devicemesh.mapper import LinkError, listening_at
from devicemesh_modbus.dial import notice_death
from devicemesh_modbus.endpoint import MAX_REGISTRATION, ModbusEndpoint

if TYPE_CHECKING:
    from devicemesh_modbus.link import Link

log = logging.getLogger("devicemesh.modbus")
BACKLOG = 128
EXHAUSTED_S = 1.0
"""How long nobody is let in when this process has no room for another connection."""
MOST_LINES, LINES_S = 10, 60.0
"""So many lines of the log are about strangers in so many seconds, at most."""
WORDS_S = 0.5
"""In which a registration has come as a whole, also byte by byte."""
REMEMBERED = 256
MOST_CALLERS = 256


class Stranger(asyncio.Protocol):
    """One who has dialled in, until it is known who it is."""

    def __init__(self, heard: Callable[[Stranger], None], left: Callable[[Stranger], None]) -> None:
        """`heard` is called when it has come and when it has said more, `left` when it has hung up."""
        self._heard, self._left = heard, left
        self.said = b""
        self.peer = ""  # its address, for people
        self.since = asyncio.get_running_loop().time()  # when it came, or said something last
        self.timer: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        name = transport.get_extra_info("peername")
        self.peer = name[0] if name else "somebody who left"
        self._heard(self)

    def data_received(self, data: bytes) -> None:
        if len(self.said) <= MAX_REGISTRATION:  # the rest can't be a registration
            self.said += data
            self.since = asyncio.get_running_loop().time()
            self._heard(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.rest()
        self._left(self)

    def rest(self) -> None:
        """Wait for nothing any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def become(self, link: Link) -> None:
        """From now on the bytes are the link's."""
        self.rest()
        link.pauses = True  # several may ask: each waits for its turn
        self.transport.set_protocol(link)
        link.connection_made(self.transport)

    def hang_up(self) -> None:
        self.rest()
        self.transport.abort()


class Gossip:
    """What is said of strangers: of each once, and of many no more than fits a log."""

    def __init__(self, link: str) -> None:
        self._link = link
        self._said: OrderedDict[object, None] = OrderedDict()
        self._lines: deque[float] = deque(maxlen=MOST_LINES)
        self._kept_back = 0

    def tell(self, about: object, message: str) -> None:
        """Log it, if it was not said of these already."""
        if about in self._said:
            self._said.move_to_end(about)
            return
        now = asyncio.get_running_loop().time()
        if len(self._lines) == MOST_LINES and now - self._lines[0] < LINES_S:
            self._kept_back += 1
            return
        self._lines.append(now)
        self._said[about] = None
        if len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        more = f" ({self._kept_back} others were not told of)" if self._kept_back else ""
        self._kept_back = 0
        log.warning("%s: %s%s", self._link, message, more)

    def forget(self, about: object) -> None:
        """It is over: should it come again, it is said again."""
        self._said.pop(about, None)


async def callers(endpoint: ModbusEndpoint, patience_s: float) -> AsyncIterator[tuple[str, str | None]]:
    """Who dials in, and what it says first as it would be declared; None: it has said nothing to the end.

    Each is named once, whatever it dials. Raises `LinkError`.
    """
    here: list[Stranger] = []
    spoken: set[Stranger] = set()  # what they say further is talk
    news: asyncio.Queue[tuple[str, str | None]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def heard(one: Stranger) -> None:
        if one not in here:
            here.append(one)
            if len(here) > MOST_CALLERS:
                here.pop(0).hang_up()
        elif one.timer is None:
            one.timer = loop.call_later(WORDS_S, tell, one)

    def tell(one: Stranger) -> None:
        if one.said and one not in spoken:
            spoken.add(one)
            news.put_nowait((one.peer, declared(one.said)))

    told = set()
    until = loop.time() + patience_s
    async with opened(endpoint, lambda: Stranger(heard, tell)):
        try:
            while True:
                try:
                    async with asyncio.timeout_at(until):
                        seen = await news.get()
                except TimeoutError:
                    break
                if seen not in told:
                    told.add(seen)
                    yield seen
            talkers = {peer for peer, _ in told}
            last = ((one.peer, declared(one.said) if one.said else None) for one in here)
            for peer, says in dict.fromkeys(last):
                if peer not in talkers:
                    yield peer, says
        finally:
            for one in here:
                one.hang_up()
            await asyncio.sleep(0)  # an aborted connection is closed in the next round of the loop


def declared(said: bytes) -> str:
    """What a modem says, as it would be declared: text where it can be read, else hexadecimal."""
    said = said[:MAX_REGISTRATION]
    text = said.rstrip(b"\r\n").decode("ascii", "replace")
    plain = text and text.isascii() and text.isprintable() and not text.startswith("hex:")
    return text if plain else f"hex:{said.hex()}"


@contextlib.asynccontextmanager
async def opened(endpoint: ModbusEndpoint, stranger: Callable[[], Stranger]) -> AsyncIterator[int]:
    """Let people in while the block lasts; yields the port. Raises `LinkError`."""
    try:
        listening = _bound(endpoint)
    except OSError as error:
        raise _explained(endpoint, error) from error
    accepting = asyncio.ensure_future(_accept(listening, endpoint, stranger))
    try:
        yield listening.getsockname()[1]
    finally:
        accepting.cancel()
        await asyncio.gather(accepting, return_exceptions=True)
        listening.close()


def _bound(endpoint: ModbusEndpoint) -> socket.socket:
    host, port = listening_at(endpoint.listen or "")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    listening = socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
    listening.setblocking(False)
    return listening


async def _accept(
    listening: socket.socket, endpoint: ModbusEndpoint, stranger: Callable[[], Stranger]
) -> None:
    loop, told_s = asyncio.get_running_loop(), -math.inf
    while True:
        try:
            caller, _ = await loop.sock_accept(listening)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                if loop.time() - told_s > LINES_S:
                    log.error("%s: no room for another connection: %s", endpoint.link(), error.strerror)
                    told_s = loop.time()
                await asyncio.sleep(EXHAUSTED_S)
            continue  # who has left again before we looked
        try:
            with contextlib.suppress(OSError):
                notice_death(caller, endpoint)
                # asyncio does it for its own: else a request may wait 40 ms for the last one's ACK
                caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.connect_accepted_socket(stranger, caller)
        except BaseException:
            caller.close()
            raise


def _explained(endpoint: ModbusEndpoint, error: OSError) -> LinkError:
    """Why nobody can dial in, in words."""
    name = endpoint.link()
    if error.errno == errno.EADDRINUSE:
        return LinkError(
            f"can't {name}: another program, or another `listen`, has this port", reason="PortInUse"
        )
    if error.errno == errno.EACCES:
        return LinkError(f"can't {name}: ports below 1024 need root", reason="NotPermitted")
    if error.errno == errno.EADDRNOTAVAIL:
        return LinkError(f"can't {name}: this machine has no such address", reason="CantListen")
    return LinkError(f"can't {name}: {error.strerror or error}", reason="CantListen")
