"""What a person writes about BLE: how to reach a device, and where a property lives on it."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from devicemesh import layout
from devicemesh.mapper import Address, Endpoint, SecretRef
from devicemesh.spec.values import Interval, Scalar, ValueType, duration_ns
from devicemesh_ble import beacons, bthome, sig
from devicemesh_ble.vendors import PARSERS

_MAC = re.compile(r"([0-9A-F]{2}:){5}[0-9A-F]{2}")
_TEXTS = (ValueType.STRING, ValueType.BYTES)
BUMBLE = "bumble:"
EXAMPLE = "ble://hci0/F0:F1:F2:F3:F4:F5 (or ble://hci0/?name=Thermo)"
SIGNALS = ("rssi", "txPower", "lastSeen", "name", "address")
Signal = Literal["rssi", "txPower", "lastSeen", "name", "address"]
FIELDS: dict[str, frozenset[str]] = {
    "bthome": frozenset(bthome.NAMES),
    "ruuvi": frozenset(beacons.RUUVI_NAMES),
    "ibeacon": frozenset(beacons.IBEACON_NAMES),
    "eddystone": frozenset(beacons.EDDYSTONE_NAMES),
}


class BleEndpoint(Endpoint):
    """An adapter, and a device by its address or its name."""

    adapter: str = Field(default="hci0", min_length=1)
    """The radio: hci0, or bumble:TRANSPORT as in bumble:tcp-client:127.0.0.1:6402 or bumble:usb:0."""
    address: str | None = None
    """The device's address, as in F0:F1:F2:F3:F4:F5."""
    name: str | None = Field(default=None, min_length=1, max_length=248)
    """Instead of `address`: the name that it advertises, as of one whose address changes."""
    scanning: Literal["active", "passive"] = "active"
    """active: devices are asked for their names; passive: nothing is sent (experimental in BlueZ)."""
    silence: Interval = "60s"
    """After which a device that advertises nothing is gone, and a scanner that hears nothing begins anew."""
    connection: Literal["keep", "release"] = "keep"
    """keep: the device stays connected; release: it is left after each use, for slots and batteries."""
    slots: int = Field(default=5, ge=1, le=64)
    """How many devices the adapter connects to at once; the others wait."""
    connect_timeout: Interval = "10s"
    """How long finding and connecting a device may take."""
    timeout: Interval = "5s"
    """How long to wait for an answer of a connected device, or for the first advertisement."""
    pair: bool = False
    """Whether to pair (just works, or as BlueZ has it already) when connected."""
    key: SecretRef | None = None
    """BTHome's key (or Xiaomi's), 32 hexadecimal digits, by reference. With it BTHome must be encrypted."""
    counter: Literal["rising", "any"] = "rising"
    """rising: an encrypted BTHome frame whose counter does not rise is a replay, and refused; any: taken."""

    @field_validator("adapter")
    @classmethod
    def _is_adapter(cls, adapter: str) -> str:
        if adapter.startswith(BUMBLE):
            if not adapter.removeprefix(BUMBLE):
                raise ValueError("a transport follows bumble:, as in bumble:tcp-client:127.0.0.1:6402")
        elif not re.fullmatch(r"[A-Za-z0-9_.-]+", adapter):
            raise ValueError(f"{adapter!r} is no adapter: write it like hci0 or bumble:usb:0")
        return adapter

    @field_validator("address")
    @classmethod
    def _is_address(cls, address: str | None) -> str | None:
        if address is not None and not _MAC.fullmatch(address.upper()):
            raise ValueError(f"{address!r} is no address: write it like F0:F1:F2:F3:F4:F5")
        return address.upper() if address is not None else None

    @model_validator(mode="after")
    def _one_device(self) -> Self:
        if (self.address is None) == (self.name is None):
            raise ValueError("give either the device's `address` or its `name`")
        return self

    @property
    def timeout_s(self) -> float:
        return duration_ns(self.timeout) / 1e9

    @property
    def connect_timeout_s(self) -> float:
        return duration_ns(self.connect_timeout) / 1e9

    @property
    def silence_s(self) -> float:
        return duration_ns(self.silence) / 1e9

    @property
    def peer(self) -> str:
        """The device's own part: its address, or its name."""
        return self.address or self.name or ""

    def link(self) -> str:
        return self.adapter

    def text(self) -> str:
        return f"{self.adapter} {self.peer}"

    def redirect(self, address: str) -> Self:
        """`host:port` of a virtual controller (HCI over TCP). A stand-in has no keys."""
        keep = self.model_dump(exclude_unset=True, exclude={"key"})
        return self.model_validate({**keep, "adapter": f"{BUMBLE}tcp-client:{address}"})

    def conflict(self, other: BleEndpoint) -> str | None:
        """Say on what two endpoints of one adapter disagree ("slots 5 and 7"), or None."""
        for name in ("scanning", "slots"):
            if getattr(self, name) != getattr(other, name):
                return f"{name} {getattr(self, name)} and {getattr(other, name)}"
        return None


class BleAddress(Address):
    """Where a property lives: in what a device advertises, or in a characteristic."""

    beacon: str | None = None
    """A field of a known format: bthome/temperature, bthome/temperature#2, ruuvi/pressure, govee/humidity."""
    signal: Signal | None = None
    """What is known of the radio: rssi and txPower in dBm, lastSeen in Unix seconds, name, address."""
    manufacturer: int | None = Field(default=None, ge=0, le=65535)
    """Manufacturer data of that company; its layout is declared by `offset`, `type` and so on."""
    service_data: str | None = None
    """Service data of that UUID, as in fcd2; its layout is declared."""
    characteristic: str | None = None
    """A characteristic by UUID (2a6e, or all of it) or the SIG's short name, as in battery_level."""
    service: str | None = None
    """With `characteristic`: the UUID of its service, where it is in several."""
    mode: Literal["read", "notify"] = "read"
    """With `characteristic`: read at each interval; or sent by the device (notification, indication)."""
    write: Literal["response", "command"] = "response"
    """With `characteristic`: whether the device acknowledges a write. A command is not acknowledged."""
    offset: int | None = Field(default=None, ge=0, le=511)
    """Where the value begins, in bytes; 0, or as the SIG has it, by default."""
    type: ValueType | sig.SpecialType | None = None
    """How it lies there, if otherwise than the property's type, as in sfloat or uint24."""
    length: int | None = Field(default=None, ge=1, le=512)
    """Bytes that a string or bytes takes; by default all that remain."""
    bit: int | None = Field(default=None, ge=0, le=63)
    """The lowest bit, where only a part of the integer is meant."""
    bits: int | None = Field(default=None, ge=1, le=64)
    """How many bits; 1 by default."""
    byte_order: layout.Order = "little"
    """The order of bytes."""
    scale: float | None = None
    """value = raw x scale + add; 1, or as the SIG has it, by default."""
    add: float = 0.0
    """value = raw x scale + add"""
    enum: dict[int, str] | None = None
    """Words for an integer's codes; the property is a string."""

    @field_validator("service_data", "characteristic", "service")
    @classmethod
    def _is_uuid(cls, text: str | None) -> str | None:
        if text is not None:
            sig.uuid(text)
        return text

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        ways = ("beacon", "signal", "manufacturer", "service_data", "characteristic")
        given = [way for way in ways if getattr(self, way) is not None]
        if len(given) != 1:
            raise ValueError(
                "give one of `beacon`, `signal`, `manufacturer`, `serviceData` and `characteristic`"
            )
        laid = {"offset", "type", "length", "bit", "bits", "byte_order", "scale", "add", "enum"}
        if given[0] in ("beacon", "signal") and (extra := self.model_fields_set & laid):
            raise ValueError(f"`{min(extra)}` does not go with `{given[0]}`")
        if given[0] != "characteristic" and (extra := self.model_fields_set & {"mode", "write", "service"}):
            raise ValueError(f"`{min(extra)}` goes with `characteristic`")
        if self.beacon is not None:
            self._check_beacon(self.beacon)
        if self.scale == 0:
            raise ValueError("`scale` must not be 0")
        return self

    @staticmethod
    def _check_beacon(beacon: str) -> None:
        format_, _, name = beacon.partition("/")
        if format_ in PARSERS and re.fullmatch(r"[a-z0-9_]+", name):
            return
        if format_ not in FIELDS:
            raise ValueError(f"{format_!r} is none of {', '.join([*FIELDS, *PARSERS])}")
        if not re.fullmatch(r"[a-z0-9_]+(#[2-9])?", name) or name.partition("#")[0] not in FIELDS[format_]:
            raise ValueError(f"{format_} has no {name!r}, but {', '.join(sorted(FIELDS[format_]))}")

    @property
    def passive(self) -> bool:
        """Whether it is heard, without a connection."""
        return self.characteristic is None

    @property
    def text(self) -> str:
        """For people."""
        if self.beacon or self.signal:
            return self.beacon or f"signal:{self.signal}"
        if self.manufacturer is not None:
            return f"manufacturer:0x{self.manufacturer:04x}@{self.offset or 0}"
        if self.service_data is not None:
            return f"service:{self.service_data}@{self.offset or 0}"
        return sig.short(self.characteristic or "") + ("" if self.offset is None else f"@{self.offset}")

    @property
    def special(self) -> str | None:
        """The type on the wire, where it is one that `devicemesh.layout` does not have."""
        wire = self.wire
        return wire if wire in sig.SIZES else None

    @property
    def wire(self) -> str | None:
        """The declared type on the wire, or that of the SIG; None: that of the property."""
        if self.type is not None:
            return str(self.type)
        standard = self._standard()
        return standard.type if standard is not None else None

    def _standard(self) -> sig.Characteristic | None:
        """The SIG's own layout, where nothing else is declared."""
        if self.characteristic is None or self.type is not None or self.offset is not None:
            return None
        return sig.known(self.characteristic)

    @property
    def where(self) -> tuple[int, float]:
        """Offset and scale."""
        standard = self._standard()
        offset = self.offset if self.offset is not None else standard.offset if standard else 0
        return offset, self.scale if self.scale is not None else standard.scale if standard else 1.0

    def field(self, type_: ValueType) -> layout.Field:
        """The layout of the value; of a `special` type that of its bytes."""
        offset, scale = self.where
        if self.special is not None:
            return layout.Field(offset, ValueType.BYTES, length=sig.SIZES[self.special])
        wire = ValueType(self.wire) if self.wire is not None and type_ != ValueType.BYTES else type_
        if self.wire is None and type_ == ValueType.STRING and self.enum is not None:
            wire = ValueType.UINT8
        length = self.length if wire in (*_TEXTS, ValueType.BOOL) else None
        order: layout.Order = "big" if wire in _TEXTS else self.byte_order
        if wire in _TEXTS:
            scale = 1.0
        return layout.Field(
            offset, wire, order, order, self.bit, self.bits, length, "utf-8", scale, self.add, self.enum
        )

    def refusal(self, type_: ValueType, access: str) -> str | None:
        if self.passive and access != "ReadOnly":
            return "what a device advertises can only be read"
        if type_ == ValueType.JSON:
            return "json has no place in a few bytes"
        if self.signal is not None:
            texts = self.signal in ("name", "address")
            return None if texts == (type_ == ValueType.STRING) else f"{self.signal} is not {_an(type_)}"
        return None if self.beacon is not None else self._layout_refusal(type_, access)

    def _layout_refusal(self, type_: ValueType, access: str) -> str | None:
        field = self.field(type_)
        if self.special is not None:
            if access != "ReadOnly" and self.where[0]:
                return "a part of a characteristic can only be read"
            whole = "int" in self.special and self.where[1] == 1.0 and not self.add
            fits = type_.is_float or (whole and type_.is_integer)
            return None if fits else f"a {self.special} does not fit {_an(type_)}"
        if wrong := layout.problem(field):
            return wrong
        if access != "ReadOnly" and (self.bit is not None or field.offset):
            return "a part of a characteristic can only be read"
        if field.scaled and not type_.is_float:
            return f"scale and add make a float of it, not {_an(type_)}"
        if type_ in _TEXTS:
            good = field.type == type_ or (field.enum is not None and type_ == ValueType.STRING)
            return None if good else f"{_an(field.type)} is not {_an(type_)}"
        if field.type in _TEXTS or field.enum is not None:
            return f"{_an(field.type)} is not {_an(type_)}"
        if type_.is_integer and field.type.is_float:
            return f"a {field.type} does not fit {_an(type_)}"
        if type_ == ValueType.BOOL and field.type != ValueType.BOOL:
            return f"{_an(field.type)} is not a bool: leave `type` away"
        return None

    def encode(self, type_: ValueType, value: Scalar) -> bytes:
        """What is written for a value. Raises ValueError where it does not fit."""
        if self.special is None:
            return layout.encode(self.field(type_), value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{value!r} is not a number")
        return sig.encode_special(self.special, (value - self.add) / self.where[1], self.byte_order)

    def decode_special(self, data: bytes) -> float:
        """The value of a `special` field. Raises ValueError for too few bytes."""
        raw = sig.special(self.special or "", data, self.byte_order)
        scale = self.where[1]
        return raw if scale == 1.0 and not self.add else raw * scale + self.add

    def nearest(self, type_: ValueType, value: Scalar) -> Scalar:
        if self.passive:
            return value
        if self.special is not None:
            return self.decode_special(self.encode(type_, value))
        held: Scalar = layout.nearest(self.field(type_), value)
        return float(held) if type_.is_float and isinstance(held, int | float) else held


def _an(type_: ValueType) -> str:
    return f"an {type_}" if type_.startswith("i") else f"a {type_}"
