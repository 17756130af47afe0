"""Many signals: eight times as many take about eight times as much work."""

import json
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from devicemesh import plugins
from devicemesh.foreign import systems

PROTOCOLS = plugins.load().protocols()


def thingsboard(count: int) -> str:
    read = [{"tag": f"t{n}", "type": "16uint", "functionCode": 3, "address": n} for n in range(count)]
    slave = {"host": "h", "unitId": 1, "timeseries": read, "attributes": read}
    slave["attributeUpdates"] = [{**one, "functionCode": 6} for one in read]
    return json.dumps({"master": {"slaves": [slave]}})


def telegraf(count: int) -> str:
    fields = ", ".join(f'{{address = {n}, name = "x", type = "INT16"}}' for n in range(count))
    start = '[agent]\ninterval = "1s"\n[[inputs.modbus]]\nname = "d"\ncontroller = "tcp://h:502"\n'
    request = f"[[inputs.modbus.request]]\nslave_id = 1\nfields = [{fields}]\n"
    return f'{start}configuration_type = "request"\n{request}'


def edgex(count: int) -> str:
    profile = {"name": "p", "deviceResources": [
        {"name": "a", "properties": {"valueType": "Int16"}, "attributes": {"primaryTable": "HOLDING_REGISTERS", "startingAddress": 1}},
    ]}  # fmt: skip
    tcp = {"modbus-tcp": {"Address": "h", "Port": 502, "UnitID": 1}}
    devices = [{"name": "same", "profileName": "p", "protocols": tcp} for _ in range(count)]
    return json.dumps([profile, {"deviceList": devices}])


def cost(text: str) -> int:
    """Lines that are run, whatever the machine."""
    lines = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        found = systems.bring({"theirs": text}, PROTOCOLS)
    finally:
        sys.settrace(before)
    assert found is not None and found.documents
    return lines


@pytest.mark.parametrize("make", [thingsboard, telegraf, edgex])
def test_what_is_done_grows_as_the_signals_do(make: Callable[[int], str]) -> None:
    cost(make(2))  # what is done but once
    assert cost(make(1600)) < 11 * cost(make(200))
