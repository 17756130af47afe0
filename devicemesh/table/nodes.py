"""Data whose parts remember the cells they came from, as a document: what checks it points into the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from devicemesh.spec.places import Document
from devicemesh.table.reading import Cell

Loc = tuple[str | int, ...]


def document(path: str, data: Any, cells: Mapping[Loc, Cell], start: Cell) -> Document:
    """`data` as a document; `cells`: path -> cell. What has none stands where its parent does."""
    return Document(path, 0, _node(path, data, (), cells, start), data)


def _node(path: str, data: Any, loc: Loc, cells: Mapping[Loc, Cell], above: Cell) -> yaml.Node:
    cell = cells.get(loc, above)
    begin, end = _mark(path, cell, 0), _mark(path, cell, cell.width)
    if isinstance(data, dict):
        pairs = [
            (
                yaml.ScalarNode("", str(key), *_marks(path, cells.get((*loc, key), cell))),
                _node(path, value, (*loc, key), cells, cell),
            )
            for key, value in data.items()
        ]
        return yaml.MappingNode("", pairs, begin, end)
    if isinstance(data, list):
        items = [_node(path, one, (*loc, index), cells, cell) for index, one in enumerate(data)]
        return yaml.SequenceNode("", items, begin, end)
    return yaml.ScalarNode("", str(data), begin, end)


def _marks(path: str, cell: Cell) -> tuple[yaml.Mark, yaml.Mark]:
    return _mark(path, cell, 0), _mark(path, cell, cell.width)


def _mark(path: str, cell: Cell, further: int) -> yaml.Mark:
    return yaml.Mark(path, 0, cell.line - 1, cell.column - 1 + further, None, 0)
