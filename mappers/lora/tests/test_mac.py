"""Frames: vectors of RFC 4493 and of published captures, counters, and bytes that are no frames."""

from __future__ import annotations

import random
import struct

import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from devicemesh_lora import mac
from devicemesh_lora.mac import DataFrame, FrameError, JoinRequest, MType

RFC_KEY = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
RFC_MESSAGE = bytes.fromhex(
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)


@pytest.mark.parametrize(
    ("length", "expected"),
    [(0, "bb1d6929"), (16, "070a16b4"), (40, "dfa66747"), (64, "51f0bebf")],
)
def test_cmac_is_that_of_rfc_4493(length: int, expected: str) -> None:
    assert mac.cmac(RFC_KEY, RFC_MESSAGE[:length]).hex() == expected


def test_a_published_uplink_is_verified_and_decrypted() -> None:
    """The example of the lora-packet project's documentation."""
    phy = bytes.fromhex("40f17dbe4900020001954378762b11ff0d")
    nwk, app = (
        bytes.fromhex("44024241ed4ce9a68c6a8bc055233fd3"),
        bytes.fromhex("ec925802ae430ca77fd3dd73cb2cc588"),
    )
    frame = mac.decode(phy)
    assert isinstance(frame, DataFrame)
    assert (frame.dev_addr, frame.counter16, frame.port, frame.confirmed) == (0x49BE7DF1, 2, 1, False)
    assert frame.is_signed(nwk, 2) and not frame.is_signed(nwk, 3) and not frame.is_signed(app, 2)
    assert frame.opened(app, 2) == b"test"
    assert mac.data_frame(MType.UNCONFIRMED_UP, (nwk, app), 0x49BE7DF1, 2, 1, b"test") == phy


def test_a_join_gives_both_sides_the_same_keys() -> None:
    key, join_eui, dev_eui = bytes(range(16)), bytes(range(8)), bytes(range(8, 16))
    request = mac.decode(mac.join_request(key, join_eui, dev_eui, 0x1234))
    assert isinstance(request, JoinRequest)
    assert (request.join_eui, request.dev_eui, request.dev_nonce) == (join_eui, dev_eui, 0x1234)
    assert request.is_signed(key) and not request.is_signed(key[::-1])
    accept = mac.open_join_accept(key, mac.join_accept(key, 7, 0, 0x01ABCDEF, 0, 1))
    assert (accept.join_nonce, accept.net_id, accept.dev_addr, accept.rx_delay) == (7, 0, 0x01ABCDEF, 1)
    with pytest.raises(FrameError, match="MIC"):
        mac.open_join_accept(key[::-1], mac.join_accept(key, 7, 0, 1))
    nwk, app = mac.session_keys(key, 7, 0, 0x1234)
    assert nwk == mac.aes(key, bytes.fromhex("01070000000000341200000000000000"))
    assert app == mac.aes(key, bytes.fromhex("02070000000000341200000000000000"))


def test_the_mic_is_over_b0_and_the_message() -> None:
    """Put together from the specification's figure (4.4), by another way."""
    key, message = bytes(range(16)), b"\x40" + bytes(8) + b"payload"
    block = b"\x49" + bytes(4) + b"\x01" + struct.pack("<II", 0x26011BDA, 0x10002) + bytes((0, len(message)))
    direct = CMAC(AES(key))
    direct.update(block + message)
    assert mac.data_mic(key, 0x26011BDA, 0x10002, message, uplink=False) == direct.finalize()[:4]


@pytest.mark.parametrize(
    ("last", "counter16", "expected"),
    [
        (-1, 5, (5, None)),
        (5, 6, (6, None)),
        (5, 5, (0x10005, 5)),
        (5, 4, (0x10004, 4)),
        (0xFFFF, 0, (0x10000, 0)),
        (0x1FFFF, 5, (0x20005, 0x10005)),
        (5, 0x8005, (0x8005, None)),
    ],
)
def test_16_bits_stand_for_32(last: int, counter16: int, expected: tuple[int, int | None]) -> None:
    assert mac.candidates(last, counter16) == expected


@pytest.mark.parametrize(
    ("phy", "why"),
    [
        ("", "0 bytes"),
        ("40" + "00" * 10, "11 bytes"),
        ("40" + "00" * 255, "256 bytes"),
        ("41" + "00" * 11, "major version is 1"),
        ("00" + "00" * 21, "a join request has 23 bytes"),
        ("e0" + "00" * 11, "message type 7"),
        ("20" + "00" * 16, "message type 1"),
        ("40" + "00" * 4 + "0f" + "00" * 6, "FOpts have 15 bytes, 0 remain"),
        ("40" + "00" * 4 + "01" + "0000" + "02" + "00" + "00" * 4, "both in FOpts and on port 0"),
    ],
)
def test_what_is_no_frame_says_why(phy: str, why: str) -> None:
    with pytest.raises(FrameError, match=why):
        mac.decode(bytes.fromhex(phy))


def test_mac_commands_end_at_what_is_cut_off_or_unknown() -> None:
    assert mac.uplink_commands(bytes.fromhex("0206ff1f")) == [(2, b""), (6, b"\xff\x1f")]
    assert mac.uplink_commands(bytes.fromhex("0206ff")) == [(2, b"")]
    assert mac.uplink_commands(bytes.fromhex("7f02")) == []
    assert mac.link_check_answer(400.0, 300) == b"\x02\xfe\xff"


def test_no_bytes_are_too_odd() -> None:
    """Random, cut and changed frames: a frame or a FrameError, and never a MIC that fits by chance."""
    rng = random.Random(1)
    good = [
        mac.data_frame(MType.CONFIRMED_UP, (RFC_KEY, RFC_KEY), 1, 2, 3, b"hello", options=b"\x02"),
        mac.join_request(RFC_KEY, bytes(8), bytes(8), 1),
    ]
    for _ in range(20_000):
        phy = bytearray(rng.choice(good))
        for _ in range(rng.randrange(4)):
            phy[rng.randrange(len(phy))] = rng.randrange(256)
        changed = bytes(phy[: rng.randrange(len(phy) + 1)]) if rng.random() < 0.5 else bytes(phy)
        try:
            frame = mac.decode(changed)
        except FrameError:
            continue
        if isinstance(frame, DataFrame):
            assert changed in good or not frame.is_signed(RFC_KEY, frame.counter16)
            mac.uplink_commands(frame.opened(RFC_KEY, 0))
        else:
            assert changed in good or not frame.is_signed(RFC_KEY)
