"""What a person writes in YAML: how to reach an instrument, and where a property lives on it.

Replace: the fields. Each needs a docstring: it becomes its line in README.md (`python tests/test_docs.py`
writes it), in `devicemesh explain` and in the CustomResourceDefinition. `read_timeout` is `readTimeout` in
YAML; what is unknown, missing or out of range is refused with its line and column, without a word from you.
"""

from __future__ import annotations

import re
from typing import Self

from pydantic import Field, field_validator

from devicemesh.mapper import Address, Endpoint
from devicemesh.spec.values import Interval, ValueType, duration_ns

_HEADER = re.compile(r"[*:]?[A-Za-z][A-Za-z0-9_:]*")


class ScpiEndpoint(Endpoint):
    """How to reach a device. Devices that name the same host and port share a connection."""

    host: str = Field(min_length=1)
    """Name or address of the instrument."""
    port: int = Field(default=5025, ge=1, le=65535)
    """TCP port of its raw socket; 5025 on most."""
    channel: int | None = Field(default=None, ge=1, le=9999)
    """The device is this channel (output, slot) of the instrument: `(@2)` is said with each header."""
    timeout: Interval = "1s"
    """How long to wait for the connection, and for an answer."""

    @property
    def timeout_s(self) -> float:
        return duration_ns(self.timeout) / 1e9

    def link(self) -> str:
        """What neighbours share: their questions go over one connection, one after the other."""
        host = self.host.lower()
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def text(self) -> str:
        return self.link() if self.channel is None else f"{self.link()} channel {self.channel}"

    def redirect(self, address: str) -> Self:
        host, _, port = address.rpartition(":")
        return self.model_copy(update={"host": host.strip("[]"), "port": int(port)})


class ScpiAddress(Address):
    """Where a property lives."""

    header: str
    """The command, as in VOLT: it is read with `VOLT?` and written with `VOLT 5`."""

    @field_validator("header")
    @classmethod
    def _one_header(cls, header: str) -> str:
        if not _HEADER.fullmatch(header):
            raise ValueError(f"{header!r} is no header: write it like MEAS:VOLT")
        return header

    def refusal(self, type_: ValueType, access: str) -> str | None:
        return "SCPI's answers here are lines of text, not bytes" if type_ == ValueType.BYTES else None
