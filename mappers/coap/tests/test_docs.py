"""The README is that of every mapper, its tables those of the models. Run this file to rewrite them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from devicemesh_coap.mapper import CoapMapper

from devicemesh.testing.docs import MapperDocs, rewrite

ROOT = Path(__file__).parent.parent


class TestDocs(MapperDocs):
    @pytest.fixture
    def mapper(self) -> CoapMapper:
        return CoapMapper()

    @pytest.fixture
    def root(self) -> Path:
        return ROOT


def test_only_what_connects_knows_the_library() -> None:
    sources = (ROOT / "src" / "devicemesh_coap").glob("*.py")
    importing = [s.name for s in sources if re.search(r"^\s*(from|import) aiocoap\b", s.read_text(), re.M)]
    assert sorted(importing) == ["aiocoap_channel.py", "foreign.py", "oscore.py"]


if __name__ == "__main__":
    rewrite(ROOT / "README.md", CoapMapper())
