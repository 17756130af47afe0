"""The readable twin of the C core: decoding."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from devicemesh.layout import Field

UNDECODABLE, BAD = 0x85, 0x80


def decode(fields: Sequence[Field], data: bytes) -> list[tuple[float | int, int]]:
    """(value, quality) of each number, bool or enum code in a record."""
    return [_decode(each, data) for each in fields]


def _decode(one: Field, data: bytes) -> tuple[float | int, int]:
    size = one.size or 0
    piece = data[one.offset : one.offset + size]
    if len(piece) < size:
        return math.nan, UNDECODABLE
    words = [piece[at : at + 2] for at in range(0, size, 2)]
    if one.word_order == "little":
        words.reverse()
    if one.byte_order == "little":
        words = [word[::-1] for word in words]
    big = b"".join(words)
    value: float
    if one.null is not None and _is_null(one, int.from_bytes(big, "big")):
        return math.nan, BAD
    if one.type.is_float:
        (value,) = struct.unpack({2: ">e", 4: ">f", 8: ">d"}[size], big)
    else:
        value = _integer(one, int.from_bytes(big, "big"), size * 8)
    return (float(value) * one.scale + one.add if one.scaled else value), 0


def _is_null(one: Field, raw: int) -> bool:
    bits = one.width or 8 * (one.size or 0)
    return (raw >> (one.bit or 0)) % (1 << bits) == (one.null or 0) % (1 << bits)


def _integer(one: Field, raw: int, bits: int) -> int:
    if one.width:
        bits = one.width
        raw = raw >> (one.bit or 0) & (1 << bits) - 1
    if one.type == "bool":
        return int(raw != 0)
    signed = one.type.startswith("int") and one.width != 1
    return raw - (1 << bits) if signed and raw >> bits - 1 else raw
