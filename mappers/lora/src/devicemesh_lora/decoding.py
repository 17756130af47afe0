"""Uplinks through the codecs of their devices to values, and values through them to downlinks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from devicemesh.mapper import Batch, Invocation, Write
from devicemesh_lora.codec import Codecs
from devicemesh_lora.codec_source import CodecError
from devicemesh_lora.delivery import Delivery
from devicemesh_lora.model import LoraAddress, LoraEndpoint
from devicemesh_lora.plan import Plan, Unmade


def batches(plan: Plan, port: int, result: Mapping[str, Any] | CodecError, time_ns: int) -> list[Batch]:
    """What a codec made of an uplink, as values; where it failed, the uplink's points are bad. Pure."""
    if isinstance(result, CodecError):
        return plan.undecoded(port, str(result), result.reason, time_ns)
    if errors := result.get("errors"):
        return plan.undecoded(port, "; ".join(errors), "CodecError", time_ns)
    if "data" not in result:
        return []  # warnings only
    normalized = result.get("normalized")
    if why := result.get("normalizeErrors"):
        normalized = Unmade("; ".join(why))
    return plan.decoded(port, result["data"], normalized, time_ns)


class Decoding:
    """The codecs of a link, between its devices and the runtime."""

    def __init__(self, out: Delivery) -> None:
        self.codecs = Codecs()
        self._out = out

    def declare(self, endpoints: Sequence[LoraEndpoint]) -> None:
        """These devices, and no others. Points that no codec can find are bad at once."""
        self.codecs.declare({one.eui: one.codec for one in endpoints if one.codec is not None})
        for endpoint in endpoints:
            plan = self._out.plans[endpoint.eui]
            if plan.uses_codec and (error := self.codecs.refusal(endpoint.eui)) is not None:
                self._out.put(plan.uncoded(str(error), error.reason, time.time_ns()))

    def uplink(self, eui: str, port: int | None, payload: bytes, time_ns: int) -> None:
        """Have a payload decoded, if one of the device's points wants it. Its values come later."""
        plan = self._out.plans.get(eui)
        if not port or plan is None or not (wanted := plan.pointed(port)):
            return
        done = partial(self._decoded, eui, port, time_ns)
        normalized = any(point.address.normalized for point in wanted)
        self.codecs.uplink(eui, port, payload, time_ns, done, samples=len(wanted), normalized=normalized)

    def _decoded(self, eui: str, port: int, time_ns: int, result: Mapping[str, Any] | CodecError) -> None:
        if (plan := self._out.plans.get(eui)) is None:
            return
        self._out.put(batches(plan, port, result, time_ns))
        if isinstance(result, Mapping) and (warnings := result.get("warnings")):
            self._out.tell(eui, "codec warns", "; ".join(warnings))

    async def written(self, write: Write[LoraEndpoint, LoraAddress]) -> tuple[int, bytes]:
        """FPort and payload of a downlink. Raises ValueError and PointError."""
        point = write.point
        address = point.address
        if address.pointer is None:
            return address.port or 1, address.payload(point.type, write.value)
        payload, port = await self.codecs.encoded(point.endpoint.eui, address.object(write.value))
        return port or address.port or 1, payload

    async def called(self, invocation: Invocation[LoraEndpoint]) -> tuple[int, bytes]:
        """FPort and payload of a command. Raises ValueError and PointError."""
        address, arguments = invocation.address, dict(invocation.arguments)
        if address.port is not None:
            return address.port, address.encoded(arguments, dict(invocation.types))
        payload, port = await self.codecs.encoded(invocation.endpoint.eui, {**address.data, **arguments})
        return port or 1, payload
