"""The short forms that a person types: endpoints as URIs, addresses as NodeIds or browse paths."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from devicemesh.mapper import ConfigError, validated
from devicemesh_opcua.model import Identity, OpcUaAddress, OpcUaEndpoint

SCHEMES = ("opcua", "opc.tcp")
EXAMPLE = "opcua://10.0.0.5:4840 (or opc.tcp://10.0.0.5:4840)"


def parse_endpoint(uri: str) -> OpcUaEndpoint:
    """Read an endpoint. Query parameters are its fields: `?securityPolicy=Basic256Sha256&timeout=2s`.

    `userName` is the identity's; a password is given by `secret=NAME`, never itself. Raises `ConfigError`.
    """
    try:
        parts = urlsplit(uri)
        if parts.scheme not in SCHEMES or not parts.hostname:
            raise ValueError(uri)
    except ValueError as error:
        raise ConfigError(f"{uri!r} is not an OPC UA URI: write it like {EXAMPLE}") from error
    data: dict[str, Any] = {"url": f"opc.tcp://{parts.netloc}{parts.path}"}
    identity: dict[str, Any] = {}
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key == "secret":
            identity["password"] = {"name": value}
        elif key in ("userName", "allowPlainPassword"):
            identity[key] = value
        else:
            data[key] = value
    if identity:
        data["identity"] = validated(Identity, identity, uri)
    return validated(OpcUaEndpoint, data, uri)


def parse_place(uri: str) -> tuple[OpcUaEndpoint, tuple[str, ...]]:
    """An endpoint and, by `path=Plant/Pump1`, the browse names below its root. Raises `ConfigError`."""
    bare, _, query = uri.partition("?")
    given = parse_qsl(query, keep_blank_values=True)
    rest = urlencode([(key, value) for key, value in given if key != "path"])
    path = dict(given).get("path", "")
    return parse_endpoint(bare + (f"?{rest}" if rest else "")), tuple(filter(None, path.split("/")))


def format_endpoint(endpoint: OpcUaEndpoint) -> str:
    """The URI of an endpoint; `parse_endpoint` reads it back, but for certificates and namespaces."""
    plain = endpoint.model_dump(
        by_alias=True,
        exclude_unset=True,
        exclude={"url", "identity", "namespaces", "private_key_password"},
    )
    query = urlencode({key: value for key, value in plain.items() if value is not None})
    return endpoint.full_url.replace("opc.tcp://", "opcua://", 1) + (f"?{query}" if query else "")


def parse_address(text: str) -> OpcUaAddress:
    """Read `nsu=urn:plant;s=Pump.Speed`, `i=2258` or `/Server/ServerStatus`. Raises `ConfigError`.

    A path begins with `/`.
    """
    if text.startswith("/") and len(text) > 1:
        return validated(OpcUaAddress, {"browse_path": text}, text)
    if "=" not in text:
        raise ConfigError(
            f"{text!r} is not an OPC UA address: write a NodeId (nsu=urn:plant;s=Pump.Speed, i=2258) "
            "or a browse path that begins with `/`"
        )
    return validated(OpcUaAddress, {"node": text}, text)
