"""The README is that of every mapper, its tables those of the models. Run this file to rewrite them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from devicemesh_modbus.mapper import ModbusMapper

from devicemesh.testing.docs import MapperDocs, rewrite

ROOT = Path(__file__).parent.parent


class TestDocs(MapperDocs):
    @pytest.fixture
    def mapper(self) -> ModbusMapper:
        return ModbusMapper()

    @pytest.fixture
    def root(self) -> Path:
        return ROOT


def test_registering_does_not_load_what_speaks_the_protocol() -> None:
    code = (
        "import sys, devicemesh_modbus; (m,) = devicemesh_modbus.devicemesh_mappers();"
        "m.parse_endpoint('modbus://plc/1'); m.parse_address('holding:1');"
        "print([n for n in ('pymodbus', 'serial', 'ssl', 'asyncio') if n in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_only_the_session_knows_the_library() -> None:
    sources = (ROOT / "src" / "devicemesh_modbus").glob("*.py")
    importing = [
        s.name for s in sources if re.search(r"^\s*(from|import) (pymodbus|serial)\b", s.read_text(), re.M)
    ]
    assert importing == ["session.py"]


if __name__ == "__main__":
    rewrite(ROOT / "README.md", ModbusMapper())
