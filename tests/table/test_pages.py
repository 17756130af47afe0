"""Pages for those who come with a table, or from another system: what they show is true."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from devicemesh import plugins
from devicemesh.cli.main import app
from devicemesh.spec.device import Device, DeviceModel
from devicemesh.spec.manifest import load

ROOT = Path(__file__).parents[2]


def _blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / "docs" / page).read_text(), re.M | re.S)


def _ours() -> tuple[DeviceModel, Device]:
    """The drive of the page, in our words."""
    ours = _blocks("coming-from.md", "yaml")[0]
    found = load({"drive.yaml": ours}, plugins.load().protocols(), lambda namespace, name: None)
    assert found.problems == []
    model, device = (one.body for one in found.resources)
    return DeviceModel.model_validate(model), Device.model_validate(device)


SAYS_ALL = {"unit", "access", "minimum", "maximum", "report"}
OTHERS = {  # what a system does not say of a property: what Modbus carries is the same for all
    "kubeedge": ("yaml", 1, SAYS_ALL - {"report"}),
    "edgex": ("yaml", 2, SAYS_ALL),
    "telegraf": ("toml", 0, set()),
    "neuron": ("json", 0, {"access", "report"}),
    "thingsboard": ("json", 1, {"access", "report"}),
}


@pytest.mark.parametrize("system", OTHERS)
def test_the_drive_of_those_who_come_from_elsewhere_becomes_ours(system: str, tmp_path: Path) -> None:
    language, index, said = OTHERS[system]
    (tmp_path / f"theirs.{language}").write_text(_blocks("coming-from.md", language)[index])
    words = ["import", str(tmp_path / f"theirs.{language}"), "-o", str(tmp_path / "out.yaml")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    text = (tmp_path / "out.yaml").read_text()
    found = load({"out.yaml": text}, plugins.load().protocols(), lambda namespace, name: None)
    assert found.problems == []
    model, device = (one.body for one in found.resources)
    ours, our_device = _ours()
    assert model["metadata"]["name"] == ("drive-1" if system in ("telegraf", "neuron") else "drive")
    assert device["metadata"] == {"name": "drive-1"}
    patient = {key: one for key, one in device["spec"]["endpoint"]["modbus"].items() if key != "timeout"}
    assert patient == our_device.spec.endpoint["modbus"]
    theirs = {one.name: one for one in DeviceModel.model_validate(model).spec.properties}
    assert theirs.keys() == {one.name for one in ours.spec.properties}
    for prop in ours.spec.properties:
        other = theirs[prop.name]
        assert other.address["modbus"] == prop.address["modbus"]
        assert other.type in (prop.type, "float64" if prop.type == "float32" else prop.type)
        assert other.telemetry.sampling_interval == prop.telemetry.sampling_interval
        told = {"report": (other.telemetry.report, prop.telemetry.report)}
        told |= {key: (getattr(other, key), getattr(prop, key)) for key in SAYS_ALL - {"report"}}
        assert all(one == another for key, (one, another) in told.items() if key in said), told


def test_tables_of_the_docs_are_imported(tmp_path: Path) -> None:
    tables = _blocks("import.md", "csv")
    for text, name in zip(tables, ("meter",), strict=True):
        (tmp_path / f"{name}.csv").write_text(text)
        words = ["import", str(tmp_path / f"{name}.csv"), "--endpoint", "modbus://192.0.2.5:502/1"]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        (shown,) = _blocks("import.md", "yaml")
        assert shown in done.stdout
