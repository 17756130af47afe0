"""OPC UA Binary, the parts that carry values (Part 6, 5.2). Pure; every length is checked before it is used.

A message may come from anyone. So an array never has more elements than bytes are left, text ends where
its bytes end, and nesting stops at `MAX_DEPTH`; whatever does not fit is a `DecodeError`.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from devicemesh_opcua.nodeid import Identifier, NodeName, Space

MAX_DEPTH = 32
"""How deep values may lie in each other; Part 6, 5.1.5 asks for 100, no real value has 10."""
NULL, BOOLEAN, INT64, UINT64, FLOAT, DOUBLE = 0, 1, 8, 9, 10, 11
STRING, DATE_TIME, GUID, BYTE_STRING, XML, NODE_ID, EXPANDED_NODE_ID = 12, 13, 14, 15, 16, 17, 18
STATUS_CODE, QUALIFIED_NAME, LOCALIZED_TEXT, EXTENSION_OBJECT, DATA_VALUE, VARIANT, DIAGNOSTIC = range(19, 26)
TYPE_NAMES = (
    "Null", "Boolean", "SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float",
    "Double", "String", "DateTime", "Guid", "ByteString", "XmlElement", "NodeId", "ExpandedNodeId",
    "StatusCode", "QualifiedName", "LocalizedText", "ExtensionObject", "DataValue", "Variant",
    "DiagnosticInfo",
)  # fmt: skip
"""Of the built-in types, by number (Part 6, 5.1.2)."""
NUMBERS = {1: "?", 2: "b", 3: "B", 4: "h", 5: "H", 6: "i", 7: "I", 8: "q", 9: "Q", 10: "f", 11: "d"}
"""struct's letters of the built-in types that have one size."""
_I32, _U32, _I64 = struct.Struct("<i"), struct.Struct("<I"), struct.Struct("<q")
_SCALARS = {kind: struct.Struct(f"<{letter}") for kind, letter in NUMBERS.items()}
_FIXED = {**_SCALARS, DATE_TIME: _I64, STATUS_CODE: _U32}


class DecodeError(ValueError):
    """These bytes are not what they should be."""


class Typed(NamedTuple):
    """A Variant's content. `value` is a list where `is_array`; `kind` is the built-in type's number."""

    kind: int
    value: Any
    is_array: bool = False


@dataclass(frozen=True, slots=True)
class Structure:
    """An ExtensionObject whose type is not known here."""

    type_id: str
    body: bytes


class Composed(NamedTuple):
    """An ExtensionObject to be sent: the NodeId of its encoding, encoded, and its body."""

    encoding: bytes
    body: bytes

    @property
    def encoded(self) -> bytes:
        return self.encoding + b"\x01" + _I32.pack(len(self.body)) + self.body


def length(data: bytes, at: int, least: int = 1) -> tuple[int, int]:
    """An array's length, which -1 stands for none; each element takes `least` bytes or more."""
    if at + 4 > len(data):
        raise DecodeError("the message ends inside a length")
    (count,) = _I32.unpack_from(data, at)
    if count > (len(data) - at - 4) // least or count < -1:
        raise DecodeError(f"a length of {count} where {len(data) - at - 4} bytes are left")
    return count, at + 4


def byte_string(data: bytes, at: int) -> tuple[bytes | None, int]:
    size, at = length(data, at)
    if size < 0:
        return None, at
    return data[at : at + size], at + size


def string(data: bytes, at: int) -> tuple[str | None, int]:
    """A String; bytes that are no UTF-8 become the replacement character."""
    raw, at = byte_string(data, at)
    return (None if raw is None else raw.decode("utf-8", "replace")), at


def node_id(data: bytes, at: int) -> tuple[NodeName, int]:
    """A NodeId or ExpandedNodeId (5.2.2.9, 5.2.2.10)."""
    flags, at = _byte(data, at)
    kind, space = flags & 0x3F, 0
    identifier: Identifier
    try:
        if kind == 0:
            identifier, at = _byte(data, at)
        elif kind == 1:
            space, identifier = struct.unpack_from("<BH", data, at)
            at += 3
        else:
            (space,) = struct.unpack_from("<H", data, at)
            identifier, at = _identifier(kind, data, at + 2)
    except struct.error as error:
        raise DecodeError("the message ends inside a NodeId") from error
    name: Space = space
    if flags & 0x80:
        uri, at = string(data, at)
        name = uri or space
    if flags & 0x40:
        at += 4
    return NodeName(name, identifier), at


def _identifier(kind: int, data: bytes, at: int) -> tuple[Identifier, int]:
    if kind == 2:
        return _U32.unpack_from(data, at)[0], at + 4
    if kind == 3:
        text, at = string(data, at)
        return text or "", at
    if kind == 4:
        return _guid(data, at)
    if kind == 5:
        raw, at = byte_string(data, at)
        return raw or b"", at
    raise DecodeError(f"a NodeId of kind {kind}")


def _guid(data: bytes, at: int) -> tuple[uuid.UUID, int]:
    if at + 16 > len(data):
        raise DecodeError("the message ends inside a Guid")
    return uuid.UUID(bytes_le=data[at : at + 16]), at + 16


def _byte(data: bytes, at: int) -> tuple[int, int]:
    if at >= len(data):
        raise DecodeError("the message ends too soon")
    return data[at], at + 1


def variant(data: bytes, at: int, depth: int = 0) -> tuple[Typed, int]:
    """A Variant (5.2.2.16); an array of several dimensions is a list of lists."""
    if depth > MAX_DEPTH:
        raise DecodeError(f"values lie more than {MAX_DEPTH} deep in each other")
    flags, at = _byte(data, at)
    kind = flags & 0x3F
    if kind > DIAGNOSTIC:
        kind = BYTE_STRING  # reserved for later: to be read as a ByteString
    if not flags & 0x80:
        value, at = scalar(kind, data, at, depth)
        return Typed(kind, value), at
    if kind == NULL:
        raise DecodeError("an array of nothing")
    fixed = _FIXED.get(kind)
    count, at = length(data, at, fixed.size if fixed else 1)
    values: list[Any] = []
    if kind in _SCALARS and count > 0:
        values = list(struct.unpack_from(f"<{count}{NUMBERS[kind]}", data, at))
        at += count * _SCALARS[kind].size
    else:
        for _ in range(count):
            value, at = scalar(kind, data, at, depth)
            values.append(value)
    if flags & 0x40:
        values, at = _shaped(values, data, at)
    return Typed(kind, values if count >= 0 else None, count >= 0), at


def _shaped(values: list[Any], data: bytes, at: int) -> tuple[list[Any], int]:
    """The elements of a Variant in their dimensions."""
    count, at = length(data, at, 4)
    sizes = struct.unpack_from(f"<{max(count, 0)}i", data, at)
    at += 4 * len(sizes)
    if product(sizes, len(values)) != len(values):
        raise DecodeError(f"dimensions {' x '.join(map(str, sizes[:8]))} of {len(values)} elements")
    return shaped(values, sizes), at


def product(sizes: Sequence[int], most: int) -> int:
    """How many elements an array of these dimensions has. Raises DecodeError for more than `most`."""
    count = 1
    for size in sizes:
        count *= max(size, 0)
        if count > most:
            break
    if count > most or len(sizes) > MAX_DEPTH:
        raise DecodeError(f"dimensions {' x '.join(map(str, sizes[:8]))} of {most} elements")
    return count


def shaped(values: list[Any], sizes: Sequence[int]) -> list[Any]:
    """The elements in these dimensions; the last one varies fastest."""
    for size in reversed(sizes[1:]):
        values = [values[i : i + size] for i in range(0, len(values), size)] if size else []
    return values


def scalar(kind: int, data: bytes, at: int, depth: int = 0) -> tuple[Any, int]:
    """One value of a built-in type."""
    fixed = _FIXED.get(kind)
    if fixed is not None:
        if at + fixed.size > len(data):
            raise DecodeError(f"the message ends inside a {TYPE_NAMES[kind]}")
        return fixed.unpack_from(data, at)[0], at + fixed.size
    if kind in (STRING, XML):
        return string(data, at)
    if kind == BYTE_STRING:
        return byte_string(data, at)
    if kind == GUID:
        return _guid(data, at)
    if kind in (NODE_ID, EXPANDED_NODE_ID):
        return node_id(data, at)
    if kind == QUALIFIED_NAME:
        return string(data, at + 2)
    if kind == LOCALIZED_TEXT:
        return localized(data, at)
    if kind == EXTENSION_OBJECT:
        return extension_object(data, at)
    if kind == VARIANT:
        return variant(data, at, depth + 1)
    if kind == DATA_VALUE:
        value, _, _, at = data_value(data, at, depth + 1)
        return value, at
    if kind == DIAGNOSTIC:
        return None, skip_diagnostic(data, at, depth + 1)
    return None, at


def localized(data: bytes, at: int) -> tuple[str | None, int]:
    """The text of a LocalizedText; its locale is not told."""
    flags, at = _byte(data, at)
    text = None
    if flags & 1:
        _, at = string(data, at)
    if flags & 2:
        text, at = string(data, at)
    return text, at


def extension_object(data: bytes, at: int) -> tuple[Structure | None, int]:
    """An ExtensionObject (5.2.2.15); None where it is empty."""
    name, at = node_id(data, at)
    encoding, at = _byte(data, at)
    body: bytes | None = b""
    if encoding:
        body, at = byte_string(data, at)
    if name.identifier == 0 and name.space == 0:
        return None, at
    return Structure(name.text, body or b""), at


def data_value(data: bytes, at: int, depth: int = 0) -> tuple[Typed, int, int, int]:
    """A DataValue (5.2.2.17): value, status, source (else server) time in ticks (0: none), end."""
    flags, at = _byte(data, at)
    value, status, source, server = Typed(NULL, None), 0, 0, 0
    if flags & 0x01:
        value, at = variant(data, at, depth)
    try:
        if flags & 0x02:
            (status,) = _U32.unpack_from(data, at)
            at += 4
        if flags & 0x04:
            (source,) = _I64.unpack_from(data, at)
            at += 8
        if flags & 0x10:
            at += 2
        if flags & 0x08:
            (server,) = _I64.unpack_from(data, at)
            at += 8
        if flags & 0x20:
            at += 2
    except struct.error as error:
        raise DecodeError("the message ends inside a DataValue") from error
    return value, status, source or server, at


def skip_diagnostic(data: bytes, at: int, depth: int = 0) -> int:
    """Where a DiagnosticInfo (5.2.2.12) ends."""
    if depth > MAX_DEPTH:
        raise DecodeError(f"diagnostics lie more than {MAX_DEPTH} deep in each other")
    flags, at = _byte(data, at)
    for bit in (0x01, 0x02, 0x04, 0x08):
        at += 4 if flags & bit else 0
    if flags & 0x10:
        _, at = string(data, at)
    at += 4 if flags & 0x20 else 0
    return skip_diagnostic(data, at, depth + 1) if flags & 0x40 else at


def encode_node(index: int, identifier: Identifier) -> bytes:
    """A NodeId, in the shortest form that fits.

    What a server has said in other bytes than UTF-8, and asyncua has decoded, goes back in those bytes.
    """
    if isinstance(identifier, int):
        if index == 0 and identifier <= 0xFF:
            return bytes((0, identifier))
        if index <= 0xFF and identifier <= 0xFFFF:
            return struct.pack("<BBH", 1, index, identifier)
        return struct.pack("<BHI", 2, index, identifier)
    if isinstance(identifier, uuid.UUID):
        return struct.pack("<BH", 4, index) + identifier.bytes_le
    if isinstance(identifier, bytes):
        return struct.pack("<BHi", 5, index, len(identifier)) + identifier
    raw = identifier.encode(errors="surrogateescape")
    return struct.pack("<BHi", 3, index, len(raw)) + raw


def encode_string(text: str | None) -> bytes:
    if text is None:
        return b"\xff\xff\xff\xff"
    raw = text.encode()
    return _I32.pack(len(raw)) + raw


def encode_variant(kind: int, value: Any, is_array: bool = False) -> bytes:
    """A Variant of a value as `devicemesh_opcua.convert.raw` gives it; lists in lists are dimensions.

    Raises ValueError where those differ in length.
    """
    if not is_array:
        return bytes((kind,)) + encode_scalar(kind, value)
    sizes, flat = dimensions(value)
    many = len(sizes) > 1
    head = bytes((kind | (0xC0 if many else 0x80),)) + _I32.pack(len(flat))
    tail = struct.pack(f"<{len(sizes) + 1}i", len(sizes), *sizes) if many else b""
    return head + b"".join(encode_scalar(kind, one) for one in flat) + tail


def dimensions(value: list[Any]) -> tuple[list[int], list[Any]]:
    """The sizes of lists in lists, and all elements, the last dimension fastest. Raises ValueError."""
    sizes, flat = [len(value)], list(value)
    while flat and any(isinstance(one, list) for one in flat):
        length = len(flat[0]) if isinstance(flat[0], list) else -1
        if any(not isinstance(one, list) or len(one) != length for one in flat):
            raise ValueError("the rows of an array of several dimensions differ in length")
        if len(sizes) == MAX_DEPTH:
            raise ValueError(f"an array of more than {MAX_DEPTH} dimensions")
        sizes.append(length)
        flat = [one for row in flat for one in row]
    return sizes, flat


def encode_scalar(kind: int, value: Any) -> bytes:
    """One value of a built-in type, without its kind; None is a text, or bytes, that are not there."""
    fixed = _FIXED.get(kind)
    if fixed is not None:
        return fixed.pack(value)
    if kind == NULL:
        return b""
    if kind == LOCALIZED_TEXT:
        return b"\0" if value is None else b"\x02" + encode_string(value)
    if kind == EXTENSION_OBJECT:
        return value.encoded if isinstance(value, Composed) else b"\0\0\0"
    if isinstance(value, NodeName):
        return encode_node(value.space if isinstance(value.space, int) else 0, value.identifier)
    if isinstance(value, uuid.UUID):
        return value.bytes_le
    if isinstance(value, bytes):
        return _I32.pack(len(value)) + value
    return encode_string(value)
