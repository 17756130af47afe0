"""What a person writes about CoAP: how to reach a device, and where a property lives on it."""

from __future__ import annotations

import ipaddress
import math
from typing import Any, Literal, Self
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import Field, field_validator, model_validator

from devicemesh import layout
from devicemesh.mapper import Address, Endpoint, SecretRef, listening_at
from devicemesh.spec.base import Strict
from devicemesh.spec.values import Interval, Scalar, ValueType, duration_ns

Format = Literal["text", "json", "cbor", "senml+json", "senml+cbor", "binary"]
BlockSize = Literal[16, 32, 64, 128, 256, 512, 1024]
SCHEMES = ("coap", "coap+tcp", "coaps")
PORTS = {"coap": 5683, "coap+tcp": 5683, "coaps": 5684}
EXAMPLE = "coap://10.0.0.5 (or coap+tcp://10.0.0.5:5683, coaps://[fd00::5]/prefix)"
_DOCUMENTS = ("json", "cbor")
_SENML = ("senml+json", "senml+cbor")
_TEXTS = (ValueType.STRING, ValueType.BYTES, ValueType.JSON)


class Oscore(Strict):
    """An OSCORE security context, agreed with the device beforehand (RFC 8613, 3.2)."""

    sender_id: str = Field(pattern=r"^([0-9a-fA-F]{2}){0,7}$")
    """Our identifier, hexadecimal: the device's recipient ID."""
    recipient_id: str = Field(pattern=r"^([0-9a-fA-F]{2}){0,7}$")
    """The device's identifier, hexadecimal."""
    id_context: str | None = Field(default=None, pattern=r"^([0-9a-fA-F]{2})*$")
    """The ID context, hexadecimal, if one was agreed."""
    algorithm: Literal["AES-CCM-16-64-128", "AES-CCM-16-128-128", "ChaCha20/Poly1305", "A128GCM"] = (
        "AES-CCM-16-64-128"
    )
    """The AEAD algorithm."""
    secret: SecretRef
    """The master secret, hexadecimal, by reference."""
    salt: SecretRef | None = None
    """The master salt, hexadecimal, by reference."""

    @model_validator(mode="after")
    def _two_parties(self) -> Self:
        if self.sender_id.lower() == self.recipient_id.lower():
            raise ValueError("`senderId` and `recipientId` must differ")
        return self


class Dtls(Strict):
    """A pre-shared key for coaps."""

    identity: str = Field(min_length=1)
    """Who we are to the device (PSK identity)."""
    key: SecretRef
    """The pre-shared key, hexadecimal, by reference."""


class CoapEndpoint(Endpoint):
    """How to reach a device, or at which address it reaches us. Devices of one host and port share a link."""

    uri: str | None = None
    """Of the device, as in coap://10.0.0.5, coap+tcp://10.0.0.5:5683, coaps://[fd00::5]/prefix."""
    listen: str | None = None
    """Instead of `uri`: where the device sends its values to, as in 0.0.0.0:5683."""
    name: str | None = Field(default=None, min_length=1, max_length=63)
    """With `listen`: the endpoint name by which the device is known; no other device is accepted."""
    lifetime: Interval | None = None
    """With `listen`: how long the device may be silent. By default that of its registration, or 24h."""
    sender: str | None = None
    """With `listen`: the address or network that the device sends from, as in 10.0.0.7 or 10.0.0.0/24."""
    interface: str | None = Field(default=None, min_length=1)
    """The network interface, as in eth0: for link-local addresses and for multicast discovery."""
    oscore: Oscore | None = None
    """Protects every message, end to end (RFC 8613)."""
    dtls: Dtls | None = None
    """With coaps: the key; needs pip install devicemesh-coap[dtls]."""
    mode: Literal["observe", "poll"] = "observe"
    """observe: the device sends what changes (RFC 7641); poll: it is asked at each sampling interval."""
    timeout: Interval = "10s"
    """How long to wait for an answer, all retransmissions included."""
    ack_timeout: Interval = "2s"
    """After which a message that nobody acknowledged is sent again; doubled each time (RFC 7252, 4.8)."""
    retransmissions: int = Field(default=4, ge=0, le=10)
    """How often it is sent again."""
    confirmable: bool = True
    """Whether requests are acknowledged. Without, a lost one is only noticed after `timeout`."""
    keep_alive: Interval = "15s"
    """After this silence the device is pinged; one that does not answer is gone."""
    reregister: Interval = "5m"
    """An observation that is silent for so long is registered anew, also if its Max-Age is longer."""
    block_size: BlockSize = 1024
    """The largest block of a body that takes more than one message (RFC 7959)."""
    max_payload: int = Field(default=65536, ge=16, le=16_777_216)
    """The largest body in bytes, all of its blocks together."""
    cache: bool = True
    """Whether an answer is used again, unasked, for as long as the Max-Age that it states."""

    @field_validator("uri")
    @classmethod
    def _is_uri(cls, uri: str | None) -> str | None:
        if uri is not None:
            split_uri(uri)
        return uri

    @field_validator("listen")
    @classmethod
    def _is_place(cls, listen: str | None) -> str | None:
        if listen is not None:
            listening_at(listen)
        return listen

    @field_validator("sender")
    @classmethod
    def _is_network(cls, sender: str | None) -> str | None:
        if sender is not None:
            ipaddress.ip_network(sender, strict=False)
        return sender

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.uri is None) == (self.listen is None):
            raise ValueError("give either `uri`, of the device, or `listen`, where it sends to")
        if (self.listen is None) != (self.name is None):
            raise ValueError("`listen` and `name` go together: the name tells the device from others")
        if self.name is not None and ("/" in self.name or not self.name.isprintable()):
            raise ValueError(f"{self.name!r} is no endpoint name")
        if self.listen is None and (self.lifetime is not None or self.sender is not None):
            raise ValueError("`lifetime` and `sender` belong to `listen`")
        if self.listen is not None and self.oscore is not None:
            raise ValueError("`oscore` goes with `uri`: devices that push are not protected by it")
        if self.dtls is not None and self.scheme != "coaps":
            raise ValueError("`dtls` goes with a coaps:// URI")
        return self

    @property
    def scheme(self) -> str:
        """`coap`, `coap+tcp` or `coaps`."""
        return split_uri(self.uri).scheme if self.uri else "coap"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port: the device's, or ours with `listen`."""
        if self.listen is not None:
            return listening_at(self.listen)
        parts = split_uri(self.uri or "")
        return parts.hostname or "", parts.port or PORTS[parts.scheme]

    @property
    def prefix(self) -> tuple[str, ...]:
        """The segments that all of the device's paths begin with."""
        return segments(split_uri(self.uri).path) if self.uri else ()

    @property
    def timeout_s(self) -> float:
        return duration_ns(self.timeout) / 1e9

    @property
    def ack_timeout_s(self) -> float:
        return duration_ns(self.ack_timeout) / 1e9

    @property
    def host_and_port(self) -> str:
        host, port = self.address
        return f"{bracketed(host)}:{port}"

    def link(self) -> str:
        if self.listen is not None:
            return f"listen {self.host_and_port}"
        return f"{self.scheme}://{self.host_and_port}"

    def text(self) -> str:
        if self.listen is not None:
            return f"{self.link()} {self.name}"
        return self.link() + "".join(f"/{segment}" for segment in self.prefix)

    def listens(self) -> tuple[Literal["tcp", "udp"], str, int] | None:
        return ("udp", *listening_at(self.listen)) if self.listen is not None else None

    def redirect(self, address: str) -> Self:
        """`host:port`; the prefix stays. A stand-in has no security and speaks UDP or TCP."""
        keep = self.model_dump(exclude_unset=True)
        for field in ("oscore", "dtls", "interface", "sender"):
            keep.pop(field, None)
        if self.listen is not None:
            return self.model_validate({**keep, "listen": address})
        scheme = "coap+tcp" if self.scheme == "coap+tcp" else "coap"
        return self.model_validate({**keep, "uri": f"{scheme}://{address}{split_uri(self.uri or '').path}"})

    def conflict(self, other: CoapEndpoint) -> str | None:
        """Say on what two endpoints of one link disagree ("timeout 5s and 1s"), or None."""
        mine, theirs = self._link_part(), other._link_part()
        for name, value in mine.items():
            if value != theirs[name]:
                return f"{name} differs" if isinstance(value, dict) else f"{name} {value} and {theirs[name]}"
        return None

    def _link_part(self) -> dict[str, Any]:
        own = {"uri", "listen", "name", "lifetime", "sender", "mode", "cache"}
        return self.model_dump(by_alias=True, exclude=own)


def split_uri(uri: str) -> SplitResult:
    """The parts of a device's URI. Raises ValueError."""
    parts = urlsplit(uri)
    if parts.scheme not in SCHEMES or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{uri!r} is not the URI of a device: write it like {EXAMPLE}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("credentials do not belong into a URI: use `oscore` or `dtls`")
    _ = parts.port  # raises ValueError when it is none
    segments(parts.path)
    return parts


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def segments(path: str) -> tuple[str, ...]:
    """The segments of a path, unquoted (RFC 7252, 6.4). Raises ValueError for one that is too long."""
    if path in ("", "/"):
        return ()
    found = tuple(unquote(one, errors="strict") for one in path.removeprefix("/").split("/"))
    for one in found:
        if len(one.encode()) > 255:
            raise ValueError(f"the path segment {one[:20]!r}... is longer than 255 bytes")
    return found


class CoapAddress(Address):
    """Where a property lives: a resource, and a place in what it holds."""

    path: str = Field(min_length=1)
    """Of the resource, with its query: /sensors/temp, /3303/0/5700 (LwM2M), /air?unit=C."""
    format: Format | None = None
    """What the resource is asked for (Accept) and written in. By default whatever the device sends."""
    pointer: str | None = None
    """JSON pointer into a json or cbor document, as in /air/temperature (RFC 6901)."""
    record: str | None = Field(default=None, min_length=1)
    """Name of a record of a SenML pack, with its base name, as in urn:dev:ow:10e2;temp (RFC 8428)."""
    offset: int | None = Field(default=None, ge=0, le=16_777_215)
    """Where the value begins in a binary body, in bytes."""
    type: ValueType | None = None
    """How it lies on the wire, if otherwise than the property's type: a float64 may be a float32 there."""
    length: int | None = Field(default=None, ge=1, le=16_777_216)
    """With `offset`: bytes that a string or bytes takes; by default all that remain."""
    bit: int | None = Field(default=None, ge=0, le=63)
    """With `offset`: the lowest bit, where only a part of the integer is meant."""
    bits: int | None = Field(default=None, ge=1, le=64)
    """How many bits; 1 by default."""
    byte_order: layout.Order = "big"
    """With `offset`: the order of bytes."""
    word_order: layout.Order | None = None
    """With `offset`: the order of 16-bit words; by default that of the bytes."""
    scale: float = 1.0
    """value = raw x scale + add"""
    add: float = 0.0
    """value = raw x scale + add"""
    enum: dict[int, str] | None = None
    """With `offset`: words for an integer's codes; the property is a string."""
    read: Literal["GET", "FETCH"] = "GET"
    """How it is read. FETCH asks for the records by name (RFC 8790); it needs `record`."""
    write: Literal["PUT", "POST", "PATCH", "iPATCH"] = "PUT"
    """How it is written (RFC 7252, 5.8; RFC 8132)."""
    mode: Literal["observe", "poll"] | None = None
    """Instead of the endpoint's `mode`."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        path, _, query = self.path.partition("?")
        segments(path)
        if "#" in self.path or (query and any(len(q.encode()) > 255 for q in query.split("&"))):
            raise ValueError(f"{self.path!r} is not a path: write it like /sensors/temp?unit=C")
        ways = [w for w in ("pointer", "record", "offset") if getattr(self, w) is not None]
        if len(ways) > 1:
            raise ValueError(f"give one of `{'`, `'.join(ways)}`")
        if self.pointer and not self.pointer.startswith("/"):
            raise ValueError(f"{self.pointer!r} is no JSON pointer: it begins with `/`")
        self._check_format()
        self._check_layout()
        return self

    def _check_format(self) -> None:
        fitting = {"pointer": _DOCUMENTS, "record": _SENML, "offset": ("binary",)}
        for way, formats in fitting.items():
            if getattr(self, way) is not None and self.format is not None and self.format not in formats:
                raise ValueError(f"a `{way}` goes with the format {' or '.join(formats)}, not {self.format}")
        if self.format in _SENML and self.record is None:
            raise ValueError(f"{self.format} is a pack: say which `record` of it")
        if self.format == "binary" and self.offset is None:
            raise ValueError("binary needs an `offset`")
        if self.read == "FETCH" and self.record is None:
            raise ValueError("FETCH asks for records by name: it needs `record`")
        if self.write in ("PATCH", "iPATCH") and self.record is None and self.pointer is None:
            raise ValueError(f"{self.write} changes a part: it needs `pointer` or `record`")
        if self.write in ("PATCH", "iPATCH") and self.pointer is not None and self.format == "cbor":
            raise ValueError(f"{self.write} has no format for parts of cbor: use PUT or POST, or json")

    def _check_layout(self) -> None:
        extra = self.model_fields_set & {"length", "bit", "bits", "byte_order", "word_order", "enum"}
        if self.offset is None and extra:
            raise ValueError(f"`{min(extra)}` goes with `offset`")
        if self.scale == 0:
            raise ValueError("`scale` must not be 0")

    @property
    def text(self) -> str:
        """For people: the path, and the place in what it holds."""
        if self.pointer is not None:
            return f"{self.path}#{self.pointer}"
        if self.record is not None:
            return f"{self.path}!{self.record}"
        return self.path if self.offset is None else f"{self.path}@{self.offset}"

    @property
    def scaled(self) -> bool:
        return self.scale != 1.0 or self.add != 0.0

    def field(self, type_: ValueType) -> layout.Field:
        """The layout of a value in a binary body."""
        wire = self.type or type_
        if self.type is None and type_ == ValueType.STRING and self.enum is not None:
            wire = ValueType.UINT16
        word = self.word_order or self.byte_order
        length = self.length if wire in (*_TEXTS, ValueType.BOOL) else None
        return layout.Field(
            self.offset or 0, wire, self.byte_order, word, self.bit, self.bits,
            length, "utf-8", self.scale, self.add, self.enum,
        )  # fmt: skip

    def refusal(self, type_: ValueType, access: str) -> str | None:
        if self.scaled and not type_.is_float:
            return f"scale and add make a float of it, not a {type_}"
        if self.offset is not None:
            return self._layout_refusal(type_, access)
        if type_ == ValueType.BYTES and self.format == "text":
            return "text has no bytes: use a string"
        wire = self.type
        if wire is None or wire == type_:
            return None
        if wire.is_number and type_.is_number:
            return None if type_.is_float or wire.is_integer else f"a {wire} does not fit {_an(type_)}"
        return f"{_an(wire)} is not {_an(type_)}"

    def _layout_refusal(self, type_: ValueType, access: str) -> str | None:
        if ValueType.JSON in (type_, self.type):
            return "json has no place in a binary body: use `pointer`"
        field = self.field(type_)
        if wrong := layout.problem(field):
            return wrong
        if access != "ReadOnly" and self.bit is not None:
            return "a bit of a binary body can only be read"
        words = field.enum is not None
        is_text = type_ in _TEXTS or field.type in _TEXTS
        if type_ != ValueType.STRING if words else is_text and field.type != type_:
            return f"{_an(field.type)} is not {_an(type_)}"
        if type_.is_integer and field.type.is_float:
            return f"a {field.type} does not fit {_an(type_)}"
        if type_ == ValueType.BOOL and field.type != ValueType.BOOL:
            return f"{_an(field.type)} is not a bool: leave `type` away"
        return None

    def nearest(self, type_: ValueType, value: Scalar) -> Scalar:
        if self.offset is not None:
            held: Scalar = layout.nearest(self.field(type_), value)
            return held
        wire = self.type or type_
        if isinstance(value, bool) or not isinstance(value, int | float) or not wire.is_number:
            return value
        if self.scaled:
            raw = raw_number((value - self.add) / self.scale, wire)
            return raw * self.scale + self.add
        held = layout.nearest(layout.Field(0, wire), value)
        return float(held) if type_.is_float and isinstance(held, int | float) else held


def raw_number(raw: float, wire: ValueType) -> int | float:
    """What is sent for a scaled value. Raises ValueError where the type on the wire can't hold it."""
    if wire.is_integer and math.isfinite(raw):
        return int(layout.nearest(layout.Field(0, wire), round(raw)))
    return float(layout.nearest(layout.Field(0, wire), raw))


def _an(type_: ValueType) -> str:
    return f"an {type_}" if type_.startswith("i") else f"a {type_}"
