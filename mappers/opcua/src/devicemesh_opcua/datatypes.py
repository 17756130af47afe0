"""Structures and enumerations as a server defines them (Part 3, 8.48 to 8.52): bytes -> JSON. Pure."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from devicemesh_opcua import binary
from devicemesh_opcua.binary import DecodeError, Structure
from devicemesh_opcua.nodeid import NodeName

STRUCTURE_DEFINITION, ENUM_DEFINITION, ENUM_VALUE = "i=122", "i=123", "i=8251"
"""Encodings of StructureDefinition, EnumDefinition and EnumValueType."""
PLAIN, OPTIONAL, UNION = 0, 1, 2
SUBTYPED, SUBTYPED_UNION = 3, 4
"""StructureType (Part 3, 8.48); in the last two an `optional` field may have a subtype's value."""
MAX_DEPTH = 16
MAX_TYPES = 1000
"""That are looked up in a session: a server could send a new one with each value."""
MAX_NAME = 256
"""Characters of a field's name: as JSON it stands at every element."""
MAX_FIELDS = 2000
"""Of all structures of a session, or of a dictionary's structure with its parts."""

Words: TypeAlias = Mapping[int, str]
"""An enumeration: its words by their numbers."""


@dataclass(slots=True)
class Field:
    """A field of a structure. `kind` is its built-in type; `inner` its own fields, where it has some."""

    name: str
    data_type: NodeName
    rank: int
    optional: bool
    kind: int = binary.NULL
    inner: Definition | None = None


@dataclass(slots=True)
class Definition:
    """A structure's fields in their order. `encoding` is the NodeId of its binary one, where it is told."""

    form: int
    fields: list[Field] = field(default_factory=list)
    encoding: NodeName | None = None

    @property
    def is_union(self) -> bool:
        return self.form in (UNION, SUBTYPED_UNION)

    @property
    def has_mask(self) -> bool:
        """Whether a number before the fields says which of the optional ones are there."""
        return self.form == OPTIONAL

    def many_types(self, one: Field) -> bool:
        """Whether a field holds an ExtensionObject (of a structure) that says its own type."""
        return self.form in (SUBTYPED, SUBTYPED_UNION) and one.optional


def structure_definition(body: bytes) -> Definition:
    """Take a StructureDefinition apart. Raises DecodeError."""
    encoding, at = binary.node_id(body, 0)
    _, at = binary.node_id(body, at)
    try:
        (form,) = struct.unpack_from("<i", body, at)
        count, at = binary.length(body, at + 4, 8)
        fields = []
        for _ in range(count):
            name, at = binary.string(body, at)
            _, at = binary.localized(body, at)
            data_type, at = binary.node_id(body, at)
            (rank,) = struct.unpack_from("<i", body, at)
            dimensions, at = binary.length(body, at + 4, 4)
            at += 4 * max(dimensions, 0)
            (optional,) = struct.unpack_from("<4x?", body, at)
            at += 5
            if len(name or "") > MAX_NAME:
                raise DecodeError(f"a field's name of {len(name or '')} characters")
            fields.append(Field(name or "", data_type, rank, optional))
    except struct.error as error:
        raise DecodeError("the message ends inside a StructureDefinition") from error
    return Definition(form, fields, encoding if encoding.identifier else None)


def enum_definition(body: bytes) -> Words:
    """Take an EnumDefinition apart. Raises DecodeError."""
    count, at = binary.length(body, 0, 8)
    words: dict[int, str] = {}
    for _ in range(count):
        number, shown, at = _value(body, at)
        name, at = binary.string(body, at)
        words[number] = name or shown
    return words


def enum_values(bodies: list[Any]) -> Words:
    """The words of an array of EnumValueType. Raises DecodeError."""
    pairs = [
        _value(one.body, 0) for one in bodies if isinstance(one, Structure) and one.type_id == ENUM_VALUE
    ]
    return {number: shown for number, shown, _ in pairs}


def _value(body: bytes, at: int) -> tuple[int, str, int]:
    if at + 8 > len(body):
        raise DecodeError("the message ends inside an enumeration")
    (number,) = struct.unpack_from("<q", body, at)
    shown, at = binary.localized(body, at + 8)
    _, at = binary.localized(body, at)
    return number, shown or "", at


class DataTypes:
    """The structures that are known so far, by the NodeId of their encoding; what is not is noted."""

    def __init__(self) -> None:
        self.known: dict[str, Definition | None] = {}  # None: the server does not say
        self.missing: set[str] = set()

    def decoded(self, one: Structure, plain: Callable[[int, Any], Any]) -> dict[str, Any] | None:
        """A structure's fields as JSON, by name; None where they are not known, or are others."""
        if one.type_id not in self.known and len(self.known) + len(self.missing) < MAX_TYPES:
            self.missing.add(one.type_id)
        definition = self.known.get(one.type_id)
        if definition is None:
            return None
        try:
            found, at = _fields(definition, one.body, 0, plain, 0)
        except (DecodeError, struct.error):
            return None
        return found if at == len(one.body) else None


def _fields(
    definition: Definition, data: bytes, at: int, plain: Callable[[int, Any], Any], depth: int
) -> tuple[dict[str, Any], int]:
    if depth > MAX_DEPTH:
        raise DecodeError(f"structures lie more than {MAX_DEPTH} deep in each other")
    mask = -1
    if definition.has_mask or definition.is_union:
        (mask,) = struct.unpack_from("<I", data, at)
        at += 4
    if definition.is_union:
        if not 0 < mask <= len(definition.fields):
            return {}, at
        chosen = definition.fields[mask - 1]
        value, at = _field(chosen, data, at, plain, depth)
        return {chosen.name: value}, at
    found: dict[str, Any] = {}
    bit = 0
    for one in definition.fields:
        if one.optional and definition.has_mask:
            bit += 1
            if not mask >> (bit - 1) & 1:
                continue
        found[one.name], at = _field(one, data, at, plain, depth)
    return found, at


def _field(one: Field, data: bytes, at: int, plain: Callable[[int, Any], Any], depth: int) -> tuple[Any, int]:
    if one.rank < 0:
        return _single(one, data, at, plain, depth)
    sizes: tuple[int, ...] = ()
    if one.rank > 1:
        rank, at = binary.length(data, at, 4)
        sizes = struct.unpack_from(f"<{max(rank, 0)}i", data, at)
        at += 4 * len(sizes)
        count = binary.product(sizes, len(data) - at)
    else:
        count, at = binary.length(data, at, 1)
        if count < 0:
            return None, at
    values: list[Any] = []
    for _ in range(count):
        value, at = _single(one, data, at, plain, depth)
        values.append(value)
    return binary.shaped(values, sizes), at


def _single(
    one: Field, data: bytes, at: int, plain: Callable[[int, Any], Any], depth: int
) -> tuple[Any, int]:
    if one.inner is not None:
        found, after = _fields(one.inner, data, at, plain, depth + 1)
    else:
        value, after = binary.scalar(one.kind, data, at)
        found = plain(one.kind, value)
    if after == at:  # in arrays, or in each other, there could be any number of them
        raise DecodeError("a field that takes no bytes")
    return found, after
