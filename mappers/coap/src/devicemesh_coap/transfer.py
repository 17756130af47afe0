"""Bodies of more than one message: Block1 and Block2 (RFC 7959), bounded in size and in number."""

from __future__ import annotations

import os
from dataclasses import dataclass

from devicemesh.mapper import PointError
from devicemesh_coap.channel import Channel
from devicemesh_coap.message import CONTINUE, TOO_LARGE, Block, Message, Option, succeeded, uint, words
from devicemesh_coap.model import CoapEndpoint

RESTARTS = 2
"""How often a body that changes while it is read is begun anew."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one device."""

    exponent: int  # of the largest block
    most: int  # bytes of a body

    @classmethod
    def of(cls, endpoint: CoapEndpoint) -> Limits:
        return cls(endpoint.block_size.bit_length() - 5, endpoint.max_payload)


async def exchanged(channel: Channel, message: Message, limits: Limits) -> Message:
    """A request and its response, whole, however many blocks it takes. Raises PointError, LinkError."""
    if len(message.payload) > 1 << (limits.exponent + 4):
        response = await _sent(channel, message, limits)
    else:
        response = await channel.request(message)
    return await completed(channel, message, response, limits)


async def completed(channel: Channel, message: Message, first: Message, limits: Limits) -> Message:
    """A response with the blocks that follow its first one. Raises PointError, LinkError."""
    for _ in range(RESTARTS + 1):
        block = first.block(Option.BLOCK2)
        if block is None or not succeeded(first.code) or (block.number == 0 and not block.more):
            if len(first.payload) > limits.most:
                raise _oversized(channel, limits)
            return first
        whole = await _rest(channel, message, first, limits)
        if whole is not None:
            return whole
        first = await channel.request(_alone(message, limits))
    raise PointError(f"{channel.link}: the body changes while it is read, block by block", reason="Unstable")


def _alone(message: Message, limits: Limits, *more: tuple[int, bytes]) -> Message:
    """The request for a block: without what belongs to the whole, or has been sent before."""
    plain = Message(message.code, message.without(Option.OBSERVE, Option.ETAG))
    body = message.payload if len(message.payload) <= 1 << (limits.exponent + 4) else b""
    return Message(message.code, plain.having(*more), body)


async def _rest(channel: Channel, message: Message, first: Message, limits: Limits) -> Message | None:
    """The whole response; None if it has changed meanwhile."""
    block, etag = first.block(Option.BLOCK2), first.option(Option.ETAG)
    assert block is not None
    body = bytearray()
    response = first
    while True:
        if block.exponent == 7 or block.number * block.size != len(body):
            raise _senseless(channel, f"block {block.number} of {block.size} bytes comes at {len(body)}")
        if block.more and len(response.payload) != block.size:
            raise _senseless(channel, f"a block of {block.size} bytes has {len(response.payload)}")
        if len(response.payload) > block.size:
            raise _senseless(channel, f"a block of {block.size} bytes has {len(response.payload)}")
        body += response.payload
        if len(body) > limits.most:
            raise _oversized(channel, limits)
        if not block.more:
            return Message(first.code, first.without(Option.BLOCK2), bytes(body), first.token, first.mid)
        exponent = min(block.exponent, limits.exponent)
        wanted = Block(len(body) >> (exponent + 4), False, exponent)
        response = await channel.request(_alone(message, limits, (Option.BLOCK2, wanted.encoded())))
        if not succeeded(response.code):
            raise _senseless(channel, f"block {wanted.number} is answered with {words(response.code)}")
        if response.option(Option.ETAG) != etag:
            return None
        following = response.block(Option.BLOCK2)
        if following is None:
            return response  # it fits in one message now
        block = following


async def _sent(channel: Channel, message: Message, limits: Limits) -> Message:
    """The response to the last block of a request (RFC 7959, 2.3)."""
    body, exponent, at = message.payload, limits.exponent, 0
    tag = (Option.REQUEST_TAG, os.urandom(4))  # tells this transfer from another one (RFC 9175, 3)
    while True:
        size = 1 << (exponent + 4)
        block = Block(at // size, at + size < len(body), exponent)
        options = message.having(
            (Option.BLOCK1, block.encoded()), tag, *([(Option.SIZE1, uint(len(body)))] if at == 0 else [])
        )
        response = await channel.request(Message(message.code, options, body[at : at + size]))
        told = response.block(Option.BLOCK1)
        if response.code == TOO_LARGE and told is not None and at == 0 and told.exponent < exponent:
            exponent = told.exponent
            continue
        if not block.more:
            if response.code == CONTINUE:
                raise _senseless(channel, "it asks for more at the end of the body")
            return response
        if response.code != CONTINUE:
            if succeeded(response.code):
                raise _senseless(channel, f"it answers a block with {words(response.code)}")
            return response
        at += size
        if told is not None and told.exponent < exponent:
            exponent = told.exponent


def _senseless(channel: Channel, what: str) -> PointError:
    return PointError(f"{channel.link}: a transfer in blocks makes no sense: {what}", reason="BadTransfer")


def _oversized(channel: Channel, limits: Limits) -> PointError:
    return PointError(
        f"{channel.link} sends more than {limits.most} bytes: raise `maxPayload` if that is right",
        reason="TooLarge",
    )
