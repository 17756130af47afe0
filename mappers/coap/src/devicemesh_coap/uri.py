"""The short forms that a person types: endpoints as URIs, addresses as paths."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from devicemesh.mapper import ConfigError, validated
from devicemesh_coap.model import EXAMPLE, SCHEMES, CoapAddress, CoapEndpoint

_OSCORE = ("senderId", "recipientId", "idContext", "algorithm")


def parse_endpoint(uri: str) -> CoapEndpoint:
    """Read an endpoint. Query parameters are its fields: `?timeout=2s&mode=poll`.

    `senderId` and its like are those of `oscore`, whose keys are given by `secret=NAME` (keys `secret` and
    `salt`), never themselves; `identity` is that of `dtls`. Raises `ConfigError`.
    """
    try:
        parts = urlsplit(uri)
        if parts.scheme not in SCHEMES or not parts.hostname:
            raise ValueError(uri)
    except ValueError as error:
        raise ConfigError(f"{uri!r} is not a CoAP URI: write it like {EXAMPLE}") from error
    data: dict[str, Any] = {"uri": f"{parts.scheme}://{parts.netloc}{parts.path}"}
    oscore: dict[str, Any] = {}
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    secret = given.pop("secret", None)
    for key, value in given.items():
        if key in _OSCORE:
            oscore[key] = value
        elif key == "identity":
            data["dtls"] = {"identity": value, "key": {"name": secret, "key": "key"}}
        else:
            data[key] = value
    if oscore:
        data["oscore"] = {**oscore, "secret": {"name": secret, "key": "secret"}}
    return validated(CoapEndpoint, data, uri)


def format_endpoint(endpoint: CoapEndpoint) -> str:
    """The URI of an endpoint; `parse_endpoint` reads it back, but for its credentials."""
    plain = endpoint.model_dump(by_alias=True, exclude_unset=True, exclude={"uri", "oscore", "dtls"})
    query = urlencode({key: value for key, value in plain.items() if value is not None})
    return (endpoint.uri or endpoint.link()) + (f"?{query}" if query else "")


def parse_address(text: str) -> CoapAddress:
    """Read `/sensors/temp?unit=C`, `/air#/temperature` (JSON pointer), `/pack!name` (SenML record) or
    `/raw@4` (offset in a binary body). Raises `ConfigError`.
    """
    if not text.startswith("/") or not text.isprintable():
        raise ConfigError(
            f"{text!r} is not a CoAP address: write a path (/sensors/temp), with #/json/pointer, "
            "!senml-record or @offset behind it"
        )
    data: dict[str, Any] = {}
    path = text
    for mark, name in (("#", "pointer"), ("!", "record"), ("@", "offset")):
        before, found, rest = text.partition(mark)
        if found:
            path, data[name] = before, unquote(rest) if name == "pointer" else rest
            break
    return validated(CoapAddress, {"path": path, **data}, text)
