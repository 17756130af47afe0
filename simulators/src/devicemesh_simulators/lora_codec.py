"""Simulated devices whose payloads a codec makes: by its encodeUplink, or out of recorded ones."""

from __future__ import annotations

import logging

from devicemesh_lora.codec import Codecs
from devicemesh_lora.codec_source import CodecError
from devicemesh_lora.declared_codec import Codec

from devicemesh_simulators.lora_nodes import Node

log = logging.getLogger("devicemesh.simulators")


class CodedNode:
    """A device, and the codec between its values and its payloads."""

    def __init__(self, node: Node, codec: Codec | None, codecs: Codecs) -> None:
        self._node, self._codec, self._codecs = node, codec, codecs
        self._turn = 0
        self._told = False

    async def check(self) -> None:
        """Raises ValueError for a device that can't be simulated."""
        name = self._node.name
        if self._codec is None:
            raise ValueError(f"{name}: properties with `pointer` are simulated by a `codec` of its endpoint")
        if self._codec.examples:
            return
        try:
            await self._codecs.encoded(self._node.eui, self._node.document(0.0), "encodeUplink")
        except CodecError as error:
            raise ValueError(
                f"{name}: its codec makes no uplink ({error}): give payloads as the codec's `examples`"
            ) from error

    async def uplink(self, seconds: float) -> bytes | None:
        """The next frame; None: the codec fails."""
        await self._obey()
        assert self._codec is not None
        if examples := self._codec.examples:
            one = examples[self._turn % len(examples)]
            self._turn += 1
            return self._node.frame(one.port, bytes.fromhex(one.bytes))
        try:
            payload, port = await self._codecs.encoded(
                self._node.eui, self._node.document(seconds), "encodeUplink"
            )
        except CodecError as error:
            self._tell(error)
            return None
        declared = next((cell.address.port for cell in self._node.pointed if cell.address.port), 1)
        return self._node.frame(port or declared, payload)

    async def _obey(self) -> None:
        """What came down is what the codec's decodeDownlink makes of it."""
        waiting, self._node.downlinks = self._node.downlinks, []
        for port, payload in waiting:
            try:
                given = {"bytes": list(payload), "fPort": port}
                found = await self._codecs.asked(self._node.eui, "decodeDownlink", given)
            except CodecError as error:
                self._tell(error)
                continue
            self._node.obey_document(found.get("data"))

    def _tell(self, error: CodecError) -> None:
        if not self._told:
            self._told = True
            log.warning("%s: its codec fails: %s", self._node.name, error)
