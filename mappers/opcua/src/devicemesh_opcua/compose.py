"""JSON -> values of a server's data types: structures field by field (Part 6, 5.2.6 to 5.2.8). Pure.

The other way round is `datatypes`; what reads as JSON there is taken here, and reads back as it was.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from devicemesh_opcua import binary, convert
from devicemesh_opcua.binary import Composed
from devicemesh_opcua.datatypes import MAX_DEPTH, Definition, Field

_NULLABLE = {binary.STRING, binary.BYTE_STRING, binary.XML, binary.LOCALIZED_TEXT}


@dataclass(frozen=True, slots=True)
class Shape:
    """A structure that can be sent: the NodeId of its encoding, encoded, and its fields."""

    encoding: bytes
    definition: Definition


def variant(kind: int, value: Any, is_array: bool, shape: Shape | None = None) -> bytes:
    """The Variant of a value, or of a list of them. Raises ValueError, in words, where it does not fit.

    `shape`: of structures.
    """
    if isinstance(value, list) != is_array:
        raise ValueError(f"{value!r:.60} is {'no' if is_array else 'an'} array")
    raw = convert.raw(value, kind) if shape is None else _composed(shape, value, "")
    return binary.encode_variant(kind, raw, is_array)


def _composed(shape: Shape, value: Any, path: str) -> Any:
    if isinstance(value, list):
        return [_composed(shape, one, f"{path}[{i}]") for i, one in enumerate(value)]
    return Composed(shape.encoding, structure(shape.definition, value, path))


def structure(definition: Definition, value: Any, path: str = "", depth: int = 0) -> bytes:
    """A structure's body. Raises ValueError that names the field which does not fit.

    It is whole: a field that is left out is an optional one, or one of a union that is not chosen.
    """
    names = [one.name for one in definition.fields]
    if depth > MAX_DEPTH:
        raise ValueError(f"structures lie more than {MAX_DEPTH} deep in each other")
    if not isinstance(value, dict):
        where = f"`{path}`: " if path else ""
        raise ValueError(f"{where}{value!r:.60} is no object with the fields {_some(names)}")
    if strange := [name for name in value if name not in names]:
        raise ValueError(f"`{_at(path, strange[0])}` is no field of it; they are {_some(names)}")
    if definition.is_union:
        return _union(definition, value, path, depth)
    mask, bit, parts = 0, 0, []
    for one in definition.fields:
        at = _at(path, one.name)
        if one.optional and definition.has_mask:
            bit += 1
            if one.name not in value:
                continue
            mask |= 1 << (bit - 1)
        elif one.name not in value:
            raise ValueError(f"`{at}` is missing: a structure is written whole, {_some(names)}")
        parts.append(_field(one, value[one.name], at, depth))
    head = struct.pack("<I", mask) if definition.has_mask else b""
    return head + b"".join(parts)


def _union(definition: Definition, value: dict[str, Any], path: str, depth: int) -> bytes:
    if len(value) > 1:
        where = f"`{path}`: " if path else ""
        raise ValueError(f"{where}{_some(value)} are given, and of a union there is one field at a time")
    for number, one in enumerate(definition.fields, 1):
        if one.name in value:
            part = _field(one, value[one.name], _at(path, one.name), depth)
            return struct.pack("<I", number) + part
    return struct.pack("<I", 0)


def _field(one: Field, value: Any, path: str, depth: int) -> bytes:
    if one.rank < 0:
        return _single(one, value, path, depth)
    if value is None and one.rank <= 1:
        return b"\xff\xff\xff\xff"
    if not isinstance(value, list):
        raise ValueError(f"`{path}`: {value!r:.60} is no array")
    try:
        sizes, flat = binary.dimensions(value) if one.rank > 1 else ([len(value)], value)
    except ValueError as error:
        raise ValueError(f"`{path}`: {error}") from None
    if one.rank > 1 and len(sizes) != one.rank:
        raise ValueError(f"`{path}`: an array of {len(sizes)} dimensions, and not of {one.rank}")
    numbers = [len(sizes), *sizes] if one.rank > 1 else sizes
    head = struct.pack(f"<{len(numbers)}i", *numbers)
    return head + b"".join(_single(one, each, f"{path}[{i}]", depth) for i, each in enumerate(flat))


def _single(one: Field, value: Any, path: str, depth: int) -> bytes:
    if one.inner is not None:
        return structure(one.inner, value, path, depth + 1)
    if one.kind == binary.EXTENSION_OBJECT:
        raise ValueError(f"`{path}` may be a structure of several types, and JSON does not say which")
    try:
        if one.kind == binary.VARIANT:
            return binary.encode_variant(*_guessed(value))
        if value is None and one.kind in _NULLABLE:
            return binary.encode_scalar(one.kind, None)
        return binary.encode_scalar(one.kind, convert.raw(value, one.kind))
    except ValueError as error:
        hint = ": of an enumeration, write its number" if isinstance(value, str) and one.kind == 6 else ""
        raise ValueError(f"`{path}`: {error}{hint}") from None


def _guessed(value: Any) -> tuple[int, Any, bool]:
    """A Variant's type where any will do: Boolean, Int64, Double or String, or an array of one of them."""
    flat = binary.dimensions(value)[1] if isinstance(value, list) else [value]
    types = {type(one) for one in flat}
    if types == {int, float}:
        types = {float}
    found = {bool: binary.BOOLEAN, int: binary.INT64, float: binary.DOUBLE, str: binary.STRING}
    if value is None:
        return binary.NULL, None, False
    kind = found.get(types.pop()) if len(types) == 1 else None
    if kind is None:
        raise ValueError(
            f"{value!r:.60} is neither a truth value, a number, a text, nor an array of one of them"
        )
    return kind, convert.raw(value, kind), isinstance(value, list)


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _some(names: Iterable[str]) -> str:
    all_ = [f"{name:.60}" for name in names]
    return ", ".join(all_[:20]) + (", ..." if len(all_) > 20 else "") or "none"
