"""Docs are held against the code."""

import dataclasses
import importlib
import re
from pathlib import Path

import yaml

from devicemesh import mapper, plugins
from devicemesh.cli.main import COMMANDS
from devicemesh.cli.new import files
from devicemesh.settings import Settings
from devicemesh.spec.codes import CODES
from devicemesh.spec.device import Property
from devicemesh.spec.manifest import load
from devicemesh.spec.statistics import STATISTICS
from devicemesh.spec.telemetry import Telemetry

ROOT = Path(__file__).parent.parent


def test_every_error_code_has_its_text_in_the_docs() -> None:
    text = (ROOT / "docs/errors.md").read_text()
    for code, meaning in CODES.items():
        assert f"## {code}\n\n{meaning}\n" in text


def test_the_folders_named_in_the_architecture_exist() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    for room in ("spec", "store", "sink", "runtime", "api", "cli", "testing", "template", "_core"):
        assert f"  {room}/" in text
        assert (ROOT / "devicemesh" / room).is_dir()
    for path in (ROOT / "mappers").iterdir():
        assert f"mappers/{path.name}/" in text


def test_links_of_the_readme_lead_somewhere() -> None:
    for file in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", file.read_text()):
            if "://" not in target:
                assert (file.parent / target).exists(), f"{file.name}: {target}"


def test_commands_named_in_the_docs_exist() -> None:
    for file in (ROOT / "README.md", ROOT / "simulators/README.md", *(ROOT / "docs").glob("*.md")):
        for command in re.findall(r"(?:^|`)devicemesh(?: --home \S+)? ([a-z]+)", file.read_text(), re.M):
            assert command in COMMANDS, f"{file.name}: devicemesh {command}"


def test_the_device_of_the_readme_is_a_good_one_in_ten_lines() -> None:
    text = (ROOT / "README.md").read_text()
    manifest = text.split("```yaml\n")[1].split("```")[0]
    assert len(manifest.splitlines()) <= 10
    found = load({"README.md": manifest}, plugins.load().protocols(), lambda namespace, name: None)
    assert found.problems == []
    assert [r.kind for r in found.resources] == ["DeviceModel", "Device"]


def test_statistics_are_those_of_the_docs_and_their_example_is_good() -> None:
    text = (ROOT / "docs/statistics.md").read_text()
    first_cells = " ".join(re.findall(r"^\| (`.+?) \|", text, re.M))
    assert set(re.findall(r"`([a-zA-Z]+)`", first_cells)) == set(STATISTICS)
    explained = Telemetry.model_fields["statistics"].description or ""
    assert set(STATISTICS) <= set(re.findall(r"\w+", explained))
    properties = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert {Property.model_validate(each).telemetry.report for each in properties} == {"window"}


def test_settings_shown_in_the_docs_are_settings() -> None:
    text = (ROOT / "docs/operate.md").read_text()
    shown = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    settings = Settings.model_validate(shown)
    assert settings.mqtt.username == "gateway-7"


def test_metrics_named_in_the_docs_exist() -> None:
    code = (ROOT / "devicemesh/api/metrics.py").read_text()
    for name in re.findall(r"devicemesh_([a-z_]+)", (ROOT / "docs/operate.md").read_text()):
        assert f"{name.removesuffix('_total')}" in code, name


def test_code_of_the_page_on_mappers_is_that_of_the_template() -> None:
    text = (ROOT / "docs/mapper.md").read_text()
    written = {path: content.decode() for path, content in files("acme").items()}
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) >= 5
    for block in blocks:
        assert any(block in source for source in written.values()), f"nowhere in the template:\n{block}"
    for name in re.findall(r"`((?:tests|src)/\S+|[\w.]+\.(?:py|md|toml|yaml))`", text):
        assert any(name.rstrip("/") in path for path in written), f"the template has no {name}"


def test_the_page_on_mappers_names_what_there_is() -> None:
    text = (ROOT / "docs/mapper.md").read_text()

    def listed(title: str) -> set[str]:
        """The words in backticks that begin the rows of the section's tables."""
        section = text.split(f"## {title}")[1].split("\n## ")[0]
        return set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`[^|]*?) \|", section, re.M))))

    kinds = {name: kind for name, kind in vars(mapper).items() if isinstance(kind, type)}
    capabilities = {n for n, k in kinds.items() if issubclass(k, mapper.Session) and k is not mapper.Session}
    assert listed("What a session can do") == capabilities
    assert listed("Errors") == {n for n, k in kinds.items() if mapper.MapperError in k.__bases__}
    columns, qualities = (
        {field.name for field in dataclasses.fields(mapper.Batch)},
        set(mapper.Quality.__members__),
    )
    of_history = {"FROM_HISTORY", "UNCERTAIN_FROM_HISTORY", "BAD"}
    assert listed("Batch") == columns | qualities - of_history
    for path in set(re.findall(r"`devicemesh((?:\.\w+)+)`", text)):
        module, _, name = f"devicemesh{path}".rpartition(".")
        found = importlib.import_module(module)
        assert hasattr(found, name) or importlib.import_module(f"{module}.{name}"), path


def test_settings_in_the_docs_are_good_ones() -> None:
    found = 0
    for file in ("docs/sparkplug.md", "docs/home-assistant.md", "docs/thingsboard.md"):
        for example in re.findall(r"```yaml\n(.*?)```", (ROOT / file).read_text(), re.S):
            Settings.model_validate(yaml.safe_load(example))
            found += 1
    assert found >= 3
