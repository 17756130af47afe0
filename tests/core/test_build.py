"""What a person sees who builds the core without a compiler, or without Python's headers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def build(tmp_path):
    pytest.importorskip("setuptools")

    def run(**environment):
        command = [sys.executable, "setup.py", "--quiet", "build_ext"]
        folders = ["--build-lib", str(tmp_path / "lib"), "--build-temp", str(tmp_path / "temp")]
        merged = {**os.environ, **environment}
        return subprocess.run(
            command + folders, cwd=ROOT, env=merged, capture_output=True, text=True, check=False, timeout=100
        )

    return run


def test_without_a_compiler_the_build_says_what_to_install(build, tmp_path):
    done = build(CC=str(tmp_path / "no-such-cc"))
    assert done.returncode != 0
    assert "sudo apt-get install build-essential python3-dev" in done.stderr
    assert not list(tmp_path.rglob("*.so"))


def test_a_flag_of_the_environment_reaches_the_compiler(build):
    done = build(DEVICEMESH_CFLAGS="-fno-such-flag")
    assert done.returncode != 0
    assert "no-such-flag" in done.stderr


def test_the_core_knows_no_python():
    core = ROOT / "devicemesh/_core"
    glue = {"module.c"} | {path.name for path in core.glob("glue*")}
    for path in [*core.glob("*.c"), *core.glob("*.h")]:
        text = path.read_text(encoding="utf-8")
        assert path.name in glue or ("Python.h" not in text and '"glue' not in text), path.name
