"""JSON that strangers send, read without belief in any of it. Pure.

Whatever is not as it should be is a ValueError that says why in a few words.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from typing import Any


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def parsed(body: bytes | str) -> dict[str, Any]:
    """A JSON object. Its depth is bounded by the decoder, its numbers are finite or integers of any size."""
    try:
        found = _DECODER.decode(body if isinstance(body, str) else body.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON: {str(error)[:80]}") from error
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return found


def number(value: Any) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{shown(value)} is no number")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise ValueError(f"{shown(value)} is no number")
    return found


def integer(value: Any, low: int, high: int, what: str) -> int:
    """An integer of this range; `what` names it."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"its {what} {shown(value)} is no integer of {low} to {high}")
    return value


def words(value: Any, what: str, most: int = 200) -> str:
    """A text of bounded length; `what` names it."""
    if not isinstance(value, str) or len(value) > most:
        raise ValueError(f"its {what} {shown(value)} is no text of at most {most} characters")
    return value


def part(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object in an object; one that is left out is empty."""
    found = body.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ValueError(f"its {name} is no object")
    return found


def objects(body: Mapping[str, Any], name: str, most: int) -> list[dict[str, Any]]:
    """A list of objects in an object; one that is left out is empty."""
    found = body.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or len(found) > most or not all(isinstance(one, dict) for one in found):
        raise ValueError(f"its {name} is no list of at most {most} objects")
    return found


def unpadded(text: Any) -> bytes:
    """base64 of either alphabet, padded or not: gateways write all of them."""
    if not isinstance(text, str) or len(text) > 400:
        raise ValueError("its data is no base64 of at most 255 bytes")
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError as error:
        raise ValueError("its data is no base64") from error


def unhexed(text: Any, what: str, most: int = 255) -> bytes:
    """Bytes in hexadecimal."""
    try:
        found = bytes.fromhex(words(text, what, 2 * most))
    except ValueError as error:
        raise ValueError(f"its {what} is no hexadecimal of at most {most} bytes") from error
    return found


def shown(value: Any) -> str:
    """A value in a message: never long."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 1 << 64:
        return "a huge number"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
