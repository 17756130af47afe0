"""Simulators for the protocols of the installed mappers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from devicemesh.mapper import hookimpl


@hookimpl
def devicemesh_simulators() -> Sequence[Any]:
    """The simulators of this distribution."""
    from devicemesh_simulators.modbus import ModbusSimulator
    from devicemesh_simulators.opcua import OpcUaSimulator

    return [ModbusSimulator(), OpcUaSimulator()]
