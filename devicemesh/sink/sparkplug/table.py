"""The metrics of a device as the C core takes them: what leaves in bulk takes no Python per value.

`encode_sparkplug` knows only what is usual: metrics that are declared, values of their types. All else it
leaves to `told` and `wire`, its readable twins; what it does write they would have written, byte for byte.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from devicemesh.aggregate import MASK, encode_sparkplug, kind
from devicemesh.sink.base import Declaration
from devicemesh.sink.sparkplug.metrics import Metrics, metrics_of
from devicemesh.sink.told import QUIET
from devicemesh.spec.device import Property
from devicemesh.spec.statistics import MAX_QUANTILES, STATISTICS, percent_of
from devicemesh.spec.values import ValueType

_NONE = 0xFFFFFFFF
_NOTHING = (_NONE, 0)
_ROW = 1 + 2 * (3 + len(MASK)) + 3 * MAX_QUANTILES  # numbers of a property
_KEPT = 16  # tables of one Metrics: streams get new properties, and records remember their names
_KEPT_SHAPES = 1024


class Table:
    """Of one `Metrics` whose properties are these."""

    def __init__(self, metrics: Metrics, properties: Sequence[Property]) -> None:
        self.metrics = metrics
        self._properties = {prop.name: prop for prop in properties}
        self._names = tuple(name.encode() for name in metrics)
        self._tables: dict[tuple[str, ...], array[int]] = {}

    def encode(
        self, body: bytes, names: Sequence[str], first_alias: int | None, late: bool, now_ms: int
    ) -> bytes | None:
        """A payload without a sequence number, or None: see above. `names` are of the record's properties."""
        key = tuple(names)
        table = self._tables.get(key)
        if table is None:
            if len(self._tables) >= _KEPT:
                self._tables.clear()
            rows = [self._row(name) for name in key]
            table = self._tables[key] = array("I", [number for row in rows for number in row])
        by_name = self._names if first_alias is None else None
        return encode_sparkplug(body, table, by_name, first_alias or 0, late, now_ms)

    def _row(self, name: str) -> list[int]:
        """`struct sparkplug_property` (sparkplug.h)."""
        prop = self._properties.get(name)
        if prop is None:
            return [_NONE] * _ROW
        structured = prop.type == ValueType.JSON  # its strings are not told as they are
        row = [int(kind(prop.type)), *(_NOTHING if structured else self._metric(name))]
        for statistic in ("count", "bad", *MASK):
            row += self._metric(f"{name}/{statistic}")
        quantiles = [one for one in prop.telemetry.statistics if one not in STATISTICS][:MAX_QUANTILES]
        for one in quantiles:
            row += [int(1000 * percent_of(one)), *self._metric(f"{name}/{one}")]
        return row + [_NONE, *_NOTHING] * (MAX_QUANTILES - len(quantiles))

    def _metric(self, name: str) -> tuple[int, int]:
        found = self.metrics.get(name)
        return (found.offset, int(found.type)) if found is not None else _NOTHING


class Shapes:
    """One table for all devices that are alike."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Declaration, Table, frozenset[str]]] = {}  # by id of properties

    def of(self, declaration: Declaration) -> tuple[Table, frozenset[str]]:
        """The table of such a device, and its properties that are quiet."""
        found = self._known.get(id(declaration.properties))
        if found is None or found[0].properties is not declaration.properties:
            if len(self._known) >= _KEPT_SHAPES:
                self._known.clear()
            quiet = {name for name, one in declaration.properties.items() if one.telemetry.report in QUIET}
            table = Table(metrics_of(declaration), list(declaration.properties.values()))
            found = self._known[id(declaration.properties)] = (declaration, table, frozenset(quiet))
        return found[1:]
