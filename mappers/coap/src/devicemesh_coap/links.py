"""Link format (RFC 6690) to links. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MAX_LINKS = 10_000
_TARGET = re.compile(r"\s*<([^>]*)>")
_PARAMETER = re.compile(r'\s*;\s*([^\s=;,"<>]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*)))?')


@dataclass(frozen=True, slots=True)
class Link:
    """A target and what is said about it."""

    target: str
    about: dict[str, str] = field(default_factory=dict)

    @property
    def formats(self) -> tuple[int, ...]:
        """Content formats that it has, as `ct` says."""
        return tuple(int(one) for one in self.about.get("ct", "").split() if one.isascii() and one.isdigit())

    @property
    def observable(self) -> bool:
        return "obs" in self.about


def parse(text: str) -> list[Link]:
    """The links of a document. Raises ValueError where it is none."""
    links: list[Link] = []
    at = 0
    while text[at:].strip():
        if len(links) == MAX_LINKS:
            raise ValueError(f"more than {MAX_LINKS} links")
        target = _TARGET.match(text, at)
        if target is None:
            raise ValueError(f"malformed link format at character {at}")
        about: dict[str, str] = {}
        at = target.end()
        while parameter := _PARAMETER.match(text, at):
            name, quoted, bare = parameter.groups()
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare or ""
            about.setdefault(name, value)
            at = parameter.end()
        links.append(Link(target[1], about))
        rest = text[at:].lstrip()
        if rest and not rest.startswith(","):
            raise ValueError(f"malformed link format at character {at}")
        at = len(text) - len(rest) + 1 if rest else len(text)
    return links
