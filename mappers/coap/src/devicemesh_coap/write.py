"""Writing one value after another, and reading it back."""

from __future__ import annotations

from typing import Any, TypeAlias

from devicemesh import layout
from devicemesh.mapper import Outcome, PointError, Write
from devicemesh.spec.values import Scalar, ValueType
from devicemesh_coap import convert, payload, senml, status, transfer
from devicemesh_coap.channel import Channel
from devicemesh_coap.message import (
    FORBIDDEN,
    METHOD_NOT_ALLOWED,
    METHODS,
    NOT_FOUND,
    PRECONDITION_FAILED,
    TOO_MANY_REQUESTS,
    Message,
    Option,
    ordered,
    succeeded,
    uint,
)
from devicemesh_coap.model import CoapAddress, CoapEndpoint
from devicemesh_coap.payload import CBOR, JSON, MERGE_PATCH, OCTETS, SENML_CBOR, SENML_JSON, TEXT
from devicemesh_coap.plan import CoapPoint, resources, uri_options
from devicemesh_coap.poll import Source

CoapWrite: TypeAlias = Write[CoapEndpoint, CoapAddress]
_TRIES = 3
"""How often a part of a document is changed anew that others have changed meanwhile."""


class Writer:
    """What it has learnt of resources holds for the session."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._formats: dict[Any, int] = {}  # as a resource was last seen

    async def write(self, write: CoapWrite) -> Outcome:
        """One value. Raises LinkError."""
        point = write.point
        lost: PointError | None = None
        try:
            response = await self._written(point, write.value)
            if not succeeded(response.code):
                return Outcome(error=status.error(self._where(point), response))
        except ValueError as error:
            return Outcome(error=PointError(str(error), reason="WrongType"))
        except PointError as error:
            if error.reason != "NoAnswer":
                return Outcome(error=error)
            lost = error  # it may have been done all the same: what reads back decides
        finally:
            self._channel.writes += 1
        return await self._read_back(write, lost)

    async def _read_back(self, write: CoapWrite, lost: PointError | None) -> Outcome:
        point = write.point
        (resource,) = resources([point])
        source = Source(self._channel, resource)
        try:
            response = await source.ask()
        except PointError as error:
            return Outcome(error=lost or error)
        if response.code in (METHOD_NOT_ALLOWED, FORBIDDEN, NOT_FOUND):  # something to write to only
            return Outcome(error=lost)
        batch = source.taken(response)[0]
        if batch.error is not None:
            return Outcome(error=lost or PointError(str(batch.error), reason=batch.error.reason))
        value = _scalar(batch.value[0], point.type)
        written = lost is None or value == point.address.nearest(point.type, write.value)
        return Outcome(value, None if written else lost)

    def _where(self, point: CoapPoint) -> str:
        return resources([point])[0].where

    async def _written(self, point: CoapPoint, value: Scalar) -> Message:
        """The response to the write. Raises PointError, LinkError, ValueError."""
        address = point.address
        if address.record is not None:
            return await self._record(point, value)
        if address.offset is not None or (address.pointer and address.write == "PUT"):
            return await self._part(point, value)
        raw = convert.raw(value, point.type, address)
        if address.pointer:
            form = await self._format(point)
            patch = address.write in ("PATCH", "iPATCH")
            form = form if form in (JSON, CBOR) else JSON
            body = _document(payload.put(None, address.pointer, raw), JSON if patch else form)
            return await self._send(point, MERGE_PATCH if patch else form, body)
        form = await self._format(point)
        return await self._send(point, form, _whole(raw, form))

    async def _record(self, point: CoapPoint, value: Scalar) -> Message:
        address = point.address
        form = payload.FORMATS[address.format] if address.format else await self._format(point)
        form = form if form in (SENML_CBOR, SENML_JSON) else SENML_JSON
        body = senml.encode(form, [(address.record or "", convert.raw(value, point.type, address))])
        patch = address.write in ("PATCH", "iPATCH")
        return await self._send(point, senml.etch(form) if patch else form, body)

    async def _part(self, point: CoapPoint, value: Scalar) -> Message:
        """Change a part of a document or a binary body: what else is in it stays as the device has it."""
        address = point.address
        (resource,) = resources([point])
        for attempt in range(_TRIES):
            response = await Source(self._channel, resource).ask()
            if not succeeded(response.code):
                return response
            form = response.integer(Option.CONTENT_FORMAT)
            if address.offset is not None:
                body = _laid(response.payload, address.field(point.type), value)
                sent = OCTETS if form is None else form
            else:
                sent = CBOR if form == CBOR else JSON
                held = (
                    payload.from_cbor(response.payload)
                    if sent == CBOR
                    else payload.from_json(response.payload)
                )
                raw = convert.raw(value, point.type, address)
                body = _document(payload.put(held, address.pointer or "", raw), sent)
            etag = response.option(Option.ETAG)
            guard = [(int(Option.IF_MATCH), etag)] if etag is not None else []
            done = await self._send(point, sent, body, guard)
            if done.code != PRECONDITION_FAILED or attempt == _TRIES - 1:
                break
        return done

    async def _send(
        self, point: CoapPoint, form: int, body: bytes, guard: list[tuple[int, bytes]] | None = None
    ) -> Message:
        options = [*uri_options(point.endpoint, point.address), (int(Option.CONTENT_FORMAT), uint(form))]
        request = Message(METHODS[point.address.write], ordered(options + (guard or [])), body)
        return await transfer.exchanged(self._channel, request, transfer.Limits.of(point.endpoint))

    async def _format(self, point: CoapPoint) -> int:
        """The format to write in: the declared one, else the one that the device sends."""
        address = point.address
        if address.format is not None:
            return payload.FORMATS[address.format]
        key = uri_options(point.endpoint, address)
        if key in self._formats:
            return self._formats[key]
        form, is_told = await self._asked(point)
        if is_told:
            self._formats[key] = form
        return form

    async def _asked(self, point: CoapPoint) -> tuple[int, bool]:
        """The format, and whether it will be the same another time. Raises PointError without an answer."""
        usual = OCTETS if point.type == ValueType.BYTES else JSON if point.type == ValueType.JSON else TEXT
        usual = JSON if point.address.pointer is not None else usual
        if point.address.write == "POST" and point.address.pointer is None and point.address.record is None:
            return usual, True  # what is posted need not look like what is read
        try:
            response = await Source(self._channel, resources([point])[0]).ask()
        except PointError as error:
            if error.reason == "NoAnswer":
                raise
            return usual, True
        told = response.integer(Option.CONTENT_FORMAT)
        if succeeded(response.code) and told in (TEXT, JSON, CBOR, OCTETS, SENML_JSON, SENML_CBOR):
            return told, True
        return usual, response.code >> 5 != 5 and response.code != TOO_MANY_REQUESTS


def _scalar(value: Any, type_: ValueType) -> Scalar:
    """A value of a column as the property has it: columns hold numbers and truths as floats."""
    if type_ == ValueType.BOOL:
        return bool(value)
    held: Scalar = int(value) if type_.is_integer and isinstance(value, float) else value
    return held


def _document(document: Any, form: int) -> bytes:
    return payload.to_cbor(document) if form == CBOR else payload.to_json(document)


def _whole(raw: Any, form: int) -> bytes:
    """A value that is a body. Raises ValueError where the format has no place for it."""
    if form in (JSON, CBOR):
        return _document(raw, form)
    if form == OCTETS:
        if isinstance(raw, bytes):
            return raw
        raise ValueError(f"{raw!r} is not bytes, which the resource holds: give its `offset`")
    if form == TEXT:
        return convert.to_text(raw)
    raise ValueError(f"the resource holds {payload.name(form)}: say which `record` is meant")


def _laid(body: bytes, field: layout.Field, value: Scalar) -> bytes:
    """A binary body with another value in it. Raises ValueError."""
    data = layout.encode(field, value)
    if field.length is None and field.type in (ValueType.STRING, ValueType.BYTES):
        return body[: field.offset] + data
    if field.offset + len(data) > len(body):
        raise ValueError(
            f"the resource has {len(body)} bytes, the value would end at {field.offset + len(data)}"
        )
    return body[: field.offset] + data + body[field.offset + len(data) :]
