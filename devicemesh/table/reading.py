"""CSV of any origin to cells with places: encodings, delimiters, lines above the header."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from devicemesh.spec.places import Problem

MAX_BYTES = 4 << 20
HEADER_LINES = 30
"""Lines among which the header is looked for: exports begin with titles, dates and notes."""
DELIMITERS = ",;\t|"
_BREAKS = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_NUL = "\0"


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell, trimmed, and where it stands: line and column count from 1."""

    text: str
    line: int
    column: int
    width: int

    def problem(self, path: str, code: str, message: str, help_: str = "") -> Problem:
        return Problem(path, self.line, self.column, self.width, code, message, help_)


@dataclass(frozen=True, slots=True)
class Table:
    """The header and what stands below it; rows may be shorter or longer than the header."""

    path: str
    delimiter: str
    header: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]


class TableError(ValueError):
    """It is no table."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def decode(path: str, data: bytes) -> tuple[str, str | None]:
    """The text, its line ends made one, and what had to be assumed to read it. Raises `TableError`."""
    wrong = (
        ("wrong-table", "is a workbook, not text", "save it as CSV")
        if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0"))
        else ("too-large", f"is larger than {MAX_BYTES >> 20} MB", "")
        if len(data) > MAX_BYTES
        else None
    )
    if wrong:
        raise TableError(Problem(path, 1, 1, 1, *wrong))
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _lines(data.decode("utf-16", "replace")), None
    try:
        return _lines(data.decode("utf-8-sig")), None
    except UnicodeDecodeError:
        return _lines(data.decode("cp1252", "replace")), "it is not UTF-8: read as Windows-1252"


def _lines(text: str) -> str:
    return _BREAKS.sub("\n", text.replace(_NUL, ""))


Look = Callable[[Sequence[str]], tuple[int, str]]
"""How many headers of a row are known, and what it lacks to be a header."""


def find(path: str, text: str, look: Look) -> Table:
    """The table of a text, below the row of which most headers are known. Raises `TableError`.

    The delimiter is the one with which they are.
    """
    best: tuple[tuple[bool, int], str, int, list[list[Cell]]] | None = None
    broken: TableError | None = None
    for delimiter in DELIMITERS:
        if delimiter not in text:
            continue
        try:
            rows = list(_rows(path, text, delimiter))
        except TableError as error:
            broken = broken or error
            continue
        for index, row in enumerate(rows[:HEADER_LINES]):
            count, lacks = look([cell.text for cell in row])
            rank = (not lacks, count)
            if count > 1 and (best is None or rank > best[0]):
                best = (rank, delimiter, index, rows)
    if best is None:
        raise broken or TableError(
            Problem(path, 1, 1, 1, "wrong-table", "no line names the columns", "as in name,address,type,unit")
        )
    (is_whole, _), delimiter, index, rows = best
    if not is_whole:
        _, lacks = look([cell.text for cell in rows[index]])
        raise TableError(rows[index][0].problem(path, "wrong-table", f"no column {lacks}"))
    return Table(path, delimiter, rows[index], rows[index + 1 :])


def _rows(path: str, text: str, delimiter: str) -> Iterator[list[Cell]]:
    """The rows that hold something."""
    lines = text.split("\n")
    reader = csv.reader((line + "\n" for line in lines), delimiter=delimiter, strict=True)
    first = 1
    try:
        for values in reader:
            if any(value.strip() for value in values):
                places = _places(lines[first - 1 : reader.line_num], first, delimiter)
                padded = _padded(places, first)
                yield [_cell(value, place) for value, place in zip(values, padded, strict=False)]
            first = reader.line_num + 1
    except csv.Error as error:
        message = f"the row can't be read: {error}"
        hint = "is a closing quote missing?" if '"' in text else ""
        raise TableError(Problem(path, first, 1, 1, "wrong-table", message, hint)) from None


def _cell(value: str, place: tuple[int, int, int]) -> Cell:
    line, column, width = place
    bare = value.strip()
    text = " ".join(bare.split())
    if width != len(value) or not bare:  # quoted: where its quote is
        return Cell(text, line, column, max(1, width))
    return Cell(text, line, column + len(value) - len(value.lstrip()), len(bare))


def _padded(places: list[tuple[int, int, int]], line: int) -> Iterator[tuple[int, int, int]]:
    yield from places
    while True:
        yield line, 1, 1


def _places(lines: Sequence[str], first: int, delimiter: str) -> list[tuple[int, int, int]]:
    """Line, column and width of each cell of a row; a quoted one may reach over several lines."""
    found: list[tuple[int, int, int]] = []
    start, quoted = (first, 1), False
    for number, line in enumerate(lines, first):
        for at, sign in enumerate(line, 1):
            if sign == '"':
                quoted = not quoted
            elif sign == delimiter and not quoted:
                found.append((*start, at - start[1] if start[0] == number else 1))
                start = (number, at + 1)
    last = first + len(lines) - 1
    found.append((*start, max(1, len(lines[-1]) + 1 - start[1]) if start[0] == last else 1))
    return found
