"""Which shared attributes were seen last, in a file: only what is edited at ThingsBoard is desired anew."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from devicemesh.sink.note import Note

log = logging.getLogger("devicemesh.sink")


class Memory:
    """By device; a line of the file each.

    So a value that was set elsewhere since then is not undone by each new connection. Without the file, what
    ThingsBoard has is desired.
    """

    def __init__(self, file: Path) -> None:
        """Reads what the processes before have left."""
        self._note = Note(file)
        self._seen = _read(self._note)
        self._written, self._version = 0, 0

    def changes(self, device: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those that are otherwise than seen last; None: there is none, or none any more."""
        seen = self._seen.get(device, {})
        return {key: value for key, value in values.items() if _other(seen.get(key), value)}

    def saw(self, device: str, values: Mapping[str, Any]) -> None:
        """They are desired now."""
        now = {**self._seen.get(device, {}), **values}
        self._seen[device] = {key: value for key, value in now.items() if value is not None}
        self._version += 1

    def forget(self, device: str) -> None:
        """It is deleted, or another runtime's."""
        if self._seen.pop(device, None) is not None:
            self._version += 1

    @property
    def devices(self) -> Collection[str]:
        """Those of which something was seen."""
        return list(self._seen)

    @property
    def due(self) -> bool:
        """Whether it is to be written."""
        return self._version != self._written

    def text(self) -> tuple[str, int]:
        """(the file, its version)."""
        lines = (f"{json.dumps([device, seen])}\n" for device, seen in self._seen.items() if seen)
        return "".join(lines), self._version

    def save(self, text: str, version: int) -> None:
        """Write it."""
        if self._note.write(text):
            self._written = version


def _other(seen: Any, value: Any) -> bool:
    """Whether it is another value: to Python, true is 1."""
    return seen != value or isinstance(seen, bool) != isinstance(value, bool)


def _read(note: Note) -> dict[str, dict[str, Any]]:
    """What can be read of it."""
    found: dict[str, dict[str, Any]] = {}
    for line in note.read().splitlines():
        try:
            match json.loads(line):
                case [str(device), dict(seen)]:
                    found[device] = seen
        except (ValueError, RecursionError):
            log.warning("%s: a line that can't be read is left out", note.file)
    return found
