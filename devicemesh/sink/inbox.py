"""Commands on their way in: checked, bounded, off the network's path; those of one device in order."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Any

from devicemesh.sink.base import Command
from devicemesh.sink.payload import loads
from devicemesh.sink.topics import Topics

log = logging.getLogger("devicemesh.sink")
WAITING, WAITING_OF_ONE = 256, 64
"""Commands that may wait, of all devices and of one; what comes beyond them is refused: a flood costs no
memory and delays no data, and a device that does not answer leaves room for its neighbours'."""


class Inbox:
    """Takes messages from the connection; `run` hands them to the handler.

    Each device has a line of its own: one that does not answer holds up nobody else's commands.
    """

    def __init__(self, topics: Topics, max_payload_bytes: int) -> None:
        self.refused = 0  # messages not handed over: overflow, no topic of ours, a retained command or write
        self.handler: Callable[[Command], Awaitable[None]] | None = None
        self._topics, self.max_payload_bytes = topics, max_payload_bytes
        self._queue: asyncio.Queue[Command] = asyncio.Queue()
        self._lines: dict[str, deque[Command]] = {}  # by device
        self._waiting: Counter[str] = Counter()  # all that was taken and is not done, by device

    def offer(self, topic: str, payload: bytes, retained: bool, correlation: bytes | None) -> None:
        """Take a message as it came; never waits.

        A retained command is old news and ignored; a retained desired value is meant.
        """
        incoming = self._topics.parse(topic)
        if incoming is None or (incoming.kind != "desired" and retained) or not payload:
            self.refused += 1  # an empty payload only clears what a broker retained
            return
        identity = None if correlation is None else correlation[:256].decode("utf-8", "replace")
        body = self._body(topic, payload)
        self.take(Command(incoming.kind, incoming.device, incoming.name, body, identity), topic)

    def take(self, command: Command, topic: str) -> bool:
        """Take what was asked on a topic; never waits, and refuses what is too much: False."""
        waiting = self._waiting[command.device]
        if waiting >= WAITING_OF_ONE or self._waiting.total() >= WAITING:
            self.refused += 1
            if self.refused & (self.refused - 1) == 0:  # the 1st, 2nd, 4th, ...: not to fill the log
                total = self._waiting.total()
                log.warning("%s refused: %d requests wait, %d of this device", topic, total, waiting)
            return False
        self._waiting[command.device] += 1
        self._queue.put_nowait(command)
        return True

    @property
    def waiting(self) -> int:
        """Commands that were taken and are not done."""
        return self._waiting.total()

    def _body(self, topic: str, payload: bytes) -> Any:
        if len(payload) > self.max_payload_bytes:
            log.info("%s: %d bytes are too many", topic, len(payload))
            return None
        try:
            return loads(payload)
        except (ValueError, RecursionError) as error:
            log.info("%s: %s", topic, error)
            return None

    async def run(self) -> None:
        """Hand over commands until cancelled; what a handler raises is its own."""
        async with asyncio.TaskGroup() as group:
            while True:
                command = await self._queue.get()
                if command.device in self._lines:
                    self._lines[command.device].append(command)
                else:
                    line = self._lines[command.device] = deque([command])
                    group.create_task(self._serve(command.device, line))

    async def _serve(self, device: str, line: deque[Command]) -> None:
        while line:
            await self._handle(line.popleft())
            self._waiting[device] -= 1
        del self._lines[device]
        if not self._waiting[device]:
            del self._waiting[device]

    async def _handle(self, command: Command) -> None:
        if self.handler is None:
            self.refused += 1
            return
        try:
            await self.handler(command)
        except Exception:
            log.exception("the handler of %s for %s failed", command.kind, command.device)
