"""Telemetry as ThingsBoard takes it: values by key at one time, each with the type it has here. Pure.

An entry is what stands in the array of a device: `{"ts":1700000000000,"values":{"speed":1198.5}}`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from json.encoder import encode_basestring
from typing import Any, NamedTuple

from devicemesh.sink.entry import TooLargeError
from devicemesh.sink.told import Told, milliseconds, text

DECIMALS = 16
"""A number with more of them becomes a text at ThingsBoard, or ends the connection."""
NO_VALUE = "NoValue"
"""The quality of what was read well, and is nothing that JSON can say: NaN, an infinity."""
_LARGE = 1e16  # from here on a float is written with an exponent: a long, or a text there
_FRAME = 48  # bytes of an entry beside its values


class Entry(NamedTuple):
    """Ready to be sent."""

    values: int
    body: bytes


class Bounds(NamedTuple):
    """How much an entry may be."""

    bytes: int
    values: int


def written(value: Any) -> str:
    """A value as JSON that ThingsBoard's converter reads as one of the same type."""
    kind = type(value)
    if kind is float:
        found = repr(value)  # most are short, and done
        return found if len(found) <= DECIMALS + 1 and "e" not in found else _float(value)
    if kind is int:  # it has none larger than 64 bits: a text then, so that none of it is lost
        return str(value) if -(1 << 63) <= value < 1 << 63 else f'"{value}"'
    return encode_basestring(value) if kind is str else text(value)


@functools.lru_cache(20_000)
def _key(name: str) -> str:
    return encode_basestring(name) + ":"


def _float(value: float) -> str:
    if abs(value) >= _LARGE:
        return f"{value:.1f}"
    return repr(round(value, DECIMALS)) if abs(value) < 1 else repr(value)


def judged(all_told: Iterable[Told], doubted: set[str]) -> Iterator[Told]:
    """What is a value, and beside it each quality that is not good; Good again after one that was not.

    `doubted`: names whose quality was told as not good; those that are good again are taken out.
    """
    for told in all_told:
        good, name = told.quality.startswith("Good"), f"{told.name}/quality"
        if told.value is not None and not told.quality.startswith("Bad"):
            yield told
        if "/" in told.name:  # no reading
            continue
        if good and told.value is not None:
            if told.name in doubted:
                doubted.discard(told.name)
                yield Told(name, "Good", told.time_ms)
        else:
            doubted.add(told.name)
            yield Told(name, NO_VALUE if good else told.quality, told.time_ms)


def quick(payload: Mapping[str, Any], bounds: Bounds) -> list[Entry] | None:
    """As `entries` of what is usual: good readings alone, of other times each, that fit; else None."""
    found: list[Entry] = []
    if "windows" in payload:
        return None
    for row in payload["rows"]:
        values, time_ms = row["values"], milliseconds(row["time"])
        if "quality" in row or None in values.values() or len(values) > bounds.values:
            return None
        inside = ",".join([_key(name) + written(value) for name, value in values.items()])
        body = f'{{"ts":{time_ms},"values":{{{inside}}}}}'.encode("utf-8", "backslashreplace")
        if len(body) > bounds.bytes:
            return None
        found.append(Entry(len(values), body))
    return found


def entries(all_told: Iterable[Told], bounds: Bounds) -> list[Entry]:
    """Entries of what is told, in its order; a key comes once in each.

    Raises TooLargeError for a value that alone is more than an entry may be.
    """
    found: list[Entry] = []
    members: dict[str, str] = {}
    time_ms = size = 0
    for told in all_told:
        member = _key(told.name) + written(told.value)
        length = _length(member)
        if length + _FRAME > bounds.bytes:
            raise TooLargeError(f"{told.name}, {length} bytes, is more than ThingsBoard takes")
        full = size + length > bounds.bytes or len(members) >= bounds.values
        if members and (told.time_ms != time_ms or told.name in members or full):
            found.append(_entry(time_ms, members))
            members, size = {}, 0
        time_ms = told.time_ms
        size = (size or _FRAME) + length
        members[told.name] = member
    if members:
        found.append(_entry(time_ms, members))
    return found


def _length(member: str) -> int:
    return 1 + (len(member) if member.isascii() else len(member.encode("utf-8", "backslashreplace")))


def size(key: str, value: Any) -> int:
    """Bytes of a value in a message."""
    return _length(_key(key) + written(value))


def _entry(time_ms: int, members: Mapping[str, str]) -> Entry:
    body = f'{{"ts":{time_ms},"values":{{{",".join(members.values())}}}}}'
    return Entry(len(members), body.encode("utf-8", "backslashreplace"))


def packed(found: Sequence[Entry]) -> bytes:
    """Entries as one payload, a line each: what the link makes messages of."""
    return b"\n".join(b"%d %b" % entry for entry in found)


def unpacked(payload: bytes) -> list[Entry]:
    """The reverse of `packed`."""
    lines = (line.split(b" ", 1) for line in payload.split(b"\n")) if payload else ()
    return [Entry(int(count), body) for count, body in lines]


def telemetry(name: str | None, found: Sequence[Entry]) -> bytes:
    """A message of entries of one device, or of the gateway itself."""
    array = b"[" + b",".join(entry.body for entry in found) + b"]"
    return array if name is None else b"{" + quoted(name) + b":" + array + b"}"


def members(name: str | None, values: Mapping[str, Any]) -> bytes:
    """A message of attributes, of a device or of the gateway itself."""
    inside = ",".join(_key(key) + written(value) for key, value in values.items())
    body = f"{{{inside}}}".encode("utf-8", "backslashreplace")
    return body if name is None else b"{" + quoted(name) + b":" + body + b"}"


def quoted(name: str) -> bytes:
    """A string as JSON."""
    return encode_basestring(name).encode("utf-8", "backslashreplace")
