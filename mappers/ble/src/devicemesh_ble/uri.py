"""The short forms that a person types: endpoints as URIs, addresses as words."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from devicemesh.mapper import ConfigError, validated
from devicemesh_ble.model import BUMBLE, EXAMPLE, SIGNALS, BleAddress, BleEndpoint

SCHEME = "ble://"


def split(uri: str) -> tuple[str, str, dict[str, str]]:
    """Adapter, device (or nothing) and query of a URI. Raises `ConfigError`."""
    rest, _, query = uri.removeprefix(SCHEME).partition("?")
    adapter, _, peer = rest.partition("/")
    if not uri.startswith(SCHEME) or not adapter:
        raise ConfigError(f"{uri!r} is not a BLE URI: write it like {EXAMPLE}")
    return unquote(adapter), unquote(peer), dict(parse_qsl(query, keep_blank_values=True))


def parse_endpoint(uri: str) -> BleEndpoint:
    """Read `ble://hci0/F0:F1:F2:F3:F4:F5` or `ble://bumble:usb:0/?name=Thermo`.

    Query parameters are the endpoint's fields; `key=NAME` is the secret's name. Raises `ConfigError`.
    """
    adapter, peer, given = split(uri)
    data: dict[str, Any] = {"adapter": adapter, **given}
    if peer:
        data["address"] = peer
    if "key" in given:
        data["key"] = {"name": given["key"], "key": "key"}
    return validated(BleEndpoint, data, uri)


def format_endpoint(endpoint: BleEndpoint) -> str:
    """The URI of an endpoint; `parse_endpoint` reads it back, but for its key."""
    own = {"adapter", "address", "key"}
    plain = endpoint.model_dump(by_alias=True, exclude_unset=True, exclude=own)
    query = urlencode({k: str(v).lower() if isinstance(v, bool) else v for k, v in plain.items()})
    adapter = quote(endpoint.adapter, safe=":")
    return f"{SCHEME}{adapter}/{endpoint.address or ''}" + (f"?{query}" if query else "")


def parse_address(text: str) -> BleAddress:
    """Read `battery_level`, `2a6e`, `UUID@4`, `bthome/temperature`, `signal:rssi`, `manufacturer:0x0499@2` or
    `service:fcd2@1`. Raises `ConfigError`.
    """
    data: dict[str, Any] = {}
    place, found, offset = text.partition("@")
    if found:
        data["offset"] = offset
    kind, colon, rest = place.partition(":")
    if "/" in place:
        data["beacon"] = place
    elif place in SIGNALS or (colon and kind == "signal"):
        data["signal"] = rest or place
    elif colon and kind == "manufacturer":
        try:
            data["manufacturer"] = int(rest, 0)
        except ValueError:
            raise ConfigError(f"{rest!r} is no company: write it like 0x0499") from None
    elif colon and kind == "service":
        data["serviceData"] = rest
    else:
        data["characteristic"] = place
    return validated(BleAddress, data, text)


def is_bumble(adapter: str) -> bool:
    """Whether we drive the controller ourselves."""
    return adapter.startswith(BUMBLE)
