"""README.md has the sections of every mapper's page and tables of the models. Run this file to rewrite them.

Replace: nothing.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from devicemesh_scpi.mapper import ScpiMapper

from devicemesh.testing.docs import MapperDocs, rewrite

ROOT = Path(__file__).parent.parent


class TestDocs(MapperDocs):
    @pytest.fixture
    def mapper(self) -> ScpiMapper:
        return ScpiMapper()

    @pytest.fixture
    def root(self) -> Path:
        return ROOT


def test_registering_loads_nothing_that_speaks() -> None:
    code = (
        "import sys, devicemesh_scpi; (mapper,) = devicemesh_scpi.devicemesh_mappers();"
        "print([n for n in ('devicemesh_scpi.session', 'devicemesh_scpi.simulator', 'asyncio') if n in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_only_the_session_does_io() -> None:
    sources = (ROOT / "src" / "devicemesh_scpi").glob("*.py")
    doing = {
        s.name for s in sources if re.search(r"^\s*(from|import) (asyncio|socket)\b", s.read_text(), re.M)
    }
    assert doing <= {"session.py", "simulator.py"}


if __name__ == "__main__":
    rewrite(ROOT / "README.md", ScpiMapper())
