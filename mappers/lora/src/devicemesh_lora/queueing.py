"""Payloads that wait for their device: a device of class A listens only after it has spoken."""

from __future__ import annotations

import asyncio

from devicemesh.mapper import PointError
from devicemesh.spec.values import duration_ns
from devicemesh_lora.model import LoraEndpoint
from devicemesh_lora.node import Downlink, Node

MOST_QUEUED = 16
"""Downlinks that wait for one device."""
MOST_BYTES = 222


def enqueue(node: Node, made: Downlink) -> Downlink:
    """Take a payload in; one of the same key gives it its place. Raises PointError.

    The same payload again is the one that waits already.
    """
    if len(made.payload) > MOST_BYTES:
        why = f"{len(made.payload)} bytes do not fit a downlink: {MOST_BYTES} at most"
        raise PointError(why, reason="TooLarge")
    for at, waiting in enumerate(node.waiting()):
        if made.key is None or waiting.key != made.key:
            continue
        if (waiting.payload, waiting.port) == (made.payload, made.port):
            return waiting
        waiting.done.cancel()
        node.queue[at] = made
        return made
    if len(node.queue) >= MOST_QUEUED:
        why = f"{MOST_QUEUED} downlinks wait for {node.endpoint.eui} already"
        raise PointError(why, reason="QueueFull", again_s=60)
    node.queue.append(made)
    return made


async def delivered(endpoint: LoraEndpoint, queued: Downlink) -> str:
    """The EUI of the gateway that has sent it. Raises PointError where none has within `writeTimeout`."""
    try:
        async with asyncio.timeout(duration_ns(endpoint.write_timeout) / 1e9):
            return await asyncio.shield(queued.done)
    except TimeoutError:
        why = f"{endpoint.eui} was not heard within {endpoint.write_timeout}: queued for its next uplink"
        raise PointError(why, reason="NoAnswer") from None
    except asyncio.CancelledError:
        if queued.done.cancelled():
            raise PointError("a newer value has taken its place", reason="Replaced") from None
        raise
