"""Docs are held against the code."""

from pathlib import Path

from devicemesh.cli.main import COMMANDS
from devicemesh.spec.codes import CODES

ROOT = Path(__file__).parent.parent


def test_every_error_code_has_its_text_in_the_docs() -> None:
    text = (ROOT / "docs/errors.md").read_text()
    for code, meaning in CODES.items():
        assert f"## {code}\n\n{meaning}\n" in text


def test_the_folders_named_in_the_architecture_exist() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    for room in ("spec", "store", "sink", "runtime", "api", "cli", "testing", "_core"):
        assert f"  {room}/" in text
        assert (ROOT / "devicemesh" / room).is_dir()
    for path in (ROOT / "mappers").iterdir():
        assert f"mappers/{path.name}/" in text


def test_links_of_the_readme_lead_somewhere() -> None:
    import re

    for file in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", file.read_text()):
            if "://" not in target:
                assert (file.parent / target).exists(), f"{file.name}: {target}"


def test_commands_named_in_the_docs_exist() -> None:
    import re

    for file in (ROOT / "README.md", ROOT / "simulators/README.md", *(ROOT / "docs").glob("*.md")):
        for command in re.findall(r"(?:^|`)devicemesh(?: --home \S+)? ([a-z]+)", file.read_text(), re.M):
            assert command in COMMANDS, f"{file.name}: devicemesh {command}"
