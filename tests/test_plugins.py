"""Distributions of others that are broken in one way or another: none hides those that are not."""

import sys
from pathlib import Path

import pytest

from devicemesh import plugins

BROKEN = {
    "raises": ("raise RuntimeError('no libfoo')", "RuntimeError: no libfoo"),
    "leaves": ("import sys; sys.exit('needs libfoo')", "SystemExit: needs libfoo"),
    "hook": ("def devicemesh_mappers(): import nothing_here", "ModuleNotFoundError"),
    "stranger": ("def devicemesh_mappers(): return [object()]", "is no mapper"),
    "misspelt": ("def devicemesh_mapers(): return []", "unknown hook"),
    "second": (
        "def devicemesh_mappers():\n    from devicemesh_modbus.mapper import ModbusMapper\n"
        "    return [ModbusMapper()]",
        "another mapper speaks modbus already",
    ),
}


def install(folder: Path, name: str, code: str) -> None:
    """Put a distribution with one entry point into a folder."""
    marked = code.replace("def ", "from devicemesh.mapper import hookimpl\n@hookimpl\ndef ", 1)
    (folder / f"{name}.py").write_text(marked + "\n")
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[devicemesh]\n{name} = {name}\n")


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_distribution_hides_nobody(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, why = BROKEN[kind]
    name = f"zz_{kind}"
    install(tmp_path, name, code)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = plugins.load()
    assert "modbus" in found.mappers
    errors = {plugin.name: plugin.error or "" for plugin in found.found if plugin.error}
    assert list(errors) == [name]
    assert why in errors[name]
    assert "modbus" in found.simulators()
    sys.modules.pop(name, None)


def test_broken_simulators_hide_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    install(tmp_path, "zz_simulators", "def devicemesh_simulators(): raise RuntimeError('no libfoo')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "modbus" in plugins.load().simulators()
    assert "zz_simulators can't be loaded: RuntimeError: no libfoo" in caplog.text
    sys.modules.pop("zz_simulators", None)
