"""Thousands of signals: eight times as many take about eight times as long."""

import json
import time
from collections.abc import Callable

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


def cost(text: str) -> float:
    start = time.process_time()
    found = systems.bring({"theirs": text}, PROTOCOLS)
    assert found is not None and found.documents
    return time.process_time() - start


@pytest.mark.parametrize("make", [thingsboard, telegraf, edgex])
def test_the_time_grows_as_the_signals_do(make: Callable[[int], str]) -> None:
    few = min(cost(make(500)) for _ in range(2))
    assert cost(make(4000)) < 24 * few
