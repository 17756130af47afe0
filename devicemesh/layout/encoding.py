"""Values -> bytes, for writes: the inverse of decoding."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import replace
from typing import Any

from devicemesh.layout.decoding import Layout
from devicemesh.layout.field import TEXTS, Field, problem, swap_pairs
from devicemesh.spec.values import INTEGER_RANGES, Scalar, ValueType

_STRUCT = {ValueType.FLOAT16: ">e", ValueType.FLOAT32: ">f", ValueType.FLOAT64: ">d"}


def encode(field: Field, value: Scalar) -> bytes:
    """The inverse of decoding, for writes: scale undone and rounded, range checked.

    Raises ValueError where the value does not fit, and for a bit field, which takes a mask write.
    """
    if wrong := problem(field):
        raise ValueError(wrong)
    if field.type in TEXTS:
        return _encode_text(field, value)
    if field.bit is not None:
        raise ValueError("a bit field shares its word with others: it takes a mask write")
    if isinstance(value, str) and field.enum is not None:
        codes = [code for code, word in field.enum.items() if word == value]
        if not codes:
            raise ValueError(f"{value!r} is none of {', '.join(field.enum.values())}")
        value = codes[0]
    if not isinstance(value, bool | int | float):
        raise ValueError(f"{value!r} is not a number")
    size = field.size or 0
    if field.type.is_float:
        return _ordered(field, _pack_float(field, (float(value) - field.add) / field.scale))
    raw = _raw_integer(field, value)
    low, high = (0, 1) if field.type == ValueType.BOOL else INTEGER_RANGES[field.type]
    if not low <= raw <= high:
        raise ValueError(f"{value!r} does not fit {field.type}: raw {raw} is not in {low} to {high}")
    if field.null is not None and (raw - field.null) % (1 << 8 * size) == 0:
        raise ValueError(f"{value!r} can't be told apart from no value: raw {raw} is the code for that")
    return _ordered(field, raw.to_bytes(size, "big", signed=low < 0))


def nearest(field: Field, value: Scalar) -> Any:
    """What decoding gives once `value` was encoded: scaled, rounded, as wide as the type on the wire.

    Raises ValueError where it does not fit.
    """
    alone = replace(field, offset=0, bit=None, bits=None, null=None)
    return Layout([alone], [0]).decode(encode(alone, value), 0)[0].value[0]


def _raw_integer(field: Field, value: float) -> int:
    if field.scaled:
        unscaled = (value - field.add) / field.scale
        if not math.isfinite(unscaled):
            raise ValueError(f"{value!r} is not a finite number")
        return round(unscaled)
    if not math.isfinite(value) or value != int(value):
        raise ValueError(f"{value!r} is not an integer")
    return int(value)


def _pack_float(field: Field, raw: float) -> bytes:
    if not math.isfinite(raw):
        raise ValueError(f"{raw!r} is not a finite number")
    try:
        return struct.pack(_STRUCT[field.type], raw)
    except OverflowError as problem:
        raise ValueError(f"{raw!r} does not fit {field.type}") from problem


def _encode_text(field: Field, value: Scalar) -> bytes:
    if field.type == ValueType.JSON:
        data = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    elif field.type == ValueType.STRING and isinstance(value, str):
        data = value.encode(field.encoding)
    elif field.type == ValueType.BYTES and isinstance(value, bytes):
        data = value
    else:
        raise ValueError(f"{value!r} is not a {field.type}")
    if field.length is not None:
        if len(data) > field.length:
            raise ValueError(f"{len(data)} bytes do not fit in {field.length}")
        if field.type == ValueType.BYTES and len(data) < field.length:
            raise ValueError(f"{len(data)} bytes where {field.length} are declared")
        data = data.ljust(field.length, b"\0")
    return swap_pairs(data) if field.byte_order == "little" else data


def _ordered(field: Field, big: bytes) -> bytes:
    """Lay a big-endian value out in the field's order."""
    if len(big) == 1:
        return big
    if field.word_order == "little":
        big = b"".join(big[at : at + 2] for at in range(len(big) - 2, -1, -2))
    return swap_pairs(big) if field.byte_order == "little" else big
