"""The models that SunSpec publishes, out of pysunspec2, which is used as a folder of JSON and not run."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

INSTALL = "pip install 'devicemesh-modbus[sunspec]'"


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a model (SunSpec Device Information Model Specification, 4.2)."""

    name: str
    label: str
    type: str  # int16, acc32, enum16, bitfield32, sunssf, string, ...
    size: int  # registers
    units: str
    scale: str | int | None  # the name of the point that has the exponent, or the exponent
    symbols: Mapping[int, str]  # of an enum: code -> name
    writable: bool
    static: bool  # it does not change while the device runs


@dataclass(frozen=True, slots=True)
class Group:
    """Points in a row, then groups; `count` of them: a number, a point's name, or 0: as many as there are."""

    name: str
    points: Sequence[Point]
    groups: Sequence[Group]
    count: int | str

    @property
    def size(self) -> int:
        """Registers of its own points."""
        return sum(point.size for point in self.points)


def folder() -> Path | None:
    """Where the definitions are, or None where pysunspec2 is not installed."""
    found = find_spec("sunspec2")
    places = list(found.submodule_search_locations or ()) if found is not None else []
    return Path(places[0], "models", "json") if places else None


@functools.lru_cache(256)
def model(number: int) -> Group | None:
    """A model by its number; None for one that is not published. Raises LookupError without pysunspec2."""
    where = folder()
    if where is None:
        raise LookupError(INSTALL)
    try:
        text = (where / f"model_{number}.json").read_text("utf-8")
    except FileNotFoundError:
        return None
    return _group(json.loads(text)["group"])


def _group(raw: Mapping[str, Any]) -> Group:
    points = [_point(one) for one in raw.get("points", ())]
    groups = [_group(one) for one in raw.get("groups", ())]
    return Group(raw["name"], points, groups, raw.get("count", 1))


def _point(raw: Mapping[str, Any]) -> Point:
    symbols = {int(one["value"]): one["name"] for one in raw.get("symbols", ())}
    return Point(
        name=raw["name"],
        label=raw.get("label") or raw.get("desc") or "",
        type=raw["type"],
        size=raw["size"],
        units=raw.get("units") or "",
        scale=raw.get("sf"),
        symbols=symbols if raw["type"].startswith("enum") else {},
        writable=raw.get("access") == "RW",
        static=raw.get("static") == "S",
    )
