"""Where state lives."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "DEVICEMESH_HOME"


def default_home() -> Path:
    """`$DEVICEMESH_HOME`, else `$XDG_DATA_HOME/devicemesh`, else `~/.local/share/devicemesh`."""
    if home := os.environ.get(VARIABLE):
        return Path(home)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "devicemesh"
