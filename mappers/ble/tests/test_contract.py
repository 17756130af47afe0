"""The contract of all mappers, against bumble's controllers and GATT server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from devicemesh_ble.mapper import BleMapper
from devicemesh_ble.model import BleAddress

from devicemesh.mapper import Write
from devicemesh.testing.contract import MapperContract, Peer, Serve

VALUES: dict[str, tuple[str, dict[str, Any], Any]] = {
    "battery": ("uint8", {"characteristic": "battery_level"}, 77),
    "celsius": ("float64", {"characteristic": "temperature"}, -12.5),
    "set-word": ("int16", {"characteristic": "fff1"}, -3),
    "wide": ("int64", {"characteristic": "fff2"}, -5_000_000_000),
    "low": ("uint8", {"characteristic": "fff3"}, 9),
    "high": ("uint16", {"characteristic": "fff3", "offset": 1, "byteOrder": "big"}, 515),
    "sfloat": ("float64", {"characteristic": "fff4", "type": "sfloat"}, 36.5),
    "text": ("string", {"characteristic": "fff5"}, "mesh"),
    "pushed": ("uint32", {"characteristic": "fff6", "mode": "notify"}, 70000),
    "heard": ("float64", {"beacon": "bthome/temperature"}, 21.5),
    "open": ("bool", {"beacon": "bthome/window"}, True),
    "company": ("uint16", {"manufacturer": 0x0FFF, "offset": 2}, 258),
}
DECLARED = {
    "default/thing": (
        {"address": "F0:F1:F2:F3:F4:F5", "timeout": "2s", "connectTimeout": "3s"},
        {name: (t, a, {"value": v}) for name, (t, a, v) in VALUES.items()},
    )
}


class TestContract(MapperContract):
    @pytest.fixture
    def mapper(self) -> BleMapper:
        return BleMapper()

    @pytest.fixture
    def serve(self, air: Callable[..., Any]) -> Serve:
        @asynccontextmanager
        async def serve_bumble() -> AsyncIterator[Peer]:
            async with air(DECLARED) as plant:
                points = [(plant.points["default/thing", name], v) for name, (_, _, v) in VALUES.items()]
                battery, word = points[0][0], points[2][0]
                gone = BleAddress.model_validate({"characteristic": "fff9"})
                bad = replace(battery, slot=90, name="gone", address=gone)
                refused = Write(replace(battery, slot=91), 2)
                yield Peer(points, bad, (word, 1234), refused, plant.door.aclose)

        return serve_bumble
