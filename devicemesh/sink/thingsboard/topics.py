"""The topics of ThingsBoard's gateway API, and what devices are called there. Pure."""

from __future__ import annotations

from devicemesh.sink.topics import device_of, identity

TELEMETRY, ATTRIBUTES, RPC = "v1/gateway/telemetry", "v1/gateway/attributes", "v1/gateway/rpc"
CONNECT, DISCONNECT = "v1/gateway/connect", "v1/gateway/disconnect"
ATTRIBUTES_REQUEST, ATTRIBUTES_RESPONSE = f"{ATTRIBUTES}/request", f"{ATTRIBUTES}/response"
OWN = "v1/devices/me/"
"""Of the gateway, which is a device of its own."""
OWN_TELEMETRY, OWN_ATTRIBUTES = OWN + "telemetry", OWN + "attributes"
OWN_RPC, OWN_RPC_ANSWER = OWN + "rpc/request/", OWN + "rpc/response/"
"""Either way: the answer goes on the topic of the other."""
SUBSCRIPTIONS = (ATTRIBUTES, ATTRIBUTES_RESPONSE, RPC, OWN_RPC + "+", OWN_RPC_ANSWER + "+")


class GatewayTopics:
    """See `Addresses`. A record goes to a topic of its device, which the link knows for that of all of them.

    So it is one device that waits when what is told of it is refused.
    """

    gap = OWN_TELEMETRY

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def device(self, device: str, suffix: str) -> str:
        """All that is told of a device is its telemetry. Raises ValueError."""
        return f"{TELEMETRY}/{self.name(device)}"

    def retained(self, device: str, suffix: str) -> str:
        """Nothing is retained; only for messages about it."""
        return self.device(device, suffix)

    def name(self, device: str) -> str:
        """What a device ("namespace/name") is called at ThingsBoard. Raises ValueError."""
        return self._prefix + identity(device)

    def device_called(self, name: str) -> str:
        """The device of a name. Raises ValueError for a name that is none of ours."""
        if not name.startswith(self._prefix):
            raise ValueError(f"{name[:80]!r} is no device of ours")
        return device_of(name.removeprefix(self._prefix))


def name_of(topic: str) -> str | None:
    """The device of a record's topic; None: it is of the gateway itself."""
    return topic.removeprefix(f"{TELEMETRY}/") if topic.startswith(f"{TELEMETRY}/") else None
