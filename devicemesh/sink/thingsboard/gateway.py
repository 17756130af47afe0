"""The gateway: sessions with ThingsBoard, what is told of devices, and what it asks."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from devicemesh import __version__
from devicemesh.settings import ThingsBoardSettings
from devicemesh.sink import told
from devicemesh.sink.base import Declaration
from devicemesh.sink.client import Will
from devicemesh.sink.connection import Connection
from devicemesh.sink.dialect import Dialect
from devicemesh.sink.entry import Encode, Link, TooLargeError
from devicemesh.sink.inbox import Inbox
from devicemesh.sink.payload import loads
from devicemesh.sink.routes import Route
from devicemesh.sink.sender import Sender
from devicemesh.sink.thingsboard import entries, limits
from devicemesh.sink.thingsboard.calls import Calls
from devicemesh.sink.thingsboard.devices import GatewayDevice, GatewayDevices
from devicemesh.sink.thingsboard.entries import Bounds
from devicemesh.sink.thingsboard.limits import Limits
from devicemesh.sink.thingsboard.link import RECORDS, GatewayLink, Message
from devicemesh.sink.thingsboard.memory import Memory
from devicemesh.sink.thingsboard.presence import Presence
from devicemesh.sink.thingsboard.shared import SharedAttributes
from devicemesh.sink.thingsboard.topics import (
    ATTRIBUTES,
    ATTRIBUTES_RESPONSE,
    DISCONNECT,
    OWN_ATTRIBUTES,
    OWN_RPC,
    OWN_RPC_ANSWER,
    OWN_TELEMETRY,
    RPC,
    SUBSCRIPTIONS,
    GatewayTopics,
)

log = logging.getLogger("devicemesh.sink")

KNOWN_S = 10.0
"""How long after the connection records wait for the declarations of their devices."""
HEALTH_S = 60.0
"""Between two telemetry messages of the gateway itself."""
DEAF_S = 5.0
"""After so long without an answer it is said that we may be no gateway there."""
LIMITS_S = 1.0
"""So long attributes, which may be many, wait for the server to say its limits; telemetry does not."""
SHORT_S = 10.0
"""A session that is ended sooner may have sent more than the server takes."""
FEW = 10
"""Values that are not too much."""
RELAX_S = 15.0
"""After so long without it, a session that was ended is forgotten by half."""
_FIRST_REST_S, _SHORT_REST_S, _REST_S = 1.0, 5.0, 60.0  # after the server has ended a session
_DELETED = "gateway_device_deleted"  # what ThingsBoard calls at a gateway


class Gateway(Dialect):
    """See `Dialect`."""

    def __init__(
        self,
        settings: ThingsBoardSettings,
        instance: str,
        inbox: Inbox,
        encode_json: Encode,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.topics: GatewayTopics = GatewayTopics(settings.prefix)
        self.subscriptions: Sequence[str] = SUBSCRIPTIONS
        self.username = settings.token_of(instance)
        self._profile, self._instance = settings.profile, instance
        self._inbox, self._encode, self._clock = inbox, encode_json, clock
        self._devices = GatewayDevices()
        self._calls = Calls(self._devices, inbox, self._say, self._payload_bytes)
        self._limits = Limits()  # as they were said last, be it in the session before
        self._limits_said: Any = None
        self._overran = False  # on this connection
        self._known = False  # all devices that are declared
        self._connection: Connection | None = None
        self._link: GatewayLink | None = None
        self._ready: Callable[[Link], None] | None = None  # until records may go out
        self._since_s = self._health_s = self._relaxed_s = self._rest_until_s = self._rest_s = 0.0
        self._own_heard = False  # ThingsBoard has answered something of our own, on this connection

    def opened(self, sender: Sender, home: Path, epoch: int) -> None:
        self._sender = sender
        self._memory = Memory(home / "thingsboard")
        self._devices.doubted = self._memory.doubted
        self._shared = SharedAttributes(self._devices, self._inbox, self._memory, self._clock)
        self._presence = Presence(self.topics, self._profile, self._shared, self._devices, self._clock)
        self._presence.on_quota = self._too_fast

    # -- the session

    def will(self) -> Will:
        """ThingsBoard sees by itself that a connection is gone, and publishes none."""
        return Will(OWN_ATTRIBUTES, b'{"state":"offline"}', retain=False)

    def bounds(self, window: int, packet_bytes: int) -> tuple[int, int]:
        return RECORDS, 1 << 28  # the link makes messages of them

    def connected(self, connection: Connection, ready: Callable[[Link], None]) -> None:
        self._connection, self._ready, self._since_s = connection, ready, self._clock()
        if self._since_s < self._rest_until_s:
            self.waits_for = "waits a little: ThingsBoard's rate limits ended the session before"
        else:
            self._begin()

    def _begin(self) -> None:
        assert self._connection is not None
        self.waits_for, self._overran, self._since_s = None, False, self._clock()
        self._health_s = -math.inf
        self._link = GatewayLink(
            self._connection, self._sender.acknowledged, self._presence, self._limits, self._clock
        )
        asked = {"method": "getSessionLimits", "params": {"timeout": 5000}}
        self._say(Message(OWN_RPC + "1", json.dumps(asked).encode()))
        about = {"version": __version__, "instance": self._instance, "state": "online"}
        self._say(Message(OWN_ATTRIBUTES, entries.members(None, about), answered=self._heard_own, values=3))
        self._presence.begin(self._since_s + LIMITS_S)

    def _heard_own(self, code: int) -> None:
        self._own_heard = True

    def disconnected(self, *, hung_up: bool = False) -> None:
        if hung_up:
            self._hung_up()
        self._connection = self._link = self._ready = None
        self.waits_for = None
        self._own_heard = False
        self._calls.clear()
        self._shared.clear()
        self._presence.end()

    def _too_fast(self) -> None:
        """The server says so, and ends the session."""
        self._slow_down(_REST_S, certain=True)

    def _hung_up(self) -> None:
        """It says nothing: an older one that was sent too much, or what it can't read; or the network."""
        link, passed_s = self._link, self._clock() - self._since_s
        if link is not None and link.owed and link.values >= FEW and passed_s < SHORT_S:
            self._slow_down(_SHORT_REST_S, certain=False)

    def _slow_down(self, most_s: float, *, certain: bool) -> None:
        """The next session begins later, and is slower."""
        if self._overran or self._link is None:
            return
        self._overran = True
        passed_s = self._clock() - self._since_s
        self._limits = self._limits.slower(self._link.values, passed_s, certain=certain)
        self._rest_s = min(most_s, max(_FIRST_REST_S, 2 * self._rest_s))
        self._rest_until_s = self._clock() + self._rest_s

    async def leave(self, patience_s: float) -> None:
        """The end of the connection says it all."""

    def close(self, connection: Connection) -> None:
        connection.close()

    async def save(self, disk: Executor) -> None:
        if self._memory.due and not self._inbox.waiting:  # who dies before they are desired has not seen them
            await asyncio.get_running_loop().run_in_executor(disk, self._memory.save, *self._memory.text())

    # -- devices

    def declare(self, device: str, declaration: Declaration) -> None:
        try:
            known = self._known_device(device)
        except ValueError:  # Kubernetes takes more names: the store tells
            return
        if known.declaration is not declaration:
            known.declaration, known.asked = declaration, False
            self._presence.changed(known)

    def _known_device(self, device: str) -> GatewayDevice:
        return self._devices.known(self.topics.name(device), device)

    def retain(self, device: str, topic: str, payload: bytes) -> None:
        name = self.topics.name(device)  # raises here, to the caller
        if not payload and name not in self._devices:
            return
        known = self._devices.known(name, device)
        if topic == "twin/reported":
            known.twin = payload
            self._presence.changed(known)
        else:
            if not payload:
                known.declaration = None
                self._memory.forget(device)
            self._presence.state(known, payload)
        if self._link is not None:
            self._link.flush_soon()

    def release(self, device: str) -> None:
        known = self._devices.get(self.topics.name(device))
        if known is not None:
            known.declaration = None
            self._presence.state(known, b"")
            if known.connected:
                self._say(self._presence.farewell(known))
            self._memory.forget(device)

    def forget_absent(self, exists: Callable[[str], bool]) -> None:
        self._known = True
        for device in self._memory.devices:
            if not exists(device):
                self._memory.forget(device)

    # -- out

    def payload(self, route: Route, body: bytes, late: bool) -> bytes:
        try:
            return entries.packed(self._entries(route, body))
        except (KeyError, TypeError, AttributeError, RecursionError) as error:  # of another version, perhaps
            raise ValueError(f"it is not as it should be: {error!r}") from error

    def _entries(self, route: Route, body: bytes) -> list[entries.Entry]:
        bounds = Bounds(self._payload_bytes(), self._limits.message_values)
        if not route.device:
            return entries.entries(told.gap(json.loads(body)), bounds)
        if route.names is None:
            return entries.entries(told.event(route.suffix, json.loads(body), _now_ms()), bounds)
        known = self._known_device(route.device)
        said = json.loads(self._encode(body, route.names))
        if not known.doubted and (usual := entries.quick(said, bounds)) is not None:
            return usual
        before = set(known.doubted)
        try:
            found = entries.entries(entries.judged(told.telemetry(said), known.doubted), bounds)
        except TooLargeError:  # it is dropped, with all that it says
            known.doubted |= before
            raise
        known.healed |= before - known.doubted
        self._memory.doubt(route.device, known.doubted | known.healed)
        return found

    def _payload_bytes(self) -> int:
        return self._link.payload_bytes if self._link is not None else limits.PAYLOAD_BYTES

    def acknowledged(self, identifier: int, code: int) -> None:
        if self._link is not None:
            self._link.acknowledged(identifier, code)

    def answers(self) -> int | None:
        return self._link.answered if self._link is not None and self._link.owed else None

    def _say(self, message: Message) -> None:
        if self._link is not None:
            self._link.say(message)

    # -- in

    def message(self, topic: str, payload: bytes, retained: bool, correlation: bytes | None) -> None:
        if len(payload) > self._inbox.max_payload_bytes:
            self._reject(topic, f"{len(payload)} bytes are too many")
            return
        try:
            self._take(topic, payload)
        except (ValueError, RecursionError) as error:
            self._reject(topic, str(error))

    def _reject(self, topic: str, why: str) -> None:
        self._inbox.refused += 1
        if self._inbox.refused.bit_count() == 1:  # the 1st, 2nd, 4th, ...: not to fill the log
            log.warning("%s refused: %s", topic, why)

    def _take(self, topic: str, payload: bytes) -> None:
        if topic == RPC:
            self._calls.take(payload)
        elif topic == ATTRIBUTES:
            self._shared.updated(payload)
        elif topic == ATTRIBUTES_RESPONSE:
            self._shared.answered(payload)
        elif topic.startswith(OWN_RPC_ANSWER):
            self._limited(loads(payload))
        elif topic.startswith(OWN_RPC):
            self._called(topic.removeprefix(OWN_RPC), loads(payload))
        elif topic == DISCONNECT:
            self._gone(loads(payload))
        else:
            raise ValueError("not for us")

    def answer(self, device: str, topic: str, body: Mapping[str, Any]) -> bool:
        return self._calls.answer(device, topic, body)

    def _limited(self, answer: Any) -> None:
        found = limits.limits(answer)
        if found is None or self._link is None:
            return
        self._presence.attributes_s = 0.0
        if answer != self._limits_said:
            self._limits = self._link.limits = found  # else they go on as they were used
            self._limits_said = answer
            log.info("ThingsBoard takes %d bytes a message, %d messages at once%s", found.payload_bytes,
                     found.inflight, "" if found.devices.unlimited else ", at a limited rate")  # fmt: skip

    def _called(self, number: str, body: Any) -> None:
        """A call of the gateway itself: ThingsBoard tells of devices that it has deleted."""
        method = body.get("method") if isinstance(body, dict) else None
        if method == _DELETED:
            self._gone({"device": body.get("params")})
            data: dict[str, Any] = {"success": True}
        else:
            data = {"success": False, "error": f"the gateway has no method `{str(method)[:64]}`"}
        self._say(Message(OWN_RPC_ANSWER + number, json.dumps(data).encode()))

    def _gone(self, body: Any) -> None:
        """ThingsBoard has ended what it had of a device."""
        name = body.get("device") if isinstance(body, dict) else None
        known = self._devices.get(name) if isinstance(name, str) else None
        if known is not None:
            self._presence.gone(known)

    # -- again and again

    def tend(self) -> None:
        now_s = self._clock()
        if self._link is None:
            if self._connection is not None and now_s >= self._rest_until_s:
                self._begin()
            return
        if self._ready is not None and (self._known or now_s - self._since_s >= KNOWN_S):
            ready, self._ready = self._ready, None
            ready(self._link)
        for known in self._presence.leaving():
            self._say(self._presence.farewell(known))
        if now_s - self._health_s >= HEALTH_S and self._known:
            self._health_s = now_s
            self._tell_health()
        if now_s - max(self._since_s, self._relaxed_s) >= RELAX_S:
            self._relax(now_s)
        self._suspect(now_s)
        self._link.tend()

    def _relax(self, now_s: float) -> None:
        """Forget, little by little, that a session was ended."""
        self._relaxed_s, self._rest_s = now_s, 0.0
        if self._link is not None:
            self._limits = self._link.limits = self._limits.faster()

    def _tell_health(self) -> None:
        """Few words of the gateway's own."""
        alive = sum(device.alive for device in self._devices.values())
        waiting, now_ms = self._sender.waiting(), _now_ms()
        values = {"devices": len(self._devices), "devices/alive": alive, "outbox/waiting": waiting}
        found = entries.entries((told.Told(key, v, now_ms) for key, v in values.items()), Bounds(1024, 9))
        self._say(Message(OWN_TELEMETRY, entries.telemetry(None, found), values=len(values)))

    def _suspect(self, now_s: float) -> None:
        """A device that is no gateway is answered nothing on the topics of gateways."""
        connected = any(known.connected for known in self._devices.values())
        if not self._own_heard or self._presence.heard or not connected or now_s - self._since_s < DEAF_S:
            self.waits_for = None
        elif self.waits_for is None:
            self.waits_for = "ThingsBoard answers nothing of our devices: is our device there a gateway?"
            log.warning(
                "%s Try: edit the device of our token at ThingsBoard, tick Is gateway", self.waits_for
            )


def _now_ms() -> int:
    return time.time_ns() // 10**6
