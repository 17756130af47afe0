"""One device as the network server knows it: its keys, its counters, its queue. No I/O."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from devicemesh_lora import mac
from devicemesh_lora.model import LoraEndpoint
from devicemesh_lora.packet import Packet
from devicemesh_lora.store import Kept

NET_ID = 0
"""That of private networks (LoRaWAN Backend Interfaces, table of NetIDs)."""
LATE_S = 3.0
"""For so long the copy of a slow gateway is a duplicate, and no replay."""


@dataclass(eq=False)
class Downlink:
    """A payload that waits for its device to be heard."""

    port: int
    payload: bytes
    done: asyncio.Future[str]  # how it was sent: the gateway's EUI
    key: object = None  # a newer one of the same key takes its place
    counter: int | None = None  # once it was sent: an acknowledgement is awaited


@dataclass(eq=False)
class Keys:
    """What a device's secrets say."""

    app_key: bytes | None = None
    session: tuple[bytes, bytes] | None = None  # (NwkSKey, AppSKey)
    dev_addr: int | None = None


@dataclass(eq=False)
class Node:
    """A declared device."""

    endpoint: LoraEndpoint
    name: str  # in the store
    keys: Keys
    kept: Kept
    queue: deque[Downlink] = field(default_factory=deque)
    next_down: int = 0  # downlink counter; those below `kept.down` are on the disk as used
    last_phy: bytes = b""
    last_heard: float = -1e9
    last_refused: bytes = b""
    refusals: int = 0  # since the last accepted uplink
    refused: int = 0
    refused_reason: str = ""
    lost: int = 0
    battery: float | None = None
    margin: float | None = None
    adr: bool = False  # its last uplink said that its data rate may be adapted
    acknowledge: bool = False
    answers: bytes = b""  # MAC commands for the next downlink
    uplinks: int = 0

    def __post_init__(self) -> None:
        self.next_down = self.kept.down
        if self.keys.app_key is not None and self.kept.dev_nonce is not None:
            self.activate()

    def waiting(self) -> deque[Downlink]:
        """The queue, without those that are done, or given up."""
        self.queue = deque(one for one in self.queue if not one.done.done())
        return self.queue

    def activate(self) -> None:
        """Work out the session keys of the last join."""
        assert self.keys.app_key is not None and self.kept.dev_nonce is not None
        self.keys.session = mac.session_keys(
            self.keys.app_key, self.kept.join_nonce, NET_ID, self.kept.dev_nonce
        )
        self.keys.dev_addr = self.kept.dev_addr

    def counter_of(self, frame: mac.DataFrame) -> tuple[int | None, int | None]:
        """(the counter of a frame that is new, or of one that is past): both None where the MIC is wrong."""
        assert self.keys.session is not None
        key = self.keys.session[0]
        ahead, past = mac.candidates(self.kept.up, frame.counter16)
        if past is None:
            if frame.is_signed(key, ahead):
                return ahead, None
        else:
            if frame.is_signed(key, past):
                return None, past
            if frame.is_signed(key, ahead):
                return ahead, None
        if frame.counter16 != ahead and frame.is_signed(key, frame.counter16):
            return None, frame.counter16  # of before the first wrap
        return None, None


@dataclass(frozen=True, slots=True)
class Uplink:
    """A payload of a device, accepted."""

    node: Node
    counter: int
    lost: int  # uplinks that are missing before it
    port: int | None
    payload: bytes
    copies: list[Packet]  # the best one first

    def known(self) -> dict[str, float | str | None]:
        """What the radio tells, by the names of `stat`."""
        node, best = self.node, self.copies[0]
        return {
            "lastSeen": best.time_ns / 1e9, "rssi": best.rssi, "snr": best.snr, "dataRate": best.data_rate,
            "frequency": float(best.frequency), "gateway": best.gateway, "gateways": float(len(self.copies)),
            "counter": float(self.counter), "lost": float(node.lost),
            "port": None if self.port is None else float(self.port), "battery": node.battery,
            "margin": node.margin, "adr": float(node.adr), "refused": float(node.refused),
            "refusedReason": node.refused_reason,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Joined:
    """A device that is let in, and the join accept to send."""

    node: Node
    accept: bytes


@dataclass(frozen=True, slots=True)
class Repeated:
    """A confirmed uplink again: the device did not hear the acknowledgement."""

    node: Node


@dataclass(frozen=True, slots=True)
class Refused:
    """A frame that was not accepted, and why, in words."""

    node: Node | None
    reason: str  # one CamelCase word
    message: str
    harms: bool = False  # the device can't be heard until somebody does something
