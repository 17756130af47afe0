"""What a person writes of a protocol: how a peer is reached, and where a property lives on it."""

from __future__ import annotations

import ipaddress
from abc import abstractmethod
from collections.abc import Hashable
from typing import Literal, Self, TypeVar
from urllib.parse import urlsplit

from devicemesh.spec.base import Numerous, Strict
from devicemesh.spec.values import Scalar, ValueType


class Endpoint(Numerous):
    """How to reach a peer. Frozen; subclass it with the protocol's fields, each with a docstring.

    What only code can check is a Pydantic validator's ValueError, which users see at its place in the YAML.
    """

    @abstractmethod
    def link(self) -> str:
        """Name the shared part, for people too (`10.0.0.5:502`); endpoints of equal names share a session.

        What the peer takes one connection for is in the name (host and port, the serial line); what tells
        devices behind it apart (a unit, a channel, a timeout) is not.
        """

    def text(self) -> str:
        """Name the device, for people: the link, and what tells it from its neighbours there."""
        return self.link()

    def claims(self) -> str | None:
        """Say what only one device of a link can have, for people ("unit 3 of the modem 8650"), or None.

        Override it where two devices of equal claims can only be a mistake: the manifest refuses the second.
        """
        return None

    def listens(self) -> tuple[Literal["tcp", "udp"], str, int] | None:
        """Say where devices dial in or send to, as ("tcp", "0.0.0.0", 5020), or None: we go to them.

        What has to be free on this machine, and open in what stands before it; `devicemesh doctor` looks.
        """
        return None

    @abstractmethod
    def redirect(self, address: str) -> Self:
        """Return this endpoint at another address (`127.0.0.1:15020`, a pty's path), as simulators need.

        The rest of it stays; `link()` names the other address from then on.
        """

    def conflict(self, other: Self) -> str | None:
        """Say on what two endpoints of one link disagree ("baudrate 9600 and 19200"), or None.

        Override it where an endpoint holds more of the link than its name: the manifest refuses devices
        that disagree, and the runtime opens a link anew when this part of it is edited.
        """
        return None


class Address(Strict):
    """Where a property lives on its peer. Frozen; subclass it with the protocol's fields, each documented."""

    def refusal(self, type_: ValueType, access: str) -> str | None:
        """Say why a property of this type and access can't live here, or None.

        `access` is ReadOnly, ReadWrite or WriteOnly. Asked when YAML is checked, before anything connects.
        """
        return None

    def nearest(self, type_: ValueType, value: Scalar) -> Scalar:
        """Return what the peer reports once it holds `value`: a scaled integer, say, has steps.

        A desired value counts as applied when this reads back. Raises ValueError where it can't hold it.
        """
        return value

    def extent(self, type_: ValueType) -> tuple[Hashable, int, int] | None:
        """Return (space, first, last): what lies in another space, or beside it, is no case for `overlap`.

        None, the default where there is an `overlap`: it is asked of every two properties, which takes
        seconds from some thousand on.
        """
        return (id(self), 0, 0) if type(self).overlap is Address.overlap else None

    def overlap(self, other: Self, type_: ValueType, other_type: ValueType) -> str | None:
        """Say how two properties of one device collide (the same bytes read as other things), or None."""
        return None


E = TypeVar("E", bound=Endpoint)
A = TypeVar("A", bound=Address)


def listening_at(listen: str) -> tuple[str, int]:
    """Address and port of `0.0.0.0:5020`, `[::]:5020`. Raises ValueError."""
    parts = urlsplit(f"//{listen}")
    try:
        host, port = parts.hostname or "", parts.port
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        port = None
    if not port or parts.path or parts.query:
        raise ValueError(f"{listen!r} is no address to listen on: write it like 0.0.0.0:PORT or [::]:PORT")
    return host, port
