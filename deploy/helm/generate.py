"""Writes what is derived: what `settings` in the chart's values may be. `python generate.py`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from devicemesh.settings import Settings

SCHEMA = Path(__file__).parent / "devicemesh/values.schema.json"


def settings() -> dict[str, Any]:
    """Every section of the runtime's settings as JSON schema, by name; the whole is `Settings`."""
    schema = Settings.model_json_schema()
    parts = schema.pop("$defs")
    return {name: _plain(part) for name, part in {**parts, "Settings": schema}.items()}


def _plain(schema: Any) -> Any:
    """Without what is no rule: the titles. Defaults are those of the runtime, and stay its own."""
    if isinstance(schema, list):
        return [_plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _plain(value) for key, value in schema.items() if key not in ("title", "default")}
    if "properties" in schema:  # their names are no keywords
        kept["properties"] = {name: _plain(one) for name, one in schema["properties"].items()}
    return kept


def written() -> str:
    """The chart's schema with the settings as they are now."""
    return json.dumps({**json.loads(SCHEMA.read_text()), "$defs": settings()}, indent=2) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(written())
