"""Text to trees that know their places: YAML, JSON and TOML."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import yaml

from devicemesh.foreign import toml
from devicemesh.foreign.tree import Branch, Loc, Said, Source
from devicemesh.spec.places import Document, Problem, parse
from devicemesh.table.reading import Cell

_TOML = re.compile(
    r"^\s*\[\[?\s*(inputs|outputs|processors|aggregators|agent|global_tags|DeviceList)\b", re.MULTILINE
)
_YAML = re.compile(
    r"^[\s-]*[\"']?(apiVersion[\"']?\s*:\s*[\"']?devices\.kubeedge\.io/|(deviceResources|deviceList|profileName)[\"']?\s*:)",
    re.MULTILINE,
)
_ESCAPE = re.compile(r"\\(?:u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})|(.))", re.IGNORECASE | re.DOTALL)
_MOST = 200_000
"""Values of a file; a configuration of ten thousand signals has a tenth of it."""


def read(path: str, text: str, said: Said, *, certain: bool) -> list[Branch] | None:
    """The documents of a file; None where it is a table. Mistakes go into `said`.

    `text`: as `reading.decode` gives it. `certain`: it is no table, whatever it looks like.
    """
    start = text.lstrip()
    if start.startswith(("{", "[{", "[\n", "[ ")) and not _TOML.match(start):
        return _json(path, text, said)
    if _TOML.search(text):
        return _toml(path, text, said)
    if certain or _YAML.search(text):
        return _documents(path, text, said)
    return None


def _json(path: str, text: str, said: Said) -> list[Branch]:
    """JSON is YAML but for tabs between its parts, and for halves of characters."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        said.problems.append(
            Problem(path, error.lineno, error.colno, 1, "wrong-file", f"not JSON: {error.msg}")
        )
        return []
    except (RecursionError, ValueError):
        said.problems.append(
            Problem(path, 1, 1, 1, "too-deep", "it is nested too deeply, or a number too long")
        )
        return []
    return _documents(path, _ESCAPE.sub(_escape, text.replace("\t", " ")), said)


def _escape(found: re.Match[str]) -> str:
    """An escape of JSON as YAML has it."""
    if found[3] == "/":
        return "/"
    return found[0] if found[3] else str(json.loads(f'"{found[0]}"'))


def _documents(path: str, text: str, said: Said) -> list[Branch]:
    documents, problems = parse(path, text)
    said.problems += problems
    found = []
    for one in documents:
        places: dict[Loc, Cell] = {}
        try:
            _places(one, one.node, (), places)
        except (_TooManyError, RecursionError):
            said.problems.append(Problem(path, 1, 1, 1, "too-deep", "these are too many values"))
            return []
        found.append(Branch(Source(path, places, said), (), one.data))
    return found


class _TooManyError(Exception):
    pass


def _places(document: Document, node: yaml.Node, loc: Loc, places: dict[Loc, Cell]) -> None:
    """Where each part stands; of a scalar also how it was written."""
    start, end = node.start_mark, node.end_mark
    width = end.column - start.column if end.line == start.line else 1
    text = node.value if isinstance(node, yaml.ScalarNode) else ""
    places[loc] = Cell(text, start.line + 1 + document.first_line, start.column + 1, max(1, width))
    if len(places) > _MOST:
        raise _TooManyError
    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            if isinstance(key, yaml.ScalarNode):
                _places(document, child, (*loc, key.value), places)
                if not isinstance(
                    child, yaml.ScalarNode
                ):  # a block begins on the next line: where its key is
                    mark, length = key.start_mark, key.end_mark.column - key.start_mark.column
                    line = mark.line + 1 + document.first_line
                    places[*loc, key.value] = Cell("", line, mark.column + 1, max(1, length))
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            _places(document, child, (*loc, index), places)


def _toml(path: str, text: str, said: Said) -> list[Branch]:
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        words, _, where = str(error).rpartition(" (at ")
        line, column = (int(one) for one in (*re.findall(r"\d+", where), "1", "1")[:2])
        said.problems.append(Problem(path, line, column, 1, "wrong-file", f"not TOML: {words or error}"))
        return []
    except (RecursionError, ValueError):
        said.problems.append(
            Problem(path, 1, 1, 1, "too-deep", "it is nested too deeply, or a number too long")
        )
        return []
    return [Branch(Source(path, toml.places(text), said), (), data)]
