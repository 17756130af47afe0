"""Finds mappers and simulators. One broken distribution never hides the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

import pluggy

from devicemesh.mapper import Hooks, Mapper
from devicemesh.spec.base import Protocol

log = logging.getLogger("devicemesh.plugins")
GROUP = "devicemesh"
_BROKEN = (Exception, SystemExit)
"""What a distribution of others may raise while it is loaded: some leave where a library is missing."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """An installed distribution that registers with us."""

    name: str
    distribution: str
    version: str
    error: str | None = None  # why it could not be loaded
    protocols: tuple[str, ...] = ()  # of its mappers


@dataclass(frozen=True, slots=True)
class Plugins:
    """What is installed."""

    mappers: Mapping[str, Mapper[Any, Any]]  # by protocol
    found: list[Plugin]
    manager: pluggy.PluginManager

    def simulators(self) -> dict[str, Any]:
        """Simulators by protocol; a runtime never asks, and so never loads them."""
        found: dict[str, Any] = {}
        for impl in self.manager.hook.devicemesh_simulators.get_hookimpls():
            bring: Callable[[], Iterable[Any]] = cast("Any", impl.function)
            try:
                found |= {one.protocol: one for one in bring()}
            except _BROKEN as error:
                log.error("the simulators of %s can't be loaded: %s", impl.plugin_name, _told(error))
        return found

    def simulating(self) -> set[str]:
        """Names of the plugins that bring simulators; none is loaded."""
        return {impl.plugin_name for impl in self.manager.hook.devicemesh_simulators.get_hookimpls()}

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
    mappers: dict[str, Mapper[Any, Any]] = {}
    entries = sorted(entry_points(group=GROUP), key=lambda e: e.name)
    found = [_register(manager, entry, mappers) for entry in entries]
    return Plugins(mappers, found, manager)


def _register(manager: pluggy.PluginManager, entry: EntryPoint, mappers: dict[str, Any]) -> Plugin:
    """Take what an entry point brings, all of it or nothing."""
    distribution = entry.dist.name if entry.dist else entry.value
    version = entry.dist.version if entry.dist else "?"
    plugin = Plugin(entry.name, distribution, version)
    loaded = None
    try:
        loaded = entry.load()
        manager.register(loaded, name=entry.name)
        manager.check_pending()  # a misspelt hook is a mistake, not silence
        brought = _brought(manager, entry.name, mappers)
    except _BROKEN as error:
        if loaded is not None and manager.get_plugin(entry.name) is loaded:
            manager.unregister(name=entry.name)
        return replace(plugin, error=_told(error))
    mappers |= brought
    return replace(plugin, protocols=tuple(brought))


def _brought(manager: pluggy.PluginManager, name: str, others: Iterable[str]) -> dict[str, Mapper[Any, Any]]:
    """The mappers of one plugin. Its hook is called alone: called together, one that raises ends all."""
    brought: dict[str, Mapper[Any, Any]] = {}
    for impl in manager.hook.devicemesh_mappers.get_hookimpls():
        bring: Callable[[], Iterable[Any]] = cast("Any", impl.function)
        for mapper in bring() if impl.plugin_name == name else ():
            if not isinstance(mapper, Mapper):
                raise TypeError(f"{mapper!r} is no mapper")
            shapes(mapper)
            if mapper.protocol in others:
                raise ValueError(f"another mapper speaks {mapper.protocol} already")
            brought[mapper.protocol] = mapper
    return brought


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
