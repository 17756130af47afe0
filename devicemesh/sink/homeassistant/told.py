"""What Home Assistant was told that devices have, in a file: what is not declared any more is taken back."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable
from pathlib import Path

from devicemesh.sink.note import Note

log = logging.getLogger("devicemesh.sink")
Keys = frozenset[str]


class Told:
    """Keys of components by device, all that ever were; a line of the file for all devices that are alike.

    They are never forgotten while the device lives: nobody tells us what Home Assistant has heard. What the
    file can't hold stays in Home Assistant, not known, until somebody deletes it there.
    """

    def __init__(self, file: Path) -> None:
        """Reads what the processes before have left."""
        self._note = Note(file)
        self._alike: dict[Keys, Keys] = {}
        self._told = {device: self._shared(keys) for device, keys in _read(self._note)}
        self._written, self._version = 0, 0

    @property
    def devices(self) -> Collection[str]:
        """Those that were told of."""
        return self._told.keys()

    def gone(self, device: str, keys: Iterable[str]) -> list[str]:
        """Remember what a device has; returns what it had."""
        now, before = frozenset(keys), self._told.get(device, frozenset())
        if now - before:
            self._told[device] = self._shared(before | now)
            self._version += 1
        return sorted(before - now)

    def forget(self, device: str) -> None:
        """It is deleted, or another runtime's."""
        if self._told.pop(device, None) is not None:
            self._version += 1

    def _shared(self, keys: Keys) -> Keys:
        return self._alike.setdefault(keys, keys)

    @property
    def due(self) -> bool:
        """Whether it is to be written."""
        return self._version != self._written

    def text(self) -> tuple[str, int]:
        """(the file, its version)."""
        lines: dict[Keys, list[str]] = {}
        for device, keys in self._told.items():
            lines.setdefault(keys, []).append(device)
        self._alike = {keys: keys for keys in lines}
        text = "".join(f"{json.dumps([sorted(keys), devices])}\n" for keys, devices in lines.items())
        return text, self._version

    def save(self, text: str, version: int) -> None:
        """Write it."""
        if self._note.write(text):
            self._written = version


def _read(note: Note) -> Iterable[tuple[str, Keys]]:
    """What can be read of it."""
    for line in note.read().splitlines():
        try:
            match json.loads(line):
                case [list(keys), list(devices)]:
                    for device in devices:
                        yield str(device), frozenset(str(key) for key in keys)
        except ValueError:
            log.warning("%s: a line that can't be read is left out", note.file)
