"""Our messages as aiocoap's, and back. Pure."""

from __future__ import annotations

import aiocoap
from aiocoap.message import Direction

from devicemesh_coap.message import Message, MessageError, decode_options, encode_options


def to_aiocoap(message: Message, uri: str = "") -> aiocoap.Message:
    """A message as aiocoap has it; `uri` says where it goes."""
    made = aiocoap.Message(code=aiocoap.Code(message.code), payload=message.payload)
    if uri:
        made.set_request_uri(uri, set_uri_host=False)
    made.opt.decode(encode_options(message.options))
    return made


def from_aiocoap(made: aiocoap.Message) -> Message:
    """A message of aiocoap's as ours, with what is wrong with its options. Raises MessageError."""
    try:
        encoded = made.opt.encode()
    except (ValueError, OverflowError) as error:
        raise MessageError(f"an option that makes no sense: {error}") from error
    options, _, flaw = decode_options(encoded, 0)
    return Message(int(made.code), options, bytes(made.payload), flaw=flaw)


def received(message: Message) -> aiocoap.Message:
    """A message that came from the peer, as aiocoap's security contexts want it."""
    made = to_aiocoap(message)
    made.direction = Direction.INCOMING
    return made
