"""From what a server has to a model and a device in YAML, ready to be applied. Pure."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from devicemesh.spec.units import canonical
from devicemesh.spec.values import ValueType
from devicemesh_opcua import binary
from devicemesh_opcua.binary import DecodeError, Typed
from devicemesh_opcua.convert import INTEGER_KINDS, plain
from devicemesh_opcua.model import OpcUaEndpoint
from devicemesh_opcua.nodeid import NodeName

MAX_NAME = 63
WRITABLE = 0x02
"""CurrentWrite, a bit of AccessLevel (Part 3, 8.57)."""
READABLE = 0x01


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a server, as browsing found it."""

    node: NodeName  # its namespace as a URI
    path: tuple[str, ...]  # names from where browsing began
    held: Typed  # what it holds now; Null where it holds nothing or can't be read
    kind: int  # the built-in type, also where it holds nothing
    is_array: bool = False
    access: int = READABLE
    description: str | None = None
    unit: str | None = None  # as the server shows it
    low: float | None = None  # of its EURange
    high: float | None = None

    @property
    def type(self) -> ValueType:
        """The type of a property that has it all."""
        if self.is_array:
            return ValueType.JSON
        if self.kind in INTEGER_KINDS:
            return INTEGER_KINDS[self.kind]
        named = {1: ValueType.BOOL, 10: ValueType.FLOAT32, 11: ValueType.FLOAT64, 15: ValueType.BYTES}
        if self.kind in named:
            return named[self.kind]
        return ValueType.STRING if 12 <= self.kind <= 21 else ValueType.JSON

    @property
    def sample(self) -> str:
        """Its type, its value and what may be done with it, for people."""
        value = json.dumps(plain(self.held.kind, self.held.value), ensure_ascii=False)
        shown = value if len(value) <= 40 else f"{value[:37]}..."
        rank = "[]" if self.is_array else ""
        unit = f" {self.unit}" if self.unit else ""
        can = "" if self.access & READABLE else "  write only" if self.access & WRITABLE else "  no access"
        can = "  writable" if self.access & READABLE and self.access & WRITABLE else can
        return f"{'/'.join(self.path)}  {binary.TYPE_NAMES[self.kind]}{rank} {shown}{unit}{can}"


def unit_of(body: bytes) -> str | None:
    """What EUInformation shows of its unit (Part 8, 5.6.3); None where these bytes are none."""
    try:
        _, at = binary.string(body, 0)
        shown, _ = binary.variant(bytes((binary.LOCALIZED_TEXT,)) + body[at + 4 :], 0)
    except DecodeError:
        return None
    return shown.value or None


def range_of(body: bytes) -> tuple[float, float] | None:
    """Low and high of a Range (Part 8, 5.6.2); None where these bytes are none."""
    low, high = struct.unpack_from("<dd", body) if len(body) >= 16 else (math.nan, math.nan)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def names(variables: Sequence[Variable]) -> list[str]:
    """A property's name for each: as short a part of its path as tells it apart."""
    taken: set[str] = set()
    given = []
    for one in variables:
        parts = [re.sub(r"[^A-Za-z0-9_-]+", "_", part).strip("_") or "x" for part in one.path]
        choices = [".".join(parts[-depth:]) for depth in range(1, len(parts) + 1)]
        choices += [f"{choices[-1][: MAX_NAME - 6]}_{number}" for number in range(2, len(variables) + 3)]
        fitting = (_word(choice) for choice in choices)
        name = next(choice for choice in fitting if choice not in taken)
        taken.add(name)
        given.append(name)
    return given


def _word(name: str) -> str:
    return (name if re.match(r"[A-Za-z_]", name) else f"_{name}")[-MAX_NAME:].lstrip(".-") or "x"


def model_yaml(endpoint: OpcUaEndpoint, variables: Sequence[Variable], name: str) -> str:
    """A DeviceModel `name` with a property for each variable, and a Device `name`-1 that is this server."""
    lines = [
        "apiVersion: devicemesh.io/v1alpha1",
        "kind: DeviceModel",
        f"metadata: {{name: {name}}}",
        "spec:",
    ]
    lines.append("  properties:")
    usable = [one for one in variables if one.access & (READABLE | WRITABLE)]
    for word, one in zip(names(usable), usable, strict=True):
        lines += _property(word, one)
    lines += [
        "---",
        "apiVersion: devicemesh.io/v1alpha1",
        "kind: Device",
        f"metadata: {{name: {name}-1}}",
        "spec:",
    ]
    lines.append(f"  modelRef: {{name: {name}}}")
    fields = endpoint.model_dump(by_alias=True, exclude_unset=True, mode="json")
    lines.append(f"  endpoint: {{opcua: {json.dumps({**fields, 'url': endpoint.full_url})}}}")
    return "\n".join(lines) + "\n"


def _property(word: str, one: Variable) -> Iterator[str]:
    yield f"  - name: {word}"
    yield f"    type: {one.type}"
    if unit := _unit(one):
        yield f"    unit: {json.dumps(unit, ensure_ascii=False)}"
    if one.description and one.description != one.path[-1]:
        yield f"    description: {json.dumps(one.description, ensure_ascii=False)}"
    if not one.access & READABLE:
        yield "    access: WriteOnly"
    elif one.access & WRITABLE:
        yield "    access: ReadWrite"
    if one.type.is_number and one.low is not None and one.high is not None and one.low < one.high:
        yield f"    minimum: {_plain(one.low)}"
        yield f"    maximum: {_plain(one.high)}"
    yield f"    address: {{opcua: {{node: {json.dumps(one.node.text, ensure_ascii=False)}}}}}"


def _plain(number: float) -> str:
    """All of its digits, and none that say nothing."""
    return repr(number).removesuffix(".0")


def _unit(one: Variable) -> str | None:
    """The unit, if it is one that is known here."""
    try:
        return canonical(one.unit) if one.unit else None
    except ValueError:
        return None
