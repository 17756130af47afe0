"""Bytes whose type nobody knows yet: every plausible reading."""

from __future__ import annotations

import math

from devicemesh.layout import Field, Layout, Order
from devicemesh.spec.values import Scalar, ValueType

_LETTERS: tuple[tuple[str, Order, Order], ...] = (
    ("big", "big", "big"),
    ("word-swapped", "big", "little"),
    ("byte-swapped", "little", "big"),
    ("little", "little", "little"),
)


def interpretations(record: bytes) -> list[tuple[str, Scalar]]:
    """Every plausible reading of the first bytes of a record, for `devicemesh read --as all`.

    Labels are the type and, where it has one, the order: `float32 word-swapped` is CDAB. Floats that are
    not finite are left out.
    """
    found: list[tuple[str, Scalar]] = []
    for type_, size in ((t, t.size) for t in ValueType if t.is_number and t.size):
        if size > len(record):
            continue
        orders = _LETTERS[:1] if size == 1 else (_LETTERS[0], _LETTERS[3]) if size == 2 else _LETTERS
        for label, byte_order, word_order in orders:
            layout = Layout([Field(0, type_, byte_order, word_order)], [0])
            value = layout.decode(record, 0)[0].value[0]
            if math.isfinite(value):
                shown = value if type_.is_float else int(value)
                found.append((f"{type_} {label}" if size > 1 else str(type_), shown))
    text = record.partition(b"\0")[0]
    if text and text.isascii() and text.decode().isprintable():
        found.append(("string", text.decode()))
    return found
