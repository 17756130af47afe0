"""The README is that of every mapper, its tables those of the models. Run this file to rewrite them."""

from __future__ import annotations

from pathlib import Path

import pytest
from devicemesh_lora.mapper import LoraMapper

from devicemesh.testing.docs import MapperDocs, rewrite

ROOT = Path(__file__).parent.parent


class TestDocs(MapperDocs):
    @pytest.fixture
    def mapper(self) -> LoraMapper:
        return LoraMapper()

    @pytest.fixture
    def root(self) -> Path:
        return ROOT


if __name__ == "__main__":
    rewrite(ROOT / "README.md", LoraMapper())
