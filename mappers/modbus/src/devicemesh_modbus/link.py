"""Transactions over one connection: which answer belongs to which request.

A `Link` sends requests and resolves a future per request with its answer, or with None when its time is
over or the connection is. Answers that belong to no request are dropped, never guessed. `mbap` tells
answers apart by transaction id (TCP, TLS, UDP); `line` (RTU, ASCII), where there is none, lets only one
request be under way and keeps away from a unit whose late answer may still come.
"""

from __future__ import annotations

import asyncio
import ssl
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TypeAlias

from devicemesh.mapper import AuthError, LinkError

Answer: TypeAlias = tuple[bytes, int]
"""The answer from its function code on, and its arrival in Unix nanoseconds."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, ready to be sent."""

    unit: int
    frame: bytes  # as on the wire; for MBAP without the two bytes of the transaction id
    timeout_s: float
    pause_s: float = 0.0  # silence that the unit needs after its answer

    @property
    def pdu(self) -> bytes:
        """What is in the frame, from the function code on: behind protocol, length and unit."""
        return self.frame[5:]

    @property
    def function(self) -> int:
        return self.pdu[0]


class Link(asyncio.Protocol, ABC):
    """One connection."""

    repeatable = True  # whether a second request after a silence can't be mistaken for the first
    pauses = False  # whether a request may have to wait, so that `ask` is needed instead of `send`

    def __init__(self, name: str) -> None:
        self.name = name
        self.lost: str | None = None  # why the connection is over
        self.lost_cause: BaseException | None = None
        self.stray = ""  # what came instead of an answer since the last request
        self._loop = asyncio.get_running_loop()
        self.made: asyncio.Future[None] = self._loop.create_future()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self.heard = 0  # how often bytes came
        self._ready_at = 0.0
        self._turn = asyncio.Lock()  # one request after the other, whoever asks
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport

    @abstractmethod
    def send(self, ask: Ask) -> asyncio.Future[Answer | None]:
        """Send now. Raises `LinkError` when the connection is over."""

    @abstractmethod
    def _expire(self) -> None:
        """Resolve what is overdue."""

    async def ask(self, ask: Ask) -> Answer | None:
        """Send as soon as the line is free and wait; None: no answer in time. Raises `LinkError`."""
        async with self._turn:
            await self.wait_ready(ask.unit)
            answer = await self.send(ask)
            if answer is None:
                self.check()
            if ask.pause_s:
                self._ready_at = self._loop.time() + ask.pause_s
            return answer

    async def wait_ready(self, unit: int) -> None:
        """Wait out the silence that the last unit, or the line, needs."""
        wait = self._ready_at - self._loop.time()
        if wait > 0:
            await asyncio.sleep(wait)

    def check(self) -> None:
        """Raise `LinkError` (`AuthError` where our certificate was refused) if the connection is over."""
        if self.lost is None:
            return
        if _is_rejected_certificate(self.lost_cause):
            raise AuthError(f"{self.name} does not accept our certificate") from self.lost_cause
        raise LinkError(self.lost) from self.lost_cause

    def close(self) -> None:
        """End the connection; `closed` is done when it is."""
        self._fail(f"the connection to {self.name} was closed", None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.made.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        why = (
            f"the connection to {self.name} broke: {words(exc)}"
            if exc
            else f"{self.name} closed the connection"
        )
        if not self.heard and self._transport.get_extra_info("ssl_object") is not None:
            why += " before the first answer; does it accept our certificate?"
        self._fail(why, exc)
        self.closed.set_result(None)

    def _fail(self, why: str, cause: BaseException | None) -> None:
        if self.lost is None:
            self.lost, self.lost_cause = why, cause
            self._transport.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._drop_all()

    @abstractmethod
    def _drop_all(self) -> None:
        """Resolve everything under way with None."""

    def _arm(self, deadline: float) -> None:
        """See to it that `_expire` is called soon after `deadline`: one timer a link, not one a request."""
        if self._timer is None or deadline < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(deadline, self._expired)

    def _expired(self) -> None:
        self._timer = None
        self._expire()


def words(exc: BaseException) -> str:
    """An operating system's error without its number."""
    return str(getattr(exc, "strerror", None) or exc or type(exc).__name__)


def _is_rejected_certificate(exc: BaseException | None) -> bool:
    """Whether TLS ended because of our certificate: with TLS 1.3 that is only known after the handshake."""
    reason = (exc.reason or "") if isinstance(exc, ssl.SSLError) else ""
    return "ALERT" in reason and any(
        word in reason for word in ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")
    )
