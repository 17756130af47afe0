"""Finds mappers and simulators. One broken distribution never hides the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from devicemesh.mapper import Hooks, Mapper
from devicemesh.spec.base import Protocol

GROUP = "devicemesh"


@dataclass(frozen=True, slots=True)
class Plugin:
    """An installed distribution that registers with us."""

    name: str
    distribution: str
    version: str
    error: str | None = None  # why it could not be loaded


@dataclass(frozen=True, slots=True)
class Plugins:
    """What is installed."""

    mappers: Mapping[str, Mapper[Any, Any]]  # by protocol
    found: list[Plugin]
    manager: pluggy.PluginManager

    def simulators(self) -> dict[str, Any]:
        """Simulators by protocol; a runtime never asks, and so never loads them."""
        return {s.protocol: s for brought in self.manager.hook.devicemesh_simulators() for s in brought}

    def protocols(self) -> dict[str, Protocol]:
        """The shapes that manifests are checked against."""
        return {name: shapes(mapper) for name, mapper in self.mappers.items()}


def shapes(mapper: Mapper[Any, Any]) -> Protocol:
    """What a mapper's manifests are checked against."""
    return Protocol(mapper.endpoint_type, mapper.address_type, mapper.command_type, mapper.event_type)


def load() -> Plugins:
    """Load every entry point of the group `devicemesh`, each by itself."""
    manager = pluggy.PluginManager("devicemesh")
    manager.add_hookspecs(Hooks)
    found = [_register(manager, entry) for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name)]
    mappers = [mapper for brought in manager.hook.devicemesh_mappers() for mapper in brought]
    return Plugins({m.protocol: m for m in mappers}, found, manager)


def _register(manager: pluggy.PluginManager, entry: EntryPoint) -> Plugin:
    distribution = entry.dist.name if entry.dist else entry.value
    version = entry.dist.version if entry.dist else "?"
    try:
        manager.register(entry.load(), name=entry.name)
        manager.check_pending()  # a misspelt hook is a mistake, not silence
    except Exception as error:
        if manager.has_plugin(entry.name):
            manager.unregister(name=entry.name)
        return Plugin(entry.name, distribution, version, f"{type(error).__name__}: {error}")
    return Plugin(entry.name, distribution, version)
