"""ThingsBoard's MQTT transport for tests, as its source has it: what it takes, refuses, closes, and calls.

After common/transport/mqtt (MqttTransportHandler, AbstractGatewaySessionHandler) and JsonConverter.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from devicemesh.testing.mqtt import MqttServer, Session

QUOTA, UNSPECIFIED, INVALID, BAD_CREDENTIALS = 0x97, 0x80, 0x99, 0x86
TOO_FAST = 0x197
"""Answered as QUOTA, and the end of the session."""
_GATEWAY, _OWN = "v1/gateway/", "v1/devices/me/"
_FILTERS = (
    "v1/gateway/attributes", "v1/gateway/attributes/response", "v1/gateway/rpc",
    "v1/devices/me/rpc/request/+", "v1/devices/me/rpc/response/+",
    "v1/devices/me/attributes", "v1/devices/me/attributes/response/+",
)  # fmt: skip
_PARSABLE = re.compile(r"-?(\d+|\d*\.\d+)", re.ASCII)  # NumberUtils.isParsable


class Number(str):
    """A number of JSON, as it is written."""


class TextNumber(str):
    """What was a number, and is a text now: nothing can be computed from it."""


class RefusedError(ValueError):
    """JsonSyntaxException."""


def read(payload: bytes) -> Any:
    """JSON as Gson has it."""
    return json.loads(payload, parse_float=Number, parse_int=Number, parse_constant=_constant)


def _constant(name: str) -> Any:
    raise RefusedError(f"{name} is no JSON")


def numeric(text: str, cast: bool) -> Any:
    """JsonConverter.buildNumericKeyValueProto: a long, a double, or else a text."""
    number = Decimal(text)
    simple = "." in text and "e" not in text.lower()
    scale = -int(number.as_tuple().exponent)
    stripped = -int(number.normalize().as_tuple().exponent) if number else 0
    if stripped <= 0 and not simple:
        if -(1 << 63) <= number < 1 << 63:
            return int(number)
    elif scale <= 16:
        return float(text)
    if not cast:
        raise RefusedError("Big integer values are not supported!")
    return TextNumber(f"{number:f}")


def values(body: Any, cast: bool, longest: int) -> dict[str, Any]:
    """JsonConverter.parseProtoValues. Raises RefusedError."""
    if not isinstance(body, dict):
        raise RefusedError(f"Can't parse value: {body!r}")
    found: dict[str, Any] = {}
    for key, value in body.items():
        if isinstance(value, Number):
            found[key] = numeric(value, cast)
        elif isinstance(value, str):
            if 0 < longest < len(value):
                raise RefusedError("String value length is greater than maximum allowed")
            number = numeric(value, cast) if cast and _PARSABLE.fullmatch(value) else value
            found[key] = value if isinstance(number, TextNumber) else number
        elif value is not None:
            found[key] = value
    return found


class Limit:
    """As in `10:1,300:60`: Bucket4j's, filled greedily."""

    def __init__(self, text: str) -> None:
        pairs = [each.split(":") for each in text.split(",") if each]
        self._buckets = [[float(count), int(count), int(count) / int(s), 0.0] for count, s in pairs]

    def take(self, count: int) -> bool:
        now = time.monotonic()
        for bucket in self._buckets:
            since = bucket[3] or now
            bucket[0], bucket[3] = min(bucket[1], bucket[0] + (now - since) * bucket[2]), now
        if any(bucket[0] < count for bucket in self._buckets):
            return False
        for bucket in self._buckets:
            bucket[0] -= count
        return True


@dataclass
class PlatformDevice:
    """As it is stored."""

    type: str
    telemetry: dict[str, dict[int, Any]] = field(default_factory=dict)
    client: dict[str, Any] = field(default_factory=dict)
    shared: dict[str, Any] = field(default_factory=dict)
    session: Session | None = None  # of the gateway by which it is connected
    connects: int = 0
    calls: int = 0  # each device counts its own

    def latest(self, key: str) -> Any:
        """The newest value; None: there is none."""
        series = self.series(key)
        return series[-1][1] if series else None

    def series(self, key: str) -> list[tuple[int, Any]]:
        """(time in ms, value), by time."""
        known = self.telemetry.get(key, {}).copy()  # at once: the server's thread adds to it
        return sorted(known.items(), key=lambda one: one[0])


class ThingsBoard(MqttServer):
    """A tenant, whose gateways are known by their tokens. `wrong` is what no gateway should do."""

    def __init__(self, **options: Any) -> None:
        """`limits` and `own_limits`: as `getSessionLimits` gives them; `old`: servers before 4.1.

        `silent`: it answers no getSessionLimits; `cast`, `longest`: transport.json; `most`: devices.
        """
        super().__init__()
        self.devices: dict[str, PlatformDevice] = {}
        self.gateways: dict[str, PlatformDevice] = {}
        self.wrong: list[str] = []
        self.messages: list[tuple[str, Any]] = []
        self.answers: dict[tuple[str, int], Any] = {}  # by device, "" for the gateway, and id
        self.tokens: dict[str, bool] = options.get("tokens", {"token": True})  # whether it is a gateway's
        self.old, self.silent = options.get("old", False), options.get("silent", False)
        self.cast, self.longest = options.get("cast", True), options.get("longest", 0)
        self.max_packet_bytes = options.get("max_payload", 65536)
        self.limits: dict[str, str] = options.get("limits", {})
        self.most: int = options.get("most", 1 << 30)
        self.deaf = False  # who speaks now is never answered any more, on this connection
        self._unheard: set[Session] = set()
        self.taken = self.overruns = 0  # messages; those beyond a limit
        self._rates = {name: Limit(text) for name, text in self.limits.items()}

    # -- what people do there

    def share(self, name: str, *deleted: str, **shared: Any) -> None:
        """Somebody edits shared attributes of a device."""
        device = self.devices[name]
        device.shared.update(shared)
        for key in deleted:
            device.shared.pop(key, None)
        data = {**shared, **({"deleted": list(deleted)} if deleted else {})}
        self.call(lambda: self._notify(device, "attributes", {"device": name, "data": data}))

    def request(self, name: str, method: str, params: Any = None) -> tuple[str, int]:
        """Somebody calls a method; returns where its answer will be in `answers`."""
        device = self.devices[name]
        device.calls += 1
        data = {"id": device.calls, "method": method, "params": params}
        self.call(lambda: self._notify(device, "rpc", {"device": name, "data": data}))
        return name, device.calls

    def delete(self, name: str) -> None:
        """Somebody deletes a device: its gateway is told."""
        session = self.devices.pop(name).session
        body = json.dumps({"method": "gateway_device_deleted", "params": name}).encode()
        if session is not None:
            self.call(lambda: session.publish(_OWN + "rpc/request/77", body))

    def limit(self, name: str, text: str) -> None:
        """Another limit from now on."""
        self.limits[name], self._rates[name] = text, Limit(text)

    def connected(self) -> list[str]:
        """Devices that are connected."""
        known = self.devices.copy()  # at once, as a list is not
        return sorted(name for name, device in known.items() if device.session is not None)

    def _notify(self, device: PlatformDevice, topic: str, body: Any) -> None:
        session = device.session
        if session is not None and _GATEWAY + topic in session.filters:
            session.publish(_GATEWAY + topic, json.dumps(body).encode())

    # -- as a server

    def admit(self, session: Session) -> int:
        if session.username not in self.tokens:
            return BAD_CREDENTIALS if session.v5 else 5
        for other in [one for one in self.sessions if one.username == session.username]:
            other.close()  # max_concurrent_sessions_per_device: 1
        self.gateways.setdefault(session.username, PlatformDevice("default"))
        return 0

    def grant(self, session: Session, topic_filter: str) -> int:
        if topic_filter in _FILTERS:
            return 1
        self.wrong.append(f"subscribes to {topic_filter}")
        return 0x8F

    def ended(self, session: Session) -> None:
        for device in self.devices.copy().values():
            if device.session is session:
                device.session = None

    def published(self, session: Session, topic: str, payload: bytes, identifier: int) -> None:
        if not identifier:
            self.wrong.append(f"{topic} with QoS 0")
        self.taken += 1
        if self.deaf:
            self._unheard.add(session)
        if session in self._unheard or (
            topic.startswith(_GATEWAY) and not self.tokens[session.username or ""]
        ):
            return
        try:
            body = read(payload)
            self.messages.append((topic, body))
            code = self._taken(session, topic, body)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            self.wrong.append(f"{topic}: {error!r} in {payload[:200]!r}")
            code = INVALID
        self._answer(session, identifier, code)

    def _answer(self, session: Session, identifier: int, code: int) -> None:
        if code == INVALID and (self.old or not session.v5):
            session.close()
        elif code == TOO_FAST:
            if not self.old:
                session.acknowledge(identifier, QUOTA)  # 3.1.1 has no code: it reads as if it were taken
            session.close()
        elif code != UNSPECIFIED or not self.old:  # else it says nothing at all
            session.acknowledge(identifier, code)

    def _taken(self, session: Session, topic: str, body: Any) -> int:
        if topic == _GATEWAY + "telemetry":
            return self._telemetry(session, body)
        if topic == _GATEWAY + "attributes":
            return self._attributes(session, body)
        if topic == _GATEWAY + "connect":
            return self._connect(session, body["device"], body.get("type", "default"))
        if topic == _GATEWAY + "disconnect":
            self.devices[body["device"]].session = None
            return 0
        if topic == _GATEWAY + "attributes/request":
            return self._requested(session, body)
        if topic == _GATEWAY + "rpc":
            self.answers[body["device"], int(body["id"])] = plain(body["data"])
            return self._rated("messages", 1)
        if topic.startswith(_OWN):
            return self._own(session, topic.removeprefix(_OWN), body)
        raise RefusedError("a topic that is none")

    def _rated(self, name: str, count: int, points: int = 0) -> int:
        names = [(name, count), *([("telemetryDataPoints", points)] if points else [])]
        if all(self._rates[one].take(number) for one, number in names if one in self._rates):
            return 0
        self.overruns += 1
        return TOO_FAST

    def _connect(self, session: Session, name: str, kind: str) -> int:
        if not isinstance(name, str) or not name:
            raise RefusedError("Device name is empty!")
        device = self.devices.get(name)
        if device is None:
            if len(self.devices) >= self.most:
                return UNSPECIFIED if self.old else QUOTA
            device = self.devices[name] = PlatformDevice(kind)
        if device.session is not session:
            device.session, device.connects = session, device.connects + 1
        return 0

    def _known(self, session: Session, name: str) -> PlatformDevice | int:
        if name not in self.devices or self.devices[name].session is not session:
            self.wrong.append(f"{name}: data before it is connected")
            if code := self._connect(session, name, "default"):
                return code
        return self.devices[name]

    def _telemetry(self, session: Session, body: Any) -> int:
        if not isinstance(body, dict) or not body:
            raise RefusedError("Devices telemetry message is empty")
        if len(body) > 1:
            self.wrong.append("a message of two devices")
        for name, array in body.items():
            device = self._known(session, name) if name in self.devices else self._unknown(session, name)
            if isinstance(device, int):
                return device
            if not isinstance(array, list):
                raise RefusedError("no array")
            entries = self._entries(array)
            if code := self._rated("telemetryMessages", 1, sum(len(each) for _, each in entries)):
                return code
            self._store(device, entries)
        return 0

    def _unknown(self, session: Session, name: str) -> PlatformDevice | int:
        """A device that is not there: it is made, where one may be."""
        if len(self.devices) < self.most:
            return self._known(session, name)
        return UNSPECIFIED if self.old else QUOTA

    def _entries(self, array: list[Any]) -> list[tuple[int, dict[str, Any]]]:
        return [(int(one["ts"]), values(one["values"], self.cast, self.longest)) for one in array]

    def _store(self, device: PlatformDevice, entries: list[tuple[int, dict[str, Any]]]) -> None:
        for ts, found in entries:
            for key, value in found.items():
                if isinstance(value, TextNumber):
                    self.wrong.append(f"{key}: the number {value} became a text")
                device.telemetry.setdefault(key, {})[ts] = plain(value)

    def _attributes(self, session: Session, body: Any) -> int:
        for name, members in body.items():
            device = self._known(session, name)
            if isinstance(device, int):
                return device
            found = values(members, self.cast, self.longest)
            if code := self._rated("telemetryMessages", 1, len(found)):
                return code
            device.client.update({key: plain(value) for key, value in found.items()})
        return 0

    def _requested(self, session: Session, body: Any) -> int:
        name, keys = body["device"], body["keys"]
        if body["client"] is not False or not isinstance(keys, list):
            raise RefusedError("no request")
        device = self._known(session, name)
        if isinstance(device, int):
            return device
        found = {key: device.shared[key] for key in keys if key in device.shared}
        answer: dict[str, Any] = {"id": int(body["id"]), "device": name}
        if found:
            answer |= {"value": found[keys[0]]} if len(keys) == 1 else {"values": found}
        session.publish(_GATEWAY + "attributes/response", json.dumps(answer).encode())
        return self._rated("messages", 1)

    def _own(self, session: Session, topic: str, body: Any) -> int:
        device = self.gateways[session.username or ""]
        if topic == "telemetry":
            self._store(device, self._entries(body))
        elif topic == "attributes":
            device.client.update({k: plain(v) for k, v in values(body, self.cast, self.longest).items()})
        elif topic == "rpc/request/1" and body["method"] == "getSessionLimits":
            if not self.silent:
                session.publish(_OWN + "rpc/response/1", json.dumps(self._session_limits(session)).encode())
        elif topic.startswith("rpc/response/"):
            self.answers["", int(topic.rpartition("/")[2])] = plain(body)
        else:
            raise RefusedError(f"a topic that is none, {topic}")
        return 0

    def _session_limits(self, session: Session) -> Mapping[str, Any]:
        gateway = {"gatewayRateLimits": self.limits} if self.tokens[session.username or ""] else {}
        return {
            "maxPayloadSize": self.max_packet_bytes,
            "maxInflightMessages": 100,
            "rateLimits": {},
            **gateway,
        }


def plain(value: Any) -> Any:
    """As a test compares it: numbers are numbers."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return json.loads(value) if isinstance(value, Number) else value
