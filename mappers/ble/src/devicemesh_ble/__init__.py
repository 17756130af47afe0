"""Bluetooth Low Energy for DeviceMesh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from devicemesh.mapper import Mapper, hookimpl


@hookimpl
def devicemesh_mappers() -> Sequence[Mapper[Any, Any]]:
    from devicemesh_ble.mapper import BleMapper

    return [BleMapper()]
