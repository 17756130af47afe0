"""What carries messages to one device and back, whatever lies beneath it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from devicemesh.mapper import LinkError, PointError
from devicemesh_coap.message import Message

Notify = Callable[[Message], None]


class Channel(ABC):
    """A connection with one device. Each request is answered, or raises PointError or LinkError."""

    link: str
    """For people."""
    lost: LinkError | None = None
    """Why it is dead, once it is."""
    last_heard: float = 0.0
    """Loop time of the device's last message."""
    writes: int = 0
    """How often something was written: an answer from before is not used again."""

    @abstractmethod
    async def request(self, message: Message) -> Message:
        """The answer to a request, of any response code; a body of several blocks is the caller's work.

        Raises `PointError` where none came, or none that can be used, and `LinkError` when the link is dead.
        """

    @abstractmethod
    async def observe(self, message: Message, notify: Notify, token: bytes = b"") -> tuple[Message, bytes]:
        """Register for a resource's notifications (RFC 7641): (the first answer, the observation's token).

        Every one of them, the first too if it has an Observe option, is given to `notify` at once, in the
        order of arrival. `token` is that of an observation to be registered anew. Raises as `request` does.
        """

    @abstractmethod
    def forget(self, token: bytes, message: Message) -> None:
        """End an observation; `message` was its request. Nobody waits for what the device says to that."""

    @abstractmethod
    async def ping(self) -> None:
        """Raises `LinkError` where the device does not answer at all."""


def usable(link: str, response: Message) -> Message:
    """The response, unless an option forbids its use. Raises PointError."""
    if response.flaw:
        raise PointError(f"{link} answers with {response.flaw}", reason="Undecodable")
    return response
