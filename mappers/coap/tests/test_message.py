"""Messages: what is written is read again, and nothing else than MessageError comes of garbage."""

from __future__ import annotations

import contextlib

import aiocoap
import pytest
from devicemesh_coap import message as coap
from devicemesh_coap.message import Block, Message, MessageError, Option, decode, encode, ordered
from hypothesis import example, given, settings
from hypothesis import strategies as st

ELECTIVE = st.tuples(
    st.sampled_from([Option.URI_QUERY, Option.LOCATION_QUERY, Option.PROXY_SCHEME, 2000, 65000]),
    st.text(max_size=20).map(str.encode),
)


@settings(deadline=None)
@given(
    code=st.sampled_from([1, 2, 3, 0x45, 0x84]), options=st.lists(ELECTIVE, max_size=6), payload=st.binary(max_size=50),
    token=st.binary(max_size=8), mid=st.integers(0, 0xFFFF), kind=st.integers(0, 3),
)  # fmt: skip
def test_what_is_written_is_read(
    code: int, options: list[tuple[int, bytes]], payload: bytes, token: bytes, mid: int, kind: int
) -> None:
    message = Message(code, ordered(options), payload, token, mid, kind)
    assert decode(encode(message)) == message


@settings(deadline=None)
@given(data=st.binary(max_size=120))
@example(b"\x40\x01\x00\x00\xd1")
@example(b"\x40\x01\x00\x00\xe1\xff")
@example(b"\x44\x45\x00\x00\x00\x00\x00\x00\x82\xff\xfe")
def test_garbage_is_a_message_error_at_most(data: bytes) -> None:
    with contextlib.suppress(MessageError):
        found = decode(data)
        for number in (Option.BLOCK1, Option.OBSERVE, Option.MAX_AGE):
            assert found.integer(number) is None or found.flaw or found.integer(number) < 1 << 32  # type: ignore[operator]
        found.texts(Option.URI_PATH)


@settings(deadline=None)
@given(data=st.binary(min_size=4, max_size=60).map(lambda d: bytes((0x40 | d[0] & 0x38 | d[0] & 7,)) + d[1:]))
def test_what_we_read_another_implementation_reads_alike(data: bytes) -> None:
    with contextlib.suppress(MessageError):
        ours = decode(data)
        with contextlib.suppress(Exception):  # it raises more than it says
            theirs = aiocoap.Message.decode(data)
            assert (theirs.mid, theirs.token, int(theirs.code)) == (ours.mid, ours.token, ours.code)
            if not ours.flaw and len(ours.options) == len(list(theirs.opt.option_list())):
                assert theirs.payload == ours.payload


def test_options_of_every_length_are_as_aiocoap_writes_them() -> None:
    for length in (0, 1, 12, 13, 14, 268, 269, 270, 1000):
        theirs = aiocoap.Message(code=aiocoap.GET, _mid=1, _mtype=aiocoap.CON)
        theirs.opt.proxy_uri = "x" * length
        ours = Message(coap.GET, ((int(Option.PROXY_URI), b"x" * length),), mid=1)
        theirs.direction = aiocoap.message.Direction.OUTGOING
        assert theirs.encode() == encode(ours)


def test_blocks_and_numbers() -> None:
    assert Block(5, True, 2).encoded() == b"\x5a"
    assert Message(0, ((Option.BLOCK2, b"\x5a"),)).block(Option.BLOCK2) == Block(5, True, 2)
    assert Block(5, True, 2).size == 64
    assert (coap.uint(0), coap.uint(256)) == (b"", b"\x01\x00")
    assert (coap.words(0x84), coap.words(0xE1)) == ("4.04 Not Found", "7.01")
    with pytest.raises(ValueError, match="token of 9"):
        encode(Message(coap.GET, token=b"123456789"))
