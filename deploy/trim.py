"""Takes out of an installation what libraries bring and a runtime never imports: `python trim.py [FOLDER]`.

Two of them are generated: the Kubernetes client has a class for every kind and verb, where the store sends
JSON, and the OPC UA library has the whole address space of a server, where we are a client.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

GENERATED = ("kubernetes/client", "kubernetes/aio/client")
SERVERS = ("asyncua/server/standard_address_space",)


def surplus(site: Path) -> list[Path]:
    """Files and folders that nobody here asks for; what imports by name still finds the packages."""
    found = [site / folder for folder in SERVERS if (site / folder).is_dir()]
    for client in GENERATED:
        for part in ("api", "models"):
            found += [one for one in (site / client / part).glob("*") if one.name != "__init__.py"]
    return found


def trim(site: Path) -> int:
    """Remove them. Returns the bytes."""
    freed = 0
    for one in surplus(site):
        freed += sum(file.stat().st_size for file in (one.rglob("*") if one.is_dir() else (one,)))
        shutil.rmtree(one) if one.is_dir() else one.unlink()
    return freed


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(sysconfig.get_path("purelib"))
    print(f"{trim(place) / 1e6:.0f} MB taken out of {place}")
