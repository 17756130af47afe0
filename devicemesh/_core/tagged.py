"""Python objects as rows of the core: a tag, a value, and the number that alarms compare."""

from __future__ import annotations

import enum
import json
import math
from typing import Any


class Tag(enum.IntEnum):
    """What a value is (value.h)."""

    NULL = 0
    FLOAT = 1
    FLOAT32 = 2
    INTEGER = 3
    BOOLEAN = 4
    STRING = 5
    BYTES = 6
    JSON = 7


Tagged = tuple[int, Any, float]
NO_VALUE: Tagged = (Tag.NULL, None, math.nan)


def tagged(value: Any) -> Tagged | None:
    """A value as the core takes it, or None where JSON can't say it."""
    if isinstance(value, bool):
        return Tag.BOOLEAN, int(value), float(value)
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return Tag.FLOAT, value, value
    if isinstance(value, str):
        return Tag.STRING, value.encode(errors="replace"), math.nan
    if isinstance(value, bytes | bytearray | memoryview):
        return Tag.BYTES, bytes(value), math.nan
    return NO_VALUE if value is None else _structure(value)


def _integer(value: int) -> Tagged | None:
    if -(1 << 63) <= value < 1 << 63:
        return Tag.INTEGER, value, float(value)
    try:
        return Tag.JSON, str(value).encode(), float(value)
    except (OverflowError, ValueError):  # beyond float64, or beyond the digits that Python prints
        return None


def _structure(value: Any) -> Tagged | None:
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        try:
            text = json.dumps(finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        except (ValueError, TypeError, RecursionError):
            return None
    return Tag.JSON, text.encode(errors="replace"), math.nan


def finite(value: Any) -> Any:
    """The structure with null for NaN and infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    return [finite(each) for each in value] if isinstance(value, list | tuple) else value
