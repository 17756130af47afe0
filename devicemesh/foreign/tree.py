"""A value in somebody's file that knows where it stands, and what becomes of a file: mistakes and notes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from devicemesh.spec.places import Problem
from devicemesh.table.reading import Cell

T = TypeVar("T")
Loc = tuple[str | int, ...]
_MISSING: Any = object()
_BOOL = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,3})?")
_SHOWN = 60
_LONGEST = 400
"""Signs of a number."""


class WrongError(ValueError):
    """Something that can't be read as it is meant."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


@dataclass(slots=True)
class Said:
    """What is wrong, and what is told: a note is told once, with its first place."""

    problems: list[Problem] = field(default_factory=list)
    notes: dict[str, dict[str, None]] = field(default_factory=dict)
    """Note -> the places (file:line) where it holds, in their order."""

    def lines(self) -> list[str]:
        """The notes as they are shown."""
        return [
            f"{next(iter(places))}: {note}{f' (and {len(places) - 1} more)' if len(places) > 1 else ''}"
            for note, places in self.notes.items()
        ]

    def attempt(self, work: Callable[..., T], *arguments: Any) -> T | None:
        """What `work` gives; None where it meets a mistake, which is kept."""
        try:
            return work(*arguments)
        except WrongError as error:
            self.problems.append(error.problem)
            return None


@dataclass(frozen=True, slots=True)
class Source:
    """A file: what it holds, and where each part of it stands."""

    path: str
    places: Mapping[Loc, Cell]
    said: Said


@dataclass(frozen=True, slots=True)
class Branch:
    """A part of a file: a map, a list or a plain value."""

    source: Source
    loc: Loc
    value: Any

    @property
    def cell(self) -> Cell:
        """Where it stands, or what it lies in."""
        places, loc = self.source.places, self.loc
        while loc and loc not in places:
            loc = loc[:-1]
        return places.get(loc) or Cell("", 1, 1, 1)

    @property
    def place(self) -> str:
        return f"{self.source.path}:{self.cell.line}"

    @property
    def raw(self) -> str:
        """A plain value as it was written: `10.10` is another text than `10.1`."""
        cell = self.source.places.get(self.loc)
        return cell.text if cell is not None and cell.text else _text(self.value)

    def problem(self, message: str, help_: str = "", code: str = "wrong-value") -> WrongError:
        """A mistake here, to be raised."""
        return WrongError(self.cell.problem(self.source.path, code, message, help_))

    def tell(self, note: str) -> None:
        """Say what is not as it was; the same words are shown once."""
        self.source.said.notes.setdefault(note, {})[self.place] = None

    def tell_left(self, *keys: str, why: str = "") -> None:
        """Say which of these keys, if they are given, are left out."""
        given = [
            one for key in keys if (one := self.get(key)) is not None and one.value not in ("", [], {}, False)
        ]
        if given:
            names = ", ".join(f"`{one.loc[-1]}`" for one in given)
            verb = "is" if len(given) == 1 else "are"
            given[0].tell(f"{names} {verb} left out" + (f": {why}" if why else ""))

    def get(self, *names: str) -> Branch | None:
        """The first of these keys that is given, and not empty."""
        if isinstance(self.value, dict):
            for name in names:
                if self.value.get(name) is not None:
                    return Branch(self.source, (*self.loc, name), self.value[name])
        return None

    def at(self, *names: str) -> Branch:
        """The same; a mistake where there is none."""
        found = self.get(*names)
        if found is None:
            raise self.problem(f"`{names[0]}` is missing", code="missing-field")
        return found

    def here(self, *names: str) -> Branch:
        """The same, or the whole where there is none: a place for what is said of it."""
        return self.get(*names) or self

    def map(self, *names: str) -> Branch:
        """A map below; an empty one where there is none."""
        found = self.get(*names)
        if found is None:
            return Branch(self.source, (*self.loc, names[0]), {})
        return found.as_map()

    def as_map(self) -> Branch:
        if not isinstance(self.value, dict):
            raise self.problem(f"{self._name()} must be a map", code="wrong-type")
        return self

    def items(self, *names: str) -> Iterator[Branch]:
        """The maps of a list below."""
        found = self.get(*names)
        if found is None:
            return
        if not isinstance(found.value, list):
            raise found.problem(f"{found._name()} must be a list", code="wrong-type")
        for index, value in enumerate(found.value):
            yield Branch(self.source, (*found.loc, index), value)

    def pairs(self) -> Iterator[tuple[str, Branch]]:
        """What a map holds."""
        for key, value in self.as_map().value.items():
            yield str(key), Branch(self.source, (*self.loc, key), value)

    def text(self, *names: str, default: Any = _MISSING) -> Any:
        """A text below, or a number as it was written."""
        found = self._plain(names, default)
        return found.raw if isinstance(found, Branch) else found

    def number(self, *names: str, default: Any = _MISSING) -> Any:
        """A number below, be it written as text."""
        found = self._plain(names, default)
        return found.as_number() if isinstance(found, Branch) else found

    def integer(self, *names: str, default: Any = _MISSING) -> Any:
        found = self._plain(names, default)
        return found.as_integer() if isinstance(found, Branch) else found

    def boolean(self, *names: str, default: Any = _MISSING) -> Any:
        found = self._plain(names, default)
        if not isinstance(found, Branch):
            return found
        word = _BOOL.get(found.raw.casefold())
        if word is None:
            raise found.problem(f"{found._name()} must be true or false, not {found._shown()}")
        return word

    def word(self, words: Mapping[str, T], *names: str, default: Any = _MISSING, what: str = "") -> T | Any:
        """What a word below stands for, in any case."""
        found = self._plain(names, default)
        if not isinstance(found, Branch):
            return found
        folded = {key.casefold(): value for key, value in words.items()}
        if found.raw.casefold() not in folded:
            known = ", ".join(words)
            raise found.problem(
                f"{found._shown()} is not {what or 'known'}", f"known: {known}", "unknown-word"
            )
        return folded[found.raw.casefold()]

    def as_number(self) -> int | float:
        value = self.value
        if isinstance(value, str) and len(value) < _LONGEST and _NUMBER.fullmatch(value.strip()):
            value = float(value) if any(c in value for c in ".eE") else int(value)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or abs(value) > 1e300
            or math.isnan(value)
        ):
            raise self.problem(f"{self._name()} must be a number, not {self._shown()}", code="wrong-type")
        return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value

    def as_integer(self) -> int:
        value = self.value
        if isinstance(value, str) and re.fullmatch(r"0[xX][0-9a-fA-F]{1,16}", value):
            return int(value, 16)
        number = self.as_number()
        if not isinstance(number, int) or abs(number) >= 1 << 64:
            raise self.problem(f"{self._name()} must be an integer, not {self._shown()}", code="wrong-type")
        return number

    def _plain(self, names: tuple[str, ...], default: Any) -> Any:
        found = self.get(*names) if default is not _MISSING else self.at(*names)
        if found is None:
            return default
        if isinstance(found.value, dict | list):
            raise found.problem(f"{found._name()} must be a plain value", code="wrong-type")
        return found

    def _name(self) -> str:
        return f"`{self.loc[-1]}`" if self.loc else "the file"

    def _shown(self) -> str:
        text = self.raw
        return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
