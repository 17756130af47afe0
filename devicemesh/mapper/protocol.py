"""A protocol, and how a distribution brings it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic

import pluggy

from devicemesh.mapper.address import A, E
from devicemesh.mapper.data import Found
from devicemesh.mapper.errors import Secrets, no_secrets
from devicemesh.mapper.session import Session
from devicemesh.spec.base import Strict

hookspec = pluggy.HookspecMarker("devicemesh")
hookimpl = pluggy.HookimplMarker("devicemesh")


class Mapper(ABC, Generic[E, A]):
    """A protocol. Stateless; one instance serves every link."""

    protocol: str
    schemes: Sequence[str] = ()
    """Schemes of its URIs beside the protocol's name, as in coaps; a `+tcp` behind one need not be named."""
    endpoint_type: type[E]
    address_type: type[A]
    command_type: type[Strict] | None = None
    """Where a command that is a call lives; None: its sessions are not `Invocable`."""
    event_type: type[Strict] | None = None
    """Where a device tells of events; None: its sessions are not `Notifying`."""

    @abstractmethod
    def open(self, endpoint: E, secrets: Secrets = no_secrets) -> AbstractAsyncContextManager[Session[E, A]]:
        """Connect to the endpoint's link, when entered: `LinkError`, `AuthError` or `ConfigError`.

        Of the endpoint only what `link()` names and `conflict()` compares counts here: it is that of one of
        the devices, and each point brings its own. Leaving closes everything, whatever ends the block. A
        secret that was read here and changes later makes the runtime open the link anew.
        """

    @abstractmethod
    def parse_endpoint(self, uri: str) -> E:
        """Read an endpoint from its URI form. Raises `ConfigError`."""

    @abstractmethod
    def parse_address(self, text: str) -> A:
        """Read an address from its short form (`holding:100`). Raises `ConfigError`."""

    @abstractmethod
    def discover(self, uri: str, secrets: Secrets = no_secrets) -> AsyncIterator[Found]:
        """Look for peers behind `uri`, or inside one peer. Yields nothing where the protocol cannot."""


class Hooks:
    """Hooks register; no reading ever passes through one."""

    @hookspec
    def devicemesh_mappers(self) -> Sequence[Mapper[Any, Any]]:  # type: ignore[empty-body]
        """Return the mappers that this distribution brings."""

    @hookspec
    def devicemesh_simulators(self) -> Sequence[Any]:  # type: ignore[empty-body]
        """Return the simulators that this distribution brings (`devicemesh.testing.simulator.Simulator`)."""
