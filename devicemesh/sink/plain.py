"""The dialect of docs/mqtt.md: JSON on topics of our own, and the newest state of each device retained."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path

from devicemesh.sink.client import Will
from devicemesh.sink.connection import Connection
from devicemesh.sink.dialect import Dialect
from devicemesh.sink.entry import Encode, Link
from devicemesh.sink.inbox import Inbox
from devicemesh.sink.kept import Kept
from devicemesh.sink.payload import dumps
from devicemesh.sink.routes import Route
from devicemesh.sink.sender import Sender
from devicemesh.sink.topics import Topics

RUNTIME_STATUS = ("", "status")
RETAINED = ("status", "twin/reported")
"""Topics of a device that the broker keeps."""


class Plain(Dialect):
    """See `Dialect`."""

    def __init__(self, topics: Topics, inbox: Inbox, encode: Encode) -> None:
        self.topics: Topics = topics
        self.subscriptions: Sequence[str] = topics.subscriptions
        self._inbox, self._encode = inbox, encode

    def opened(self, sender: Sender, home: Path, epoch: int) -> None:
        self._sender = sender
        self.kept = Kept(home / "retained")
        sender.retain(RUNTIME_STATUS, dumps({"state": "online", "epoch": epoch}))

    def will(self) -> Will:
        lost = dumps({"state": "offline", "reason": "connection lost"})
        return Will(self.topics.runtime_status, lost, retain=True)

    def connected(self, connection: Connection, ready: Callable[[Link], None]) -> None:
        ready(connection)

    def payload(self, route: Route, body: bytes, late: bool) -> bytes:
        return body if route.names is None else self._encode(body, route.names)

    def message(self, topic: str, payload: bytes, retained: bool, correlation: bytes | None) -> None:
        self._inbox.offer(topic, payload, retained, correlation)

    def retain(self, device: str, topic: str, payload: bytes) -> None:
        self.topics.device(device, topic)  # raises here, to the caller
        self._sender.retain((device, topic), payload)

    def release(self, device: str) -> None:
        for topic in RETAINED:
            self._sender.release((device, topic))

    def forget_absent(self, exists: Callable[[str], bool]) -> None:
        for device in self.kept.settle():
            for topic in RETAINED if not exists(device) else ():
                with contextlib.suppress(ValueError):  # a damaged line of the file
                    self.retain(device, topic, b"")

    async def save(self, disk: Executor) -> None:
        retained = self._sender.retained
        if self.kept.due(retained.version):
            names = retained.devices() | self.kept.before
            save = self.kept.save
            await asyncio.get_running_loop().run_in_executor(disk, save, names, retained.version)

    async def leave(self, patience_s: float) -> None:
        self._sender.retain(RUNTIME_STATUS, dumps({"state": "offline", "reason": "stopped"}))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while not self._sender.told(RUNTIME_STATUS):  # noqa: ASYNC110 - a callback tells
                    await asyncio.sleep(0.02)

    def close(self, connection: Connection) -> None:
        if self._sender.told(RUNTIME_STATUS):
            connection.close()
        else:  # the broker publishes the will: nobody is told otherwise
            connection.abort("closed by us")
