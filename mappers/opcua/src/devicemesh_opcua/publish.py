"""Publish requests of a session: some are always waiting at the server, so that it can send at any moment."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from devicemesh.mapper import LinkError
from devicemesh_opcua import services
from devicemesh_opcua import status as codes
from devicemesh_opcua.binary import DecodeError
from devicemesh_opcua.channel import ua
from devicemesh_opcua.server import Server
from devicemesh_opcua.services import Published, ServiceFaultError

WAITING = 4
"""Requests at the server at once: one is used up for each message, and the way back takes its time."""


class Publisher:
    """Owns them, whoever subscribes: a request outlives the subscription that it was sent for."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._answers: asyncio.Queue[tuple[int, asyncio.Future[Any]]] = asyncio.Queue()
        self._wanted = WAITING
        self._waiting = 0
        self._epoch = 0  # of those who subscribe: an answer "no subscription" to an older one says nothing
        self._acknowledge: list[tuple[int, int]] = []

    def begin(self) -> None:
        """There is a new set of subscriptions."""
        self._epoch += 1
        self._acknowledge.clear()

    def fill(self) -> None:
        """Send what is missing. Raises LinkError."""
        while self._waiting < self._wanted:
            parameters = services.publish_request(self._acknowledge)
            try:
                future = self._server.connection.channel.post(services.PUBLISH_REQUEST, parameters, 0.0)
            except ConnectionError as error:
                raise self._server.over(error) from error
            self._acknowledge.clear()
            self._waiting += 1
            future.add_done_callback(functools.partial(self._answered, self._epoch))

    def _answered(self, epoch: int, answer: asyncio.Future[Any]) -> None:
        if not answer.cancelled():
            answer.exception()  # seen, also where nobody subscribes any more
        self._answers.put_nowait((epoch, answer))

    def acknowledge(self, subscription: int, sequence: int) -> None:
        """Tell the server, with the next request, that it need not keep this message."""
        self._acknowledge.append((subscription, sequence))

    async def next(self) -> Published | None:
        """The next message; None where an answer had none. Raises LinkError."""
        epoch, done = await self._answers.get()
        self._waiting -= 1
        try:
            return services.publish_response(bytes(done.result()))
        except (ConnectionError, ua.UaError, asyncio.CancelledError) as error:
            raise self._server.over(error if isinstance(error, Exception) else LinkError("")) from error
        except DecodeError as error:
            raise LinkError(f"{self._server.link} sent a notification that can't be read: {error}") from error
        except ServiceFaultError as fault:
            self._judge(fault, epoch)
            return None

    def _judge(self, fault: ServiceFaultError, epoch: int) -> None:
        """Go on after a fault, or raise LinkError."""
        status = fault.status & 0xFFFF0000
        if status == codes.BAD_TOO_MANY_PUBLISH_REQUESTS and self._wanted > 1:
            self._wanted -= 1
            return
        if status == codes.BAD_TIMEOUT or (status == codes.BAD_NO_SUBSCRIPTION and epoch != self._epoch):
            return
        self._server.check(fault)
        raise LinkError(
            f"{self._server.link} has ended the subscription ({codes.text(fault.status)})"
        ) from fault
