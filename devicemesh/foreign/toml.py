"""Where the parts of a TOML file stand: the parser of the standard library does not say it. Pure.

The text is known to be TOML: what is looked for is only where headers, keys and the tables of a list begin.
"""

from __future__ import annotations

import re

from devicemesh.foreign.tree import Loc
from devicemesh.table.reading import Cell

_HEADER = re.compile(r"(\[\[?)\s*([^\]]+?)\s*\]\]?")
_KEY = re.compile(
    r"((?:[A-Za-z0-9_-]+|\"[^\"\n]*\"|'[^'\n]*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|\"[^\"\n]*\"|'[^'\n]*'))*)\s*="
)
_STRING = re.compile(r'"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'', re.DOTALL)
_WORD = re.compile(r"[^\s,\]\[{}#=]+")
_PART = re.compile(r"[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'")


def places(text: str) -> dict[Loc, Cell]:
    """Path -> its place; of a plain value also how it was written."""
    return _Scan(text).run()


class _Scan:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line, self._line_start = 1, 0
        self._counted = 0
        self._found: dict[Loc, Cell] = {}
        self._lists: dict[Loc, int] = {}

    def run(self) -> dict[Loc, Cell]:
        table: Loc = ()
        while (sign := self._next()) is not None:
            if sign == "[":
                table = self._header()
            elif key := _KEY.match(self._text, self._at):
                self._entry(table, key)
            else:
                self._at += 1
        return self._found

    def _next(self) -> str | None:
        """The next sign that is no space and no comment."""
        while self._at < len(self._text):
            sign = self._text[self._at]
            if sign == "#":
                end = self._text.find("\n", self._at)
                self._at = len(self._text) if end < 0 else end
            elif sign.isspace():
                self._at += 1
            else:
                return sign
        return None

    def _mark(self, loc: Loc, end: int, text: str = "") -> None:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        column = self._at - self._text.rfind("\n", 0, self._at)
        width = end - self._at if "\n" not in self._text[self._at : end] else 1
        self._found.setdefault(loc, Cell(text, self._line, column, max(1, width)))

    def _header(self) -> Loc:
        found = _HEADER.match(self._text, self._at)
        if found is None:
            self._at += 1
            return ()
        names = [_bare(part) for part in _PART.findall(found[2])]
        table: Loc = ()
        for index, name in enumerate(names):
            table = (*table, name)
            if found[1] == "[[" and index == len(names) - 1:
                self._lists[table] = self._lists.get(table, -1) + 1
                self._mark(table, found.end())
            if table in self._lists:
                table = (*table, self._lists[table])
        self._mark(table, found.end())
        self._at = found.end()
        return table

    def _entry(self, table: Loc, key: re.Match[str]) -> None:
        loc = (*table, *(_bare(part) for part in _PART.findall(key[1])))
        start = self._at
        self._at = key.end()
        self._next()
        if self._text[self._at : self._at + 1] in "[{":
            value_at, self._at = self._at, start
            self._mark(loc, key.end(1))
            self._at = value_at
        self._value(loc)

    def _value(self, loc: Loc) -> None:
        sign = self._next()
        if sign == "[":
            self._list(loc)
        elif sign == "{":
            self._table(loc)
        elif sign is not None:
            found = _STRING.match(self._text, self._at) or _WORD.match(self._text, self._at)
            end = found.end() if found else self._at + 1
            text = self._text[self._at : end]
            self._mark(loc, end, "" if text[:1] in "\"'" else text)
            self._at = end

    def _list(self, loc: Loc) -> None:
        self._at += 1
        index = 0
        while (sign := self._next()) is not None and sign != "]":
            if sign == ",":
                self._at += 1
                index += 1
                continue
            self._value((*loc, index))
        self._at += 1

    def _table(self, loc: Loc) -> None:
        self._mark(loc, self._at + 1)
        self._at += 1
        while (sign := self._next()) is not None and sign != "}":
            key = _KEY.match(self._text, self._at)
            if key is None:
                self._at += 1
                continue
            self._entry(loc, key)
        self._at += 1


def _bare(part: str) -> str:
    return part[1:-1] if part[:1] in "\"'" else part
