"""The protocol buffer of a Sparkplug B payload (proto2), as much of it as an Edge Node needs. Pure.

Field numbers: Sparkplug 3.0, chapter 6 (sparkplug_b.proto). A negative number is two's complement in an
unsigned field, and never zigzag.
"""

from __future__ import annotations

import enum
import functools
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_MASK64 = (1 << 64) - 1


class Type(enum.IntEnum):
    """Datatypes (section 6.4.16)."""

    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT8 = 5
    UINT16 = 6
    UINT32 = 7
    UINT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATETIME = 13
    TEXT = 14
    UUID = 15
    BYTES = 17


_BITS: dict[int, int] = {Type.INT8: 8, Type.INT16: 16, Type.INT32: 32, Type.INT64: 64}
_INTS = (Type.INT8, Type.INT16, Type.INT32, Type.UINT8, Type.UINT16, Type.UINT32)
_LONGS = (Type.INT64, Type.UINT64, Type.DATETIME)
_TEXTS = (Type.STRING, Type.TEXT, Type.UUID)
_METRIC, _PROPERTY = 10, 3  # the number of int_value in each; the other values follow it


class Metric(NamedTuple):
    """One value of one metric. At least one of `name` and `alias` is given; a value of None is null."""

    name: str | None
    alias: int | None
    type: int
    value: Any
    time_ms: int
    historical: bool = False
    properties: Mapping[str, tuple[Type, Any]] = {}
    unread: bool = False  # it came with something else than a value that is read here, and not as null


# ---- writing ----


def varint(number: int) -> bytes:
    """Base 128, least significant group first; negative numbers as 64 bits."""
    number &= _MASK64
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return varint(field << 3 | _VARINT) + varint(value)


def _piece(field: int, value: bytes) -> bytes:
    return varint(field << 3 | _BYTES) + varint(len(value)) + value


def _value(type_: int, value: Any, first: int) -> bytes:
    """A value in the field of its type; `first` is the number of int_value."""
    if type_ in _INTS:
        return _number(first, value & 0xFFFFFFFF)
    if type_ in _LONGS:
        return _number(first + 1, value)
    if type_ == Type.FLOAT:
        return varint(first + 2 << 3 | _FIXED32) + struct.pack("<f", value)
    if type_ == Type.DOUBLE:
        return varint(first + 3 << 3 | _FIXED64) + struct.pack("<d", value)
    if type_ == Type.BOOLEAN:
        return _number(first + 4, bool(value))
    if type_ in _TEXTS:
        return _piece(first + 5, value.encode("utf-8", "replace"))
    return _piece(first + 6, value)


def _property(type_: Type, value: Any) -> bytes:
    return _number(1, type_) + (_number(2, 1) if value is None else _value(type_, value, _PROPERTY))


@functools.lru_cache(4096)
def _properties(named: tuple[tuple[str, tuple[Type, Any]], ...]) -> bytes:
    """The properties of a metric, which are mostly those of a model, as a field of it."""
    keys = [_piece(1, key.encode()) for key, _ in named]
    values = [_piece(2, _property(*one)) for _, one in named]
    return _piece(9, b"".join(keys + values))


def encode_metric(metric: Metric) -> bytes:
    """A metric as a field of a payload."""
    parts = []
    if metric.name is not None:
        parts.append(_piece(1, metric.name.encode("utf-8", "replace")))
    if metric.alias is not None:
        parts.append(_number(2, metric.alias))
    parts.append(_number(3, metric.time_ms))
    parts.append(_number(4, metric.type))
    if metric.historical:
        parts.append(_number(5, 1))
    if metric.value is None:
        parts.append(_number(7, 1))
    if metric.properties:
        parts.append(_properties(tuple(metric.properties.items())))
    if metric.value is not None:
        parts.append(_value(metric.type, metric.value, _METRIC))
    return _piece(2, b"".join(parts))


def encode(metrics: Sequence[Metric], time_ms: int, seq: int | None = None) -> bytes:
    """A payload of these metrics; without `seq` it can be given one by `sequenced`."""
    body = _number(1, time_ms) + b"".join([encode_metric(one) for one in metrics])
    return body if seq is None else sequenced(body, seq)


def sequenced(payload: bytes, seq: int) -> bytes:
    """The payload with its sequence number: fields may come in any order."""
    return payload + _number(3, seq)


# ---- reading ----


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(number, where it ends)."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("the payload ends too early")
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & _MASK64, at
    raise ValueError("a number is too long")


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value): an int, or the bytes of what is no varint."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > len(data):
            raise ValueError("the payload ends too early")
        yield tag >> 3, data[at : at + size]
        at += size


def _text(value: Any) -> str:
    if not isinstance(value, bytes):
        raise ValueError("a text is none")
    return value.decode("utf-8")  # UnicodeDecodeError is a ValueError


def _unsigned(value: Any) -> int:
    if not isinstance(value, int):
        raise ValueError("a number is none")
    return value


def decode(payload: bytes) -> list[Metric]:
    """The metrics of a payload from outside. Raises ValueError for what is none.

    A type of 0 says that none was given. Data sets, templates and arrays are `unread`, and so is nothing
    where null is not said. What writers disagree on is read either way: UInt32 in int_value or long_value,
    small integers with or without their sign extended.
    """
    return [_metric(value) for number, value in _fields(payload) if number == 2]


def _metric(data: Any) -> Metric:
    if not isinstance(data, bytes):
        raise ValueError("a metric is none")
    name: str | None = None
    alias: int | None = None
    type_ = time_ms = 0
    null, raw = False, None
    for number, value in _fields(data):
        if number == 1:
            name = _text(value)
        elif number == 2:
            alias = _unsigned(value)
        elif number == 3:
            time_ms = _unsigned(value)
        elif number == 4:
            type_ = _unsigned(value)
        elif number == 7:
            null = bool(_unsigned(value))
        elif 10 <= number <= 16:
            raw = (number, value)
    value = None if null or raw is None else _read(type_, *raw)
    return Metric(name, alias, type_, value, time_ms, unread=value is None and not null)


def _read(type_: int, field: int, raw: Any) -> Any:
    """A value by the field that it came in, and its type."""
    if field in (10, 11):
        number = _unsigned(raw)
        bits = _BITS.get(type_)
        if bits is None and type_ == 0:
            bits = 32 if field == 10 else 64  # no type: as most are
        if bits is None:
            return number
        number &= (1 << bits) - 1
        return number - (1 << bits) if number >> bits - 1 else number
    if field == 14:
        return bool(_unsigned(raw))
    if not isinstance(raw, bytes):
        raise ValueError("a value is of another wire type")
    if field in (12, 13):
        form = "<f" if field == 12 else "<d"
        if len(raw) != struct.calcsize(form):
            raise ValueError("a value is of another wire type")
        return struct.unpack(form, raw)[0]
    return _text(raw) if field == 15 else bytes(raw) if type_ == Type.BYTES else None
