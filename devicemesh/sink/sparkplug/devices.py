"""What an Edge Node knows of its devices. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count

from devicemesh.sink.sparkplug.metrics import NO_METRICS, Metrics
from devicemesh.sink.sparkplug.table import Table
from devicemesh.sink.sparkplug.wire import Type
from devicemesh.sink.told import Told, reported

ALIAS_BITS = 20
"""Of an alias; those above them are the device's number, so that no two metrics of a node share one."""
_ALIVE = ("Ready", "Degraded")


@dataclass(slots=True, eq=False)
class NodeDevice:
    """One of them. `there`: hosts know it, on this connection; `born`: as it is now; `alive`: they should."""

    number: int  # of these metrics: none of them shares its alias with one of yesterday's model
    metrics: Metrics = field(default_factory=lambda: NO_METRICS)
    table: Table | None = None  # of the metrics, where all of them are declared
    quiet: frozenset[str] = frozenset()
    declared: bool = False
    alive: bool = False
    there: bool = False
    born: bool = False
    told_s: float = 0.0  # when data of it went out last, on the loop's clock
    twin: bytes = b""  # the newest `twin/reported`
    standing: dict[str, Told] = field(default_factory=dict)  # alarms, as they were told last
    shown: dict[str, Told] = field(default_factory=dict)  # quiet properties, as they were told last

    def learn(self, unknown: Mapping[str, Type]) -> None:
        """Have metrics that nothing declares: hosts have to be told."""
        self.metrics, self.table, self.born = self.metrics.with_unknown(unknown), None, False

    def state(self, payload: bytes) -> None:
        """Take a `status`; b"" is the end."""
        self.alive = bool(payload) and json.loads(payload)["state"] in _ALIVE
        if not payload:
            self.declared = False
            self.standing.clear()

    def known(self) -> dict[str, Told]:
        """The newest values, by metric."""
        return {**{told.name: told for told in self._reported()}, **self.standing}

    def _reported(self) -> Iterator[Told]:
        return reported(json.loads(self.twin)) if self.twin else iter(())

    def news(self) -> list[Told]:
        """What of the quiet properties is otherwise than told last."""
        if not self.quiet:
            return []
        values = [told for told in self._reported() if told.name in self.quiet]
        changed = [told for told in values if self.shown.get(told.name) != told]
        self.shown.update({told.name: told for told in changed})
        return changed


def parts_of_alias(alias: int) -> tuple[int, int]:
    """(number of the device, offset of the metric)."""
    return alias >> ALIAS_BITS, alias & (1 << ALIAS_BITS) - 1


class NodeDevices:
    """All of them by name ("namespace/name")."""

    def __init__(self) -> None:
        self._all: dict[str, NodeDevice] = {}
        self._numbers = count(1)

    def __getitem__(self, name: str) -> NodeDevice:
        """A device that is asked for exists: records of one may wait that is not declared any more."""
        known = self._all.get(name)
        if known is None:
            known = self._all[name] = NodeDevice(next(self._numbers))
        return known

    def __iter__(self) -> Iterator[tuple[str, NodeDevice]]:
        return iter(list(self._all.items()))

    def find(self, name: str) -> NodeDevice | None:
        """One that is known."""
        return self._all.get(name)

    def redeclare(self, name: str, table: Table, quiet: frozenset[str]) -> NodeDevice:
        """It has other metrics from now on, under a number of their own."""
        known = self[name]
        known.number, known.born = next(self._numbers), False
        known.metrics, known.table, known.quiet = table.metrics, table, quiet
        known.standing = {at: told for at, told in known.standing.items() if at in table.metrics}
        return known

    def forget(self, name: str) -> None:
        """Nothing of it is told any more."""
        self._all.pop(name, None)
