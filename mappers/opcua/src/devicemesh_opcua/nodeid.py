"""Names of nodes as people write them, not yet bound to a server's namespace indices. Pure.

NodeId text as in Part 6, 5.1.12: `i=2258`, `ns=2;s=Pump.Speed`, `nsu=urn:plant;g=...`. A namespace index is
only the place of a URI in the server's list of the moment: it may differ after each restart.
"""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import unquote

Identifier: TypeAlias = int | str | bytes | uuid.UUID
Space: TypeAlias = int | str
"""A namespace: by its URI, or by an index that somebody has to give a meaning."""

_NODE = re.compile(r"(?:ns=(?P<index>\d{1,5});|nsu=(?P<uri>[^;]+);)?(?P<kind>[isgb])=(?P<id>.+)", re.DOTALL)
_NAME = re.compile(r"(?:(?P<index>\d{1,5}):)?(?P<name>.+)", re.DOTALL)
_ELEMENT = re.compile(r"(?:&.|[^/&])+", re.DOTALL)
_RANGE = re.compile(r"\d{1,9}(:\d{1,9})?(,\d{1,9}(:\d{1,9})?)*")
MAX_NUMERIC = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class NodeName:
    """A NodeId whose namespace is still a URI (or an index, 0 being the specification's own)."""

    space: Space
    identifier: Identifier

    @property
    def text(self) -> str:
        """As `parse_node` reads it."""
        return space_prefix(self.space) + identifier_text(self.identifier)


@dataclass(frozen=True, slots=True)
class BrowseName:
    """A QualifiedName whose namespace is still a URI or an index."""

    space: Space
    name: str


def space_prefix(space: Space) -> str:
    """`nsu=urn:plant;`, `ns=2;`, or nothing for namespace 0."""
    if isinstance(space, str):
        return f"nsu={space.replace('%', '%25').replace(';', '%3B')};"
    return f"ns={space};" if space else ""


def identifier_text(identifier: Identifier) -> str:
    """`i=85`, `s=Pump.Speed`, `g=09087e75-...`, `b=M/RbKBsRVkePCePcx24oRA==`."""
    if isinstance(identifier, int):
        return f"i={identifier}"
    if isinstance(identifier, uuid.UUID):
        return f"g={identifier}"
    if isinstance(identifier, bytes):
        return f"b={base64.b64encode(identifier).decode()}"
    return f"s={identifier}"


def parse_node(text: str, namespace: str | None = None) -> NodeName:
    """Read a NodeId; one without `ns` or `nsu` is in `namespace`, else in 0. Raises ValueError."""
    found = _NODE.fullmatch(text)
    if found is None:
        raise ValueError(
            f"{text!r} is not a NodeId: write nsu=URI;s=NAME, nsu=URI;i=NUMBER, or i=NUMBER of the standard"
        )
    if namespace is not None and (found["index"] or found["uri"]):
        raise ValueError(f"{text!r} has a namespace of its own: leave `namespace` out")
    space: Space = 0 if namespace is None else namespace
    if found["uri"]:
        space = unquote(found["uri"])
    elif found["index"]:
        space = int(found["index"])
        if space > 0xFFFF:
            raise ValueError(f"{text!r}: a namespace index is at most 65535")
    return NodeName(space, _identifier(found["kind"], found["id"], text))


def _identifier(kind: str, raw: str, text: str) -> Identifier:
    if kind == "s":
        return raw
    try:
        if kind == "i":
            if not raw.isascii() or not raw.isdigit() or int(raw) > MAX_NUMERIC:
                raise ValueError(raw)
            return int(raw)
        return uuid.UUID(raw) if kind == "g" else base64.b64decode(raw, validate=True)
    except (ValueError, binascii.Error):
        wanted = {"i": f"a number up to {MAX_NUMERIC}", "g": "a GUID", "b": "base64"}[kind]
        raise ValueError(f"{text!r}: after `{kind}=` comes {wanted}") from None


def parse_path(text: str, namespace: str | None = None) -> tuple[BrowseName, ...]:
    """Read `Pump/2:Speed`, names from an object downwards (Part 4, A.2). Raises ValueError.

    A name without an index is in `namespace`, else in 0. `&` takes the meaning from a `/`, `:` or `&`.
    """
    elements = text.removeprefix("/").split("/") if "&" not in text else _escaped(text.removeprefix("/"))
    names = []
    for element in elements:
        found = _NAME.fullmatch(element)
        if found is None:
            raise ValueError(f"{text!r} is not a browse path: write names with `/` between them")
        index = found["index"]
        if index is not None and int(index) > 0xFFFF:
            raise ValueError(f"{text!r}: a namespace index is at most 65535")
        space: Space = int(index) if index is not None else 0 if namespace is None else namespace
        names.append(BrowseName(space, re.sub(r"&(.)", r"\1", found["name"])))
    return tuple(names)


def _escaped(text: str) -> list[str]:
    """Elements of a path in which `&` escapes."""
    elements = _ELEMENT.findall(text)
    if "/".join(elements) != text:
        raise ValueError(f"{text!r} is not a browse path: `&` escapes the character after it")
    return elements


def name_text(name: str) -> str:
    """A name as an element of a path."""
    return re.sub(r"([&/:])", r"&\1", name)


def is_index_range(text: str) -> bool:
    """Whether it is a NumericRange: `3`, `0:9`, `0:1,2:3` (Part 4, 7.27); a range rises."""
    if not _RANGE.fullmatch(text):
        return False
    ends = [[int(end) for end in part.split(":")] for part in text.split(",")]
    return all(len(end) == 1 or end[0] < end[1] for end in ends)
