"""How to reach a device, or where it reaches us, as a person writes it."""

from __future__ import annotations

import functools
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from devicemesh.mapper import Endpoint, listening_at
from devicemesh.spec.base import Strict
from devicemesh.spec.values import Interval, duration_ns
from devicemesh_modbus.model import MAX_BITS, MAX_REGISTERS, Table

Transport = Literal["tcp", "tls", "udp", "rtuovertcp", "asciiovertcp", "serial"]
Frames = Literal["mbap", "rtu", "ascii"]
DIALLED: tuple[Transport, ...] = ("tcp", "rtuovertcp", "asciiovertcp")
"""What those who dial in may speak."""
TIMEOUT = "1s"
MOBILE_TIMEOUT = "5s"
"""The default with `listen`: mobile networks are slow."""
MAX_REGISTRATION = 256
"""Bytes; modems have 40 or so."""


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
    mode: Literal["rtu", "ascii"] = "rtu"
    """How frames are written: in bytes, or as text (Modbus over Serial Line V1.02, 2.5)."""
    data_bits: Literal[7, 8] | None = None
    """Data bits of a character: 8, or 7 in ASCII mode by default. RTU needs 8."""

    @model_validator(mode="after")
    def _rtu_has_bytes(self) -> Self:
        if self.mode == "rtu" and self.data_bits == 7:
            raise ValueError("RTU needs 8 data bits")
        return self

    @property
    def character_bits(self) -> int:
        """Data bits of a character."""
        return self.data_bits or (8 if self.mode == "rtu" else 7)

    @property
    def byte_s(self) -> float:
        """Seconds that a byte of a frame takes: in ASCII it is two characters."""
        bits = 1 + self.character_bits + (self.parity != "none") + self.stop_bits
        return bits / self.baudrate * (1 if self.mode == "rtu" else 2)


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
    """How to reach a device. Devices that name the same host and port, or serial port, share a connection.

    With `listen` the device, or the modem before it, dials in to us.
    """

    host: str | None = Field(default=None, min_length=1)
    """Name or address of the device or gateway."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """By default 502, or 802 with TLS."""
    serial: Serial | None = None
    """Instead of a host: a serial line."""
    listen: str | None = None
    """Instead of a host: where the device, or its modem, dials in to, as in 0.0.0.0:5020."""
    registration: str | None = Field(default=None, min_length=1)
    """With `listen`: what the modem sends first, as text or as hex:01A0FF; mostly its IMEI.

    Several modems on one port are told apart by it. Without it by their units, which must then differ.
    """
    transport: Transport | None = None
    """By default `serial` with a serial line, `tls` with `tls`, else `tcp`."""
    tls: Tls | None = None
    """Certificates, for Modbus/TCP Security."""
    pipeline: int = Field(default=1, ge=1, le=64)
    """Requests under way at once on the connection; more than 1 only where the device is known to bear it."""
    unit: int = Field(default=1, ge=0, le=255)
    """The unit (slave) identifier: which device, behind a gateway or on a line; else mostly 1 or 255."""
    timeout: Interval | None = None
    """How long to wait for an answer; by default 1s, or 5s with `listen`."""
    retries: int | None = Field(default=None, ge=0, le=5)
    """How often a lost or garbled answer is asked for again in the same poll.

    By default 1 where the transport can lose or garble (udp, rtuovertcp, asciiovertcp, serial), else 0.
    Silence on an RTU or ASCII line is never asked again in the same poll: a late answer could be taken for
    the second one.
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

    @field_validator("listen")
    @classmethod
    def _is_place(cls, listen: str | None) -> str | None:
        if listen is not None:
            listening_at(listen)
        return listen

    @field_validator("registration", mode="before")
    @classmethod
    def _is_text(cls, registration: Any) -> Any:
        if isinstance(registration, int):
            raise ValueError("a registration is text: put it into quotes, or YAML makes a number of it")
        return registration

    @field_validator("registration")
    @classmethod
    def _is_packet(cls, registration: str | None) -> str | None:
        if registration is not None and not 0 < len(packet(registration)) <= MAX_REGISTRATION:
            raise ValueError(f"a registration has 1 to {MAX_REGISTRATION} bytes")
        return registration

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if sum(one is not None for one in (self.host, self.serial, self.listen)) != 1:
            raise ValueError("give one of `host`, `serial` and `listen`")
        if self.serial is not None and self.port is not None:
            raise ValueError("a serial line has its `port` inside `serial`")
        if self.listen is not None and self.port is not None:
            raise ValueError("`listen` has its port at its end, as in 0.0.0.0:5020")
        if (self.kind == "serial") != (self.serial is not None):
            way = "serial" if self.serial else "listen" if self.listen else "host"
            raise ValueError(f"transport `{self.kind}` does not go with `{way}`")
        if self.tls is not None and self.kind != "tls":
            raise ValueError(f"transport `{self.kind}` knows no `tls`")
        if self.kind == "serial" and self.unit == 0:
            raise ValueError("unit 0 is everyone on a serial line: nobody answers it")
        self._check_listening()
        self._check_pipeline()
        return self

    def _check_listening(self) -> None:
        if self.listen is None:
            if self.registration is not None:
                raise ValueError("`registration` goes with `listen`")
        elif self.kind not in DIALLED:
            raise ValueError(f"transport `{self.kind}` does not go with `listen`: {', '.join(DIALLED)} do")

    def _check_pipeline(self) -> None:
        if self.pipeline > 1 and self.listen is not None:
            raise ValueError("`pipeline` goes with `host`: one who dialled in is asked one thing at a time")
        if self.pipeline > 1 and self.kind not in ("tcp", "tls"):
            raise ValueError(
                f"`pipeline` needs transport tcp or tls: on {self.kind} answers can't be told apart"
            )
        if self.pipeline > 1 and self.pause_between_requests is not None:
            raise ValueError("`pipeline` and `pauseBetweenRequests` exclude each other")

    @property
    def kind(self) -> Transport:
        """The transport, derived where it is not given."""
        if self.transport is not None:
            return self.transport
        return "serial" if self.serial else "tls" if self.tls else "tcp"

    @property
    def frames(self) -> Frames:
        """How requests and answers are wrapped."""
        if self.kind in ("tcp", "tls", "udp"):
            return "mbap"
        ascii_ = self.kind == "asciiovertcp" or (self.serial is not None and self.serial.mode == "ascii")
        return "ascii" if ascii_ else "rtu"

    @property
    def tcp_port(self) -> int:
        return self.port or (802 if self.kind == "tls" else 502)

    @property
    def timeout_s(self) -> float:
        return _seconds(self.timeout or (MOBILE_TIMEOUT if self.listen else TIMEOUT))

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
        if self.listen is not None:
            host, port = listening_at(self.listen)
            return f"listen [{host}]:{port}" if ":" in host else f"listen {host}:{port}"
        host = (self.host or "").lower()
        return f"[{host}]:{self.tcp_port}" if ":" in host else f"{host}:{self.tcp_port}"

    def text(self) -> str:
        caller = f" {self.registration}" if self.registration is not None else ""
        return f"{self.link()}{caller} unit {self.unit}"

    @property
    def identity(self) -> bytes | int:
        """With `listen`: by what its modem is known, what it says first or the unit that answers."""
        return packet(self.registration) if self.registration is not None else self.unit

    def claims(self) -> str | None:
        if self.listen is None:
            return None
        return f"unit {self.unit} of " + (
            f"the modem {self.registration}" if self.registration else "a modem"
        )

    def listens(self) -> tuple[Literal["tcp", "udp"], str, int] | None:
        return ("tcp", *listening_at(self.listen)) if self.listen is not None else None

    def redirect(self, address: str) -> Self:
        """`host:port`, `[::1]:port` or the path of a serial port (which starts with /).

        A serial device that is redirected to a host is spoken to in the same frames over TCP. With TLS the
        certificate must still bear the declared name. Who dials in dials in there.
        """
        if self.listen is not None:
            return self.model_validate({**self.model_dump(exclude_unset=True), "listen": address})
        data = self.model_dump(exclude_unset=True, exclude={"host", "port", "serial"})
        if address.startswith("/"):
            declared = self.serial.model_dump(exclude_unset=True) if self.serial else {}
            if address.startswith("/dev/pts/"):
                declared |= {"parity": "none", "data_bits": 8}  # a pseudo-terminal has no other
            if self.frames == "ascii":
                declared["mode"] = "ascii"
            data = {k: v for k, v in data.items() if k not in ("tls", "transport", "pipeline")}
            return self.model_validate({**data, "serial": {**declared, "port": address}})
        host, _, port = address.rpartition(":")
        data |= {"host": host.strip("[]"), "port": int(port)}
        if self.kind == "serial":
            data["transport"] = f"{self.frames}overtcp"
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


def packet(registration: str) -> bytes:
    """The bytes of a registration. Raises ValueError."""
    if not registration.startswith("hex:"):
        return registration.encode()
    try:
        return bytes.fromhex(registration.removeprefix("hex:"))
    except ValueError:
        raise ValueError(f"{registration!r} is not hexadecimal: write it like hex:01A0FF") from None
