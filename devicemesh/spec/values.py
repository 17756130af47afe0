"""Types, ranges and durations of values."""

from __future__ import annotations

import enum
import functools
import json
import math
import re
import sys
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BeforeValidator

Scalar: TypeAlias = bool | int | float | str | bytes | list[Any] | dict[str, Any]


class ValueType(enum.StrEnum):
    """The types a property can have."""

    BOOL = "bool"
    INT8 = "int8"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    UINT8 = "uint8"
    UINT16 = "uint16"
    UINT32 = "uint32"
    UINT64 = "uint64"
    FLOAT16 = "float16"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    STRING = "string"
    BYTES = "bytes"
    JSON = "json"

    @property
    def is_integer(self) -> bool:
        return self in INTEGER_RANGES

    @property
    def is_float(self) -> bool:
        return self in (ValueType.FLOAT16, ValueType.FLOAT32, ValueType.FLOAT64)

    @property
    def is_number(self) -> bool:
        return self.is_integer or self.is_float

    @property
    def size(self) -> int | None:
        """Bytes on the wire; None where the address has to say it (string, bytes, json)."""
        return SIZES.get(self)


INTEGER_RANGES: dict[ValueType, tuple[int, int]] = {
    **{ValueType(f"int{n}"): (-(1 << n - 1), (1 << n - 1) - 1) for n in (8, 16, 32, 64)},
    **{ValueType(f"uint{n}"): (0, (1 << n) - 1) for n in (8, 16, 32, 64)},
}
SIZES: dict[ValueType, int] = {
    ValueType.BOOL: 1,
    **{ValueType(f"{s}int{n}"): n // 8 for s in ("", "u") for n in (8, 16, 32, 64)},
    **{ValueType(f"float{n}"): n // 8 for n in (16, 32, 64)},
}
_FLOAT_MAX = {
    ValueType.FLOAT16: 65504.0,
    ValueType.FLOAT32: 3.4028234663852886e38,
    ValueType.FLOAT64: sys.float_info.max,
}
_KINDS = {ValueType.BOOL: bool, ValueType.STRING: str, ValueType.BYTES: bytes}


def mismatch(value: Any, type_: ValueType) -> str | None:
    """Say why `value` can't be a `type_`, or None when it can. Nothing is coerced: `"1"` is no number."""
    if type_.is_integer:
        low, high = INTEGER_RANGES[type_]
        if isinstance(value, bool) or not isinstance(value, int):
            return f"{value!r} is not an integer"
        return None if low <= value <= high else f"{value} does not fit {type_}: {low} to {high}"
    if type_.is_float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{value!r} is not a number"
        if isinstance(value, float) and not math.isfinite(value):
            return f"{value} is not a finite number"
        limit = _FLOAT_MAX[type_]  # compared, not converted: an integer may have a thousand digits
        return None if abs(value) <= limit else f"{value} does not fit {type_}: at most {limit:g}"
    kind = _KINDS.get(type_)
    if kind is not None and not isinstance(value, kind):
        return f"{value!r} is not a {type_}"
    return _unspeakable(value) if type_ in (ValueType.STRING, ValueType.JSON) else None


def _unspeakable(value: Any) -> str | None:
    """Say why `value` can't be kept and sent: JSON in UTF-8 has no NaN and no half of a surrogate pair."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        return f"{value!r} is not Unicode text"
    except (TypeError, ValueError):
        return f"{value!r} is not JSON: it has a number that is not finite, or something else of no JSON type"
    return None


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d)")
_UNIT_NS = {"us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}


@functools.lru_cache(256)
def duration_ns(text: str) -> int:
    """Read `100ms`, `1m30s` or `2h` as nanoseconds. Raises ValueError."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(
            f"{text!r} is not a duration: write a number and us, ms, s, m, h or d, as in 100ms or 1m30s"
        )
    return sum(round(float(number) * _UNIT_NS[unit]) for number, unit in parts)


def _with_unit(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"{value} has no unit: did you mean {value}s")
    return value


def _duration(text: str) -> str:
    duration_ns(text)
    return text


def _positive(text: str) -> str:
    if not 10**6 <= duration_ns(text) <= 366 * _UNIT_NS["d"]:
        raise ValueError(f"{text!r} is out of range: 1ms to 366d")
    return text


Duration: TypeAlias = Annotated[str, BeforeValidator(_with_unit), AfterValidator(_duration)]
"""A span of time as people write it, 0s allowed."""
Interval: TypeAlias = Annotated[str, BeforeValidator(_with_unit), AfterValidator(_positive)]
"""A span of time from 1ms to 366d."""
