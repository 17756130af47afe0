"""The MQTT sink: everything goes through the outbox, and nothing leaves it without the broker's word."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from devicemesh.aggregate import Record, encode_json
from devicemesh.settings import MqttSettings, OutboxSettings
from devicemesh.sink.base import Command, Declaration, Sink, SinkStats
from devicemesh.sink.broker_url import BROKE, ENDED, parse_url
from devicemesh.sink.client import ConnectError, Opening
from devicemesh.sink.clock import Clock, SystemClock
from devicemesh.sink.connection import Connection, Events
from devicemesh.sink.dialect import Dialect
from devicemesh.sink.entry import Encode, Link
from devicemesh.sink.folder import Folder
from devicemesh.sink.inbox import Inbox
from devicemesh.sink.outbox import Outbox
from devicemesh.sink.payload import dumps
from devicemesh.sink.plain import Plain
from devicemesh.sink.routes import Describe
from devicemesh.sink.secret import SecretError, resolve
from devicemesh.sink.sender import Sender
from devicemesh.sink.topics import Topics
from devicemesh.spec.values import duration_ns

log = logging.getLogger("devicemesh.sink")

PATIENCE_S = 5.0
"""How long leaving the sink may take to send what waits."""
FAREWELL_S = 1.0
"""And to say that we are gone."""
FIRST_DELAY_S = 0.5
"""Before the first try to connect again."""
_TICK_S = 0.1
_TEND_S = 1.0
_SYNC_AFTER_S = {"strict": 0.0, "gentle": 1.0}  # what is unacknowledged for longer is made durable
_GAP_S = 10.0
_GOOD_SESSION_S = 5.0


class Backoff:
    """Delays that double from 0.5 s to 30 s, with jitter, for ever."""

    def __init__(self) -> None:
        self._delay_s = FIRST_DELAY_S

    def next(self) -> float:
        delay, self._delay_s = self._delay_s, min(30.0, 2 * self._delay_s)
        return delay * (0.5 + random.random() / 2)

    def reset(self) -> None:
        self._delay_s = FIRST_DELAY_S


def _dialect(settings: MqttSettings, instance: str, encode: Encode, home: Path) -> tuple[Dialect, Inbox]:
    """What the settings ask for; what nobody speaks is never imported. Raises ValueError."""
    topics = Topics(settings, instance)
    inbox = Inbox(topics, settings.max_payload_bytes)
    if settings.sparkplug is not None:
        from devicemesh.sink.sparkplug.node import EdgeNode

        return EdgeNode(settings.sparkplug, instance, inbox, encode), inbox
    if settings.thingsboard is not None:
        from devicemesh.sink.thingsboard.gateway import Gateway

        return Gateway(settings.thingsboard, instance, inbox, encode), inbox
    if settings.home_assistant or (home / "home-assistant").exists():
        from devicemesh.sink.homeassistant.dialect import dialect_of

        return dialect_of(settings, instance, encode)
    return Plain(topics, inbox, encode), inbox


class MqttSink(Sink):
    """See `Sink`. Entering opens the outbox; the broker may come and go as it likes."""

    def __init__(
        self,
        settings: MqttSettings,
        outbox: OutboxSettings,
        home: Path,
        instance: str,
        *,
        clock: Clock | None = None,
        encode: Encode = encode_json,
        stall_s: float | None = None,
        fence: Callable[[], bool] | None = None,
    ) -> None:
        """Raises ValueError for settings that can't work.

        `stall_s`: a broker that acknowledges nothing for so long is left; the keepalive by default.
        `fence`: asked before each write to the network; while it says no there is no connection.
        """
        self._settings, self._outbox_settings, self._home = settings, outbox, home
        self._url = parse_url(settings.url)
        self._client_id = settings.client_id or f"devicemesh-{instance}"
        self._clock = clock or SystemClock()
        self._stall_s = float(settings.keepalive_s) if stall_s is None else stall_s
        self._dialect, self._inbox = _dialect(settings, instance, encode, home)
        self._fence = fence
        self._connection: Connection | None = None
        self._reconnects = 0
        self._last_error: str | None = None
        self._said: str | None = None
        self._gap_said: tuple[float, int] = (0.0, 0)
        self._pumping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Raises OSError when the outbox's folder can't be used."""
        self._loop = asyncio.get_running_loop()
        self._disk = ThreadPoolExecutor(1, "outbox")
        self._outbox = await self._loop.run_in_executor(self._disk, self._open_outbox)
        self.epoch = self._outbox.epoch
        dialect = self._dialect
        self._sender = Sender(self._outbox, dialect.topics, dialect.payload, self._loop.time)
        self._sender.on_more = self._pump_soon
        dialect.opened(self._sender, self._home, self.epoch)
        jobs = {"mqtt": self._stay_connected(), "outbox": self._keep(), "sink": self._tend()}
        jobs["commands"] = self._inbox.run()
        self._tasks = [asyncio.create_task(job, name=name) for name, job in jobs.items()]
        for task in self._tasks:
            task.add_done_callback(self._ended)
        return self

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self.errors += 1
            log.critical("the %s task ended: this is a bug", task.get_name(), exc_info=error)

    async def __aexit__(self, *exc: object) -> None:
        try:
            if self._connection is not None:
                await self._leave()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._connection is not None:
                self._dialect.close(self._connection)
            self._disconnected()
            await self._dialect.save(self._disk)
            try:
                await self._loop.run_in_executor(self._disk, self._outbox.close)
            except OSError as error:
                log.error("the outbox could not be made durable: %s", error)
            self._disk.shutdown()

    async def _leave(self) -> None:
        """Send what waits, then say that we are gone."""
        if not await self.drain(PATIENCE_S):
            log.info("the rest stays in the outbox: %d messages", self._outbox.waiting)
        await self._dialect.leave(FAREWELL_S)

    def _open_outbox(self) -> Outbox:
        age = self._outbox_settings.max_age
        return Outbox(
            Folder(self._home / "outbox"),
            max_bytes=self._outbox_settings.max_bytes,
            max_age_s=duration_ns(age) / 1e9 if age else None,
            clock=self._clock,
        )

    # -- the contract

    def publish(self, records: Sequence[Record], describe: Describe) -> None:
        self._sender.publish(records, describe)

    def declare(self, device: str, declaration: Declaration) -> None:
        self._dialect.declare(device, declaration)

    def event(self, device: str, topic: str, body: Mapping[str, Any]) -> None:
        """Raises ValueError for a device that makes no topic."""
        if not self._dialect.answer(device, topic, body):
            self._sender.event(["E", device, topic], dumps(body))

    def retain(self, device: str, topic: str, body: bytes | Mapping[str, Any] | None) -> None:
        """Raises ValueError for a device that makes no topic."""
        payload = b"" if body is None else body if isinstance(body, bytes) else dumps(body)
        self._dialect.retain(device, topic, payload)

    def release(self, device: str) -> None:
        self._dialect.release(device)

    def forget_absent(self, exists: Callable[[str], bool]) -> None:
        self._dialect.forget_absent(exists)

    def on_command(self, handler: Callable[[Command], Awaitable[None]]) -> None:
        self._inbox.handler = handler

    async def drain(self, timeout_s: float) -> bool:
        deadline = self._loop.time() + timeout_s
        while not self._sender.idle:
            if self._loop.time() >= deadline or self._dialect.waits_for:
                return False
            await asyncio.sleep(min(0.02, timeout_s))
        return True

    def stats(self) -> SinkStats:
        outbox = self._outbox.stats()
        return SinkStats(
            up=self._connection is not None,
            messages=self._sender.messages,
            samples_published=outbox.published,
            samples_dropped=outbox.dropped,
            samples_spooled=outbox.spooled,
            outbox_messages=outbox.messages,
            outbox_bytes=outbox.bytes,
            outbox_capacity_bytes=outbox.capacity_bytes,
            outbox_oldest_s=outbox.oldest_s,
            reconnects=self._reconnects,
            last_error=self._trouble_now,
            samples_taken=outbox.taken,
            recovered_published=outbox.recovered.published,
            recovered_dropped=dict(outbox.recovered.dropped),
            recovered_spooled=outbox.recovered.spooled,
            refusals=self._sender.refusals.count,
            commands_refused=self._inbox.refused,
        )

    # -- the connection

    async def _stay_connected(self) -> None:
        """Connect, serve, wait; for ever."""
        backoff = Backoff()
        while True:
            while self._fence is not None and not self._fence():  # noqa: ASYNC110 - a clock opens it
                await asyncio.sleep(_TICK_S)
            try:
                connection = await self._connect()
            except (ConnectError, SecretError) as error:
                self._trouble(str(error))
            else:
                started, before = self._loop.time(), self._sender.messages
                reason = await asyncio.shield(connection.closed)
                self._connection = None
                hung_up = reason == BROKE or reason.startswith(ENDED)
                expected = self._disconnected(hung_up=hung_up)
                short = self._loop.time() - started < _GOOD_SESSION_S
                if short and reason == BROKE:
                    reason += f" at once; does another client use our id, {self._client_id}?"
                self._trouble(reason)
                if not short or self._sender.messages > before + (not expected):
                    backoff.reset()
            await asyncio.sleep(backoff.next())

    async def _connect(self) -> Connection:
        settings = self._settings
        password = resolve(self._home, settings.password) if settings.password else None
        by_reference = self._dialect.username
        username = resolve(self._home, by_reference) if by_reference else settings.username
        will = self._dialect.will()
        opening = Opening(self._url, settings, self._client_id, username, password, will, self._fence)
        events = Events(self._dialect.acknowledged, self._dialect.message, self._sender.pump)
        connection = await Connection.open(opening, events)
        self._connection, self._last_error, self._said = connection, None, None
        self._reconnects += 1
        log.info("connected to %s", self._url)
        connection.subscribe(self._dialect.subscriptions)
        window = max(1, min(settings.inflight, connection.window))

        def ready(link: Link) -> None:
            self._sender.connected(link, *self._dialect.bounds(window, connection.max_packet_bytes))

        self._dialect.connected(connection, ready)
        return connection

    def _disconnected(self, *, hung_up: bool = False) -> bool:
        """Whether it was to be expected."""
        self._dialect.disconnected(hung_up=hung_up)
        return self._sender.disconnected(hung_up=hung_up)

    @property
    def _trouble_now(self) -> str | None:
        return self._last_error or self._dialect.waits_for or self._sender.refusals.words or self._deaf

    @property
    def _deaf(self) -> str | None:
        return self._connection.deaf if self._connection is not None else None

    def _trouble(self, reason: str) -> None:
        """Remember why there is no connection; say it once."""
        self._last_error = reason
        if reason != self._said:
            self._said = reason
            log.warning("not connected: %s", reason)

    # -- what is done again and again

    def _pump_soon(self) -> None:
        if not self._pumping:
            self._pumping = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pumping = False
        self._sender.pump()

    async def _tend(self) -> None:
        """The network's side: pings, a broker that went dumb, what waits for its time."""
        seen: tuple[object, ...] = ()
        since = next_tend = self._loop.time()
        while True:
            await asyncio.sleep(_TICK_S)
            if self._fence is not None and self._connection is not None and not self._fence():
                self._connection.abort("this replica has lost its Lease")
            now, connection = self._loop.time(), self._connection
            if connection is not None:
                self._dialect.tend()
            self._sender.pump()
            if connection is None or now < next_tend:
                continue
            next_tend = now + _TEND_S
            connection.tend()
            if self._deaf is not None and self._deaf != self._said:
                self._said = self._deaf
                log.warning("%s", self._deaf)
            self._sender.bound_refused()
            self._say_gap(now)
            answers = self._dialect.answers()
            state = (connection, answers, *connection.progress())
            if answers is None or state != seen:
                seen, since = state, now
            elif now - since >= self._stall_s:
                connection.abort(f"the broker acknowledged nothing for {self._stall_s:g} s")

    def _say_gap(self, now: float) -> None:
        """Tell consumers about samples that they will never see."""
        stats = self._outbox.stats()
        dropped = {policy: count for policy, count in stats.dropped_ever.items() if count}
        lost = sum(stats.dropped.values()) + sum(stats.recovered.dropped.values())
        last, said = self._gap_said
        if lost > said and now - last >= _GAP_S:
            self._gap_said = (now, lost)
            self._sender.gap(dropped, self.epoch, self._clock.wall_ns())

    async def _keep(self) -> None:
        """The disk's side: what is unacknowledged too long is made durable, what is done with goes."""
        outbox, failures, retry_at = self._outbox, 0, 0.0
        next_tend = self._loop.time()
        while True:
            await asyncio.sleep(_TICK_S)
            now, since = self._loop.time(), outbox.unsynced_since()
            old = (
                since is not None
                and self._clock.boottime() - since >= _SYNC_AFTER_S[self._outbox_settings.sync]
            )
            if old and now >= retry_at:
                done = await self._sync()
                failures = 0 if done else failures + 1
                retry_at = self._loop.time() + (min(60.0, 2.0**failures) if failures else 0.0)
                if failures == 1:
                    log.error("the outbox can't be made durable: %s", outbox.last_error)
            if now >= next_tend:
                next_tend = now + _TEND_S
                outbox.checkpoint()
                outbox.expire()
                outbox.recycle()
                await self._dialect.save(self._disk)

    async def _sync(self) -> bool:
        job = self._outbox.begin_sync()
        if job is None:
            return True
        try:
            await self._loop.run_in_executor(self._disk, job.run)
        finally:
            done = self._outbox.end_sync(job)
        return done
