"""Secrets by reference: read when they are needed, never kept in settings, never logged."""

from __future__ import annotations

import os
import re
from pathlib import Path

from devicemesh.settings import SecretRef

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_MAX_BYTES = 1 << 20


class SecretError(LookupError):
    """A secret that can't be had; the message says where it was looked for, and never what it is."""


def resolve(home: Path, ref: SecretRef) -> str:
    """Read `<home>/secrets/<name>/<key>`, else `DEVICEMESH_SECRET_<NAME>_<KEY>`. Raises SecretError.

    One line break at the end of the file is not part of the secret.
    """
    for part in (ref.name, ref.key):
        if not _NAME.fullmatch(part):
            raise SecretError(f"{part!r} is no name of a secret: letters, digits, '.', '_' and '-'")
    path = home / "secrets" / ref.name / ref.key
    variable = re.sub(r"[^A-Z0-9]", "_", f"DEVICEMESH_SECRET_{ref.name}_{ref.key}".upper())
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise SecretError(f"{path} is too long for a secret")
        return content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except FileNotFoundError:
        if variable in os.environ:
            return os.environ[variable]
        raise SecretError(f"there is neither {path} nor ${variable}") from None
    except OSError as error:
        raise SecretError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise SecretError(f"{path} is no UTF-8 text") from None
