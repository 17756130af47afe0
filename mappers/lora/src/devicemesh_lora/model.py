"""What a person writes about LoRaWAN: where gateways send to, who a device is, where a property lives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from pydantic.alias_generators import to_camel

from devicemesh import layout
from devicemesh.mapper import Address
from devicemesh.spec.base import Strict
from devicemesh.spec.values import Scalar, ValueType
from devicemesh_lora import document
from devicemesh_lora.endpoint import LoraEndpoint as LoraEndpoint  # noqa: PLC0414 - what a person writes too

NODE_TEXTS = ("dataRate", "gateway", "refusedReason", "deduplicationId")
FLAGS = ("adr", "online")
GATEWAY_STATS = (
    "lastSeen", "latitude", "longitude", "altitude", "rxnb", "rxok", "rxfw", "ackr", "dwnb", "txnb",
    "badCrc", "refused", "online",
)  # fmt: skip
NODE_STATS = (
    "lastSeen", "rssi", "snr", "dataRate", "frequency", "gateway", "gateways", "counter", "lost",
    "port", "adr", "battery", "margin", "refused", "refusedReason", "deduplicationId", "latitude",
    "longitude", "altitude",
)  # fmt: skip
Stat = Literal[
    "lastSeen", "rssi", "snr", "dataRate", "frequency", "gateway", "gateways", "counter", "lost", "port",
    "battery", "margin", "refused", "refusedReason", "latitude", "longitude", "altitude",
    "rxnb", "rxok", "rxfw", "ackr", "dwnb", "txnb", "badCrc", "adr", "deduplicationId", "online",
]  # fmt: skip
Quantity = Literal[
    "digitalIn", "digitalOut", "analogIn", "analogOut", "illuminance", "presence", "temperature",
    "humidity", "accelerationX", "accelerationY", "accelerationZ", "pressure", "gyroX", "gyroY", "gyroZ",
    "latitude", "longitude", "altitude",
]  # fmt: skip
_TEXTS = (ValueType.STRING, ValueType.BYTES, ValueType.JSON)


class Bytes(Strict):
    """Where a value lies in a payload, as bytes."""

    offset: int | None = Field(default=None, ge=0, le=254)
    """Where the value begins in the payload, in bytes."""
    type: ValueType | None = None
    """How it lies there, if otherwise than the property's type: a float64 may be an int16 there."""
    length: int | None = Field(default=None, ge=1, le=255)
    """With `offset`: bytes that a string or bytes takes; by default all that remain."""
    bit: int | None = Field(default=None, ge=0, le=63)
    """With `offset`: the lowest bit, where only a part of the integer is meant."""
    bits: int | None = Field(default=None, ge=1, le=64)
    """How many bits; 1 by default."""
    byte_order: layout.Order = "big"
    """The order of bytes."""
    scale: float = 1.0
    """value = raw x scale + add"""
    add: float = 0.0
    """value = raw x scale + add"""
    enum: dict[int, str] | None = None
    """Words for an integer's codes; the property is a string."""


class LoraAddress(Bytes, Address):
    """Where a property lives: in a payload, by bytes, Cayenne LPP or a codec, or in what the radio tells."""

    port: int | None = Field(default=None, ge=1, le=223)
    """FPort of the uplinks that hold it, and of the downlinks that set it. By default any, and 1."""
    channel: int | None = Field(default=None, ge=0, le=255)
    """Of Cayenne LPP: the data channel."""
    quantity: Quantity | None = None
    """Of Cayenne LPP: what is measured, where a channel has several; by default its first value."""
    pointer: str | None = None
    """JSON pointer into the decoded payload of a codec, as in /temperature or /probes/0/depth (RFC 6901)."""
    normalized: bool = False
    """With `pointer`: into the normalised payload, as in /air/temperature (TS013, normalizeUplink)."""
    data: dict[str, Any] = Field(default_factory=dict)
    """With `pointer`, of a downlink: what else encodeDownlink is given beside the value."""
    stat: Stat | None = None
    """What is known of the device's last uplink, or of the gateway: rssi, snr, lastSeen, counter..."""
    prefix: str = Field(default="", pattern=r"^([0-9a-fA-F]{2})*$")
    """Of a downlink: hexadecimal bytes in front of the value, as a command's code."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        ways = [way for way in ("offset", "channel", "pointer", "stat") if getattr(self, way) is not None]
        if len(ways) != 1:
            raise ValueError(
                "give one of `offset` (bytes), `channel` (Cayenne LPP), `pointer` (a codec) and `stat` "
                "(the radio)"
            )
        way = ways[0]
        for owners, fields in _BELONG.items():
            extra = self.model_fields_set & fields
            if extra and way not in owners:
                raise ValueError(f"`{to_camel(min(extra))}` goes with `{'` and `'.join(owners)}`")
        if self.port is not None and self.stat is not None:
            raise ValueError("`port` does not go with `stat`: it is of any uplink")
        if self.pointer is not None:
            document.tokens(self.pointer)
            if self.scale == 0:
                raise ValueError("`scale` must not be 0")
        return self

    @property
    def text(self) -> str:
        """The address in its short form."""
        if self.stat is not None:
            return f"stat:{self.stat}"
        if self.channel is not None:
            return f"lpp:{self.channel}" + (f"/{self.quantity}" if self.quantity else "")
        if self.pointer is not None:
            return f"{self.port or ''}{'~' if self.normalized else '#'}{self.pointer}"
        return f"{self.port or ''}@{self.offset}"

    def field(self, type_: ValueType) -> layout.Field:
        """The layout of a value in a payload."""
        wire = self.type or type_
        if self.type is None and type_ == ValueType.STRING and self.enum is not None:
            wire = ValueType.UINT8
        length = self.length if wire in (*_TEXTS, ValueType.BOOL) else None
        return layout.Field(
            self.offset or 0, wire, self.byte_order, self.byte_order, self.bit, self.bits,
            length, "utf-8", self.scale, self.add, self.enum,
        )  # fmt: skip

    @property
    def steps(self) -> tuple[str, ...]:
        """Those of `pointer`."""
        return document.tokens(self.pointer) if self.pointer is not None else ()

    def refusal(self, type_: ValueType, access: str) -> str | None:
        if self.pointer is not None:
            return self._pointer_refusal(type_, access)
        if self.offset is None:
            return self._plain_refusal(type_, access)
        if type_ == ValueType.JSON:
            return "json has no place in a payload"
        field = self.field(type_)
        if wrong := layout.problem(field):
            return wrong
        if access != "ReadOnly" and self.bit is not None:
            return "a bit of a payload can only be read"
        if (self.scale != 1.0 or self.add != 0.0) and not type_.is_float:
            return f"scale and add make a float of it, not a {type_}"
        words = field.enum is not None
        texts = (ValueType.STRING, ValueType.BYTES)
        if type_ in texts and field.type != type_ and not (words and type_ == ValueType.STRING):
            return f"a {field.type} is not a {type_}"
        if type_ not in texts and (words or field.type in texts):
            return f"what lies there is not a {type_}"
        if type_.is_integer and field.type.is_float:
            return f"a {field.type} does not fit a {type_}"
        if type_ == ValueType.BOOL and field.type != ValueType.BOOL:
            return f"a {field.type} is not a bool: leave `type` away"
        return None

    def _pointer_refusal(self, type_: ValueType, access: str) -> str | None:
        if type_ == ValueType.BYTES:
            return "a decoded payload has no bytes: make it a string or json"
        if (self.scale != 1.0 or self.add != 0.0) and not type_.is_float:
            return f"scale and add make a float of it, not a {type_}"
        if access != "ReadOnly" and self.normalized:
            return "a normalised payload can only be read"
        if access != "ReadOnly" and any(step.isdigit() for step in self.steps):
            return f"{self.pointer} can only be read: encodeDownlink is given names, no places in lists"
        return None

    def _plain_refusal(self, type_: ValueType, access: str) -> str | None:
        if access != "ReadOnly":
            return f"{self.text} can only be read: a property that is written needs `offset` or `pointer`"
        if self.stat in NODE_TEXTS:
            return None if type_ == ValueType.STRING else f"{self.stat} is a string, not a {type_}"
        if self.stat in FLAGS and type_ == ValueType.BOOL:
            return None
        if self.stat is not None or not (type_.is_number or type_ == ValueType.BOOL):
            return None if type_.is_number else f"{self.text} is a number, not a {type_}"
        return None

    def nearest(self, type_: ValueType, value: Scalar) -> Scalar:
        if self.offset is None:
            return value
        held: Scalar = layout.nearest(self.field(type_), value)
        return held

    def payload(self, type_: ValueType, value: Scalar) -> bytes:
        """The payload of a downlink: the prefix, and the value. Raises ValueError where it does not fit."""
        return bytes.fromhex(self.prefix) + layout.encode(self.field(type_), value)

    def object(self, value: Scalar) -> dict[str, Any]:
        """What encodeDownlink is given as `data`, with the value where `pointer` says."""
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and (self.scale, self.add) != (1, 0)
        ):
            value = (value - self.add) / self.scale
        return document.holding(self.steps, value, self.data)


_BELONG: Mapping[tuple[str, ...], frozenset[str]] = {
    ("offset",): frozenset({"type", "length", "bit", "bits", "byte_order", "enum", "prefix"}),
    ("offset", "pointer"): frozenset({"scale", "add"}),
    ("channel",): frozenset({"quantity"}),
    ("pointer",): frozenset({"normalized", "data"}),
}
"""Fields that go with one way of finding a value, or with two."""


class LoraCommand(Strict):
    """A command that is a downlink: of a codec, or the payload and the arguments behind it in their order."""

    port: int | None = Field(default=None, ge=1, le=223)
    """FPort of a downlink in bytes. Without it the codec's encodeDownlink is given the arguments, by name."""
    payload: str = Field(default="", pattern=r"^([0-9a-fA-F]{2})*$")
    """With `port`: hexadecimal bytes that the downlink begins with."""
    types: dict[str, ValueType] = Field(default_factory=dict)
    """With `port`: how arguments lie in the payload, if otherwise than declared: {seconds: uint16}."""
    byte_order: layout.Order = "big"
    """With `port`: the order of bytes of the arguments."""
    data: dict[str, Any] = Field(default_factory=dict)
    """Without `port`: what else encodeDownlink is given beside the arguments."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        extra = self.model_fields_set & (
            {"data"} if self.port is not None else {"payload", "types", "byte_order"}
        )
        if extra:
            how = "without" if self.port is not None else "with"
            raise ValueError(f"`{to_camel(min(extra))}` goes {how} `port`")
        return self

    def encoded(self, arguments: dict[str, Any], types: dict[str, ValueType]) -> bytes:
        """The payload. Raises ValueError where an argument does not fit."""
        made = bytes.fromhex(self.payload)
        for name, value in arguments.items():
            wire = self.types.get(name) or types[name]
            made += layout.encode(layout.Field(0, wire, self.byte_order, self.byte_order), value)
        return made
