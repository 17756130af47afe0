"""A small file that a process leaves for the next one."""

from __future__ import annotations

import logging
from pathlib import Path

log = logging.getLogger("devicemesh.sink")


class Note:
    """Replaced as a whole. That it can't be written is said once, and then no more until it can."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._failed = False

    def read(self) -> str:
        """What was left; nothing where it can't be read."""
        try:
            return self.file.read_text("utf-8", errors="replace")
        except OSError:
            return ""

    def write(self, text: str) -> bool:
        """Whether it is written."""
        part = self.file.with_suffix(".part")
        try:
            part.write_text(text, "utf-8")
            part.replace(self.file)
        except OSError as error:
            if not self._failed:
                log.warning("%s can't be written: %s", self.file, error.strerror)
            self._failed = True
            return False
        self._failed = False
        return True
