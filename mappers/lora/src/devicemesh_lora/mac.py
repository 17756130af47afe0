"""Frames of LoRaWAN 1.0.x, class A (LoRaWAN 1.0.4 Specification, chapters 4 to 6). Pure.

EUIs and keys are written most significant byte first, as people do; on the air, and so in a frame, an EUI
or a device address is little-endian. A device address is an int here.
"""

from __future__ import annotations

import enum
import functools
import struct
from dataclasses import dataclass
from typing import TypeAlias

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

MIC_SIZE = 4
MOST_FOPTS = 15
_B0 = struct.Struct("<BIBIIBB")
"""B0 and A_i: tag, 4 bytes of zero, direction, address, counter, 0, length or number (4.3.3, 4.4)."""


class FrameError(ValueError):
    """Bytes that are no LoRaWAN frame; says why."""


class MType(enum.IntEnum):
    """Kinds of frames (4.2.1)."""

    JOIN_REQUEST = 0
    JOIN_ACCEPT = 1
    UNCONFIRMED_UP = 2
    UNCONFIRMED_DOWN = 3
    CONFIRMED_UP = 4
    CONFIRMED_DOWN = 5


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """What a device asks to be let in with (6.2.4)."""

    join_eui: bytes  # most significant byte first
    dev_eui: bytes
    dev_nonce: int
    phy: bytes  # whole, MIC included

    def is_signed(self, app_key: bytes) -> bool:
        """Whether the MIC fits this key (6.2.4)."""
        return cmac(app_key, self.phy[:-MIC_SIZE]) == self.phy[-MIC_SIZE:]


@dataclass(frozen=True, slots=True)
class DataFrame:
    """A data frame, its payload still encrypted (4.3)."""

    mtype: MType
    dev_addr: int
    control: int  # FCtrl, without the length of FOpts
    counter16: int  # FCnt: the lower 16 bits
    options: bytes  # FOpts: MAC commands
    port: int | None  # FPort; None: no payload
    payload: bytes  # FRMPayload, encrypted
    phy: bytes

    @property
    def confirmed(self) -> bool:
        return self.mtype in (MType.CONFIRMED_UP, MType.CONFIRMED_DOWN)

    @property
    def uplink(self) -> bool:
        return self.mtype in (MType.UNCONFIRMED_UP, MType.CONFIRMED_UP)

    @property
    def acknowledges(self) -> bool:
        """The ACK bit of FCtrl (4.3.1.2)."""
        return bool(self.control & 0x20)

    def is_signed(self, nwk_key: bytes, counter: int) -> bool:
        """Whether the MIC fits this key and 32-bit counter (4.4)."""
        mic = data_mic(nwk_key, self.dev_addr, counter, self.phy[:-MIC_SIZE], uplink=self.uplink)
        return mic == self.phy[-MIC_SIZE:]

    def opened(self, key: bytes, counter: int) -> bytes:
        """FRMPayload, decrypted with the AppSKey, or for port 0 the NwkSKey (4.3.3)."""
        return crypt(key, self.dev_addr, counter, self.payload, uplink=self.uplink)


Frame: TypeAlias = JoinRequest | DataFrame


@functools.lru_cache(4096)
def _cipher(key: bytes) -> Cipher[modes.ECB]:
    return Cipher(algorithms.AES(key), modes.ECB())


def aes(key: bytes, data: bytes) -> bytes:
    """AES-128 in ECB mode, whole blocks."""
    return _cipher(key).encryptor().update(data)


def cmac(key: bytes, message: bytes) -> bytes:
    """The first 4 bytes of AES-CMAC (RFC 4493)."""
    made = CMAC(algorithms.AES(key))
    made.update(message)
    return made.finalize()[:MIC_SIZE]


def crypt(key: bytes, dev_addr: int, counter: int, data: bytes, *, uplink: bool) -> bytes:
    """Encrypt or decrypt FRMPayload (4.3.3): an exclusive or with AES blocks of a counter."""
    if not data:
        return b""
    way = 0 if uplink else 1
    count = (len(data) + 15) // 16
    blocks = b"".join(_B0.pack(1, 0, way, dev_addr, counter, 0, i) for i in range(1, count + 1))
    stream = aes(key, blocks)[: len(data)]
    mixed = int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")
    return mixed.to_bytes(len(data), "big")


def data_mic(nwk_key: bytes, dev_addr: int, counter: int, message: bytes, *, uplink: bool) -> bytes:
    """The MIC of MHDR | FHDR | FPort | FRMPayload (4.4)."""
    way = 0 if uplink else 1
    return cmac(nwk_key, _B0.pack(0x49, 0, way, dev_addr, counter, 0, len(message)) + message)


def decode(phy: bytes) -> Frame:
    """Take an uplink or downlink frame apart. Raises FrameError, which says what is wrong with it."""
    if len(phy) < 12:
        raise FrameError(f"it has {len(phy)} bytes, a frame has 12 at least")
    if len(phy) > 255:
        raise FrameError(f"it has {len(phy)} bytes, a frame has 255 at most")
    head = phy[0]
    if head & 3:
        raise FrameError(f"its major version is {head & 3}, not LoRaWAN R1")
    kind = head >> 5
    if kind == MType.JOIN_REQUEST:
        if len(phy) != 23:
            raise FrameError(f"a join request has 23 bytes, this one {len(phy)}")
        return JoinRequest(phy[1:9][::-1], phy[9:17][::-1], int.from_bytes(phy[17:19], "little"), phy)
    if kind not in (2, 3, 4, 5):
        raise FrameError(f"message type {kind} is not one of class A's")
    return _data(phy, MType(kind))


def _data(phy: bytes, kind: MType) -> DataFrame:
    address, control, counter = struct.unpack_from("<IBH", phy, 1)
    end = 8 + (control & 15)
    if end > len(phy) - MIC_SIZE:
        raise FrameError(f"its FOpts have {control & 15} bytes, {len(phy) - 12} remain")
    options, rest = phy[8:end], phy[end:-MIC_SIZE]
    port = rest[0] if rest else None
    if port == 0 and options:
        raise FrameError("it has MAC commands both in FOpts and on port 0")
    return DataFrame(kind, address, control & 0xF0, counter, options, port, rest[1:], phy)


def candidates(last: int, counter16: int) -> tuple[int, int | None]:
    """The 32-bit counters that 16 bits can stand for (4.3.1.5): (the next one, the one already past).

    `last` is the last accepted one, -1: none. The second is None unless it is not above `last`.
    """
    if last < 0:
        return counter16, None
    near = (last & ~0xFFFF) | counter16
    if near > last:
        return near, None
    return near + 0x10000, near


def join_request(app_key: bytes, join_eui: bytes, dev_eui: bytes, dev_nonce: int) -> bytes:
    """A device's join request (6.2.4)."""
    message = b"\x00" + join_eui[::-1] + dev_eui[::-1] + struct.pack("<H", dev_nonce)
    return message + cmac(app_key, message)


def join_accept(
    app_key: bytes, join_nonce: int, net_id: int, dev_addr: int, settings: int = 0, rx_delay: int = 1
) -> bytes:
    """The answer to it (6.2.5): encrypted by decryption, so that a device needs to encrypt only."""
    body = join_nonce.to_bytes(3, "little") + net_id.to_bytes(3, "little")
    body += struct.pack("<IBB", dev_addr, settings, rx_delay)
    whole = body + cmac(app_key, b"\x20" + body)
    cipher = Cipher(algorithms.AES(app_key), modes.ECB()).decryptor()
    return b"\x20" + cipher.update(whole)


@dataclass(frozen=True, slots=True)
class JoinAccept:
    """What a device reads out of a join accept."""

    join_nonce: int
    net_id: int
    dev_addr: int
    settings: int
    rx_delay: int


def open_join_accept(app_key: bytes, phy: bytes) -> JoinAccept:
    """A device's side of `join_accept`. Raises FrameError."""
    if len(phy) not in (17, 33) or phy[0] != 0x20:
        raise FrameError("it is no join accept")
    plain = aes(app_key, phy[1:])
    if cmac(app_key, b"\x20" + plain[:-MIC_SIZE]) != plain[-MIC_SIZE:]:
        raise FrameError("the MIC of the join accept does not fit the key")
    address, settings, delay = struct.unpack_from("<IBB", plain, 6)
    return JoinAccept(
        int.from_bytes(plain[:3], "little"), int.from_bytes(plain[3:6], "little"), address, settings, delay
    )


def session_keys(app_key: bytes, join_nonce: int, net_id: int, dev_nonce: int) -> tuple[bytes, bytes]:
    """(NwkSKey, AppSKey) of an activation over the air (LoRaWAN 1.0.3, 6.2.5)."""
    tail = join_nonce.to_bytes(3, "little") + net_id.to_bytes(3, "little") + struct.pack("<H", dev_nonce)
    return aes(app_key, b"\x01" + tail + bytes(7)), aes(app_key, b"\x02" + tail + bytes(7))


def data_frame(
    kind: MType, keys: tuple[bytes, bytes], dev_addr: int, counter: int,
    port: int | None = None, payload: bytes = b"", *, options: bytes = b"", control: int = 0,
) -> bytes:  # fmt: skip
    """A signed data frame. `keys` are (NwkSKey, AppSKey). Raises ValueError for too many options."""
    if len(options) > MOST_FOPTS:
        raise ValueError(f"{len(options)} bytes of MAC commands do not fit FOpts")
    uplink = kind in (MType.UNCONFIRMED_UP, MType.CONFIRMED_UP)
    message = struct.pack("<BIBH", kind << 5, dev_addr, control | len(options), counter & 0xFFFF) + options
    if port is not None:
        key = keys[0] if port == 0 else keys[1]
        message += bytes((port,)) + crypt(key, dev_addr, counter, payload, uplink=uplink)
    return message + data_mic(keys[0], dev_addr, counter, message, uplink=uplink)


# MAC commands of class A (chapter 5)

LINK_CHECK, LINK_ADR, DUTY_CYCLE, RX_PARAM, DEV_STATUS, NEW_CHANNEL, RX_TIMING = range(2, 9)
_UP_SIZES = {
    LINK_CHECK: 0, LINK_ADR: 1, DUTY_CYCLE: 0, RX_PARAM: 1, DEV_STATUS: 2, NEW_CHANNEL: 1, RX_TIMING: 0,
    0x09: 0, 0x0A: 1, 0x0D: 0,
}  # fmt: skip


def uplink_commands(data: bytes) -> list[tuple[int, bytes]]:
    """The device's MAC commands; what follows an unknown or a truncated one is not known and left out."""
    found, at = [], 0
    while at < len(data):
        size = _UP_SIZES.get(data[at])
        if size is None or at + 1 + size > len(data):
            break
        found.append((data[at], data[at + 1 : at + 1 + size]))
        at += 1 + size
    return found


def link_check_answer(margin_db: float, gateways: int) -> bytes:
    """LinkCheckAns (5.1): the margin above the demodulation floor, and how many gateways heard it."""
    return bytes((LINK_CHECK, max(0, min(254, int(margin_db))), min(gateways, 255)))
