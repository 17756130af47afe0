"""KubeEdge: characteristics of Bluetooth, as its mapper reads them (mappers-go, twindata.go). Pure.

It writes the bytes from `startIndex` to `endIndex` as decimal numbers beside each other and reads that as
one: of one byte this is its value; of several it is nothing that anybody means.
"""

from __future__ import annotations

import re
from typing import Any

from devicemesh.foreign.kubeedge_modbus import Visit
from devicemesh.foreign.things import Signal
from devicemesh.foreign.tree import Branch
from devicemesh.spec.values import ValueType

_OPERATIONS = {"add": (1, 1), "subtract": (1, -1), "multiply": (0, 1), "divide": (0, -1)}


def endpoint(config: Branch) -> dict[str, Any]:
    return {"address": config.text("macAddress", "mac")}


def _dashed(text: str) -> str:
    """A UUID with its dashes, which KubeEdge's examples leave out."""
    bare = re.fullmatch(
        r"([0-9a-fA-F]{8})([0-9a-fA-F]{4})([0-9a-fA-F]{4})([0-9a-fA-F]{4})([0-9a-fA-F]{12})", text
    )
    return "-".join(bare.groups()).lower() if bare else text


def characteristic(signal: Signal, visit: Visit) -> None:
    """The address: one byte of a characteristic, with shift and operations as scale and add."""
    converter = (
        visit.config["dataConverter"] if "dataConverter" in visit.config else visit.at.map("dataConverter")
    )
    first, last = (converter.integer(key, default=0) for key in ("startIndex", "endIndex"))
    if first != last:
        message = "KubeEdge makes a number of several bytes by writing their decimal digits beside each other"
        raise converter.here("endIndex").problem(message, "declare the property by itself, with its type")
    if "dataWrite" in visit.config:
        visit.config["dataWrite"].tell("`dataWrite` is left out: a byte of a characteristic can only be read")
    right, scale, add = converter.integer("shiftRight", default=0), 1.0, 0.0
    if left := converter.integer("shiftLeft", default=0):
        right, scale = 0, float(1 << min(left, 63))
    for one in converter.items("orderOfOperations"):
        is_sum, sign = one.word(_OPERATIONS, "operationType", what="an operation")
        value = one.number("operationValue")
        if is_sum:
            add += sign * value
        elif value == 0:
            raise one.at("operationValue").problem("nothing can be made of a factor of 0")
        else:
            factor = value if sign > 0 else 1 / value
            scale, add = scale * factor, add * factor
    fields: dict[str, Any] = {
        "characteristic": _dashed(visit.get("characteristicUUID").raw),
        "offset": first,
        "type": "uint8",
    }
    if 0 < right < 8:
        fields |= {"bit": right, "bits": 8 - right}
    fields |= {
        key: value for key, value, neutral in (("scale", scale, 1), ("add", add, 0)) if value != neutral
    }
    signal.type = ValueType.FLOAT64
    signal.access = "ReadOnly"
    signal.address = fields
