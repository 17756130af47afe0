"""The chart's values: its schema knows each of them, and the runtime's settings as they are now."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/devicemesh"
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())


@pytest.fixture(scope="module")
def generate() -> Any:
    spec = importlib.util.spec_from_file_location("generate_chart", ROOT / "deploy/helm/generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_settings_in_the_schema_are_those_of_the_runtime(generate: Any) -> None:
    assert (CHART / "values.schema.json").read_text() == generate.written(), (
        "run: python deploy/helm/generate.py"
    )


def test_every_value_is_in_the_schema_and_no_other() -> None:
    def compare(values: dict[str, Any], schema: dict[str, Any], path: str) -> None:
        assert schema["additionalProperties"] is False, path
        assert set(values) == set(schema["properties"]) - {"global"}, path
        for name, value in values.items():
            below = schema["properties"][name]
            if isinstance(value, dict) and "properties" in below and path == "" and name != "resources":
                compare(value, below, name)

    compare(VALUES, SCHEMA, "")


def test_no_rule_of_the_settings_is_lost(generate: Any) -> None:
    """Titles and defaults are left out; a section that is called like a keyword is not."""
    sections = generate.settings()
    assert set(sections["Settings"]["properties"]) >= {"mqtt", "store", "shards", "outbox", "api"}
    assert all(one["additionalProperties"] is False for one in sections.values())
    assert sections["OutboxSettings"]["properties"]["sync"]["enum"] == ["gentle", "strict"]
    assert sections["ApiSettings"]["properties"]["port"]["maximum"] == 65535
    assert "title" not in json.dumps(sections)
