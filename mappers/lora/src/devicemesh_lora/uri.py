"""The short forms that a person types: endpoints as URIs, addresses as words."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from devicemesh.mapper import ConfigError, validated
from devicemesh_lora.endpoint import EXAMPLE, ThingsStack
from devicemesh_lora.model import LoraAddress, LoraEndpoint

SERVERS = ("lora+chirpstack", "lora+thingsstack")
DISCOVER_S = 30.0
"""How long discovery listens: devices speak when they like."""


def parse_endpoint(uri: str) -> LoraEndpoint:
    """Read `lora://0.0.0.0:1700/DEVEUI?secret=NAME`: over the air, its AppKey the secret's key `appKey`.

    `lora://0.0.0.0:1700?gateway=EUI` is a gateway, `devAddr=...` a device by personalisation (its keys are
    `nwkSKey` and `appSKey` of the secret). Other query parameters are fields. Raises `ConfigError`.

    `lora+chirpstack://HOST/APPLICATION/DEVEUI?user=NAME&secret=NAME` is a device of ChirpStack, its password
    the secret's key `password`; `lora+thingsstack://HOST/APPLICATION@TENANT/DEVEUI?secret=NAME` one of The
    Things Stack, its API key the secret's key `apiKey`. TLS is spoken but on port 1883, or with `tls=false`.
    """
    if uri.partition("://")[0] in SERVERS:
        return _of_server(uri)
    try:
        parts = urlsplit(uri)
        if parts.scheme != "lora" or not parts.hostname:
            raise ValueError(uri)
    except ValueError as error:
        raise ConfigError(f"{uri!r} is not a LoRa URI: write it like {EXAMPLE}") from error
    data: dict[str, Any] = {"listen": parts.netloc}
    given: dict[str, Any] = dict(parse_qsl(parts.query, keep_blank_values=True))
    if eui := parts.path.strip("/"):
        data["devEui"] = eui
        name, address, join = (given.pop(key, None) for key in ("secret", "devAddr", "joinEui"))
        if address is not None:
            keys = {key: {"name": name, "key": key} for key in ("nwkSKey", "appSKey")}
            data["abp"] = {"devAddr": address, **keys}
        else:
            data["otaa"] = {"appKey": {"name": name, "key": "appKey"}, "joinEui": join}
    return validated(LoraEndpoint, {**data, **given}, uri)


def _of_server(uri: str) -> LoraEndpoint:
    server, eui, given = _server(uri)
    kind = {"gateway": given.pop("gateway")} if not eui and "gateway" in given else {"devEui": eui}
    return validated(LoraEndpoint, {**server, **kind, **given}, uri)


def _server(uri: str) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """(the server's field, the DevEUI or nothing, other query parameters). Raises `ConfigError`."""
    example = "lora+chirpstack://HOST/APPLICATION/DEVEUI?user=NAME&secret=NAME"
    try:
        parts = urlsplit(uri)
        port = parts.port
        application, _, eui = parts.path.strip("/").partition("/")
        if not parts.hostname or not application or parts.username is not None:
            raise ValueError(uri)
    except ValueError as error:
        raise ConfigError(f"{uri!r} is not the URI of a network server: write it like {example}") from error
    given: dict[str, Any] = dict(parse_qsl(parts.query, keep_blank_values=True))
    secure = given.pop("tls", "false" if port == 1883 else "true") != "false"
    server: dict[str, Any] = {"broker": f"{'mqtts' if secure else 'mqtt'}://{parts.netloc}"}
    name = given.pop("secret", None)
    if parts.scheme == "lora+thingsstack":
        server["application"], _, tenant = application.partition("@")
        server |= {"tenant": tenant or None, "apiKey": {"name": name or "", "key": "apiKey"}}
        return {"thingsStack": server}, eui, given
    server["application"] = application
    if (user := given.pop("user", None)) is not None:
        server["userName"] = user
    if name is not None:
        server["password"] = {"name": name}
    for prefix in ("topicPrefix", "regionPrefix"):
        if prefix in given:
            server[prefix] = given.pop(prefix)
    return {"chirpstack": server}, eui, given


def parse_application(uri: str) -> tuple[LoraEndpoint, float]:
    """(an endpoint of the application, seconds to listen) of a URI without a device. Raises `ConfigError`."""
    if uri.partition("://")[0] not in SERVERS:
        parse_endpoint(uri)
        raise ConfigError(
            f"{uri!r} listens: devices speak first, and undeclared ones are named in the runtime's log"
        )
    server, _, given = _server(uri)
    given.pop("path", None)
    try:
        seconds = float(given.pop("seconds", DISCOVER_S))
    except ValueError as error:
        raise ConfigError(f"{uri!r}: `seconds` is a number") from error
    return validated(LoraEndpoint, {**server, "gateway": "0" * 16, **given}, uri), seconds


def format_server(endpoint: LoraEndpoint, eui: str) -> str:
    """The URI of a device of this application."""
    server = endpoint.server
    assert server is not None
    query: dict[str, str] = {} if server.secure else {"tls": "false"}
    if isinstance(server, ThingsStack):
        scheme, application = "lora+thingsstack", server.user
        query["secret"] = server.api_key.name
    else:
        scheme, application = "lora+chirpstack", server.application
        named = {"user": server.user_name, "secret": server.password.name if server.password else None}
        named |= {"topicPrefix": server.topic_prefix or None, "regionPrefix": server.region_prefix or None}
        query |= {name: value for name, value in named.items() if value is not None}
    place = urlsplit(server.broker).netloc
    return f"{scheme}://{place}/{application}/{eui}" + (f"?{urlencode(query)}" if query else "")


def parse_address(text: str) -> LoraAddress:
    """Read `2@0` (byte 0 of FPort 2), `@0` (of any port), `lpp:3/temperature` or `stat:rssi`.

    `#/temperature` is a JSON pointer into a decoded payload (of FPort 2: `2#/temperature`), and
    `~/air/temperature` one into the normalised payload. Raises `ConfigError`.
    """
    for mark in "#~":
        port, found, rest = text.partition(f"{mark}/")
        if found and (port.isdecimal() or not port):
            data = {"port": port or None, "pointer": f"/{rest}", "normalized": mark == "~"}
            return validated(LoraAddress, data, text)
    kind, found, rest = text.partition(":")
    if found and kind == "stat":
        return validated(LoraAddress, {"stat": rest}, text)
    if found and kind == "lpp":
        channel, _, quantity = rest.partition("/")
        return validated(LoraAddress, {"channel": channel, "quantity": quantity or None}, text)
    port, found, offset = text.partition("@")
    if not found:
        raise ConfigError(
            f"{text!r} is not a LoRa address: write port@offset (2@0), #/json/pointer, "
            "lpp:channel/quantity or stat:rssi"
        )
    return validated(LoraAddress, {"port": port or None, "offset": offset}, text)
