"""Remote procedure calls of ThingsBoard: commands of the model, and set and get of its properties."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from devicemesh.sink.base import Command
from devicemesh.sink.inbox import Inbox
from devicemesh.sink.thingsboard import requests
from devicemesh.sink.thingsboard.devices import GatewayDevice, GatewayDevices
from devicemesh.sink.thingsboard.link import Message
from devicemesh.sink.thingsboard.requests import GET, SET, Call
from devicemesh.sink.thingsboard.topics import RPC

_MARK = "rpc/"  # before the id of a call, in that of a command


class Calls:
    """Those that somebody waits for. `say` takes what is to be said at once, `most`: in so many bytes."""

    def __init__(
        self,
        devices: GatewayDevices,
        inbox: Inbox,
        say: Callable[[Message], None],
        most: Callable[[], int],
    ) -> None:
        self._devices, self._inbox, self._say, self._most = devices, inbox, say, most
        # By device, which counts its own, and command's id; with properties that are not set yet.
        self._waiting: dict[tuple[str, str], tuple[Call, set[str]]] = {}

    def clear(self) -> None:
        """The connection is gone, and nobody waits any more."""
        self._waiting.clear()

    def take(self, payload: bytes) -> None:
        """A call. Raises ValueError for what is none."""
        call = requests.call(payload)
        device = self._devices.get(call.name)
        if device is None or device.declaration is None:
            self._refuse(call, "the gateway has no such device")
        elif call.method in device.declaration.commands:
            self._run(call, device)
        elif call.method == SET:
            self._set(call, device)
        elif call.method == GET:
            self._get(call, device)
        else:
            known = ", ".join([*device.declaration.commands, SET, GET])
            self._refuse(call, f"the device has no method `{call.method[:64]}`; there are {known}")

    def _run(self, call: Call, device: GatewayDevice) -> None:
        body, identity = requests.arguments(call.params), f"{_MARK}{call.id}"
        self._hand_over(call, Command("command", device.device, call.method, body, identity), set())

    def _set(self, call: Call, device: GatewayDevice) -> None:
        try:
            values = requests.settings(call.params)
        except ValueError as error:
            self._refuse(call, str(error))
            return
        if not values:
            self._refuse(call, "there is nothing to set")
            return
        command = Command("write", device.device, "", values, f"{_MARK}{call.id}")
        self._hand_over(call, command, {name[:64] for name in values})

    def _hand_over(self, call: Call, command: Command, properties: set[str]) -> None:
        assert command.id is not None
        key = command.device, command.id
        self._waiting[key] = call, properties
        if not self._inbox.take(command, RPC):
            del self._waiting[key]
            self._refuse(call, "too many requests wait")

    def _get(self, call: Call, device: GatewayDevice) -> None:
        try:
            requests.names(call.params)
        except ValueError as error:
            self._refuse(call, str(error))
            return
        self._hand_over(call, Command("read", device.device, "", None, f"{_MARK}{call.id}"), set())

    # -- what became of them

    def answer(self, device: str, topic: str, body: Mapping[str, Any]) -> bool:
        """Whether somebody waited for this; then it is said."""
        key = device, body.get("id", "")
        if key not in self._waiting or not topic.endswith("/result"):
            return "reported" in body  # nobody waits any more, and it is no news
        call, properties = self._waiting[key]
        if "reported" in body:
            del self._waiting[key]
            self._reply(call, _readings(call, body["reported"]))
            return True
        if body.get("state") == "waiting":
            return True
        properties.discard(body.get("property", ""))
        if not properties or body.get("state") != "applied":
            del self._waiting[key]
            self._reply(call, requests.outcome(body))
        return True

    def _refuse(self, call: Call, why: str) -> None:
        self._reply(call, {"success": False, "error": why})

    def _reply(self, call: Call, data: Mapping[str, Any]) -> None:
        body = {"device": call.name, "id": call.id, "data": data}
        payload = json.dumps(body, ensure_ascii=False).encode("utf-8", "backslashreplace")
        if len(payload) > self._most():
            self._refuse(call, f"the answer, {len(payload)} bytes, is more than ThingsBoard takes")
        else:
            self._say(Message(RPC, payload))


def _readings(call: Call, twin: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to `get`: one value, or some by name."""
    asked = requests.names(call.params)
    if asked is None:
        asked = [name for name, one in twin.items() if not one["reported"]["quality"].startswith("Bad")]
    try:
        readings = {name: _value(name, twin) for name in asked}
    except ValueError as error:
        return {"success": False, "error": str(error)}
    alone = isinstance(call.params, str) and len(readings) == 1
    return {"result": next(iter(readings.values())) if alone else readings}


def _value(name: str, twin: Mapping[str, Any]) -> Any:
    """The newest value of a property. Raises ValueError where there is none."""
    reading = twin[name]["reported"] if name in twin else None
    if reading is None:
        raise ValueError(f"no property `{name[:64]}`")
    if reading["quality"].startswith("Bad"):
        raise ValueError(f"{name}: {reading['quality']}")
    return reading["value"]
