"""What the next process has to know, in a file: shared attributes that were seen last, qualities not good."""

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

    Only what is edited at ThingsBoard is desired anew: a value that was set elsewhere since then is not
    undone by each new connection. Without the file, what ThingsBoard has is desired.
    """

    def __init__(self, file: Path) -> None:
        """Reads what the processes before have left."""
        self._note = Note(file)
        self._seen: dict[str, dict[str, Any]] = {}
        self._doubted: dict[str, set[str]] = {}
        self._read()
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
        known = self._seen.pop(device, None), self._doubted.pop(device, None)
        if any(one is not None for one in known):
            self._version += 1

    def doubted(self, device: str) -> set[str]:
        """Properties of which ThingsBoard may have a quality that is not good."""
        return set(self._doubted.get(device, ()))

    def doubt(self, device: str, names: set[str]) -> None:
        """These are all of them."""
        if names != self._doubted.get(device, set()):
            self._doubted[device] = names
            self._version += 1

    @property
    def devices(self) -> Collection[str]:
        """Those of which something is known."""
        return list(self._seen | self._doubted)

    @property
    def due(self) -> bool:
        """Whether it is to be written."""
        return self._version != self._written

    def text(self) -> tuple[str, int]:
        """(the file, its version)."""
        known = ((one, self._seen.get(one, {}), sorted(self._doubted.get(one, ()))) for one in self.devices)
        lines = (f"{json.dumps(one)}\n" for one in known if one[1] or one[2])
        return "".join(lines), self._version

    def save(self, text: str, version: int) -> None:
        """Write it."""
        if self._note.write(text):
            self._written = version

    def _read(self) -> None:
        for line in self._note.read().splitlines():
            try:
                match json.loads(line):
                    case [str(device), dict(seen), *rest]:
                        self._seen[device] = seen
                        self._doubted[device] = {str(name) for names in rest for name in names}
            except (ValueError, TypeError, RecursionError):
                log.warning("%s: a line that can't be read is left out", self._note.file)


def _other(seen: Any, value: Any) -> bool:
    """Whether it is another value: to Python, true is 1."""
    return seen != value or isinstance(seen, bool) != isinstance(value, bool)
