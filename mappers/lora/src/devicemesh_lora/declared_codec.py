"""What a person writes about a payload codec."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from devicemesh.spec.base import Strict


class CodecExample(Strict):
    """A payload that a device has sent."""

    port: int = Field(default=1, ge=1, le=223)
    """Its FPort."""
    bytes: str = Field(pattern=r"^([0-9a-fA-F]{2})*$", max_length=484)
    """The payload, hexadecimal."""


class Codec(Strict):
    """A payload codec in JavaScript, as device makers publish it (TS013)."""

    file: str | None = Field(default=None, min_length=1, max_length=1000)
    """The codec's file: absolute, or in the home's folder `codecs`. Read again when it changes."""
    source: str | None = Field(default=None, min_length=1, max_length=262_144)
    """Instead of `file`: the codec itself."""
    examples: tuple[CodecExample, ...] = ()
    """Payloads that a simulated device sends in turn, where the codec has no encodeUplink."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.file is None) == (self.source is None):
            raise ValueError("give either `file`, the codec's file, or `source`, the codec itself")
        return self

    @property
    def name(self) -> str:
        """For people."""
        return self.file or "in `source`"
