"""YAML with places: every node keeps where it stands, and nothing but plain data comes out; `dump` writes it.

Scalars follow the YAML 1.2 core schema (10.3.2): `no`, `on` and `12:30` stay text, `010` is ten, `1e3` a
number. What YAML would pass over in silence (a key given twice, an alias bomb) is a problem here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

MAX_BYTES = 16 << 20
MAX_DEPTH = 64
MAX_REPEATED = 20_000  # nodes that aliases may repeat

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {w: w.lower() == "true" for w in ("true", "True", "TRUE", "false", "False", "FALSE")}
_INT = re.compile(r"[-+]?[0-9]{1,4000}")
_OTHER_INT = re.compile(r"0x[0-9a-fA-F]{1,32}|0o[0-7]{1,32}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = {
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake, and where it is: line and column count from 1."""

    path: str
    line: int
    column: int
    width: int
    code: str  # a stable word, see `devicemesh explain`
    message: str
    help: str = ""


@dataclass(slots=True)
class Document:
    """One YAML document: plain data and the node tree that it came from."""

    path: str
    first_line: int  # of the document, counted from 0
    node: yaml.Node
    data: Any

    def problem(self, node: yaml.Node, code: str, message: str, help: str = "") -> Problem:  # noqa: A002
        """A problem at this node."""
        start, end = node.start_mark, node.end_mark
        width = end.column - start.column if end.line == start.line else 1
        line = start.line + 1 + self.first_line
        return Problem(self.path, line, start.column + 1, max(1, width), code, message, help)

    def at(self, loc: tuple[int | str, ...]) -> yaml.Node:
        """The value node at a path, or the deepest one on the way to it."""
        return self.walk(loc)[1]

    def key_at(self, loc: tuple[int | str, ...]) -> yaml.Node:
        """The key node at a path where there is one, else the value node."""
        key, node = self.walk(loc)
        return key or node

    def walk(self, loc: tuple[int | str, ...]) -> tuple[yaml.Node | None, yaml.Node]:
        """Follow a pydantic `loc`; a part that names no node (a union's tag) is passed over."""
        key: yaml.Node | None = None
        node = self.node
        for part in loc:
            if isinstance(node, yaml.MappingNode):
                for k, v in node.value:
                    if k.value == part:
                        key, node = k, v
                        break
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                key, node = None, node.value[part]
        return key, node


class _Build:
    """Plain data out of one node tree, with what is wrong on the way."""

    def __init__(self, path: str, first_line: int) -> None:
        self.problems: list[Problem] = []
        self._seen: set[int] = set()
        self._repeated = 0
        self.place = Document(path, first_line, yaml.ScalarNode("", ""), None)

    def value(self, node: yaml.Node, depth: int) -> Any:
        if id(node) in self._seen:
            self._repeated += 1
            if self._repeated > MAX_REPEATED:
                raise _TooMuchError
        self._seen.add(id(node))
        if depth > MAX_DEPTH:
            self._report(node, "too-deep", f"nested deeper than {MAX_DEPTH} levels")
            return None
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, depth + 1) for child in node.value]
        return self._mapping(node, depth) if isinstance(node, yaml.MappingNode) else None

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Any]:
        out: dict[str, Any] = {}
        seen: dict[str, yaml.Node] = {}
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._report(key, "yaml", "a key must be a plain word")
                continue
            name = key.value
            if name in seen:
                first = seen[name].start_mark.line + 1 + self.place.first_line
                self._report(key, "duplicate-key", f"`{name}` is given twice; the first is on line {first}")
                continue
            seen[name] = key
            out[name] = self.value(child, depth + 1)
        return out

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text: str = node.value
        if node.tag.startswith("!") and len(node.tag) > 1:
            self._report(node, "yaml", f"the tag {node.tag} is not supported")
            return None
        return text if node.style else plain(text)  # quoted and block scalars are text

    def _report(self, node: yaml.Node, code: str, message: str) -> None:
        self.problems.append(self.place.problem(node, code, message))


class _TooMuchError(Exception):
    """Aliases repeat more than any manifest needs: a bomb."""


def plain(text: str) -> Any:
    """A plain scalar's value in the YAML 1.2 core schema."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        return int(text)
    if _OTHER_INT.fullmatch(text):
        return int(text, 0)
    if text in _SPECIAL:
        return _SPECIAL[text]
    return float(text) if _FLOAT.fullmatch(text) else text


def _split(text: str) -> Iterator[tuple[int, str]]:
    """Documents apart, so that a syntax error in one never hides the others."""
    start, lines = 0, text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if re.match(r"---(\s|$)", line):
            yield start, "".join(lines[start:number])
            start = number + 1 if line.strip() == "---" or line[3:].lstrip().startswith("#") else number
    yield start, "".join(lines[start:])


class _Nodes(_Loader):  # type: ignore[misc,valid-type]
    """A loader that resolves no tags: what a scalar means is decided in `plain`."""

    yaml_implicit_resolvers: dict[str, Any] = {}


def parse(path: str, text: str) -> tuple[list[Document], list[Problem]]:
    """Read every document of a file; documents with a problem inside are returned all the same."""
    if len(text) > MAX_BYTES:
        return [], [Problem(path, 1, 1, 1, "too-large", f"larger than {MAX_BYTES >> 20} MiB")]
    documents: list[Document] = []
    problems: list[Problem] = []
    for first_line, part in _split(text.removeprefix("\ufeff")):
        try:
            node = _Nodes(part).get_single_node()
            if node is None:
                continue
            build = _Build(path, first_line)
            data = build.value(node, 0)
        except yaml.MarkedYAMLError as error:
            problems.append(_syntax(path, first_line, error))
        except yaml.YAMLError as error:  # not YAML at all: control characters, a wrong encoding
            problems.append(Problem(path, first_line + 1, 1, 1, "yaml", " ".join(str(error).split())))
        except (_TooMuchError, RecursionError):
            problems.append(
                Problem(
                    path, first_line + 1, 1, 1, "too-deep", "aliases repeat too much, or nested too deeply"
                )
            )
        else:
            problems.extend(build.problems)
            documents.append(Document(path, first_line, node, data))
    return documents, problems


class Inline(dict[str, Any]):
    """A map that `dump` writes on one line."""


class _Writer(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Quotes text that a reader of YAML 1.2 takes for something else, as the EUI 0080e11500004218."""


def _text(writer: Any, text: str) -> yaml.Node:
    style = None if isinstance(plain(text), str) else "'"
    node: yaml.Node = writer.represent_scalar("tag:yaml.org,2002:str", text, style=style)
    return node


def _inline(writer: Any, data: Inline) -> yaml.Node:
    node: yaml.Node = writer.represent_mapping("tag:yaml.org,2002:map", data, flow_style=True)
    return node


_Writer.add_representer(str, _text)
_Writer.add_representer(Inline, _inline)


def dump(documents: Iterable[Any], width: int = 80) -> str:
    """Documents as YAML that reads back as they are, here and by YAML 1.1; longer lines are folded."""
    written = (
        yaml.dump(one, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=width) for one in documents
    )
    return "---\n".join(written)


_WORDS = (
    ("found character '\\t'", "a tab can't indent: use spaces"),
    ("could not find expected ':'", "a `:` is missing after the key"),
    ("mapping values are not allowed", "a second `:` on one line: quote the text, or begin a new line"),
    ("expected ',' or '}'", "a `,` or the closing `}` is missing"),
    ("expected ',' or ']'", "a `,` or the closing `]` is missing"),
    ("expected <block end>", "the indentation does not fit the lines above"),
    ("found unexpected end of stream", "a closing quote is missing"),
    ("found undefined alias", "this alias has no anchor"),
    ("did not find expected key", "a key is expected here: look at the indentation"),
    ("did not find expected ',' or '}'", "a `,` or the closing `}` is missing"),
    ("did not find expected ',' or ']'", "a `,` or the closing `]` is missing"),
    ("did not find expected '-' indicator", "a `-` is expected here: look at the indentation"),
)


def _syntax(path: str, first_line: int, error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    text = f"{error.problem or error.context or error}"
    message = next((ours for theirs, ours in _WORDS if theirs in text), text)
    return Problem(
        path,
        (mark.line if mark else 0) + 1 + first_line,
        (mark.column if mark else 0) + 1,
        1,
        "yaml",
        message,
    )
