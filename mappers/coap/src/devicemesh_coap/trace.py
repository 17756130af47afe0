"""The way of one value from bytes to the property, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from devicemesh_coap import payload
from devicemesh_coap.message import Message, Option, words
from devicemesh_coap.model import CoapAddress
from devicemesh_coap.plan import CoapPoint


def steps(point: CoapPoint, response: Message) -> Iterator[str]:
    """Each thing that was done to the body."""
    address = point.address
    form = response.integer(Option.CONTENT_FORMAT)
    yield f"{words(response.code)}, {len(response.payload)} bytes, {payload.name(form)}"
    if address.pointer is not None:
        yield f"pointer {address.pointer or 'to the whole document'}"
    if address.record is not None:
        yield f"record {address.record}"
    if address.offset is not None:
        field = address.field(point.type)
        yield f"{field.type} {field.byte_order}-endian at {field.offset}"
        if field.bit is not None:
            yield f"bit {field.bit}, {field.width} bits"
    if address.scaled:
        yield f"x {address.scale:g} + {address.add:g}"


def part(body: bytes, address: CoapAddress, point: CoapPoint) -> bytes:
    """The bytes that the value was decoded from."""
    if address.offset is None:
        return body
    size = address.field(point.type).size
    end = None if size is None else address.offset + size
    return body[address.offset : end]
