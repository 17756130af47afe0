"""A UDP proxy that misbehaves on demand: what networks do to datagrams."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable
from typing import Any, Self

MAX_DATAGRAM = 65536
_MOST_CALLERS = 1024


class DatagramProxy:
    """Forwards to a server, as an async context manager; each caller has a socket of its own there.

    Drops, repeats and reorders by the shares that are set, in both directions. The same generator and the
    same datagrams: the same losses.
    """

    def __init__(
        self, target: tuple[str, int] | None, rng: random.Random, *, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        """Listen on `host`:`port` (0: a free one). Without `target` nothing passes until it is set."""
        self.target = target
        self.host, self.port = host, port
        self.drop = self.repeat = self.reorder = 0.0  # shares of the datagrams
        self.delay_s = 0.0  # of everything that the server says
        self.hole = False  # nothing passes, in either direction
        self.dropped = self.repeated = self.reordered = 0
        self._rng = rng
        self._far: dict[Any, socket.socket] = {}
        self._held: list[Callable[[], None]] = []
        self._timers: set[asyncio.TimerHandle] = set()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._near = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._near.setblocking(False)
            self._near.bind((self.host, self.port))
        except OSError:
            self._near.close()
            raise
        self.port = self._near.getsockname()[1]
        self._loop.add_reader(self._near, self._from_near)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._loop.remove_reader(self._near)
        self._near.close()
        self.cut()
        for timer in self._timers:
            timer.cancel()

    def cut(self) -> None:
        """Forget every caller: the server sees them no more."""
        for far in self._far.values():
            self._loop.remove_reader(far)
            far.close()
        self._far.clear()

    def _from_near(self) -> None:
        with contextlib.suppress(OSError):
            data, caller = self._near.recvfrom(MAX_DATAGRAM)
            far = self._socket_of(caller)
            if far is not None:
                self._pass_on(lambda: self._sent(far.send, data), 0.0)

    def _socket_of(self, caller: Any) -> socket.socket | None:
        if caller not in self._far and self.target is not None and len(self._far) < _MOST_CALLERS:
            family = socket.AF_INET6 if ":" in self.target[0] else socket.AF_INET
            far = socket.socket(family, socket.SOCK_DGRAM)
            far.setblocking(False)
            far.connect(self.target)
            self._loop.add_reader(far, self._from_far, far, caller)
            self._far[caller] = far
        return self._far.get(caller)

    def _from_far(self, far: socket.socket, caller: Any) -> None:
        with contextlib.suppress(OSError):
            data = far.recv(MAX_DATAGRAM)
            self._pass_on(lambda: self._sent(lambda d: self._near.sendto(d, caller), data), self.delay_s)

    @staticmethod
    def _sent(send: Callable[[bytes], object], data: bytes) -> None:
        with contextlib.suppress(OSError):  # nobody there, or nobody any more
            send(data)

    def _pass_on(self, send: Callable[[], None], delay_s: float) -> None:
        chance = self._rng.random()
        if self.hole or chance < self.drop:
            self.dropped += 1
        elif chance < self.drop + self.reorder:  # it waits for the next one, and comes behind it
            self.reordered += 1
            self._held.append(send)
        else:
            twice = chance < self.drop + self.reorder + self.repeat
            self.repeated += twice
            held, self._held = self._held, []
            for one in (send, send, *held) if twice else (send, *held):
                self._in(delay_s, one)

    def _in(self, delay_s: float, send: Callable[[], None]) -> None:
        if not delay_s:
            send()
            return

        def work() -> None:
            self._timers.discard(timer)
            send()

        timer = self._loop.call_later(delay_s, work)
        self._timers.add(timer)
