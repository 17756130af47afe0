"""Where secrets of endpoints are read: the only place, so that the runtime can take it over.

The same files and variables as those of the runtime's own secrets.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from devicemesh.mapper import AuthError
from devicemesh_opcua.model import SecretRef

_MAX_BYTES = 1 << 20


def home() -> Path:
    """Where state lives: `$DEVICEMESH_HOME`, else `$XDG_DATA_HOME/devicemesh`."""
    if stated := os.environ.get("DEVICEMESH_HOME"):
        return Path(stated)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "devicemesh"


def read(ref: SecretRef) -> str:
    """Read `<home>/secrets/<name>/<key>`, else `DEVICEMESH_SECRET_<NAME>_<KEY>`. Raises AuthError.

    One line break at the end of the file is not part of the secret.
    """
    path = home() / "secrets" / ref.name / ref.key
    variable = re.sub(r"[^A-Z0-9]", "_", f"DEVICEMESH_SECRET_{ref.name}_{ref.key}".upper())
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise AuthError(f"{path} is too long for a secret", reason="SecretMissing")
        return content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except FileNotFoundError:
        if variable in os.environ:
            return os.environ[variable]
        raise AuthError(f"there is neither {path} nor ${variable}", reason="SecretMissing") from None
    except OSError as error:
        raise AuthError(f"{path} can't be read: {error.strerror}", reason="SecretMissing") from error
    except UnicodeDecodeError:
        raise AuthError(f"{path} is no UTF-8 text", reason="SecretMissing") from None
