"""What ThingsBoard asks: shared attributes, and remote procedure calls. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from devicemesh.sink.payload import loads

SET, GET = "set", "get"
"""Methods of every device, as ThingsBoard's own gateway has them."""


class Shared(NamedTuple):
    """Shared attributes of a device; None: it was deleted."""

    name: str
    values: Mapping[str, Any]
    id: int | None = None
    """Of the request that it answers."""


class Call(NamedTuple):
    """A remote procedure call to a device."""

    name: str
    id: int
    method: str
    params: Any


def update(payload: bytes) -> Shared:
    """Somebody has edited shared attributes. Raises ValueError."""
    match loads(payload):
        case {"device": str(name), "data": dict(data)}:
            gone = data.pop("deleted") if isinstance(data.get("deleted"), list) else []
            return Shared(name, {**data, **{str(key): None for key in gone}})
    raise ValueError("no update of attributes")


def response(payload: bytes, asked: Iterable[str]) -> Shared:
    """What the shared attributes are that were `asked` for; None: there is none. Raises ValueError.

    One alone has no name in the answer, and comes as `value`.
    """
    keys = list(asked)
    match loads(payload):
        case {"device": str(name), "id": int(number), **rest}:
            values = rest.get("values")
            found = dict(values) if isinstance(values, dict) else {}
            if "value" in rest and len(keys) == 1:
                found[keys[0]] = rest["value"]
            return Shared(name, {key: found.get(key) for key in keys}, number)
    raise ValueError("no answer with attributes")


def id_of(payload: bytes) -> int | None:
    """The request that a response answers."""
    match loads(payload):
        case {"id": int(number)}:
            return number
    return None


def call(payload: bytes) -> Call:
    """A call. Raises ValueError."""
    match loads(payload):
        case {"device": str(name), "data": {"id": int(number), "method": str(method), **rest}}:
            return Call(name, number, method, rest.get("params"))
    raise ValueError("no call of a method")


def arguments(params: Any) -> Any:
    """Params of a call as a command takes them: widgets send JSON in a string, or something for nothing."""
    if isinstance(params, str) and params:
        try:
            params = loads(params.encode())
        except ValueError:
            return params
    return None if params in (None, {}, [], "") or isinstance(params, bool) else params


def settings(params: Any) -> dict[str, Any]:
    """What `set` is to set: an object, or as in `speed=1200`. Raises ValueError."""
    found = arguments(params)
    if isinstance(found, dict):
        return found
    if not isinstance(found, str):
        raise ValueError('set takes an object, as in {"speed": 1200}, or speed=1200')
    values = {}
    for part in filter(None, (one.strip() for one in found.split(";"))):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"{part[:40]!r} is no property=value")
        values[name.strip()] = _value(value.strip())
    return values


def names(params: Any) -> list[str] | None:
    """Which properties `get` is asked for; None: all. Raises ValueError."""
    found = arguments(params)
    if found is None:
        return None
    if isinstance(found, str):
        return [one.strip() for one in found.split(";") if one.strip()]
    if isinstance(found, list) and all(isinstance(one, str) for one in found):
        return found
    raise ValueError('get takes the name of a property, or some as in ["speed", "power"]')


def _value(text: str) -> Any:
    try:
        return loads(text.encode())
    except ValueError:
        return text


def outcome(body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a call, from what the runtime says became of it."""
    if body.get("state") == "applied":
        result = body.get("result")
        return {"success": True, "result": result} if result else {"success": True}
    words = body.get("message") or body.get("reason") or body.get("state")
    failed = _first_failure(body.get("properties"))
    prop = body.get("property")
    said = f"{prop}: {words}" if prop and not str(words).startswith(str(prop)) else failed or words
    return {"success": False, "error": said, "reason": body.get("reason") or body.get("state")}


def _first_failure(properties: Any) -> str | None:
    """Of a command that writes several."""
    for name, body in properties.items() if isinstance(properties, dict) else ():
        if body.get("state") != "applied":
            return f"{name}: {body.get('message') or body.get('reason')}"
    return None
