"""What a person writes about Modbus: how to reach a device, and where a property lives on it."""

from __future__ import annotations

import functools
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from devicemesh import layout
from devicemesh.mapper import Address, Endpoint
from devicemesh.spec.base import Strict
from devicemesh.spec.values import Interval, Scalar, ValueType, duration_ns

Table = Literal["coil", "discrete", "input", "holding"]
Transport = Literal["tcp", "tls", "udp", "rtuovertcp", "serial"]
BIT_TABLES: tuple[Table, ...] = ("coil", "discrete")
WRITABLE_TABLES: tuple[Table, ...] = ("coil", "holding")
MAX_REGISTERS = 125
"""Registers in one answer (Modbus Application Protocol V1.1b3, 6.3)."""
MAX_BITS = 2000
"""Coils or discrete inputs in one answer (the same, 6.1)."""
_TEXTS = (ValueType.STRING, ValueType.BYTES)


@functools.lru_cache(256)
def _seconds(text: str) -> float:
    """A duration; those who wait as long share the number."""
    return duration_ns(text) / 1e9


class Serial(Strict):
    """A serial line. All devices on it must agree on these."""

    port: str
    """The device file, as in /dev/ttyUSB0; better a path of /dev/serial/by-id, which survives replugging."""
    baudrate: int = Field(default=19200, ge=300, le=4_000_000)
    """Bits a second."""
    parity: Literal["none", "even", "odd"] = "even"
    """The default is the one of the specification (Modbus over Serial Line V1.02, 2.5.1)."""
    stop_bits: Literal[1, 2] = 1
    """Stop bits of a character."""
    data_bits: Literal[7, 8] = 8
    """Data bits of a character; RTU needs 8."""


class Tls(Strict):
    """Modbus/TCP Security: the server is always verified."""

    ca_file: str | None = None
    """PEM file of whom to trust; by default the system's authorities."""
    cert_file: str | None = None
    """PEM file of our certificate, where the device wants one (the specification does)."""
    key_file: str | None = None
    """PEM file of its key; by default it is in `certFile`."""
    server_name: str | None = None
    """The name that the device's certificate must bear; by default the host."""


class Forbidden(Strict):
    """Addresses that must never be read, not even in passing."""

    table: Table
    """Of which table."""
    start: int = Field(ge=0, le=65535)
    """The first address."""
    end: int = Field(ge=0, le=65535)
    """The last address, itself included."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end < self.start:
            raise ValueError(f"`end` {self.end} is before `start` {self.start}")
        return self


class Breaker(Strict):
    """When to leave a silent unit alone, so that its neighbours on the link are not held up."""

    failures: int = Field(default=3, ge=1, le=1000)
    """Unanswered polls in a row after which the unit is left alone."""
    period: Interval = "60s"
    """The longest pause between two tries; pauses begin at 1s and double, with jitter."""


class ModbusEndpoint(Endpoint):
    """How to reach a device. Devices that name the same host and port, or serial port, share a connection."""

    host: str | None = Field(default=None, min_length=1)
    """Name or address of the device or gateway."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """By default 502, or 802 with TLS."""
    serial: Serial | None = None
    """Instead of a host: a serial line (RTU)."""
    transport: Transport | None = None
    """By default `serial` with a serial line, `tls` with `tls`, else `tcp`."""
    tls: Tls | None = None
    """Certificates, for Modbus/TCP Security."""
    pipeline: int = Field(default=1, ge=1, le=64)
    """Requests under way at once on the connection; more than 1 only where the device is known to bear it."""
    unit: int = Field(default=1, ge=0, le=255)
    """The unit (slave) identifier: which device, behind a gateway or on a line; else mostly 1 or 255."""
    timeout: Interval = "1s"
    """How long to wait for an answer."""
    retries: int | None = Field(default=None, ge=0, le=5)
    """How often a lost or garbled answer is asked for again in the same poll.

    By default 1 where the transport can lose or garble (udp, rtuovertcp, serial), else 0. Silence on an
    RTU line is never asked again in the same poll: a late answer could be taken for the second one.
    """
    max_registers: int = Field(default=MAX_REGISTERS, ge=1, le=MAX_REGISTERS)
    """The most registers that the device gives in one answer."""
    max_bits: int = Field(default=MAX_BITS, ge=1, le=MAX_BITS)
    """The most coils or discrete inputs that the device gives in one answer."""
    gap: int | None = Field(default=None, ge=0, le=MAX_REGISTERS)
    """The most unneeded registers (or 16 bits each) to read over; by default as many as save time."""
    forbidden: tuple[Forbidden, ...] = ()
    """Addresses that must never be read."""
    pause_between_requests: Interval | None = None
    """Silence that the device needs after each of its answers."""
    breaker: Breaker = Breaker()
    """When to leave a silent unit alone."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.host is None) == (self.serial is None):
            raise ValueError("give either `host` or `serial`")
        if self.serial is not None and self.port is not None:
            raise ValueError("a serial line has its `port` inside `serial`")
        if (self.kind == "serial") != (self.serial is not None):
            raise ValueError(
                f"transport `{self.kind}` does not go with `{'serial' if self.serial else 'host'}`"
            )
        if self.tls is not None and self.kind != "tls":
            raise ValueError(f"transport `{self.kind}` knows no `tls`")
        if self.serial is not None and self.serial.data_bits != 8:
            raise ValueError("RTU needs 8 data bits")
        if self.kind == "serial" and self.unit == 0:
            raise ValueError("unit 0 is everyone on a serial line: nobody answers it")
        if self.pipeline > 1 and self.kind not in ("tcp", "tls"):
            raise ValueError(
                f"`pipeline` needs transport tcp or tls: on {self.kind} answers can't be told apart"
            )
        if self.pipeline > 1 and self.pause_between_requests is not None:
            raise ValueError("`pipeline` and `pauseBetweenRequests` exclude each other")
        return self

    @property
    def kind(self) -> Transport:
        """The transport, derived where it is not given."""
        if self.transport is not None:
            return self.transport
        return "serial" if self.serial else "tls" if self.tls else "tcp"

    @property
    def tcp_port(self) -> int:
        return self.port or (802 if self.kind == "tls" else 502)

    @property
    def timeout_s(self) -> float:
        return _seconds(self.timeout)

    @property
    def pause_s(self) -> float:
        return _seconds(self.pause_between_requests) if self.pause_between_requests else 0.0

    @property
    def tries(self) -> int:
        """How often a request is sent at most."""
        if self.retries is not None:
            return 1 + self.retries
        return 1 if self.kind in ("tcp", "tls") else 2

    def link(self) -> str:
        if self.serial is not None:
            return self.serial.port
        host = (self.host or "").lower()
        return f"[{host}]:{self.tcp_port}" if ":" in host else f"{host}:{self.tcp_port}"

    def text(self) -> str:
        return f"{self.link()} unit {self.unit}"

    def redirect(self, address: str) -> Self:
        """`host:port`, `[::1]:port` or the path of a serial port (which starts with /).

        A serial device that is redirected to a host is spoken to in RTU over TCP. With TLS the certificate
        must still bear the declared name.
        """
        data = self.model_dump(exclude_unset=True, exclude={"host", "port", "serial"})
        if address.startswith("/"):
            declared = self.serial.model_dump(exclude_unset=True) if self.serial else {}
            if address.startswith("/dev/pts/"):
                declared["parity"] = "none"  # a pseudo-terminal has no other
            data = {k: v for k, v in data.items() if k not in ("tls", "transport", "pipeline")}
            return self.model_validate({**data, "serial": {**declared, "port": address}})
        host, _, port = address.rpartition(":")
        data |= {"host": host.strip("[]"), "port": int(port)}
        if self.kind == "serial":
            data["transport"] = "rtuovertcp"
        if self.kind == "tls":
            declared = self.tls.model_dump(exclude_unset=True) if self.tls else {}
            data |= {"transport": "tls", "tls": {"server_name": self.host, **declared}}
        return self.model_validate(data)

    def conflict(self, other: ModbusEndpoint) -> str | None:
        """Say on what two endpoints of one link disagree ("baudrate 9600 and 19200"), or None."""
        mine, theirs = self._link_part(), other._link_part()
        for name, value in mine.items():
            if value != theirs.get(name):
                return f"{name} {value} and {theirs.get(name)}"
        return None

    def _link_part(self) -> dict[str, object]:
        part: dict[str, object] = {"transport": self.kind, "pipeline": self.pipeline}
        for model in (self.serial, self.tls):
            part |= model.model_dump(by_alias=True) if model else {}
        return part


@functools.lru_cache(8192)
def _shared(enum: tuple[tuple[int, str], ...] | None, **place: Any) -> layout.Field:
    """A field; devices of one model share it."""
    return layout.Field(**place, enum=dict(enum) if enum is not None else None)


class ModbusAddress(Address):
    """Where a property lives. Offsets are those of the wire, from 0: Modicon's 40101 is holding 100."""

    table: Table
    """coil and holding can be written; discrete and input can only be read."""
    offset: int = Field(ge=0, le=65535)
    """The first register or bit, from 0."""
    type: ValueType | None = None
    """How it lies on the wire, if otherwise than the property's type. An 8-bit one is the low byte."""
    length: int | None = Field(default=None, ge=1, le=MAX_REGISTERS)
    """Registers that a string or bytes takes."""
    bit: int | None = Field(default=None, ge=0, le=63)
    """The lowest bit, where only a part of the integer is meant; 0 is the least significant."""
    bits: int | None = Field(default=None, ge=1, le=64)
    """How many bits; 1 by default."""
    byte_order: layout.Order = "big"
    """Of the two bytes of each register."""
    word_order: layout.Order = "big"
    """Of the registers of a value: big is high word first."""
    scale: float = 1.0
    """value = raw x scale + add"""
    add: float = 0.0
    """value = raw x scale + add"""
    no_value: int | None = None
    """The raw code of an integer by which the device says that it has no value, as 32768 or 0xFFFFFFFF."""
    enum: dict[int, str] | None = None
    """Words for an integer's codes; the property is a string."""
    encoding: Literal["ascii", "utf-8", "latin-1"] = "ascii"
    """Of a string."""
    write_function: Literal["single", "multiple", "mask"] | None = None
    """The function to write with: 5 or 6, 15 or 16, 22. By default the first that can do it."""

    @model_validator(mode="after")
    def _fits_table(self) -> Self:
        if self.table in BIT_TABLES:
            extra = self.model_fields_set - {"table", "offset", "write_function"}
            if extra:
                raise ValueError(f"a {self.table} is one bit: it has no `{min(extra)}`")
        if self.bits is not None and self.bit is None:
            raise ValueError("`bits` needs `bit`, the lowest of them")
        if self.write_function is not None and self.table not in WRITABLE_TABLES:
            raise ValueError(f"{_plural(self.table)} can only be read")
        if self.write_function == "mask" and self.table != "holding":
            raise ValueError("writeFunction `mask` is for holding registers")
        return self

    @property
    def is_bit(self) -> bool:
        """Whether the table holds bits instead of registers."""
        return self.table in BIT_TABLES

    def wire(self, type_: ValueType) -> ValueType:
        """The type on the wire of a property of `type_`."""
        if self.is_bit:
            return ValueType.BOOL
        if self.type is not None:
            return self.type
        if type_ != ValueType.BOOL and (self.bit is not None or self.enum is not None):
            return ValueType.INT16 if type_.startswith("int") else ValueType.UINT16
        return type_

    def span(self, type_: ValueType) -> int:
        """How many registers (or bits) a property of `type_` takes."""
        wire = self.wire(type_)
        if self.is_bit:
            return 1
        if wire in _TEXTS:
            return self.length or 1
        return max((wire.size or 2) // 2, 1)

    def text(self, type_: ValueType | None = None) -> str:
        """For people: `holding 100..101`, `coil 3`, `holding 7 bit 2`."""
        last = self.offset + (self.span(type_) if type_ else 1) - 1
        place = f"{self.table} {self.offset}" + (f"..{last}" if last > self.offset else "")
        if self.bit is None:
            return place
        end = self.bit + (self.bits or 1) - 1
        return f"{place} bit {self.bit}" + (f"..{end}" if end > self.bit else "")

    def field(self, type_: ValueType, start: int) -> layout.Field:
        """The place of a property of `type_` in an answer's data that begins at register (or bit) `start`."""
        distance = self.offset - start
        if self.is_bit:
            return layout.Field(distance // 8, ValueType.BOOL, bit=distance % 8)
        wire, length = self.wire(type_), None
        offset = 2 * distance
        if wire in _TEXTS:
            length = 2 * (self.length or 1)
        elif type_ == ValueType.BOOL:
            wire, length = ValueType.BOOL, 2 * self.span(type_)
        elif wire.size == 1:
            offset += self.byte_order == "big"
        enum = tuple(self.enum.items()) if self.enum is not None else None
        return _shared(
            enum,
            offset=offset,
            type=wire,
            byte_order=self.byte_order,
            word_order=self.word_order,
            bit=self.bit,
            bits=self.bits,
            length=length,
            encoding=self.encoding,
            scale=self.scale,
            add=self.add,
            null=self.no_value,
        )

    def refusal(self, type_: ValueType, access: str) -> str | None:
        if access != "ReadOnly" and self.table not in WRITABLE_TABLES:
            return f"{_plural(self.table)} can only be read: make it access: ReadOnly, or use coil or holding"
        if self.is_bit:
            return None if type_ == ValueType.BOOL else f"a {self.table} is a bool, not a {type_}"
        wire = self.wire(type_)
        return self._wrong_type(type_, wire) or self._wrong_size(type_, wire) or self._wrong_function(type_)

    def _wrong_type(self, type_: ValueType, wire: ValueType) -> str | None:
        if ValueType.JSON in (type_, wire):
            return "Modbus carries no json"
        if self.enum is not None:
            if type_ != ValueType.STRING:
                return f"`enum` gives words: the property must be a string, not a {type_}"
            return None if wire.is_integer else f"`enum` needs the codes of an integer, not of a {wire}"
        if wire != type_ and (type_ in _TEXTS or wire in _TEXTS):
            hint = ": give `enum`, or type string and `length`" if type_ == ValueType.STRING else ""
            return f"a {type_} can't be made from a {wire}{hint}"
        if type_ == ValueType.BOOL and (wire.is_float or self.scale != 1.0 or self.add != 0.0):
            return f"a bool can't be made from a {wire}{'' if wire.is_float else ' with `scale` or `add`'}"
        return None

    def _wrong_size(self, type_: ValueType, wire: ValueType) -> str | None:
        if wire in _TEXTS and self.length is None:
            return f"a {wire} needs `length`, in registers"
        if wire not in _TEXTS and self.length is not None:
            return f"`length` is for string and bytes, not for a {wire}"
        if self.offset + self.span(type_) > 65536:
            return f"{self.text(type_)} reaches past the last register, 65535"
        return layout.problem(self.field(type_, self.offset))

    def _wrong_function(self, type_: ValueType) -> str | None:
        if self.write_function in ("single", "mask") and self.span(type_) > 1:
            return f"writeFunction `{self.write_function}` writes one register, not {self.span(type_)}"
        return None

    def nearest(self, type_: ValueType, value: Scalar) -> Scalar:
        if self.is_bit or type_ == ValueType.BOOL:
            return bool(value)
        held: Scalar = layout.nearest(self.field(type_, self.offset), value)
        return int(held) if type_.is_integer and isinstance(held, float) and held.is_integer() else held

    def extent(self, type_: ValueType) -> tuple[str, int, int]:
        return self.table, self.offset, self.offset + self.span(type_) - 1

    def overlap(self, other: Self, type_: ValueType, other_type: ValueType) -> str | None:
        """Parts of a register (bits, bytes) may lie inside a wider value; equal readings are no collision."""
        if self.table != other.table:
            return None
        mine, theirs = self.span(type_), other.span(other_type)
        if self.offset >= other.offset + theirs or other.offset >= self.offset + mine:
            return None
        if (
            self._is_part(type_)
            or other._is_part(other_type)
            or self._reads_as(type_) == other._reads_as(other_type)
        ):
            return None
        one, two = (f"{a.text(t)} as {a.wire(t)}" for a, t in ((self, type_), (other, other_type)))
        return f"{one} and {two}"

    def _is_part(self, type_: ValueType) -> bool:
        return self.bit is not None or self.wire(type_) in (ValueType.INT8, ValueType.UINT8, ValueType.BYTES)

    def _reads_as(self, type_: ValueType) -> tuple[object, ...]:
        return (self.offset, self.span(type_), self.wire(type_), self.byte_order, self.word_order)


def _plural(table: Table) -> str:
    names = {"coil": "coils", "discrete": "discrete inputs"}
    return names.get(table, f"{table} registers")
