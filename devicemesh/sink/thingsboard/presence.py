"""Which devices ThingsBoard knows as connected, and what it is told of them beside telemetry."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import Any

from devicemesh.sink.thingsboard import entries
from devicemesh.sink.thingsboard.devices import ALIVE, GatewayDevice, GatewayDevices
from devicemesh.sink.thingsboard.entries import Bounds
from devicemesh.sink.thingsboard.link import INVALID, QUOTA, REFUSED, WAITS, Message
from devicemesh.sink.thingsboard.shared import SharedAttributes
from devicemesh.sink.thingsboard.topics import ATTRIBUTES, CONNECT, DISCONNECT, GatewayTopics

log = logging.getLogger("devicemesh.sink")

_STATE_S = 10.0  # in which the state of a device that is gone should be told
_LAST_WORDS_S = 1.0  # between the last data of a device that is gone and its farewell


class Presence:
    """A `Speaker`. A device is connected before anything else is said of it, on each connection anew.

    ThingsBoard makes a device of any name that data comes of, with a profile that is not its model's.
    """

    def __init__(
        self,
        topics: GatewayTopics,
        profile: str | None,
        shared: SharedAttributes,
        devices: GatewayDevices,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._topics, self._profile, self._shared, self._devices = topics, profile, shared, devices
        self._clock = clock
        self.heard = False  # ThingsBoard has answered something of a device, on this connection
        self.attributes_s = 0.0  # on the loop's clock
        self.on_quota: Callable[[], None] = lambda: None
        self._connects: dict[str, None] = {}  # to be told of
        self._changed: dict[str, None] = {}  # their attributes may have news
        self._leaving: dict[str, None] = {}  # connected, and not alive

    def begin(self, attributes_s: float) -> None:
        """It is another connection; from then on attributes are told, and asked for."""
        self.attributes_s = attributes_s
        for name, device in self._devices.items():
            if device.alive or device.owed:  # it may have died meanwhile
                self._connects[name] = self._changed[name] = None

    def end(self) -> None:
        """It is gone."""
        self.heard = False
        for names in (self._connects, self._changed, self._leaving):
            names.clear()
        for name, device in self._devices.items():
            device.forgotten()
            if device.declaration is None:
                self._devices.forget(name)

    # -- what is known of devices

    def changed(self, device: GatewayDevice) -> None:
        """It may have other attributes, or other properties."""
        self._changed[device.name] = None
        if device.connected:
            self._shared.ask(device)

    def state(self, device: GatewayDevice, status: bytes) -> None:
        """Take a `status`; b"" is the end."""
        device.state(status)
        self._changed[device.name] = None
        self._connects.pop(device.name, None)
        self._leaving.pop(device.name, None)
        if device.alive and not device.connected:
            self._connects[device.name] = None
        elif device.connected and not device.alive:
            device.spoken_s = self._clock()
            self._leaving[device.name] = None
        elif not status:
            self._devices.forget(device.name)

    def gone(self, device: GatewayDevice) -> None:
        """ThingsBoard has ended what it had of it: it is connected anew before anything else is said."""
        device.forgotten()
        if device.alive:
            self._connects[device.name] = self._changed[device.name] = None

    def leaving(self) -> list[GatewayDevice]:
        """Those whose time has come to be said farewell to."""
        known = [self._devices[name] for name in self._leaving if name in self._devices]
        return [one for one in known if self._clock() - one.spoken_s >= self._patience_s(one)]

    def _patience_s(self, device: GatewayDevice) -> float:
        """Longer, where its state is not told yet."""
        return _STATE_S if device.name in self._changed and device.status else _LAST_WORDS_S

    def farewell(self, device: GatewayDevice) -> Message:
        """It is not connected any more."""
        device.connected = device.asked = False
        device.owed &= device.told.get("twin/state") in ALIVE
        self._leaving.pop(device.name, None)
        if device.declaration is None:  # it was deleted, or is only known from what waited
            self._devices.forget(device.name)
        return Message(DISCONNECT, b'{"device":' + entries.quoted(device.name) + b"}")

    # -- as a speaker

    def before(self, name: str) -> Message | None:
        device = self._devices.known(name, self._topics.device_called(name))
        return None if device.connected else self._connect(device)

    def news(self, bounds: Bounds) -> Message | None:
        if self._connects:
            return self._connect(self._devices[next(iter(self._connects))])
        if self._clock() < self.attributes_s:
            return None
        if (request := self._shared.request(bounds.bytes)) is not None:
            return request
        for name in list(self._changed):
            device = self._devices.get(name)
            if device is not None and device.connected and (found := device.fitting(bounds)):
                return self._attributes(device, found)
            del self._changed[name]  # it comes again when it is connected
        return None

    def spoken(self, name: str) -> None:
        device = self._devices[name]
        device.spoken_s = self._clock()
        if not device.alive:
            self._leaving[name] = None

    def refused(self, name: str, code: int) -> int:
        device = self._devices.get(name)
        if device is None:
            return code
        device.unsure()
        if device.refused or code == WAITS:
            self._refuse(device, device.refused or code)
            return WAITS
        if code == QUOTA:
            self.overrun()
        return code

    def overrun(self) -> None:
        self.on_quota()

    def _connect(self, device: GatewayDevice) -> Message:
        model = device.declaration.model if device.declaration is not None else ""
        body = {"device": device.name, "type": self._profile or model}

        def sent() -> None:
            device.connected, device.owed = True, device.owed or device.alive
            self._connects.pop(device.name, None)
            self._changed[device.name] = None
            self._shared.ask(device)
            if not device.alive:
                device.spoken_s = self._clock()
                self._leaving[device.name] = None

        def answered(code: int) -> None:
            self.heard = True
            if code >= REFUSED:
                self._refuse(device, code)
            else:
                device.refused = 0

        said = {key: value for key, value in body.items() if value}
        return Message(CONNECT, json.dumps(said, ensure_ascii=False).encode(), sent, answered)

    def _refuse(self, device: GatewayDevice, code: int) -> None:
        if not device.refused:
            why = ": its limit of devices may be reached" if code == QUOTA else ""
            log.warning("ThingsBoard does not take the device %s%s; it waits", device.name, why)
        device.refused, device.connected = code, False

    def _attributes(self, device: GatewayDevice, found: dict[str, Any]) -> Message:
        def sent() -> None:
            device.told.update(found)  # there may be more: it is looked at again

        def answered(code: int) -> None:
            if code == INVALID:
                device.unreadable(found)
                self._changed[device.name] = None
            elif code >= REFUSED:  # told again, with what is next
                device.untold(found)

        return Message(ATTRIBUTES, entries.members(device.name, found), sent, answered, len(found))
