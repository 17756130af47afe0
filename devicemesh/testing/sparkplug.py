"""A Sparkplug Host Application for tests, that believes nothing: by Google's protobuf, and by the letter.

Its schema is made from the field list of the specification (Sparkplug 3.0, chapter 6).
"""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import paho.mqtt.client as paho
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.unknown_fields import UnknownFieldSet
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from devicemesh.testing.broker import RealBroker

_FIELDS = {
    "Payload": "1 timestamp uint64, 2 metrics *Metric, 3 seq uint64, 4 uuid string, 5 body bytes",
    "Metric": "1 name string, 2 alias uint64, 3 timestamp uint64, 4 datatype uint32, 5 is_historical bool,"
    " 6 is_transient bool, 7 is_null bool, 9 properties PropertySet, 10 int_value uint32,"
    " 11 long_value uint64, 12 float_value float, 13 double_value double, 14 boolean_value bool,"
    " 15 string_value string, 16 bytes_value bytes",
    "PropertySet": "1 keys *string, 2 values *PropertyValue",
    "PropertyValue": "1 type uint32, 2 is_null bool, 3 int_value uint32, 4 long_value uint64,"
    " 5 float_value float, 6 double_value double, 7 boolean_value bool, 8 string_value string",
}
_VALUES = {"Metric": 10, "PropertyValue": 3}  # from this number on one of the fields is the value


def _file() -> descriptor_pb2.FileDescriptorProto:
    found = descriptor_pb2.FileDescriptorProto(name="sparkplug_b.proto", package="spb", syntax="proto2")
    for message, fields in _FIELDS.items():
        described = found.message_type.add(name=message)
        if message in _VALUES:
            described.oneof_decl.add(name="value")
        for each in fields.split(","):
            number, name, kind = each.split()
            repeated, kind = kind.startswith("*"), kind.lstrip("*")
            label = "LABEL_REPEATED" if repeated else "LABEL_OPTIONAL"
            field = described.field.add(name=name, number=int(number), label=label)
            if kind in _FIELDS:
                field.type, field.type_name = field.TYPE_MESSAGE, f".spb.{kind}"
            else:
                field.type = getattr(field, f"TYPE_{kind.upper()}")
            if message in _VALUES and field.number >= _VALUES[message]:
                field.oneof_index = 0
    return found


_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file())
Payload: Any = message_factory.GetMessageClass(_pool.FindMessageTypeByName("spb.Payload"))


def parsed(data: bytes) -> Any:
    """A payload; fields that the schema does not have are a failure."""
    found = Payload()
    found.ParseFromString(data)
    assert found.SerializeToString(deterministic=True), data
    assert not any(len(each) for each in _unknown(found)), f"unknown fields in {data.hex()}"
    return found


def _unknown(message: Any) -> Iterator[UnknownFieldSet]:
    yield UnknownFieldSet(message)
    for known, value in message.ListFields():
        if known.message_type is not None:
            for each in value if hasattr(value, "add") else [value]:
                yield from _unknown(each)


GROUP, NODE = "Plant 1", "test"
VALUES = (
    "int_value",
    "long_value",
    "float_value",
    "double_value",
    "boolean_value",
    "string_value",
    "bytes_value",
)
SIGNED = {3: 32, 4: 64}


def value_of(metric: Any) -> Any:
    """A value as a host reads it."""
    which = metric.WhichOneof("value")
    assert bool(which) != metric.is_null, f"{metric.name}: a value, or null"
    if which is None:
        return None
    value = getattr(metric, which)
    if bits := SIGNED.get(metric.datatype):
        return struct.unpack("<i" if bits == 32 else "<q", value.to_bytes(bits // 8, "little"))[0]
    return value


@dataclass
class Seen:
    """One value of one metric, as the host has it."""

    device: str
    name: str
    value: Any
    time_ms: int
    historical: bool
    bad: bool


@dataclass
class Born:
    """A device that the host knows: its metrics by name, and by alias."""

    types: dict[str, int] = field(default_factory=dict)
    aliases: dict[int, str] = field(default_factory=dict)
    properties: dict[str, dict[str, Any]] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)


class Host:
    """Follows one Edge Node by the letter of Sparkplug 3.0; `wrong` holds every breach."""

    def __init__(self, broker: RealBroker, identity: str = "scada") -> None:
        self.wrong: list[str] = []
        self.verbs: list[str] = []  # NBIRTH, DBIRTH/pump-1, ... as they came
        self.values: list[Seen] = []
        self.devices: dict[str, Born] = {}
        self.online = False
        self.bd_seq: int | None = None
        self.births = 0
        self._seq = -1
        self._identity = identity
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=identity, protocol=MQTTProtocolVersion.MQTTv5
        )
        self.subscribed = threading.Event()
        self._client.on_message = self._on_message
        qos = 1 if broker.kind == "mosquitto" else 0  # the other raises messages to what is subscribed
        asked = SubscribeOptions(qos, retainAsPublished=True)
        self._client.on_connect = lambda client, *_: client.subscribe(f"spBv1.0/{GROUP}/#", options=asked)
        self._client.on_subscribe = lambda *_: self.subscribed.set()
        self._client.reconnect_delay_set(1, 1)
        self._port = broker.port

    def __enter__(self) -> Self:
        self._client.connect("127.0.0.1", self._port, 60)
        self._client.loop_start()
        assert self.subscribed.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    # -- what it does

    def state(self, online: bool, time_ms: int) -> None:
        """Say whether it is there (section 6.4.27)."""
        body = json.dumps({"online": online, "timestamp": time_ms})
        self._client.publish(f"spBv1.0/STATE/{self._identity}", body, 1, retain=True).wait_for_publish(5)

    def ask(self, verb: str, device: str | None, *metrics: tuple[Any, int, Any]) -> None:
        """NCMD or DCMD: metrics by name or alias, with their types; a value of None is null."""
        payload = Payload(timestamp=time.time_ns() // 10**6)
        for key, type_, value in metrics:
            one = payload.metrics.add(datatype=type_, timestamp=payload.timestamp)
            setattr(one, "name" if isinstance(key, str) else "alias", key)
            if value is None:
                one.is_null = True
            else:
                fields = {1: 0, 2: 0, 3: 0, 4: 1, 8: 1, 9: 2, 10: 3, 11: 4, 12: 5, 17: 6}
                mask = {0: 0xFFFFFFFF, 1: (1 << 64) - 1}.get(fields[type_])
                setattr(one, VALUES[fields[type_]], value & mask if mask else value)
        self.publish(verb, device, payload.SerializeToString())

    def publish(self, verb: str, device: str | None, payload: bytes, retain: bool = False) -> None:
        topic = "/".join(["spBv1.0", GROUP, verb, NODE, *([device] if device else [])])
        self._client.publish(topic, payload, 1, retain=retain).wait_for_publish(5)

    # -- what it hears

    def of(self, device: str, name: str) -> list[Any]:
        """The values of a metric that came as data, in order."""
        return [each.value for each in list(self.values) if (each.device, each.name) == (device, name)]

    def seen(self, device: str, name: str) -> list[Seen]:
        return [each for each in list(self.values) if (each.device, each.name) == (device, name)]

    def _expect(self, condition: object, words: str) -> None:
        if not condition:
            self.wrong.append(words)

    def _on_message(self, _: Any, __: Any, message: paho.MQTTMessage) -> None:
        verb, *rest = message.topic.split("/")[2:]
        if verb in ("NCMD", "DCMD"):
            return
        try:
            self._take(verb, rest, message)
        except Exception as error:
            self.wrong.append(f"{message.topic}: {error!r}")

    def _take(self, verb: str, rest: list[str], message: paho.MQTTMessage) -> None:
        payload = parsed(bytes(message.payload))
        device = rest[1] if len(rest) > 1 else ""
        self.verbs.append(f"{verb}/{device}" if device else verb)
        self._expect(rest[0] == NODE and not message.retain, f"{message.topic}: retain {message.retain}")
        self._expect(message.qos == 0 or verb == "NDEATH", f"{verb}: QoS {message.qos}")
        self._expect(payload.HasField("timestamp"), f"{verb}: no timestamp")
        if verb == "NDEATH":
            self._death(payload)
            return
        self._expect(payload.HasField("seq"), f"{verb}: no seq")
        if verb == "NBIRTH":
            self._birth(payload)
        else:
            self._expect(self.online, f"{verb} of a node that is not born")
            self._expect(payload.seq == (self._seq + 1) % 256, f"{verb}: seq {payload.seq} after {self._seq}")
        self._seq = payload.seq
        if verb == "DBIRTH":
            self._device_birth(device, payload)
        elif verb == "DDEATH":
            self._expect(device in self.devices, f"DDEATH of {device}, which is not born")
            self.devices.pop(device, None)
        elif verb in ("NDATA", "DDATA"):
            self._data(device, payload)

    def _birth(self, payload: Any) -> None:
        metrics = {one.name: one for one in payload.metrics}
        self._expect(payload.seq == 0, f"NBIRTH with seq {payload.seq}")
        self._expect(metrics["bdSeq"].datatype == 4, "bdSeq is no Int64")
        rebirth = metrics["Node Control/Rebirth"]
        self._expect(rebirth.datatype == 11 and not rebirth.HasField("alias"), "Node Control/Rebirth")
        self._expect(value_of(rebirth) is False, "Node Control/Rebirth is not false")
        self.bd_seq, self.online, self.births = value_of(metrics["bdSeq"]), True, self.births + 1
        self.devices = {"": Born({one.name: one.datatype for one in payload.metrics})}

    def _death(self, payload: Any) -> None:
        (one,) = payload.metrics
        self._expect(not payload.HasField("seq"), "NDEATH has a seq")
        self._expect(one.name == "bdSeq" and one.datatype == 4, "NDEATH: bdSeq")
        if value_of(one) == self.bd_seq:
            self.online, self.devices = False, {}

    def _device_birth(self, device: str, payload: Any) -> None:
        born = self.devices[device] = Born()
        others = {alias for name, each in self.devices.items() if name != device for alias in each.aliases}
        for one in payload.metrics:
            self._expect(one.name and one.name not in born.types, f"DBIRTH of {device}: {one.name} twice")
            self._expect(one.HasField("timestamp"), f"DBIRTH of {device}: {one.name} has no time")
            born.types[one.name], born.values[one.name] = one.datatype, value_of(one)
            said = zip(one.properties.keys, one.properties.values, strict=True)
            born.properties[one.name] = {key: getattr(each, each.WhichOneof("value")) for key, each in said}
            if one.HasField("alias"):
                self._expect(one.alias not in others, f"alias {one.alias} of {device} is another's")
                self._expect(one.alias not in born.aliases, f"alias {one.alias} of {device} comes twice")
                born.aliases[one.alias] = one.name

    def _data(self, device: str, payload: Any) -> None:
        born = self.devices.get(device)
        if born is None:
            self.wrong.append(f"data of {device}, which is not born")
            return
        for one in payload.metrics:
            name = born.aliases.get(one.alias) if one.HasField("alias") else one.name
            if name not in born.types or born.types[name] != one.datatype:
                self.wrong.append(f"{device}: {one.name or one.alias} of type {one.datatype} was not born so")
                continue
            self._expect(one.HasField("timestamp"), f"{device}: {name} has no time")
            bad = "Quality" in one.properties.keys
            seen = Seen(device, name, value_of(one), one.timestamp, one.is_historical, bad)
            self.values.append(seen)
