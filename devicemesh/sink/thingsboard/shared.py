"""Shared attributes of ThingsBoard become desired values: as they are edited, and if they were meanwhile."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Any

from devicemesh.sink.base import Command
from devicemesh.sink.inbox import Inbox
from devicemesh.sink.thingsboard import requests
from devicemesh.sink.thingsboard.devices import GatewayDevice, GatewayDevices
from devicemesh.sink.thingsboard.link import Message
from devicemesh.sink.thingsboard.memory import Memory
from devicemesh.sink.thingsboard.topics import ATTRIBUTES, ATTRIBUTES_REQUEST

log = logging.getLogger("devicemesh.sink")
ASKED, WAITING = 16, 64
"""Requests under way, and commands that wait, up to which there is another request."""
ANSWERED_S = 20.0
"""After so long nobody answers a request any more."""


class SharedAttributes:
    """Asks for them on each connection, one device after the other, and takes what comes."""

    def __init__(
        self,
        devices: GatewayDevices,
        inbox: Inbox,
        memory: Memory,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._devices, self._inbox, self._memory, self._clock = devices, inbox, memory, clock
        self._due: dict[str, int] = {}  # devices to be asked for, and from which of their keys on
        self._asked: dict[int, tuple[str, list[str], float]] = {}  # by id: device, keys, until when
        self._id = 0

    def ask(self, device: GatewayDevice) -> None:
        """It is connected: what was edited while it was not?"""
        if not device.asked and device.settable():
            device.asked = True
            self._due[device.name] = 0

    def clear(self) -> None:
        """The connection is gone."""
        self._due.clear()
        self._asked.clear()

    def request(self, most_bytes: int) -> Message | None:
        """The next request, if its time has come."""
        now_s = self._clock()
        self._asked = {number: one for number, one in self._asked.items() if now_s < one[2]}
        if not self._due or len(self._asked) >= ASKED or self._inbox.waiting >= WAITING:
            return None
        name, start = next(iter(self._due.items()))
        known = self._devices.get(name)
        left = known.settable()[start:] if known is not None else []
        keys = _fitting(left, most_bytes)
        number = self._id + 1
        body = {"id": number, "device": name, "client": False, "keys": keys}

        def sent() -> None:
            del self._due[name]
            if len(keys) < len(left):
                self._due[name] = start + len(keys)
            self._id, self._asked[number] = number, (name, keys, now_s + ANSWERED_S)

        return Message(ATTRIBUTES_REQUEST, json.dumps(body).encode(), sent)

    def answered(self, payload: bytes) -> None:
        """The answer to a request. Raises ValueError for one that is none."""
        number = requests.id_of(payload)
        asked = self._asked.pop(number, None) if number is not None else None
        if asked is None:
            raise ValueError("nobody asked for these attributes")
        found = requests.response(payload, asked[1])
        if found.name != asked[0]:
            raise ValueError("an answer for another device")
        self._take(found.name, found.values)

    def updated(self, payload: bytes) -> None:
        """Somebody has edited some. Raises ValueError for what is no update."""
        found = requests.update(payload)
        self._take(found.name, found.values)

    def _take(self, name: str, values: Mapping[str, Any]) -> None:
        """What of them is a property, and otherwise than seen last, is desired; None is taken back."""
        device = self._devices.get(name)
        settable = set(device.settable()) if device is not None else set()
        ours = {key: value for key, value in values.items() if key in settable}
        if device is None or not ours:
            return
        changes = self._memory.changes(device.device, ours)
        if not changes:
            return
        if self._inbox.take(Command("desired", device.device, "", changes), ATTRIBUTES):
            self._memory.saw(device.device, changes)
        elif device.connected:  # too many wait: what they are by then is asked for
            self._due[name] = 0


def _fitting(keys: list[str], most_bytes: int) -> list[str]:
    """The first ones, that go into one request; one at least."""
    sizes = accumulate(len(key) + len('"", ') for key in keys)
    return keys[: max(1, sum(size <= most_bytes for size in sizes))]
