from collections.abc import Callable
from typing import Literal, Self

import pytest
from pydantic import Field

from devicemesh.mapper import Address, Endpoint
from devicemesh.spec.base import Protocol
from devicemesh.spec.manifest import Manifest, load
from devicemesh.spec.values import ValueType


class ToyEndpoint(Endpoint):
    host: str
    port: int = Field(default=502, ge=1, le=65535)
    baudrate: int = 9600
    caller: str | None = None
    listens_at: str | None = None

    def link(self) -> str:
        return f"{self.host}:{self.port}"

    def conflict(self, other: Self) -> str | None:
        return None if self.baudrate == other.baudrate else f"baudrate {self.baudrate} and {other.baudrate}"

    def claims(self) -> str | None:
        return self.caller and f"the modem {self.caller}"

    def listens(self) -> tuple[Literal["tcp", "udp"], str, int] | None:
        return None if self.listens_at is None else ("tcp", self.listens_at, self.port)

    def redirect(self, address: str) -> Self:
        return self


class ToyAddress(Address):
    table: Literal["holding", "input"]
    offset: int = Field(ge=0, le=65535)

    def refusal(self, type_: ValueType, access: str) -> str | None:
        return "inputs can only be read" if self.table == "input" and access != "ReadOnly" else None

    def overlap(self, other: Self, type_: ValueType, other_type: ValueType) -> str | None:
        same = (self.table, self.offset) == (other.table, other.offset)
        return (
            f"{self.table} {self.offset} as {type_} and as {other_type}"
            if same and type_ != other_type
            else None
        )


@pytest.fixture
def check() -> Callable[[str], Manifest]:
    """Check a manifest against a toy protocol."""
    protocols = {"toy": Protocol(ToyEndpoint, ToyAddress)}
    return lambda text: load({"x.yaml": text}, protocols, lambda namespace, name: None)
