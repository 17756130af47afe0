"""Taking over subscriptions of a session that was lost (Part 4, 5.13.7)."""

from __future__ import annotations

from collections.abc import Sequence

from devicemesh.mapper import PointError
from devicemesh_opcua.channel import ua
from devicemesh_opcua.left import Left
from devicemesh_opcua.server import Server
from devicemesh_opcua.services import ServiceFaultError

MAX_MISSING = 100
"""Messages that are asked for again after a gap; after a longer one everything is."""
LAST_SEQUENCE = 0xFFFFFFFF


def following(last: int, numbers: Sequence[int]) -> list[int]:
    """The sequence numbers that come after the last one, in their order. Pure."""
    ahead = {(number - last) % LAST_SEQUENCE: number for number in numbers}
    return [ahead[distance] for distance in sorted(ahead) if 0 < distance <= MAX_MISSING]


async def transfer(server: Server, left: Left) -> list[list[int]] | None:
    """Make the subscriptions ours; the messages of each that the server still has. None: it has not.

    The first message after it is to hold the value of every item. Raises LinkError.
    """
    request = ua.TransferSubscriptionsRequest()
    request.Parameters.SubscriptionIds = [one.number for one in left.subscriptions]
    request.Parameters.SendInitialValues = True
    try:
        response = await server.call(request)
    except (ServiceFaultError, PointError):
        return None
    results = getattr(response, "Results", None) or getattr(response.Parameters, "Results", None) or []
    if len(results) != len(left.subscriptions):
        return None
    ours = [one for one in results if not one.StatusCode.value >> 31]
    if len(ours) < len(results):
        taken = [s.number for s, r in zip(left.subscriptions, results, strict=True) if r in ours]
        await server.unsubscribe(taken)
        return None
    return [list(one.AvailableSequenceNumbers or ()) for one in results]
