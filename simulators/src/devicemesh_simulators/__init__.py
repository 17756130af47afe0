"""Simulators for the protocols of the installed mappers."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from devicemesh.mapper import hookimpl


@hookimpl
def devicemesh_simulators() -> Sequence[Any]:
    """The simulators of this distribution, for the mappers that are installed."""
    from devicemesh_simulators.modbus import ModbusSimulator

    found: list[Any] = [ModbusSimulator()]
    if find_spec("devicemesh_opcua"):
        from devicemesh_simulators.opcua import OpcUaSimulator

        found.append(OpcUaSimulator())
    if find_spec("devicemesh_coap"):
        from devicemesh_simulators.coap import CoapSimulator

        found.append(CoapSimulator())
    if find_spec("devicemesh_lora"):
        from devicemesh_simulators.lora import LoraSimulator

        found.append(LoraSimulator())
    if find_spec("devicemesh_ble") and find_spec("bumble"):
        from devicemesh_simulators.ble import BleSimulator

        found.append(BleSimulator())
    return found
