"""Spans of time in others' words, as we write them: `1s`, `250ms`. Pure."""

from __future__ import annotations

import re

from devicemesh.foreign.tree import Branch

_GO = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4, "h": 3.6e6}
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ns|us|µs|ms|s|m|h)")


def every(milliseconds: float) -> str:
    """An interval; less than a millisecond is one."""
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:.12g}s"
    return f"{max(milliseconds, 1):.12g}ms"


def of_go(branch: Branch) -> str:
    """What Go calls a duration, as 1m30s; a bare number is seconds."""
    text = branch.raw.strip()
    parts = _PART.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        milliseconds = sum(float(number) * _GO[unit] for number, unit in parts)
    elif isinstance(branch.value, int | float) and not isinstance(branch.value, bool):
        milliseconds = branch.as_number() * 1000
    else:
        raise branch.problem(f"{text[:40]!r} is not a duration", "write it like 10s or 500ms")
    if milliseconds <= 0:
        raise branch.problem(f"{text[:40]!r} is no time at all")
    return every(milliseconds)
