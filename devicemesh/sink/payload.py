"""JSON out and in: what leaves is strict JSON, and what comes is not trusted. Pure."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 32
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def dumps(body: Mapping[str, Any]) -> bytes:
    """Write compact UTF-8 JSON. NaN and infinities become null, bytes base64, what else is odd its text."""
    try:
        text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_other)
    except ValueError:
        text = json.dumps(_finite(body), ensure_ascii=False, separators=(",", ":"), default=_other)
    return text.encode("utf-8", "backslashreplace")  # a lone surrogate is no UTF-8


def _other(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    return str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


def loads(payload: bytes) -> Any:
    """Read JSON from outside. Raises ValueError, in words, for all that is no plain JSON.

    Refused are NaN and infinities (1e999 too), duplicate keys, more than 32 levels, and bytes that are no
    UTF-8: every reader must see the same value.
    """
    if payload.count(b"[") + payload.count(b"{") > MAX_DEPTH:
        _check_depth(payload)
    try:
        return json.loads(
            payload.decode("utf-8"),
            parse_constant=_constant,
            parse_float=_float,
            object_pairs_hook=_unique,
        )
    except UnicodeDecodeError as error:
        raise ValueError("no UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error}") from error


def _check_depth(payload: bytes) -> None:
    depth = 0
    for token in _TOKENS.finditer(payload):
        first = token[0][0:1]
        depth += (first in b"[{") - (first in b"]}")
        if depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} levels deep")


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is out of range")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice")
    return found
