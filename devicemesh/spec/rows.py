"""A table of signals as somebody else wrote it down: what `devicemesh import` leaves of it to a mapper.

Optional for a mapper. Without it, the column `address` is read by `parse_address`, and a column named like
a field of the address is that field.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from devicemesh.spec.values import ValueType


@dataclass(frozen=True, slots=True)
class Column:
    """The headers that a column has in people's tables: small letters and digits only (`registertype`)."""

    names: tuple[str, ...]
    weak: tuple[str, ...] = ()
    """Headers that mean it only where they are not needed for another column."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row, of which the framework has understood name, type, unit, access, limits and description."""

    cells: Mapping[str, str]  # of `address` and the mapper's own columns; none is empty
    type: ValueType | None  # None where the table does not say it
    sized: bool = True  # False: a bare `int`, which is of 16 bits here and of 32 there
    characters: int | None = None  # of a string(16)


@dataclass(slots=True)
class Placed:
    """What a mapper makes of a row."""

    fields: dict[str, Any] = field(default_factory=dict)  # of the address, by the names of its YAML
    type: ValueType | None = None  # of the property
    writable: bool | None = None  # None: the row's place does not say it
    mistakes: list[tuple[str, str]] = field(default_factory=list)  # (column, what is wrong with its cell)
    assumed: list[str] = field(default_factory=list)  # sentences; what is said of several rows is shown once


class Tabular(ABC):
    """A mapper that knows how people of its protocol write down where a signal lives."""

    @property
    @abstractmethod
    def columns(self) -> Mapping[str, Column]:
        """Its own columns, and more headers for `address`; a field of the address among them is `place`'s."""

    @abstractmethod
    def place(self, rows: Sequence[Row]) -> Sequence[Placed]:
        """Read the rows of one table, together: one `Placed` each. Pure; raises for nothing in a cell."""
