"""Advertisements that nobody should send: a folder for each, numbered by what is wrong with it.

Devices that are connected to are in test_hostile.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from bumble.core import AdvertisingData
from devicemesh_ble import sig
from devicemesh_ble.bumble_host import parsed

CASES = sorted(
    path
    for path in (Path(__file__).parent / "cases").glob("*/case.yaml")
    if {"advertisement", "refused_uuid"} & yaml.safe_load(path.read_text("utf-8")).keys()
)


@pytest.mark.parametrize("path", CASES, ids=[path.parent.name for path in CASES])
def test_case(path: Path) -> None:
    case: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    if "refused_uuid" in case:
        with pytest.raises(ValueError, match="is no UUID"):
            sig.uuid(case["refused_uuid"])
        return
    structures = AdvertisingData.from_bytes(bytes.fromhex(case["advertisement"])).ad_structures
    heard = parsed(structures, -60)
    said = {
        "name": heard.local_name,
        "manufacturer": heard.manufacturer_data,
        "service_data": heard.service_data,
        "services": heard.service_uuids,
    }
    assert {key: said[key] for key in case["expect"]} == case["expect"]
