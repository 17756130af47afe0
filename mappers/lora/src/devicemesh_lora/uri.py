"""The short forms that a person types: endpoints as URIs, addresses as words."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

from devicemesh.mapper import ConfigError, validated
from devicemesh_lora.endpoint import EXAMPLE
from devicemesh_lora.model import LoraAddress, LoraEndpoint


def parse_endpoint(uri: str) -> LoraEndpoint:
    """Read `lora://0.0.0.0:1700/DEVEUI?secret=NAME`: over the air, its AppKey the secret's key `appKey`.

    `lora://0.0.0.0:1700?gateway=EUI` is a gateway, `devAddr=...` a device by personalisation (its keys are
    `nwkSKey` and `appSKey` of the secret). Other query parameters are fields. Raises `ConfigError`.
    """
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
