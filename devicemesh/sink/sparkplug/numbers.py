"""The birth-death sequence number: which NDEATH belongs to which NBIRTH."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

log = logging.getLogger("devicemesh.sink")


class SessionNumber:
    """One more for each connection, 0 to 255 and round again (section 6.4.26), over restarts too.

    A restart that began with 0 again could be declared dead by the will of the connection before it.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._failed = False
        self.value = 255
        with contextlib.suppress(OSError, ValueError):
            self.value = int(file.read_text("ascii")) % 256

    def next(self) -> None:
        """That of the next connection."""
        self.value = (self.value + 1) % 256
        try:
            self._file.write_text(f"{self.value}\n", "ascii")
        except OSError as error:
            if not self._failed:
                log.warning("%s can't be written: %s", self._file, error.strerror)
            self._failed = True
