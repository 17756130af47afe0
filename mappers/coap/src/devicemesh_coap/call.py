"""Commands that are calls: one request, its body made of the arguments, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from devicemesh.mapper import Invocation, PointError
from devicemesh.spec.base import Strict
from devicemesh_coap import convert, payload, status, transfer
from devicemesh_coap.channel import Channel
from devicemesh_coap.message import METHODS, Message, Option, ordered, succeeded, uint
from devicemesh_coap.model import CoapAddress, CoapEndpoint
from devicemesh_coap.payload import CBOR, JSON, PayloadError
from devicemesh_coap.plan import uri_options


class CoapCall(Strict):
    """Where a command lives: a resource that does something when it is sent to."""

    path: str = Field(min_length=1)
    """Of the resource, with its query: /actions/reset, /3/0/4 (LwM2M's reboot)."""
    method: Literal["POST", "PUT", "FETCH"] = "POST"
    """How it is sent."""
    format: Literal["json", "cbor", "text"] = "json"
    """Of the arguments: a map by name; in text a single value, several as `name=value,...`."""


def body(call: CoapCall, arguments: Mapping[str, Any]) -> tuple[bytes, int | None]:
    """(payload, content format); nothing without arguments. Raises ValueError."""
    if not arguments:
        return b"", None
    if call.format == "text":
        words = [convert.to_text(value).decode() for value in arguments.values()]
        named = [f"{name}={word}" for name, word in zip(arguments, words, strict=True)]
        return (words[0] if len(words) == 1 else ",".join(named)).encode(), payload.TEXT
    if call.format == "cbor":
        return payload.to_cbor(dict(arguments)), CBOR
    return payload.to_json(dict(arguments)), JSON


def result(response: Message) -> dict[str, Any]:
    """What the resource gives back: a document's members, anything else as `result`. Raises PayloadError."""
    form = response.integer(Option.CONTENT_FORMAT)
    if not response.payload:
        return {}
    if form == CBOR:
        found = payload.plain(payload.from_cbor(response.payload))
    elif form == JSON:
        found = payload.from_json(response.payload)
    elif form in (payload.TEXT, None):
        found = payload.text(response.payload)
    else:
        found = payload.plain(response.payload)
    return found if isinstance(found, dict) else {"result": found}


async def invoked(channel: Channel, invocation: Invocation[CoapEndpoint]) -> dict[str, Any]:
    """Send it, once. Raises PointError and LinkError, as `Invocable` says."""
    call: CoapCall = invocation.address
    where = f"{channel.link}{call.path}"
    try:
        sent, form = body(call, invocation.arguments)
    except ValueError as error:
        raise PointError(f"{where}: {error}", reason="WrongType") from error
    options = [*uri_options(invocation.endpoint, CoapAddress(path=call.path))]
    if form is not None:
        options.append((int(Option.CONTENT_FORMAT), uint(form)))
    request = Message(METHODS[call.method], ordered(options), sent)
    response = await transfer.exchanged(channel, request, transfer.Limits.of(invocation.endpoint))
    if not succeeded(response.code):
        raise status.error(where, response)
    try:
        return result(response)
    except PayloadError as error:
        raise PointError(
            f"{where} did it, but what it answers is wrong: {error}", reason="WrongAnswer"
        ) from error
