"""Decoded payloads, as a codec or a network server hands them over: what a pointer points at there. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from devicemesh.spec.values import INTEGER_RANGES, ValueType

MISSING: Any = object()
MOST_DEEP = 32
"""Levels of a pointer."""


class DocumentError(ValueError):
    """A value that is not what was declared; says why."""


def tokens(pointer: str) -> tuple[str, ...]:
    """The steps of a JSON pointer (RFC 6901, 4). Raises ValueError."""
    if not pointer.startswith("/"):
        raise ValueError(f"{pointer!r} is no JSON pointer: it begins with `/`, as in /temperature")
    found = tuple(one.replace("~1", "/").replace("~0", "~") for one in pointer.split("/")[1:])
    if len(found) > MOST_DEEP:
        raise ValueError(f"a pointer has at most {MOST_DEEP} steps")
    return found


def at(document: Any, steps: Sequence[str]) -> Any:
    """What is there, or MISSING."""
    place = document
    for token in steps:
        if isinstance(place, dict):
            place = place.get(token, MISSING)
        elif isinstance(place, list) and token.isascii() and token.isdigit() and len(token) < 10:
            place = place[int(token)] if int(token) < len(place) else MISSING
        else:
            return MISSING
    return place


def holding(steps: Sequence[str], value: Any, beside: Mapping[str, Any]) -> dict[str, Any]:
    """An object with the value at these steps, and what else belongs into it."""
    made: dict[str, Any] = dict(beside)
    place = made
    for token in steps[:-1]:
        below = place.get(token)
        place[token] = place = dict(below) if isinstance(below, Mapping) else {}
    place[steps[-1]] = value
    return made


def offers(document: Any) -> str:
    """What is there instead, for people."""
    if not isinstance(document, Mapping):
        return brief(document)
    names = ", ".join(f"/{str(name)[:30]}" for name in list(document)[:8])
    return f"only {names}" if names else "it is empty"


def brief(value: Any) -> str:
    """A value as people see it, at most 40 characters."""
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return f"an object of {len(value)}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a number of {value.bit_length()} bits"
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."


def typed(value: Any, type_: ValueType, scale: float, add: float) -> Any:
    """A value as the property has it. Raises DocumentError."""
    if type_ == ValueType.JSON and value is not None:
        return value
    if type_.is_number:
        return _number(value, type_, scale, add)
    if type_ == ValueType.BOOL and (isinstance(value, bool) or value in (0, 1)):
        return bool(value)
    if type_ == ValueType.STRING and isinstance(value, str):
        return value
    raise DocumentError(f"{brief(value)} is no {type_}")


def _number(value: Any, type_: ValueType, scale: float, add: float) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DocumentError(f"{brief(value)} is no {type_}")
    try:
        number = value if scale == 1.0 and add == 0.0 else value * scale + add
        whole = not type_.is_integer or number == int(number)
        if type_.is_float:
            number = float(number)
    except (OverflowError, ValueError):  # an integer beyond all floats, infinity, no number
        number, whole = math.inf, False
    if not type_.is_integer:
        if not math.isfinite(number):
            raise DocumentError(f"{brief(value)} is no number")
        return number
    low, high = INTEGER_RANGES[type_]
    if not whole or not low <= number <= high:
        raise DocumentError(f"{brief(value)} is no {type_}: {low} to {high}")
    return int(number)
