"""The dialect of docs/mqtt.md, and beside it what lets Home Assistant find each device by itself."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import Executor
from pathlib import Path

from devicemesh.settings import MqttSettings
from devicemesh.sink.base import Declaration
from devicemesh.sink.entry import Encode
from devicemesh.sink.homeassistant.messages import SUFFIX, DiscoveryTopics, device_message, runtime_message
from devicemesh.sink.homeassistant.told import Told
from devicemesh.sink.inbox import Inbox
from devicemesh.sink.payload import dumps
from devicemesh.sink.plain import Plain
from devicemesh.sink.sender import Sender


def dialect_of(settings: MqttSettings, instance: str, encode: Encode) -> tuple[Plain, Inbox]:
    """To tell Home Assistant, or to take back what it was told. Raises ValueError."""
    topics = DiscoveryTopics(settings, instance)
    inbox = Inbox(topics, settings.max_payload_bytes)
    if settings.home_assistant:
        return Discoverable(topics, instance, inbox, encode), inbox
    return Withdrawn(topics, inbox, encode), inbox


class Discoverable(Plain):
    """See `Dialect`. Discovery messages are retained like others, on topics outside our root."""

    topics: DiscoveryTopics

    def __init__(self, topics: DiscoveryTopics, instance: str, inbox: Inbox, encode: Encode) -> None:
        super().__init__(topics, inbox, encode)
        self.topics = topics
        self._instance = instance

    def opened(self, sender: Sender, home: Path, epoch: int) -> None:
        super().opened(sender, home, epoch)
        self._told = Told(home / SUFFIX)
        sender.retain(("", SUFFIX), dumps(runtime_message(self._instance, self.topics)))

    def message(self, topic: str, payload: bytes, retained: bool, correlation: bytes | None) -> None:
        if topic != self.topics.birth:
            super().message(topic, payload, retained, correlation)
        elif payload == b"online" and not retained:  # a retained one is older than this connection
            self._sender.retained.repeat(SUFFIX)

    def declare(self, device: str, declaration: Declaration) -> None:
        with contextlib.suppress(ValueError):  # Kubernetes takes more names: the store tells
            found = device_message(device, declaration, self.topics)
            if gone := self._told.gone(device, found["components"]):
                found = device_message(device, declaration, self.topics, gone)
            self._sender.retain((device, SUFFIX), dumps(found))

    def retain(self, device: str, topic: str, payload: bytes) -> None:
        if topic == "status" and not payload:  # deleted: its entities first, as they read these topics
            self.topics.device(device, topic)  # raises here, to the caller
            self._told.forget(device)
            self._sender.retain((device, SUFFIX), b"")
        super().retain(device, topic, payload)

    def release(self, device: str) -> None:
        super().release(device)
        self._told.forget(device)
        self._sender.release((device, SUFFIX))

    async def save(self, disk: Executor) -> None:
        await super().save(disk)
        if self._told.due:
            await asyncio.get_running_loop().run_in_executor(disk, self._told.save, *self._told.text())


class Withdrawn(Plain):
    """See `Dialect`. Home Assistant was told of devices once, and is not to know them any more."""

    topics: DiscoveryTopics

    def __init__(self, topics: DiscoveryTopics, inbox: Inbox, encode: Encode) -> None:
        super().__init__(topics, inbox, encode)
        self.subscriptions = super(DiscoveryTopics, topics).subscriptions

    def opened(self, sender: Sender, home: Path, epoch: int) -> None:
        super().opened(sender, home, epoch)
        self._file: Path | None = home / SUFFIX
        for device in ("", *Told(home / SUFFIX).devices):
            with contextlib.suppress(ValueError):  # a damaged line of the file
                self.topics.identity(device)
                sender.retain((device, SUFFIX), b"")

    async def save(self, disk: Executor) -> None:
        await super().save(disk)
        if self._file is not None and not self._sender.retained.keeps(SUFFIX):
            await asyncio.get_running_loop().run_in_executor(disk, self._file.unlink, True)
            self._file = None
