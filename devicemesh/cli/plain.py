"""What devices call themselves, and say, made fit for a terminal: no control characters, no escape sequences.

A name that comes from the field can be anybody's: `ESC ] 0 ;` sets a window's title, others move the cursor
or hide what stands there. All that the commands print of it goes through here.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Any


def plain(text: str) -> str:
    """One line: what can't be printed is shown as Python writes it (`\\x1b`); any space is a space."""
    if text.isprintable():
        return text
    return "".join(map(_shown, text))


def plain_lines(text: str) -> str:
    """The same for a text of several lines."""
    return text if text.isprintable() else "\n".join(map(plain, text.split("\n")))


def as_json(value: Any, indent: int | None = None) -> str:
    """JSON that means the same, and that a terminal only shows."""
    written = json.dumps(value, indent=indent, ensure_ascii=False)
    return written if written.isprintable() else "".join(map(_escaped, written))


def _escaped(character: str) -> str:
    if character.isprintable() or character == "\n" or unicodedata.category(character) == "Zs":
        return character
    return json.dumps(character)[1:-1]


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    if unicodedata.category(character) == "Zs":  # as a space that does not break
        return " "
    return character.encode("unicode_escape").decode()
