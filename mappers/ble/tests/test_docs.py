"""The README is that of every mapper, its tables those of the models. Run this file to rewrite them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from devicemesh_ble.mapper import BleMapper

from devicemesh.testing.docs import MapperDocs, rewrite

ROOT = Path(__file__).parent.parent


class TestDocs(MapperDocs):
    @pytest.fixture
    def mapper(self) -> BleMapper:
        return BleMapper()

    @pytest.fixture
    def root(self) -> Path:
        return ROOT


def test_only_one_file_knows_bumble() -> None:
    sources = (ROOT / "src" / "devicemesh_ble").glob("*.py")
    importing = [s.name for s in sources if re.search(r"^\s*(from|import) bumble\b", s.read_text(), re.M)]
    assert importing == ["bumble_host.py"]


if __name__ == "__main__":
    rewrite(ROOT / "README.md", BleMapper())
