"""Tables as bytes: formats by name, and the interface by which others join.

A table is a mapping of equally long columns by name. Numbers are buffers (anything with the buffer protocol)
of uint8, uint32, int64, uint64 or float64; texts are tuples of `str`. Two kinds of column mean more than
their numbers: `series` (uint32) is an index of `names`; `time`, `time_ns`, `start`, `end` and whatever ends
in `_time` (int64) are nanoseconds since 1970, below zero where there is none.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from devicemesh._core import _native

if TYPE_CHECKING:
    from typing_extensions import Buffer

    Column = Buffer | tuple[str, ...]
    _NativeColumn = tuple[str, int, Column | tuple[Buffer, tuple[str, ...]]]


class Encoder(Protocol):
    """Turns a table into bytes. Join with `register`."""

    def encode(self, columns: Mapping[str, Column], names: Sequence[str]) -> bytes:
        """Encode all rows. Raises ValueError or TypeError for a table that the format can't say."""


class _Type(enum.IntEnum):
    """The core's types of columns (rows.h, glue_rows.c)."""

    U8 = 0
    U32 = 1
    I64 = 2
    U64 = 3
    F64 = 4
    TIME = 5
    TEXT = 6
    SERIES = 7


_TYPES = {
    ("u", 1): _Type.U8,
    ("u", 4): _Type.U32,
    ("i", 8): _Type.I64,
    ("u", 8): _Type.U64,
    ("f", 8): _Type.F64,
}
_KINDS = {**dict.fromkeys("BHILQ", "u"), **dict.fromkeys("bhilq", "i"), **dict.fromkeys("fd", "f")}


def _is_time(name: str) -> bool:
    return name in {"time", "time_ns", "start", "end"} or name.endswith("_time")


def _native_column(name: str, values: Column, names: tuple[str, ...]) -> tuple[_NativeColumn, int]:
    """The column as the core takes it, and its rows."""
    if isinstance(values, tuple):
        return (name, _Type.TEXT, values), len(values)
    view = memoryview(values)
    found = _TYPES.get((_KINDS.get(view.format.lstrip("@="), ""), view.itemsize))
    if found is None or view.ndim != 1:
        raise TypeError(
            f"columns: {name} is of '{view.format}', not of uint8, uint32, int64, uint64 or float64"
        )
    if found is _Type.U32 and name == "series":
        return (name, _Type.SERIES, (view, names)), len(view)
    return (name, _Type.TIME if found is _Type.I64 and _is_time(name) else found, view), len(view)


def _native_table(columns: Mapping[str, Column], names: Sequence[str]) -> tuple[list[_NativeColumn], int]:
    """The table as the core takes it, and its rows; unequal columns are the core's to refuse."""
    known = names if isinstance(names, tuple) else tuple(names)
    found = [_native_column(name, values, known) for name, values in columns.items()]
    return [column for column, _ in found], found[0][1] if found else 0


@dataclass(frozen=True, slots=True)
class JsonObjects:
    """One JSON object a line (NDJSON), its members named as the columns.

    Floats are the shortest decimals that read back as the same; times are RFC 3339 in UTC; NaN, infinities
    and times that are none are null.
    """

    def encode(self, columns: Mapping[str, Column], names: Sequence[str]) -> bytes:
        return _native.encode_json_objects(*_native_table(columns, names))


@dataclass(frozen=True, slots=True)
class JsonArrays:
    """One JSON object, `{"columns":[name, ...],"rows":[[value, ...], ...]}`; values as in `JsonObjects`."""

    def encode(self, columns: Mapping[str, Column], names: Sequence[str]) -> bytes:
        return _native.encode_json_arrays(*_native_table(columns, names))


@dataclass(frozen=True, slots=True)
class Line:
    """InfluxDB line protocol: `measurement,series=name mean=0.5,count=10i 1767225600000000000`.

    Texts and series are tags, the column `stamp` is the time, all else are fields; what is not finite is left
    out. Names that the protocol can't say (empty, with control characters, ending in a backslash) raise
    ValueError.
    """

    measurement: str
    stamp: str = "start"

    def encode(self, columns: Mapping[str, Column], names: Sequence[str]) -> bytes:
        table, rows = _native_table(columns, names)
        for at, (name, kind, _) in enumerate(table):
            if name == self.stamp and kind == _Type.TIME:
                return _native.encode_line(table, rows, self.measurement, at)
        raise ValueError(f"columns: there is no column of times named {self.stamp}")


_encoders: dict[str, Encoder] = {"json": JsonObjects(), "json-arrays": JsonArrays(), "line": Line("window")}


def register(name: str, encoder: Encoder) -> None:
    """Make an encoder known by a name. Raises ValueError if the name is taken."""
    if _encoders.setdefault(name, encoder) is not encoder:
        raise ValueError(f"name: there is an encoder named {name} already")


def encoder(name: str) -> Encoder:
    """The encoder of that name. Raises ValueError, with the names there are."""
    try:
        return _encoders[name]
    except KeyError:
        raise ValueError(f"no encoder is named {name}; there are {', '.join(sorted(_encoders))}") from None


def encode(columns: Mapping[str, Column], names: Sequence[str], how: str | Encoder) -> bytes:
    """Encode a table by an encoder or by the name of one. `names[i]` is the name of series i."""
    return (encoder(how) if isinstance(how, str) else how).encode(columns, names)
