"""What every mapper's page must keep, as a suite to inherit: tables of its models, a sound example.

A page has the tables of Endpoint and Address between `<!-- endpoint: generated -->` and `<!-- end -->`, and
those of `command` and `event` where the mapper has such addresses; `rewrite` brings them up to date.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devicemesh.mapper import Mapper
from devicemesh.plugins import shapes
from devicemesh.spec.manifest import load

SECTIONS = [
    "What", "Install", "Example", "Endpoint", "Address", "Writes", "Limits", "Troubleshooting", "Metrics",
]  # fmt: skip
_WORDS = {"string": "text", "integer": "number", "number": "number", "boolean": "true or false"}


def _lines(schema: dict[str, Any], definitions: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """A line of the table for each field; a nested model's fields follow its own."""
    for name, field in schema["properties"].items():
        options = [o for o in field.get("anyOf", [field]) if o.get("type") != "null"]
        nested = [definitions[o["$ref"].rsplit("/")[-1]] for o in options if "$ref" in o]
        nested += [
            definitions[o["items"]["$ref"].rsplit("/")[-1]] for o in options if "$ref" in o.get("items", {})
        ]
        models = [n for n in nested if "properties" in n]
        default = field.get("default")
        shown = (
            "required"
            if name in schema.get("required", [])
            else ""
            if default is None or models
            else f"`{default}`"
        )
        about = " ".join(field["description"].split())
        yield f"| `{prefix}{name}` | {_kind(options, nested)} | {shown} | {about} |"
        for model in models:
            is_list = any("items" in o for o in options)
            yield from _lines(model, definitions, f"{prefix}{name}{'[]' if is_list else ''}.")


def _kind(options: list[dict[str, Any]], nested: list[dict[str, Any]]) -> str:
    words = [w for o in [*options, *nested] for w in o.get("enum", [])]
    if words:
        return ", ".join(f"`{w}`" for w in words)
    one = options[0]
    if one.get("type") == "array":
        return "list"
    if "properties" in (nested or [{}])[0] or one.get("type") == "object":
        return "map"
    bounds = [one[k] for k in ("minimum", "maximum") if k in one]
    text = _WORDS[one["type"]]
    return f"{text}, {bounds[0]} to {bounds[1]}" if len(bounds) == 2 else text


def _table(model: type[Any]) -> str:
    schema = model.model_json_schema()
    head = "| field | what | default | about |\n|---|---|---|---|\n"
    return head + "\n".join(_lines(schema, schema.get("$defs", {})))


def generated(text: str, mapper: Mapper[Any, Any]) -> str:
    """The page with the tables that the mapper's models have now."""
    tables: dict[str, type[Any] | None] = {
        "endpoint": mapper.endpoint_type,
        "address": mapper.address_type,
        "command": mapper.command_type,
        "event": mapper.event_type,
    }
    for name, model in tables.items():
        if model is None:
            continue
        mark = f"<!-- {name}: generated -->"
        before, found, rest = text.partition(mark)
        assert found, f"no place for the table of {name}: {mark}"
        text = f"{before}{mark}\n{_table(model)}\n<!-- end -->{rest.partition('<!-- end -->')[2]}"
    return text


def rewrite(readme: Path, mapper: Mapper[Any, Any]) -> None:
    """Write the tables into the page."""
    readme.write_text(generated(readme.read_text("utf-8"), mapper), "utf-8")


class MapperDocs:
    """Inherit it in a class whose name begins with `Test`, and override the two fixtures."""

    @pytest.fixture
    def mapper(self) -> Mapper[Any, Any]:
        raise NotImplementedError("the test class must override the fixture `mapper`")

    @pytest.fixture
    def root(self) -> Path:
        """The distribution's folder, with README.md and device.example.yaml."""
        raise NotImplementedError("the test class must override the fixture `root`")

    def test_the_tables_are_those_of_the_models(self, mapper: Mapper[Any, Any], root: Path) -> None:
        text = (root / "README.md").read_text("utf-8")
        assert generated(text, mapper) == text, "run the test file itself: it rewrites them"

    def test_the_sections_are_those_of_every_mapper(self, root: Path) -> None:
        text = (root / "README.md").read_text("utf-8")
        assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == SECTIONS

    def test_the_example_is_sound(self, mapper: Mapper[Any, Any], root: Path) -> None:
        name = "device.example.yaml"
        protocols = {mapper.protocol: shapes(mapper)}
        manifest = load({name: (root / name).read_text("utf-8")}, protocols, lambda *_: None)
        assert manifest.problems == []
        assert {found.kind for found in manifest.resources} == {"DeviceModel", "Device"}
