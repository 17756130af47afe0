"""Pages for those who come with a table, or from another system: what they show is true."""

import json
import re
import tomllib
from pathlib import Path

import yaml
from click.testing import CliRunner

from devicemesh import plugins
from devicemesh.cli.main import app
from devicemesh.spec.manifest import load

ROOT = Path(__file__).parents[2]


def _blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / "docs" / page).read_text(), re.M | re.S)


def test_the_drive_of_those_who_come_from_elsewhere_is_the_same_everywhere() -> None:
    ours, kubeedge, edgex = _blocks("coming-from.md", "yaml")
    found = load({"drive.yaml": ours}, plugins.load().protocols(), lambda namespace, name: None)
    assert found.problems == []
    model, device = (one.body["spec"] for one in found.resources)
    speed, running = (one["address"]["modbus"] for one in model["properties"])
    host = device["endpoint"]["modbus"]["host"]
    (theirs,) = yaml.safe_load_all(kubeedge)
    visited = [one["visitors"]["configData"] for one in theirs["spec"]["properties"]]
    assert [one["offset"] for one in visited] == [speed["offset"], running["offset"]]
    assert theirs["spec"]["protocol"]["configData"]["ip"] == host
    profile, devices = yaml.safe_load_all(edgex)
    assert profile["deviceResources"][0]["attributes"]["startingAddress"] == speed["offset"]
    assert devices["deviceList"][0]["protocols"]["modbus-tcp"]["Address"] == host
    (telegraf,) = (tomllib.loads(text)["inputs"]["modbus"][0] for text in _blocks("coming-from.md", "toml"))
    assert telegraf["holding_registers"][0]["address"] == [speed["offset"]]
    assert telegraf["holding_registers"][0]["scale"] == speed["scale"]
    (gateway,) = (json.loads(text)["master"]["slaves"][0] for text in _blocks("coming-from.md", "json"))
    assert gateway["timeseries"][0]["address"] == speed["offset"]
    assert 1 / gateway["timeseries"][0]["divider"] == speed["scale"]


def test_tables_of_the_docs_are_imported(tmp_path: Path) -> None:
    tables = [*_blocks("coming-from.md", "csv"), *_blocks("import.md", "csv")]
    for text, name in zip(tables, ("drive", "meter"), strict=True):
        (tmp_path / f"{name}.csv").write_text(text.replace("decimal", "scale"))
        words = ["import", str(tmp_path / f"{name}.csv"), "--endpoint", "modbus://192.0.2.5:502/1"]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        if name == "drive":
            assert "{table: holding, offset: 100, type: int16, scale: 0.1}" in done.stdout
        else:
            (shown,) = _blocks("import.md", "yaml")
            assert shown in done.stdout
