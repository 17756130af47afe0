"""The network server: which frames are accepted, and what is sent back. No I/O but the store's."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from devicemesh_lora import mac
from devicemesh_lora.mac import DataFrame, FrameError, JoinRequest, MType
from devicemesh_lora.node import LATE_S, NET_ID, Downlink, Joined, Node, Refused, Repeated, Uplink
from devicemesh_lora.packet import Packet
from devicemesh_lora.regions import margin_db, most_bytes
from devicemesh_lora.store import DOWN_BLOCK, Store

Event: TypeAlias = Uplink | Refused | Joined | Repeated
STATUS_EVERY = 32
"""Uplinks between two questions for battery and margin (DevStatusReq)."""
RESTARTED_AFTER = 2
"""Refused frames in a row after which a counter that went back is taken for a device that restarted."""


class Gathering:
    """Copies of a frame that several gateways hear, put together."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._copies: dict[bytes, list[Packet]] = {}
        self._due: deque[tuple[float, bytes]] = deque()

    def add(self, packet: Packet, now: float) -> None:
        """Take a copy in."""
        held = self._copies.get(packet.phy)
        if held is None:
            self._copies[packet.phy] = [packet]
            self._due.append((now + self._wait_s, packet.phy))
        elif all(one.gateway != packet.gateway for one in held):
            held.append(packet)

    @property
    def next_due(self) -> float | None:
        return self._due[0][0] if self._due else None

    def ready(self, now: float) -> Iterable[list[Packet]]:
        """The frames whose time has come, each with its copies, the best one first."""
        while self._due and self._due[0][0] <= now:
            copies = self._copies.pop(self._due.popleft()[1])
            copies.sort(key=lambda packet: packet.signal, reverse=True)
            yield copies


class Network:
    """The devices of one listening address."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.by_eui: dict[str, Node] = {}
        self._by_address: dict[int, list[Node]] = {}
        self._dirty: dict[str, Node] = {}

    def declare(self, nodes: Sequence[Node]) -> None:
        """Serve these devices, and no others."""
        self.by_eui = {node.endpoint.eui: node for node in nodes}
        self._by_address = {}
        for node in nodes:
            self._index(node)

    def _index(self, node: Node) -> None:
        if node.keys.dev_addr is not None:
            self._by_address.setdefault(node.keys.dev_addr, []).append(node)

    def flush(self) -> None:
        """Keep the uplink counters that have changed."""
        if self._dirty:
            self._store.save({name: node.kept for name, node in self._dirty.items()})
            self._dirty.clear()

    def heard(self, copies: list[Packet], now: float) -> Event | None:
        """What a frame is; None: another copy of one that was heard before."""
        try:
            frame = mac.decode(copies[0].phy)
        except FrameError as error:
            return Refused(None, "Malformed", str(error))
        if isinstance(frame, JoinRequest):
            return self._join(frame)
        if not frame.uplink:
            return Refused(None, "Malformed", "it is a downlink")
        return self._data(frame, copies, now)

    def _join(self, request: JoinRequest) -> Event:
        eui = request.dev_eui.hex()
        node = self.by_eui.get(eui)
        if node is None:
            return self._stranger(request)
        key = node.keys.app_key
        if key is None:
            return self.refuse(node, "NotOtaa", f"{eui} asks to join, but is declared with `abp`", harms=True)
        if not request.is_signed(key):
            turned = "the AppKey is declared with its bytes reversed" if request.is_signed(key[::-1]) else ""
            why = turned or "the AppKey is not the device's"
            return self.refuse(node, "WrongKey", f"join request of {eui}: {why}", harms=node.kept.up < 0)
        wanted = node.endpoint.otaa.join_eui if node.endpoint.otaa is not None else None
        given = request.join_eui.hex()
        if wanted is not None and wanted.lower() != given:
            turned = ", its bytes reversed" if bytes.fromhex(wanted)[::-1].hex() == given else ""
            why = f"join request of {eui}: its JoinEUI is {given}{turned}, declared is {wanted.lower()}"
            return self.refuse(node, "WrongJoinEui", why, harms=True)
        if not self._store.use_nonce(node.name, request.dev_nonce):
            why = f"join request of {eui}: DevNonce {request.dev_nonce} was used before"
            return self.refuse(node, "NonceReplay", why, harms=node.kept.dev_nonce is None)
        return Joined(node, self._accept(node, request))

    def _accept(self, node: Node, request: JoinRequest) -> bytes:
        """A new session. It is on the disk before the device hears of it."""
        kept = node.kept
        if node.keys.dev_addr is not None:
            self._by_address[node.keys.dev_addr].remove(node)
        kept.join_nonce, kept.dev_nonce = (kept.join_nonce + 1) & 0xFFFFFF, request.dev_nonce
        kept.dev_addr = secrets.randbelow(1 << 25)  # NwkID 0 of the NetID of private networks
        kept.up, kept.down, node.next_down = -1, 0, 0
        node.last_phy, node.acknowledge, node.answers, node.refusals = b"", False, b"", 0
        self._store.save({node.name: kept})
        node.activate()
        self._index(node)
        assert node.keys.app_key is not None
        return mac.join_accept(node.keys.app_key, kept.join_nonce, NET_ID, kept.dev_addr)

    def _stranger(self, request: JoinRequest) -> Refused:
        turned = self.by_eui.get(request.dev_eui[::-1].hex())
        if turned is not None:
            why = f"{request.dev_eui.hex()} asks to join: `devEui` is declared with its bytes reversed"
            return self.refuse(turned, "WrongByteOrder", why, harms=True)
        return Refused(None, "NotDeclared", f"{request.dev_eui.hex()} asks to join, and is not declared")

    def _data(self, frame: DataFrame, copies: list[Packet], now: float) -> Event | None:
        past_of: tuple[Node, int] | None = None
        for node in self._by_address.get(frame.dev_addr, ()):  # addresses are not unique: the MIC decides
            counter, past = node.counter_of(frame)
            if counter is None and past is not None and node.endpoint.skip_counter_check:
                counter = past if frame.phy != node.last_phy else None
            if counter is not None:
                return self._accepted(node, frame, counter, copies, now)
            if past is not None:
                past_of = node, past
        if past_of is not None:
            return self._again(*past_of, frame, now)
        return self._unknown(frame)

    def _again(self, node: Node, counter: int, frame: DataFrame, now: float) -> Refused | Repeated | None:
        """A frame whose counter is past: a copy, a retransmission, a restart or a replay."""
        if frame.phy == node.last_phy:
            if now - node.last_heard < LATE_S:
                return None  # the copy of a slow gateway
            if frame.confirmed:
                node.acknowledge = True  # it did not hear our acknowledgement (4.3.1.2)
                return Repeated(node)
        if frame.phy == node.last_refused:
            return self.refuse(node, "Replay", f"counter {counter} again, the last was {node.kept.up}")
        node.last_refused = frame.phy
        node.refusals += 1
        why = (
            f"counter {counter} after {node.kept.up}: the device has restarted and forgot its counter, or "
            "somebody sends again what it has sent before; `skipCounterCheck: true` accepts it"
        )
        return self.refuse(node, "CounterWentBack", why, harms=node.refusals >= RESTARTED_AFTER)

    def _unknown(self, frame: DataFrame) -> Refused:
        """Why no key fits: mistakes of declaration are looked for."""
        for node in self._by_address.get(frame.dev_addr, ()):
            assert node.keys.session is not None
            if frame.is_signed(node.keys.session[0][::-1], frame.counter16):
                return self.refuse(
                    node, "WrongKey", "the NwkSKey is declared with its bytes reversed", harms=True
                )
        turned = int.from_bytes(frame.dev_addr.to_bytes(4, "big"), "little")
        for node in self._by_address.get(turned, ()):
            assert node.keys.session is not None
            if frame.is_signed(node.keys.session[0], frame.counter16):
                why = f"it sends as {frame.dev_addr:08x}: `devAddr` is declared with its bytes reversed"
                return self.refuse(node, "WrongByteOrder", why, harms=True)
        known = self._by_address.get(frame.dev_addr)
        if known is not None and len(known) == 1:
            why = f"the MIC of a frame of {frame.dev_addr:08x} does not fit the NwkSKey"
            return self.refuse(
                known[0], "WrongMic", why, harms=known[0].uplinks == 0 and known[0].kept.up < 0
            )
        return Refused(None, "NotDeclared", f"nobody declared has the address {frame.dev_addr:08x}")

    @staticmethod
    def refuse(node: Node, reason: str, message: str, *, harms: bool = False) -> Refused:
        node.refused += 1
        node.refused_reason = reason
        return Refused(node, reason, message, harms)

    def _accepted(
        self, node: Node, frame: DataFrame, counter: int, copies: list[Packet], now: float
    ) -> Uplink:
        assert node.keys.session is not None
        kept = node.kept
        lost = max(0, counter - kept.up - 1) if kept.up >= 0 else 0
        kept.up = counter
        node.lost += lost
        node.last_phy, node.last_heard, node.refusals, node.last_refused = frame.phy, now, 0, b""
        node.acknowledge = node.acknowledge or frame.confirmed
        node.uplinks += 1
        node.adr = bool(frame.control & 0x80)
        self._dirty[node.name] = node
        port, payload = frame.port, b""
        if port is not None:
            payload = frame.opened(node.keys.session[0 if port == 0 else 1], counter)
        self._obey(node, payload if port == 0 else frame.options, copies)
        if frame.acknowledges:
            self._acknowledged(node, copies[0].gateway)
        return Uplink(node, counter, lost, port, b"" if port == 0 else payload, copies)

    @staticmethod
    def _acknowledged(node: Node, gateway: str) -> None:
        sent = [(one.counter, at) for at, one in enumerate(node.queue) if one.counter is not None]
        if sent:
            done = node.queue[max(sent)[1]].done  # of several, the one that was sent last
            if not done.done():
                done.set_result(gateway)

    @staticmethod
    def _obey(node: Node, commands: bytes, copies: list[Packet]) -> None:
        """The MAC commands of the device (chapter 5): only these two are ours."""
        for command, data in mac.uplink_commands(commands):
            if command == mac.LINK_CHECK:
                best = copies[0]
                node.answers += mac.link_check_answer(margin_db(best.data_rate, best.snr), len(copies))
            elif command == mac.DEV_STATUS:
                node.battery = None if data[0] in (0, 255) else round((data[0] - 1) / 253 * 100, 1)
                raw = data[1] & 0x3F
                node.margin = float(raw - 64 if raw > 31 else raw)

    def reply(self, node: Node, data_rate: str) -> tuple[bytes, Downlink | None] | None:
        """The frame to send back, and the queued payload in it, or None: there is nothing to say."""
        if node.uplinks % STATUS_EVERY == 1:
            node.answers += bytes((mac.DEV_STATUS,))
        room = most_bytes(data_rate) - len(node.answers)
        fitting = [one for one in node.waiting() if len(one.payload) <= room]
        queued = fitting[0] if fitting else None  # others wait for a faster data rate, and hold up nobody
        if queued is None and not node.acknowledge and not node.answers:
            return None
        assert node.keys.session is not None and node.keys.dev_addr is not None
        counter = self._next_down(node)
        asks = queued is not None and node.endpoint.confirmed
        more = 0x10 if len(fitting) > 1 else 0
        control = (0x20 if node.acknowledge else 0) | more
        kind = MType.CONFIRMED_DOWN if asks else MType.UNCONFIRMED_DOWN
        phy = mac.data_frame(
            kind, node.keys.session, node.keys.dev_addr, counter,
            queued.port if queued else None, queued.payload if queued else b"",
            options=node.answers[: mac.MOST_FOPTS], control=control,
        )  # fmt: skip
        node.acknowledge, node.answers = False, b""
        return phy, queued

    def _next_down(self, node: Node) -> int:
        """A downlink counter that was never used, and never will be, after a crash either."""
        counter = node.next_down
        if counter >= node.kept.down:
            node.kept.down = counter + DOWN_BLOCK
            self._store.save({node.name: node.kept})
        node.next_down = counter + 1
        return counter
