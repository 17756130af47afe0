"""The birth-death sequence number: which NDEATH belongs to which NBIRTH."""

from __future__ import annotations

import contextlib
from pathlib import Path

from devicemesh.sink.note import Note


class SessionNumber:
    """One more for each connection, 0 to 255 and round again (section 6.4.26), over restarts too.

    A restart that began with 0 again could be declared dead by the will of the connection before it.
    """

    def __init__(self, file: Path) -> None:
        self._note = Note(file)
        self.value = 255
        with contextlib.suppress(ValueError):
            self.value = int(self._note.read()) % 256

    def next(self) -> None:
        """That of the next connection."""
        self.value = (self.value + 1) % 256
        self._note.write(f"{self.value}\n")
