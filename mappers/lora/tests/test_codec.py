"""Codecs in a real helper process, called by a real session."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from devicemesh_lora import codec as codec_module
from devicemesh_lora import codec_source, helper
from devicemesh_lora.codec import Codecs
from devicemesh_lora.codec_source import CodecError
from devicemesh_lora.model import Codec, LoraCommand

from devicemesh.mapper import Invocation, Quality, Write
from devicemesh.spec.values import ValueType

Run = Callable[[Any], None]
PROBE = """
function decodeUplink(input) {
  if (input.bytes.length < 2) return { errors: ['too short'] };
  return {
    data: { temperature: (input.bytes[0] << 8 | input.bytes[1]) / 10, port: input.fPort, at: input.recvTime },
    warnings: input.bytes[0] > 100 ? ['hot'] : [],
  };
}
function normalizeUplink(input) { return { data: { air: { temperature: input.data.temperature } } }; }
function encodeDownlink(input) {
  if (input.data.interval > 1000) return { errors: ['interval is at most 1000'] };
  return { bytes: [1, input.data.interval >> 8, input.data.interval & 255], fPort: 9 };
}
"""


def test_an_uplink_is_decoded_and_normalised(kit: Any, run: Run) -> None:
    async def work() -> None:
        port = kit.free_port()
        node = kit.node(port, codec={"source": PROBE})
        points = [
            kit.point(0, node, "float64", pointer="/temperature"),
            kit.point(1, node, "uint8", pointer="/port"),
            kit.point(2, node, "string", pointer="/at"),
            kit.point(3, node, "float64", pointer="/air/temperature", normalized=True),
            kit.point(4, node, "uint8", offset=0),
            kit.point(5, kit.gateway(port), "float64", stat="lastSeen"),
        ]
        async with kit.session(points) as (session, heard), kit.forwarder(port) as radio:
            assert session.codecs.helper is None
            radio.uplink(kit.frame(1, b"\x00\xd7", 7))
            await kit.until(lambda: heard.of(3))
            assert heard.of(0) == [21.5] and heard.of(1) == [7] and heard.of(3) == [21.5]
            assert heard.of(2)[0].endswith("Z") and not heard.errors
            radio.uplink(kit.frame(2, b"\x00", 7))
            await kit.until(lambda: heard.errors)
            assert "too short" in str(heard.errors[0]) and heard.of(4) == [0, 0]
            radio.uplink(kit.frame(3, b"\x00\xd8", 7))
            await kit.until(lambda: len(heard.of(0)) == 2)

    run(work())
