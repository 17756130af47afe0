"""SCPI for DeviceMesh.

Replace: nothing. The entry point in pyproject.toml names this package, and the two hooks are called when
DeviceMesh starts: what is heavy is imported inside them, or later.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from devicemesh.mapper import Mapper, hookimpl


@hookimpl
def devicemesh_mappers() -> Sequence[Mapper[Any, Any]]:
    from devicemesh_scpi.mapper import ScpiMapper

    return [ScpiMapper()]


@hookimpl
def devicemesh_simulators() -> Sequence[Any]:
    from devicemesh_scpi.simulator import ScpiSimulator

    return [ScpiSimulator()]
