"""Which devices the broker keeps messages of, in a file: one deleted while nobody runs must not haunt it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from devicemesh.sink.note import Note


class Kept:
    """A name a line. What the file can't hold is only not cleared after a restart."""

    def __init__(self, file: Path) -> None:
        """Reads what the processes before have left."""
        self._note = Note(file)
        self._version: int | None = None  # of the names that were written last
        self.before = {line for line in self._note.read().splitlines() if "/" in line}
        """Those of the processes before, until it is known whether they are still declared."""

    def settle(self) -> list[str]:
        """Those of the processes before; from now on the caller knows what is to become of them."""
        names, self.before, self._version = sorted(self.before), set(), None
        return names

    def due(self, version: int) -> bool:
        """Whether the names, of this version, are to be written."""
        return version != self._version

    def save(self, names: Iterable[str], version: int) -> None:
        """Write them. Takes some milliseconds for 10,000."""
        if self._note.write("".join(f"{name}\n" for name in sorted(names))):
            self._version = version
